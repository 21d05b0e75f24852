"""Parity as people read it: tables on the screen, and files."""

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from qwen_eval.comparison.parity import RULE, ItemParity, Measured, Verdict, judge, overall
from qwen_eval.comparison.report import ON_SCREEN, cut, for_markdown, json_lines
from qwen_eval.comparison.rows import shown_key
from qwen_eval.reporting.journal import make_folder
from qwen_eval.reporting.tables import Grid, grid_csv, markdown, write_atomically

CHOICES = (
    "choice logits", "items", "median difference", "largest", "answers that flip", "of these ties", "largest lead",
    "right in A only", "in B only", "verdict",
)  # fmt: skip
TEXTS = (
    "texts", "items", "equal", "part at token (25/50/75 %)", "partings per 100 tokens",
    "answers that flip", "right in A only", "in B only", "verdict",
)  # fmt: skip


def grids(measured: Sequence[Measured]) -> list[Grid]:
    """The figures of each benchmark; below them the flips furthest from a tie, and the earliest partings."""
    found = []
    for head, choices in ((CHOICES, True), (TEXTS, False)):
        if rows := [_cells(one) for one in measured if one.choices == choices]:
            found.append(Grid("", head, rows))
    return [*found, *(grid for one in measured for grid in (*_flips(one), *_partings(one)))]


def _cells(one: Measured) -> tuple[str, ...]:
    found, word = one.figures(), judge(one).word
    right = (str(found["right_in_a_only"]), str(found["right_in_b_only"]))
    flips = str(found["flips"])
    if one.choices:
        differences = (_small(found["median_difference"]), _small(found["largest_difference"]))
        ties = (flips, str(found["flips_in_ties"]), _small(found["largest_lead"]))
        return (one.name, str(found["items"]), *differences, *ties, *right, word)
    places = " / ".join(_place(found[f"parted_at_{name}"]) for name in ("q1", "median", "q3"))
    equal, rate = f"{100 * found['equal_texts']:.1f} %", f"{100 * found['partings_per_token']:.2f}"
    return (one.name, str(found["items"]), equal, places, rate, flips, *right, word)


def _small(value: float | None) -> str:
    return "-" if value is None else f"{value:.2g}"


def _place(value: float | None) -> str:
    return "-" if value is None else f"{value:g}"


def _flips(one: Measured) -> list[Grid]:
    rows = []
    for key, flip in one.flips[:ON_SCREEN]:
        leads = tuple(map(_small, flip.leads)) if flip.leads else ()
        rows.append((shown_key(key), cut(flip.a), cut(flip.b), cut(flip.gold), *leads))
    head = ("item", "A", "B", "gold", *(("lead in A", "lead in B") if one.choices else ()))
    return [Grid(_title(f"{one.name}, answers that flip", len(one.flips)), head, rows)] if rows else []


def _partings(one: Measured) -> list[Grid]:
    rows = [
        (shown_key(key), str(parting.token), *(cut(rest) or "(ends)" for rest in parting.rests))
        for key, parting in one.partings[:ON_SCREEN]
    ]
    title = _title(f"{one.name}, texts that part", len(one.partings))
    return [Grid(title, ("item", "token", "A goes on", "B goes on"), rows)] if rows else []


def _title(what: str, count: int) -> str:
    return f"{what}: {count}" + (f", the first {ON_SCREEN}" if count > ON_SCREEN else "")


def notes(measured: Sequence[Measured]) -> list[str]:
    """The verdicts with their reasons, and their rule."""
    verdicts = {one.name: judge(one) for one in measured}
    said = [f"{name}: {verdict.word}" + (f": {verdict.why}" * bool(verdict.why)) for name, verdict in verdicts.items()]
    return [*said, f"verdict: {overall(list(verdicts.values()))}", *RULE]


def write(
    folder: Path, title: str, measured: Sequence[Measured], told: Sequence[str], sides: Mapping[str, Any]
) -> None:
    """table.md, table.csv and table.json; items.jsonl: every item with its differences."""
    make_folder(folder)
    verdicts = [judge(one) for one in measured]
    rows = [_row(one, verdict) for one, verdict in zip(measured, verdicts, strict=True)]
    write_atomically(folder / "table.md", markdown(title, for_markdown(grids(measured)), told))
    write_atomically(folder / "table.csv", grid_csv(Grid("", list(rows[0]), [list(row.values()) for row in rows])))
    found = {**sides, "verdict": overall(verdicts), "rule": RULE, "benchmarks": rows, "notes": list(told)}
    write_atomically(folder / "table.json", json.dumps(found, ensure_ascii=False, indent=2) + "\n")
    items = json_lines(_line(one.name, pair) for one in measured for pair in one.pairs)
    write_atomically(folder / "items.jsonl", items)


def _row(one: Measured, verdict: Verdict) -> dict[str, Any]:
    kind = "choice logits" if one.choices else "texts"
    return {"benchmark": one.name, "compared": kind, **one.figures(), "verdict": verdict.word, "why": verdict.why}


def _line(benchmark: str, pair: ItemParity) -> dict[str, Any]:
    named = {"benchmark": benchmark, "id": pair.key[0], "sample": pair.key[1], "prompt_sha256": pair.prompt_sha256}
    found: dict[str, Any] = {**named, "right_in_a": pair.right[0], "right_in_b": pair.right[1]}
    if pair.differences:
        found["differences"] = list(pair.differences)
    if pair.flip:
        found["flip"] = pair.flip._asdict()
    if pair.parting:
        found["parting"] = pair.parting._asdict()
    return found
