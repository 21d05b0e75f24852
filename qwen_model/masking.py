"""Padding, positions and the mask of a single query a row.

The causal mask itself comes from transformers (`create_causal_mask`), in the form that the attention back-end wants.
Source: transformers' masking conventions; positions count real tokens, so that a padded row equals its unpadded self.
"""

from __future__ import annotations

from typing import Any

import torch
from transformers.cache_utils import Cache
from transformers.masking_utils import ALL_MASK_ATTENTION_FUNCTIONS, causal_mask_function

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


def last_mask(
    config: QWenConfig,
    embeds: torch.Tensor,
    padding: torch.Tensor | None,
    cache: Cache | None,
    past: int,
    last_positions: torch.Tensor,
) -> Any:
    """Mask of one query a row, at column `past + last_positions[b]`: the keys up to it, in the back-end's own form.

    embeds: [B, T, hidden] of the call. None for a custom attention without a mask function: it gets `last_positions`.
    """
    implementation = config._attn_implementation
    if implementation not in ALL_MASK_ATTENTION_FUNCTIONS:
        return None
    batch, length, _ = embeds.shape
    seen = torch.arange(past + length, device=embeds.device)[None] <= past + last_positions[:, None]
    if padding is not None:
        seen = seen & padding.to(device=embeds.device, dtype=torch.bool)
    kv_length, kv_offset = cache.get_mask_sizes(length, 0) if cache is not None else (length, 0)
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
