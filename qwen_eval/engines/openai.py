"""The openai engine: a model behind any OpenAI-compatible endpoint (vLLM, SGLang, llama.cpp, a hosted one).

`--engine openai --base-url http://host:8000/v1 -c NAME`, the key from OPENAI_API_KEY.

A chat is asked for texts, through /chat/completions. The server puts the chat template around the turns, and
its system text, if any, is its own. What of the assistant's turn is there already goes as a last message of the
assistant, with the flags by which vLLM and SGLang go on from it; a server that does not know them refuses or starts a
new turn. A base model (`--base`) is asked through /completions, for texts and for choices (served_choices.py). With
`--tokenizer` its prompts go as token ids, the local engine's; else, or where a server takes none, as text.

One request that fails for good, or whose answer has no text, gives NoReply: the item is left out, and the run goes on.
"""

from __future__ import annotations

import sys
import threading
from collections.abc import Callable, Iterator, Sequence
from typing import TYPE_CHECKING, Any, NoReturn, TypeVar

from qwen_eval.engines.base import ChoiceRequest, Engine, LogLikelihoodRequest, NoReply, Reply, Turns
from qwen_eval.engines.decoding import Decoding
from qwen_eval.engines.endpoint import RequestFailed, check_served, complete, connect
from qwen_eval.engines.served_choices import Candidate, Way, find_way
from qwen_eval.engines.served_tokens import ServerTokenizer, knows_thinking, takes_ids
from qwen_eval.engines.servers import Server, Sharing
from qwen_eval.errors import UserError

import numpy as np

if TYPE_CHECKING:
    from qwen_eval.engines.local.prompts import Encoder

AT_A_TIME = 16
CONTINUE = {"continue_final_message": True, "add_generation_prompt": False}
OWN_PENALTY = {"vllm", "sglang"}  # servers that take the checkpoint's repetition penalty where a request names none
Messages = list[dict[str, Any]]
Prompt = Messages | str | np.ndarray  # of a chat; of a base model as text, or as token ids (int32 [T])
Answer = TypeVar("Answer")


