"""The key-value cache in 8 bits, against the published scheme written out in numpy."""

from pathlib import Path
from typing import Any

from qwen_model.int8_cache import Int8Cache, quantise
from qwen_model.loading import CheckpointError, load_model
from qwen_model.modeling import QWenLMHeadModel
from tests.qwen_model.gptq_packing import packed_copy

import numpy as np
import pytest
import torch
from transformers import AutoModelForCausalLM, DynamicCache

from .conftest import ON, Build, S, padded, rows_of, same


def by_hand(x: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """q, scale and zero of one call's columns, [B, heads, T, d] -> uint8 of that shape, and fp32 [B, heads]."""
    q = np.zeros(x.shape, np.uint8)
    scale, zero = np.zeros(x.shape[:2], np.float32), np.zeros(x.shape[:2], np.float32)
    for row in range(x.shape[0]):
        for head in range(x.shape[1]):
            one = x[row, head]
            scale[row, head] = (one.max() - one.min()) / np.float32(255)
            zero[row, head] = -one.min() / scale[row, head]
            q[row, head] = np.floor(np.clip(one / scale[row, head] + zero[row, head], 0, 255))
    return q, scale, zero


def restored_by_hand(x: torch.Tensor) -> torch.Tensor:
    q, scale, zero = by_hand(x.numpy())
    wide = (slice(None), slice(None), None, None)
    return torch.from_numpy(scale[wide] * (q.astype(np.float32) - zero[wide]))


class ByHand(DynamicCache):
    """A float cache that keeps what the published scheme makes of each call's columns."""

    def update(self, key_states: torch.Tensor, value_states: torch.Tensor, layer_idx: int, *_: Any, **__: Any) -> Any:
        return super().update(restored_by_hand(key_states), restored_by_hand(value_states), layer_idx)


@pytest.fixture
def int8(build: Build) -> Any:
    return lambda **changes: build(attn="eager", use_cache_quantization=True, **changes)


def test_small_numbers_worked_out_on_paper():
    # -1 ... 1.55 in 255 steps of 0.01: 0.004 lies 100.4 steps above -1, and its decimals are cut off
    x = torch.tensor([-1.0, 0.004, 0.999, 1.55]).reshape(1, 1, 2, 2)
    kept = quantise(x)
    assert kept.q.flatten().tolist() == [0, 100, 199, 255] and kept.q.dtype == torch.uint8
    same(kept.scale, torch.full((1, 1, 2, 1), 0.01), 1e-6)
    same(kept.zero, torch.full((1, 1, 2, 1), 100.0), 1e-4)
    same(kept.restored().flatten(), torch.tensor([-1.0, 0.0, 0.99, 1.55]), 1e-5)


def test_the_formula_with_a_scale_of_each_row_and_head():
    x = (
        torch.randn(3, 4, 7, 8, generator=torch.Generator().manual_seed(0))
        * torch.tensor([1.0, 5, 0.1, 30])[:, None, None]
    )
    q, scale, zero = by_hand(x.numpy())
    kept = quantise(x)
    assert np.abs(kept.q.numpy().astype(int) - q).max() <= 1, "a value at a boundary may fall on either side"
    assert (kept.q.numpy() == q).mean() > 0.999
    same(kept.scale, torch.from_numpy(scale)[:, :, None, None].expand(-1, -1, 7, -1), 1e-6)
    same(kept.zero, torch.from_numpy(zero)[:, :, None, None].expand(-1, -1, 7, -1), 1e-3)
    below = (x - kept.restored()) / kept.scale
    assert below.min() > -0.01 and below.max() < 1.01 and 0.45 < below.mean() < 0.55, "half a step too low"


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16, torch.float16])
@pytest.mark.parametrize("value", [0.0, 3.5, -1000.0])
def test_equal_values_are_kept_where_the_published_formula_divides_by_nothing(value, dtype):
    x = torch.full((1, 2, 3, 4), value, dtype=dtype)
    assert torch.equal(quantise(x).restored(), x)


def test_values_that_differ_by_less_than_the_dtype_can_scale_are_finite():
    x = torch.tensor([1000.0, 1000.5], dtype=torch.float16).reshape(1, 1, 1, 2)
    restored = quantise(x).restored()
    assert restored.isfinite().all() and (restored - x).abs().max() <= 0.5


