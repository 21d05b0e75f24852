"""Every kind of request at once, for tests that lay one device beside another."""

from collections.abc import Callable
from typing import Any

from qwen_eval.engines.base import ChoiceRequest, GenerateRequest, ScoreRequest
from qwen_eval.engines.local.engine import LocalEngine

import numpy as np

from .models import GQA, VOCAB, other, qwen

MODELS: dict[str, Callable[[], Any]] = {
    "qwen-1": qwen,
    "qwen2": lambda: other("Qwen2", **GQA),
    "mistral, a window that the text outgrows": lambda: other("Mistral", **GQA, sliding_window=48),
}


def prompts(count: int) -> list[np.ndarray]:
    rng = np.random.default_rng(0)
    shared = rng.integers(6, VOCAB, 40)
    made = [rng.integers(6, VOCAB, int(rng.integers(1, 40))) for _ in range(count)]
    return [np.concatenate([shared[: 40 * (i % 3 > 0)], own]).astype(np.int32) for i, own in enumerate(made)]


def asked(count: int = 9) -> list[GenerateRequest]:
    """Greedy and sampled rows, with and without a penalty, side by side."""
    settings = [(0.0, 1.0, 0), (1.0, 1.0, 0), (1.2, 0.8, 0), (1.0, 1.0, 7)]
    return [
        GenerateRequest(
            tokens,
            4,
            temperature=settings[i % 4][0],
            top_p=settings[i % 4][1],
            top_k=settings[i % 4][2],
            repetition_penalty=1.1 if i % 2 else 1.0,
            seed=i,
        )
        for i, tokens in enumerate(prompts(count))
    ]


def everything(engine: LocalEngine) -> tuple[dict[int, Any], dict[int, Any], dict[int, Any]]:
    chosen = engine.choose([ChoiceRequest(tokens, (7, 9, 40, 100)) for tokens in prompts(6)])
    scored = engine.score([ScoreRequest(tokens) for tokens in prompts(3)[1:]])
    return dict(chosen), dict(scored), dict(engine.generate(asked()))
