"""`score` gives what one plain forward over the whole text gives, whatever the chunk, the model and the memory."""

from collections.abc import Callable
from typing import Any

from qwen_eval.engines.base import ScoreRequest
from qwen_eval.engines.local import score
from qwen_eval.engines.local.engine import LocalEngine
from qwen_eval.errors import UserError
from qwen_model.long_context import LongContext

import numpy as np
import pytest
import torch
from torch.utils._python_dispatch import TorchDispatchMode

from . import models
from .models import GQA, TRAINED, VOCAB, other

SWITCHES = {
    "none": LongContext(False, False),
    "ntk": LongContext(True, False),
    "ntk+logn": LongContext(True, True),
    "ntk+logn+window": LongContext(True, True, (40, 90, None)),
    "window": LongContext(False, False, (40, 90, None)),
    "visible": LongContext(True, True, (40, 90, 200), logn_mode="visible"),
}


def qwen(**changes: Any) -> Any:
    return models.qwen(**{"num_hidden_layers": 3, **changes})


MODELS: dict[str, Callable[[], Any]] = {
    "qwen2": lambda: other("Qwen2", **GQA),
    "qwen2 tied": lambda: other("Qwen2", **GQA, tie_word_embeddings=True),
    "llama": lambda: other("Llama", **GQA),
    "llama dynamic rope": lambda: other(
        "Llama",
        **{**GQA, "max_position_embeddings": 64},
        rope_parameters={"rope_type": "dynamic", "factor": 2.0, "rope_theta": 1e4},
    ),
    "mistral window": lambda: other("Mistral", **GQA, sliding_window=72),
    "gemma2": lambda: other(
        "Gemma2",
        **GQA,
        head_dim=8,
        sliding_window=48,
        attn_logit_softcapping=5.0,
        final_logit_softcapping=3.0,
        query_pre_attn_scalar=8,
    ),
    "cohere": lambda: other("Cohere", **GQA, logit_scale=0.25),
    "granite": lambda: other("Granite", **GQA, logits_scaling=4.0, attention_multiplier=0.5),
    "gpt2": lambda: other("GPT2", vocab_size=VOCAB, n_embd=32, n_layer=2, n_head=4, n_positions=512),
    "phi, with a bias in the head": lambda: other("Phi", **GQA),
    "bloom": lambda: other("Bloom", vocab_size=VOCAB, hidden_size=32, n_layer=2, n_head=4),
    "mamba, no keys and values": lambda: other("Mamba", vocab_size=VOCAB, hidden_size=32, num_hidden_layers=2),
}


def text(length: int, seed: int = 0) -> np.ndarray:
    return np.random.default_rng(seed).integers(6, VOCAB, length).astype(np.int32)


@torch.inference_mode()
def plain(model: Any, tokens: np.ndarray, **inputs: Any) -> np.ndarray:
    """One forward over the text, then log-softmax in fp32."""
    ids = torch.as_tensor(tokens.astype(np.int64))[None]
    logits = model(ids, use_cache=False, **inputs).logits[0, :-1].float()
    return logits.log_softmax(-1).gather(1, ids[0, 1:, None])[:, 0].numpy()


def scored(model: Any, request: ScoreRequest, chunk: int) -> np.ndarray:
    engine = LocalEngine.of(model)
    engine.token_budget = chunk
    ((index, found),) = engine.score([request])
    assert index == 0 and found.dtype == np.float32
    return found


