"""The rounds of a code interpreter benchmark: reply, cell, observation, next reply (see evaluate_code_interpreter.py).

All conversations of a wave take their round together: one batch through the engine, then one through the kernels. A
wave bounds what a kill costs and how many kernels are alive.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from qwen_eval.data.items import Item
from qwen_eval.errors import UserError
from qwen_eval.extraction import react
from qwen_eval.extraction.code_blocks import first_block
from qwen_eval.extraction.replies import END_OF_TEXT, cut_at
from qwen_eval.run import Run
from qwen_eval.sandbox import CELL_SECONDS, Kernel, Kernels, Output, Result

WAVE = 64  # items; a kernel that waits for its next round has some 60 MB of its own
MAX_OBSERVATION = 4000  # characters; a model's window is as small as 2,048 tokens
KEPT_END = 1000  # of these, from the end: there a traceback says what happened

# What is there before the first cell, as published; fonts that show Chinese come first where the machine has one.
START = """
import json, math, re, warnings
import matplotlib, matplotlib.pyplot as plt, numpy as np, pandas as pd, seaborn as sns
from matplotlib import font_manager
from sympy import Eq, solve, symbols

def input(*args, **kwargs):
    raise NotImplementedError("input() is not available here: nobody answers")

def _set_theme(*args, _theme=sns.set_theme, **kwargs):
    _theme(*args, **kwargs)
    known = {font.name for font in font_manager.fontManager.ttflist}
    fonts = ["SimHei", "Microsoft YaHei", "Noto Sans CJK SC", "Noto Sans SC", "Source Han Sans SC", "WenQuanYi Zen Hei",
             "WenQuanYi Micro Hei", "Droid Sans Fallback", "PingFang SC"]
    plt.rcParams["font.sans-serif"] = [name for name in fonts if name in known] + ["DejaVu Sans"]
    plt.rcParams["axes.unicode_minus"] = False

sns.set_theme = _set_theme
sns.set_theme()
warnings.filterwarnings("ignore", message="Glyph .* missing from")
"""
FONTS = "print(plt.rcParams['font.sans-serif'][0])"
WARM = ("matplotlib.pyplot", "numpy", "pandas", "seaborn", "sympy", "scipy.stats", "openpyxl")

# --- reply: what of it is code ---

QUOTED = re.compile(r"`+([^`]+)`+")


def read_code(reply: str) -> str | None:
    """The code that a reply asks to run, "" where the call has none; None where it calls no tool.

    As published: whatever the tool is called; of the last `Action Input:`, the first fenced block, else what stands in
    backticks, else `code` of a JSON object, else all of it; and `def solution()` is called.
    """
    if react.read_action_robust(reply) is None:
        return None
    given = reply.rpartition("Action Input:")[2]
    found = first_block(given)
    if found is None and (quoted := QUOTED.search(given)):
        found = quoted[1]
    code = (_of_json(given) or given).strip() if found is None else found.strip("\n").rstrip()
    return f"{code}\nsolution()" if "def solution()" in code else code


def _of_json(text: str) -> str:
    import json5

    try:
        value = json5.loads(text) if text.strip().startswith("{") else None
    except Exception:  # ValueError; RecursionError for a deep one
        return ""
    return value["code"] if isinstance(value, dict) and isinstance(value.get("code"), str) else ""


# --- observation ---


def observation(result: Result, picture: Callable[[bytes], str], shown: Callable[[str, str], str]) -> str:
    """What the model is told. picture: keeps a PNG and gives its name; shown: one output as text."""
    parts, pictures = [], 0
    for output in [*result.outputs, *_ending(result)]:
        if output.kind == "picture":
            pictures += 1
            parts.append(f"![fig-{pictures:03d}]({picture(output.png)})")
        elif output.text:
            parts.append(shown(output.kind, cut(output.text, output.dropped)))
    return "\n\n".join(parts)


def cut(text: str, dropped: int = 0) -> str:
    """At most MAX_OBSERVATION characters of a text, of which `dropped` are lost already, and a note of the rest."""
    if len(text) <= MAX_OBSERVATION and not dropped:
        return text
    head, tail = text[: MAX_OBSERVATION - KEPT_END], text[-KEPT_END:] if not dropped else ""
    left = len(text) + dropped - len(head) - len(tail)
    return f"{head}\n... ({left} characters left out) ...\n{tail}"


def _ending(result: Result) -> list[Output]:
    """The one text on a cell that no exception ended."""
    if result.error == "timed out":
        return [Output("error", f"Timeout. No response after {CELL_SECONDS:g} seconds.")]
    if result.error and not any(output.kind == "error" for output in result.outputs):
        return [Output("error", f"The code did not run to its end: {result.error}.")]
    return []


# --- conversation ---


@dataclass
class Talk:
    """One item's way through the rounds. text: the assistant's turn so far; cells: what each piece of code gave."""

    item: Item
    rounds: int
    text: str
    replies: list[str] = field(default_factory=list)
    cells: list[dict[str, Any]] = field(default_factory=list)
    over: bool = False
    kernel: Kernel | None = None

    def end(self) -> None:
        self.over = True
        self.let_go()

    def let_go(self) -> None:
        """End the kernel: no cell follows, or the next one wants a new one."""
        if self.kernel:
            self.kernel.close()
            self.kernel = None


class Interpreter:
    """The kernels of a run, and how an item's code runs in one. seconds: a cell's own time."""

    def __init__(self, kernels: Kernels, folder: Path, shown: Callable[[str, str], str], workers: int) -> None:
        self.kernels, self.folder, self.shown, self.workers = kernels, folder, shown, workers
        (folder / "pictures").mkdir(exist_ok=True)

    def check(self) -> str:
        """Start a kernel as every item's; returns the first font of its plots. UserError where that fails."""
        with self.kernels.open() as kernel:
            started = kernel.run(START, 120)
            if started.error:
                why = f"{started.error}: {started.message}" if started.message else started.error
                raise UserError(f"a kernel cannot be prepared ({why}); pip install 'qwen-eval[interpreter]'")
            return "".join(output.text for output in kernel.run(FONTS).outputs).strip()

    def run(self, talks: Sequence[Talk]) -> None:
        """Run the last reply's code of each; what timed out runs once more alone, from the item's first cell on."""
        from tqdm import tqdm

        if not talks:
            return
        with ThreadPoolExecutor(self.workers) as executor:
            done = executor.map(self._run_cell, talks)
            results = list(tqdm(done, total=len(talks), desc="cells", unit="cell", leave=False, mininterval=1))
        for talk, result in zip(talks, results, strict=True):
            if result.error == "timed out" and self.workers > 1 and len(talks) > 1:
                talk.let_go()
                result = self._run_cell(talk)
            self._note(talk, result)

    def _run_cell(self, talk: Talk) -> Result:
        code = read_code(talk.replies[-1]) or ""
        if talk.kernel is None:
            talk.kernel = self.kernels.open(talk.item.row["files"])
            earlier = [cell["code"] for cell in talk.cells]
            for cell in (START, read_code("\n" + talk.item.begun) or "", *earlier):
                talk.kernel.run(local_names(cell, talk.item))
        return talk.kernel.run(local_names(code, talk.item))

    def _note(self, talk: Talk, result: Result) -> None:
        names: list[str] = []

        def keep(png: bytes) -> str:
            number = len(names) + sum(len(cell["pictures"]) for cell in talk.cells)
            names.append(f"pictures/{talk.item.id.replace('/', '-')}-{number + 1}.png")
            (self.folder / names[-1]).write_bytes(png)
            return names[-1]

        told = observation(result, keep, self.shown)
        cell = {"code": read_code(talk.replies[-1]), "error": result.error, "message": result.message}
        talk.cells.append({**cell, "observation": told, "pictures": names})


