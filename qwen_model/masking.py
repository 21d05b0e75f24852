"""Padding, positions and masks: causal, within a window, of packed sequences, and of a single query a row.

Every mask is made by transformers' mask functions, in the form that the attention back-end wants. Nothing here makes
the host wait for an accelerator: values are read on the CPU only, and elsewhere a mask is made whatever it says.
Source: transformers' masking conventions; positions count real tokens, so that a padded row equals its unpadded self.
"""

from __future__ import annotations

from typing import Any, NamedTuple

import torch
from torch.nn import functional as F
from transformers.cache_utils import Cache
from transformers.masking_utils import (
    ALL_MASK_ATTENTION_FUNCTIONS,
    and_masks,
    causal_mask_function,
    create_causal_mask,
    packed_sequence_mask_function,
    sliding_window_causal_mask_function,
)

from .configuration import QWenConfig

# A mask of this many query-key pairs costs an accelerator more than waiting once to see that it is not needed.
_WORTH_A_WAIT = 2**22


def readable(tensor: torch.Tensor) -> bool:
    """Whether the host can look at the values without waiting for a device."""
    return tensor.device.type == "cpu"


def padding_mask(attention_mask: Any, columns: int, length: int = 1) -> torch.Tensor | None:
    """The 2-D mask [B, columns], or None where it is seen to mask nothing or is no 2-D mask.

    On an accelerator it is looked at only before a long prefill, of `length` new columns.

    Raises:
        ValueError: the mask has fewer columns than cached and new tokens together.
    """
    if not isinstance(attention_mask, torch.Tensor) or attention_mask.ndim != 2:
        return None
    if attention_mask.shape[1] < columns:
        raise ValueError(f"attention_mask has {attention_mask.shape[1]} columns, cached and new tokens are {columns}")
    attention_mask = attention_mask[:, :columns]
    look = readable(attention_mask) or (length * columns >= _WORTH_A_WAIT and not _capturing())
    return None if look and bool(attention_mask.all()) else attention_mask


def _capturing() -> bool:
    """Whether a CUDA graph is being captured: no value may be read back then."""
    return torch.cuda.is_initialized() and torch.cuda.is_current_stream_capturing()


def positions(padding: torch.Tensor | None, past: int, columns: int, device: torch.device) -> torch.Tensor:
    """Positions of the new columns, int64 [B or 1, columns - past]: the number of real tokens before each."""
    if padding is None:
        return torch.arange(past, columns, device=device)[None]
    counted = padding.to(device=device, dtype=torch.int64).cumsum(dim=1) - 1
    return counted.clamp(min=0)[:, past:]


def packed_positions(
    length: int, device: torch.device, cu_seq_lens: torch.Tensor | None, seq_idx: torch.Tensor | None
) -> torch.Tensor | None:
    """Positions int64 [B, length] of packed sequences, from the two other ways in which collators say where one starts:
    cumulative lengths, as flash attention takes them, or the sequence's index of each token. None: neither is given.
    """
    columns = torch.arange(length, device=device)
    if cu_seq_lens is not None:
        starts = cu_seq_lens.to(device=device, dtype=torch.int64)
        return (columns - starts[torch.searchsorted(starts, columns, right=True) - 1])[None]
    if seq_idx is None:
        return None
    changed = F.pad(seq_idx.to(device).diff(dim=1) != 0, (1, 0), value=True)
    return columns - torch.where(changed, columns, 0).cummax(dim=1).values


def sequences(position_ids: torch.Tensor, padding: torch.Tensor | None) -> torch.Tensor | None:
    """For each column the number of the sequence that it belongs to, int64 [B or 1, T]: a new one starts where the
    position does not grow from one real token to the next. None where a row is seen to hold one sequence only."""
    restarts = position_ids.diff(dim=1) <= 0
    if padding is not None:
        real = padding.to(device=position_ids.device, dtype=torch.bool)
        restarts = restarts & real[:, 1:] & real[:, :-1]
    if readable(restarts) and not bool(restarts.any()):
        return None
    return F.pad(restarts.to(torch.int64).cumsum(dim=1), (1, 0))


def column_sequences(
    position_ids: torch.Tensor | None, padding: torch.Tensor | None, cache: Cache | None, past: int
) -> torch.Tensor | None:
    """`sequences` of all columns, those in the cache included: int64 [B or 1, past + T] or None. What goes on from a
    filled cache belongs to the last sequence in it."""
    if position_ids is None:
        return None
    if not past:
        return sequences(position_ids, padding) if position_ids.shape[-1] > 1 else None
    before: torch.Tensor | None = getattr(cache, "sequences", None)
    if before is None:
        return None
    before = before[:, :past]
    return torch.cat([before, before[:, -1:].expand(-1, position_ids.shape[-1])], dim=1)


def sequence_lengths(numbers: torch.Tensor, padding: torch.Tensor | None) -> torch.Tensor:
    """Of each column the number of real tokens of its sequence, int64 [B, T]. numbers: what `sequences` returns."""
    real = torch.ones_like(numbers) if padding is None else padding.to(device=numbers.device, dtype=torch.int64)
    numbers = numbers.expand(real.shape)
    return torch.zeros_like(numbers).scatter_add(1, numbers, real).gather(1, numbers)


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


