"""The openai engine: a chat model behind any OpenAI-compatible endpoint (vLLM, SGLang, llama.cpp, a hosted one).

`--engine openai --base-url http://host:8000/v1 -c NAME`, the key from OPENAI_API_KEY. Texts only: `generate`, through
/chat/completions. The server puts the chat template around the turns, and its system text, if any, is its own.
What of the assistant's turn is there already goes as a last message of the assistant, with the flags by which vLLM and
SGLang go on from it; a server that does not know them refuses or starts a new turn.

One request that fails for good, or whose answer has no text, gives NoReply: the item is left out, and the run goes on.
"""

from __future__ import annotations

import queue
import threading
from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING, Any, NoReturn

from qwen_eval.engines.base import ChoiceRequest, Engine, LogLikelihoodRequest, NoReply, Reply, Turns
from qwen_eval.engines.decoding import Decoding
from qwen_eval.engines.endpoint import RequestFailed, complete, connect, public_url
from qwen_eval.errors import UserError

AT_A_TIME = 16
GIVE_UP = 16  # failures in a row: it is the endpoint then, not the item
CONTINUE = {"continue_final_message": True, "add_generation_prompt": False}
Messages = list[dict[str, Any]]
# the index of a request, its answer or an error of ours, and why the endpoint is given up with this answer, if it is
Arrived = tuple[int, "Reply | NoReply | Exception", "UserError | None"]


class OpenAIEngine:
    """A served model. rows: requests in flight at most (default: 16). `counts`: requests asked, retried and failed."""

    def __init__(self, base_url: str, model: str, rows: int | None = None) -> None:
        self.base_url, self.model, self.rows = base_url, model, rows or AT_A_TIME
        self.counts = {"asked": 0, "retried": 0, "failed": 0}
        self._counting, self._noting = threading.Lock(), threading.Lock()
        self._failed: list[NoReply] = []  # since the last reply
        self._works = False  # it gave a reply, or refused a single prompt
        self.client = connect(base_url, on_request=self._count_retry)

    def encode(
        self,
        prompts: Sequence[str],
        chat: bool = True,
        raw: bool = False,
        assistant_prefill: Sequence[str] | None = None,
        examples: Sequence[Turns] | None = None,
    ) -> list[Messages]:
        """The messages of each prompt, as `generate_requests` takes them."""
        found = []
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

    def last_tokens(self, prompt: Messages, count: int) -> Messages:
        """The prompt as it is: how many tokens it has, only the server knows."""
        return prompt

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

    def generate(self, requests: Sequence[dict[str, Any]]) -> Iterator[tuple[int, Reply | NoReply]]:
        """See `Engine.generate`. Raises UserError where the endpoint fails as a whole: every request so far, or GIVE_UP
        in a row; the replies that arrived are given first."""
        todo: queue.SimpleQueue[int] = queue.SimpleQueue()
        arrived: queue.SimpleQueue[Arrived] = queue.SimpleQueue()
        for index in range(len(requests)):
            todo.put(index)
        over = threading.Event()

        def work() -> None:
            while not over.is_set():
                try:
                    index = todo.get_nowait()
                except queue.Empty:
                    return
                answer = self._ask(requests[index])
                with self._noting:  # an endpoint that fails is given up here: the reader may be busy for long
                    if not over.is_set() and not isinstance(answer, Exception):
                        self._note(answer)
                        if len(self._failed) >= GIVE_UP:
                            over.set()
                            arrived.put((index, answer, self._gave_no_reply()))
                            return
                    arrived.put((index, answer, None))

        # Daemons, not an executor's threads: Python would wait for those at its end, and a request may hang for hours.
        for _ in range(min(self.rows, len(requests))):
            threading.Thread(target=work, daemon=True).start()
        try:
            for left in range(len(requests) - 1, -1, -1):
                index, answer, given_up = arrived.get()
                if isinstance(answer, Exception):
                    raise answer
                yield index, answer
                if given_up is None and left == 0 and not self._works:
                    given_up = self._gave_no_reply()
                if given_up is not None:
                    yield from _replies(arrived)
                    raise given_up
        finally:
            over.set()

    def _gave_no_reply(self) -> UserError:
        last = self._failed[-1]
        return UserError(
            f"{public_url(self.base_url)} gave no reply ({last.kind}: {last.detail}; failed in a row: "
            f"{len(self._failed)}); finished items are kept"
        )

    def _note(self, answer: Reply | NoReply) -> None:
        """Whether the endpoint works, as far as its answers say."""
        self._failed = [*self._failed, answer] if isinstance(answer, NoReply) else []
        self._works = self._works or not self._failed or self._failed[-1].of_item

    def _ask(self, request: dict[str, Any]) -> Reply | NoReply | Exception:
        """The answer to one request; an error of ours is given, not raised: it must reach the main thread."""
        self._count("asked")
        try:
            answer = complete(self.client, self.base_url, **request)
        except RequestFailed as error:
            answer = error.reason
        except Exception as error:
            return error
        if isinstance(answer, NoReply):
            self._count("failed")
        return answer

    def _count(self, name: str) -> None:
        with self._counting:
            self.counts[name] += 1

    def _count_retry(self, request: Any) -> None:
        if request.headers.get("x-stainless-retry-count", "0") != "0":  # set by the client
            self._count("retried")

    def notes(self) -> list[str]:
        """See `Engine.notes`."""
        return []

    def candidate_ids(self, *_: Any, **__: Any) -> NoReturn:
        raise UserError("an OpenAI-compatible endpoint gives texts, no logits of choices; use --engine local")

    def choose(self, requests: Sequence[ChoiceRequest]) -> NoReturn:
        self.candidate_ids()

    def continuation_ids(self, *_: Any, **__: Any) -> NoReturn:
        raise UserError("an OpenAI-compatible endpoint gives no likelihoods of continuations; use --engine local")

    def loglikelihood(self, requests: Sequence[LogLikelihoodRequest]) -> NoReturn:
        self.continuation_ids()

    def score(self, *_: Any, **__: Any) -> NoReturn:
        raise UserError("an OpenAI-compatible endpoint gives no likelihoods of a given text; use --engine local")


def _message(role: str, text: str) -> dict[str, Any]:
    return {"role": role, "content": text}


def _replies(arrived: queue.SimpleQueue[Any]) -> Iterator[tuple[int, Reply]]:
    """The replies that are there already, without waiting."""
    while True:
        try:
            index, answer, _ = arrived.get_nowait()
        except queue.Empty:
            return
        if isinstance(answer, Reply):
            yield index, answer


if TYPE_CHECKING:

    def _is_an_engine(engine: OpenAIEngine) -> Engine[Messages, dict[str, Any]]:
        return engine
