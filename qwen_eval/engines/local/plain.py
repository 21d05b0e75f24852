"""The model's own plain forward in place of the engine's: one text at a time, nothing cached, nothing shared.

For models that do more than the engine knows, between their layers or behind their head (probe.py finds them). Slower,
most of all for replies: every token reads the whole text again.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from typing import Any

from qwen_eval.engines.base import (
    ChoiceRequest,
    GenerateRequest,
    Likelihood,
    LogLikelihoodRequest,
    Reply,
    ScoreRequest,
)
from qwen_eval.engines.local.forward import device_of, forget_lengths, knows, on_device, out_of_memory
from qwen_eval.engines.local.loglikelihood import given_tokens, total
from qwen_eval.engines.local.single import Row, next_token
from qwen_eval.engines.local.stops import StopChecker
from qwen_eval.errors import UserError, one_line

import numpy as np
import torch


@torch.inference_mode()
def own_logits(model: Any, tokens: Any, last_only: bool = False) -> torch.Tensor:
    """The model's logits, fp32 [T, V] or, of the last position, [1, V]. tokens: int [T]."""
    forget_lengths(model)
    ids = on_device(np.asarray(tokens, dtype=np.int64), device_of(model))[None]
    options: dict[str, Any] = {"use_cache": False} if knows(model, "use_cache") else {}
    if last_only and knows(model, "logits_to_keep"):  # else the head runs on every position
        options["logits_to_keep"] = 1
    try:
        logits: torch.Tensor = model(input_ids=ids, **options).logits[0]
    except (RuntimeError, MemoryError) as error:
        if not out_of_memory(error):
            raise
        raise UserError(
            f"out of memory with one text of {ids.shape[1]} tokens ({one_line(error)[:120]}); "
            f"try --dtype bfloat16, or a device with more memory"
        ) from error
    return (logits[-1:] if last_only else logits).float()


def choose(engine: Any, requests: Sequence[ChoiceRequest]) -> Iterator[tuple[int, list[float]]]:
    """See `Engine.choose`."""
    for index, request in enumerate(requests):
        yield index, own_logits(engine.model, request.tokens, True)[0].cpu()[list(request.candidates)].tolist()


def loglikelihood(engine: Any, requests: Sequence[LogLikelihoodRequest]) -> Iterator[tuple[int, Likelihood]]:
    """See `Engine.loglikelihood`."""
    for index, request in enumerate(requests):
        logits = own_logits(engine.model, given_tokens(request))[len(request.tokens) - 1 :]
        targets = on_device(request.continuation, logits.device)
        likely = logits.gather(1, targets[:, None])[:, 0] - logits.logsumexp(dim=-1)
        greedy = logits.argmax(dim=-1) == targets
        yield index, total(list(zip(likely.tolist(), greedy.tolist(), strict=True)))


def score(
    engine: Any, requests: Sequence[ScoreRequest], progress: Callable[[int], Any] | None = None
) -> Iterator[tuple[int, np.ndarray]]:
    """See `Engine.score`."""
    for index, request in enumerate(requests):
        if request.long_context is not None:
            raise ValueError("only first-generation Qwen has long-context switches")
        logits = own_logits(engine.model, request.tokens)[request.first - 1 : -1]
        targets = on_device(request.tokens[request.first :].astype(np.int64), logits.device)
        found = logits.gather(1, targets[:, None])[:, 0] - logits.logsumexp(dim=-1)
        if progress is not None:
            progress(len(request.tokens))
        yield index, found.cpu().numpy()


def generate(engine: Any, requests: Sequence[GenerateRequest]) -> Iterator[tuple[int, Reply]]:
    """See `Engine.generate`."""
    for index, request in enumerate(requests):
        row, reply = Row(index, request, 0, StopChecker(engine.tokenizer, request.stop)), None
        while reply is None:
            tokens = [*request.tokens.tolist(), *row.generated_ids]
            logits = own_logits(engine.model, tokens, True)
            reply = row.take(next_token(logits, row, on_device([tokens], logits.device)))
        yield index, reply
