"""The engine: four kinds of request (`choose`, `loglikelihood`, `generate`, `score`), nothing about benchmarks.

Answers come as they finish, each with the index of its request, so that a caller can write every item to disk at once.
Engines: `local.engine.LocalEngine` (transformers with `qwen_model`), `vllm.VllmEngine` (vLLM in this process) and
`openai.OpenAIEngine` (an endpoint).
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import TYPE_CHECKING, Any, NamedTuple, Protocol, TypeVar

from qwen_eval.engines.decoding import Decoding

import numpy as np

if TYPE_CHECKING:
    from qwen_model.long_context import LongContext


Prompt = TypeVar("Prompt")
Generation = TypeVar("Generation")
#: turns of a chat that stand before the one asked: (user's text, assistant's text), the oldest first
Turns = tuple[tuple[str, str], ...]


class ChoiceRequest(NamedTuple):
    """Wanted: the next-token logits, fp32, of `candidates` (token ids, of any number that may differ from request to
    request) after `tokens` (int32 [T])."""

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

    temperature 0 is greedy; a sampled reply depends on `seed` and the request alone. presence_penalty: what a token
    that the reply has already loses of its logit.
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
    presence_penalty: float = 0.0


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


class Engine(Protocol[Prompt, Generation]):
    """What a run asks of an engine. Every answer comes with the index of its request, as soon as it is there.

    An engine says in its own way what it takes: `Prompt` is what `encode` makes of a text (token ids for the local
    engine, messages for an endpoint), `Generation` a request to `generate`. An engine that cannot answer a kind of
    request raises UserError, one line, as soon as it is asked to encode one.
    """

    def encode(
        self,
        prompts: Sequence[str],
        chat: bool = ...,
        raw: bool = False,
        assistant_prefill: Sequence[str] | None = None,
        examples: Sequence[Turns] | None = None,
    ) -> list[Prompt]:
        """Each text as it goes into the model: a text to go on from or, with `chat`, one user turn.

        raw: without the NFC normalisation of a first-generation Qwen's tokenizer. assistant_prefill: for each prompt
        what of the assistant's turn is there already. examples: for each prompt the turns before it, with `chat` only.
        """
        ...

    def set_thinking(self, on: bool, switch: bool | None) -> None:
        """Said before the first prompt of a run whose model can think. on: it will; switch: what its chat template is
        told (`enable_thinking`), None: nothing. UserError where the template is known not to know it."""
        ...

    def last_tokens(self, prompt: Prompt, count: int) -> Prompt:
        """The last `count` tokens of a prompt that has more; any other as it is, and every prompt of an engine that
        does not see tokens."""
        ...

    def candidate_ids(
        self, prompts: Sequence[str], candidates: Sequence[str], chat: bool = ...
    ) -> list[tuple[int, ...]]:
        """For each prompt the ids of its candidates, of one token each behind the prompt."""
        ...

    def continuation_ids(
        self, context: str, continuations: Sequence[str], chat: bool = ...
    ) -> list[tuple[np.ndarray, tuple[int, ...]]]:
        """For each continuation the ids of the context, int32 [T], and its own ids behind them."""
        ...

    def prompt_text(self, prompt: Prompt) -> str:
        """An encoded prompt as the model sees it, as text."""
        ...

    def choose(self, requests: Sequence[ChoiceRequest]) -> Iterator[tuple[int, list[float] | NoReply]]:
        """Yields (index of the request, logits of its candidates in their order, up to a constant of each prompt);
        NoReply where an endpoint gave none."""
        ...

    def loglikelihood(self, requests: Sequence[LogLikelihoodRequest]) -> Iterator[tuple[int, Likelihood]]:
        """Yields (index of the request, likelihood of its continuation)."""
        ...

    def generate_requests(
        self, prompts: Sequence[Prompt], decoding: Decoding, chat: bool, seeds: Sequence[str]
    ) -> list[Generation]:
        """Requests with one run's settings. seeds: hexadecimal, one per prompt; they matter only with a temperature."""
        ...

    def generate(self, requests: Sequence[Generation]) -> Iterator[tuple[int, Reply | NoReply]]:
        """Yields (index of the request, its reply) as replies end; NoReply where an endpoint failed for good."""
        ...

    def score(
        self, requests: Sequence[ScoreRequest], progress: Callable[[int], Any] | None = None
    ) -> Iterator[tuple[int, np.ndarray]]:
        """Yields (index of the request, log-likelihoods of its tokens); `progress` is told how many tokens are done."""
        ...

    def notes(self) -> list[str]:
        """What a reader of the figures should know of how they were made, once the model has answered."""
        ...

    @property
    def counts(self) -> Mapping[str, int] | None:
        """How many requests an endpoint was asked, tried again and failed; None for a local model."""
        ...
