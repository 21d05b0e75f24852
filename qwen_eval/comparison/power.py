"""How small a loss can be found with so many items: by the exact test itself, not by a normal approximation.

The model: of n items a share `disagreement` is right in one run only. A true loss is the share that B loses less the
share that it gains; where it is larger than the disagreement, all of the flipped items are lost ones.
"""

import math
from functools import lru_cache
from typing import NamedTuple

import numpy as np


class Assumptions(NamedTuple):
    """disagreement: share of the items that only one of the runs has right; power: how often the loss is to be found;
    alpha: how often a loss may be reported where there is none."""

    disagreement: float = 0.05
    power: float = 0.9
    alpha: float = 0.05


@lru_cache(maxsize=4096)
def chance_to_find(n: int, loss: float, disagreement: float, alpha: float) -> float:
    """How often McNemar's exact one-sided test finds a true loss (a share of the items) on n items."""
    from scipy.stats import binom

    flipped_share = max(disagreement, loss)
    if flipped_share <= 0:
        return 0.0
    flipped = np.arange(int(binom.ppf(1e-12, n, flipped_share)), int(binom.isf(1e-12, n, flipped_share)) + 1)
    critical = binom.isf(alpha, flipped, 0.5) + 1  # so many of them lost, or more, are significant
    found = binom.sf(critical - 1, flipped, (flipped_share + loss) / (2 * flipped_share))
    return float((binom.pmf(flipped, n, flipped_share) * np.where(flipped > 0, found, 0.0)).sum())


def smallest_loss(n: int, given: Assumptions) -> float | None:
    """The smallest true loss, a share of the items, that n items show with this power; None where they show none."""
    if n < 1 or chance_to_find(n, 1.0, given.disagreement, given.alpha) < given.power:
        return None
    low, high = 0.0, 1.0
    while high - low > 1e-5:
        middle = (low + high) / 2
        if chance_to_find(n, middle, given.disagreement, given.alpha) >= given.power:
            high = middle
        else:
            low = middle
    return high


def items_needed(loss: float, given: Assumptions) -> int:
    """The number of items that show a true loss with this power, where one item less does not."""
    enough = 1
    while chance_to_find(enough, loss, given.disagreement, given.alpha) < given.power:
        enough *= 2
    short = enough // 2
    while enough - short > 1:
        middle = (short + enough) // 2
        if chance_to_find(middle, loss, given.disagreement, given.alpha) >= given.power:
            enough = middle
        else:
            short = middle
    return enough


def smallest_change(error: float, error_of_a: float, given: Assumptions) -> float | None:
    """The smallest true loss of a figure that is no mark, in its unit, by the bootstrap's standard errors: of the
    difference, and of A's figure. At least that of `disagreement` items answered anew; None where nothing varies."""
    from scipy.stats import norm

    spread = max(error, math.sqrt(2 * given.disagreement) * error_of_a)
    return float((norm.isf(given.alpha) + norm.ppf(given.power)) * spread) if spread > 0 else None
