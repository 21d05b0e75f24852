"""The openai engine: a model behind any OpenAI-compatible endpoint (vLLM, SGLang, llama.cpp, a hosted one).

`--engine openai --base-url http://host:8000/v1 -c NAME`, the key from OPENAI_API_KEY.

A chat is asked for texts, through /chat/completions. The server puts the chat template around the turns, and
its system text, if any, is its own. What of the assistant's turn is there already goes as a last message of the
assistant, with the flags by which vLLM and SGLang go on from it; a server that does not know them refuses or starts a
new turn. A base model (`--base`) is asked through /completions, whose prompt is the text, from which the server makes
the tokens: for texts, and for choices, by the likeliest next tokens (top_logprobs.py).

One request that fails for good, or whose answer has no text, gives NoReply: the item is left out, and the run goes on.
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator, Sequence
from typing import TYPE_CHECKING, Any, NoReturn

from qwen_eval.engines.base import ChoiceRequest, Engine, LogLikelihoodRequest, NoReply, Reply, Turns
from qwen_eval.engines.decoding import Decoding
from qwen_eval.engines.endpoint import RequestFailed, check_served, complete, connect, public_url
from qwen_eval.engines.servers import Server, Sharing
from qwen_eval.engines.top_logprobs import MOST, choose, likeliest
from qwen_eval.errors import UserError

AT_A_TIME = 16
CONTINUE = {"continue_final_message": True, "add_generation_prompt": False}
Messages = list[dict[str, Any]]


class OpenAIEngine:
    """A served model. base_urls: of one server, or of several that share the work; rows: requests in flight at each, at
    most (default: 16). `counts`: requests asked, retried and failed."""

    def __init__(self, base_urls: str | Sequence[str], model: str, rows: int | None = None) -> None:
        urls = [base_urls] if isinstance(base_urls, str) else base_urls
        self.model, self.rows = model, rows or AT_A_TIME
        self.counts = {"asked": 0, "retried": 0, "failed": 0}
        self._counting = threading.Lock()
        self._most: int | None = None  # likeliest tokens that are asked for where choices are wanted
        self.servers = [Server(url, connect(url, on_request=self._count_retry)) for url in urls]

    def check(self) -> None:
        """UserError where a server does not serve the model or refuses the key: asked before the work."""
        for server in self.servers:
            check_served(server.client, server.url, self.model)

    def encode(
        self,
        prompts: Sequence[str],
        chat: bool = True,
        raw: bool = False,
        assistant_prefill: Sequence[str] | None = None,
        examples: Sequence[Turns] | None = None,
    ) -> list[Messages | str]:
        """The messages of each prompt, or without `chat` its text, as `generate_requests` takes them."""
        if not chat:
            return list(prompts)
        found: list[Messages | str] = []
        none = [""] * len(prompts)
        for text, start, turns in zip(prompts, assistant_prefill or none, examples or none, strict=True):
            earlier = [
                message
                for asked, answer in turns
                for message in (_message("user", asked), _message("assistant", answer))
            ]
            begun = [_message("assistant", start)] if start else []
            found.append([*earlier, _message("user", text), *begun])
        return found

    def last_tokens(self, prompt: Messages | str, count: int) -> Messages | str:
        """The prompt as it is: how many tokens it has, only the server knows."""
        return prompt

    def prompt_text(self, prompt: Messages | str) -> str:
        """What is sent, as text. The frame that the server puts around messages is not known here."""
        if isinstance(prompt, str):
            return prompt
        return "\n".join(f"{message['role']}: {message['content']}" for message in prompt)

    def generate_requests(
        self, prompts: Sequence[Messages | str], decoding: Decoding, chat: bool, seeds: Sequence[str]
    ) -> list[dict[str, Any]]:
        """Keywords of the client's `chat.completions.create`, or of `completions.create`; the seed goes only with a
        temperature."""
        requests = []
        for prompt, seed in zip(prompts, seeds, strict=True):
            extra: dict[str, Any] = {} if isinstance(prompt, str) or prompt[-1]["role"] == "user" else dict(CONTINUE)
            if decoding.repetition_penalty != 1.0:
                extra["repetition_penalty"] = decoding.repetition_penalty
            request: dict[str, Any] = {
                "model": self.model,
                "prompt" if isinstance(prompt, str) else "messages": prompt,
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

    def generate(self, requests: Sequence[dict[str, Any]]) -> Iterator[tuple[int, Reply | NoReply]]:
        """See `Engine.generate`. Raises UserError where the servers fail as a whole: every request so far, or GIVE_UP
        in a row; the replies that arrived are given first."""
        return self._shared(requests, complete)

    def _shared(
        self, requests: Sequence[Any], send: Callable[..., Any], count: Callable[[str], None] | None = None
    ) -> Iterator[tuple[int, Any]]:
        def ask(server: Server, number: int) -> Any:
            """An error of ours is given, not raised: it must reach the main thread."""
            try:
                return send(server.client, server.url, **requests[number])
            except RequestFailed as error:
                return error.reason
            except Exception as error:
                return error

        return Sharing(self.servers, len(requests), ask, count or self._count).answers(self.rows)

    def _count(self, name: str) -> None:
        with self._counting:
            self.counts[name] += 1

    def _count_retry(self, request: Any) -> None:
        if request.headers.get("x-stainless-retry-count", "0") != "0":  # set by the client
            self._count("retried")

    def notes(self) -> list[str]:
        """See `Engine.notes`."""
        found = [f"{server.out}; the others did its work" for server in self.servers if server.out]
        if self._most is not None:
            found.append(
                f"choices by the log-probabilities of the server's {self._most} likeliest tokens; no prompt was cut"
            )
        return found

    def candidate_ids(
        self, prompts: Sequence[str], candidates: Sequence[str], chat: bool = True
    ) -> list[tuple[Any, ...]]:
        """The candidates' texts, which stand for their tokens: the server's tokenizer is not here. UserError for a
        chat, and where the server offers no logprobs."""
        if chat:
            raise UserError(
                "an OpenAI-compatible endpoint gives texts of a chat, no logits; use --engine local or --base"
            )
        if self._most is None and prompts:
            self._most = self._probe(prompts[0])
        return [tuple(candidates)] * len(prompts)

    def _probe(self, prompt: str) -> int:
        """How many of the likeliest tokens the server gives."""
        why = ""
        for most in MOST:
            asked = [self._next_token(prompt, most)]
            ((_, answer),) = self._shared(asked, likeliest, lambda name: None)
            if not isinstance(answer, NoReply):
                return most
            why = f"{answer.kind}: {answer.detail}"
        raise UserError(f"{public_url(self.servers[0].url)} offers no logprobs ({why}); choices want --engine local")

    def _next_token(self, prompt: str, most: int) -> dict[str, Any]:
        return {"model": self.model, "prompt": prompt, "max_tokens": 1, "temperature": 0, "logprobs": most}

    def choose(self, requests: Sequence[ChoiceRequest]) -> Iterator[tuple[int, list[float] | NoReply]]:
        """See `Engine.choose`; log-probabilities in place of logits."""
        asked = [
            {**self._next_token(str(one.tokens), self._most or MOST[0]), "candidates": one.candidates}
            for one in requests
        ]
        return self._shared(asked, choose)

    def continuation_ids(self, *_: Any, **__: Any) -> NoReturn:
        raise UserError("an OpenAI-compatible endpoint gives no likelihoods of continuations; use --engine local")

    def loglikelihood(self, requests: Sequence[LogLikelihoodRequest]) -> NoReturn:
        self.continuation_ids()

    def score(self, *_: Any, **__: Any) -> NoReturn:
        raise UserError("an OpenAI-compatible endpoint gives no likelihoods of a given text; use --engine local")


def _message(role: str, text: str) -> dict[str, Any]:
    return {"role": role, "content": text}


if TYPE_CHECKING:

    def _is_an_engine(engine: OpenAIEngine) -> Engine[Messages | str, dict[str, Any]]:
        return engine
