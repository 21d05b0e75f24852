"""ReAct prompts and replies (Yao et al. 2022, arXiv 2210.03629), as first-generation Qwen was taught them.

`prompt(query, tools)` writes the one user turn that a chat model answers with `Thought:`, `Action:`, `Action Input:`
lines or a `Final Answer:`. Source of the template: QwenLM/Qwen, examples/react_prompt.md.

Protocol extraction: `read_action`, `calls_a_tool`, as the published evaluation does with `str.find`, defects included
(QwenLM/Qwen, eval/evaluate_plugin.py). Robust extraction: `read_action_robust`, `read_final_answer`.
"""

from __future__ import annotations

import ast
import json
import re
from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

from qwen_eval.extraction.replies import plain_lines


class Tool(NamedTuple):
    """name: what the model writes behind `Action:`; parameters: a list of {name, description, required, schema}."""

    name: str
    human_name: str
    description: str
    parameters: Sequence[Mapping[str, Any]]
    arguments: str = "Format the arguments as a JSON object."

    def text(self) -> str:
        parameters = json.dumps(self.parameters, ensure_ascii=False)
        return (
            f"{self.name}: Call this tool to interact with the {self.human_name} API. "
            f"What is the {self.human_name} API useful for? {self.description} "
            f"Parameters: {parameters} {self.arguments}"
        )


TEMPLATE = """Answer the following questions as best you can. You have access to the following tools:

{tools}

Use the following format:

Question: the input question you must answer
Thought: you should always think about what to do
Action: the action to take, should be one of [{names}]
Action Input: the input to the action
Observation: the result of the action
... (this Thought/Action/Action Input/Observation can be repeated zero or more times)
Thought: I now know the final answer
Final Answer: the final answer to the original input question

Begin!

Question: {query}"""


def prompt(query: str, tools: Sequence[Tool]) -> str:
    """The user turn that asks `query` with these tools at hand."""
    return TEMPLATE.format(
        tools="\n\n".join(tool.text() for tool in tools), names=",".join(tool.name for tool in tools), query=query
    )


class Action(NamedTuple):
    """What a reply asks for: the tool's name and the text of its input, both stripped and as they stand there."""

    name: str
    input: str


# --- protocol ---


def calls_a_tool(reply: str) -> bool:
    """protocol: `Action: ` at the beginning of a line that is not the reply's first."""
    return "\nAction: " in reply


def read_action(reply: str) -> Action:
    """protocol: the text from the first `Action:` to the first `Action Input:`, and from there to the first
    `Observation:`.

    A marker that is missing counts as the place -1, as `str.find` has it: the text then begins some letters into the
    reply, or ends before its last character. So a reply that calls nothing has an action too; ask `calls_a_tool` first.
    """
    text = reply + "\n"  # the character that a missing `Observation:` costs
    return Action(_between(text, "Action:", "Action Input:"), _between(text, "Action Input:", "Observation:"))


def _between(text: str, start: str, end: str) -> str:
    return text[text.find(start) + len(start) : text.find(end)].strip()


def canonical_json(text: str) -> str:
    """The JSON5 value in `text` as JSON with sorted keys; "" where it is none."""
    import json5

    try:
        return json.dumps(json5.loads(text), ensure_ascii=False, sort_keys=True)
    except Exception:  # ValueError; RecursionError for a deep one; a number too long to print
        return ""


# --- robust ---


def _label(words: str, before: str = "") -> re.Pattern[str]:
    """A label at the beginning of a line, in any case, with either colon; Markdown's marks around it do no harm."""
    return re.compile(rf"(?:^|\n{before})[ \t>#*_`-]*(?:{words})[ \t*_`]*[:：][ \t]*(?:\*\*)?", re.IGNORECASE)


_ACTION = _label("action")
_INPUT = _label("action[ _]?input", before=r"|(?<=\s)")  # also on the line of the action
_NEXT = _label("observation|thought|final[ _]?answer|action(?:[ _]?input)?")
_FINAL = _label("final[ _]?answer")
_FENCE = re.compile(r"```[\w+-]*[ \t]*\n?(.*?)(?:```|$)", re.DOTALL)
# What stands for a tool's name where none is called: "None", "no tool needed", "N/A", 无需调用, 不需要使用工具, 无.
_NO_TOOL = re.compile(
    r"(?:none|null|nil|nothing|no|not|n/?a)(?![\w-])|.*(?:\bno (?:\w+ ){0,2}(?:tools?|actions?|apis?|calls?|need)\b"
    r"|(?:\bnot|n't) (?:need|necessary|required|applicable|use|call))"
    r"|无$|无\W|[无没](?:可用|合适|工具|动作|行动|操作|有)"
    r"|.*(?:[不无](?:需|须|必)|不用|[不未](?:调用|使用|采取))",
    re.IGNORECASE,
)


def read_action_robust(reply: str) -> Action | None:
    """robust: the first call in the reply; None where it calls no tool (`Action: None` is no call).

    The input ends at the next label; code fences around it are taken away.
    """
    reply = plain_lines(reply)
    if not (start := _ACTION.search(reply)):
        return None
    behind = reply[start.end() :]
    here, label = _NEXT.search(behind), _INPUT.search(behind)
    if label and (here is None or label.start() <= here.start()):
        name, rest = behind[: label.start()], behind[label.end() :]
    else:  # no input before the next step
        name, rest = behind[: here.start()] if here else behind, ""
    name = name.strip().split("\n")[0].strip(" \t*_`\"'.。[]")
    if not name or _NO_TOOL.match(name):
        return None
    end = _NEXT.search("\n" + rest)
    return Action(name, _unfenced(rest[: max(0, end.start() - 1)] if end else rest))


def _unfenced(text: str) -> str:
    text = text.strip()
    inside = _FENCE.match(text)
    return inside[1].strip() if inside else text


def canonical_json_robust(text: str) -> str:
    """robust: as `canonical_json`, for the first object or list in `text`, whatever stands around it; one that is
    written as in Python (`{'a': None}`) or in Chinese quotes and colons counts too."""
    import json5

    begin = re.search(r"[{\[]", text)
    text = text[begin.start() :] if begin else text
    for read in (
        lambda: json5.parse(text, consume_trailing=False),
        lambda: _python(text),
        lambda: _python(_western(text)),
    ):
        try:
            value, problem, _ = read()
            if not problem:
                return json.dumps(value, ensure_ascii=False, sort_keys=True)
        except Exception:  # as above; TypeError for what JSON cannot hold
            continue
    return ""


def _python(text: str) -> tuple[Any, str | None, int]:
    """The longest Python literal at the beginning of the text; as json5.parse gives a value."""
    ends = [bracket.end() for bracket in re.finditer(r"[}\]]", text)][-20:]
    for end in reversed(ends):
        try:
            return ast.literal_eval(text[:end]), None, end
        except (ValueError, SyntaxError):
            continue
    return None, "no literal", 0


def _western(text: str) -> str:
    return text.translate(str.maketrans("“”‘’：，", "\"\"'':,"))


def read_final_answer(reply: str) -> str | None:
    """robust: the text behind the first `Final Answer:`, None where the reply gives none."""
    reply = plain_lines(reply)
    label = _FINAL.search(reply)
    return reply[label.end() :].strip() if label else None
