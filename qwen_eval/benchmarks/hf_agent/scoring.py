"""What of a reply counts, and the benchmark's three figures for it (evaluate_agent.py of transformers 4.29 to 4.33).

Tool selection: the tools named in backticks in the explanation; tool used: the tools whose names stand in the code.
Each loses a quarter for a tool that is missing and for one too many. Code: 1 for the reference's result, 0.75 for a
dictionary that has it among its values, else 0.3.
"""

from collections.abc import Iterable, Sequence
from typing import Any, NamedTuple

from qwen_eval.benchmarks.hf_agent.tasks import Step
from qwen_eval.extraction.code_blocks import pieces
from qwen_eval.extraction.replies import cut_at, plain_lines

STOPS = {"run": ("Task:",), "chat": ("Human:", "=====")}
RUN_BEGINS = "I will use the following "  # the prompt's last words, which the reply goes on from
FENCE = "```"
PENALTY, RESULT_IN_DICT, WRONG_RESULT = 0.25, 0.75, 0.3


class Program(NamedTuple):
    """A reply's two parts."""

    explanation: str
    code: str


class Marks(NamedTuple):
    """The three figures of a step, each from 0 to 1."""

    tool_selection: float
    tool_used: float
    code: float


NOTHING = Marks(0.0, 0.0, 0.0)

# --- reply ---


def cut(reply: str, mode: str) -> str:
    """The reply up to the first stop string, where generation ends too."""
    return cut_at(reply, STOPS[mode])


def read_protocol(reply: str, mode: str) -> Program | None:
    """protocol: None where the published code ends in an exception (run: not exactly one `Answer:`; chat: no closed
    block of code)."""
    return _read_run(reply) if mode == "run" else _read_chat(reply)


def _read_run(reply: str) -> Program | None:
    parts = (RUN_BEGINS + reply).split("Answer:")
    if len(parts) != 2:
        return None
    lines = parts[1].strip().split("\n")
    if lines[0] in (FENCE, f"{FENCE}py", f"{FENCE}python"):
        lines = lines[1:]
    if lines and lines[-1] == FENCE:
        lines = lines[:-1]
    return Program(parts[0].strip(), "\n".join(lines))


def _read_chat(reply: str) -> Program | None:
    lines = reply.split("\n")
    fences = _fences(lines)
    if len(fences) < 2:
        return None
    return Program("\n".join(lines[: fences[0]]).strip(), "\n".join(lines[fences[0] + 1 : fences[1]]).strip())


def _fences(lines: Sequence[str]) -> list[int]:
    return [number for number, line in enumerate(lines) if line.lstrip().startswith(FENCE)]


def read_robust(reply: str, mode: str) -> Program | None:
    """robust: the first block of code in either mode, closed or not; in run mode also unfenced code behind the first
    `Answer:`. None for a reply without code."""
    text = plain_lines(RUN_BEGINS + reply if mode == "run" else reply)
    parts = pieces(text)
    if fenced := [number for number, part in enumerate(parts) if part.fenced]:
        explanation = "\n".join(part.text for part in parts[: fenced[0]])
        code = parts[fenced[0]].text
    else:
        explanation, answer, code = text.partition("Answer:")
        if mode == "chat" or not answer:
            return None
    code = code.strip("\n")
    return Program(explanation.split("Answer:")[0].strip(), code) if code.strip() else None


# --- score ---


def score(program: Program | None, result: Any, step: Step, names: Iterable[str]) -> Marks:
    """The marks of a step. result: what the code gave; names: of all tools. Nothing for a reply that has no program."""
    if program is None:
        return NOTHING
    wanted = _wanted_tools(result, step)
    names = list(names)
    selected = {name for name in names if f"`{name}`" in program.explanation}
    used = {name for name in names if name in program.code}
    return Marks(_overlap(selected, wanted), _overlap(used, wanted), _score_result(result, step.expected))


def _wanted_tools(result: Any, step: Step) -> frozenset[str]:
    """The tools of the reference that has this result; of the first one where none has."""
    pairs = list(zip(step.expected, step.tools, strict=True))
    if isinstance(result, dict):
        for expected, tools in pairs:
            if expected in result.values():
                return tools
    return next((tools for expected, tools in pairs if result == expected), pairs[0][1])


def _overlap(found: set[str], wanted: frozenset[str]) -> float:
    return max(0.0, 1.0 - PENALTY * len(wanted ^ found))


def _score_result(result: Any, expected: Sequence[str]) -> float:
    if result in expected:
        return 1.0
    if isinstance(result, dict) and any(value in expected for value in result.values()):
        return RESULT_IN_DICT
    return WRONG_RESULT
