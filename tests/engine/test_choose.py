"""`choose` gives what one plain fp32 forward a prompt gives, whatever the model, the batch, the order or the memory."""

from collections.abc import Sequence

from qwen_eval.engines.base import ChoiceRequest
from qwen_eval.engines.local import choose
from qwen_eval.engines.local.engine import LocalEngine
from qwen_eval.engines.local.forward import out_of_memory
from qwen_eval.errors import UserError

import numpy as np
import pytest
import torch

from .models import GQA, SMALL, VOCAB, other, qwen

MODELS = {
    "qwen-1": qwen,
    "qwen-1 plain": lambda: qwen(use_dynamic_ntk=False, use_logn_attn=False),
    "qwen-1 windows": lambda: qwen(window_attn=[48, 100]),
    "qwen-1 windows, visible": lambda: qwen(window_attn={"sizes": [20, None], "logn_mode": "visible"}),
    "qwen2": lambda: other("Qwen2", **GQA),
    "qwen2 tied": lambda: other("Qwen2", **GQA, tie_word_embeddings=True),
    "qwen3": lambda: other("Qwen3", **GQA, head_dim=16),
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
    "deepseek-v3": lambda: other(
        "DeepseekV3",
        **{**GQA, "num_key_value_heads": 4},
        q_lora_rank=16,
        kv_lora_rank=16,
        qk_rope_head_dim=8,
        qk_nope_head_dim=8,
        v_head_dim=12,
        n_routed_experts=4,
        num_experts_per_tok=2,
        n_group=1,
        topk_group=1,
        first_k_dense_replace=1,
        moe_intermediate_size=32,
    ),
    "gemma3": lambda: other("Gemma3Text", **GQA, head_dim=8, sliding_window=48, query_pre_attn_scalar=8),
    "gpt2": lambda: other("GPT2", vocab_size=VOCAB, n_embd=32, n_layer=2, n_head=4, n_positions=512),
    "gpt-neox": lambda: other("GPTNeoX", **SMALL),
    "phi": lambda: other("Phi", **GQA),
    "bloom": lambda: other("Bloom", vocab_size=VOCAB, hidden_size=32, n_layer=2, n_head=4),
    "gpt-oss": lambda: other(
        "GptOss", **GQA, head_dim=8, num_local_experts=2, num_experts_per_tok=1, sliding_window=256
    ),
}


def requests(seed: int = 0, count: int = 24) -> list[ChoiceRequest]:
    """Two few-shot prefixes, one of them past the training length, and prompts that share nothing; ragged ends."""
    rng = np.random.default_rng(seed)
    heads = [rng.integers(3, VOCAB, 40), rng.integers(3, VOCAB, 90), rng.integers(3, VOCAB, 0)]
    made = []
    for index in range(count):
        own = rng.integers(3, VOCAB, int(rng.integers(1, 40)))
        tokens = np.concatenate([heads[index % 3], own]).astype(np.int32)
        made.append(ChoiceRequest(tokens, tuple(int(i) for i in rng.choice(VOCAB, 4, replace=False))))
    return made


@torch.inference_mode()
def plain(model: torch.nn.Module, asked: Sequence[ChoiceRequest]) -> np.ndarray:
    """One forward a prompt, by the model alone."""
    out = []
    for request in asked:
        for module in model.modules():  # transformers' dynamic RoPE remembers the longest prompt it has seen
            if hasattr(module, "max_seq_len_cached") and hasattr(module, "original_inv_freq"):
                module.max_seq_len_cached = module.original_max_seq_len
                module.register_buffer("inv_freq", module.original_inv_freq.clone(), persistent=False)
        ids = torch.as_tensor(request.tokens.astype(np.int64))[None]
        out.append(model(input_ids=ids, use_cache=False).logits[0, -1, list(request.candidates)].float().numpy())
    return np.stack(out)


def answers(model, asked: Sequence[ChoiceRequest], rows: int | None = None, budget: int | None = None) -> np.ndarray:
    engine = LocalEngine.of(model, rows=rows)
    if budget:
        engine.token_budget = budget
    got = dict(engine.choose(asked))
    assert not engine.uses_plain_forward, "the engine's own ways"
    assert sorted(got) == list(range(len(asked))), "every request once"
    return np.array([got[index] for index in range(len(asked))])


def assert_same(got: np.ndarray, want: np.ndarray) -> None:
    np.testing.assert_allclose(got, want, atol=1e-4)
    assert (got.argmax(1) == want.argmax(1)).all()


@pytest.mark.parametrize("name", MODELS)
def test_equals_one_plain_forward_a_prompt(name: str) -> None:
    model, asked = MODELS[name](), requests()
    want = plain(model, asked)
    assert np.ptp(want) > 0.1
    assert_same(answers(model, asked), want)


def test_each_request_has_as_many_candidates_as_it_likes() -> None:
    """2 to 26, other ones for each request; the same token twice, and one that another request has too."""
    model, rng = qwen(), np.random.default_rng(11)
    asked = [
        ChoiceRequest(request.tokens, tuple(rng.choice(VOCAB, int(rng.integers(2, 27)), replace=False).tolist()))
        for request in requests(8)
    ]
    asked[3] = ChoiceRequest(asked[3].tokens, (7, 9, 7))
    asked[4] = ChoiceRequest(asked[4].tokens, (9, 7))
    for rows, budget in ((None, None), (1, 64), (5, 300)):
        engine = LocalEngine.of(model, rows=rows)
        engine.token_budget = budget or engine.token_budget
        got = dict(engine.choose(asked))
        for index, request in enumerate(asked):
            assert len(got[index]) == len(request.candidates)
            np.testing.assert_allclose(got[index], plain(model, [request])[0], atol=1e-4)
        assert got[3][0] == got[3][2]


