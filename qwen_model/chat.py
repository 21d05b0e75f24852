"""`model.chat` and `model.chat_stream`, as the published chat checkpoints had them.

The prompt is ChatML, put together from token ids; generation follows generation_config.json, with the stop words of the
chat format; the text of the reply is what the published code gives (quirks Q17 and Q19 of docs/quirks.md). Source:
QwenLM/Qwen's README and the last published modelling file.
"""

from __future__ import annotations

import threading
from collections.abc import Iterator, Sequence
from queue import SimpleQueue
from typing import Any

import torch
from transformers import GenerationConfig, StoppingCriteria, StoppingCriteriaList
from transformers.generation.streamers import BaseStreamer

from .chatml import DEFAULT_SYSTEM, DEFAULT_WINDOW, decode_reply, get_stop_words_ids, make_context
from .generation import QWenGeneration
from .tokenization import QWenTokenizer

History = Sequence[Sequence[str]]


class QWenChat(QWenGeneration):
    """One turn of a conversation, with this model."""

    def chat(
        self,
        tokenizer: QWenTokenizer,
        query: str,
        history: History | None = None,
        system: str = DEFAULT_SYSTEM,
        stream: bool | None = None,
        stop_words_ids: list[list[int]] | None = None,
        generation_config: GenerationConfig | None = None,
        **kwargs: Any,
    ) -> tuple[str, list[Any]]:
        """The reply to `query`, and the history with this turn at its end; the one given stays as it is.

        Args:
            history: (query, response) turns, oldest first.
            stop_words_ids: further id sequences at which the reply ends; the reply holds them, as published.
            generation_config: default: the checkpoint's.
            **kwargs: `max_window_size`, in tokens of system text and history, and what `generate` takes.

        Raises:
            ValueError: `stream` is given, or generation_config.json is not that of a chat checkpoint.
        """
        if stream is not None:
            raise ValueError("chat gives the whole reply: for a growing one call chat_stream, without stream=")
        asked, options = self._chat_inputs(tokenizer, query, history, system, stop_words_ids, generation_config, kwargs)
        ids = self.generate(**asked, **options)
        reply = decode_reply(tokenizer, ids[0, asked["input_ids"].shape[1] :].tolist()).text
        return reply, [*(history or []), (query, reply)]

    def chat_stream(
        self,
        tokenizer: QWenTokenizer,
        query: str,
        history: History | None = None,
        system: str = DEFAULT_SYSTEM,
        stop_words_ids: list[list[int]] | None = None,
        logits_processor: Any = None,
        generation_config: GenerationConfig | None = None,
        **kwargs: Any,
    ) -> Iterator[str]:
        """As `chat`: after each new token the reply so far, without special tokens and not stripped."""
        asked, options = self._chat_inputs(tokenizer, query, history, system, stop_words_ids, generation_config, kwargs)
        ids: list[int] = []
        for token in self._tokens({**asked, **options, "logits_processor": logits_processor}):
            ids.append(token)
            yield str(tokenizer.decode(ids, skip_special_tokens=True, errors="ignore"))

    def _chat_inputs(
        self,
        tokenizer: QWenTokenizer,
        query: str,
        history: History | None,
        system: str,
        stop_words_ids: list[list[int]] | None,
        generation_config: GenerationConfig | None,
        kwargs: dict[str, Any],
    ) -> tuple[dict[str, Any], dict[str, Any]]:
        """The prompt as input_ids and attention_mask, each int64 [1, T], and the other arguments of `generate`."""
        config = generation_config or self.generation_config
        given = (getattr(each, "chat_format", None) for each in (config, self.generation_config))
        chat_format = next((found for found in given if found is not None), None)
        if chat_format != "chatml":
            raise ValueError(
                f"chat needs a chat checkpoint, with chat_format chatml in generation_config.json, not {chat_format!r}"
            )
        options = {"generation_config": config, **kwargs}
        window = options.pop("max_window_size", None) or getattr(config, "max_window_size", None) or DEFAULT_WINDOW
        _, ids = make_context(tokenizer, query, history, system, max_window_size=window)
        options["stop_words_ids"] = [*(stop_words_ids or []), *get_stop_words_ids(chat_format, tokenizer)]
        for name in ("eos_token_id", "pad_token_id"):  # both are <|endoftext|> in every published checkpoint
            if getattr(config, name, None) is None and getattr(self.generation_config, name, None) is None:
                options.setdefault(name, tokenizer.eod_id)
        prompt = torch.tensor([ids], device=self.device)
        return {"input_ids": prompt, "attention_mask": torch.ones_like(prompt)}, options

    def _tokens(self, options: dict[str, Any]) -> Iterator[int]:
        """The generated ids as they come. `generate` runs in a thread of its own; it ends with this iterator."""
        stream = _TokenStream()
        criteria = StoppingCriteriaList([*(options.pop("stopping_criteria", None) or []), _Stopped(stream.stopped)])
        thread = threading.Thread(target=stream.fill, args=(self, {**options, "stopping_criteria": criteria}))
        thread.start()
        try:
            while not isinstance(found := stream.queue.get(), _End):
                yield found
            if found.error is not None:
                raise found.error
        finally:
            stream.stopped.set()
            thread.join()


class _End:
    """The end of a stream, and the error that ended it."""

    def __init__(self, error: BaseException | None = None) -> None:
        self.error = error


class _TokenStream(BaseStreamer):
    """Hands each new id to another thread."""

    def __init__(self) -> None:
        self.queue: SimpleQueue[Any] = SimpleQueue()
        self.stopped = threading.Event()
        self._prompt = True

    def put(self, value: torch.Tensor) -> None:
        """transformers gives the prompt first."""
        if not self._prompt:
            for token in value.reshape(-1).tolist():
                self.queue.put(token)
        self._prompt = False

    def end(self) -> None:
        """The end is told where `generate` returns."""

    def fill(self, model: QWenGeneration, options: dict[str, Any]) -> None:
        """Generate, and say how it ended."""
        try:
            model.generate(**options, streamer=self)
            self.queue.put(_End())
        except BaseException as error:
            self.queue.put(_End(error))


class _Stopped(StoppingCriteria):
    """Ends generation where nobody takes the tokens any more."""

    def __init__(self, stopped: threading.Event) -> None:
        self.stopped = stopped

    def __call__(self, input_ids: torch.Tensor, scores: torch.Tensor, **kwargs: Any) -> torch.Tensor:
        return torch.full((len(input_ids),), self.stopped.is_set(), device=input_ids.device)
