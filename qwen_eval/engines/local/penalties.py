"""What the penalties of rows in flight count: one line of the vocabulary per slot, which moves with its row."""

from __future__ import annotations

from collections.abc import Sequence

from qwen_eval.engines.base import GenerateRequest
from qwen_eval.engines.local import sampling
from qwen_eval.engines.local.forward import on_device
from qwen_eval.engines.local.single import Row

import numpy as np
import torch


class Penalties:
    """Of one group of requests. A tensor is made with the first row, and only where a request has its penalty."""

    def __init__(self, requests: Sequence[GenerateRequest]) -> None:
        self.repetition = any(request.repetition_penalty != 1.0 for request in requests)
        self.presence = any(request.presence_penalty for request in requests)
        self.seen: torch.Tensor | None = None  # bool [slots, V]: tokens of the prompt and the reply
        self.generated: torch.Tensor | None = None  # bool [slots, V]: tokens of the reply

    def forget(self) -> None:
        """All rows have left, those that ended and those that start again."""
        self.seen = self.generated = None

    def move(self, source: int, target: int) -> None:
        """The row of one slot now has another."""
        for counted in (self.seen, self.generated):
            if counted is not None:
                counted[target] = counted[source]

    def apply(
        self, logits: torch.Tensor, rows: Sequence[Row], slot: int, slots: int, ids: torch.Tensor | None
    ) -> torch.Tensor:
        """The logits, fp32 [B, V], of rows in slots `slot`, `slot + 1` ... less their penalties. slots: how many there
        are; ids: the rows' latest tokens, int64 [B], None when they enter. The shared prefix is in the prompt too."""
        device, places = logits.device, slice(slot, slot + len(rows))
        ids = None if ids is None else ids.to(device)
        if self.repetition:
            self.seen = _made(self.seen, slots, logits)
            seen = _with_latest(self.seen[places], ids)
            for place, row in enumerate(rows if ids is None else ()):
                seen[place].index_fill_(0, on_device(row.request.tokens.astype(np.int64), device), True)
            factors = on_device([row.request.repetition_penalty for row in rows], device)
            logits = sampling.penalise(logits, seen, factors)
        if self.presence:
            self.generated = _made(self.generated, slots, logits)
            generated = _with_latest(self.generated[places], ids)
            amounts = on_device([row.request.presence_penalty for row in rows], device)
            logits = sampling.penalise_presence(logits, generated, amounts)
        return logits


def _made(counted: torch.Tensor | None, slots: int, logits: torch.Tensor) -> torch.Tensor:
    return logits.new_zeros(slots, logits.shape[1], dtype=torch.bool) if counted is None else counted


def _with_latest(counted: torch.Tensor, ids: torch.Tensor | None) -> torch.Tensor:
    """The rows with their latest tokens counted; of rows that enter, nothing is."""
    return counted.zero_() if ids is None else counted.scatter_(1, ids[:, None], True)
