"""The tables of a run as files of the output folder: figures beside the reported ones, then the breakdowns."""

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any, NamedTuple

from qwen_eval.errors import disk_error
from qwen_eval.reporting.reported import Reported
from qwen_eval.reporting.verdict import Verdict
from qwen_eval.stats import Score


class Line(NamedTuple):
    """A score with its reported figure and its verdict."""

    name: str
    score: Score
    reported: Reported | None = None
    verdict: Verdict | None = None

    @property
    def word(self) -> str:
        """The word of the verdict; "" without one."""
        return self.verdict.word if self.verdict else ""


class Table(NamedTuple):
    title: str
    lines: Sequence[Line]


class Grid(NamedTuple):
    """A table of ready cells in any layout; the figures in it are also lines of a Table."""

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
    if reported is not None and (verdict := row.verdict):
        version = f" ({reported.version})" if reported.version else ""
        items = "" if verdict.difference_items is None else signed(verdict.difference_items, 1)
        could_show = verdict.smallest_difference
        smallest = "" if could_show is None else shown(could_show, max(1, score.digits))
        figure = f"{reported.value:.{reported.decimals}f}{version}"
        beside = [figure, signed(verdict.difference), items, smallest, verdict.word]
    return (row.name, shown(score.value), interval, str(score.n), *beside)


def signed(value: float, decimals: int = 2) -> str:
    """A difference with its sign; one that rounds to zero is +0.00, never -0.00."""
    return f"{round(value, decimals) + 0.0:+.{decimals}f}" if abs(value) < 1e6 else f"{value:+.2e}"


def shown(value: float, decimals: int = 2) -> str:
    """A figure as the tables show it; with more than six digits before the point as a power of ten."""
    return f"{value:.{decimals}f}" if abs(value) < 1e6 else f"{value:.2e}"


def columns(table: Table | Grid) -> tuple[list[str], list[list[str]]]:
    """Header and rows, without the columns that are empty in every row."""
    if isinstance(table, Grid):
        return list(table.head), [list(row) for row in table.rows]
    rows = [_cells(row) for row in table.lines]
    keep = [i for i in range(len(HEAD)) if i == 0 or any(row[i] for row in rows)]
    return [HEAD[i] for i in keep], [[row[i] for i in keep] for row in rows]


def markdown(title: str, tables: Sequence[Table | Grid], notes: Sequence[str]) -> str:
    """The tables as table.md has them. Not pandas' Markdown, which needs one more package and pads every cell."""
    out = [f"# {title}", ""]
    for table in tables:
        head, rows = columns(table)
        out += [f"## {table.title}", ""] if table.title else []
        out += ["| " + " | ".join(head) + " |", "| --- |" + " ---: |" * (len(head) - 1)]
        out += ["| " + " | ".join(row) + " |" for row in rows]
        out += [""]
    out += [f"* {note}" for note in notes]
    return "\n".join(out).rstrip() + "\n"


FIGURE = ("value", "ci95_low", "ci95_high", "n", "reported", "reported_source")
CSV_HEAD = ("table", "name", *FIGURE, *Verdict._fields[1:], "verdict")


def as_csv(tables: Sequence[Table | Grid]) -> str:
    """Every line of every table, with unrounded figures; what a line does not have is an empty cell."""
    rows = []
    for table in tables:
        for row in () if isinstance(table, Grid) else table.lines:
            verdict = row.verdict or (None,) * len(Verdict._fields)
            source = (row.reported.value, row.reported.source) if row.reported else (None, None)
            figure = (row.score.value, *(row.score.ci95 or (None, None)), row.score.n, *source)
            rows.append((table.title, row.name, *figure, *verdict[1:], row.word))
    return _csv(CSV_HEAD, rows)


def grid_csv(grid: Grid) -> str:
    return _csv(grid.head, grid.rows)


def _csv(head: Sequence[str], rows: Sequence[Sequence[Any]]) -> str:
    from pandas import DataFrame  # here: it takes half a second to import

    return str(DataFrame(rows, columns=list(head), dtype=object).to_csv(index=False, lineterminator="\n"))


def score_json(row: Line) -> dict[str, Any]:
    """A score in the form of results.json."""
    score, reported = row.score, row.reported
    return {
        "value": score.value,
        "n": score.n,
        "ci95": list(score.ci95) if score.ci95 else None,
        "reported": reported.value if reported else None,
        "verdict": row.word or None,
        **({name: value for name, value in row.verdict._asdict().items() if name != "word"} if row.verdict else {}),
        **({"reported_decimals": reported.decimals, "reported_source": reported.source} if reported else {}),
        **({"reported_version": reported.version} if reported else {}),
    }


def write_atomically(path: Path, text: str) -> None:
    """A reader never sees half a file, and a kill leaves the old one."""
    partial = path.with_name(path.name + ".partial")
    with disk_error(path):
        partial.write_text(text, encoding="utf-8", errors="backslashreplace")  # a path may be no UTF-8
        partial.replace(path)


def write_results(folder: Path, results: dict[str, Any]) -> None:
    write_atomically(folder / "results.json", json.dumps(results, ensure_ascii=False, indent=2) + "\n")
