"""Stand-ins for the servers of a base model: the same model behind vLLM, SGLang, llama.cpp and a hosted API.

The model is the demo's tokenizer and a rule: how likely a token is next depends on all ids before it.
"""

from __future__ import annotations

import zlib
from collections.abc import Sequence
from functools import cache
from typing import Any

from qwen_eval.engines.local.prompts import Encoder
from qwen_eval.places import DEMO
from qwen_model.loading import load_tokenizer

from .endpoint import Answer, Server, refusal, text_completion

LETTERS = (" A", " B", " C", " D")


@cache
def encoder() -> Encoder:
    return Encoder(load_tokenizer(DEMO / "checkpoint/base"))


def ids_of(prompt: str | list[int]) -> list[int]:
    return prompt if isinstance(prompt, list) else [int(one) for one in encoder().plain([prompt])[0]]


def logprob(prompt: str | list[int], token: int) -> float:
    """Of a token behind a prompt: between -1 and -11."""
    return _logprob(_sum(tuple(ids_of(prompt))), token)


@cache
def _sum(ids: tuple[int, ...]) -> int:
    return zlib.crc32(repr(ids).encode())


def _logprob(before: int, token: int) -> float:
    return -1 - zlib.crc32(str(token).encode(), before) % 10_000 / 1000


def letters(prompt: str) -> list[float]:
    """Of the four letters behind a prompt."""
    return [logprob(prompt, one) for one in encoder().candidate_ids([prompt], LETTERS)[0]]


def likeliest(prompt: str | list[int], count: int) -> list[int]:
    before = _sum(tuple(ids_of(prompt)))
    return sorted(range(2000), key=lambda token: -_logprob(before, token))[:count]


def text(token: int) -> str:
    return encoder().text([token])


def completion(prompt: str | list[int], listed: Any = None) -> Answer:
    status, body = text_completion(text(likeliest(prompt, 1)[0]), "length")
    body["usage"]["prompt_tokens"] = len(ids_of(prompt))
    body["choices"][0]["logprobs"] = listed
    return status, body


def top(prompt: str | list[int], tokens: Sequence[int], names: Any) -> dict[str, Any]:
    return {"top_logprobs": [{names(token): logprob(prompt, token) for token in tokens}]}


def tokenize(body: dict[str, Any]) -> Answer:
    ids = ids_of(body["prompt"])
    return 200, {"count": len(ids), "max_model_len": 4096, "tokens": ids, "token_strs": None}


def be_vllm(server: Server) -> None:
    """/tokenize; a completion's top logprobs have one token more than asked for, or those that are named."""

    def completions(body: dict[str, Any]) -> Answer:
        prompt, wanted = body["prompt"], body.get("logprob_token_ids")
        if (count := body.get("logprobs")) is None:
            return refusal(400, "`logprobs` must be set") if wanted else completion(prompt)
        if count > 20:
            return refusal(400, "at most 20")
        first = likeliest(prompt, 1 if wanted else count)
        as_ids = body.get("return_tokens_as_token_ids")
        return completion(prompt, top(prompt, [*first, *(wanted or ())], "token_id:{}".format if as_ids else text))

    server.program, server.models = "vllm", ["m"]
    server.completions, server.beside = completions, {"tokenize": tokenize}


def be_sglang(server: Server) -> None:
    """/tokenize and /generate; its completions ignore fields that they do not know."""

    def completions(body: dict[str, Any]) -> Answer:
        count = body.get("logprobs")
        return completion(body["prompt"], count and top(body["prompt"], likeliest(body["prompt"], count), text))

    def generate(body: dict[str, Any]) -> Answer:
        assert body["sampling_params"] == {"max_new_tokens": 1, "temperature": 0} and body["return_logprob"]
        prompt = body["input_ids"] if "input_ids" in body else body["text"]
        found = [[logprob(prompt, token), token, None] for token in reversed(body["token_ids_logprob"])]
        about = {"prompt_tokens": len(ids_of(prompt)), "output_token_ids_logprobs": [found]}
        return 200, {"text": "", "meta_info": about}

    server.program, server.models = "sglang", ["m"]
    server.completions, server.beside = completions, {"tokenize": tokenize, "generate": generate}


def be_llama(server: Server) -> None:
    """Logprobs in the form of a chat, with two tokens of the same text; /tokenize knows a `content` alone."""

    def completions(body: dict[str, Any]) -> Answer:
        prompt = body["prompt"]
        tokens = [*encoder().candidate_ids(["Answer:"], LETTERS)[0], *likeliest(prompt, body.get("logprobs", 0))]
        listed = [{"id": one, "token": text(one), "bytes": [], "logprob": logprob(prompt, one)} for one in tokens]
        twin = {"id": 1, "token": " A", "bytes": [], "logprob": -12.0}
        return completion(prompt, {"content": [{**listed[0], "top_logprobs": [*listed, twin]}]})

    server.program, server.models = "llamacpp", ["m"]
    server.completions, server.beside = completions, {"tokenize": lambda body: (200, {"tokens": []})}
