"""The verdict on a figure that stands beside a reported one. Rule and reasons for users: EVALUATION.md, "The verdict".

A reported figure was measured on the same questions, so the interval over questions does not say whether two figures
are "the same number": two engines on the same questions differ by a few near ties only, the engine band. The interval
serves where only a part of the questions was asked, or where a figure lies outside of the band.
"""

import math
from typing import NamedTuple

from qwen_eval.stats import Z95, Interval, Score, wilson

MIN_VALUES = 5  # a bootstrap over fewer values says nothing about their spread


class Scale(NamedTuple):
    """How differences of a metric are judged, in its unit; where `relative`, as shares of the reported value."""

    band: float  # two engines on the same questions differ by no more
    too_wide: float  # a run that could not even show a difference of this size has too few items
    point: float  # the size of one point of --band
    relative: bool = False
    items: bool = False  # a figure is a share of items, so that a difference is a number of items too


PERCENT = Scale(band=1.0, too_wide=10.0, point=1.0, items=True)
SCALES = {
    "rouge_l": Scale(band=1.0, too_wide=10.0, point=1.0),  # in percent
    "tool_input_rouge_l": Scale(band=0.01, too_wide=0.1, point=0.01),  # from 0 to 1
    "bleu": Scale(band=0.5, too_wide=10.0, point=1.0),
    "ppl": Scale(band=0.02, too_wide=0.2, point=0.01, relative=True),
}


class Verdict(NamedTuple):
    """`word`: reproduced, consistent, too few items, higher or lower. All else in the unit of the figure."""

    word: str
    difference: float  # the figure less the reported one
    difference_items: float | None  # the same in items; None for a metric that counts none
    smallest_difference: float | None  # that this many items could show; None where nothing can be said
    band: float


def judge(
    score: Score, reported: float, decimals: int = 1, as_reported: bool = True, band: float | None = None
) -> Verdict | None:
    """The verdict on a score; None for one without a value.

    decimals: of the reported value, which stands for the range that rounds to it (58.2 is 58.15 to 58.25).
    as_reported: the whole official set, by the reported protocol; only then the verdict can be `reproduced`.
    band: of --band, in points; None: the metric's own.
    """
    if score.value is None:
        return None
    scale = SCALES.get(score.metric, PERCENT)
    unit = abs(reported) if scale.relative else 1.0
    if band is not None:
        width = band * scale.point * unit
    else:
        width = max(scale.band * unit, 2 * 100 / score.n if scale.items else 0.0)
    difference = score.value - reported
    smallest = smallest_difference(score, reported)
    slack = 0.5 * 10**-decimals + 1e-9  # the limits of the range are in it, whatever binary makes of them
    if as_reported and abs(difference) <= width + 1e-9:
        word = "reproduced"
    elif smallest is not None and not _holds(score.ci95, reported, slack):
        word = "higher" if difference > 0 else "lower"
    elif smallest is None or smallest > scale.too_wide * unit:
        word = "too few items"
    else:
        word = "consistent"
    return Verdict(word, difference, difference / 100 * score.n if scale.items else None, smallest, width)


def _holds(interval: Interval | None, reported: float, slack: float) -> bool:
    return interval is not None and interval.low <= reported + slack and interval.high >= reported - slack


def smallest_difference(score: Score, reported: float) -> float | None:
    """How far from the reported value a figure of this many items lies when its interval no longer holds that value.

    Of a share p: Wilson's interval holds p exactly where the difference is at most 1.96 sqrt(p (1 - p) / n). Near 0 and
    100 % that goes to nothing, and half the width of the interval of n items at p counts. Of other figures: from the
    value to the end of the bootstrap's interval on the side of the reported one. None where nothing can be said.
    """
    if score.effective:
        p, n = min(1.0, max(0.0, reported / 100)), score.effective
        low, high = wilson(p * n, n) or Interval(0.0, 1.0)
        return 100 * max(Z95 * math.sqrt(p * (1 - p) / n), (high - low) / 2)
    if score.ci95 is None or score.value is None or score.n < MIN_VALUES or score.ci95.low == score.ci95.high:
        return None
    return score.ci95.high - score.value if reported >= score.value else score.value - score.ci95.low
