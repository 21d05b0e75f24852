"""The next token of each row from its logits: penalties, then greedy or temperature, top-k, top-p.

The order and the formulas are transformers' (so greedy replies equal its `generate`); a presence penalty is vLLM's.
Everything runs on the logits' device for all rows together, and the host waits for it once, for the tokens. A sampled
token is chosen by noise that belongs to its request, its place in the reply and the token alone (noise.py), so a reply
does not depend on the batch.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from qwen_eval.engines.local.forward import on_device
from qwen_eval.engines.local.noise import add_gumbel, step_keys
from qwen_eval.errors import UserError

import numpy as np
import torch

COLDEST = 1e-30  # temperature, fp32: a lower one is greedy all the same, and must not become 0


def penalise(logits: torch.Tensor, seen: torch.Tensor, penalties: torch.Tensor) -> torch.Tensor:
    """Repetition penalty (Keskar et al. 2019, arXiv 1909.05858) in transformers' form: a positive logit of a token seen
    in the prompt or the reply is divided by it, a negative one multiplied. logits fp32 [B, V], seen bool [B, V],
    penalties fp32 [B]."""
    factor = penalties[:, None]
    return torch.where(seen, torch.where(logits < 0, logits * factor, logits / factor), logits)


def penalise_presence(logits: torch.Tensor, generated: torch.Tensor, penalties: torch.Tensor) -> torch.Tensor:
    """Presence penalty as vLLM has it, behind a repetition penalty: subtracted from the logit of every token that the
    reply has already, however often; the prompt's do not count. logits fp32 [B, V], generated bool [B, V], penalties
    fp32 [B]."""
    return torch.where(generated, logits - penalties[:, None], logits)


def pick(logits: torch.Tensor, requests: Sequence[Any], steps: Sequence[int]) -> list[int]:
    """The next token of each row.

    Args:
        logits: fp32 [B, V].
        requests: one per row, with temperature (0: greedy), top_k, top_p and seed.
        steps: how many tokens each row's reply has already; only (seed, step) decides about a sampled token.

    Raises:
        UserError: a row's largest logit is not a finite number.
    """
    best, tokens = logits.max(dim=-1)  # a NaN counts as the largest
    if any(request.temperature > 0 for request in requests):
        greedy = on_device([request.temperature == 0 for request in requests], logits.device)
        tokens = torch.where(greedy, tokens, _sampled(logits - best[:, None], requests, steps))
    chosen: list[int] = torch.where(best.isfinite(), tokens, -1).tolist()  # the one wait for the device
    if min(chosen) < 0:
        raise UserError("the model's logits are not finite numbers; try --dtype float32 or bfloat16")
    return chosen


def _sampled(scores: torch.Tensor, requests: Sequence[Any], steps: Sequence[int]) -> torch.Tensor:
    """One token per row, int64 [B], sampled from softmax(scores / temperature) within top-k and top-p.
    scores: fp32 [B, V], overwritten; greedy rows are sampled too."""
    device = scores.device
    temperatures = [max(request.temperature, COLDEST) if request.temperature else 1.0 for request in requests]
    scores = scores.div_(on_device(temperatures, device)[:, None])
    if any(request.top_k for request in requests):
        scores = _within_top_k(scores, [request.top_k for request in requests])
    if any(request.top_p < 1.0 for request in requests):
        scores = _within_top_p(scores, on_device([request.top_p for request in requests], device))
    keys = step_keys([request.seed for request in requests], steps)
    return add_gumbel(scores, on_device(keys, device)).max(dim=-1).indices


def _within_top_k(scores: torch.Tensor, sizes: Sequence[int]) -> torch.Tensor:
    """Scores with all but the `sizes[b]` (0: all) largest at -inf; what ties with the last of them is kept."""
    vocabulary = scores.shape[1]
    kept = [min(size or vocabulary, vocabulary) for size in sizes]
    largest = scores.topk(max(kept), dim=-1).values
    smallest_kept = largest.gather(1, on_device([size - 1 for size in kept], scores.device)[:, None])
    return scores.masked_fill(scores < smallest_kept, float("-inf"))


def _within_top_p(scores: torch.Tensor, shares: torch.Tensor) -> torch.Tensor:
    """Scores with all at -inf but the smallest set whose mass reaches `shares` (fp32 [B]): in the order of likelihood
    a token is kept while the mass before it is below the share; what ties with the last of them is kept."""
    ordered = _descending(scores)
    before = ordered.softmax(dim=-1).cumsum(dim=-1)[:, :-1]
    last = (before < shares[:, None]).sum(dim=-1)
    last = torch.where(shares < 1.0, last, scores.shape[1] - 1)
    return scores.masked_fill(scores < ordered.gather(1, last[:, None]), float("-inf"))


def _descending(scores: torch.Tensor) -> torch.Tensor:
    """Each row sorted, the largest first. On a CPU by numpy, which takes a fraction of torch's time."""
    if scores.device.type == "cpu":
        return torch.from_numpy(np.sort(scores.numpy(), axis=-1)).flip(-1)
    return scores.sort(dim=-1, descending=True).values
