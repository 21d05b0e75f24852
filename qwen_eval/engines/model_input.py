"""How a request becomes tokens where that takes more than one call of the engine: prompts that lose examples because
they are long, and continuations behind texts of their own."""

from collections.abc import Sequence
from typing import Any

from qwen_eval.model_requests import Generate, LogLikelihood


def shorter_prompts(
    engine: Any, chat: bool, requests: Sequence[Generate], prompts: Sequence[Any]
) -> dict[int, tuple[Any, int]]:
    """By the number of a request: the encoded prompt that takes the place of its too long one, and how many examples
    that leaves out. See `Generate.shorter`. prompts: of the requests, as the engine encodes them."""
    found: dict[int, tuple[Any, int]] = {}
    long = [number for number, prompt in enumerate(prompts) if _too_long(engine, requests[number], prompt)]
    left_out = 0
    while long := [number for number in long if left_out < len(requests[number].shorter)]:
        encoded = engine.encode([requests[number].shorter[left_out] for number in long], chat, raw=True)
        left_out += 1
        found |= {number: (prompt, left_out) for number, prompt in zip(long, encoded, strict=True)}
        long = [number for number in long if _too_long(engine, requests[number], found[number][0])]
    return found


def _too_long(engine: Any, request: Generate, prompt: Any) -> bool:
    limit = request.shorter_from
    return limit is not None and len(engine.last_tokens(prompt, limit - 1)) < len(prompt)


def continuations(engine: Any, chat: bool, request: LogLikelihood) -> list[Any]:
    """Context and continuation, in tokens, of each continuation; see `LogLikelihood.between`."""
    if not request.between:
        return list(engine.continuation_ids(request.prompt, request.continuations, chat))
    own = zip(request.between, request.continuations, strict=True)
    return [engine.continuation_ids(request.prompt + text, [end], chat)[0] for text, end in own]
