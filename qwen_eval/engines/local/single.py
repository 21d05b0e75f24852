"""A reply as it grows, and one request answered by itself."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

from qwen_eval.engines.base import GenerateRequest, Reply
from qwen_eval.engines.local import sampling
from qwen_eval.engines.local.forward import (
    alphas,
    base_forward,
    cache_keyword,
    device_of,
    forget_lengths,
    last_logits,
    new_cache,
    on_device,
)
from qwen_eval.engines.local.score import allows_chunks, chunk_tokens
from qwen_eval.engines.local.stops import StopChecker

import numpy as np
import torch

Pick = Callable[[torch.Tensor, Sequence[GenerateRequest], Sequence[int]], list[int]]


class Row:
    """A request being answered: its own prompt tokens behind the prefix, and what was generated so far."""

    def __init__(self, index: int, request: GenerateRequest, shared: int, stop_checker: StopChecker) -> None:
        self.index, self.request, self.stop_checker = index, request, stop_checker
        self.own = request.tokens[shared:]
        if not len(self.own):
            raise ValueError("an empty prompt")  # the CPU kernel would divide by its length
        self.generated_ids: list[int] = []

    def take(self, token: int) -> Reply | None:
        """Give the row its next token; its reply when that ends it."""
        ended = token in self.request.stop_tokens
        if not ended:
            self.generated_ids.append(token)
            ended = self.stop_checker.ended(self.generated_ids)
        if not ended and len(self.generated_ids) < self.request.max_new_tokens:
            return None
        text = self.stop_checker.reply(self.generated_ids)
        return Reply(text, len(self.generated_ids), "stop" if ended else "length")


@torch.inference_mode()
def generate_single(engine: Any, request: GenerateRequest, pick: Pick = sampling.pick) -> Reply:
    """One request by itself with transformers' own cache and attention: for models whose attention is no plain causal
    one (a sliding window that the text outgrows, soft capping) or whose RoPE looks at the whole batch."""
    model = engine.model
    forget_lengths(model)
    row = Row(0, request, 0, StopChecker(engine.tokenizer, request.stop))
    cache = new_cache(model)
    ids = past = on_device(request.tokens.astype(np.int64), device_of(model))[None]
    chunks = prefill_chunks(engine, ids)
    for chunk in chunks:
        inputs = alphas(model, [model.ntk_alpha(ids.shape[1])]) if hasattr(model, "ntk_alpha") else {}
        base_forward(model, None, input_ids=chunk, cache=cache, use_cache=True, **inputs)
    ids = ids[:, sum(chunk.shape[1] for chunk in chunks) :]
    while True:
        logits = last_logits(model, input_ids=ids, use_cache=True, **{cache_keyword(model): cache})
        token = next_token(logits, row, past, pick)
        if (reply := row.take(token)) is not None:
            return reply
        ids = on_device([[token]], ids.device)
        past = torch.cat([past, ids], dim=1)


def next_token(logits: torch.Tensor, row: Row, past: torch.Tensor, pick: Pick = sampling.pick) -> int:
    """The next token of one row. logits fp32 [1, V]; past: its prompt and reply so far, int64 [1, T]."""
    if row.request.repetition_penalty != 1.0:
        seen = torch.zeros_like(logits, dtype=torch.bool).scatter_(1, past.to(logits.device), True)
        penalty = on_device([row.request.repetition_penalty], logits.device)
        logits = sampling.penalise(logits, seen, penalty)
    if row.request.presence_penalty and row.generated_ids:
        generated = torch.zeros_like(logits, dtype=torch.bool)
        generated[0].index_fill_(0, on_device(row.generated_ids, logits.device), True)
        amount = on_device([row.request.presence_penalty], logits.device)
        logits = sampling.penalise_presence(logits, generated, amount)
    return pick(logits, [row.request], [len(row.generated_ids)])[0]


def prefill_chunks(engine: Any, ids: torch.Tensor) -> Sequence[torch.Tensor]:
    """What of a prompt [1, T] goes in before its last chunk: given whole, its mask would be T x T."""
    if not allows_chunks(engine.model.config):
        return ()
    split: Sequence[torch.Tensor] = ids.split(chunk_tokens(ids.shape[1], engine.token_budget), dim=1)
    return split[:-1]
