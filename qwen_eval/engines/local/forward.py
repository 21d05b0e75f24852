"""Forwards of the engine: what of a model decides how it may run, and how a batch goes through it."""

from __future__ import annotations

import gc
import inspect
import json
from collections.abc import Hashable, Sequence
from functools import lru_cache
from typing import Any

from qwen_eval.engines.local.attention import Pair

import numpy as np
import torch


class PrefixSharingRules:
    """What of a model decides who may share a prefix with whom."""

    def __init__(self, model: Any) -> None:
        config = model.config.get_text_config()
        self.model = model
        self.qwen = hasattr(model, "ntk_alpha")
        #: RoPE scaling that depends on the batch's longest row in transformers, and keys whose scale is that of a whole
        #: call (qwen_model/int8_cache.py): such prompts run one by one
        self.one_by_one = rope_follows_length(config) or has_int8_cache(model)
        window = getattr(config, "sliding_window", None)
        if self.qwen:  # first-generation Qwen: a prompt within the shortest window is not touched by any
            window = min((size for size in model.long_context.window_attn or () if size is not None), default=None)
        layers = set(getattr(config, "layer_types", None) or ["sliding_attention" if window else "full_attention"])
        self.window = window if window and "sliding_attention" in layers else float("inf")
        self.shares = (
            getattr(model, "_supports_attention_backend", False)
            and layers <= {"full_attention", "sliding_attention"}
            and not self.one_by_one
            and not getattr(config, "attn_logit_softcapping", None)
            and not any(hasattr(module, "sinks") for module in model.modules())  # gpt-oss: in no part of the merge
            and not getattr(config, "v_head_dim", None)  # latent attention: keys and values differ in width
        )

    def alpha(self, length: int) -> float | None:
        """Dynamic-NTK alpha of a first-generation Qwen prompt of this length."""
        return self.model.ntk_alpha(length) if self.qwen else None

    def sharing_key(self, reach: int, length: int) -> Hashable:
        """Equal for prompts of `length` tokens that may share: never for one whose last token, at `reach`, is past a
        sliding window."""
        if not self.shares or reach > self.window:
            return object()
        return self.alpha(length)

    def rows_together(self, key: Hashable) -> bool:
        """Whether requests with this sharing key may be decoded in one batch by the engine's own attention."""
        return type(key) is not object


def rope_follows_length(config: Any) -> bool:
    """Whether transformers turns keys by another frequency in a longer text (RoPE scaling `dynamic`, `longrope`)."""
    rope = json.dumps(getattr(config.get_text_config(), "rope_parameters", None) or {}, default=str)
    return '"dynamic"' in rope or '"longrope"' in rope


def has_int8_cache(model: Any) -> bool:
    """Whether a first-generation Qwen's keys and values are in 8 bits: what it says depends on how a prompt is cut."""
    return bool(getattr(model, "quantises_cache", False))


def run_prefix(model: Any, tokens: np.ndarray, alpha: float | None) -> list[Pair]:
    """Keys and values of a prefix, one pair per layer, each [1, key-value heads, len(tokens), head_dim]."""
    cache = new_cache(model)
    ids = on_device(tokens.astype(np.int64), device_of(model))[None]
    base_forward(model, None, input_ids=ids, cache=cache, use_cache=True, **alphas(model, [alpha]))
    return [(layer.keys, layer.values) for layer in cache.layers]


def new_cache(model: Any) -> Any:
    """An empty cache, bounded in the layers whose attention looks no further back than a window."""
    from transformers import DynamicCache

    return model.new_cache() if hasattr(model, "new_cache") else DynamicCache(config=model.config)


@lru_cache
def _parameters(of: Hashable) -> frozenset[str]:
    return frozenset(inspect.signature(of.forward).parameters)  # type: ignore[attr-defined]


def knows(module: Any, keyword: str) -> bool:
    """Whether a model's forward has a parameter of this name."""
    return keyword in _parameters(type(module))  # type: ignore[arg-type]


def cache_keyword(module: Any) -> str:
    """What a model's forward calls its cache: transformers renamed it in 5.24, and warns of the old name."""
    return "cache" if knows(module, "cache") else "past_key_values"


