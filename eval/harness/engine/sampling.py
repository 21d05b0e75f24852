"""The next token of each row from its logits: repetition penalty, then greedy or temperature, top-k, top-p.

The order and the formulas are transformers' (so greedy replies equal its `generate`). Each request draws from a
stream of its own, by inverse transform of one uniform number a token, so its text does not depend on the batch.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import numpy as np
import torch

from ..errors import UserError


def penalise(logits: torch.Tensor, seen: torch.Tensor, penalties: torch.Tensor) -> torch.Tensor:
    """Repetition penalty (Keskar et al. 2019, arXiv 1909.05858) in transformers' form: a positive logit of a token seen
    in the prompt or the reply is divided by it, a negative one multiplied. logits fp32 [B, V], seen bool [B, V],
    penalties fp32 [B]."""
    factor = penalties[:, None]
    return torch.where(seen, torch.where(logits < 0, logits * factor, logits / factor), logits)


def stream(seed: int) -> np.random.Generator:
    """A request's own random numbers: Philox is the same on every machine."""
    return np.random.Generator(np.random.Philox(key=seed))


def pick(logits: torch.Tensor, requests: Sequence[Any], streams: Sequence[np.random.Generator]) -> list[int]:
    """The next token of each row. logits fp32 [B, V]; requests have temperature (0: greedy), top_k, top_p."""
    best, tokens = logits.max(dim=-1)  # a NaN counts as the largest
    chosen = tokens.tolist()
    if not all(map(math.isfinite, best.tolist())):
        raise UserError("the model's logits are not finite numbers; try --dtype float32 or bfloat16")
    for row, request in enumerate(requests):
        if request.temperature > 0:
            chosen[row] = _draw(logits[row], request, streams[row].random())
    return chosen


def _draw(logits: torch.Tensor, request: Any, uniform: float) -> int:
    """One sample from logits [V], cut by top-k and top-p: the inverse of the cumulative distribution at `uniform`.

    The distribution is accumulated in the order of token ids, not of likelihood: two tokens that are nearly as likely
    change places with the last bit of a logit, and the draw would with them.
    """
    logits = (logits - logits.max()).double() / request.temperature
    if request.top_k or request.top_p < 1.0:
        ordered, tokens = torch.sort(logits, descending=True, stable=True)
        kept = request.top_k or len(tokens)
        if (
            request.top_p < 1.0
        ):  # the smallest set whose mass reaches top_p: a token stays while the mass before it is below
            mass = torch.softmax(ordered[:kept], dim=-1).cumsum(dim=-1)
            kept = int((mass[:-1] < request.top_p).sum()) + 1
        dropped = torch.ones_like(logits, dtype=torch.bool)
        dropped[tokens[:kept]] = False
        logits = logits.masked_fill(dropped, float("-inf"))
    mass = torch.softmax(logits, dim=-1).cumsum(dim=-1)
    index = int(torch.searchsorted(mass, uniform * float(mass[-1]), right=True))
    return min(index, len(mass) - 1)