@pytest.mark.parametrize("changes", [{}, {"use_dynamic_ntk": False, "use_logn_attn": False}, {"softmax_in_fp32": True}])
def test_prefill_and_decoding_are_those_of_the_published_scheme(build, int8, ids, changes):
    ours, plain = int8(**changes), build(attn="eager", **changes)
    tokens = ids(1, 60)
    caches: list[Any] = [ours.new_cache(), ByHand(config=plain.config)]
    with torch.no_grad():
        for start, end in ((0, 50), (50, 51), (51, 52), (52, 60)):
            got, want = (
                model(tokens[:, start:end], past_key_values=cache).logits
                for model, cache in zip((ours, plain), caches, strict=True)
            )
            same(got, want, 0.05 if start else 2e-3)  # a value at a boundary may fall on either side
            assert (got - want).abs().mean() < 2e-3
        exact = plain(tokens).logits[:, :50] - ours(tokens[:, :50]).logits
    assert exact.abs().max() > 0.02, "the prompt's own logits change"


def test_a_forward_without_a_cache_is_quantised_as_well(int8, ids):
    model = int8()
    with torch.no_grad():
        kept, bare = model(ids(1, 20)), model(ids(1, 20), use_cache=False)
    assert torch.equal(kept.logits, bare.logits)
    assert isinstance(kept[1], Int8Cache) and len(bare.to_tuple()) == 1


def test_what_it_holds_and_its_bytes(build, int8, ids):
    def held(cache: Any) -> int:
        tensors = [getattr(layer, name) for layer in cache.layers for name in ("keys", "values")]
        tensors += [one for layer in cache.layers for one in getattr(layer, "scales", ())]
        return sum(one.numel() * one.element_size() for one in tensors)

    shape = {"hidden_size": 256, "num_attention_heads": 2, "kv_channels": 128}  # the published head's width
    tokens = ids(2, 24)
    caches = []
    for model in (int8(**shape).bfloat16(), build(**shape).bfloat16()):
        cache = model.new_cache()
        with torch.no_grad():
            for step in (tokens, tokens[:, :1]):
                model(step, past_key_values=cache)
        caches.append(cache)
    layer = caches[0].layers[0]
    assert layer.keys.dtype == torch.uint8 and layer.keys.shape == (2, 2, 25, 128)
    assert [one.shape for one in layer.scales] == [(2, 2, 25, 1)] * 4 and layer.scales[0].dtype == torch.bfloat16
    assert held(caches[0]) == 2 * 3 * 2 * 2 * 25 * (128 + 2 * 2)  # keys and values, layers, rows, heads, columns
    assert held(caches[1]) == 2 * 3 * 2 * 2 * 25 * 256
    scales = layer.scales[0][0, 0, :, 0]
    assert len(set(scales[:24].tolist())) == 1 and scales[24] != scales[0], "one scale a call"


@pytest.mark.parametrize("side", ["left", "right"])
@pytest.mark.parametrize("ntk", [True, False])
def test_a_row_does_not_depend_on_its_batch(int8, ids, side, ntk):
    model = int8(use_dynamic_ntk=ntk)
    rows = rows_of(ids, 40, 9, 33)
    batch, mask = padded(rows, side)
    with torch.no_grad():
        together = model(batch, attention_mask=mask).logits
        for place, row in enumerate(rows):
            alone = model(row[None]).logits[0]
            got = together[place, -len(row) :] if side == "left" else together[place, : len(row)]
            assert (got - alone).abs().mean() < 2e-3 and (got - alone).abs().max() < 0.05


def test_last_positions_leave_right_padding_out(int8, ids):
    model = int8()
    rows = rows_of(ids, 20, 6)
    batch, _ = padded(rows, "right")
    with torch.no_grad():
        last = model(batch, last_positions=torch.tensor([19, 5])).logits[:, 0]
        for place, row in enumerate(rows):
            assert (last[place] - model(row[None]).logits[0, -1]).abs().max() < 0.05


def test_generate_goes_through_it(int8, ids):
    model = int8()
    prompts = rows_of(ids, 12, 30)
    batch, mask = padded(prompts, "left")
    told = model.generate(
        batch, attention_mask=mask, max_new_tokens=6, do_sample=False, return_dict_in_generate=True, pad_token_id=0
    )
    assert isinstance(getattr(told, "cache", None) or told.past_key_values, Int8Cache)
    for place, prompt in enumerate(prompts):
        cache, step, said = model.new_cache(), prompt[None], []
        with torch.no_grad():
            for _ in range(6):
                step = model(step, past_key_values=cache).logits[:, -1:].argmax(-1)
                said.append(int(step))
        assert told.sequences[place, -6:].tolist() == said