def forget_lengths(model: Any) -> None:
    """Undo what dynamic RoPE scaling in transformers remembers of earlier prompts: it keeps the frequencies of the
    longest one seen, so the result would depend on the order of the requests."""
    for module in model.modules():
        if hasattr(module, "original_inv_freq") and hasattr(module, "max_seq_len_cached"):
            module.max_seq_len_cached = module.original_max_seq_len
            module.inv_freq = module.original_inv_freq.clone()


def device_of(model: Any) -> torch.device:
    """Where token ids go in."""
    device: torch.device = model.get_input_embeddings().weight.device
    return device


def on_device(values: Any, device: torch.device) -> torch.Tensor:
    """A tensor of a few numbers, on a device that the host does not wait for (a plain copy waits for all work of the
    device that is under way)."""
    tensor = values if isinstance(values, torch.Tensor) else torch.as_tensor(values)
    return tensor.to(device, non_blocking=True)


def alphas(model: Any, values: Sequence[float | None]) -> dict[str, Any]:
    """The keyword that freezes a first-generation Qwen's NTK factors, one per row or one for all; nothing otherwise."""
    if values[0] is None:
        return {}
    return {"ntk_alpha": torch.tensor(values[:1] if len(set(values)) == 1 else list(values), dtype=torch.float64)}


def padded(rows: Sequence[np.ndarray], device: torch.device) -> tuple[torch.Tensor, torch.Tensor]:
    """Token ids as int64 [B, T], padded on the right with 0, and the column of each row's last token, int64 [B]."""
    ids = np.zeros((len(rows), max(map(len, rows))), dtype=np.int64)
    for row, tokens in enumerate(rows):
        ids[row, : len(tokens)] = tokens
    last = on_device([len(tokens) - 1 for tokens in rows], device)
    return on_device(torch.from_numpy(ids), device), last


def decoder_of(model: Any) -> Any:
    """The model without its head."""
    places = (model.base_model, model.get_decoder(), getattr(model, "model", None))  # the last one: Llama 4
    return next(found for found in places if found is not None and found is not model)


@torch.inference_mode()
def base_forward(model: Any, implementation: str | None, cache: Any = None, **inputs: Any) -> Any:
    """A forward without the head, under another attention implementation if one is given."""
    if cache is not None:
        inputs[cache_keyword(decoder_of(model))] = cache
    before = model.config._attn_implementation
    if implementation is not None:
        model.config._attn_implementation = implementation
    try:
        return decoder_of(model)(**inputs)
    finally:
        model.config._attn_implementation = before


def hidden_states(
    model: Any, rules: PrefixSharingRules, last: torch.Tensor, implementation: str | None, **inputs: Any
) -> torch.Tensor:
    """Final hidden states [B, h] at column `last` [B] of each row."""
    if rules.qwen:  # its last layer computes these positions only
        at_last: torch.Tensor = base_forward(model, implementation, last_positions=last, **inputs).last_hidden_state
        return at_last[:, 0]
    hidden: torch.Tensor = base_forward(model, implementation, **inputs).last_hidden_state
    return hidden[torch.arange(hidden.shape[0], device=hidden.device), last.to(hidden.device)]


@torch.inference_mode()
def last_logits(model: Any, **inputs: Any) -> torch.Tensor:
    """The model's own logits of the last position, fp32 [B, V]."""
    if knows(model, "logits_to_keep"):  # else the head runs on every position
        inputs["logits_to_keep"] = 1
    logits: torch.Tensor = model(**inputs).logits
    return logits[:, -1].float()


def scaled(model: Any, logits: torch.Tensor) -> torch.Tensor:
    """What some architectures do to logits behind the head (Cohere, Granite, Gemma 2)."""
    config = model.config.get_text_config()
    if scale := getattr(config, "logit_scale", None):
        logits = logits * scale
    if scaling := getattr(config, "logits_scaling", None):
        logits = logits / scaling
    if cap := getattr(config, "final_logit_softcapping", None):
        logits = torch.tanh(logits / cap) * cap
    return logits


def out_of_memory(error: BaseException) -> bool:
    """Whether an exception says that memory ran out, on a GPU or in the host."""
    if isinstance(error, (torch.OutOfMemoryError, MemoryError)):
        return True
    return any(words in str(error).lower() for words in ("out of memory", "can't allocate memory", "not enough memory"))


def free_memory() -> None:
    """Give back what the failed attempt held; call it outside the `except` block, where its frames are gone."""
    gc.collect()
    if torch.cuda.is_available():
        torch.cuda.empty_cache()
