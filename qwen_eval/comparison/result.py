"""The comparison of two runs: each figure with its test, its interval, and what such items could have shown."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, NamedTuple

from qwen_eval.comparison.clusters import clusters
from qwen_eval.comparison.figures import Figure, figures
from qwen_eval.comparison.pairing import Pairing, pair_up
from qwen_eval.comparison.power import Assumptions, smallest_change, smallest_loss
from qwen_eval.comparison.rows import Key
from qwen_eval.comparison.sides import Side
from qwen_eval.comparison.significance import (
    EXACT_CLUSTERS,
    Array,
    PValues,
    bootstrap,
    exchange_clusters,
    exchange_values,
    holm,
    marks_interval,
    mcnemar,
)
from qwen_eval.reporting.verdict import MIN_VALUES, PERCENT, SCALES
from qwen_eval.stats import Interval, paired

import numpy as np

MCNEMAR, CLUSTERED, EXCHANGES = "McNemar, exact", "clusters exchanged, exact", "exchanges"


class Change(NamedTuple):
    """An item whose result is not the same: -1 lost, +1 gained; for a figure that is no mark the difference."""

    key: Key
    figure: str
    difference: float
    a: float
    b: float


@dataclass
class Row:
    """One figure of one benchmark. a, b, difference, ci95 in the figure's unit; lost, gained: items, None for a figure
    that is no mark; smallest: the smallest true loss that these items could have shown, None: none could; p_holm:
    p.loss and p.gain for all figures together."""

    benchmark: str
    figure: str
    metric: str
    a: float
    b: float
    difference: float
    ci95: Interval | None
    items: int
    clusters: int
    lost: int | None
    gained: int | None
    test: str
    p: PValues
    smallest: float | None
    margin: float
    lower_is_better: bool
    comparable: bool
    p_holm: tuple[float, float] = (1.0, 1.0)
    word: str = ""
    changes: list[Change] = field(default_factory=list)


@dataclass
class Benchmark:
    """One benchmark of both sides. rows: filled by `compare`."""

    name: str
    a: Side
    b: Side
    pairing: Pairing
    figures: list[Figure]
    rows: list[Row] = field(default_factory=list)

    @property
    def comparable(self) -> bool:
        return all(row.comparable for row in self.rows)


def prepare(a: Mapping[str, Side], b: Mapping[str, Side]) -> list[Benchmark]:
    """Pair the items of every benchmark that both have. UserError where one has no shared item."""
    pairings = {name: pair_up(a[name], b[name]) for name in a if name in b}
    return [Benchmark(name, a[name], b[name], one, figures(name, one.pairs)) for name, one in pairings.items()]


def level(given: Assumptions, benchmarks: Sequence[Benchmark], one: Benchmark) -> Assumptions:
    """With the level of Holm's first step, at which a loss is found that is the only one. Each benchmark has an equal
    share of alpha, and in it each figure: the 20 figures of a perplexity run take nothing from the others."""
    return given._replace(alpha=given.alpha / len(benchmarks) / len(one.figures))


def compare(benchmarks: Sequence[Benchmark], given: Assumptions, margin: float, ignore_differences: bool) -> None:
    """Test every figure. margin: in points, up to which a loss may be missed."""
    weights = []
    for one in benchmarks:
        comparable = ignore_differences or not one.pairing.differences
        own = level(given, benchmarks, one)
        one.rows = [_row(one.name, figure, own, margin, comparable) for figure in one.figures]
        weights += [1 / len(one.rows)] * len(one.rows)
    every = [row for one in benchmarks for row in one.rows]
    losses, gains = (holm([getattr(row.p, side) for row in every], weights) for side in ("loss", "gain"))
    for row, loss, gain in zip(every, losses, gains, strict=True):
        row.p_holm = (loss, gain)
        row.word = _word(row, given.alpha)


def _word(row: Row, alpha: float) -> str:
    if not row.comparable:
        return "not comparable"
    if row.p_holm[0] <= alpha:
        return "worse"
    if row.p_holm[1] <= alpha:
        return "better"
    return "not enough data" if row.smallest is None or row.smallest > row.margin else "no loss shown"


def _row(benchmark: str, figure: Figure, given: Assumptions, margin: float, comparable: bool) -> Row:
    names = clusters(benchmark, figure.pairs)
    numbers = np.unique(names, return_inverse=True)[1]
    count = int(numbers.max()) + 1
    a, b = (_sums(side, numbers, count) for side in (figure.a, figure.b))
    before, after = (float(figure.of_sums(side.sum(axis=0))) for side in (a, b))
    scale = SCALES.get(figure.metric, PERCENT)
    row = Row(
        benchmark,
        figure.name,
        figure.metric,
        before,
        after,
        after - before,
        None,
        len(figure.pairs),
        count,
        None,
        None,
        "",
        PValues(1.0, 1.0, 1.0),
        None,
        margin * scale.point * (abs(before) if scale.relative else 1.0),
        figure.lower_is_better,
        comparable,
        changes=_changes(figure),
    )
    (_test_marks if figure.marks else _test_values)(row, figure, a, b, given)
    return row


def _sums(values: Array, numbers: Array, count: int) -> Array:
    found = np.zeros((count, values.shape[1]))
    np.add.at(found, numbers, values)
    return found


def _changes(figure: Figure) -> list[Change]:
    """Items that differ, the largest losses first."""
    found = [
        Change(pair.key, figure.name, b - a, a, b)
        for pair, (a, b) in zip(figure.pairs, figure.values, strict=bool(figure.values))
        if a != b
    ]
    return sorted(found, key=lambda change: change.difference)


def _test_marks(row: Row, figure: Figure, a: Array, b: Array, given: Assumptions) -> None:
    keys = [pair.key for pair in figure.pairs]
    flips = paired(*(dict(zip(keys, map(bool, side[:, 0]), strict=True)) for side in (figure.a, figure.b)))
    row.gained, row.lost = flips.gained, flips.lost
    disagreement = max(given.disagreement, (flips.gained + flips.lost) / row.items)
    effective = row.items
    if row.clusters == row.items:
        row.test, row.p = MCNEMAR, mcnemar(flips.gained, flips.lost)
        row.ci95 = marks_interval(flips.gained, flips.lost, row.items)
    else:
        differences = np.rint(b[:, 0] - a[:, 0]).astype(int)
        row.test, row.p = f"{CLUSTERED} ({row.clusters})", exchange_clusters(differences)
        effective = int(row.items / design_effect(figure.b[:, 0] - figure.a[:, 0], b[:, 0] - a[:, 0], a[:, 1]))
        if row.clusters >= MIN_VALUES and differences.any():
            row.ci95 = bootstrap(a, b, figure.of_sums)[0]
    if 0.5**row.clusters <= given.alpha:
        share = smallest_loss(effective, given._replace(disagreement=disagreement))
        row.smallest = None if share is None else 100 * share


def design_effect(differences: Array, of_clusters: Array, sizes: Array) -> float:
    """How much wider the mean of the items' differences is spread than if they were independent; at least 1.

    differences: of the items; of_clusters: their sums; sizes: items of each cluster."""
    mean = differences.mean()
    single = ((differences - mean) ** 2).sum()
    if single == 0 or len(sizes) < 2:
        return 1.0
    together = len(sizes) / (len(sizes) - 1) * ((of_clusters - mean * sizes) ** 2).sum()
    return max(1.0, float(together / single))


def _test_values(row: Row, figure: Figure, a: Array, b: Array, given: Assumptions) -> None:
    row.p = exchange_values(a, b, figure.goodness)
    kind = "every one" if row.clusters <= EXACT_CLUSTERS else "drawn"
    row.test = f"{EXCHANGES} of {row.clusters} items, {kind}"
    if row.clusters != row.items:
        row.test = f"{EXCHANGES} of {row.clusters} clusters, {kind}"
    if row.clusters < MIN_VALUES:  # a bootstrap over fewer says nothing about their spread
        return
    interval, error, error_of_a = bootstrap(a, b, figure.of_sums)
    row.ci95 = interval if error > 0 else None
    if 0.5**row.clusters <= given.alpha:
        row.smallest = smallest_change(error, error_of_a, given)


def as_json(row: Row) -> dict[str, Any]:
    """A row as comparison.json has it."""
    found = {name: value for name, value in vars(row).items() if name not in ("changes", "p", "p_holm", "word", "ci95")}
    return {
        **found,
        "ci95": list(row.ci95) if row.ci95 else None,
        "p_loss": row.p.loss,
        "p_gain": row.p.gain,
        "p_two_sided": row.p.two_sided,
        "p_loss_holm": row.p_holm[0],
        "p_gain_holm": row.p_holm[1],
        "verdict": row.word,
    }