class OpenAIEngine:
    """A served model. base_urls: of one server, or of several that share the work; rows: requests in flight at each, at
    most (default: 16); encoder: of the served model's tokenizer, if that is here. `counts`: requests asked, retried and
    failed."""

    def __init__(
        self,
        base_urls: str | Sequence[str],
        model: str,
        rows: int | None = None,
        encoder: Encoder | None = None,
    ) -> None:
        urls = [base_urls] if isinstance(base_urls, str) else base_urls
        self.model, self.rows, self.encoder = model, rows or AT_A_TIME, encoder
        self.counts = {"asked": 0, "retried": 0, "failed": 0}
        self._counting = threading.Lock()
        self._sends_ids: bool | None = None  # whether a base model's prompts go as token ids; None: not asked yet
        self._ways: dict[Server, Way] = {}  # how each server is asked for choices
        self._names_penalty = False
        self._thinks, self._switch_seen = False, False
        self._switch: bool | None = None  # see set_thinking
        self.servers = [Server(url, connect(url, on_request=self._count_retry)) for url in urls]

    def check(self) -> None:
        """UserError where a server does not serve the model or refuses the key: asked before the work."""
        programs = {check_served(server.client, server.url, self.model) for server in self.servers}
        self._names_penalty = programs <= OWN_PENALTY

    def set_thinking(self, on: bool, switch: bool | None) -> None:
        """See `Engine.set_thinking`. Where a server shows the tokens of a chat (vLLM), it is asked whether its template
        knows the switch."""
        if (self._thinks, self._switch) == (on, switch):
            return
        self._thinks, self._switch = on, switch
        if switch is not None:
            self._switch_seen = all(
                knows_thinking(server.client, server.url, self.model, switch) for server in self.servers
            )

    def encode(
        self,
        prompts: Sequence[str],
        chat: bool = True,
        raw: bool = False,
        assistant_prefill: Sequence[str] | None = None,
        examples: Sequence[Turns] | None = None,
    ) -> list[Prompt]:
        """The messages of each prompt, or without `chat` its token ids or text, as `generate_requests` takes them."""
        if not chat:
            return list(prompts) if (tokens := self._encoder_of_ids()) is None else list(tokens.plain(prompts, raw))
        found: list[Prompt] = []
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

    def last_tokens(self, prompt: Prompt, count: int) -> Prompt:
        """Of token ids the last ones; any other prompt as it is: how many tokens it has, only the server knows."""
        return prompt[-count:] if isinstance(prompt, np.ndarray) else prompt

    def prompt_text(self, prompt: Prompt) -> str:
        """What is sent, as text. The frame that the server puts around messages is not known here."""
        if isinstance(prompt, str):
            return prompt
        if isinstance(prompt, np.ndarray):
            assert self.encoder is not None
            return self.encoder.text(prompt.tolist())
        return "\n".join(f"{message['role']}: {message['content']}" for message in prompt)

    def generate_requests(
        self, prompts: Sequence[Prompt], decoding: Decoding, chat: bool, seeds: Sequence[str]
    ) -> list[dict[str, Any]]:
        """Keywords of the client's `chat.completions.create`, or of `completions.create`; the seed goes only with a
        temperature."""
        requests = []
        for prompt, seed in zip(prompts, seeds, strict=True):
            turns = prompt if isinstance(prompt, list) else []
            extra: dict[str, Any] = dict(CONTINUE) if turns and turns[-1]["role"] == "assistant" else {}
            if turns and self._switch is not None:
                extra["chat_template_kwargs"] = {"enable_thinking": self._switch}
            if decoding.repetition_penalty != 1.0 or self._names_penalty:
                extra["repetition_penalty"] = decoding.repetition_penalty
            request: dict[str, Any] = {
                "model": self.model,
                "messages" if turns else "prompt": _sendable(prompt),
                "max_tokens": decoding.max_new_tokens,
                "temperature": decoding.temperature,
                "extra_body": extra,
            }
            if decoding.stop:
                request["stop"] = list(decoding.stop)
            if decoding.presence_penalty:
                request["presence_penalty"] = decoding.presence_penalty
            if decoding.temperature:
                request |= {"top_p": decoding.top_p, "seed": int(seed, 16) % 2**31}
                extra |= {"top_k": decoding.top_k} if decoding.top_k else {}
            requests.append(request)
        return requests

    def generate(self, requests: Sequence[dict[str, Any]]) -> Iterator[tuple[int, Reply | NoReply]]:
        """See `Engine.generate`. Raises UserError where the servers fail as a whole: every request so far, or GIVE_UP
        in a row; the replies that arrived are given first."""
        return self._shared(
            requests, lambda server, request: complete(server.client, server.url, self._thinks, **request)
        )

    def _shared(self, requests: Sequence[Any], send: Callable[[Server, Any], Any]) -> Iterator[tuple[int, Any]]:
        def ask(server: Server, number: int) -> Any:
            """An error of ours is given, not raised: it must reach the main thread."""
            try:
                return send(server, requests[number])
            except RequestFailed as error:
                return error.reason
            except Exception as error:
                return error

        return Sharing(self.servers, len(requests), ask, self._count).answers(self.rows)

    def _count(self, name: str) -> None:
        with self._counting:
            self.counts[name] += 1

    def _count_retry(self, request: Any) -> None:
        if request.headers.get("x-stainless-retry-count", "0") != "0":  # set by the client
            self._count("retried")

    def notes(self) -> list[str]:
        """See `Engine.notes`."""
        found = [f"{server.out}; the others did its work" for server in self.servers if server.out]
        if self._sends_ids is not None:
            found.append("prompts went as token ids" if self._sends_ids else f"prompts went as text: {self._why_text}")
        if self._switch is not None and not self._switch_seen:
            found.append("whether the served chat template knows `enable_thinking`, the server does not say")
        found += [f"choices by {name}" for name in dict.fromkeys(way.name for way in self._ways.values())]
        return found

    @property
    def _why_text(self) -> str:
        refused = "the server took no token ids" if self.encoder else "--tokenizer would send token ids"
        return f"the server made the tokens and no prompt was cut ({refused})"

    def _encoder_of_ids(self) -> Encoder | None:
        """What encodes a base model's prompts, where they go as token ids: the servers are asked once. UserError where
        the tokenizer here is not the served model's."""
        encoder = self.encoder
        if self._sends_ids is None:
            self._sends_ids = encoder is not None and all(
                self._of_each_server(lambda server: takes_ids(server.client, server.url, self.model, encoder)).values()
            )
        return encoder if self._sends_ids else None

    def _of_each_server(self, ask: Callable[[Server], Answer]) -> dict[Server, Answer]:
        """What each server answers before the work; one that does not is left out where another does."""
        found: dict[Server, Answer] = {}
        silent: dict[Server, RequestFailed] = {}
        for server in self.servers:
            try:
                if not server.out:
                    found[server] = ask(server)
            except RequestFailed as error:
                silent[server] = error
        if not found:
            raise next(iter(silent.values()))
        for server, why in silent.items():
            server.out = str(why)
            print(f"note: {why}; the work is done by the others", file=sys.stderr)
        return found

    def candidate_ids(
        self, prompts: Sequence[str], candidates: Sequence[str], chat: bool = True
    ) -> list[tuple[Any, ...]]:
        """The candidates of each prompt (served_choices.Candidate), with their ids where the tokenizer is here or the
        server tells them. UserError for a chat, and where a server offers no logprobs."""
        if chat:
            raise UserError(
                "an OpenAI-compatible endpoint gives texts of a chat, no logits; use --engine local or --base"
            )
        found = [tuple(map(Candidate, candidates, ids)) for ids in self._token_ids(prompts, candidates)]
        if prompts and not self._ways:
            shortest = min(range(len(prompts)), key=lambda number: len(prompts[number]))
            (prompt,) = self.encode([prompts[shortest]], chat)
            self._ways = self._of_each_server(
                lambda server: find_way(server.client, server.url, self.model, _sendable(prompt), found[shortest])
            )
        return found

    def _token_ids(self, prompts: Sequence[str], candidates: Sequence[str]) -> Sequence[Sequence[int | None]]:
        if self.encoder is not None:
            return self.encoder.candidate_ids(prompts, candidates)
        for server in self.servers:
            try:
                return ServerTokenizer(server.client, server.url, self.model).candidate_ids(prompts, candidates)
            except UserError:  # it has no /tokenize, or no token of its own for a candidate
                continue
        return [[None] * len(candidates)] * len(prompts)

    def choose(self, requests: Sequence[ChoiceRequest]) -> Iterator[tuple[int, list[float] | NoReply]]:
        """See `Engine.choose`; log-probabilities in place of logits."""

        def send(server: Server, request: ChoiceRequest) -> list[float] | NoReply:
            candidates: Any = request.candidates
            prompt = _sendable(request.tokens)
            return self._ways[server].ask(server.client, server.url, self.model, prompt, candidates)

        return self._shared(requests, send)

    def continuation_ids(self, *_: Any, **__: Any) -> NoReturn:
        raise UserError("an OpenAI-compatible endpoint gives no likelihoods of continuations; use --engine local")

    def loglikelihood(self, requests: Sequence[LogLikelihoodRequest]) -> NoReturn:
        self.continuation_ids()

    def score(self, *_: Any, **__: Any) -> NoReturn:
        raise UserError("an OpenAI-compatible endpoint gives no likelihoods of a given text; use --engine local")


def _sendable(prompt: Any) -> Any:
    """A prompt as JSON holds it."""
    return prompt.tolist() if isinstance(prompt, np.ndarray) else prompt


def _message(role: str, text: str) -> dict[str, Any]:
    return {"role": role, "content": text}


if TYPE_CHECKING:

    def _is_an_engine(engine: OpenAIEngine) -> Engine[Prompt, dict[str, Any]]:
        return engine