@pytest.mark.parametrize("rows", [1, 7, None])
@pytest.mark.parametrize("budget", [64, 300, 100_000])
def test_batch_size_changes_nothing(rows: int | None, budget: int) -> None:
    model, asked = qwen(), requests(1)
    assert_same(answers(model, asked, rows, budget), plain(model, asked))


def test_order_changes_nothing() -> None:
    model, asked = qwen(), requests(2)
    want = plain(model, asked)
    for seed in range(3):
        order = np.random.default_rng(seed).permutation(len(asked))
        assert_same(answers(model, [asked[i] for i in order]), want[order])


def test_company_changes_nothing() -> None:
    """A request alone, and beside others that share its prefix, has the same logits (drop and repeat some)."""
    model, asked = qwen(), requests(3)
    want = plain(model, asked)
    for index in (0, 1, 2):
        assert_same(answers(model, [asked[index]]), want[[index]])
    some = [4, 4, 9, 1, 4, 22]
    assert_same(answers(model, [asked[i] for i in some]), want[some])


def test_shared_prefix_is_run_once_not_per_request() -> None:
    """The point of it all: tokens that go through the model are those of the plan, not of the prompts."""
    model, asked = qwen(seq_length=4096), requests(4, count=60)
    seen = []
    model.transformer.wte.register_forward_hook(lambda module, inputs, output: seen.append(inputs[0].numel()))
    answers(model, asked, rows=1)
    prompts = sum(len(request.tokens) for request in asked)
    own = prompts - 19 * (40 + 90)
    assert sum(seen) <= own + 5 < prompts


def fail_at(monkeypatch: pytest.MonkeyPatch, fails) -> list[int]:
    """Make forwards over more tokens than `fails(tokens)` allows run out of memory; the sizes tried are returned."""
    tried: list[int] = []
    real = choose.hidden_states

    def limited(model, rules, last, implementation, **inputs):
        tried.append(inputs["input_ids"].numel())
        if fails(tried):
            raise torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 20.00 GiB")
        return real(model, rules, last, implementation, **inputs)

    monkeypatch.setattr(choose, "hidden_states", limited)
    return tried


def test_out_of_memory_halves_the_budget_and_goes_on(monkeypatch: pytest.MonkeyPatch) -> None:
    model, asked = qwen(), requests(5)
    want = plain(model, asked)
    tried = fail_at(monkeypatch, lambda sizes: len(sizes) in (2, 3))
    engine = LocalEngine.of(model)
    engine.token_budget = 800
    got = list(engine.choose(asked))
    assert engine.token_budget == 200
    assert len(got) == len(dict(got)) == len(asked), "none lost, none answered twice"
    assert_same(np.array([dict(got)[i] for i in range(len(asked))]), want)
    assert max(tried[3:]) <= 200


def test_other_words_for_out_of_memory(monkeypatch: pytest.MonkeyPatch) -> None:
    for error in (
        MemoryError(),
        RuntimeError("DefaultCPUAllocator: can't allocate memory: you tried to allocate 1 byte"),
    ):
        assert out_of_memory(error)
    assert not out_of_memory(RuntimeError("mat1 and mat2 shapes cannot be multiplied"))


def test_what_never_fits_is_an_error_after_the_smallest_batch(monkeypatch: pytest.MonkeyPatch) -> None:
    model, asked = qwen(), requests(6)
    tried = fail_at(monkeypatch, lambda sizes: True)
    engine = LocalEngine.of(model)
    with pytest.raises(UserError, match="out of memory with one prompt at a time"):
        list(engine.choose(asked))
    assert len(tried) < 20, "it gives up soon"


def test_bf16_drifts_within_bounds() -> None:
    model, asked = qwen(), requests(7)
    want = plain(model, asked)
    got = answers(model.bfloat16(), asked)
    assert np.abs(got - want).max() < 0.35


def test_16_bit_rounding_makes_no_ties() -> None:
    """Quirk Q14: logits that bfloat16 rounds to the same number stay apart, so none wins by standing first."""
    model = qwen().bfloat16()
    with torch.no_grad():
        model.lm_head.weight[1:] = model.lm_head.weight[0]
        model.lm_head.weight[2, 0] *= 1 + 2**-7  # the next bfloat16
        model.lm_head.weight[3, 0] *= 1 - 2**-7
    candidates = (1, 2, 3)
    asked = [request._replace(candidates=candidates) for request in requests(9)]
    with torch.inference_mode():
        rounded = [model(torch.tensor(r.tokens)[None].long()).logits[0, -1, list(candidates)].tolist() for r in asked]
    ties = [index for index, logits in enumerate(rounded) if len(set(logits)) < len(candidates)]
    assert len(ties) > len(asked) / 2, "what the model itself gives"
    found = dict(LocalEngine.of(model).choose(asked))
    assert all(len(set(found[index])) == len(candidates) for index in ties)
