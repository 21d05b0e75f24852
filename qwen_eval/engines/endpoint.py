"""An OpenAI-compatible endpoint: its address, a client of it, one completion and what can go wrong with it.

Used by the engine (openai.py) and by judges. Requests that fail are tried again by the client, which waits as long as
`Retry-After` says.
"""

from __future__ import annotations

import os
import time
from collections.abc import Callable, Sequence
from types import SimpleNamespace
from typing import Any
from urllib.parse import parse_qsl, urlsplit, urlunsplit

from qwen_eval.engines.base import NoReply, Reply
from qwen_eval.errors import KEYS, UserError, keep_secret, one_line, redacted
from qwen_eval.extras import need

TRIES = 5  # the client waits between them
TIMEOUT = 600.0  # seconds for one answer
REREAD = 2  # more times an answer is asked for that came as half a JSON
GONE, LATE = "no connection", "no answer in time"
OF_ITEM = (400, 413, 422)  # statuses by which a server refuses this prompt and may take another


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
    timeout: float | None = None,
    on_request: Callable[[Any], None] = lambda request: None,
) -> Any:
    """A client of the endpoint. key_names: environment variables that may hold the key, the first that is set counts;
    without one a placeholder goes, which local servers ignore. A user, a password and a query of the URL are sent.
    on_request: is shown every HTTP request, further tries included."""
    check_url(base_url)
    need("endpoints")
    import openai

    parts = urlsplit(base_url)
    plain = urlunsplit((parts.scheme, parts.netloc, parts.path, "", ""))
    query, key = dict(parse_qsl(parts.query)), _key(key_names)
    try:
        return openai.OpenAI(
            base_url=plain,
            default_query=query,
            api_key=key,
            max_retries=TRIES,
            timeout=openai.Timeout(timeout or TIMEOUT, connect=20),
            http_client=openai.DefaultHttpxClient(event_hooks={"request": [on_request]}),
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


def check_served(client: Any, base_url: str, model: str) -> str:
    """What program the server says it is ("vllm", "sglang", "llamacpp" ...; "" where its list of models does not say).
    UserError where it wants another key, or lists its models and this is none of them. A server without a list, or that
    cannot be reached, is left to the requests."""
    import openai

    try:
        listed = client.with_options(max_retries=0, timeout=20).models.list()
        owners = {str(one.id): str(getattr(one, "owned_by", None) or "") for one in listed.data}
    except (openai.AuthenticationError, openai.PermissionDeniedError) as error:
        why = f"HTTP {error.status_code}: {_server_message(error)}"
        raise UserError(refused_key(base_url, why)) from error
    except (openai.OpenAIError, AttributeError, TypeError, ValueError):
        return ""
    if owners and model not in owners:
        known = ", ".join(list(owners)[:5]) + (" ..." if len(owners) > 5 else "")
        raise UserError(f"{public_url(base_url)} does not serve {model!r}; -c takes one of: {known}")
    return owners.get(model, "")


def refused_key(base_url: str, why: str) -> str:
    """The line for a key that is missing or not taken."""
    return f"{public_url(base_url)} refuses the key ({why}); set {KEYS[0]} to a key that it takes"


def complete(client: Any, base_url: str, thinks: bool = False, **request: Any) -> Reply | NoReply:
    """What one completion says: of a chat (`messages`) or of a text (`prompt`). thinks: reasoning alone is a reply too,
    an empty one. Raises RequestFailed, in one line, when the endpoint does not give it."""
    done = fetch(client, base_url, **request)
    try:
        choice = done.choices[0]
        message = choice.message if "messages" in request else SimpleNamespace(content=choice.text)
        usage = getattr(done, "usage", None)
        return _read(message, choice.finish_reason, int(getattr(usage, "completion_tokens", 0) or 0), thinks)
    except (AttributeError, IndexError, TypeError, ValueError) as error:
        problem = "what it sent is no completion; is it OpenAI-compatible?"
        raise RequestFailed(base_url, "unreadable answer", problem) from error


def fetch(client: Any, base_url: str, **request: Any) -> Any:
    """The client's completion, as the endpoint sent it. Raises RequestFailed."""
    create = (client.chat.completions if "messages" in request else client.completions).create
    return _answered(base_url, lambda: create(**request))


def fetch_beside(client: Any, base_url: str, path: str, **body: Any) -> Any:
    """The JSON that a server answers at a path of its own, beside the /v1 of its address. Raises RequestFailed."""
    root = str(client.base_url).rstrip("/").removesuffix("/v1")
    return _answered(base_url, lambda: client.post(f"{root}/{path}", body=body, cast_to=object))


def _answered(base_url: str, ask: Callable[[], Any]) -> Any:
    """What the client's call gives; its errors as RequestFailed."""
    import openai

    try:
        return _whole(ask)
    except openai.APIStatusError as error:
        status = error.status_code
        raise RequestFailed(base_url, f"HTTP {status}", _server_message(error), status in OF_ITEM) from error
    except openai.APIConnectionError as error:
        kind = LATE if isinstance(error, openai.APITimeoutError) else GONE
        raise RequestFailed(base_url, kind, one_line(error.__cause__ or error)[:200]) from error
    except (openai.OpenAIError, ValueError) as error:  # ValueError: what came is no JSON
        raise RequestFailed(base_url, "unreadable answer", one_line(error)[:200]) from error


def _whole(create: Callable[[], Any]) -> Any:
    """An answer that is JSON; one that is not is asked for again: the server may have been stopped in the middle."""
    for tries_left in range(REREAD, -1, -1):
        try:
            return create()
        except ValueError:
            if not tries_left:
                raise
            time.sleep(0.5)
    raise AssertionError


def _server_message(error: Any) -> str:
    """The server's own words about a request that it did not answer."""
    body = error.body if isinstance(error.body, dict) else {}
    message = body.get("message") or body.get("detail") or error.message
    return redacted(" ".join(str(message).split()))[:200]


def _read(message: Any, finish: str | None, tokens: int, thinks: bool) -> Reply | NoReply:
    """A reply with text that ended by itself or at its limit; anything else is no reply, and says what it is."""
    text, reasoning = _text(message.content)
    reasoning += "".join(_text(getattr(message, name, None))[0] or "" for name in ("reasoning_content", "reasoning"))
    if finish not in ("stop", "length"):
        return NoReply(f"finish_reason {finish}", "the reply did not end by itself", True)
    if refusal := getattr(message, "refusal", None):
        return NoReply("refusal", one_line(ValueError(refusal))[:200], True)
    if not text and reasoning and thinks:
        return Reply("", tokens, finish, reasoning)
    if not text and reasoning:
        return NoReply("reasoning without an answer", "a larger --max-new-tokens may help", True)
    if text is None or (not text and finish == "length"):
        return NoReply("no text", f"finish_reason {finish}", True)
    return Reply(text, tokens, finish, reasoning)


def _text(content: Any) -> tuple[str | None, str]:
    """The text (None: there is none) and the reasoning of a message's content: a string, or a list of parts."""
    if isinstance(content, str):
        return content, ""
    if not isinstance(content, list):
        return None, ""
    answer_texts: list[str] = []
    reasoning_texts: list[str] = []
    for part in content:
        part = part if isinstance(part, dict) else {"type": "text", "text": part}
        words = part.get("text", part.get(str(part.get("type"))))
        if isinstance(words, list):  # Mistral: {"type": "thinking", "thinking": [{"type": "text", ...}]}
            words = _text(words)[0]
        if isinstance(words, str):
            (answer_texts if part.get("type") in ("text", "output_text") else reasoning_texts).append(words)
    return "".join(answer_texts) if answer_texts else None, "".join(reasoning_texts)
