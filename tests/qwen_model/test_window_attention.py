"""Window attention equals a dense masked reference, however it is run: cached, in chunks, padded, in a batch."""

import random
from typing import Any

from qwen_model import LongContext
from qwen_model.window_cache import WindowLayer

import pytest
import torch
from transformers import DynamicCache, StaticCache

from . import dense
from .conftest import ON, S, padded, rows_of, same

CHOICES = [
    ON,
    LongContext(False, False, (5, 16, None)),
    LongContext(True, False, (None, 1, 40)),
    LongContext(True, True, (20, 50, 90), logn_mode="visible"),
    LongContext(True, False, (16, 40, None), ntk_per_layer=False),
]


def reference(model: Any, tokens: torch.Tensor, switches: LongContext, ntk_length: int | None = None) -> torch.Tensor:
    return dense.logits(
        model,
        tokens,
        switches.window_attn,
        switches.use_dynamic_ntk,
        switches.use_logn_attn,
        switches.ntk_per_layer,
        switches.logn_mode == "visible",
        ntk_length,
    ).float()


# -- the function itself -----------------------------------------------------------------------------------------------


@pytest.mark.parametrize("attn", ["sdpa", "eager"])
@pytest.mark.parametrize("switches", CHOICES)
@torch.no_grad()
def test_equals_a_dense_masked_reference(build, ids, switches, attn):
    model = build(attn=attn, rotary_pct=0.5 if switches.window_attn[0] == 20 else 1.0)
    for length in (6, S, 2 * S, 2 * S + 1, 100):
        tokens = ids(1, length, seed=length)
        want = reference(model, tokens[0], switches)
        same(model(tokens, long_context=switches, use_cache=False).logits[0], want, 2e-5)
        same(model(tokens, long_context=switches, use_cache=True).logits[0], want, 2e-5)


@torch.no_grad()
def test_windows_change_something(build, ids):
    model, tokens = build(), ids(1, 50)
    off = model(tokens, long_context=LongContext(True, True)).logits
    on = model(tokens, long_context=ON).logits
    assert (off - on).abs().max() > 0.1
    torch.testing.assert_close(off[:, :1], model(tokens[:, :1]).logits, atol=1, rtol=0)  # same scale


@pytest.mark.parametrize("attn", ["sdpa", "eager"])
@torch.no_grad()
def test_windows_of_at_least_the_length_are_bit_identical_to_none(build, ids, attn):
    model = build(attn=attn)
    rows = rows_of(ids, 80, 50)
    for side in ("left", "right"):
        batch, mask = padded(rows, side)
        wide, none = LongContext(True, True, (80, 81, 1000)), LongContext(True, True)
        for inputs in ({"attention_mask": mask}, {}, {"last_positions": mask.sum(1) - 1}):
            a, b = (model(batch, long_context=switches, **inputs).logits for switches in (wide, none))
            real = mask.bool() if a.shape[1] == 80 else slice(None)
            assert torch.equal(a[real], b[real])
    wide, none = LongContext(True, True, (90, 91, 1000)), LongContext(True, True)
    caches = [model(batch, attention_mask=mask, long_context=switches).past_key_values for switches in (wide, none)]
    for step in range(10):
        mask = torch.cat([mask, torch.ones_like(mask[:, :1])], 1)
        a, b = (model(ids(2, 1, seed=step), attention_mask=mask, past_key_values=cache).logits for cache in caches)
        assert torch.equal(a, b)


@torch.no_grad()
def test_a_window_of_one_sees_the_token_alone(build, ids):
    model, tokens = build(use_logn_attn=False), ids(1, 20)
    model.long_context = LongContext(False, False, (1, 1, 1))
    alone = torch.cat([model(tokens[:, i : i + 1]).logits for i in range(20)], 1)
    same(model(tokens).logits, alone)
    cache = model.new_cache()
    same(torch.cat([model(tokens[:, i : i + 5], past_key_values=cache).logits for i in (0, 5, 10, 15)], 1), alone)
    assert [layer.held() for layer in cache.layers] == [0, 0, 0]


# -- with a cache ------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("mode", ["absolute", "visible"])
@torch.no_grad()
def test_prefill_equals_token_by_token_where_the_factors_agree(build, ids, mode):
    """All windows at the training length: no layer ever leaves it, whatever the length."""
    model, tokens = build(), ids(2, 5 * S)
    model.long_context = LongContext(True, True, (S, S, S), logn_mode=mode)
    whole = model(tokens).logits
    cache = model.new_cache()
    steps = [model(tokens[:, i : i + 1], past_key_values=cache).logits for i in range(5 * S)]
    same(torch.cat(steps, 1), whole)


