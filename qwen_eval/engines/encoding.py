"""What the engines that see tokens have in common: prompts become the same ids whatever runs the model."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Sequence
from functools import cached_property
from typing import Any

from qwen_eval.engines.base import GenerateRequest, Turns
from qwen_eval.engines.decoding import Decoding
from qwen_eval.engines.local.prompts import Encoder
from qwen_eval.errors import UserError

import numpy as np


class EncodingEngine(ABC):
    """The half of an engine that needs no weights. tokenizer: `qwen_model.loading.load_tokenizer` of the checkpoint."""

    counts = None  # no endpoint
    tokenizer: Any

    @property
    @abstractmethod
    def embedded(self) -> int:
        """How many token ids the model has an embedding of."""

    @abstractmethod
    def stop_tokens(self, chat: bool) -> frozenset[int]:
        """The ids that end a reply: see Encoder.stop_tokens."""

    @cached_property
    def encoder(self) -> Encoder:
        return Encoder(self.tokenizer)

    def set_thinking(self, on: bool, switch: bool | None) -> None:
        """See `Engine.set_thinking`."""
        if self.encoder.enable_thinking != switch:
            self.encoder = Encoder(self.tokenizer, switch)

    def encode(
        self,
        prompts: Sequence[str],
        chat: bool = False,
        raw: bool = False,
        assistant_prefill: Sequence[str] | None = None,
        examples: Sequence[Turns] | None = None,
    ) -> list[np.ndarray]:
        """Token ids (int32 [T]) of each prompt: plain text, or a user turn of a chat. raw: see Encoder.plain;
        assistant_prefill, examples: see Encoder.chat."""
        encoded = self.encoder.chat(prompts, assistant_prefill, examples) if chat else self.encoder.plain(prompts, raw)
        self._check_ids(encoded)
        return encoded

    def last_tokens(self, prompt: np.ndarray, count: int) -> np.ndarray:
        """See `Engine.last_tokens`."""
        return prompt[-count:] if len(prompt) > count else prompt

    def _check_ids(self, encoded: Sequence[Sequence[int] | np.ndarray]) -> None:
        """UserError where the tokenizer gives ids that the model has no embedding of."""
        embedded = self.embedded
        for tokens in encoded:
            if len(tokens) and (highest := int(np.max(tokens))) >= embedded:
                raise UserError(
                    f"the tokenizer gives the id {highest:,} and the model has {embedded:,} embeddings: they do not "
                    "belong together, or tokens were added and the model was not resized"
                )

    def prompt_text(self, prompt: np.ndarray) -> str:
        """An encoded prompt as text, with the special tokens of the chat frame."""
        return self.encoder.text(prompt.tolist())

    def generate_requests(
        self, prompts: Sequence[np.ndarray], decoding: Decoding, chat: bool, seeds: Sequence[str]
    ) -> list[GenerateRequest]:
        """Requests with one run's settings. seeds: hexadecimal, one a request; they matter only with a temperature."""
        stop_tokens = self.stop_tokens(chat)
        return [
            GenerateRequest(
                tokens,
                decoding.max_new_tokens,
                stop_tokens,
                decoding.stop,
                decoding.temperature,
                decoding.top_p,
                decoding.top_k,
                decoding.repetition_penalty,
                int(seed, 16),
                decoding.presence_penalty,
            )
            for tokens, seed in zip(prompts, seeds, strict=True)
        ]

    def candidate_ids(
        self, prompts: Sequence[str], candidates: Sequence[str], chat: bool = False
    ) -> list[tuple[int, ...]]:
        """For each prompt the ids of its candidates, one token each: see Encoder.candidate_ids."""
        return self.encoder.candidate_ids(prompts, candidates, chat)

    def continuation_ids(
        self, context: str, continuations: Sequence[str], chat: bool = False
    ) -> list[tuple[np.ndarray, tuple[int, ...]]]:
        """For each continuation the ids of the context and its own: see Encoder.continuation_ids."""
        pairs = self.encoder.continuation_ids(context, continuations, chat)
        for start, own in pairs:
            self._check_ids([start, own])
        return pairs
