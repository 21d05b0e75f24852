"""The openai engine: a chat model behind any OpenAI-compatible endpoint (vLLM, SGLang, llama.cpp, a hosted one).

`--engine openai --base-url http://host:8000/v1 -c NAME`, the key from OPENAI_API_KEY. Texts only: `generate`, through
/chat/completions. The server puts the chat template around the one user turn, and its system text, if any, is its own.
A turn that is begun already goes as a last message of the assistant, with the flags by which vLLM and SGLang go on from
it; a server that does not know them refuses or starts a new turn.

Requests that fail are tried again by the client, which waits as long as `Retry-After` says. One that fails for good, or
whose answer has no text, gives NoReply: the item is put aside, and the run goes on.
"""

from __future__ import annotations

import os
import queue
import threading
from collections.abc import Callable, Iterator, Sequence
from typing import Any, NoReturn
from urllib.parse import parse_qsl, urlsplit, urlunsplit

from qwen_eval.engines.base import ChoiceRequest, LogLikelihoodRequest, NoReply, Reply
from qwen_eval.engines.decoding import Decoding
from qwen_eval.errors import KEYS, UserError, keep_secret, one_line, redacted

AT_A_TIME = 16
TRIES = 5  # the client waits between them
GIVE_UP = 16  # failures in a row: it is the endpoint then, not the item
OF_ITEM = (400, 413, 422)  # statuses by which a server refuses this prompt and may take another
CONTINUE = {"continue_final_message": True, "add_generation_prompt": False}
Messages = list[dict[str, Any]]


# -- the endpoint ------------------------------------------------------------------------------------------------------


def check_url(url: str) -> None:
    """UserError for what cannot be an endpoint's address."""
    keep_secret(url)
    try:
        parts = urlsplit(url)
        known = parts.scheme in ("http", "https") and bool(parts.hostname) and parts.port != 0
    except ValueError:  # a port that is no number, a bracket without its other half
        known = False
    if not known:
        raise UserError(f"{redacted(url)!r} is no address of an endpoint; one begins with http:// or https://")


def public_url(url: str) -> str:
    """The address without user, password and query: as files and messages may show it."""
    parts = urlsplit(url)
    return urlunsplit((parts.scheme, parts.netloc.rpartition("@")[2], parts.path, "", ""))


def connect(
    base_url: str,
    key_names: Sequence[str] = KEYS[:1],
    timeout: float = 600,
    watch: Callable[[Any], None] = lambda request: None,
) -> Any:
    """A client of the endpoint. key_names: environment variables that may hold the key, the first that is set counts;
    without one a placeholder goes, which local servers ignore. A user, a password and a query of the URL are sent.
    watch: is shown every HTTP request, further tries included."""
    check_url(base_url)
    try:
        import openai
    except ImportError as error:
        raise UserError(f"{error.name} is not installed; pip install openai") from error
    parts = urlsplit(base_url)
    plain = urlunsplit((parts.scheme, parts.netloc, parts.path, "", ""))
    query, key = dict(parse_qsl(parts.query)), _key(key_names)
    try:
        return openai.OpenAI(
            base_url=plain,
            default_query=query,
            api_key=key,
            max_retries=TRIES,
            timeout=openai.Timeout(timeout, connect=20),
            http_client=openai.DefaultHttpxClient(event_hooks={"request": [watch]}),
        )
    except (ValueError, ImportError, OSError) as error:
        hint = "look at HTTP_PROXY, HTTPS_PROXY, ALL_PROXY and SSL_CERT_FILE in the environment"
        raise UserError(f"no client of {public_url(base_url)} can be made ({one_line(error)[:160]}); {hint}") from error


def _key(names: Sequence[str]) -> str:
    """The API key of the environment; UserError for one that no HTTP header may hold."""
    for name in names:
        if key := os.environ.get(name, "").strip():
            if not key.isascii() or not key.isprintable():
                raise UserError(f"{name} holds a character that no key has (a line break, or one outside ASCII)")
            return key
    return "none"


class RequestFailed(UserError):
    """An endpoint gave no reply, for good. kind: what failed, in two words; of_item: it may be this prompt's fault."""

    def __init__(self, base_url: str, kind: str, detail: str, of_item: bool = False) -> None:
        super().__init__(f"{public_url(base_url)} gave no reply ({kind}: {detail})")
        self.reason = NoReply(kind, detail, of_item)


def complete(client: Any, base_url: str, **request: Any) -> Reply | NoReply:
    """What one chat completion says. Raises RequestFailed, in one line, when the endpoint does not give it."""
    import openai

    try:
        done = client.chat.completions.create(**request)
    except openai.APIStatusError as error:
        status = error.status_code
        raise RequestFailed(base_url, f"HTTP {status}", _said(error), status in OF_ITEM) from error
    except openai.APIConnectionError as error:
        kind = "no answer in time" if isinstance(error, openai.APITimeoutError) else "no connection"
        raise RequestFailed(base_url, kind, one_line(error.__cause__ or error)[:200]) from error
    except (openai.OpenAIError, ValueError) as error:  # ValueError: what came is no JSON
        raise RequestFailed(base_url, "unreadable answer", one_line(error)[:200]) from error
    try:
        choice = done.choices[0]
        message, finish = choice.message, choice.finish_reason
        usage = getattr(done, "usage", None)
        return _read(message, finish, int(getattr(usage, "completion_tokens", 0) or 0))
    except (AttributeError, IndexError, TypeError, ValueError) as error:
        problem = "what it sent is no chat completion; is it OpenAI-compatible?"
        raise RequestFailed(base_url, "unreadable answer", problem) from error


