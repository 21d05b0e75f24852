"""Models that do more than the engine knows are answered for by their own forward, or refused in one line; the engine
never gives another figure in silence."""

import inspect
import warnings
from collections.abc import Callable
from typing import Any

from qwen_eval.engines.base import ChoiceRequest, GenerateRequest, LogLikelihoodRequest, ScoreRequest
from qwen_eval.engines.local import probe
from qwen_eval.engines.local.engine import LocalEngine
from qwen_eval.errors import UserError

import numpy as np
import pytest
import torch
import transformers

from .models import GQA, SMALL, VOCAB, other, qwen
from .test_generate import Spell

STATE_SPACE = {"vocab_size": VOCAB, "hidden_size": 32, "num_hidden_layers": 2, "state_size": 8}
EXPERTS = {"num_local_experts": 2, "num_experts_per_tok": 1}
#: what the engine cannot do by itself: a multiplier, a soft cap, a transform behind the head; a state of another kind
BEYOND: dict[str, Callable[[], Any]] = {
    "falcon_h1": lambda: other(
        "FalconH1",
        **GQA,
        head_dim=8,
        mamba_d_ssm=32,
        mamba_n_heads=4,
        mamba_d_head=8,
        mamba_d_state=8,
        mamba_n_groups=1,
        mamba_chunk_size=8,
        lm_head_multiplier=0.5,
        embedding_multiplier=2.0,
    ),
    "hyperclovax": lambda: other("HyperCLOVAX", **GQA, logits_scaling=0.125, attention_multiplier=0.3),
    "recurrent_gemma": lambda: other(
        "RecurrentGemma",
        **{**GQA, "num_hidden_layers": 3},
        lru_width=32,
        attention_window_size=64,
        logits_soft_cap=3.0,
        head_dim=8,
    ),
    "xlstm": lambda: other(
        "xLSTM",
        vocab_size=VOCAB,
        hidden_size=32,
        num_hidden_layers=2,
        num_heads=2,
        qk_dim_factor=0.5,
        v_dim_factor=1.0,
        output_logit_soft_cap=2.0,
        chunk_size=8,
        mode="inference",
    ),
    "bert": lambda: other("Bert", **SMALL, is_decoder=True),
    "rwkv": lambda: other(
        "Rwkv", vocab_size=VOCAB, hidden_size=32, num_hidden_layers=2, attention_hidden_size=32, context_length=256
    ),
    "minimax": lambda: other("MiniMax", **GQA, head_dim=8, **EXPERTS, block_size=16),
}
#: models with a state or a mask of their own, which the engine runs
WITHIN: dict[str, Callable[[], Any]] = {
    "mamba": lambda: other("Mamba", **STATE_SPACE),
    "mamba2": lambda: other("Mamba2", **STATE_SPACE, num_heads=8, head_dim=8, n_groups=1, chunk_size=8),
    "llama4_text": lambda: other(
        "Llama4Text", **GQA, head_dim=8, **EXPERTS, intermediate_size_mlp=64, attention_chunk_size=16
    ),
}


