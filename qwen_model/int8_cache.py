"""The key-value cache in 8 bits (`use_cache_quantization` of config.json, `kv_cache="int8"` of `load_model`).

Source: the last published modelling file (2023-12-07). Each call's new columns share one scale per row and head, and
decimals are cut off: see quirk Q9 of docs/quirks.md, which also says what is done otherwise here. New keys and values
are used as they are kept, so a prompt's own logits change, too, and depend on how it is cut into calls: give it whole.
"""

from __future__ import annotations

from typing import Any, NamedTuple, NoReturn

import torch
from transformers.cache_utils import Cache, DynamicCache, DynamicLayer

LEVELS = 255
CHOICES = ("auto", "int8")


class Quantised(NamedTuple):
    """q: uint8 [B, heads, T, head_dim]; scale, zero: [B, heads, T, 1] in the model's dtype. x = scale * (q - zero)."""

    q: torch.Tensor
    scale: torch.Tensor
    zero: torch.Tensor

    def restored(self) -> torch.Tensor:
        """[B, heads, T, head_dim] in the model's dtype."""
        return self.scale * (self.q - self.zero)

    def followed_by(self, more: Quantised) -> Quantised:
        """These columns and further ones."""
        return Quantised(*(torch.cat(pair, dim=2) for pair in zip(self, more, strict=True)))


def quantise(x: torch.Tensor, real: torch.Tensor | None = None) -> Quantised:
    """One call's new keys or values, [B, heads, T, head_dim]. real: bool [B, T], the columns that set the scale (None:
    all); padding takes no part in it, so that a row is kept as its unpadded self is.

    Where the published formula divides by nothing (all values are equal) the values are kept as they are.
    """
    if real is None:
        highest, lowest = x.amax((2, 3), keepdim=True), x.amin((2, 3), keepdim=True)
    else:
        outside, nothing = ~real[:, None, :, None], ~real.any(1)[:, None, None, None]
        highest = x.masked_fill(outside, -torch.inf).amax((2, 3), keepdim=True).masked_fill(nothing, 0)
        lowest = x.masked_fill(outside, torch.inf).amin((2, 3), keepdim=True).masked_fill(nothing, 0)
    scale = (highest - lowest) / LEVELS
    zero = -lowest / scale
    flat = ~zero.isfinite()  # a scale of 0, or one too small for the dtype
    scale, zero = torch.where(flat, 1, scale), torch.where(flat, -lowest, zero)
    q = (x / scale + zero).clamp(0, LEVELS).to(torch.uint8)  # cuts decimals off
    columns = (-1, -1, x.shape[2], -1)
    return Quantised(q, scale.expand(columns), zero.expand(columns))


class Int8Layer(DynamicLayer):
    """Keys and values of one layer. `keys`, `values`: their uint8 parts, as other caches have theirs."""

    is_croppable = False  # what is left would have the scale of what was taken off

    def __init__(self) -> None:
        super().__init__()  # type: ignore[no-untyped-call]
        self.real: torch.Tensor | None = None  # see `Int8Cache.expect`
        self.scales: tuple[torch.Tensor, ...] = ()  # scale and zero of the keys, then of the values

    def update(
        self, key_states: torch.Tensor, value_states: torch.Tensor, *args: Any, **kwargs: Any
    ) -> tuple[torch.Tensor, torch.Tensor]:
        """Takes in the new columns; returns all columns as they are kept, restored, each [B, heads, K, head_dim]."""
        real = None if self.real is None else self.real.to(key_states.device)
        keys, values = quantise(key_states, real), quantise(value_states, real)
        if self.get_seq_length():
            held = (self.keys, *self.scales[:2]), (self.values, *self.scales[2:])
            keys, values = Quantised(*held[0]).followed_by(keys), Quantised(*held[1]).followed_by(values)  # type: ignore[arg-type]
        self.device, self.is_initialized = key_states.device, True
        self.keys, self.values, self.scales = keys.q, values.q, (*keys[1:], *values[1:])
        return keys.restored(), values.restored()

    def reset(self) -> None:
        super().reset()
        self.scales = ()

    def batch_repeat_interleave(self, repeats: int) -> None:
        super().batch_repeat_interleave(repeats)
        self.scales = tuple(one.repeat_interleave(repeats, dim=0) for one in self.scales)

    def batch_select_indices(self, indices: torch.Tensor) -> None:
        super().batch_select_indices(indices)
        self.scales = tuple(one[indices] for one in self.scales)

    def crop(self, tokens_to_remove: int) -> NoReturn:
        raise ValueError("an int8 cache cannot be cut: its scale is that of all columns of a call")

    def reorder_cache(self, beam_idx: torch.Tensor) -> NoReturn:
        raise ValueError("an int8 cache has no beam search")


class Int8Cache(DynamicCache):
    """A cache of `Int8Layer`s: about half the bytes of one in 16 bits."""

    def __init__(self, layers: int, offloading: bool = False) -> None:
        made: list[Any] = [Int8Layer() for _ in range(layers)]
        Cache.__init__(self, layers=made, offloading=offloading)

    def expect(self, padding: torch.Tensor | None, new: int, last: torch.Tensor | None, device: torch.device) -> None:
        """Before a call with `new` columns: which of them are no padding. padding: [B, cached + new], 1 = real token;
        last: int64 [B], the last real column of right-padded rows among the new ones."""
        real = None if padding is None else padding[:, -new:].to(device=device, dtype=torch.bool)
        if last is not None:
            before_end = torch.arange(new, device=device)[None] <= last.to(device)[:, None]
            real = before_end if real is None else real & before_end
        for layer in self.layers:
            layer.real = real  # type: ignore[union-attr]


def choose_kv_cache(config: Any, kv_cache: str) -> None:
    """Switch the 8-bit cache on in a configuration; "auto" leaves it as the checkpoint has it.

    Raises:
        ValueError: an unknown choice, or another model than first-generation Qwen.
    """
    if kv_cache not in CHOICES:
        raise ValueError(f"the KV cache is one of {', '.join(CHOICES)}, not {kv_cache!r}")
    if kv_cache == "int8":
        if config.model_type != "qwen":
            raise ValueError(
                f"the int8 KV cache is first-generation Qwen's, and this model is of type {config.model_type}"
            )
        config.use_cache_quantization = True
