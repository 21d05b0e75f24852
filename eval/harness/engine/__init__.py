"""The engine: three kinds of request (`choose`, `generate`, `score`), nothing about benchmarks.

Prompts are token ids. Results come as they finish, each with the index of its request, so that a caller can write
every item to disk at once. `open_engine` gives the local engine: transformers with `qwen_model`.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import NamedTuple, Protocol

import numpy as np


class ChoiceRequest(NamedTuple):
    """Wanted: the next-token logits, fp32, of `candidates` (token ids) after `tokens` (int32 [T])."""

    tokens: np.ndarray
    candidates: tuple[int, ...]


class GenerateRequest(NamedTuple):
    """Wanted: the text that follows `tokens` (int32 [T]), up to a stop token, a stop string or `max_new_tokens`.

    temperature 0 is greedy; a sampled reply depends on `seed` and the request alone.
    """

    tokens: np.ndarray
    max_new_tokens: int
    stop_tokens: frozenset[int] = frozenset()
    stop: tuple[str, ...] = ()
    temperature: float = 0.0
    top_p: float = 1.0
    top_k: int = 0
    repetition_penalty: float = 1.0
    seed: int = 0


class Reply(NamedTuple):
    """`text` before the stop; `tokens`: how many were generated; `finish`: "stop" or "length"."""

    text: str
    tokens: int
    finish: str


class Engine(Protocol):
    def choose(self, requests: Sequence[ChoiceRequest]) -> Iterator[tuple[int, list[float]]]:
        """Yields (index of the request, logits of its candidates in their order)."""
        ...

    def generate(self, requests: Sequence[GenerateRequest]) -> Iterator[tuple[int, Reply]]:
        """Yields (index of the request, its reply) as replies end."""
        ...