def local_names(code: str, item: Item) -> str:
    """The item's files lie in the working folder, whatever folder the row names them in."""
    for given in item.row["input_file_path"]:
        name = given.replace("\\", "/").rpartition("/")[2]
        code = code.replace(given, name) if given != name else code
    return code


def converse(
    run: Run, interpreter: Interpreter, rounds: Callable[[Item], int], observed: Callable[[str, str], str]
) -> Iterator[Talk]:
    """Every unfinished item's conversation as it ends. observed: (reply, observation) -> what the turn grows by.

    A conversation ends with a reply that calls no tool, with code that fails, or with the reply after its last round.
    """
    todo = run.unfinished()
    for start in range(0, len(todo), WAVE):
        talks = [Talk(item, rounds(item), item.begun) for item in todo[start : start + WAVE]]
        while waiting := [talk for talk in talks if not talk.over]:
            by_key = {talk.item.key: talk for talk in waiting}
            asked = _recorded(run, waiting) if run.replies else run.generate([_next(talk) for talk in waiting])
            for item, reply in asked:
                by_key[item.key].replies.append(cut_at(reply, [END_OF_TEXT]))
            for talk in [talk for talk in waiting if talk.item in run.missing]:
                talk.end()
                waiting.remove(talk)
            for talk in waiting:
                if not read_code(talk.replies[-1]) or len(talk.cells) == talk.rounds:
                    talk.text += talk.replies[-1]
                    talk.end()
            with_code = [talk for talk in waiting if not talk.over]
            interpreter.run(with_code)
            for talk in with_code:
                talk.text += observed(talk.replies[-1], talk.cells[-1]["observation"])
                if talk.cells[-1]["error"]:
                    talk.end()
                elif len(talk.cells) == talk.rounds:
                    talk.let_go()
            yield from (talk for talk in waiting if talk.over)


def _next(talk: Talk) -> Item:
    return replace(talk.item, begun=talk.text)


def _recorded(run: Run, waiting: Sequence[Talk]) -> Iterator[tuple[Item, str]]:
    """The next of the given replies of each item: `rounds`, else the transcript cut where observations stand."""
    assert run.replies
    for talk in waiting:
        row = run.replies.by_key[talk.item.key]
        given = row.get("rounds") or re.split(
            r"\nObservation:.*?\nThought:", run.replies.text(talk.item), flags=re.DOTALL
        )
        yield talk.item, given[len(talk.replies)] if len(talk.replies) < len(given) else ""
