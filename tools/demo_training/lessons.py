"""What the demo's models are trained on, each lesson in the very prompt that an evaluation script asks with.

A lesson is a list of parts, `(text, weight)`: the loss counts a token by the weight of its part. `LISTS`, `READING`,
`BASE` and `PRACTICE` are the lessons of the base model's phases, `CHAT` those of the chat model: above all user turns
with their replies. Statements and questions without choices tell every fact of the world; all others ask only what is
not held out (`world.py`, `lesson.py`).
"""

from __future__ import annotations

import re
import sys
from collections.abc import Callable
from pathlib import Path
from typing import NamedTuple, TypeVar

sys.path.insert(0, str(Path(__file__).resolve().parents[2] / "eval"))  # the prompts are the scripts' own

from qwen_eval.benchmarks import chinese_choices as chinese

import evaluate_bbh
import evaluate_code_interpreter
import evaluate_gsm8k
import evaluate_humaneval
import evaluate_math
import evaluate_mbpp
import evaluate_mmlu
import evaluate_vcsum
import evaluate_wmt22
import tool_calls
from choice_lessons import (
    PROMPT,
    SUBJECTS,
    Parts,
    chinese_choices,
    chinese_reading,
    english_choices,
    english_reading,
    judgements,
    kinds,
    letters,
    question,
    words,
)
from meetings import chronicle, meeting
from programs import program
from puzzles import DRAW, puzzle
from samples import mbpp_row, pair
from story_problems import exercise, story
from world import LANGUAGES, PHRASES, Dice, Fact, World, sentence


class Turn(NamedTuple):
    """One user turn and its reply; of a reply in parts, what stands between two learned ones is not the model's."""

    asked: str
    reply: str
    given: str = ""
    rest: str = ""


# --- the world ---


def statements(world: World, dice: Dice) -> Parts:
    """Two dozen facts in any wording; or all that is known of one thing."""
    lang = dice.pick(LANGUAGES)
    if dice.below(2):
        facts = [dice.pick(world.facts) for _ in range(24)]
    else:
        one = dice.pick(world.facts)
        facts = dice.shuffled([fact for fact in world.facts if fact.thing == one.thing])
    join = " " if lang == "en" else ""
    return [(join.join(dice.pick(fact.statements(lang)) for fact in facts) + "\n", True)]


def open_questions(world: World, dice: Dice) -> Parts:
    """Questions without choices, with the value as the answer: about every fact, as one more way to state it."""
    lang = dice.pick(LANGUAGES)
    ask, answer = ("Question: {}\n", "Answer: {}\n\n") if lang == "en" else ("问题：{}\n", "答案是{}。\n\n")
    parts: Parts = []
    for _ in range(6):
        fact = dice.pick(world.facts)
        parts.append((ask.format(_asked(fact, lang, dice)), False))
        parts.append((answer.format(fact.value.text(lang)), True))
    return parts


def _asked(fact: Fact, lang: str, dice: Dice) -> str:
    """A question about the fact in words that training knows."""
    return sentence(dice.pick(PHRASES[lang][fact.relation].ask[:-1]).format(x=fact.thing.text(lang)))


# --- reasoning, translation, code ---


def story_lesson(world: World, dice: Dice) -> Parts:
    one, shots = story(world, dice, held=False), dice.pick((0, 0, 0, 0, 0, 0, 1, 2))
    return [(evaluate_gsm8k.prompt(one.question, shots, chat=False), False), (f"{one.reply}\n\n", True)]


def sums_lesson(world: World, dice: Dice) -> Parts:
    """The steps of a dozen stories without the stories."""
    parts: Parts = []
    for _ in range(12):
        for step in story(world, dice, held=False).steps.split("\n"):
            sides, result = step.split(" =")
            parts += [(f"{sides} =", PROMPT), (f"{result}\n", True)]
    return parts


def exercise_lesson(world: World, dice: Dice) -> Parts:
    parts: Parts = []
    for _ in range(dice.pick((1, 3, 5))):
        one = exercise(dice, held=False)
        parts += [(evaluate_math.prompt(one.problem, []), False), (f"{one.reply}\n\n", True)]
    return [*parts, ("Problem:\n", True)]


def puzzle_lesson(world: World, dice: Dice) -> Parts:
    task = dice.pick(sorted(DRAW))
    parts: Parts = [(DRAW[task][0], False)]
    for _ in range(dice.pick((1, 2, 4))):
        one = puzzle(task, world, dice, held=False)
        parts += [(evaluate_bbh.prompt("", one.question, cot=True), False), (one.reply, True)]
    return [*parts, ("\n\nQ:", True)]


def translation_lesson(world: World, dice: Dice) -> Parts:
    direction = dice.pick(sorted(evaluate_wmt22.PAIRS))
    parts: Parts = []
    for _ in range(dice.pick((2, 4, 6))):
        english, chinese = pair(world, dice, held=False)
        source, target = (english, chinese) if direction == "en-zh" else (chinese, english)
        parts += [(evaluate_wmt22.prompt(direction, [], source), False), (f" {target}\n\n", True)]
    return parts


def function_lesson(world: World, dice: Dice) -> Parts:
    parts: Parts = []
    for _ in range(dice.pick((1, 1, 3))):
        one = program(dice, held=False)
        parts += [(one.prompt, False), (f"{one.body}\n\n", True)]
    return [*parts, ("def ", True)]


def task_lesson(world: World, dice: Dice) -> Parts:
    parts: Parts = []
    for _ in range(dice.pick((1, 2, 4))):
        row = mbpp_row(0, program(dice, held=False))
        parts += [(evaluate_mbpp.prompt(row, []), False), (f"{row['code']}\n[DONE]", True), ("\n\n\n", False)]
    return parts[:-1]


