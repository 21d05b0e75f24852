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
from qwen_eval.engines.local.attention import NAME
from qwen_eval.engines.local.forward import (
    PrefixSharingRules,
    alphas,
    device_of,
    forget_lengths,
    hidden_states,
    on_device,
    padded,
    scaled,
)
from qwen_eval.engines.local.grouped import SharedPrefix, run_groups
from qwen_eval.engines.local.prefix import plan

import numpy as np
import torch


def choose(engine: Any, requests: Sequence[ChoiceRequest]) -> Iterator[tuple[int, list[float]]]:
    """Yields (index, logits of its candidates), group by group. Out of memory halves the token budget and goes on."""
    prompts = [request.tokens for request in requests]
    rules = PrefixSharingRules(engine.model)
    keys = [rules.sharing_key(len(tokens), len(tokens)) for tokens in prompts]

    def run_batch(batch: list[int], prefix: SharedPrefix) -> list[list[float]]:
        own = [prompts[index][prefix.length :] for index in batch]
        return _last_logits(engine.model, rules, own, [requests[index].candidates for index in batch], prefix)

    return run_groups(engine, rules, prompts, keys, plan(prompts, keys), run_batch)


def _last_logits(
    model: Any,
    rules: PrefixSharingRules,
    own: list[np.ndarray],
    candidates: list[tuple[int, ...]],
    prefix: SharedPrefix,
) -> list[list[float]]:
    """Logits of each row's candidates after its last own token. own: token ids that follow the shared ones."""
    if rules.one_by_one:
        forget_lengths(model)
    device = device_of(model)
    ids, last = padded(own, device)
    inputs: dict[str, Any] = {"input_ids": ids, "use_cache": False}
    if prefix.pairs is not None:
        positions = torch.arange(prefix.length, prefix.length + ids.shape[1], device=device)
        inputs["position_ids"] = positions[None].expand(len(own), -1)
        inputs.update(alphas(model, [prefix.alpha]))
    elif rules.qwen:
        inputs.update(alphas(model, [rules.alpha(len(tokens)) for tokens in own]))
    else:
        inputs["attention_mask"] = (torch.arange(ids.shape[1], device=device)[None] <= last[:, None]).long()
    if prefix.pairs is not None:
        with attention.running(attention.Rows(prefix.pairs)):
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
