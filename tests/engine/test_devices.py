"""The engine on a device that the host does not see into, and on a model spread over two."""

from qwen_eval.engines.local.engine import LocalEngine

import numpy as np
import pytest
import torch

from .everything import MODELS, asked, everything
from .test_generate import Spell

try:
    from .fake_device import fake_devices, spread
except ImportError:
    pytest.skip("this torch has no Python backend for devices of one's own", allow_module_level=True)

PLACES = {"one device": ("fakegpu:0",), "two devices": ("fakegpu:0", "fakegpu:1")}


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
