"""vLLM and the local engine on the same requests, in vLLM's own environment (test_vllm.py runs it there).

python vllm_side.py CHECKPOINT FOLDER      # a first-generation Qwen, where its copy goes; prints facts as JSON
"""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import Any

from qwen_eval.engines.base import ChoiceRequest, GenerateRequest, LogLikelihoodRequest, ScoreRequest
from qwen_eval.engines.local.engine import LocalEngine
from qwen_eval.engines.vllm import VllmEngine
from qwen_eval.errors import UserError

import numpy as np


def main() -> None:
    checkpoint, copy = map(Path, sys.argv[1:])
    engines: list[Any] = [VllmEngine(checkpoint, exported=copy), LocalEngine(checkpoint, device="cpu")]
    written = copy.stat().st_mtime_ns
    facts = answers(*engines)
    facts["too_long"] = said(engines[0], ChoiceRequest(np.resize(prompts()[0], 2048), (1, 2)))
    (cut,) = dict(engines[0].generate([GenerateRequest(np.resize(prompts()[0], 2040), 20)])).values()
    facts |= {"cut_tokens": cut.tokens, "notes": engines[0].notes(), "embedded": [one.embedded for one in engines]}
    facts["stop_tokens"] = [[sorted(one.stop_tokens(chat)) for chat in (False, True)] for one in engines]

    engines[0].close()
    request = ChoiceRequest(prompts()[0], (10, 11, 12))
    first = dict(VllmEngine(checkpoint, exported=copy).choose([request]))
    again = dict(VllmEngine(copy).choose([request]))  # as any other model
    facts |= {"written_once": copy.stat().st_mtime_ns == written, "as_another_model": first == again}
    print("facts " + json.dumps(facts))


def prompts() -> list[np.ndarray]:
    """Twenty of different lengths, with 300 tokens in common."""
    rng = np.random.default_rng(0)
    shared = rng.integers(0, 1500, 300)
    return [np.concatenate([shared, rng.integers(0, 1500, 20 + n)]).astype(np.int32) for n in range(20)]


def answers(ours: Any, local: Any) -> dict[str, Any]:
    """How far the two are apart in each kind of request."""
    rng, texts = np.random.default_rng(1), prompts()
    choices = [ChoiceRequest(text, tuple(range(10, 12 + n % 5))) for n, text in enumerate(texts)]
    pairs = [
        LogLikelihoodRequest(text, tuple(rng.integers(0, 1500, 1 + n % 4).tolist())) for n, text in enumerate(texts)
    ]
    windows = [ScoreRequest(text, None, 1 + n) for n, text in enumerate(texts)]
    replies = [
        GenerateRequest(text, 60, stop_tokens, stop, repetition_penalty=repetition, presence_penalty=presence)
        for repetition, presence in ((1.0, 0.0), (1.2, 0.0), (1.1, 1.5))
        for stop_tokens, stop in ((frozenset(), ("e", "\n\n")), (frozenset(range(0, 200, 3)), ()), (frozenset(), ()))
        for text in texts
    ]
    drawn = [
        GenerateRequest(text, 20, temperature=0.8, top_p=0.9, top_k=50, seed=2**64 - 1 - n)
        for n, text in enumerate(texts)
    ]

    both = [dict(engine.choose(choices)) for engine in (ours, local)]
    apart = [np.asarray(both[0][n]) - np.asarray(both[1][n]) for n in range(len(choices))]
    found: dict[str, Any] = {"choose": max(float(np.ptp(each)) for each in apart)}
    pair = [dict(engine.loglikelihood(pairs)) for engine in (ours, local)]
    found["loglikelihood"] = max(abs(pair[0][n].log_likelihood - pair[1][n].log_likelihood) for n in pair[1])
    found["is_greedy"] = [pair[0][n].is_greedy for n in pair[1]] == [one.is_greedy for one in pair[1].values()]
    scored = [dict(engine.score(windows)) for engine in (ours, local)]
    found["score"] = max(float(np.abs(scored[0][n] - scored[1][n]).max()) for n in scored[1])
    texts_of = [dict(engine.generate(replies)) for engine in (ours, local)]
    found["replies_that_differ"] = [
        [texts_of[0][n], texts_of[1][n]] for n in texts_of[1] if texts_of[0][n] != texts_of[1][n]
    ]
    found["finishes"] = sorted({reply.finish for reply in texts_of[0].values()})
    one_way, other_way = dict(ours.generate(drawn)), dict(ours.generate(drawn[::-1]))
    found["drawn_the_same"] = all(one_way[n] == other_way[len(drawn) - 1 - n] for n in one_way)
    found["drawn_texts"] = len({reply.text for reply in one_way.values()})
    return found


def said(engine: Any, request: Any) -> str:
    try:
        list(engine.choose([request]))
    except UserError as error:
        return str(error)
    return ""


if __name__ == "__main__":
    main()
