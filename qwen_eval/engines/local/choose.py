"""Choice scoring: the next-token logits of a few candidates after each prompt.

    requests -> prefix.plan -> for each group: run the shared prefix once, keep its keys and values
             -> the members' own tokens, longest first, packed by a token budget -> last position
             -> the candidates' rows of the head only, in fp32

The result does not depend on batch size, order or sharing: padding stands on the right, where causal attention never
looks, positions are the prompt's own, and only prompts with the same RoPE scaling share.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any

from qwen_eval.engines.base import ChoiceRequest
from qwen_eval.engines.local import attention
from qwen_eval.engines.local.attention import NAME, Pair
from qwen_eval.engines.local.forward import (
    PrefixSharingRules,
    alphas,
    device_of,
    forget_lengths,
    free_memory,
    hidden_states,
    on_device,
    out_of_memory,
    padded,
    run_prefix,
    scaled,
)
from qwen_eval.engines.local.prefix import batches, plan
from qwen_eval.errors import UserError, one_line

import numpy as np
import torch


def choose(engine: Any, requests: Sequence[ChoiceRequest]) -> Iterator[tuple[int, list[float]]]:
    """Yields (index, logits of its candidates), group by group. Out of memory halves the token budget and goes on."""
    prompts = [request.tokens for request in requests]
    rules = PrefixSharingRules(engine.model)
    for group in plan(prompts, [rules.sharing_key(len(tokens), len(tokens)) for tokens in prompts]):
        lengths = {index: len(prompts[index]) - group.length for index in group.members}
        alpha = rules.alpha(len(prompts[group.members[0]])) if group.length else None
        prefix = None
        waiting = list(group.members)
        while waiting:
            try:
                if prefix is None and group.length:
                    prefix = run_prefix(engine.model, prompts[waiting[0]][: group.length], alpha)
                rows = 1 if not group.length and rules.one_by_one else engine.rows
                for batch in batches(lengths, waiting, engine.token_budget, rows):  # type: ignore[arg-type]
                    own = [prompts[index][group.length :] for index in batch]
                    candidates = [requests[index].candidates for index in batch]
                    results = _last_logits(engine.model, rules, own, candidates, group.length, prefix, alpha)
                    done = set(batch)
                    waiting = [index for index in waiting if index not in done]
                    yield from zip(batch, results, strict=True)
            except (RuntimeError, MemoryError) as error:
                if not out_of_memory(error):
                    raise
                if engine.token_budget <= 64:
                    raise UserError(
                        f"out of memory with one prompt at a time ({one_line(error)[:120]}); "
                        f"try --dtype bfloat16, a lower --max-seq-len, or a device with more memory"
                    ) from error
                engine.token_budget //= 2
                prefix = None  # its memory is needed for the retry's own start
            else:
                break
            free_memory()


def _last_logits(
    model: Any,
    rules: PrefixSharingRules,
    own: list[np.ndarray],
    candidates: list[tuple[int, ...]],
    start: int,
    prefix: list[Pair] | None,
    alpha: float | None,
) -> list[list[float]]:
    """Logits of each row's candidates after its last own token. own: token ids that follow `start` shared ones."""
    if rules.one_by_one:
        forget_lengths(model)
    device = device_of(model)
    ids, last = padded(own, device)
    inputs: dict[str, Any] = {"input_ids": ids, "use_cache": False}
    if prefix is not None:
        inputs["position_ids"] = torch.arange(start, start + ids.shape[1], device=device)[None].expand(len(own), -1)
        inputs.update(alphas(model, [alpha]))
    elif rules.qwen:
        inputs.update(alphas(model, [rules.alpha(len(tokens)) for tokens in own]))
    else:
        inputs["attention_mask"] = (torch.arange(ids.shape[1], device=device)[None] <= last[:, None]).long()
    if prefix is not None:
        with attention.running(attention.Rows(prefix)):
            hidden = hidden_states(model, rules, last, NAME, **inputs)
    else:
        hidden = hidden_states(model, rules, last, None, **inputs)
    return _head_rows(model, hidden, candidates)


@torch.inference_mode()
def _head_rows(model: Any, hidden: torch.Tensor, candidates: list[tuple[int, ...]]) -> list[list[float]]:
    """fp32 logits of the candidates' rows of the head only. hidden [B, h]."""
    head = model.get_output_embeddings()
    wanted = sorted({token for row in candidates for token in row})
    place = {token: column for column, token in enumerate(wanted)}
    columns = on_device(wanted, hidden.device if head.weight.is_meta else head.weight.device)
    if head.weight.is_meta:  # offloaded: its own forward brings the weights in
        logits = head(hidden)[:, columns].float()
    else:
        rows = head.weight[columns].float()
        logits = hidden.to(rows.device).float() @ rows.T
        if getattr(head, "bias", None) is not None:
            logits = logits + head.bias[columns].float()
    logits = scaled(model, logits).cpu()
    return [[float(logits[row, place[token]]) for token in tokens] for row, tokens in enumerate(candidates)]
