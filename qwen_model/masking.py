"""Padding, positions and masks: causal, within a window, and of a single query a row.

Every mask is made by transformers' mask functions, in the form that the attention back-end wants.
Source: transformers' masking conventions; positions count real tokens, so that a padded row equals its unpadded self.
"""

from __future__ import annotations

from typing import Any

import torch
from transformers.cache_utils import Cache
from transformers.masking_utils import (
    ALL_MASK_ATTENTION_FUNCTIONS,
    and_masks,
    causal_mask_function,
    create_causal_mask,
    sliding_window_causal_mask_function,
)

from .configuration import QWenConfig


def capturing() -> bool:
    """Whether a CUDA graph is being captured: no value may be read back then."""
    return torch.cuda.is_initialized() and torch.cuda.is_current_stream_capturing()


def padding_mask(attention_mask: Any, columns: int) -> torch.Tensor | None:
    """The 2-D mask [B, columns], or None where it masks nothing or is no 2-D mask.

    Raises:
        ValueError: the mask has fewer columns than cached and new tokens together.
    """
    if not isinstance(attention_mask, torch.Tensor) or attention_mask.ndim != 2:
        return None
    if attention_mask.shape[1] < columns:
        raise ValueError(f"attention_mask has {attention_mask.shape[1]} columns, cached and new tokens are {columns}")
    attention_mask = attention_mask[:, :columns]
    return None if not capturing() and bool(attention_mask.all()) else attention_mask


def positions(padding: torch.Tensor | None, past: int, columns: int, device: torch.device) -> torch.Tensor:
    """Positions of the new columns, int64 [B or 1, columns - past]: the number of real tokens before each."""
    if padding is None:
        return torch.arange(past, columns, device=device)[None]
    counted = padding.to(device=device, dtype=torch.int64).cumsum(dim=1) - 1
    return counted.clamp(min=0)[:, past:]


def window_function(window: int, padding: torch.Tensor | None) -> Any:
    """transformers' mask function of a causal window: key j is seen from column i iff i - window < j <= i, counted in
    real tokens. padding: [B, columns], 1 = real token."""
    if padding is None:
        return sliding_window_causal_mask_function(window)
    count = padding.to(torch.int64).cumsum(dim=1)
    first = torch.searchsorted(count, count - window, right=True)  # the first column that each column sees

    def near(batch_idx: Any, head_idx: Any, q_idx: Any, kv_idx: Any) -> Any:
        return kv_idx >= first[batch_idx, q_idx]

    return and_masks(causal_mask_function, near)


def causal_masks(
    config: QWenConfig,
    embeds: torch.Tensor,
    attention_mask: Any,
    cache: Cache | None,
    past: int,
    windows: list[int | None],
) -> list[Any]:
    """The mask of each layer in the back-end's own form: causal, and within the layer's window where it has one.

    embeds: [B, T, hidden] of the call. attention_mask: the 2-D padding [B, past + T] or None, or a ready mask.

    Raises:
        ValueError: a ready mask together with windows.
    """
    made: dict[int | None, Any] = {}
    for layer, window in enumerate(windows):
        if window in made:
            continue
        if window is None:  # without zeros there is nothing to mask: no mask tensor, and the fast kernel
            made[None] = create_causal_mask(config, embeds, attention_mask, cache, layer_idx=layer)
        elif attention_mask is not None and attention_mask.ndim != 2:
            raise ValueError("window attention needs the 2-D attention_mask, not a ready mask")
        else:
            made[window] = _window_mask(config, embeds, attention_mask, cache, past, layer, window)
    return [made[window] for window in windows]


def _window_mask(
    config: QWenConfig,
    embeds: torch.Tensor,
    padding: torch.Tensor | None,
    cache: Cache | None,
    past: int,
    layer: int,
    window: int,
) -> Any:
    """As transformers' create_sliding_window_causal_mask, which knows one window a model and counts in columns."""
    if config._attn_implementation not in ALL_MASK_ATTENTION_FUNCTIONS:
        return None
    batch, length, _ = embeds.shape
    if padding is not None:
        padding = padding.to(device=embeds.device, dtype=torch.bool)
    kv_length, kv_offset = cache.get_mask_sizes(length, layer) if cache is not None else (length, 0)
    all_near = length == 1 and kv_length <= window  # a single query over what a bounded cache holds
    return ALL_MASK_ATTENTION_FUNCTIONS[config._attn_implementation](
        batch_size=batch,
        q_length=length,
        kv_length=kv_length,
        q_offset=past,
        kv_offset=kv_offset,
        mask_function=causal_mask_function if all_near else window_function(window, padding),
        attention_mask=padding,
        local_size=None if all_near else window,
        allow_is_causal_skip=True,
        dtype=embeds.dtype,
        config=config,
        device=embeds.device,
    )


def last_mask(
    config: QWenConfig,
    embeds: torch.Tensor,
    padding: torch.Tensor | None,
    cache: Cache | None,
    past: int,
    last_positions: torch.Tensor,
    window: int | None = None,
) -> Any:
    """Mask of one query a row in the last layer, at column `past + last_positions[b]`: the keys up to it, within the
    layer's window, in the back-end's own form.

    embeds: [B, T, hidden] of the call. None for a custom attention without a mask function: it gets `last_positions`.
    """
    implementation = config._attn_implementation
    if implementation not in ALL_MASK_ATTENTION_FUNCTIONS:
        return None
    batch, length, _ = embeds.shape
    seen = torch.arange(past + length, device=embeds.device)[None] <= past + last_positions[:, None]
    if padding is not None:
        padding = padding.to(device=embeds.device, dtype=torch.bool)
        seen = seen & padding
    if window is not None:
        real = seen if padding is None else padding
        count = real.to(torch.int64).cumsum(dim=1)
        seen = seen & (count > count.gather(1, past + last_positions[:, None]) - window)
    last_layer = config.num_hidden_layers - 1
    kv_length, kv_offset = cache.get_mask_sizes(length, last_layer) if cache is not None else (length, 0)
    return ALL_MASK_ATTENTION_FUNCTIONS[implementation](
        batch_size=batch,
        q_length=1,
        kv_length=kv_length,
        q_offset=past + length - 1,  # causality alone would allow every column; `seen` is what restricts
        kv_offset=kv_offset,
        mask_function=causal_mask_function,
        attention_mask=seen,
        allow_is_causal_skip=True,
        dtype=embeds.dtype,
        config=config,
        device=embeds.device,
    )
