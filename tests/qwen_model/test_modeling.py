"""Properties of the model on fresh random weights and inputs: what a result may not depend on."""

import copy
import math

import pytest
import torch
from transformers import DynamicCache, StaticCache

from .conftest import PLAIN, VARIANTS, S, padded, same
from .qwen2 import qwen2_of


@pytest.mark.parametrize("changes", VARIANTS)
@pytest.mark.parametrize("side", ["left", "right"])
@pytest.mark.parametrize("attn", ["sdpa", "eager"])
@torch.no_grad()
def test_a_row_does_not_depend_on_its_batch(build, ids, changes, side, attn):
    model = build(attn=attn, **changes)
    rows = [ids(1, n, seed=n)[0] for n in (5, S - 1, S, S + 1, 2 * S + 1, 5 * S)]
    batch, mask = padded(rows, side)
    logits = model(batch, attention_mask=mask).logits
    assert not logits.isnan().any()
    for i, row in enumerate(rows):
        same(logits[i, mask[i].bool()], model(row[None]).logits[0], atol=2e-5)


@torch.no_grad()
def test_a_row_of_padding_alone_is_no_error(build, ids):
    """Quirk Q24: beyond the training length the published code takes the logarithm of the row's length, 0."""
    model, tokens = build(), ids(2, 2 * S + 1)
    mask = torch.ones_like(tokens)
    mask[1] = 0
    out = model(tokens, attention_mask=mask)
    assert out.past_key_values.ntk_alpha.tolist() == [7.0, 1.0]
    assert out.logits.isfinite().all()
    same(out.logits[0], model(tokens[:1]).logits[0], atol=2e-5)


