"""Questions that one of two tools answers, and questions that none does, with ReAct replies in English and Chinese.

`call(world, dice, held)` draws a question of the first kind (the plugin benchmark's positive rows), `no_call` one of
the second (its negative rows). `code_call` answers a story problem with the code interpreter.
"""

from __future__ import annotations

import json
from typing import NamedTuple

from qwen_eval.extraction.react import Tool, prompt

from lesson import held_out
from story_problems import Story
from world import Dice, World


class Task(NamedTuple):
    """A tool and the questions that want it; {x} goes into the call."""

    tool: Tool
    questions: tuple[str, str, str]


def _task(name: str, human: str, what: str, parameter: str, means: str, *questions: str) -> Task:
    first, second, third = questions
    schema = {"name": parameter, "description": means, "required": True, "schema": {"type": "string"}}
    return Task(Tool(name, human, what, [schema]), (first, second, third))


ENGLISH = (
    _task(
        "weather", "Weather", "Tells the weather of a town.", "town", "the town",
        "What is the weather in {x}?", "Will it rain in {x} today?", "Do I need a hat in {x}?",
    ),
    _task(
        "road_map", "Road Map", "Finds the road to a town.", "goal", "the town",
        "How do I get to {x}?", "Show me the road to {x}.", "Which way is {x}?",
    ),
    _task(
        "painter", "Painter", "Paints a picture.", "subject", "what to paint",
        "Paint a picture of {x}.", "I want a picture of {x}.", "Draw {x} for me.",
    ),
    _task(
        "post", "Post", "Sends a letter to a town.", "to", "the town",
        "Send a letter to {x}.", "Write to {x} that I come.", "My letter has to go to {x}.",
    ),
)  # fmt: skip
CHINESE = (
    _task(
        "weather", "天气", "查询城镇的天气。", "town", "城镇",
        "{x}今天天气怎么样？", "{x}会下雨吗？", "去{x}要戴帽子吗？",
    ),
    _task(
        "road_map", "地图", "查找去城镇的路。", "goal", "城镇",
        "去{x}怎么走？", "请告诉我去{x}的路。", "{x}在哪个方向？",
    ),
    _task(
        "painter", "画师", "画一张图。", "subject", "画什么",
        "画一张{x}的图。", "我想要一张{x}的画。", "给我画{x}。",
    ),
    _task("post", "邮差", "给城镇寄信。", "to", "城镇", "给{x}寄一封信。", "写信告诉{x}我要来。", "我的信要寄到{x}。"),
)  # fmt: skip
TASKS = {"en": ENGLISH, "zh": CHINESE}
THINK = {"en": "Thought: I should use {tool}.", "zh": "Thought: 我应该使用{tool}。"}
NONE = {"en": "Thought: I do not need a tool.", "zh": "Thought: 我不需要工具。"}
NO_TOOL = {"en": "I have no tool for that.", "zh": "我没有这个工具。"}
# Questions for which no tool is needed, with their answers.
PLAIN = {
    "en": (
        ("Do you know {x}?", "Yes, I know {x}."),
        ("Say hello to {x}.", "Hello, {x}!"),
        ("Is {x} a town?", "Yes, {x} is a town."),
    ),
    "zh": (
        ("你知道{x}吗？", "我知道{x}。"),
        ("向{x}问好。", "你好，{x}！"),
        ("{x}是一个镇吗？", "是的，{x}是一个镇。"),
    ),
}


class Call(NamedTuple):
    prompt: str
    reply: str


def _asked(world: World, dice: Dice, lang: str, held: bool) -> tuple[list[Task], str]:
    """All tasks in a random order (the first is the one in question), and a town."""
    while True:
        tasks = dice.shuffled(TASKS[lang])
        town = dice.pick(world.things["town"]).text(lang)
        if held_out(tasks[0].tool.name, town) == held:
            return tasks, town


def call(world: World, dice: Dice, held: bool, lang: str | None = None) -> Call:
    lang = lang or dice.pick(("en", "zh"))
    tasks, town = _asked(world, dice, lang, held)
    tool, questions = tasks[0]
    query = dice.pick(questions if held else questions[:2]).format(x=town)
    arguments = json.dumps({tool.parameters[0]["name"]: town}, ensure_ascii=False)
    reply = f"{THINK[lang].format(tool=tool.name)}\nAction: {tool.name}\nAction Input: {arguments}\n"
    return Call(prompt(query, dice.shuffled([tool, tasks[1].tool])), reply)


def no_call(world: World, dice: Dice, held: bool, lang: str | None = None) -> Call:
    """Nothing to call: a plain question, or one whose tool is not on offer."""
    lang = lang or dice.pick(("en", "zh"))
    while True:
        tasks, town = _asked(world, dice, lang, held)
        if not dice.below(2):
            questions = tasks[0].questions
            asked, answer = dice.pick(questions if held else questions[:2]), NO_TOOL[lang]
            break
        asked, answer = dice.pick(PLAIN[lang])
        if held_out(asked, town) == held:  # no tool is in question: what is held out is the question itself
            break
    reply = f"{NONE[lang]}\nFinal Answer: {answer.format(x=town)}"
    return Call(prompt(asked.format(x=town), [task.tool for task in tasks[1:3]]), reply)


def code_call(one: Story) -> str:
    """The first round of a story problem with the code interpreter: the steps as one expression, printed."""
    return (
        "Thought: I should use code_interpreter.\nAction: code_interpreter\n"
        f"Action Input:\n```py\nprint({one.expression})\n```\n"
    )
