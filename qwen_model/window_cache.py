"""The key-value cache of window attention: each layer holds what its window can still reach, and no more.

Source: the sliding-window caches of transformers. Those count columns; here the window counts real tokens, so a layer
keeps a column more for every pad among its last ones, and a padded row goes on as its unpadded self would.
"""

from __future__ import annotations

from typing import Any

import torch
from transformers.cache_utils import Cache, DynamicCache, DynamicLayer, DynamicSlidingWindowLayer

from .long_context import LongContext
from .masking import readable

#: decoding steps after which padding is counted again
UNCOUNTED = 64


class WindowLayer(DynamicSlidingWindowLayer):
    """Keys and values of one layer, each [B, heads, at most `keep`, head_dim] between calls.

    A call attends to what is held and all that is new; afterwards the last `keep` columns stay.
    """

    def __init__(self, window: int) -> None:
        super().__init__(sliding_window=window)
        self.keep = window - 1  # the next token sees itself, too

    def update(
        self, key_states: torch.Tensor, value_states: torch.Tensor, *args: Any, **kwargs: Any
    ) -> tuple[torch.Tensor, torch.Tensor]:
        if not self.is_initialized:
            self.lazy_initialization(key_states, value_states)
        self.cumulative_length += key_states.shape[-2]
        keys = torch.cat([self.keys, key_states], dim=-2)  # type: ignore[list-item]
        values = torch.cat([self.values, value_states], dim=-2)  # type: ignore[list-item]
        # While the past is recorded (assisted decoding), `crop` cuts to the window.
        start = 0 if self.record_past else max(keys.shape[-2] - self.keep, 0)
        self.keys, self.values = keys[:, :, start:], values[:, :, start:]
        if start and key_states.shape[-2] > 1:  # a view would keep all of the prefill in memory
            self.keys, self.values = self.keys.clone(), self.values.clone()
        return keys, values

    def held(self) -> int:
        """Columns held."""
        return 0 if self.keys is None or self.keys.ndim < 2 else self.keys.shape[-2]

    def get_mask_sizes(self, query_length: int) -> tuple[int, int]:
        """Number of keys that a call with `query_length` new tokens attends to, and the column of the first."""
        return self.held() + query_length, self.cumulative_length - self.held()


class WindowCache(DynamicCache):
    """A cache for one choice of switches: bounded in the layers that have a window, growing in the others."""

    def __init__(self, long_context: LongContext, layers: int, offloading: bool = False) -> None:
        windows = long_context.window_attn or (None,) * layers
        made = [DynamicLayer() if window is None else WindowLayer(window) for window in windows]
        Cache.__init__(self, layers=made, offloading=offloading)  # type: ignore[arg-type]
        self.long_context = long_context
        self.uncounted = 0  # decoded columns since padding was counted

    def count_padding(self, padding: torch.Tensor | None, new: int) -> None:
        """Before a call with `new` columns: how many must stay after it. padding: [B, cached + new], 1 = real token.

        An accelerator is asked only now and then while decoding: until then a column more stays for each new one, which
        is enough whether that is padding or not.
        """
        bounded = [layer for layer in self.layers if isinstance(layer, WindowLayer)]
        if padding is not None and not readable(padding) and new == 1 and self.uncounted < UNCOUNTED:
            self.uncounted += 1
            for layer in bounded:
                layer.keep += 1
            return
        self.uncounted = 0
        needed = _columns_needed(padding, sorted({layer.sliding_window - 1 for layer in bounded}))
        for layer in bounded:
            layer.keep = needed.get(layer.sliding_window - 1, layer.sliding_window - 1)


def _columns_needed(padding: torch.Tensor | None, tokens: list[int]) -> dict[int, int]:
    """How many of the last columns hold the last n real tokens of every row, for each n; at least n."""
    if padding is None:
        return {}
    found = padding.to(torch.int64).flip(1).cumsum(1)  # real tokens among the last 1, 2, ... columns
    total = found[:, -1:]
    counts = torch.stack([(found < total.clamp(max=n)).sum(1).max() + 1 for n in tokens]).tolist()  # one wait for all
    return {n: max(n, count) for n, count in zip(tokens, counts, strict=True)}
