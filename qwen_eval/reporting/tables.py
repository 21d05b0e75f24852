"""A run's tables: figures beside the reported ones, then the breakdowns; as files of the output folder."""

import csv
import io
import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any, NamedTuple

from qwen_eval.errors import disk_error
from qwen_eval.reporting.reported import Reported
from qwen_eval.reporting.verdict import Verdict
from qwen_eval.stats import Score


class Line(NamedTuple):
    """A score with what stands beside it."""

    name: str
    score: Score
    reported: Reported | None = None
    verdict: Verdict | None = None

    @property
    def word(self) -> str:
        """The verdict in a word; "" without one."""
        return self.verdict.word if self.verdict else ""


class Table(NamedTuple):
    title: str
    lines: Sequence[Line]


class Grid(NamedTuple):
    """A table of ready cells, in a layout of its own; the figures in it are also lines of a Table."""

    title: str
    head: Sequence[str]
    rows: Sequence[Sequence[str]]


HEAD = ("", "value", "95 % interval", "n", "reported", "difference", "in items", "smallest difference", "verdict")


def _cells(row: Line) -> tuple[str, ...]:
    score, reported = row.score, row.reported
    if score.value is None:
        return (row.name, "-", "", str(score.n), *[""] * 5)
    low, high = (shown(end, score.digits) for end in score.ci95) if score.ci95 else ("", "")
    interval = f"{low} to {high}" if score.ci95 else ""
    beside = [""] * 5
    if reported is not None and (told := row.verdict):
        version = f" ({reported.version})" if reported.version else ""
        items = "" if told.difference_items is None else signed(told.difference_items, 1)
        smallest = "" if told.smallest_difference is None else shown(told.smallest_difference, max(1, score.digits))
        figure = f"{reported.value:.{reported.decimals}f}{version}"
        beside = [figure, signed(told.difference), items, smallest, told.word]
    return (row.name, shown(score.value), interval, str(score.n), *beside)


def signed(value: float, decimals: int = 2) -> str:
    """A difference with its sign; what rounds to nothing is +0.00, never -0.00."""
    return f"{round(value, decimals) + 0.0:+.{decimals}f}" if abs(value) < 1e6 else f"{value:+.2e}"


def shown(value: float, decimals: int = 2) -> str:
    """A figure as the tables have it; one of more than six digits before the point as a power of ten."""
    return f"{value:.{decimals}f}" if abs(value) < 1e6 else f"{value:.2e}"


def columns(table: Table | Grid) -> tuple[list[str], list[list[str]]]:
    """Header and rows with the columns dropped that no row of the table fills."""
    if isinstance(table, Grid):
        return list(table.head), [list(row) for row in table.rows]
    rows = [_cells(row) for row in table.lines]
    keep = [i for i in range(len(HEAD)) if i == 0 or any(row[i] for row in rows)]
    return [HEAD[i] for i in keep], [[row[i] for i in keep] for row in rows]


def markdown(title: str, tables: Sequence[Table | Grid], notes: Sequence[str]) -> str:
    out = [f"# {title}", ""]
    for table in tables:
        head, rows = columns(table)
        out += [f"## {table.title}", ""] if table.title else []
        out += ["| " + " | ".join(head) + " |", "| --- |" + " ---: |" * (len(head) - 1)]
        out += ["| " + " | ".join(row) + " |" for row in rows]
        out += [""]
    out += [f"* {note}" for note in notes]
    return "\n".join(out).rstrip() + "\n"


def as_csv(tables: Sequence[Table | Grid]) -> str:
    stream = io.StringIO()
    writer = csv.writer(stream, lineterminator="\n")
    figure = ("value", "ci95_low", "ci95_high", "n", "reported", "reported_source")
    writer.writerow(("table", "name", *figure, *Verdict._fields[1:], "verdict"))
    for table in tables:
        for row in () if isinstance(table, Grid) else table.lines:
            told = row.verdict or Verdict("", *[None] * 4)  # type: ignore[arg-type]
            source = (row.reported.value, row.reported.source) if row.reported else (None, None)
            cells = (row.score.value, *(row.score.ci95 or (None, None)), row.score.n, *source, *told[1:], told.word)
            writer.writerow((table.title, row.name, *("" if cell is None else cell for cell in cells)))
    return stream.getvalue()


def grid_csv(grid: Grid) -> str:
    stream = io.StringIO()
    csv.writer(stream, lineterminator="\n").writerows([grid.head, *grid.rows])
    return stream.getvalue()


def score_json(row: Line) -> dict[str, Any]:
    """A score as results.json has it."""
    score, reported = row.score, row.reported
    return {
        "value": score.value,
        "n": score.n,
        "ci95": list(score.ci95) if score.ci95 else None,
        "reported": reported.value if reported else None,
        "verdict": row.word or None,
        **({name: value for name, value in row.verdict._asdict().items() if name != "word"} if row.verdict else {}),
        **({"reported_source": reported.source, "reported_version": reported.version} if reported else {}),
    }


def write_atomically(path: Path, text: str) -> None:
    """A reader never sees half a file, and a kill leaves the old one."""
    partial = path.with_name(path.name + ".partial")
    with disk_error(path):
        partial.write_text(text, encoding="utf-8", errors="backslashreplace")  # a path may be no UTF-8
        partial.replace(path)


def write_results(folder: Path, results: dict[str, Any]) -> None:
    write_atomically(folder / "results.json", json.dumps(results, ensure_ascii=False, indent=2) + "\n")
