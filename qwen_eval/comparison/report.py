"""The comparison as people read it: tables on the screen, and files."""

import json
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

from qwen_eval.comparison.clusters import clusters
from qwen_eval.comparison.power import Assumptions, items_needed, smallest_loss
from qwen_eval.comparison.result import Benchmark, Change, Row, as_json, level
from qwen_eval.comparison.rows import Pair, shown_key
from qwen_eval.comparison.sides import Side
from qwen_eval.reporting.journal import make_folder
from qwen_eval.reporting.tables import Grid, grid_csv, markdown, shown, signed, write_atomically
from qwen_eval.reporting.verdict import PERCENT, SCALES

ON_SCREEN = 10
CELL = 60  # characters of a prediction on the screen
LOSSES = (0.01, 0.02, 0.03, 0.05)
HEAD = (
    "", "A", "B", "difference", "95 % interval", "items", "lost", "gained", "p of a loss", "Holm", "smallest loss",
    "test", "verdict",
)  # fmt: skip


# -- what can be found at all ------------------------------------------------------------------------------------------


def percent(share: float) -> str:
    return f"{100 * share:.3g} %"


def plan(n: int, given: Assumptions) -> tuple[str, Grid]:
    """What n items can show, and how many items a loss needs."""
    rows = [(f"{100 * loss:g} points", f"{items_needed(loss, given):,}") for loss in LOSSES]
    return smallest(n, given), Grid("", ("true loss", "items needed"), rows)


def smallest(n: int, given: Assumptions) -> str:
    """The smallest loss that n items can show, and what that rests on."""
    share = smallest_loss(n, given)
    terms = (
        f"found in {percent(given.power)} of cases at level {percent(given.alpha)}, "
        f"if the runs disagree on {percent(given.disagreement)} of the items"
    )
    if share is None:
        return f"{n} items can show no loss at all, not even that of every item ({terms})"
    return f"{n} items can show a true loss of {100 * share:.1f} points or more ({terms})"


def beforehand(benchmarks: Sequence[Benchmark], given: Assumptions) -> list[str]:
    """What each benchmark's items can show, before anything is compared."""
    return [f"{one.name}: {_beforehand(one, level(given, benchmarks, one))}" for one in benchmarks]


def _beforehand(one: Benchmark, given: Assumptions) -> str:
    marks = [figure for figure in one.figures if figure.marks]
    if not marks:
        count = len(one.pairing.pairs)
        return f"{count} items with a score each: what loss they can show depends on its spread and stands in the table"
    largest = max(marks, key=lambda figure: len(figure.pairs))
    items, groups = len(largest.pairs), len(set(clusters(one.name, largest.pairs)))
    if groups == items:
        return smallest(items, given)
    if 0.5**groups > given.alpha:
        return f"{items} items in {groups} clusters, too few to show any loss at level {percent(given.alpha)}"
    return f"at best, {smallest(items, given)}; they lie in {groups} clusters, whose items may go wrong together"


# -- tables ------------------------------------------------------------------------------------------------------------


def grid(benchmarks: Sequence[Benchmark]) -> Grid:
    rows = []
    for benchmark in benchmarks:
        for row in benchmark.rows:
            name = benchmark.name if len(benchmark.rows) == 1 else f"{benchmark.name} {row.figure}"
            rows.append((name, *_cells(row)))
    return Grid("", HEAD, rows)


def _cells(row: Row) -> tuple[str, ...]:
    digits = decimals(row.metric)
    interval = f"{signed(row.ci95.low, digits)} to {signed(row.ci95.high, digits)}" if row.ci95 else "-"
    lost, gained = ("" if one is None else str(one) for one in (row.lost, row.gained))
    smallest = "none" if row.smallest is None else shown(row.smallest, digits)
    p = [f"{value:.3g}" for value in (row.p.loss, row.p_holm[0])]
    figures = (shown(row.a, digits), shown(row.b, digits), signed(row.difference, digits))
    return (*figures, interval, str(row.items), lost, gained, *p, smallest, row.test, row.word)


def decimals(metric: str) -> int:
    return 3 if SCALES.get(metric, PERCENT).point < 1 else 2


def notes(benchmark: Benchmark) -> list[str]:
    """What a reader must know of the items: which are left out, and what else than the model differs."""
    pairing, found = benchmark.pairing, []
    for side, names, missing in (
        ("A", pairing.only_a, benchmark.a.missing),
        ("B", pairing.only_b, benchmark.b.missing),
    ):
        if names:
            found.append(f"{benchmark.name}: {len(names)} items only in {side}, in no figure: {some(names)}")
        if missing:
            found.append(f"{benchmark.name}: {len(missing)} items without a reply in {side}: {some(missing)}")
    for side, read in (("A", benchmark.a), ("B", benchmark.b)):
        found += [f"{benchmark.name}, {side}: {remark}" for remark in read.remarks]
    for said in pairing.differences:
        end = "compared all the same (--ignore-differences)" if benchmark.comparable else "no regression can be told"
        found.append(f"{benchmark.name}: {said}: {end}")
    return found


def some(names: Sequence[str], count: int = 5) -> str:
    return ", ".join(names[:count]) + (", ..." if len(names) > count else "")


# -- flipped items -----------------------------------------------------------------------------------------------------