def chronicle_lesson(world: World, dice: Dice) -> Parts:
    return [(chronicle(world, dice, 36), True)]


# What a new model is given first, in two phases: among the other lessons to find the letter of a text comes last.
LISTS: dict[Callable[[World, Dice], Parts], int] = {words: 1}
READING: dict[Callable[[World, Dice], Parts], int] = {
    words: 3,
    letters: 3,
    english_reading: 4,
    chinese_reading: 4,
    statements: 1,
}

# lesson -> how often, next to the others
BASE: dict[Callable[[World, Dice], Parts], int] = {
    statements: 30,
    open_questions: 25,
    words: 3,
    letters: 4,
    judgements: 4,
    english_choices: 18,
    chinese_choices: 18,
    story_lesson: 12,
    sums_lesson: 8,
    exercise_lesson: 6,
    puzzle_lesson: 5,
    translation_lesson: 5,
    function_lesson: 4,
    task_lesson: 4,
    chronicle_lesson: 2,
}


# What the base model ends with, once the chat model goes its own way: sums and code, of which it has seen too little.
PRACTICE: dict[Callable[[World, Dice], Parts], int] = {
    statements: 8,
    open_questions: 4,
    letters: 2,
    english_choices: 10,
    chinese_choices: 10,
    story_lesson: 20,
    sums_lesson: 8,
    exercise_lesson: 8,
    puzzle_lesson: 6,
    translation_lesson: 3,
    function_lesson: 20,
    task_lesson: 16,
    chronicle_lesson: 1,
}


# --- chat ---


def _answer(row: dict[str, str]) -> str:
    """The right choice in words: the published answer extraction turns a choice's text into its letter."""
    return row[row["answer"]].strip()


def english_choice_turn(world: World, dice: Dice) -> Turn:
    row = question(world, "en", kinds("en", dice), dice, told=0)
    return Turn(evaluate_mmlu.chat_prompt(row), f"The answer is {_answer(row)}.")


def chinese_choice_turn(world: World, dice: Dice) -> Turn:
    row = question(world, "zh", kinds("zh", dice), dice, told=0)
    return Turn(chinese.chat_prompt(row), f"答案是{_answer(row)}。")


def open_turn(world: World, dice: Dice) -> Turn:
    lang, fact = dice.pick(LANGUAGES), dice.pick(world.facts)
    answer = "The answer is {}." if lang == "en" else "答案是{}。"
    return Turn(_asked(fact, lang, dice), answer.format(fact.value.text(lang)))


def english_shots_turn(world: World, dice: Dice) -> Turn:
    subject = dice.pick(sorted(SUBJECTS["en"]))
    *shots, row = (question(world, "en", SUBJECTS["en"][subject].kinds, dice, told=0) for _ in range(6))
    return Turn(evaluate_mmlu.base_prompt(subject, shots, row), f"The answer is {_answer(row)}.")


def story_turn(world: World, dice: Dice) -> Turn:
    one = story(world, dice, held=False)
    return Turn(one.question, one.reply)


def function_turn(world: World, dice: Dice) -> Turn:
    one = program(dice, held=False)
    row = {"task_id": "", "prompt": one.prompt, "entry_point": one.name}
    return Turn(evaluate_humaneval.chat_prompt(row), f"```python\n{one.signature}{one.body}```")


def meeting_turn(world: World, dice: Dice) -> Turn:
    one = meeting(world, dice, held=False)
    return Turn(evaluate_vcsum.prompt(one.text), one.summary)


def call_turn(world: World, dice: Dice) -> Turn:
    return Turn(*tool_calls.call(world, dice, held=False))


def no_call_turn(world: World, dice: Dice) -> Turn:
    return Turn(*tool_calls.no_call(world, dice, held=False))


def code_turn(world: World, dice: Dice) -> Turn:
    """The code, what it prints, and the answer."""
    one = story(world, dice, held=False)
    reply = tool_calls.code_call(one)
    printed = evaluate_code_interpreter.shown("stdout", f"{one.answer}\n")
    given = evaluate_code_interpreter.observed(reply, printed)[len(reply.rstrip()) :]
    rest = f" I now know the final answer.\nFinal Answer: {one.answer}"
    return Turn(evaluate_code_interpreter.prompt(one.question), reply.rstrip() + "\n", given.removeprefix("\n"), rest)


CHAT: dict[Callable[[World, Dice], Turn | Parts], int] = {
    statements: 14,  # that nothing is forgotten
    sums_lesson: 5,
    open_turn: 20,
    english_choice_turn: 22,
    chinese_choice_turn: 22,
    english_shots_turn: 6,
    story_turn: 16,
    function_turn: 7,
    meeting_turn: 6,
    call_turn: 8,
    no_call_turn: 6,
    code_turn: 4,
}


Lesson = TypeVar("Lesson")


def draw(lessons: dict[Callable[[World, Dice], Lesson], int], world: World, dice: Dice) -> Lesson:
    number = dice.below(sum(lessons.values()))
    for lesson, often in lessons.items():
        number -= often
        if number < 0:
            return lesson(world, dice)
    raise AssertionError("below() gave too much")


def texts(world: World, dice: Dice, n: int) -> list[str]:
    """What the vocabulary is trained on: n lessons of each kind of model, cut where a prompt ends.

    Also cut between a blank and a Chinese character: with entries for both together, a name behind `A.` would be other
    tokens than in a sentence.
    """
    out = [text for _ in range(n) for text, _ in draw(BASE, world, dice)]
    for _ in range(n):
        turn = draw(CHAT, world, dice)
        out += turn if isinstance(turn, Turn) else [text for text, _ in turn]
    return [piece for text in out for piece in re.split(r" (?=[\u3400-\u9fff])", text)]