@pytest.mark.parametrize("changes", VARIANTS)
@torch.no_grad()
def test_the_full_formula_beyond_the_training_length(build, ids, changes):
    """Against a direct, loop-free reading of the published formulas in float64."""
    model = build(**changes)
    config, n = model.config, 3 * S
    x64 = copy.deepcopy(model).double()
    tokens = ids(1, n)[0]
    alpha = 1.0
    if config.use_dynamic_ntk:
        alpha = max(2 ** math.ceil(math.log2(n / config.seq_length) + 1) - 1, 1)
    d = int(config.kv_channels * config.rotary_pct)
    base = config.rotary_emb_base * alpha ** (d / (d - 2))
    angles = torch.arange(n, dtype=torch.float64)[:, None] * base ** (-torch.arange(0, d, 2, dtype=torch.float64) / d)
    cos, sin = (torch.cat([f(angles)] * 2, -1)[:, None] for f in (torch.cos, torch.sin))

    def norm(x, weight):
        return x / (x.pow(2).mean(-1, keepdim=True) + config.layer_norm_epsilon).sqrt() * weight

    def turn(t):
        head, rest = t[..., :d], t[..., d:]
        return torch.cat([head * cos + torch.cat([-head[..., d // 2 :], head[..., : d // 2]], -1) * sin, rest], -1)

    x = x64.transformer.wte.weight[tokens]
    for block in x64.transformer.h:
        q, k, v = block.attn.c_attn(norm(x, block.ln_1.weight)).view(n, 3, config.num_attention_heads, -1).unbind(1)
        q, k = turn(q), turn(k)
        if config.use_logn_attn:
            logn = (torch.arange(1, n + 1, dtype=torch.float64).log() / math.log(config.seq_length)).clamp(min=1)
            q = q * logn[:, None, None]
        scores = torch.einsum("qhd,khd->hqk", q, k) / math.sqrt(config.kv_channels)
        scores = scores.masked_fill(torch.ones(n, n).triu(1).bool(), -math.inf)
        mixed = torch.einsum("hqk,khd->qhd", scores.softmax(-1), v).reshape(n, -1)
        x = x + block.attn.c_proj(mixed)
        y = norm(x, block.ln_2.weight)
        x = x + block.mlp.c_proj(block.mlp.w1(y) * torch.nn.functional.silu(block.mlp.w2(y)))
    expected = norm(x, x64.transformer.ln_f.weight) @ x64.lm_head.weight.T
    same(model(tokens[None]).logits[0], expected.float(), atol=5e-5)


@torch.no_grad()
def test_equals_qwen2_by_renaming(build, ids):
    model = build(**PLAIN)
    batch, mask = padded([ids(1, n, seed=n)[0] for n in (9, 40, 100)], "left")
    ours, theirs = (m(batch, attention_mask=mask).logits[mask.bool()] for m in (model, qwen2_of(model)))
    same(ours, theirs)


@pytest.mark.parametrize("sizes", [[30], [1] * 30, [10, 1, 1, 9, 9], [3, 27]])
@torch.no_grad()
def test_cached_equals_uncached_up_to_the_training_length(build, ids, sizes):
    model, tokens = build(), ids(2, 30)
    expected = model(tokens).logits
    for cache in (DynamicCache(config=model.config), StaticCache(config=model.config, max_cache_len=40)):
        done, pieces = 0, []
        for piece in tokens.split(sizes, dim=1):
            done += piece.shape[1]
            pieces.append(model(piece, past_key_values=cache).logits)
        same(torch.cat(pieces, 1), expected)


@pytest.mark.parametrize("attn", ["sdpa", "eager"])
@torch.no_grad()
def test_left_padded_cached_rows_beyond_the_training_length(build, ids, attn):
    model = build(attn=attn)
    rows = [ids(1, n, seed=n)[0] for n in (7, 40, 70)]
    batch, mask = padded(rows, "left")
    caches = (DynamicCache(config=model.config), StaticCache(config=model.config, max_cache_len=90))
    for cache in caches:
        model(batch, attention_mask=mask, past_key_values=cache)
        more = ids(3, 6, seed=9)
        seen = torch.cat([mask, torch.ones(3, 6, dtype=torch.long)], 1)
        logits = model(more, attention_mask=seen, past_key_values=cache).logits
        for i, row in enumerate(rows):
            alone = model(row[None], use_cache=True).past_key_values
            same(logits[i], model(more[i : i + 1], past_key_values=alone).logits[0], atol=2e-5)


@torch.no_grad()
def test_alpha_lives_in_the_cache(build, ids):
    model = build()
    prompt, more = ids(1, 2 * S + 1), ids(1, 5, seed=1)
    cache = model(prompt, use_cache=True).past_key_values
    assert cache.ntk_alpha.tolist() == [7.0] and model.ntk_alpha(2 * S + 1) == 7.0
    twin = copy.deepcopy(cache)
    expected = model(more, past_key_values=cache).logits
    model(ids(1, 5))  # quirk Q3: another prefill between
    same(model(more, past_key_values=twin).logits, expected, atol=0)
    assert twin.ntk_alpha.tolist() == [7.0]
    # frozen: decoding past 4S keeps it
    model(ids(1, 3 * S), past_key_values=twin)
    assert twin.ntk_alpha.tolist() == [7.0]
    # a cache that came without it: the length that it holds decides
    bare = DynamicCache(config=model.config)
    model(prompt, past_key_values=bare)
    vars(bare).pop("ntk_alpha")
    same(model(more, past_key_values=bare).logits, expected, atol=0)


@torch.no_grad()
def test_alpha_override(build, ids):
    model, tokens = build(), ids(2, 10)
    default = model(tokens).logits
    same(model(tokens, ntk_alpha=torch.ones(2)).logits, default, atol=0)
    out = model(tokens, ntk_alpha=torch.tensor([1.0, 7.0]))
    same(out.logits[0], default[0])
    assert (out.logits[1] - default[1]).abs().max() > 1e-2
    assert out.past_key_values.ntk_alpha.tolist() == [1.0, 7.0]
    with pytest.raises(ValueError, match="ntk_alpha has 3 rows"):
        model(tokens, ntk_alpha=torch.ones(3))
    assert build(**PLAIN).ntk_alpha(10**6) == 1.0


@torch.no_grad()
def test_positions_given_are_honoured(build, ids):
    model, tokens = build(), ids(1, 12)
    default = model(tokens).logits
    same(model(tokens, position_ids=torch.arange(12)[None]).logits, default, atol=0)
    same(model(tokens, position_ids=torch.arange(12)[None] + 5).logits, default)  # RoPE is relative
    far = model(tokens, position_ids=torch.arange(12)[None] + 500).logits
    assert (far - default).abs().max() > 1e-2  # LogN is not
    spread = model(tokens, position_ids=2 * torch.arange(12)[None]).logits
    assert (spread - default).abs().max() > 1e-2


@torch.no_grad()
def test_no_limit_at_32767(build, ids):
    model = build(num_hidden_layers=1, seq_length=8192)
    cache = DynamicCache(config=model.config)
    position_ids = torch.arange(32760, 32780)[None]
    assert model(ids(1, 20), position_ids=position_ids, past_key_values=cache).logits.isfinite().all()


@torch.no_grad()
def test_logits_to_keep_and_embeddings(build, ids):
    model, tokens = build(), ids(2, 12)
    full = model(tokens).logits
    same(model(tokens, logits_to_keep=3).logits, full[:, -3:])
    same(model(tokens, logits_to_keep=torch.tensor([0, 5])).logits, full[:, [0, 5]])
    same(model(inputs_embeds=model.get_input_embeddings()(tokens)).logits, full, atol=0)
    same(model(tokens, token_type_ids=torch.zeros_like(tokens)).logits, full, atol=0)
    with pytest.raises(ValueError, match="exactly one"):
        model()
    with pytest.raises(ValueError, match="attention_mask has 3 columns"):
        model(tokens, attention_mask=torch.ones(2, 3))


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
@torch.no_grad()
def test_half_precision(build, ids, dtype):
    """Logits and loss in the model's dtype; the error is that of rounding, beyond S too."""
    tokens = ids(1, 70)
    exact = build()(tokens).logits
    out = build().to(dtype)(tokens, labels=tokens)
    assert out.logits.dtype == out.loss.dtype == dtype
    assert (out.logits.float() - exact).abs().mean() < 0.03 * exact.std()


@torch.no_grad()
def test_norm_rounds_before_the_weight(build):
    from qwen_model.layers import QWenRMSNorm

    norm = QWenRMSNorm(64, eps=1e-6).bfloat16()
    generator = torch.Generator().manual_seed(0)
    norm.weight.copy_(torch.randn(64, generator=generator))
    x = torch.randn(50, 64, generator=generator).bfloat16()
    wide = x.float()
    expected = (wide * torch.rsqrt(wide.pow(2).mean(-1, keepdim=True) + 1e-6)).bfloat16() * norm.weight
    assert torch.equal(norm(x), expected)


def test_training_gradients_and_checkpointing(build, ids):
    tokens = ids(2, 40)
    gradients = []
    for checkpointing in (False, True):
        model = build().train()
        if checkpointing:
            # the name since transformers 5.24, and the one before
            getattr(model, "activation_checkpointing_enable", model.gradient_checkpointing_enable)()
        model(tokens, labels=tokens).loss.backward()
        gradients.append({name: p.grad for name, p in model.named_parameters()})
    assert all(gradient is not None for gradient in gradients[0].values())
    for name, gradient in gradients[0].items():
        same(gradient, gradients[1][name])


def test_prefill_in_chunks_gets_the_alpha_of_the_whole_prompt(build, ids):
    model, prompt = build(), ids(1, 3 * S)
    settings = {"max_new_tokens": 5, "do_sample": False, "pad_token_id": 0}
    assert torch.equal(model.generate(prompt, prefill_chunk_size=30, **settings), model.generate(prompt, **settings))


def test_beam_search(build, ids):
    out = build().generate(ids(2, 40), num_beams=3, max_new_tokens=4, do_sample=False, pad_token_id=0)
    assert out.shape == (2, 44)
