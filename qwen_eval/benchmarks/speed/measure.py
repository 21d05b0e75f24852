"""What is timed of one loaded model: generating a fixed number of tokens, reading a prompt, and the memory of both.

Two ways to generate. `engine`: this harness's own decoding. Any other name is an attention kernel of transformers
(`sdpa`, `eager`, `flash_attention_2`): the model's own forward with a growing cache, one token at a time, as the cards'
figures were made. Batch 1, greedy, no end token; the device is waited for before the clock starts and stops.
"""

from __future__ import annotations

import time
from typing import Any, NamedTuple

from qwen_eval.benchmarks.speed.limits import Sizes, copy_bandwidth, sizes_of, state, wait_for
from qwen_eval.benchmarks.speed.process import peak_memory
from qwen_eval.engines.base import GenerateRequest
from qwen_eval.engines.local.engine import LocalEngine

import numpy as np
import torch

ENGINE = "engine"
WARM_UP = 16  # tokens that are generated before the first timing
CONTEXT = 1  # tokens before the generated ones, as in the cards' tables


class Spent(NamedTuple):
    """seconds: of the whole; peak: most bytes of memory held meanwhile, the weights included."""

    seconds: float
    peak: int


class About(NamedTuple):
    """A loaded contender. bandwidth: bytes per second of a large copy in this process."""

    sizes: Sizes
    bandwidth: float
    device: str
    dtype: str
    backend: str
    state: str


class Measured:
    """A model that is timed. way: `engine`, or an attention kernel."""

    def __init__(self, engine: LocalEngine, way: str) -> None:
        self.engine, self.model, self.way = engine, engine.model, way
        self.device = self.model.get_input_embeddings().weight.device
        self.vocabulary = self.model.get_input_embeddings().weight.shape[0]

    def about(self) -> About:
        name = torch.cuda.get_device_name(self.device) if self.device.type == "cuda" else "CPU"
        backend = getattr(self.model, "gptq_backend", None) or ""
        bandwidth = copy_bandwidth(self.device)
        dtype = str(self.model.dtype).removeprefix("torch.")
        return About(sizes_of(self.model), bandwidth, name, dtype, backend, state(self.device))

    def warm_up(self) -> None:
        self.generate(WARM_UP)
        self.encode(64)

    def generate(self, tokens: int) -> Spent:
        """Generate so many tokens behind CONTEXT tokens."""
        prompt = self._prompt(CONTEXT)
        return self._timed(
            lambda: self._by_engine(prompt, tokens) if self.way == ENGINE else self._by_forward(prompt, tokens)
        )

    def encode(self, tokens: int) -> Spent:
        """Read a prompt of so many tokens, and generate one."""
        prompt = self._prompt(tokens)
        return self._timed(lambda: self._by_engine(prompt, 1) if self.way == ENGINE else self._by_forward(prompt, 1))

    def _prompt(self, tokens: int) -> np.ndarray:
        return np.random.default_rng(0).integers(0, min(self.vocabulary, 20_000), tokens).astype(np.int32)

    def _by_engine(self, prompt: np.ndarray, tokens: int) -> None:
        request = GenerateRequest(prompt, tokens, frozenset(), (), 0.0, 1.0, 0, 1.0, 0)
        ((_, reply),) = self.engine.generate([request])
        assert reply.tokens == tokens, "an end token cannot come: there is none"

    @torch.inference_mode()
    def _by_forward(self, prompt: np.ndarray, tokens: int) -> None:
        from qwen_eval.engines.local.forward import cache_keyword, last_logits, new_cache

        cache, keyword = new_cache(self.model), cache_keyword(self.model)
        ids = torch.from_numpy(prompt.astype(np.int64))[None].to(self.device)
        for _ in range(tokens):
            logits = last_logits(self.model, input_ids=ids, use_cache=True, **{keyword: cache})
            ids = logits.argmax(dim=-1, keepdim=True)

    def _timed(self, work: Any) -> Spent:
        wait_for(self.device)
        if self.device.type == "cuda":
            torch.cuda.reset_peak_memory_stats(self.device)
        start = time.perf_counter()
        work()
        wait_for(self.device)
        return Spent(time.perf_counter() - start, self._peak())

    def _peak(self) -> int:
        if self.device.type == "cuda":
            return sum(torch.cuda.max_memory_allocated(index) for index in range(torch.cuda.device_count()))
        return peak_memory()
