"""The openai engine: a chat model behind any OpenAI-compatible endpoint (vLLM, SGLang, llama.cpp, a hosted one).

`--engine openai --base-url http://host:8000/v1 -c NAME`, the key from OPENAI_API_KEY. Texts only: `generate`, through
/chat/completions. The server puts the chat template around the one user turn, and its system text, if any, is its own.
A turn that is begun already goes as a last message of the assistant, with the flags by which vLLM and SGLang go on from
it; a server that does not know them refuses or starts a new turn.
"""

from __future__ import annotations

import os
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor, as_completed
from typing import Any, NoReturn

from ..decoding import Decoding
from ..errors import UserError, one_line
from . import ChoiceRequest, Reply

AT_A_TIME = 16
TRIES = 5  # the client waits between them
CONTINUE = {"continue_final_message": True, "add_generation_prompt": False}
Messages = list[dict[str, Any]]


def check_url(url: str) -> None:
    """UserError for what cannot be an endpoint's address."""
    if not url.startswith(("http://", "https://")):
        raise UserError(f"{url!r} is no address of an endpoint; it begins with http:// or https://")


def connect(base_url: str, keys: Sequence[str] = ("OPENAI_API_KEY",), **options: Any) -> Any:
    """A client of the endpoint. keys: environment variables that may hold the key, the first that is set counts;
    without one a placeholder goes, which local servers ignore."""
    check_url(base_url)
    try:
        import openai
    except ImportError as error:
        raise UserError(f"{error.name} is not installed; pip install openai") from error
    key = next((os.environ[name] for name in keys if os.environ.get(name)), "none")
    return openai.OpenAI(base_url=base_url, api_key=key, **options)


def complete(client: Any, base_url: str, **request: Any) -> Any:
    """One chat completion. Raises UserError, in one line, when the endpoint does not give it."""
    import openai

    try:
        done = client.chat.completions.create(**request)
    except (openai.OpenAIError, ValueError) as error:  # ValueError: what came is no JSON
        raise UserError(f"{base_url} gave no reply ({one_line(error)[:200]})") from error
    if not getattr(done, "choices", None):
        raise UserError(f"{base_url} sent no chat completion; is it OpenAI-compatible?")
    return done


class OpenAIEngine:
    """A served model. rows: requests in flight at most (default: 16)."""

    def __init__(self, base_url: str, model: str, rows: int | None = None) -> None:
        self.base_url, self.model, self.rows = base_url, model, rows or AT_A_TIME
        self.client = connect(base_url, max_retries=TRIES, timeout=600)

    def encode(
        self, prompts: Sequence[str], chat: bool = True, raw: bool = False, begun: Sequence[str] | None = None
    ) -> list[Messages]:
        """The messages of each prompt, as `generate_requests` takes them."""
        turns = [[{"role": "user", "content": text}] for text in prompts]
        for turn, text in zip(turns, begun or [], strict=False):
            if text:
                turn.append({"role": "assistant", "content": text})
        return turns

    def prompt_text(self, prompt: Messages) -> str:
        """The messages as text: what is sent. The frame that the server puts around them is not known here."""
        return "\n".join(f"{message['role']}: {message['content']}" for message in prompt)

    def generate_requests(
        self, prompts: Sequence[Messages], decoding: Decoding, chat: bool, seeds: Sequence[str]
    ) -> list[dict[str, Any]]:
        """Keywords of the client's `chat.completions.create`; the seed goes only with a temperature."""
        requests = []
        for messages, seed in zip(prompts, seeds, strict=True):
            extra: dict[str, Any] = dict(CONTINUE) if messages[-1]["role"] == "assistant" else {}
            if decoding.repetition_penalty != 1.0:
                extra["repetition_penalty"] = decoding.repetition_penalty
            request = {
                "model": self.model,
                "messages": messages,
                "max_tokens": decoding.max_new_tokens,
                "temperature": decoding.temperature,
                "extra_body": extra,
            }
            if decoding.stop:
                request["stop"] = list(decoding.stop)
            if decoding.temperature:
                request |= {"top_p": decoding.top_p, "seed": int(seed, 16) % 2**31}
                extra |= {"top_k": decoding.top_k} if decoding.top_k else {}
            requests.append(request)
        return requests

    def generate(self, requests: Sequence[dict[str, Any]]) -> Iterator[tuple[int, Reply]]:
        """See `Engine.generate`."""
        with ThreadPoolExecutor(self.rows) as executor:
            running = {executor.submit(self._ask, request): index for index, request in enumerate(requests)}
            try:
                for future in as_completed(running):
                    yield running[future], future.result()
            finally:
                executor.shutdown(cancel_futures=True)

    def _ask(self, request: dict[str, Any]) -> Reply:
        done = complete(self.client, self.base_url, **request)
        choice, usage = done.choices[0], getattr(done, "usage", None)
        finish = "length" if choice.finish_reason == "length" else "stop"
        return Reply(choice.message.content or "", getattr(usage, "completion_tokens", 0) or 0, finish)

    def single_tokens(self, texts: Sequence[str]) -> NoReturn:
        raise UserError("an OpenAI-compatible endpoint gives texts, no logits of choices; use --engine local")

    def choose(self, requests: Sequence[ChoiceRequest]) -> NoReturn:
        self.single_tokens(())

    def score(self, *_: Any) -> NoReturn:
        raise UserError("an OpenAI-compatible endpoint gives no likelihoods of a given text; use --engine local")