@pytest.fixture(autouse=True)
def _chunks_of_any_size(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(score, "MIN_CHUNK", 1)


@pytest.mark.parametrize("name", SWITCHES)
@pytest.mark.parametrize("length", [TRAINED, 2 * TRAINED, 4 * TRAINED + 1])
def test_chunked_equals_unchunked_under_every_switch(name: str, length: int) -> None:
    """At 1x, 2x and just past 4x the training length, to 1e-4 nats for every single token."""
    model, tokens, switches = qwen(), text(length), SWITCHES[name]
    wanted = plain(model, tokens, long_context=switches)
    for chunk in (7, 33, TRAINED, 1000):
        found = scored(model, ScoreRequest(tokens, switches), chunk)
        assert found.shape == (length - 1,)
        np.testing.assert_allclose(found, wanted, atol=1e-4, rtol=0)


def test_the_ntk_factor_is_that_of_the_whole_text() -> None:
    """Fed in chunks of the training length, a model left to itself would take the first chunk's factor, 1."""
    model, tokens = qwen(), text(3 * TRAINED)
    whole = scored(model, ScoreRequest(tokens, SWITCHES["ntk"]), TRAINED)
    off = scored(model, ScoreRequest(tokens, SWITCHES["none"]), TRAINED)
    assert np.abs(whole - off)[: TRAINED - 1].max() > 0.1, "already the first chunk is read with it"
    # T tokens, of which the model is given T - 1: the factor is that of T where T - 1 is still the training length
    edge = text(TRAINED + 1)
    wanted = plain(model, edge, long_context=SWITCHES["ntk"])
    np.testing.assert_allclose(scored(model, ScoreRequest(edge, SWITCHES["ntk"]), 1000), wanted, atol=1e-4, rtol=0)


def test_without_switches_the_model_reads_as_it_was_loaded() -> None:
    model, tokens = qwen(), text(2 * TRAINED)
    assert model.long_context == LongContext(True, True)
    np.testing.assert_allclose(scored(model, ScoreRequest(tokens), 50), plain(model, tokens), atol=1e-4, rtol=0)
    model.long_context = SWITCHES["window"]
    wanted = plain(model, tokens, long_context=SWITCHES["window"])
    np.testing.assert_allclose(scored(model, ScoreRequest(tokens), 50), wanted, atol=1e-4, rtol=0)


@pytest.mark.parametrize("name", MODELS)
def test_any_causal_model_in_chunks(name: str) -> None:
    model, tokens = MODELS[name](), text(200)
    wanted = plain(model, tokens)
    for chunk in (13, 72, 1000):
        np.testing.assert_allclose(scored(model, ScoreRequest(tokens), chunk), wanted, atol=1e-4, rtol=0)
    with torch.inference_mode():  # a longer text before it changes nothing
        scored(model, ScoreRequest(text(400, 1)), 100)
    np.testing.assert_allclose(scored(model, ScoreRequest(tokens), 50), wanted, atol=1e-4, rtol=0)


def test_only_the_tokens_from_first_on() -> None:
    model, tokens = qwen(), text(150)
    wanted = plain(model, tokens)
    for first in (1, 2, 49, 50, 51, 149):
        for chunk in (50, 1000):
            found = scored(model, ScoreRequest(tokens, first=first), chunk)
            np.testing.assert_allclose(found, wanted[first - 1 :], atol=1e-4, rtol=0)


def test_several_texts_in_order_with_progress() -> None:
    engine = LocalEngine.of(qwen())
    engine.token_budget = 40
    seen: list[int] = []
    lengths = (100, 30, 2)
    found = list(engine.score([ScoreRequest(text(n, n)) for n in lengths], seen.append))
    assert [index for index, _ in found] == [0, 1, 2]
    assert [len(values) for _, values in found] == [99, 29, 1]
    assert seen == [40, 40, 19, 29, 1]


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
def test_a_16_bit_head_gives_fp32_log_likelihoods(dtype: torch.dtype) -> None:
    """Of the same hidden states: the head's products in fp32, not rounded to the model's dtype."""
    model = qwen().to(dtype)
    hidden, targets = torch.randn(20, 32).to(dtype), torch.arange(20)
    logits = hidden.double() @ model.lm_head.weight.double().T
    wanted = logits.log_softmax(-1).gather(1, targets[:, None])[:, 0]
    with torch.inference_mode():
        found = score.token_log_likelihoods(model, hidden, targets)
    assert found.dtype == torch.float32
    np.testing.assert_allclose(found.numpy(), wanted.detach().numpy(), atol=1e-5)
    with pytest.MonkeyPatch.context() as patch:  # in parts of the head and of the rows
        patch.setattr(score, "LOGITS_BYTES", 4 * VOCAB * 3)
        with torch.inference_mode():
            parts = score.token_log_likelihoods(model, hidden, targets)
    np.testing.assert_allclose(parts.numpy(), found.numpy(), atol=1e-6)


class Largest(TorchDispatchMode):
    """Remembers the largest tensor that any operation makes, in bytes, and the largest with a given last dimension."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.width, self.any, self.wide = width, 0, 0

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        out = func(*args, **(kwargs or {}))
        for tensor in out if isinstance(out, (tuple, list)) else (out,):
            if isinstance(tensor, torch.Tensor) and tensor.ndim:
                size = tensor.numel() * tensor.element_size()
                self.any = max(self.any, size)
                if tensor.shape[-1] == self.width:
                    self.wide = max(self.wide, size)
        return out


def test_no_logits_tensor_is_over_256_mb_with_a_vocabulary_of_152_k() -> None:
    wide = 151_936
    model = qwen(vocab_size=wide, hidden_size=8, num_attention_heads=1, intermediate_size=16, num_hidden_layers=1)
    with Largest(wide) as seen:
        found = scored(model, ScoreRequest(text(1500)), 2048)
    assert found.shape == (1499,)  # all logits at once would be 911 MB
    assert 50e6 < seen.wide <= 256e6


@pytest.mark.parametrize("name", ["none", "ntk+logn+window"])
def test_no_tensor_grows_with_the_square_of_the_length(name: str) -> None:
    model = qwen()
    largest = []
    for length in (1024, 4096):
        with Largest(0) as seen:
            scored(model, ScoreRequest(text(length), SWITCHES[name]), 64)
        largest.append(seen.any)
    assert largest[1] <= 4.1 * largest[0]
    assert score.chunk_tokens(32_768, 10**6) * 32_768 <= score.MASK_CELLS


def test_memory_that_runs_out_halves_the_chunk_and_changes_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    model, tokens = qwen(), text(150)
    wanted = plain(model, tokens)
    forward, sizes = score.base_forward, []

    def tight(model: Any, implementation: Any, **inputs: Any) -> Any:
        sizes.append(inputs["input_ids"].shape[1])
        if sizes[-1] > 40 or len(sizes) == 6:  # too large, and once in the middle of a text
            raise torch.OutOfMemoryError("CUDA out of memory")
        return forward(model, implementation, **inputs)

    monkeypatch.setattr(score, "base_forward", tight)
    engine, done = LocalEngine.of(model), []
    engine.token_budget = 100
    ((_, found),) = engine.score([ScoreRequest(tokens)], done.append)
    np.testing.assert_allclose(found, wanted, atol=1e-4, rtol=0)
    assert sizes[:3] == [100, 50, 25] and 12 in sizes
    assert sum(done) == 149 and min(done) < 0


def test_memory_that_never_suffices_is_one_line(monkeypatch: pytest.MonkeyPatch) -> None:
    def none_left(*_: Any, **__: Any) -> Any:
        raise torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 20 GiB")

    monkeypatch.setattr(score, "base_forward", none_left)
    with pytest.raises(UserError, match=r"out of memory with 150 tokens .* try --dtype bfloat16"):
        scored(qwen(), ScoreRequest(text(150)), 64)


def test_other_errors_are_not_taken_for_a_lack_of_memory(monkeypatch: pytest.MonkeyPatch) -> None:
    def broken(*_: Any, **__: Any) -> Any:
        raise RuntimeError("shapes do not fit")

    monkeypatch.setattr(score, "base_forward", broken)
    with pytest.raises(RuntimeError, match="shapes do not fit"):
        scored(qwen(), ScoreRequest(text(150)), 64)
