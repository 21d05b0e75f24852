"""The code of a code interpreter's replies: what of a reply is code, how it runs in the item's kernel, and what the
model is told of it (see evaluate_code_interpreter.py).
"""

from __future__ import annotations

import os
import re
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, NamedTuple

from qwen_eval.benchmark import Item
from qwen_eval.benchmarks.code import isolation_note
from qwen_eval.errors import UserError
from qwen_eval.extraction import react
from qwen_eval.extraction.code_blocks import first_block
from qwen_eval.sandbox import CELL_SECONDS, Kernel, Kernels, Output, Result, warn_unsandboxed

MAX_OBSERVATION = 4000  # characters; a model's window is as small as 2,048 tokens
KEPT_END = 1000  # of these, from the end: there a traceback says what happened
FALLBACK_FONT = "DejaVu Sans"  # has no Chinese characters

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


# --- cells ---


class RunCell(NamedTuple):
    """Answer: the cell as the record has it (`code`, `error`, `message`, `observation`, `pictures`: names of files).

    code: None ends the item's kernel, and the answer is None. earlier: the code that ran before in this kernel; a new
    one runs it again. pictures: how many the item has already.
    """

    item: Item
    code: str | None
    earlier: Sequence[str] = ()
    pictures: int = 0


class Cells:
    """The service that answers a `RunCell`: a kernel for each item, in the sandbox.

    A cell that timed out is `doubtful` where others ran beside it: it runs once more alone, in a new kernel.
    """

    def __init__(
        self,
        files: Sequence[Path],
        folder: Path,
        shown: Callable[[str, str], str],
        workers: int | None = None,
        allow_unsandboxed: bool = False,
        plots: bool = False,
    ) -> None:
        """files: input files of all items; folder: pictures go to `pictures/` in it; shown: (kind, text) of an output
        -> how the model is told; plots: some items ask for pictures."""
        self.files, self.folder, self.shown, self.plots = files, folder, shown, plots
        self.workers = workers or os.cpu_count() or 1
        self.allow_unsandboxed = allow_unsandboxed
        self._open: dict[tuple[str, int], Kernel] = {}

    def __enter__(self) -> Cells:
        self.kernels = Kernels(WARM, self.files, self.allow_unsandboxed)
        self.kernels.__enter__()
        try:
            warn_unsandboxed(self.kernels.sandbox)
            self.font = self._first_font()
        except BaseException:
            self.kernels.__exit__()
            raise
        return self

    def __exit__(self, *_: object) -> None:
        for key in list(self._open):
            self._end(key)
        self.kernels.__exit__()

    def _first_font(self) -> str:
        """Start a kernel as every item's; returns the first font of its plots. UserError where that fails."""
        with self.kernels.open() as kernel:
            started = kernel.run(START, 120)
            if started.error:
                why = f"{started.error}: {started.message}" if started.message else started.error
                raise UserError(f"a kernel cannot be prepared ({why}); pip install 'qwen-eval[interpreter]'")
            return "".join(output.text for output in kernel.run(FONTS).outputs).strip()

    def answer(self, request: RunCell) -> dict[str, Any] | None:
        item = request.item
        if request.code is None:
            self._end(item.key)
            return None
        if (kernel := self._open.get(item.key)) is None:
            kernel = self._open[item.key] = self.kernels.open(item.row["files"])
            for code in (START, *request.earlier):
                kernel.run(local_names(code, item))
        result = kernel.run(local_names(request.code, item))
        if result.error == "timed out":
            self._end(item.key)
        names: list[str] = []

        def keep(png: bytes) -> str:
            names.append(f"pictures/{item.id.replace('/', '-')}-{request.pictures + len(names) + 1}.png")
            (self.folder / "pictures").mkdir(exist_ok=True)
            (self.folder / names[-1]).write_bytes(png)
            return names[-1]

        told = observation(result, keep, self.shown)
        outcome = {"error": result.error, "message": result.message, "observation": told, "pictures": names}
        return {"code": request.code, **outcome}

    def doubtful(self, answer: dict[str, Any] | None) -> bool:
        return answer is not None and answer["error"] == "timed out" and self.workers > 1

    def _end(self, key: tuple[str, int]) -> None:
        if kernel := self._open.pop(key, None):
            kernel.close()

    def describe(self) -> dict[str, Any]:
        return {"sandbox": self.kernels.sandbox.describe()}

    def notes(self) -> list[str]:
        fonts = "no Chinese font here (SimHei, Noto Sans CJK ...): Chinese labels in pictures are boxes"
        missing = [fonts] if self.plots and self.font == FALLBACK_FONT else []
        return [*missing, isolation_note(self.kernels.sandbox)]


def local_names(code: str, item: Item) -> str:
    """The item's files lie in the working folder, whatever folder the row names them in."""
    for given in item.row["input_file_path"]:
        name = given.replace("\\", "/").rpartition("/")[2]
        code = code.replace(given, name) if given != name else code
    return code