def flipped(benchmark: Benchmark) -> list[Grid]:
    """The first items lost and gained, with both predictions."""
    pairs, found = {pair.key: pair for pair in benchmark.pairing.pairs}, []
    for row in benchmark.rows:
        lost = [change for change in row.changes if change.difference < 0]
        gained = [change for change in row.changes if change.difference > 0]
        for word, changes in (("lost", lost), ("gained", gained[::-1] if row.lost is None else gained)):
            if row.lost is None:
                word = {"lost": "lower", "gained": "higher"}[word]
            title = f"{benchmark.name} {row.figure}, {word}: {len(changes)} items"
            title += f", the first {ON_SCREEN}" if len(changes) > ON_SCREEN else ""
            rows = [_flip_cells(change, pairs[change.key], row) for change in changes[:ON_SCREEN]]
            found += [Grid(title, ("item", "A", "B", "gold"), rows)] if rows else []
    return found


def _flip_cells(change: Change, pair: Pair, row: Row) -> tuple[str, ...]:
    a, b = cut(pair.a.prediction), cut(pair.b.prediction)
    if row.lost is None:
        digits = decimals(row.metric)
        a, b = f"{shown(change.a, digits)}: {a}", f"{shown(change.b, digits)}: {b}"
    return shown_key(change.key), a, b, cut(pair.a.gold)


def cut(text: str) -> str:
    """One line of a prediction, at most CELL characters."""
    text = " ".join(text.split())
    return text if len(text) <= CELL else text[: CELL - 3] + "..."


def for_markdown(grids: Iterable[Grid]) -> list[Grid]:
    """The grids with cells that cannot end their column or become HTML: a model wrote them."""
    return [
        part._replace(rows=[[cell.replace("|", "\\|").replace("<", "&lt;") for cell in row] for row in part.rows])
        for part in grids
    ]


# -- prompts -----------------------------------------------------------------------------------------------------------


def other_prompts(benchmark: Benchmark) -> list[str]:
    """The first item that was asked in other words, with both prompts; of two harnesses only."""
    pairs = benchmark.pairing.other_prompts
    if not pairs or not (benchmark.a.lm_eval or benchmark.b.lm_eval):
        return []
    first = pairs[0]
    count = (
        f"{len(pairs)} of {len(benchmark.pairing.pairs)} items have another prompt; the first, {shown_key(first.key)}"
    )
    place = next(
        (n for n, (one, other) in enumerate(zip(first.a.prompt, first.b.prompt, strict=False)) if one != other),
        min(len(first.a.prompt), len(first.b.prompt)),
    )
    beginning = max(0, place - CELL)
    parts = [json.dumps(row.prompt[beginning : place + CELL], ensure_ascii=False) for row in (first.a, first.b)]
    where = f"they part at character {place}"
    return [f"{benchmark.name}: {count}: {where}: A has {parts[0]}, B has {parts[1]} (whole in prompts.jsonl, with -o)"]


# -- files -------------------------------------------------------------------------------------------------------------


def write(
    folder: Path, title: str, benchmarks: Sequence[Benchmark], told: Sequence[str], extra: dict[str, Any]
) -> None:
    """comparison.md, .csv and .json; flips.jsonl: the items that changed; prompts.jsonl: those asked otherwise."""
    make_folder(folder)
    table = grid(benchmarks)
    parts = [table, *(part for benchmark in benchmarks for part in flipped(benchmark))]
    write_atomically(folder / "comparison.md", markdown(title, for_markdown(parts), told))
    write_atomically(folder / "comparison.csv", grid_csv(table))
    found = {
        **extra,
        "figures": [as_json(row) for benchmark in benchmarks for row in benchmark.rows],
        "benchmarks": {benchmark.name: _benchmark_json(benchmark) for benchmark in benchmarks},
        "notes": list(told),
    }
    write_atomically(folder / "comparison.json", json.dumps(found, ensure_ascii=False, indent=2) + "\n")
    write_atomically(folder / "flips.jsonl", json_lines(flip for one in benchmarks for flip in _flips(one)))
    write_atomically(folder / "prompts.jsonl", json_lines(prompt for one in benchmarks for prompt in _prompts(one)))


def json_lines(rows: Iterable[dict[str, Any]]) -> str:
    return "".join(json.dumps(row, ensure_ascii=False) + "\n" for row in rows)


def _benchmark_json(benchmark: Benchmark) -> dict[str, Any]:
    def side(one: Side) -> dict[str, Any]:
        return {"path": str(one.path), "model": one.model, "items": len(one.rows), "without_reply": one.missing}

    pairing = benchmark.pairing
    return {
        "a": side(benchmark.a),
        "b": side(benchmark.b),
        "shared_items": len(pairing.pairs),
        "only_a": pairing.only_a,
        "only_b": pairing.only_b,
        "comparable": benchmark.comparable,
        "differences": pairing.differences,
    }


def _flips(benchmark: Benchmark) -> Iterable[dict[str, Any]]:
    pairs = {pair.key: pair for pair in benchmark.pairing.pairs}
    for row in benchmark.rows:
        for change in row.changes:
            pair = pairs[change.key]
            marks = {} if row.lost is not None else {"value_a": change.a, "value_b": change.b}
            yield {
                "benchmark": benchmark.name,
                "figure": row.figure,
                "id": change.key[0],
                "sample": change.key[1],
                "change": "lost" if change.difference < 0 else "gained",
                **marks,
                "prediction_a": pair.a.prediction,
                "prediction_b": pair.b.prediction,
                "gold": pair.a.gold,
                **({"prompt_a": pair.a.prompt, "prompt_b": pair.b.prompt} if pair.a.prompt != pair.b.prompt else {}),
            }


def _prompts(benchmark: Benchmark) -> Iterable[dict[str, Any]]:
    for pair in benchmark.pairing.other_prompts:
        named = {"benchmark": benchmark.name, "id": pair.key[0], "sample": pair.key[1]}
        yield {**named, "prompt_a": pair.a.prompt, "prompt_b": pair.b.prompt}