def made(name: str) -> Any:
    """The model, where this transformers has its class."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        try:
            return {**BEYOND, **WITHIN}[name]()
        except AttributeError as error:
            assert "has no attribute" in str(error)
            pytest.skip(f"this transformers has no {name}")


def prompts(count: int = 4) -> list[np.ndarray]:
    rng = np.random.default_rng(1)
    shared = rng.integers(6, VOCAB, 40)
    return [np.concatenate([shared, rng.integers(6, VOCAB, 3 + 4 * i)]).astype(np.int32) for i in range(count)]


@torch.inference_mode()
def own(model: Any, tokens: Any) -> torch.Tensor:
    return model(input_ids=torch.tensor([[int(token) for token in tokens]]), use_cache=False).logits[0].float()


def greedy(model: Any, tokens: np.ndarray, new: int) -> list[int]:
    """Token by token, each from the whole text."""
    ids = tokens.tolist()
    for _ in range(new):
        ids.append(int(own(model, ids)[-1].argmax()))
    return ids[len(tokens) :]


@pytest.mark.parametrize("name", [*BEYOND, *WITHIN])
def test_every_answer_is_that_of_the_models_own_forward(name: str, capsys: pytest.CaptureFixture[str]) -> None:
    model, texts = made(name), prompts()
    engine = LocalEngine.of(model, Spell())
    chosen = dict(engine.choose([ChoiceRequest(text, (7, 9, 40)) for text in texts]))
    scored = dict(engine.score([ScoreRequest(text, first=5) for text in texts]))
    pairs = [LogLikelihoodRequest(text[:-3], tuple(text[-3:].tolist())) for text in texts]
    likely_ends = dict(engine.loglikelihood(pairs))
    said = dict(engine.generate([GenerateRequest(text, 5) for text in texts]))
    for index, text in enumerate(texts):
        logits = own(model, text)
        np.testing.assert_allclose(chosen[index], logits[-1, [7, 9, 40]], atol=1e-4)
        likely = logits.log_softmax(-1)[range(4, len(text) - 1), text[5:].tolist()]
        np.testing.assert_allclose(scored[index], likely, atol=1e-4)
        end = own(model, text[:-1])[-3:].log_softmax(-1)
        np.testing.assert_allclose(likely_ends[index].log_likelihood, end[range(3), text[-3:]].sum(), atol=2e-4)
        assert likely_ends[index].is_greedy == (end.argmax(-1).tolist() == text[-3:].tolist())
        assert said[index].text == Spell().decode(greedy(model, text, 5))
    # Before 5.24 transformers called the cache of Mamba otherwise, and the engine does not go on from it.
    beyond = name in BEYOND or "cache_params" in inspect.signature(model.forward).parameters
    assert engine.uses_plain_forward == beyond
    assert engine.notes() == ([probe.NOTE] if beyond else [])
    assert capsys.readouterr().err.count("its own plain forward") == beyond, "said once"


@pytest.mark.parametrize("name", ["falcon_h1", "hyperclovax", "bert", "minimax"])
def test_replies_are_those_of_the_models_own_generate(name: str) -> None:
    model, texts = made(name), prompts(2)
    said = dict(LocalEngine.of(model, Spell()).generate([GenerateRequest(text, 6) for text in texts]))
    for index, text in enumerate(texts):
        ids = torch.as_tensor(text.astype(np.int64))[None]
        out = model.generate(
            ids, attention_mask=torch.ones_like(ids), max_new_tokens=6, do_sample=False, eos_token_id=None
        )
        assert said[index].text == Spell().decode(out[0, len(text) :].tolist())


def test_penalty_stops_and_samples_by_the_plain_forward() -> None:
    """The plain way is the engine's with another forward: the same replies where both are right."""
    model = other("Llama", **GQA)
    settings = [{"repetition_penalty": 1.3}, {"temperature": 1.0, "top_p": 0.9}, {"stop_tokens": frozenset(range(60))}]
    requests = [
        GenerateRequest(text, 8, seed=index, **settings[index % 3])  # type: ignore[arg-type]
        for index, text in enumerate(prompts(6))
    ]
    fast, slow = LocalEngine.of(model, Spell()), LocalEngine.of(model, Spell())
    slow.__dict__["uses_plain_forward"] = True
    assert not fast.uses_plain_forward
    assert dict(fast.generate(requests)) == dict(slow.generate(requests))


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
def test_rounding_to_16_bits_is_no_difference_and_a_soft_cap_is(dtype: torch.dtype) -> None:
    assert not LocalEngine.of(other("Llama", **GQA).to(dtype)).uses_plain_forward
    assert not LocalEngine.of(other("Mistral", **GQA, sliding_window=48).to(dtype)).uses_plain_forward
    for name in ("hyperclovax", "recurrent_gemma"):
        assert LocalEngine.of(made(name).to(dtype)).uses_plain_forward


def refused(model: Any) -> str:
    with pytest.raises(UserError) as error:
        list(LocalEngine.of(model).choose([ChoiceRequest(prompts()[0], (7, 9))]))
    assert "\n" not in str(error.value)
    return str(error.value)


def test_a_model_that_sees_what_follows_is_refused_in_one_line() -> None:
    assert "is no causal language model" in refused(other("Bert", **SMALL, is_decoder=False))


def test_a_model_whose_own_forward_fails_is_refused_in_one_line(monkeypatch: pytest.MonkeyPatch) -> None:
    def broken(self: Any, *_: Any, **__: Any) -> Any:
        raise ImportError("the kernel of this model\nis not installed")

    monkeypatch.setattr(transformers.LlamaModel, "forward", broken)
    assert "the kernel of this model is not installed" in refused(other("Llama", **GQA))


def test_a_first_generation_qwen_pays_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    model = qwen()
    monkeypatch.setattr(type(model), "forward", None)
    monkeypatch.setattr(type(model.transformer), "forward", None)
    assert not LocalEngine.of(model).uses_plain_forward
