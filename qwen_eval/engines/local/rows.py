"""The key-value cache of rows that come and go: one slot a row, each row with a length of its own.

The shared prefix is not in here: attention reads it beside the slots (attention.py). Slots 0 .. B-1 are the active
rows; a row that leaves is replaced by the last one, so the active rows always lie together and a view costs nothing.
"""

from __future__ import annotations

import weakref
from typing import Any

import torch
from transformers.cache_utils import Cache, CacheLayerMixin

GROWTH = 64  # tokens by which the slots grow


class _Layer(CacheLayerMixin):
    """Keys and values of one layer, each [slots, key-value heads, capacity, head_dim]."""

    def __init__(self, owner: RowCache) -> None:
        super().__init__()  # type: ignore[no-untyped-call]
        self.owner = weakref.proxy(owner)  # a cycle would keep the slots, gigabytes, until Python looks for cycles

    def lazy_initialization(self, key_states: torch.Tensor, value_states: torch.Tensor) -> None:
        _, heads, _, dim = key_states.shape
        shape = (self.owner.slots, heads, self.owner.capacity, dim)
        self.keys, self.values = key_states.new_zeros(shape), value_states.new_zeros(shape)
        self.is_initialized = True

    def fit(self) -> None:
        """Grow to the owner's slots and capacity, keeping what is stored."""
        if not self.is_initialized:
            return
        for name in ("keys", "values"):
            old = getattr(self, name)
            new = old.new_zeros((self.owner.slots, old.shape[1], self.owner.capacity, old.shape[3]))
            rows, width = min(old.shape[0], new.shape[0]), min(old.shape[2], new.shape[2])
            new[:rows, :, :width] = old[:rows, :, :width]
            setattr(self, name, new)

    def update(self, key_states: torch.Tensor, value_states: torch.Tensor, *args: Any, **kwargs: Any) -> Any:
        """Store the new tokens. Entering rows get their own back; decoding rows get all that their slots hold."""
        if not self.is_initialized:
            self.lazy_initialization(key_states, value_states)
        assert self.keys is not None and self.values is not None
        rows, _, width, _ = key_states.shape
        first = self.owner.entering
        if first is not None:
            self.keys[first : first + rows, :, :width] = key_states
            self.values[first : first + rows, :, :width] = value_states
            return key_states, value_states
        index, place = self.owner.index_on(key_states.device)
        self.keys[index, :, place] = key_states[:, :, 0]
        self.values[index, :, place] = value_states[:, :, 0]
        return self.keys[:rows, :, : self.owner.longest], self.values[:rows, :, : self.owner.longest]

    def move(self, source: int, target: int, length: int) -> None:
        for stored in (self.keys, self.values):
            assert stored is not None
            stored[target, :, :length] = stored[source, :, :length]

    def get_seq_length(self) -> int:
        return 0

    def get_mask_sizes(self, query_length: int) -> tuple[int, int]:
        return query_length, 0

    def get_max_length(self) -> int:
        return -1


class RowCache(Cache):
    """The slots of all layers. `lengths`: stored own tokens of each active row."""

    def __init__(self, layers: int, slots: int, capacity: int) -> None:
        self.slots, self.capacity = slots, capacity
        self.lengths: list[int] = []
        self.entering: int | None = None  # slot of the first entering row, during a prefill
        self.longest = 0
        self._index: tuple[Any, Any] | None = None
        super().__init__(layers=[_Layer(self) for _ in range(layers)])

    def enter(self, lengths: list[int]) -> None:
        """The next forward is a prefill of new rows with these own lengths."""
        self.entering = len(self.lengths)
        self._reserve(max(lengths))
        self.lengths += lengths

    def step(self) -> None:
        """The next forward adds one token to every active row."""
        self.entering = None
        self._reserve(max(self.lengths) + 1)
        self.lengths = [length + 1 for length in self.lengths]
        self.longest = max(self.lengths)

    def write_at(self, places: torch.Tensor, whole: bool = False) -> None:
        """Where the first rows' tokens of the next forward go: int64 [B] on a device. whole: attention gets the slots
        in full, not as far as the longest row."""
        alone = len(places) == 1 and not whole and places.device.type == "cpu"  # numbers are read faster than tensors
        self._index = (slice(0, 1), int(places)) if alone else (torch.arange(len(places), device=places.device), places)
        if whole:
            self.longest = self.capacity

    def capacity_of_next_step(self) -> int:
        return self._capacity_for(max(self.lengths) + 1)

    def _capacity_for(self, width: int) -> int:
        return self.capacity if width <= self.capacity else -(-width // GROWTH) * GROWTH

    @torch.inference_mode()
    def _reserve(self, width: int) -> None:
        if width > self.capacity:
            self.capacity = self._capacity_for(width)
            for layer in self.layers:
                layer.fit()  # type: ignore[union-attr]

    def index_on(self, device: torch.device) -> tuple[Any, Any]:
        """Slots and write positions of the active rows, int64 [B] each, on a device (layers may lie on several); of a
        single row on a CPU a slice and a number."""
        assert self._index is not None, "step() comes before the forward"
        if isinstance(self._index[0], torch.Tensor) and self._index[0].device != device:
            self._index = (self._index[0].to(device), self._index[1].to(device))
        return self._index

    @torch.inference_mode()
    def drop(self, slot: int) -> None:
        """Remove a row; the last active row takes its slot."""
        last = len(self.lengths) - 1
        if slot != last:
            layers: list[Any] = [layer for layer in self.layers if layer.is_initialized]  # type: ignore[union-attr]
            stored = [part for layer in layers for part in (layer.keys, layer.values)]
            if stored and stored[0].is_cuda:
                # Whole slots in one call: a launch costs more than copying what nobody reads.
                torch._foreach_copy_([part[slot] for part in stored], [part[last] for part in stored])
            else:
                for layer in layers:
                    layer.move(last, slot, self.lengths[last])
            self.lengths[slot] = self.lengths[last]
        self.lengths.pop()
