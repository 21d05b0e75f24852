"""Tests of "B is worse than A" on pairs, exact wherever they can be, and intervals of the difference.

Every test is of one family: if the two runs were equally good, each cluster of items might as well have had A's and B's
results exchanged. A loss is significant when few of these exchanges give so large a loss.

* marks, each item by itself: McNemar's exact test (McNemar 1947), the binomial distribution of the flipped items;
* marks in clusters: every exchange of whole clusters, counted exactly by convolution. McNemar's test would take the
  items of a cluster, which go wrong together, for so many observations, and raise false alarms;
* other figures: every exchange up to 12 clusters, else 9,999 that are drawn by a fixed seed.

`loss` is one-sided, so that a false "worse" has at most the probability alpha; so is `gain`.
"""

from collections.abc import Callable, Iterator, Sequence
from typing import Any, NamedTuple, TypeAlias

from qwen_eval.stats import Z95, Interval

import numpy as np
from numpy.typing import NDArray

Array: TypeAlias = NDArray[Any]
#: from sums over items, shape (..., columns), to the figure, shape (...)
Statistic: TypeAlias = Callable[[Array], Array]

EXACT_CLUSTERS = 12  # 4,096 exchanges
DRAWS = 9_999
BOOTSTRAP_DRAWS = 2_000
CHUNK = 250  # draws at a time: 14,042 items would else take a gigabyte


class PValues(NamedTuple):
    """loss, gain: one-sided, that B is worse or better than A; two_sided: that they differ."""

    loss: float
    gain: float
    two_sided: float


def mcnemar(gained: int, lost: int) -> PValues:
    """McNemar's exact test. gained: items that are right in B alone; lost: right in A alone."""
    from scipy.stats import binomtest  # here: it takes a second to import

    if not gained + lost:
        return PValues(1.0, 1.0, 1.0)
    loss, gain, both = (
        float(binomtest(gained, gained + lost, alternative=side).pvalue) for side in ("less", "greater", "two-sided")
    )
    return PValues(loss, gain, both)


def exchange_clusters(differences: Sequence[int] | Array) -> PValues:
    """The exact test on clusters of marks. differences: of each cluster, right items in B less those in A.

    The sum of the differences with random signs has its distribution by convolution; with clusters of one item it is
    the binomial one, and the test McNemar's.
    """
    from scipy.stats import binom

    given = np.asarray(differences, dtype=int)
    sizes = np.abs(given[given != 0])
    chances = binom.pmf(np.arange((sizes == 1).sum() + 1), (sizes == 1).sum(), 0.5)  # that the gains sum up to 0, 1 ...
    for size in sizes[sizes > 1]:
        wider = np.zeros(len(chances) + size)
        wider[: len(chances)] += chances / 2
        wider[size:] += chances / 2
        chances = wider
    gained = int(given[given > 0].sum())
    loss, gain = min(1.0, chances[: gained + 1].sum()), min(1.0, chances[gained:].sum())
    return PValues(float(loss), float(gain), float(min(1.0, 2 * min(loss, gain))))


def exchange_values(a: Array, b: Array, statistic: Statistic, seed: int = 0) -> PValues:
    """The test on any figure. a, b: sums of each cluster, shape (clusters, columns); a larger figure is better."""
    difference, total_a, total_b = b - a, a.sum(axis=0), b.sum(axis=0)
    observed = float(statistic(total_b) - statistic(total_a))
    found = np.concatenate(
        [
            statistic(total_b - moved) - statistic(total_a + moved)
            for signs in _exchanges(len(a), seed)
            for moved in [signs @ difference]
        ]
    )
    tie = 1e-9 * max(1.0, abs(observed))  # the same exchange, summed in another order
    extra = 0 if len(a) <= EXACT_CLUSTERS else 1  # what was observed is one of the exchanges
    loss, gain = (
        float((count + extra) / (len(found) + extra))
        for count in ((found <= observed + tie).sum(), (found >= observed - tie).sum())
    )
    return PValues(loss, gain, min(1.0, 2 * min(loss, gain)))


def _exchanges(clusters: int, seed: int) -> Iterator[Array]:
    """Which clusters are exchanged, as rows of 0 and 1."""
    if clusters <= EXACT_CLUSTERS:
        yield (np.arange(2**clusters)[:, None] >> np.arange(clusters) & 1).astype(float)
        return
    rng = np.random.default_rng(seed)
    for start in range(0, DRAWS, CHUNK):
        yield rng.integers(0, 2, (min(CHUNK, DRAWS - start), clusters)).astype(float)


def holm(p_values: Sequence[float], weights: Sequence[float] | None = None) -> list[float]:
    """The p-values adjusted for their number (Holm 1979), in the order given.

    weights: the share of the level that each has; equal ones are Holm's usual correction.
    """
    shares = [1.0] * len(p_values) if weights is None else list(weights)
    order = sorted(range(len(p_values)), key=lambda one: p_values[one] / shares[one])
    rest, largest = sum(shares), 0.0
    adjusted = [0.0] * len(p_values)
    for index in order:
        largest = max(largest, min(1.0, p_values[index] * rest / shares[index]))
        adjusted[index] = largest
        rest -= shares[index]
    return adjusted


# -- intervals ---------------------------------------------------------------------------------------------------------


def marks_interval(gained: int, lost: int, n: int) -> Interval:
    """95 % interval of the difference of two paired shares, in percent points (Bonett and Price 2012): Wald's with one
    item added to the gained and to the lost ones, which has its width also where no item flipped."""
    up, down = (gained + 1) / (n + 2), (lost + 1) / (n + 2)
    half = Z95 * float(np.sqrt((up + down - (up - down) ** 2) / (n + 2)))
    low, high = up - down - half, up - down + half
    return Interval(100 * max(-1.0, low), 100 * min(1.0, high))


def bootstrap(a: Array, b: Array, statistic: Statistic, seed: int = 0) -> tuple[Interval, float, float]:
    """Paired bootstrap over clusters: the 95 % percentile interval of B's figure less A's, its standard error, and that
    of A's figure. a, b: sums of each cluster, shape (clusters, columns)."""
    rng = np.random.default_rng(seed)
    differences, figures = [], []
    for start in range(0, BOOTSTRAP_DRAWS, CHUNK):
        draws = min(CHUNK, BOOTSTRAP_DRAWS - start)
        weights = rng.multinomial(len(a), np.full(len(a), 1 / len(a)), draws).astype(float)
        figures.append(statistic(weights @ a))
        differences.append(statistic(weights @ b) - figures[-1])
    found, before = np.concatenate(differences), np.concatenate(figures)
    low, high = np.percentile(found, [2.5, 97.5])
    return Interval(float(low), float(high)), float(found.std(ddof=1)), float(before.std(ddof=1))