@pytest.mark.parametrize("attn", ["sdpa", "eager"])
@pytest.mark.parametrize("switches", CHOICES)
@torch.no_grad()
def test_chunked_equals_unchunked(build, ids, switches, attn):
    model, draw = build(attn=attn), random.Random(5)
    tokens = ids(2, 120)
    alpha = torch.tensor([model.ntk_alpha(120, switches)])
    whole = model(tokens, long_context=switches).logits
    bounded, full = model.new_cache(switches), DynamicCache(config=model.config)
    start = 0
    while start < 120:
        size = draw.choice((1, 2, 9, 30, 61))
        inputs = {"ntk_alpha": alpha, "long_context": switches}
        for cache in (bounded, full):
            out = model(tokens[:, start : start + size], past_key_values=cache, **inputs)
            same(out.logits, whole[:, start : start + size])
        start += size


@torch.no_grad()
def test_the_factor_is_frozen_at_prefill(build, ids):
    """As without windows: decoding past a boundary goes on with the prompt's factors."""
    model, tokens = build(), ids(1, 3 * S)
    cache = model.new_cache(ON)
    model(tokens[:, : S - 2], past_key_values=cache)
    steps = [model(tokens[:, i : i + 1], past_key_values=cache).logits[0] for i in range(S - 2, 3 * S)]
    same(torch.cat(steps), reference(model, tokens[0], ON, ntk_length=S - 2)[S - 2 :], 2e-5)


@torch.no_grad()
def test_the_cache_holds_no_more_than_the_windows(build, ids):
    model, tokens = build(), ids(2, 200)
    model.long_context = ON
    widest = [6, S - 1, 69]
    cache = model(tokens[:, :100]).past_key_values
    for layer, most in zip(cache.layers, widest, strict=True):
        assert isinstance(layer, WindowLayer)
        assert layer.keys.shape == layer.values.shape == (2, 4, most, 8)
        assert layer.keys.untyped_storage().nbytes() == 2 * 4 * most * 8 * 4  # not a view of the whole prefill
    model(tokens[:, 100:130], past_key_values=cache)
    assert [layer.keys.shape[2] for layer in cache.layers] == widest
    for i in range(130, 200):
        model(tokens[:, i : i + 1], past_key_values=cache)
    assert [layer.keys.shape[2] for layer in cache.layers] == widest
    assert cache.get_seq_length() == 200
    assert [layer.keys.untyped_storage().nbytes() for layer in cache.layers] == [
        2 * 4 * (most + 1) * 8 * 4 for most in widest
    ]
    full = model(tokens, long_context=LongContext(True, True, (7, None, None)), use_cache=True).past_key_values
    assert [layer.keys.shape[2] for layer in full.layers] == [6, 200, 200]


@torch.no_grad()
def test_a_step_over_a_bounded_cache_needs_no_mask(build, ids, monkeypatch):
    """The fast kernel: all that the cache holds is within the window."""
    masks, attend = [], torch.nn.functional.scaled_dot_product_attention

    def spy(*args, **kwargs):
        masks.append((kwargs["attn_mask"], args[1].shape[2]))
        return attend(*args, **kwargs)

    model, tokens = build(), ids(2, 100)
    cache = model(tokens, long_context=ON).past_key_values
    monkeypatch.setattr(torch.nn.functional, "scaled_dot_product_attention", spy)
    model(tokens[:, :1], attention_mask=torch.ones(2, 101), past_key_values=cache)
    assert masks == [(None, 7), (None, S), (None, 70)]


@torch.no_grad()
def test_a_cache_keeps_the_switches_it_was_filled_with(build, ids):
    model, tokens = build(), ids(1, 60)
    cache = model(tokens[:, :50], long_context=ON).past_key_values
    want = model(tokens[:, 50:], past_key_values=cache).logits  # the model's own are other ones
    again = model(tokens[:, :50], long_context=ON).past_key_values
    same(model(tokens[:, 50:], past_key_values=again, long_context=ON).logits, want)
    off = model(tokens[:, :50]).past_key_values
    model.long_context = ON
    plain = build()(tokens[:, 50:], past_key_values=build()(tokens[:, :50]).past_key_values).logits
    same(model(tokens[:, 50:], past_key_values=off).logits, plain)
    with pytest.raises(ValueError, match="the cache belongs to"):
        model(tokens[:, 50:], past_key_values=off, long_context=ON)
    with pytest.raises(ValueError, match="the cache belongs to"):
        model(tokens, past_key_values=model.new_cache(), long_context=LongContext(True, True))
    empty = DynamicCache(config=model.config)  # an empty one of transformers belongs to nobody
    same(model(tokens, past_key_values=empty).logits, model(tokens).logits)


# -- padding and batches -----------------------------------------------------------------------------------------------


