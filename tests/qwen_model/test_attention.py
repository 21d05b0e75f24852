"""Attention back-ends, recorded outputs, and the last layer at one position a row."""

import pytest
import torch
from transformers import DynamicCache, StaticCache
from transformers.modeling_utils import ALL_ATTENTION_FUNCTIONS

from .conftest import VARIANTS, padded, same


@pytest.mark.parametrize("changes", VARIANTS)
@torch.no_grad()
def test_eager_equals_sdpa_and_records_attention(build, ids, changes):
    tokens = ids(2, 50)
    eager = build(attn="eager", **changes)(tokens, output_attentions=True, output_hidden_states=True)
    same(build(**changes)(tokens).logits, eager.logits)
    assert len(eager.attentions) == 3 and eager.attentions[0].shape == (2, 4, 50, 50)
    same(eager.attentions[0].sum(-1), torch.ones(2, 4, 50))
    assert len(eager.hidden_states) == 4
    as_tuple = build(**changes)(tokens, return_dict=False)
    same(as_tuple[0], eager.logits)


@pytest.mark.parametrize("attn", ["sdpa", "eager"])
@pytest.mark.parametrize("changes", [{}, {"rotary_pct": 0.5}, {"num_hidden_layers": 1}])
@torch.no_grad()
def test_last_positions(build, ids, attn, changes):
    model = build(attn=attn, **changes)
    rows = [ids(1, n, seed=n)[0] for n in (5, 33, 70)]
    batch, mask = padded(rows, "right")
    last = mask.sum(1) - 1
    full = model(batch, attention_mask=mask).logits[torch.arange(3), last]
    out = model(batch, attention_mask=mask, last_positions=last)
    assert out.logits.shape == (3, 1, model.config.vocab_size)
    same(out.logits[:, 0], full)
    alphas = torch.tensor([model.ntk_alpha(len(row)) for row in rows])
    same(model(batch, last_positions=last, ntk_alpha=alphas, use_cache=False).logits[:, 0], full)
    # behind a prefix, in both caches
    prefix = ids(1, 20, seed=5).expand(3, -1)
    whole = torch.cat([prefix, batch], 1)
    expected = model(whole, ntk_alpha=torch.ones(1)).logits[torch.arange(3), 20 + last]
    for cache in (DynamicCache(config=model.config), StaticCache(config=model.config, max_cache_len=100)):
        model(prefix, past_key_values=cache)
        same(model(batch, past_key_values=cache, last_positions=last).logits[:, 0], expected)
    with pytest.raises(ValueError, match="last_positions"):
        model(batch, labels=batch, last_positions=last)


@torch.no_grad()
def test_last_positions_with_an_adapted_projection(build, ids):
    """A wrapped c_attn (adapter, quantiser, offload hook) is called as a whole."""

    class Adapted(torch.nn.Linear):
        def forward(self, x):
            return super().forward(x) + 1

    model, tokens = build(), ids(2, 9)
    attn = model.transformer.h[-1].attn
    adapted = Adapted(attn.c_attn.in_features, attn.c_attn.out_features)
    adapted.load_state_dict(attn.c_attn.state_dict())
    attn.c_attn = adapted
    last = torch.tensor([8, 3])
    same(model(tokens, last_positions=last).logits[:, 0], model(tokens).logits[torch.arange(2), last])


@torch.no_grad()
def test_keywords_reach_a_registered_attention(build, ids):
    seen = []

    def spy(module, query, key, value, attention_mask, scaling, dropout=0.0, **kwargs):
        seen.append((module.layer_idx, module.is_causal, module.num_key_value_groups, query.shape, key.shape, kwargs))
        out = torch.nn.functional.scaled_dot_product_attention(
            query, key, value, is_causal=query.shape[2] > 1, scale=scaling
        )
        return out.transpose(1, 2).contiguous(), None

    ALL_ATTENTION_FUNCTIONS.register("spy", spy)
    tokens = ids(2, 10)
    model = build(attn="spy")
    same(model(tokens, use_cache=False, marker=5).logits, build()(tokens).logits)
    assert [entry[:3] for entry in seen] == [(i, True, 1) for i in range(3)]
    assert seen[0][3] == seen[0][4] == (2, 4, 10, 8) and all(entry[5]["marker"] == 5 for entry in seen)
    seen.clear()
    model(tokens, use_cache=False, last_positions=torch.tensor([9, 9]))
    assert seen[-1][3] == (2, 4, 1, 8) and seen[-1][5]["last_positions"].tolist() == [9, 9]
    assert "last_positions" not in seen[0][5]


@torch.no_grad()
def test_a_mask_without_zeros_builds_no_mask(build, ids, monkeypatch):
    masks = []
    attend = torch.nn.functional.scaled_dot_product_attention

    def spy(*args, **kwargs):
        masks.append(kwargs["attn_mask"])
        return attend(*args, **kwargs)

    monkeypatch.setattr(torch.nn.functional, "scaled_dot_product_attention", spy)
    model, tokens = build(), ids(2, 40)
    cache = model(tokens, attention_mask=torch.ones_like(tokens), use_cache=True).past_key_values
    model(tokens[:, :1], attention_mask=torch.ones(2, 41), past_key_values=cache)
    assert len(masks) == 6 and all(mask is None for mask in masks)