def _said(error: Any) -> str:
    """The server's own words about a request that it did not answer."""
    body = error.body if isinstance(error.body, dict) else {}
    message = body.get("message") or body.get("detail") or error.message
    return redacted(" ".join(str(message).split()))[:200]


def _read(message: Any, finish: str | None, tokens: int) -> Reply | NoReply:
    """A reply with text that ended by itself or at its limit; anything else is no reply, and says what it is."""
    text, thought = _text(message.content)
    thought += "".join(_text(getattr(message, name, None))[0] or "" for name in ("reasoning_content", "reasoning"))
    if finish not in ("stop", "length"):
        return NoReply(f"finish_reason {finish}", "the reply did not end by itself", True)
    if refusal := getattr(message, "refusal", None):
        return NoReply("refusal", one_line(ValueError(refusal))[:200], True)
    if not text and thought:
        return NoReply("reasoning without an answer", "a larger --max-new-tokens may help", True)
    if text is None or (not text and finish == "length"):
        return NoReply("no text", f"finish_reason {finish}", True)
    return Reply(text, tokens, finish, thought)


def _text(content: Any) -> tuple[str | None, str]:
    """The text (None: there is none) and the reasoning of a message's content: a string, or a list of parts."""
    if isinstance(content, str):
        return content, ""
    if not isinstance(content, list):
        return None, ""
    said: list[str] = []
    thought: list[str] = []
    for part in content:
        part = part if isinstance(part, dict) else {"type": "text", "text": part}
        words = part.get("text", part.get(str(part.get("type"))))
        if isinstance(words, list):  # Mistral: {"type": "thinking", "thinking": [{"type": "text", ...}]}
            words = _text(words)[0]
        if isinstance(words, str):
            (said if part.get("type") in ("text", "output_text") else thought).append(words)
    return "".join(said) if said else None, "".join(thought)


# -- the engine --------------------------------------------------------------------------------------------------------


class OpenAIEngine:
    """A served model. rows: requests in flight at most (default: 16). `counts`: requests asked, retried and failed."""

    def __init__(self, base_url: str, model: str, rows: int | None = None) -> None:
        self.base_url, self.model, self.rows = base_url, model, rows or AT_A_TIME
        self.counts = {"asked": 0, "retried": 0, "failed": 0}
        self._counting = threading.Lock()
        self._failed: list[NoReply] = []  # since the last reply
        self._works = False  # it gave a reply, or refused a single prompt
        self.client = connect(base_url, watch=self._count_retry)

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

    def generate(self, requests: Sequence[dict[str, Any]]) -> Iterator[tuple[int, Reply | NoReply]]:
        """See `Engine.generate`. Raises UserError where the endpoint fails as a whole: every request so far, or GIVE_UP
        in a row; the replies that arrived are given first."""
        todo: queue.SimpleQueue[int] = queue.SimpleQueue()
        arrived: queue.SimpleQueue[tuple[int, Reply | NoReply | Exception]] = queue.SimpleQueue()
        for index in range(len(requests)):
            todo.put(index)
        over = threading.Event()

        def work() -> None:
            while not over.is_set():
                try:
                    index = todo.get_nowait()
                except queue.Empty:
                    return
                arrived.put((index, self._ask(requests[index])))

        # Daemons, not an executor's threads: Python would wait for those at its end, and a request may hang for hours.
        for _ in range(min(self.rows, len(requests))):
            threading.Thread(target=work, daemon=True).start()
        try:
            for left in range(len(requests) - 1, -1, -1):
                index, answer = arrived.get()
                if isinstance(answer, Exception):
                    raise answer
                self._note(answer)
                yield index, answer
                if len(self._failed) >= GIVE_UP or (left == 0 and not self._works):
                    yield from _replies(arrived)
                    raise UserError(
                        f"{public_url(self.base_url)} gave no reply ({self._failed[-1].kind}: "
                        f"{self._failed[-1].detail}; failed in a row: {len(self._failed)}); finished items are kept"
                    )
        finally:
            over.set()

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

    def candidate_ids(self, *_: Any) -> NoReturn:
        raise UserError("an OpenAI-compatible endpoint gives texts, no logits of choices; use --engine local")

    def choose(self, requests: Sequence[ChoiceRequest]) -> NoReturn:
        self.candidate_ids()

    def continuation_ids(self, *_: Any) -> NoReturn:
        raise UserError("an OpenAI-compatible endpoint gives no likelihoods of continuations; use --engine local")

    def loglikelihood(self, requests: Sequence[LogLikelihoodRequest]) -> NoReturn:
        self.continuation_ids()

    def score(self, *_: Any) -> NoReturn:
        raise UserError("an OpenAI-compatible endpoint gives no likelihoods of a given text; use --engine local")


def _replies(arrived: queue.SimpleQueue[Any]) -> Iterator[tuple[int, Reply]]:
    """The replies that are there already, without waiting."""
    while True:
        try:
            index, answer = arrived.get_nowait()
        except queue.Empty:
            return
        if isinstance(answer, Reply):
            yield index, answer
