"""A table in the card's own layout: for each checkpoint what was measured (95 % interval), what is reported, the
difference and the verdict, one below the other. As Markdown, LaTeX, CSV and JSON.
"""

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from qwen_eval.reporting.reported import decimals_of
from qwen_eval.reporting.side_by_side import setting_of, short_source
from qwen_eval.reporting.tables import Grid, markdown, shown, signed, write_atomically
from qwen_eval.reproduction.tables import CardTable, Cell, Results

LINES = ("measured", "reported", "difference", "verdict")


def grids(table: CardTable, found: Mapping[str, Results]) -> list[Grid]:
    """The blocks of the table with a row of four lines per checkpoint. found: model -> run -> its results.json."""
    blocks: dict[str, tuple[Sequence[str], list[list[str]]]] = {}
    for model, results in found.items():
        for section in table.sections(results):
            columns, rows = blocks.setdefault(section.title, (section.columns, []))
            places = [list(section.columns).index(name) if name in section.columns else None for name in columns]
            for label, cells in section.rows.items():
                kept = [None if place is None else cells[place] for place in places]
                rows += _rows(label or model, [cell and _score(results, cell) for cell in kept])
    return [Grid(title, ["model", "", *columns], rows) for title, (columns, rows) in blocks.items()]


def _score(results: Results, cell: Cell) -> Mapping[str, Any] | None:
    """A score of results.json; None where its run did not come to an end, or has no such figure."""
    found: Mapping[str, Any] | None = results.get(cell.part, {}).get("scores", {}).get(cell.score)
    return found if found and found["value"] is not None else None


def _rows(label: str, scores: Sequence[Mapping[str, Any] | None]) -> list[list[str]]:
    """The four lines of one row; those below the first only where something is reported."""
    lines = {name: [_shown(score, name) if score else "-" * (name == "measured") for score in scores] for name in LINES}
    kept = [name for name in LINES if name == "measured" or any(lines[name])]
    return [[label if name == "measured" else "", name, *lines[name]] for name in kept]


def _shown(score: Mapping[str, Any], line: str) -> str:
    if line == "measured":
        digits = 2 if score["value"] < 10 else 1
        ends = [shown(end, digits) for end in score["ci95"] or ()]
        return shown(score["value"], digits) + (f" ({' to '.join(ends)})" if ends else "")
    if score["reported"] is None:
        return ""
    if line == "reported":
        version = f" ({score['reported_version']})" if score.get("reported_version") else ""
        return f"{score['reported']:.{score['reported_decimals']}f}{version}"
    if line == "difference":
        return signed(score["difference"])
    return str(score["verdict"])


def reported_grid(table: CardTable, found: Mapping[str, Results]) -> Grid | None:
    """Every figure that was reported of these models for the table's columns, each with its setting and source: the
    cells above hold one of them. None for the first generation, whose cards state one figure each."""
    rows = []
    for model, results in found.items():
        blocks = [(section.columns, cells) for section in table.sections(results) for cells in section.rows.values()]
        for column, cell in (pair for block in blocks for pair in zip(*block, strict=True)):
            reported = results.get(cell.part, {}).get("reported_figures", [])
            rows += [[model, column, *_reported_line(row)] for row in reported if row["score"] == cell.score]
    head = ["model", "column", "reported", "setting", "source", "compared"]
    return Grid("every reported figure of these columns, by setting and source", head, rows) if rows else None


def _reported_line(row: Mapping[str, Any]) -> list[str]:
    known = {"version": "", "data_version": "", **row}
    value = f"{float(row['value']):.{decimals_of(known)}f}"
    return [value, setting_of(known), short_source(row["source"]), "yes" if row["same_setting"] else "another setting"]


CSV_HEAD = "table block model row column value ci95_low ci95_high n reported difference verdict source".split()


def figures(table: CardTable, found: Mapping[str, Results]) -> list[dict[str, Any]]:
    """Every cell of the table, unrounded, in the columns of CSV_HEAD; a missing figure has empty cells."""
    rows = []
    for model, results in found.items():
        for section in table.sections(results):
            for label, cells in section.rows.items():
                for column, cell in zip(section.columns, cells, strict=True):
                    named = {
                        "table": table.name,
                        "block": section.title,
                        "model": model,
                        "row": label,
                        "column": column,
                    }
                    rows.append({**named, **_figure(_score(results, cell))})
    return rows


def _figure(score: Mapping[str, Any] | None) -> dict[str, Any]:
    if score is None:
        return dict.fromkeys(CSV_HEAD[5:])
    low, high = score["ci95"] or (None, None)
    same = {name: score.get(name) for name in ("value", "n", "reported", "difference", "verdict")}
    return {**same, "ci95_low": low, "ci95_high": high, "source": score.get("reported_source")}


def write(
    table: CardTable,
    found: Mapping[str, Results],
    notes: Sequence[str],
    folder: Path,
    more: Sequence[Grid] = (),
    more_json: Mapping[str, Any] | None = None,
) -> list[Grid]:
    """table.md, table.tex, table.csv and table.json in the folder; returns what stands on the screen.

    more: further tables of table.md; more_json: further fields of table.json.
    """
    from pandas import DataFrame

    folder.mkdir(parents=True, exist_ok=True)
    made, rows = grids(table, found), figures(table, found)
    if reported := reported_grid(table, found):
        more = [reported, *more]
    write_atomically(folder / "table.md", markdown(f"{table.name}: {table.about}", [*made, *more], notes))
    write_atomically(folder / "table.tex", latex(made))
    frame = DataFrame(rows, columns=CSV_HEAD, dtype=object)
    write_atomically(folder / "table.csv", str(frame.to_csv(index=False, lineterminator="\n")))
    written = {"table": table.name, "figures": rows, **(more_json or {}), "notes": list(notes)}
    write_atomically(folder / "table.json", json.dumps(written, ensure_ascii=False, indent=2) + "\n")
    return [*made, *more]


def latex(made: Sequence[Grid]) -> str:
    """One tabular per block, ruled by the package booktabs."""
    from pandas import DataFrame

    parts = ["% \\usepackage{booktabs}\n"]
    for grid in made:
        frame = DataFrame([list(row) for row in grid.rows], columns=list(grid.head), dtype=object)
        layout = "ll" + "r" * (len(grid.head) - 2)
        parts.append(str(frame.to_latex(index=False, escape=True, column_format=layout)))
    return "\n".join(parts)
