"""The demo's model card: its figures beside those of a run, and how a run's figures are written into it.

`show` prints the table of `make demo`; `write` puts the figures of a run into `reported_numbers.csv` and between the
markers of README.md, in the layout of the Qwen cards.
"""

from __future__ import annotations

import csv
from collections.abc import Collection, Sequence
from pathlib import Path
from typing import Any, NamedTuple

from pandas import DataFrame

HERE = Path(__file__).resolve().parent
CSV = HERE / "reported_numbers.csv"
README = HERE / "README.md"
COLUMNS = "table,source,model,version,variant,benchmark,split,shots,metric,unit,value".split(",")
KEY = ("benchmark", "split", "shots", "metric", "variant")  # what tells a run's figures apart
BEGIN, END = "<!-- figures: written by run.py --write-card -->\n", "<!-- end of figures -->\n"


class Figure(NamedTuple):
    """One figure of a run that the card has a row for. key: its columns in reported_numbers.csv."""

    job: str
    model: str
    name: str
    key: dict[str, Any]
    value: float
    ci95: tuple[float, float] | None
    n: int
    reported: float | None
    verdict: str | None
    difference: float | None = None
    difference_items: float | None = None
    smallest_difference: float | None = None  # that so many items could show

    @property
    def as_card(self) -> bool:
        """Whether it is the card's to the last digit printed."""
        return self.reported is not None and f"{self.value:.2f}" == f"{self.reported:.2f}"


def lost(figures: Sequence[Figure], runs: Collection[str]) -> list[str]:
    """The card's figures of these runs that they no longer give."""
    given = {(one.job, *_columns(one.key)) for one in figures}
    with open(CSV, newline="", encoding="utf-8") as lines:
        rows = [row for row in csv.DictReader(lines) if row["table"] in runs]
    return [
        " ".join(filter(None, key))
        for row in rows
        if (key := (row["table"], *(row[name] for name in KEY))) not in given
    ]


def _columns(key: dict[str, Any]) -> tuple[str, ...]:
    return tuple("" if key[name] is None else str(key[name]) for name in KEY)


def show(figures: Sequence[Figure], runs: Collection[str]) -> list[str]:
    """Print every figure beside the card's; returns a line for each that moved or is gone."""
    beside = ("card", "difference", "in items", "smallest difference", "verdict", "exact")
    head = ("model", "run", "figure", "value", "95 % interval", "n", *beside)
    rows = []
    for one in figures:
        low, high = one.ci95 or (None, None)
        interval = "" if low is None else f"{low:.1f} to {high:.1f}"
        card = "-" if one.reported is None else f"{one.reported:.2f}"
        exact = "yes" if one.as_card else "NO"
        signed = [
            "" if gap is None else f"{round(gap, 2) + 0.0:+.{digits}f}"
            for gap, digits in ((one.difference, 2), (one.difference_items, 1))
        ]
        smallest = "" if one.smallest_difference is None else f"{one.smallest_difference:.2f}"
        found = (one.model, one.job, one.name, f"{one.value:.2f}", interval, str(one.n))
        rows.append((*found, card, *signed, smallest, one.verdict or "-", exact))
    print(_markdown(head, rows))
    moved = [f"moved: {o.job} {o.name} {o.value:.2f}, card {o.reported}" for o in figures if not o.as_card]
    print(f"{len(figures) - len(moved)} of {len(figures)} figures are exactly the card's")
    moved += [f"gone: {name}, which the card has" for name in lost(figures, runs)]
    print("".join(f"{line}\n" for line in moved), end="")
    return moved


def _markdown(head: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    widths = [max(len(row[i]) for row in [head, *rows]) for i in range(len(head))]
    lines = [head, ["-" * width for width in widths], *rows]
    return "".join("| " + " | ".join(c.ljust(w) for c, w in zip(row, widths, strict=True)) + " |\n" for row in lines)


def write(figures: Sequence[Figure]) -> None:
    CSV.write_text(as_csv(figures), encoding="utf-8")
    before, rest = README.read_text(encoding="utf-8").split(BEGIN)
    README.write_text(f"{before}{BEGIN}\n{tables(figures)}\n{END}{rest.split(END)[1]}", encoding="utf-8")


def as_csv(figures: Sequence[Figure]) -> str:
    """What `reported_numbers.csv` says of these figures, in its columns."""
    rows = []
    for one in figures:
        key = dict(zip(KEY, _columns(one.key), strict=True))
        unit = {"ppl": "ppl", "bleu": "BLEU"}.get(str(key["metric"]), "%")
        row = {"table": one.job, "source": "demo-card", "model": one.model, "version": "", "unit": unit, **key}
        rows.append({**row, "value": f"{one.value:.2f}"})
    return str(DataFrame(rows, columns=COLUMNS).to_csv(index=False, lineterminator="\n"))


def tables(figures: Sequence[Figure]) -> str:
    """The card's tables: base and chat models with their figures, and the perplexity by length."""
    out = []
    for model in sorted({one.model for one in figures}):
        mine = [one for one in figures if one.model == model and one.key["metric"] != "ppl"]
        rows = [(one.job, one.name, _shots(one), f"{one.value:.2f}", _interval(one), str(one.n)) for one in mine]
        out.append(f"### {model}\n\n" + _markdown(("run", "figure", "shots", "value", "95 % interval", "n"), rows))
    ppl = [one for one in figures if one.key["metric"] == "ppl"]
    if ppl:
        lengths = list(dict.fromkeys(str(one.key["split"]) for one in ppl))
        settings = list(dict.fromkeys(str(one.key["variant"]) for one in ppl))
        at = {(one.key["variant"], one.key["split"]): f"{one.value:.2f}" for one in ppl}
        grid = [[setting, *(at[setting, length] for length in lengths)] for setting in settings]
        head = ("configuration", *(length.removeprefix("seq_") for length in lengths))
        out.append("### Perplexity at lengths beyond training (S = 512)\n\n" + _markdown(head, grid))
    return "\n".join(out)


def _shots(one: Figure) -> str:
    return "" if one.key["shots"] is None else str(one.key["shots"])


def _interval(one: Figure) -> str:
    return "" if one.ci95 is None else f"{one.ci95[0]:.1f} to {one.ci95[1]:.1f}"
