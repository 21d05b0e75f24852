"""The engine on a device that the host does not see into, and on a model spread over two."""

from collections.abc import Callable
from typing import Any

from qwen_eval.engines.base import ChoiceRequest, GenerateRequest, ScoreRequest
from qwen_eval.engines.local.engine import LocalEngine

import numpy as np
import pytest
import torch

from .models import GQA, VOCAB, other, qwen
from .test_generate import Spell

try:
    from .fake_device import fake_devices, spread
except ImportError:
    pytest.skip("this torch has no Python backend for devices of one's own", allow_module_level=True)

MODELS: dict[str, Callable[[], Any]] = {
    "qwen-1": qwen,
    "qwen2": lambda: other("Qwen2", **GQA),
    "mistral, a window that the text outgrows": lambda: other("Mistral", **GQA, sliding_window=48),
}
PLACES = {"one device": ("fakegpu:0",), "two devices": ("fakegpu:0", "fakegpu:1")}


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


@pytest.mark.parametrize("places", PLACES)
@pytest.mark.parametrize("name", MODELS)
def test_the_answers_are_the_cpus_and_nothing_mixes(name: str, places: str) -> None:
    wanted = everything(LocalEngine.of(MODELS[name](), Spell(), rows=5))
    with fake_devices():
        engine = LocalEngine.of(spread(MODELS[name](), *PLACES[places]), Spell(), rows=5)
        assert engine.model.get_input_embeddings().weight.device == torch.device("fakegpu:0")
        got = everything(engine)
    for want, found in zip(wanted[:2], got[:2], strict=True):
        assert want.keys() == found.keys()
        for index in want:
            np.testing.assert_allclose(found[index], want[index], atol=1e-4)
    assert got[2] == wanted[2]


@pytest.mark.parametrize("places", PLACES)
@pytest.mark.parametrize("name", ["qwen-1", "qwen2"])
def test_the_host_waits_once_a_token_of_the_whole_batch(name: str, places: str) -> None:
    requests = [request._replace(tokens=request.tokens[:44], max_new_tokens=12) for request in asked()[1::3]]
    with fake_devices() as seen:
        engine = LocalEngine.of(spread(MODELS[name](), *PLACES[places]), Spell())
        assert not engine.uses_plain_forward
        seen.waits.clear()
        assert all(reply.tokens == 12 for _, reply in engine.generate(requests))
    assert {place.split(":")[0] for place in seen.waits} == {"sampling.py"}
    assert sum(seen.waits.values()) == 12, "once for the first token of all rows, then once a token"