@pytest.mark.parametrize(
    "options",
    [{"num_beams": 2}, {"prefill_chunk_size": 4}, {"prompt_lookup_num_tokens": 3}],
    ids=lambda options: next(iter(options)),
)
def test_what_would_change_the_scheme_is_refused(int8, ids, options):
    with pytest.raises(ValueError, match=f"{next(iter(options))}=. does not work with the int8 KV cache"):
        int8().generate(ids(1, 8), max_new_tokens=2, do_sample=False, **options)


def test_a_float_cache_is_refused(int8, ids):
    with pytest.raises(ValueError, match=r"int8.*DynamicCache is not"):
        int8()(ids(1, 8), past_key_values=DynamicCache())
    with pytest.raises(ValueError, match="StaticCache is not"):
        int8().generate(ids(1, 8), max_new_tokens=2, cache_implementation="static")


def test_windows_go_together_with_it(build, int8, ids):
    model, plain = int8(), build(attn="eager")
    cache: Any = model.new_cache(ON)
    with torch.no_grad():
        got = model(ids(1, 2 * S), past_key_values=cache, long_context=ON).logits
        want = plain(ids(1, 2 * S), past_key_values=ByHand(config=plain.config), long_context=ON).logits
        assert (got - want).abs().max() < 0.05
        assert model(ids(1, 1), past_key_values=cache).logits.isfinite().all()


def test_training_is_in_floats(build, int8, ids):
    trained, plain = int8().train(), build(attn="eager").train()
    same(trained(ids(1, 12)).logits, plain(ids(1, 12)).logits)


def test_by_the_switch_of_load_model_and_by_config_json(demo_checkpoint: Path, tmp_path: Path):
    tokens = torch.tensor([[5, 17, 99, 4, 3, 60, 8]])
    asked = load_model(demo_checkpoint, device="cpu", kv_cache="int8")
    assert asked.config._attn_implementation == "eager", "the published code has no other attention over it"
    assert load_model(demo_checkpoint, device="cpu").config._attn_implementation == "sdpa"
    asked.save_pretrained(tmp_path)
    stored: QWenLMHeadModel = AutoModelForCausalLM.from_pretrained(tmp_path, dtype="float32").eval()
    passed = AutoModelForCausalLM.from_pretrained(demo_checkpoint, dtype="float32", use_cache_quantization=True).eval()
    with torch.no_grad():
        wanted = asked(tokens).logits
        assert isinstance(stored.new_cache(), Int8Cache)
        assert torch.equal(stored(tokens).logits, wanted) and torch.equal(passed(tokens).logits, wanted)
        assert not torch.equal(load_model(demo_checkpoint, device="cpu")(tokens).logits, wanted)


def test_packed_checkpoints_have_it_too(demo_checkpoint: Path, tmp_path: Path):
    twin = load_model(demo_checkpoint, dtype="float32", device="cpu", kv_cache="int8")
    twin.load_state_dict(packed_copy(demo_checkpoint, tmp_path / "packed", bits=4, group=32), strict=False)
    model = load_model(tmp_path / "packed", dtype="float32", device="cpu", kv_cache="int8")
    tokens = torch.tensor([[5, 17, 99, 4, 3, 60, 8]])
    with torch.no_grad():
        apart = (model(tokens).logits - twin(tokens).logits).abs()
    assert apart.mean() < 0.02 and apart.max() < 0.2, "rounding moves a value at a boundary to the next step"
    assert isinstance(model.generate(tokens, max_new_tokens=3, return_dict_in_generate=True)[-1], Int8Cache)


def test_an_unknown_choice_and_another_family_are_one_line(demo_checkpoint: Path, tmp_path: Path):
    from transformers import LlamaConfig

    with pytest.raises(CheckpointError, match="one of auto, int8, not 'fp8'"):
        load_model(demo_checkpoint, kv_cache="fp8")
    LlamaConfig(hidden_size=8, num_hidden_layers=1, num_attention_heads=1, vocab_size=16).save_pretrained(tmp_path)
    with pytest.raises(CheckpointError, match="first-generation Qwen's, and this model is of type llama"):
        load_model(tmp_path, kv_cache="int8")