class Call(NamedTuple):
    """What every mask of a forward pass depends on.

    embeds: [B, T, hidden]. padding: bool [B, past + T], true = real token, or None. ready: a mask in the back-end's
    form, or None. numbers: of each column, cached ones included, the sequence in a packed row, int64
    [B or 1, past + T]; None where rows are not packed.
    """

    config: QWenConfig
    embeds: torch.Tensor
    padding: torch.Tensor | None
    ready: Any
    cache: Cache | None
    past: int
    numbers: torch.Tensor | None = None

    def make(self, layer: int, mask_function: Any, attention_mask: torch.Tensor | None, **sizes: Any) -> Any:
        """A mask in the back-end's own form; None for a custom attention without a mask function."""
        implementation = self.config._attn_implementation
        if implementation not in ALL_MASK_ATTENTION_FUNCTIONS:
            return None
        batch, length, _ = self.embeds.shape
        kv_length, kv_offset = self.cache.get_mask_sizes(length, layer) if self.cache is not None else (length, 0)
        options = {
            "batch_size": batch,
            "q_length": length,
            "q_offset": self.past,
            "kv_length": kv_length,
            "kv_offset": kv_offset,
            "mask_function": mask_function,
            "attention_mask": attention_mask,
            "allow_is_causal_skip": attention_mask is None or readable(attention_mask),
            "dtype": self.embeds.dtype,
            "config": self.config,
            "device": self.embeds.device,
        }
        return ALL_MASK_ATTENTION_FUNCTIONS[implementation](**{**options, **sizes})

    def within_sequences(self, mask_function: Any, kv_end: int) -> Any:
        """The mask function, and only keys of the query's own sequence where rows are packed."""
        if self.numbers is None:
            return mask_function
        numbers = self.numbers.expand(self.embeds.shape[0], -1)
        numbers = F.pad(numbers, (0, max(0, kv_end - numbers.shape[1])), value=-1)  # a static cache has empty columns
        return and_masks(mask_function, packed_sequence_mask_function(numbers))


def causal_masks(call: Call, windows: list[int | None]) -> list[Any]:
    """The mask of each layer in the back-end's own form: causal, within the layer's window where it has one, and within
    the sequence where rows are packed.

    Raises:
        ValueError: a ready mask together with windows.
    """
    if call.ready is not None and any(window is not None for window in windows):
        raise ValueError("window attention needs the 2-D attention_mask, not a ready mask")
    made: dict[int | None, Any] = {}
    for layer, window in enumerate(windows):
        if window in made:
            continue
        if call.ready is not None:
            made[window] = call.ready
        elif window is None and call.numbers is None:
            # Without zeros there is nothing to mask: no mask tensor, and the fast kernel.
            look = call.padding is None or readable(call.padding)
            made[None] = create_causal_mask(
                call.config, call.embeds, call.padding, call.cache, layer_idx=layer, allow_is_causal_skip=look
            )
        else:
            made[window] = _own_mask(call, layer, window)
    return [made[window] for window in windows]


def _own_mask(call: Call, layer: int, window: int | None) -> Any:
    """As transformers' create_sliding_window_causal_mask, which knows one window per model and counts in columns, and
    as its packed sequences, which it knows without a cache only."""
    length, padding = call.embeds.shape[1], call.padding
    kv_length, kv_offset = call.cache.get_mask_sizes(length, layer) if call.cache is not None else (length, 0)
    near = window is None or (length == 1 and kv_length <= window)  # one query over what a bounded cache holds
    function = causal_mask_function if near else window_function(window or 0, padding)
    sizes: dict[str, Any] = {"local_size": None if near else window}
    if call.numbers is not None:
        sizes["allow_is_causal_skip"] = False
    return call.make(layer, call.within_sequences(function, kv_offset + kv_length), padding, **sizes)


def last_mask(call: Call, last_positions: torch.Tensor, window: int | None = None) -> Any:
    """Mask of one query per row in the last layer, at column `past + last_positions[b]`: the keys up to it, within the
    layer's window and its sequence, in the back-end's own form.

    None for a custom attention without a mask function: it gets `last_positions`.
    """
    length, past, padding = call.embeds.shape[1], call.past, call.padding
    at = past + last_positions[:, None]
    seen = torch.arange(past + length, device=call.embeds.device)[None] <= at
    if padding is not None:
        seen = seen & padding
    if window is not None:
        count = (seen if padding is None else padding).to(torch.int64).cumsum(dim=1)
        seen = seen & (count > count.gather(1, at) - window)
    if call.numbers is not None:
        numbers = call.numbers.expand(len(seen), -1)
        seen = seen & (numbers == numbers.gather(1, at))
    # Causality alone would allow every column; `seen` is what restricts.
    sizes = {"q_length": 1, "q_offset": past + length - 1}
    return call.make(call.config.num_hidden_layers - 1, causal_mask_function, seen, **sizes)
