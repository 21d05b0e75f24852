"""Choices through an endpoint: three ways to ask for the log-probabilities of the candidates, the exact ones first.

* vLLM: `logprob_token_ids`, a field of /v1/completions that other servers refuse or ignore.
* SGLang: `token_ids_logprob`, of its own /generate.
* Any server: the log-probabilities of the likeliest k next tokens. Where they do not hold every choice, the item has no
  answer: none is made up.

The exact ways want the candidates' token ids: of a tokenizer that is here, or by the server's /tokenize. `find_way`
asks the server once in each way, and keeps the first that gives every candidate.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from typing import Any, NamedTuple

from qwen_eval.engines.base import NoReply
from qwen_eval.engines.endpoint import GONE, LATE, RequestFailed, fetch, fetch_beside, public_url
from qwen_eval.errors import UserError

MOST = (20, 5)  # likeliest tokens to ask for: vLLM gives 20 by default, OpenAI 5
NOT_OFFERED = "no logprobs"
IMPOSSIBLE = -9999.0  # what vLLM sends for minus infinity, which JSON cannot hold
Prompt = str | list[int]  # a text, or token ids


class Candidate(NamedTuple):
    """A choice: its text, and the id of its token behind the prompt (None: not known here)."""

    text: str
    id: int | None


class Way(NamedTuple):
    """One way to ask a server for choices. name: as the table's note says it; ask: what does it, with client, address,
    model, prompt and candidates."""

    name: str
    ask: Callable[[Any, str, str, Prompt, Sequence[Candidate]], list[float] | NoReply]


def _by_vllm(
    client: Any, base_url: str, model: str, prompt: Prompt, candidates: Sequence[Candidate]
) -> list[float] | NoReply:
    ids = [one.id for one in candidates]
    # as ids, since two tokens may have the same text; a server that knows neither field gives one token's text
    fields = {"logprob_token_ids": ids, "return_tokens_as_token_ids": True}
    found = _next_token(client, base_url, model=model, prompt=prompt, logprobs=1, extra_body=fields)
    return found if isinstance(found, NoReply) else _picked(found, [f"token_id:{one}" for one in ids], "its answer")


def _by_sglang(
    client: Any, base_url: str, model: str, prompt: Prompt, candidates: Sequence[Candidate]
) -> list[float] | NoReply:
    ids = [one.id for one in candidates]
    settings = {"max_new_tokens": 1, "temperature": 0}
    body = {"sampling_params": settings, "return_logprob": True, "token_ids_logprob": ids}
    done = fetch_beside(
        client, base_url, "generate", **{"text" if isinstance(prompt, str) else "input_ids": prompt}, **body
    )
    try:
        found = {token: float(value) for value, token, *_ in done["meta_info"]["output_token_ids_logprobs"][0]}
    except (IndexError, KeyError, TypeError, ValueError) as error:
        raise RequestFailed(base_url, "unreadable answer", "its logprobs are in no known form") from error
    return _picked(found, ids, "its answer")


def _by_likeliest(most: int) -> Way:
    def ask(
        client: Any, base_url: str, model: str, prompt: Prompt, candidates: Sequence[Candidate]
    ) -> list[float] | NoReply:
        found = _next_token(client, base_url, model=model, prompt=prompt, logprobs=most)
        return (
            found if isinstance(found, NoReply) else _picked(found, [one.text for one in candidates], f"the top {most}")
        )

    return Way(f"the log-probabilities of the server's {most} likeliest tokens", ask)


EXACT = (
    Way("the log-probabilities of exactly their tokens (vLLM's logprob_token_ids)", _by_vllm),
    Way("the log-probabilities of exactly their tokens (SGLang's token_ids_logprob)", _by_sglang),
)
LIKELIEST = tuple(map(_by_likeliest, MOST))


def _next_token(client: Any, base_url: str, **request: Any) -> dict[str, float] | NoReply:
    """Token and log-probability of the next tokens that the answer lists. Raises RequestFailed."""
    done = fetch(client, base_url, max_tokens=1, temperature=0, **request)
    try:
        logprobs = done.choices[0].logprobs
        if logprobs is None:
            return NoReply(NOT_OFFERED, "the answer has none", True)
        if listed := getattr(logprobs, "top_logprobs", None):
            pairs = list(dict(listed[0]).items())
        else:  # llama.cpp answers in the form of a chat
            pairs = [(one["token"], one["logprob"]) for one in logprobs.content[0]["top_logprobs"]]
        found: dict[str, float] = {}
        for token, value in pairs:  # two tokens may have the same text: the likelier one is meant
            found[str(token)] = max(float(value), found.get(str(token), -math.inf))
    except (AttributeError, IndexError, KeyError, TypeError, ValueError) as error:
        problem = "its logprobs are in no known form"
        raise RequestFailed(base_url, "unreadable answer", problem) from error
    return found if found else NoReply(NOT_OFFERED, "the answer has none", True)


def _picked(found: Mapping[Any, float], names: Sequence[Any], where: str) -> list[float] | NoReply:
    absent = [name for name in names if not IMPOSSIBLE < found.get(name, -math.inf) < math.inf]
    if absent:
        return NoReply(f"a choice outside {where}", ", ".join(map(repr, absent)), True)
    return [found[name] for name in names]


def find_way(client: Any, base_url: str, model: str, prompt: Prompt, candidates: Sequence[Candidate]) -> Way:
    """The first way in which the server answers this prompt. Raises RequestFailed where it does not answer at all, and
    UserError where it offers no logprobs."""
    known = all(one.id is not None for one in candidates)
    for way in EXACT if known else ():
        if way.ask is _by_sglang and ":" in model:
            continue  # `model:adapter`, which /generate would not see
        try:
            if not isinstance(way.ask(client, base_url, model, prompt, candidates), NoReply):
                return way
        except RequestFailed as error:
            if error.reason.kind in (GONE, LATE):
                raise
    why = ""
    for way in LIKELIEST:
        try:
            answer = way.ask(client, base_url, model, prompt, candidates)
        except RequestFailed as error:
            if not error.reason.of_item:
                raise
            answer = error.reason
        if not isinstance(answer, NoReply) or answer.kind.startswith("a choice outside"):
            return way
        why = f"{answer.kind}: {answer.detail}"
    raise UserError(f"{public_url(base_url)} offers no logprobs ({why}); choices want --engine local")
