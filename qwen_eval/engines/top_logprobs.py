"""Choices through an endpoint: the log-probabilities of the likeliest next tokens, among them the choices.

A server gives the likeliest k tokens alone. Where they do not hold every choice, the item has no
answer: none is made up.
"""

from __future__ import annotations

import math
from typing import Any

from qwen_eval.engines.base import NoReply
from qwen_eval.engines.endpoint import RequestFailed, fetch

MOST = (20, 5)  # likeliest tokens to ask for: vLLM gives 20 by default, OpenAI 5
NOT_OFFERED = "no logprobs"


def likeliest(client: Any, base_url: str, **request: Any) -> dict[str, float] | NoReply:
    """Text and log-probability of the likeliest next tokens. Raises RequestFailed."""
    done = fetch(client, base_url, **request)
    try:
        logprobs = done.choices[0].logprobs
        if logprobs is None:
            return NoReply(NOT_OFFERED, "the answer has none", True)
        if listed := getattr(logprobs, "top_logprobs", None):
            found = dict(listed[0])
        else:  # llama.cpp answers in the form of a chat
            found = {one["token"]: one["logprob"] for one in logprobs.content[0]["top_logprobs"]}
        found = {str(token): float(value) for token, value in found.items()}
    except (AttributeError, IndexError, KeyError, TypeError, ValueError) as error:
        problem = "its logprobs are in no known form"
        raise RequestFailed(base_url, "unreadable answer", problem) from error
    return found if found else NoReply(NOT_OFFERED, "the answer has none", True)


def choose(client: Any, base_url: str, candidates: tuple[str, ...], **request: Any) -> list[float] | NoReply:
    """The log-probabilities of the candidates; NoReply where the likeliest tokens do not hold each. Raises
    RequestFailed."""
    found = likeliest(client, base_url, **request)
    if isinstance(found, NoReply):
        return found
    absent = [text for text in candidates if not math.isfinite(found.get(text, -math.inf))]
    if absent:
        return NoReply(f"a choice outside the top {request['logprobs']}", ", ".join(map(repr, absent)), True)
    return [found[text] for text in candidates]
