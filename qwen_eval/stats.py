"""Scores with their 95 % intervals, and the paired comparison of two runs."""

import math
import random
from collections.abc import Callable, Hashable, Iterable, Mapping, Sequence
from typing import Any, NamedTuple, TypeVar

T = TypeVar("T")
Key = TypeVar("Key", bound=Hashable)
Z95 = 1.959963984540054


class Interval(NamedTuple):
    low: float
    high: float


class Score(NamedTuple):
    """One figure of a run: `value` in the unit of the reported tables (percent for accuracies), `n` items behind it."""

    value: float | None
    n: int
    ci95: Interval | None
    metric: str = "acc"
    benchmark: str | None = None  # where it differs from the script's own name in the reported figures
    compared: bool = True  # False: never compared with a reported figure (robust extraction, extra metrics)
    split: str | None = None  # where one run has figures of several
    setting: str | None = None  # how the checkpoint was run, where the reported figures have a row for each way
    digits: int = 1  # decimals of the interval as shown
    effective: float | None = None  # of a share: items of a simple sample with its variance; n for a plain share
    as_reported: bool | None = (
        None  # whole official set, reported protocol; None: as the run is (Reporting.as_reported)
    )


def wilson(successes: float, n: float) -> Interval | None:
    """95 % Wilson score interval of a proportion, in [0, 1] (Wilson 1927); None without items.

    n: the number of items, or the effective size of an average over groups, which is no whole number. scipy's interval
    wants whole numbers, so that it is not used here; the tests hold this one against it.
    """
    if n <= 0:
        return None
    p = successes / n
    centre = (p + Z95**2 / (2 * n)) / (1 + Z95**2 / n)
    half = Z95 / (1 + Z95**2 / n) * math.sqrt(p * (1 - p) / n + Z95**2 / (4 * n**2))
    return Interval(max(0.0, centre - half), min(1.0, centre + half))


class MeanMark(float):
    """The mean of the marks of several replies to one question, 0 to 1; count: how many."""

    count: int

    def __new__(cls, marks: Sequence[bool]) -> "MeanMark":
        made = super().__new__(cls, sum(marks) / len(marks))
        made.count = len(marks)
        return made


def accuracy(correct: Iterable[float], **where: Any) -> Score:
    """Share of right items, every item with the same weight (micro average), in percent. A MeanMark is a question with
    several replies; the interval is over questions all the same."""
    marks = [mark if isinstance(mark, MeanMark) else bool(mark) for mark in correct]
    worth = _worth(marks)
    return _proportion(worth * sum(marks), worth * len(marks), len(marks), **where)


def _worth(marks: Sequence[float]) -> float:
    """How many questions with one reply a question is worth: 1 with one reply, and with several as far as the mean over
    them varies less from question to question than right or wrong does; at most the number of replies."""
    replies = sum(getattr(mark, "count", 1) for mark in marks) / max(1, len(marks))
    if replies <= 1:
        return 1
    share = sum(marks) / len(marks)
    variance = sum((mark - share) ** 2 for mark in marks) / len(marks)
    single = share * (1 - share)
    if single <= 0:
        return 1  # all right or all wrong
    return min(replies, single / variance) if variance else replies


def macro_accuracy(groups: Iterable[Sequence[float]], **where: Any) -> Score:
    """Mean over groups of the share of right items, in percent.

    The interval is Wilson's with the effective size S^2 / sum(1 / n_s): the size of a simple sample whose mean has
    the variance of this average when the S groups have one common accuracy.
    """
    filled = [list(group) for group in groups if len(group)]
    if not filled:
        return Score(None, 0, None, **where)
    value = sum(sum(group) / len(group) for group in filled) / len(filled)
    worth = _worth([mark for group in filled for mark in group])
    effective = worth * len(filled) ** 2 / sum(1 / len(group) for group in filled)
    return _proportion(value * effective, effective, sum(map(len, filled)), **where)


def _proportion(successes: float, effective: float, n: int, **where: Any) -> Score:
    interval = wilson(successes, effective)
    if interval is None:
        return Score(None, 0, None, **where)
    ci95 = Interval(100 * interval.low, 100 * interval.high)
    return Score(100 * successes / effective, n, ci95, effective=effective, **where)


def mean_mark(marks: Iterable[float], **where: Any) -> Score:
    """Mean over items of marks between 0 and 1, in percent.

    The interval is Wilson's for a share of this size. It is never too narrow: of all marks with the same mean, those
    that are 0 or 1 vary most.
    """
    found = list(marks)
    return _proportion(sum(found), len(found), len(found), **where)


def mean(values: Iterable[float], **where: Any) -> Score:
    """Mean over items of a score that is more than right or wrong, in the unit of the values; interval by bootstrap."""
    found = list(values)
    if not found:
        return Score(None, 0, None, **where)
    interval = bootstrap(found, lambda sampled: sum(sampled) / len(sampled))
    return Score(sum(found) / len(found), len(found), interval, **where)


def bootstrap(
    values: Sequence[T], statistic: Callable[[Sequence[T]], float], draws: int = 1000, seed: int = 0
) -> Interval:
    """95 % percentile bootstrap over items (Efron 1979) of a statistic that is not a proportion.

    Not scipy's: that one refuses a single item, takes numbers where a corpus has texts, and draws other samples, so
    that intervals would differ from those of finished runs.
    """
    rng = random.Random(seed)
    found = sorted(statistic(rng.choices(values, k=len(values))) for _ in range(draws))
    return Interval(found[int(0.025 * draws)], found[min(draws - 1, int(0.975 * draws))])


class Comparison(NamedTuple):
    """Paired comparison with an earlier run on the same items."""

    n: int
    gained: int  # wrong before, right now
    lost: int  # right before, wrong now
    p_value: float
    significantly_worse: bool


def paired(before: Mapping[Key, bool], now: Mapping[Key, bool]) -> Comparison:
    """Exact McNemar test (two-sided, McNemar 1947) on the items both have; worse: p < 0.05 and lost > gained."""
    shared = before.keys() & now.keys()
    gained = sum(now[key] and not before[key] for key in shared)
    lost = sum(before[key] and not now[key] for key in shared)
    p_value = 1.0
    if gained + lost:
        from scipy.stats import binomtest  # here: it takes a second to import

        p_value = float(binomtest(min(gained, lost), gained + lost).pvalue)
    return Comparison(len(shared), gained, lost, p_value, p_value < 0.05 and lost > gained)
