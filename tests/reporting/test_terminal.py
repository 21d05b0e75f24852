"""On the screen no figure and no verdict is cut or broken: any width, a pipe, a file."""

import os
import pty
import struct
import subprocess
import sys
import termios
from fcntl import ioctl
from pathlib import Path
from typing import Any

from qwen_eval.reporting.tables import columns

import pytest

ROOT = Path(__file__).resolve().parents[2]
WIDTHS = (20, 40, 60, 80, 200)
TABLES = """
from qwen_eval.reporting.reported import Reported
from qwen_eval.stats import Interval, Score, accuracy
from qwen_eval.reporting.tables import Grid, Line, Table
from qwen_eval.reporting.verdict import judge

def line(name, score, value):
    return Line(name, score, Reported(value, 1, "card", "v1.1"), judge(score, value, as_reported=score.n > 1))

def right(k, n):
    return accuracy([True] * k + [False] * (n - k))

big = Score(3168351.25, 9, Interval(1234567.0, 98765432.0), "ppl", digits=2)
lines = [line("acc", right(7962, 14042), 58.2), line("pass@1", right(40, 164), 29.9), line("few", right(0, 1), 45.0),
         line("same", right(660, 1319), 50.1), line("tool_input_rouge_l_robust", big, 181.49)]
rows = [["dynamic_ntk + logn + window_attn", "3168.35", "4.23"], ["  verdict", "too few items", "reproduced"]]
tables = [Grid("by length", ["", "1,024", "32,768"], rows), Table("", lines),
          Table("by [group]", [Line("high_school_government_and_politics", right(150, 193))])]
notes = ["n 1234 of 14042; written to /a/very/long/name/of/a/folder"]
"""
#: run in a process of its own, whose standard output is a terminal, a pipe or a file
PROGRAM = f"""
import sys
sys.path.insert(0, "eval")
{TABLES}
from qwen_eval.reporting.terminal import show
show("mmlu - Qwen-7B (base, 5-shot)", tables, notes)
"""


def lost(out: str) -> list[str]:
    """The cells, titles and notes that do not stand in the output in one piece."""
    known: dict[str, Any] = {}
    exec(TABLES, known)
    wanted = [table.title for table in known["tables"]] + known["notes"]
    wanted += [cell.strip() for table in known["tables"] for row in columns(table)[1] for cell in row]
    assert {"lower", "consistent", "too few items", "reproduced", "higher", "56.70", "3.17e+06"} <= set(wanted)
    return [text for text in wanted if text not in out]


def on_a_terminal(width: int) -> str:
    ours, theirs = pty.openpty()
    ioctl(theirs, termios.TIOCSWINSZ, struct.pack("HHHH", 50, width, 0, 0))
    env = {name: value for name, value in os.environ.items() if name not in ("COLUMNS", "LINES")} | {"TERM": "dumb"}
    process = subprocess.Popen([sys.executable, "-c", PROGRAM], cwd=ROOT, env=env, stdout=theirs)
    os.close(theirs)
    out = b""
    while True:
        try:
            part = os.read(ours, 4096)
        except OSError:  # Linux says so at the end
            break
        if not part:
            break
        out += part
    os.close(ours)
    assert process.wait() == 0
    return out.decode().replace("\r\n", "\n")


@pytest.mark.parametrize("width", WIDTHS)
def test_every_figure_and_verdict_is_whole_on_a_terminal(width: int) -> None:
    out = on_a_terminal(width)
    assert lost(out) == [] and "…" not in out
    if width == 200:
        assert any(all(word in text for word in ("acc", "56.70", "58.2 (v1.1)", "lower")) for text in out.split("\n"))


@pytest.mark.parametrize("width", WIDTHS)
def test_no_figure_is_broken_at_the_edge_of_a_terminal(width: int) -> None:
    """A line that is longer than the terminal is wide is a name, a title or a note: the terminal breaks it."""
    long = [text for text in on_a_terminal(width).split("\n") if len(text) > width and not text.endswith(":")]
    assert all(text.startswith(("- ", "mmlu", "dynamic_ntk", "tool_input", "high_school")) for text in long)


@pytest.mark.parametrize("width", ["20", "80", ""])
def test_a_pipe_and_a_file_have_whole_rows(width: str, tmp_path: Path) -> None:
    env = {**os.environ, "COLUMNS": width} if width else dict(os.environ)
    piped = subprocess.run([sys.executable, "-c", PROGRAM], cwd=ROOT, env=env, capture_output=True, check=True).stdout
    with open(tmp_path / "out.txt", "wb") as file:
        subprocess.run([sys.executable, "-c", PROGRAM], cwd=ROOT, env=env, stdout=file, check=True)
    out = piped.decode()
    assert out == (tmp_path / "out.txt").read_text()
    assert lost(out) == [] and "…" not in out and "\x1b" not in out
    row = next(text for text in out.split("\n") if text.strip().startswith("pass@1"))
    words = ("24.39", "18.5 to 31.5", "164", "29.9 (v1.1)", "-5.51", "-9.0", "consistent")
    assert all(word in row for word in words)
