"""Scoring: the log-likelihood of every token of a text, in memory that grows no faster than the text.

    tokens -> chunks through the model, keys and values cached -> hidden states of one chunk
           -> the head in fp32 on a few of its rows at a time -> log-likelihood of each next token

Each chunk attends to the cache under a mask of chunk x length cells, so nothing is as large as length x length; the
chunk shrinks as the text grows. No logits tensor is over LOGITS_BYTES, whatever the length and the vocabulary.
The result does not depend on the chunk: a first-generation Qwen's NTK factors are those of the whole text, set before
the first chunk (its published code keeps them through a sequence, quirk Q2 of docs/quirks.md), and the rest is
causal. Models whose RoPE or cache cannot be fed in chunks get the text whole.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from typing import Any

from qwen_eval.engines.base import ScoreRequest
from qwen_eval.engines.local.forward import (
    PrefixSharingRules,
    alphas,
    base_forward,
    device_of,
    forget_lengths,
    free_memory,
    new_cache,
    out_of_memory,
    rope_follows_length,
    scaled,
)
from qwen_eval.errors import UserError, one_line

import numpy as np
import torch
from torch import nn

LOGITS_BYTES = 128 << 20  # of one fp32 logits tensor; its exponentials take as much again
MASK_CELLS = 1 << 24  # of one chunk's mask; 64 MB where a kernel wants it in fp32
MAX_CHUNK = 2048
MIN_CHUNK = 16  # a smaller one is not what fills the memory

Progress = Callable[[int], Any]


def chunk_tokens(length: int, budget: int) -> int:
    """Tokens per forward for a text of `length` tokens. budget: the engine's limit of tokens per forward."""
    return max(MIN_CHUNK, min(budget, MAX_CHUNK, MASK_CELLS // max(1, length)))


def allows_chunks(config: Any) -> bool:
    """Whether a text may go through the model in chunks: not where RoPE looks at how much it is given, nor where layers
    keep another state than keys and values, nor where keys get the scale of what is given (an int8 cache)."""
    layers = set(getattr(config.get_text_config(), "layer_types", None) or [])
    int8 = getattr(config, "use_cache_quantization", False)
    return not rope_follows_length(config) and not int8 and layers <= {"full_attention", "sliding_attention"}


def score(
    engine: Any, requests: Sequence[ScoreRequest], progress: Progress | None = None
) -> Iterator[tuple[int, np.ndarray]]:
    """Yields (index, log-likelihoods) in order. Out of memory halves the chunk and runs the text again.

    progress: called with the number of tokens done, after each chunk; with a negative number when a text starts again.
    """
    rules = PrefixSharingRules(engine.model)
    for index, request in enumerate(requests):
        if not len(request.tokens) > request.first >= 1:
            raise ValueError(f"nothing to score: {len(request.tokens)} tokens from the {request.first}th on")
        while True:
            run = _Text(engine, rules, request, progress or (lambda tokens: None))
            try:
                found = run.log_likelihoods()
            except (RuntimeError, MemoryError) as error:
                if not out_of_memory(error):
                    raise
                if engine.token_budget <= MIN_CHUNK or run.whole:
                    raise UserError(
                        f"out of memory with {len(request.tokens)} tokens ({one_line(error)[:120]}); "
                        f"try --dtype bfloat16, a smaller length, or a device with more memory"
                    ) from error
                engine.token_budget = max(MIN_CHUNK, run.chunk // 2)
                run.undo()
            else:
                yield index, found
                break
            del run
            free_memory()


class _Text:
    """One text on its way through the model."""

    def __init__(self, engine: Any, rules: PrefixSharingRules, request: ScoreRequest, progress: Progress) -> None:
        self.model, self.rules, self.request, self.progress = engine.model, rules, request, progress
        self.whole = not allows_chunks(engine.model.config)
        # The last token is only predicted; where it counts how much is given, it goes in all the same.
        self.given = len(request.tokens) - (not self.whole)
        self.chunk = self.given if self.whole else chunk_tokens(self.given, engine.token_budget)
        self.done = 0

    @torch.inference_mode()
    def log_likelihoods(self) -> np.ndarray:
        """fp32 [T - first]: of each token from `first` on, given all before it."""
        forget_lengths(self.model)
        inputs = self._inputs()
        ids = torch.as_tensor(self.request.tokens.astype(np.int64), device=device_of(self.model))
        found = []
        for start in range(0, self.given, self.chunk):
            end = min(start + self.chunk, self.given)
            hidden = base_forward(self.model, None, input_ids=ids[None, start:end], **inputs).last_hidden_state[0]
            skip = max(0, self.request.first - 1 - start)  # what comes before `first` is context only
            targets = ids[start + 1 + skip : end + 1]
            if len(targets):
                found.append(token_log_likelihoods(self.model, hidden[skip : skip + len(targets)], targets))
            self.done += end - start
            self.progress(end - start)
        return torch.cat(found).numpy()

    def _inputs(self) -> dict[str, Any]:
        """What every chunk's forward gets besides its tokens: an empty cache, and a first-generation Qwen's switches
        with the NTK factor of the whole text."""
        switches = self.request.long_context
        if not self.rules.qwen:
            if switches is not None:
                raise ValueError("only first-generation Qwen has long-context switches")
            return {"use_cache": False} if self.whole else {"cache": new_cache(self.model)}
        factor = self.model.ntk_alpha(len(self.request.tokens), switches)
        return {
            "cache": self.model.new_cache(switches),
            "long_context": switches,
            **alphas(self.model, [factor]),
        }

    def undo(self) -> None:
        self.progress(-self.done)


def token_log_likelihoods(model: Any, hidden: torch.Tensor, targets: torch.Tensor) -> torch.Tensor:
    """ln p(target) at each position: fp32 [n], on the CPU. hidden [n, h] in the model's dtype, targets int64 [n].

    Logits and their log-sum-exp are fp32 (the published code rounds logits to the model's dtype, quirk Q10).
    """
    rows = head_rows(model)
    found = []
    for start in range(0, len(hidden), rows):
        logits = head_logits(model, hidden[start : start + rows])
        wanted = targets[start : start + rows].to(logits.device)
        found.append((logits.gather(1, wanted[:, None])[:, 0] - logits.logsumexp(dim=-1)).cpu())
    return torch.cat(found)


def head_rows(model: Any) -> int:
    """How many positions' logits fit into LOGITS_BYTES, at least 1."""
    head = model.get_output_embeddings()
    return max(1, LOGITS_BYTES // (4 * head.weight.shape[0] if hasattr(head, "weight") else LOGITS_BYTES))


def head_logits(model: Any, hidden: torch.Tensor) -> torch.Tensor:
    """fp32 [n, V] of hidden states [n, h], as this engine takes every logit."""
    return scaled(model, _fp32_logits(model.get_output_embeddings(), hidden))


def _fp32_logits(head: nn.Module, hidden: torch.Tensor) -> torch.Tensor:
    """fp32 [n, vocabulary]. A head of 16 bits is raised to fp32 a part at a time: a whole copy may not fit."""
    weight = getattr(head, "weight", None)
    if type(head) is not nn.Linear or weight is None or weight.is_meta:  # quantised, adapted or offloaded
        logits: torch.Tensor = head(hidden)
        return logits.float()
    hidden = hidden.to(weight.device)
    if weight.dtype == torch.float32:
        logits = head(hidden.float())
        return logits
    hidden = hidden.float()
    logits = torch.empty(len(hidden), weight.shape[0], dtype=torch.float32, device=weight.device)
    part = max(1, LOGITS_BYTES // (4 * weight.shape[1]))
    for start in range(0, weight.shape[0], part):
        torch.mm(hidden, weight[start : start + part].float().T, out=logits[:, start : start + part])
    return logits if head.bias is None else logits.add_(head.bias.float())