@pytest.mark.parametrize("attn", ["sdpa", "eager"])
@pytest.mark.parametrize("side", ["left", "right"])
@pytest.mark.parametrize("switches", CHOICES)
@torch.no_grad()
def test_a_padded_row_equals_its_unpadded_self(build, ids, switches, side, attn):
    """In prefill, in decoding and in a chunk behind it: pads count in no window."""
    model = build(attn=attn)
    model.long_context = switches
    rows = rows_of(ids, 100, 3, 41, 66)
    batch, mask = padded(rows, side)
    out = model(batch, attention_mask=mask)
    single = [model(row[None]) for row in rows]
    for got, keep, want in zip(out.logits, mask.bool(), single, strict=True):
        same(got[keep], want.logits[0])
    last = mask.shape[1] - 1 - mask.flip(1).argmax(1)
    at_last = model(batch, attention_mask=mask, last_positions=last).logits[:, 0]
    same(at_last, torch.stack([want.logits[0, -1] for want in single]))
    for seed, size in enumerate((1, 1, 1, 10, 1, 1)):
        more = ids(4, size, seed=seed)
        mask = torch.cat([mask, torch.ones(4, size, dtype=torch.long)], 1)
        got = model(more, attention_mask=mask, past_key_values=out.past_key_values).logits
        for row, want in enumerate(single):
            same(got[row], model(more[row : row + 1], past_key_values=want.past_key_values).logits[0])


@torch.no_grad()
def test_a_cache_behind_padding_is_bounded_all_the_same(build, ids):
    model = build()
    model.long_context = LongContext(True, True, (8, 8, 8))
    rows = rows_of(ids, 60, 50)
    for side, most in (("left", 7), ("right", 17)):  # on the right, 10 pads lie among the last columns of a row
        batch, mask = padded(rows, side)
        cache = model(batch, attention_mask=mask).past_key_values
        assert [layer.held() for layer in cache.layers] == [most] * 3
        for _ in range(8):
            mask = torch.cat([mask, torch.ones(2, 1, dtype=torch.long)], 1)
            model(ids(2, 1), attention_mask=mask, past_key_values=cache)
        assert [layer.held() for layer in cache.layers] == [7] * 3


@torch.no_grad()
def test_the_rest_of_the_batch_does_not_matter(build, ids):
    model = build()
    model.long_context = ON
    rows = rows_of(ids, 90, 33, 33 + S)
    batch, mask = padded(rows, "left")
    first = model(batch, attention_mask=mask).logits
    order = torch.tensor([2, 0, 1])
    same(model(batch[order], attention_mask=mask[order]).logits[1][mask[0].bool()], first[0][mask[0].bool()])
    alphas = torch.tensor([model.ntk_alpha(len(row)) for row in rows])
    right, right_mask = padded(rows, "right")
    by_column = model(right, ntk_alpha=alphas).logits  # right padding needs no mask: no real token looks there
    for row in range(3):
        same(by_column[row][right_mask[row].bool()], first[row][mask[row].bool()])


@pytest.mark.parametrize("attn", ["sdpa", "eager"])
@torch.no_grad()
def test_one_query_a_row_behind_a_prefix(build, ids, attn):
    model = build(attn=attn)
    model.long_context = ON
    batch, mask = padded(rows_of(ids, 5, 30, 60), "right")
    last, prefix = mask.sum(1) - 1, ids(1, 40, seed=9).expand(3, -1)
    alpha = torch.ones(1)
    want = model(torch.cat([prefix, batch], 1), ntk_alpha=alpha).logits[torch.arange(3), 40 + last]
    for cache in (model.new_cache(), StaticCache(config=model.config, max_cache_len=120)):
        model(prefix, past_key_values=cache, ntk_alpha=alpha)
        same(model(batch, past_key_values=cache, last_positions=last).logits[:, 0], want)


# -- what cannot be ----------------------------------------------------------------------------------------------------


@torch.no_grad()
def test_clear_errors(build, ids):
    model, tokens = build(), ids(1, 10)
    with pytest.raises(ValueError, match="2 windows for the 3 layers"):
        model.long_context = LongContext(True, True, (5, 5))
    with pytest.raises(ValueError, match="at least 1, not 0"):
        model(tokens, long_context=LongContext(True, True, (5, 0, 5)))
    with pytest.raises(ValueError, match="2-D attention_mask"):
        model(tokens, attention_mask=torch.ones(1, 1, 10, 10, dtype=torch.bool), long_context=ON)


def test_windows_are_for_inference(build, ids):
    model, tokens = build().train(), ids(1, 50)
    same(model(tokens, long_context=ON).logits, build(use_dynamic_ntk=False, use_logn_attn=False)(tokens).logits)
