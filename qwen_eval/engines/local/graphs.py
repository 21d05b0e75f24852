"""Decoding steps as CUDA graphs: what a step asks of the GPU is recorded once and replayed, so that the host's share of
a step (a thousand launches through Python) is gone.

A step is the same for every token but for the rows' last tokens and their places, which go into one tensor of fixed
address. The number of rows is rounded up: rows that are not there write into the first place of a free slot, which
is overwritten when a row enters it. Source: PyTorch's CUDAGraph (torch.cuda.CUDAGraph.capture_begin).
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Sequence
from typing import Any

from qwen_eval.engines.local.attention import reads_what_is_seen
from qwen_eval.engines.local.forward import device_of, on_device
from qwen_eval.engines.local.rows import RowCache

import torch

WORTH_RECORDING = 1  # steps of one size before it is recorded: recording takes as long as two of them
SIZES = 8  # sizes of the batch that are recorded

Decode = Callable[[torch.Tensor], torch.Tensor]


def usable(model: Any) -> bool:
    """Whether this model's steps can be recorded: first-generation Qwen, on one GPU, with the kernel that reads of a
    slot what is seen. Other models' code may look at the numbers, which no graph can."""
    if not hasattr(model, "ntk_alpha") or hasattr(model, "hf_device_map"):
        return False
    weight = model.get_input_embeddings().weight
    head = torch.empty(0, model.config.kv_channels, dtype=weight.dtype, device=weight.device)
    return reads_what_is_seen(head) and {parameter.device for parameter in model.parameters()} == {weight.device}


class Graphs:
    """The recorded steps of one batch, for one cache."""

    def __init__(self, model: Any, cache: RowCache) -> None:
        self.cache, self.device = cache, device_of(model)
        # On the device: frequencies that the model remembers; a graph reads them where they were.
        self.tables = model.transformer._tables
        self.held: list[torch.Tensor] = []
        self.capacity = cache.capacity
        self.recorded: dict[int, tuple[torch.cuda.CUDAGraph, torch.Tensor, torch.Tensor]] = {}
        self.uses: Counter[int] = Counter()
        self.stream: Any = None
        self.pool: Any = None

    def run(self, inputs_of_rows: Sequence[Sequence[int]], decode: Decode) -> tuple[torch.Tensor, torch.Tensor]:
        """One step. inputs_of_rows: each row's token and place. Returns the tokens, int64 [B], and the hidden states,
        [B, h], both on the device and good until the next step."""
        rows = len(inputs_of_rows)
        given = on_device([*inputs_of_rows, *[[0, 0]] * (self._size(rows) - rows)], self.device)
        if self.cache.capacity != self.capacity:  # the slots have moved
            self.capacity = self.cache.capacity
            self.recorded.clear()
            self.uses.clear()
            self.pool = None  # a pool whose graphs are all gone takes no new one
        size = len(given)
        self.uses[size] += 1
        if size not in self.recorded and self.uses[size] > WORTH_RECORDING:
            self.recorded[size] = self._record(given, decode)
        if size not in self.recorded:
            return given[:rows, 0], decode(given)[:rows]
        graph, fixed, hidden = self.recorded[size]
        fixed.copy_(given)
        graph.replay()
        return given[:rows, 0], hidden[:rows]

    def _size(self, rows: int) -> int:
        """The number of rows, rounded up to one of a few sizes."""
        unit = max(1, self.cache.slots // SIZES)
        return min(self.cache.slots, -(-rows // unit) * unit)

    def _record(self, given: torch.Tensor, decode: Decode) -> tuple[torch.cuda.CUDAGraph, torch.Tensor, torch.Tensor]:
        """The graph, its tensor of tokens and places, its hidden states."""
        self.stream = self.stream or torch.cuda.Stream(self.device)
        self.pool = self.pool or torch.cuda.graph_pool_handle()
        fixed, graph = given.clone(), torch.cuda.CUDAGraph()
        self.stream.wait_stream(torch.cuda.current_stream(self.device))
        with torch.cuda.stream(self.stream):
            decode(fixed)  # what a library sets up at its first call on a stream does not belong into the graph
            graph.capture_begin(pool=self.pool, capture_error_mode="thread_local")
            try:
                hidden = decode(fixed)
            finally:
                graph.capture_end()
        torch.cuda.current_stream(self.device).wait_stream(self.stream)
        self.held += self.tables._inv_freq.values()
        return graph, fixed, hidden
