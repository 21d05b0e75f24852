"""The engine: four kinds of request (`choose`, `loglikelihood`, `generate`, `score`), nothing about benchmarks.

Prompts are token ids. Results come as they finish, each with the index of its request, so that a caller can write
every item to disk at once. `open_engine` gives the local engine: transformers with `qwen_model`.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from typing import TYPE_CHECKING, Any, NamedTuple, Protocol

import numpy as np

if TYPE_CHECKING:
    from qwen_model.long_context import LongContext


class ChoiceRequest(NamedTuple):
    """Wanted: the next-token logits, fp32, of `candidates` (token ids) after `tokens` (int32 [T])."""

    tokens: np.ndarray
    candidates: tuple[int, ...]


class LogLikelihoodRequest(NamedTuple):
    """Wanted: how likely `continuation` (token ids, at least one) is after the context `tokens` (int32 [T], T >= 1)."""

    tokens: np.ndarray
    continuation: tuple[int, ...]

    def cut(self, limit: int) -> LogLikelihoodRequest:
        """As lm-evaluation-harness cuts a pair from the left: at most `limit` tokens go into the model, which are all
        but the last, whose successor nobody asks for. ValueError where the continuation alone is longer."""
        if len(self.continuation) > limit:
            raise ValueError(f"a continuation of {len(self.continuation)} tokens is longer than the limit of {limit}")
        return self._replace(tokens=self.tokens[max(0, len(self.tokens) + len(self.continuation) - limit - 1) :])


class Likelihood(NamedTuple):
    """`log_likelihood`: the sum over the continuation's tokens, in nats, fp32; `is_greedy`: each of them is the
    likeliest one at its place."""

    log_likelihood: float
    is_greedy: bool


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
    """`text` before the stop; `tokens`: how many were generated; `finish`: "stop" or "length"; `reasoning`: what an
    endpoint gives apart from the text."""

    text: str
    tokens: int
    finish: str
    reasoning: str = ""


class NoReply(NamedTuple):
    """What stands for a reply that an endpoint did not give. kind: the same words for all failures of one kind;
    of_item: it may be this prompt's fault, not the endpoint's."""

    kind: str
    detail: str
    of_item: bool = False


class ScoreRequest(NamedTuple):
    """Wanted: the log-likelihoods, fp32 [T - first], of `tokens[first:]`, each given all tokens before it.

    tokens: int32 [T]. long_context: how a first-generation Qwen reads them (qwen_model.LongContext), None: as loaded;
    its NTK factor is that of T tokens.
    """

    tokens: np.ndarray
    long_context: LongContext | None = None
    first: int = 1


class Engine(Protocol):
    def choose(self, requests: Sequence[ChoiceRequest]) -> Iterator[tuple[int, list[float]]]:
        """Yields (index of the request, logits of its candidates in their order)."""
        ...

    def loglikelihood(self, requests: Sequence[LogLikelihoodRequest]) -> Iterator[tuple[int, Likelihood]]:
        """Yields (index of the request, likelihood of its continuation)."""
        ...

    def generate(self, requests: Sequence[GenerateRequest]) -> Iterator[tuple[int, Reply | NoReply]]:
        """Yields (index of the request, its reply) as replies end; NoReply where an endpoint failed for good."""
        ...

    def score(
        self, requests: Sequence[ScoreRequest], progress: Callable[[int], Any] | None = None
    ) -> Iterator[tuple[int, np.ndarray]]:
        """Yields (index of the request, log-likelihoods of its tokens); `progress` is told how many tokens are done."""
        ...
