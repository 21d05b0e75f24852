"""Window attention on each attention back-end, and in `generate`."""

import shutil
from typing import Any

from qwen_model import LongContext
from qwen_model.masking import window_function

import pytest
import torch
from transformers.masking_utils import ALL_MASK_ATTENTION_FUNCTIONS, flash_attention_mask
from transformers.modeling_utils import ALL_ATTENTION_FUNCTIONS

from .conftest import ON, S, padded, rows_of, same

# -- back-ends ---------------------------------------------------------------------------------------------------------


@torch.no_grad()
def test_flex_attention_equals_sdpa(build, ids):
    """torch's flex attention, not compiled: padded prefill, a chunk behind a bounded cache, a step, one query a row."""
    flex, sdpa = (build(attn=attn, kv_channels=16, num_attention_heads=2) for attn in ("flex_attention", "sdpa"))
    batch, mask = padded(rows_of(ids, 150, 90), "left")
    runs = []
    for model in (flex, sdpa):
        model.long_context = LongContext(True, True, (20, S, None))
        with torch.compiler.set_stance("force_eager"):
            out = model(batch, attention_mask=mask)
            longer = torch.cat([mask, torch.ones(2, 7, dtype=torch.long)], 1)
            chunk = model(batch[:, -7:], attention_mask=longer, past_key_values=out.past_key_values).logits
            longer = torch.cat([longer, mask[:, -1:]], 1)
            step = model(batch[:, -1:], attention_mask=longer, past_key_values=out.past_key_values).logits
            last = model(batch, attention_mask=mask, last_positions=torch.tensor([149, 149])).logits
            plain = model(batch).logits
        runs.append((out.logits[mask.bool()], chunk, step, last, plain))
    for got, want in zip(*runs, strict=True):
        same(got, want)


@pytest.mark.heavy
@pytest.mark.skipif(shutil.which("g++") is None, reason="torch compiles for a CPU with g++")
@torch.no_grad()
def test_compiled_flex_attention_equals_sdpa(build, ids):
    """As it is used, in one shape: torch 2.13 compiles on a CPU no chunk behind a cache, with or without windows."""
    flex, sdpa = (build(attn=attn, kv_channels=16, num_attention_heads=2) for attn in ("flex_attention", "sdpa"))
    flex.long_context = sdpa.long_context = LongContext(True, True, (20, S, None))
    batch, mask = padded(rows_of(ids, 150, 90), "left")
    torch.compiler.reset()
    got, want = (model(batch, attention_mask=mask).logits[mask.bool()] for model in (flex, sdpa))
    same(got, want, 2e-5)


@pytest.mark.parametrize("pads", [(0, 0), (6, 0), (0, 9), (5, 4)])
@pytest.mark.parametrize("window", [1, 3, 8, 100])
def test_the_mask_function_says_which_pairs_are_near(window, pads):
    """The function that flex attention compiles, pair by pair, for pads on the left, on the right and in between."""
    left, between = pads
    real = [0] * left + [1] * 7 + [0] * between + [1] * 8
    padding = torch.tensor([real]) if any(pads) else None
    function = window_function(window, padding)
    index = [sum(real[: i + 1]) for i in range(len(real))]
    for i in range(len(real)):
        for j in range(len(real)):
            if real[i] and real[j]:
                near = function(*(torch.tensor(at) for at in (0, 0, i, j)))
                assert bool(near) is (index[i] - window < index[j] <= index[i])


def _unpadded(
    module: Any,
    query: torch.Tensor,
    key: torch.Tensor,
    value: torch.Tensor,
    attention_mask: torch.Tensor | None,
    scaling: float,
    sliding_window: int | None = None,
    **_: Any,
) -> tuple[torch.Tensor, None]:
    """What flash-attention documents: keys (and queries) unpadded, causal aligned to the bottom right, and a window of
    `sliding_window` keys that ends at the query's own."""
    out = torch.zeros_like(query)
    columns, length = key.shape[2], query.shape[2]
    mask = torch.ones(len(query), columns) if attention_mask is None else attention_mask
    assert mask.shape[1] == columns
    for row in range(len(query)):
        keys = mask[row].nonzero()[:, 0]
        queries = mask[row, -length:].nonzero()[:, 0] if length > 1 else torch.tensor([0])
        at = torch.arange(len(queries))[:, None] + len(keys) - len(queries)
        place = torch.arange(len(keys))[None]
        seen = (place <= at) & (place > at - (sliding_window or columns + 1))
        scores = query[row, :, queries] @ key[row, :, keys].transpose(1, 2) * scaling
        scores = scores.masked_fill(~seen, float("-inf"))
        out[row, :, queries] = scores.softmax(-1) @ value[row, :, keys]
    return out.transpose(1, 2), None


@torch.no_grad()
def test_what_flash_attention_is_told(build, ids, monkeypatch):
    """A function of flash-attention's documented rules, in its place, gives the same logits."""
    monkeypatch.setitem(ALL_ATTENTION_FUNCTIONS._global_mapping, "unpadded", _unpadded)
    monkeypatch.setitem(ALL_MASK_ATTENTION_FUNCTIONS._global_mapping, "unpadded", flash_attention_mask)
    flash, sdpa = build(attn="unpadded"), build()
    flash.long_context = sdpa.long_context = ON
    batch, mask = padded(rows_of(ids, 100, 3, 60), "left")
    a, b = (model(batch, attention_mask=mask) for model in (flash, sdpa))
    same(a.logits[mask.bool()], b.logits[mask.bool()])
    for seed, size in enumerate((1, 12, 1)):
        mask = torch.cat([mask, torch.ones(3, size, dtype=torch.long)], 1)
        more = ids(3, size, seed=seed)
        got, want = (
            model(more, attention_mask=mask, past_key_values=cache).logits
            for model, cache in ((flash, a.past_key_values), (sdpa, b.past_key_values))
        )
        same(got, want)
    tokens, cache = ids(1, 100), flash.new_cache()
    inputs = {"past_key_values": cache, "ntk_alpha": torch.tensor([flash.ntk_alpha(100)])}
    chunks = [flash(tokens[:, i : i + 30], **inputs).logits for i in range(0, 100, 30)]
    same(torch.cat(chunks, 1), sdpa(tokens).logits)
    batch, mask = padded(rows_of(ids, 100, 3, 60), "right")
    last = mask.sum(1) - 1
    same(*(model(batch, attention_mask=mask, last_positions=last).logits for model in (flash, sdpa)))


# -- generation --------------------------------------------------------------------------------------------------------


@torch.no_grad()
def test_generate_says_what_plain_forwards_say(build, ids):
    model = build(seed=3)
    switches = LongContext(True, True, (9, 20, S))  # at most S: full forwards have the factors of decoding
    rows = rows_of(ids, 50, 12, 31)
    want = []
    for row in rows:
        said = row.clone()
        for _ in range(30):
            said = torch.cat([said, model(said[None], long_context=switches).logits[0, -1:].argmax(-1)])
        want.append(said[len(row) :])
    batch, mask = padded(rows, "left")
    options: dict[str, Any] = {"max_new_tokens": 30, "do_sample": False, "pad_token_id": 0, "eos_token_id": None}
    for more in ({}, {"prefill_chunk_size": 7}, {"cache_implementation": "static", "disable_compile": True}):
        out = model.generate(batch, attention_mask=mask, long_context=switches, **options, **more)
        assert out[:, batch.shape[1] :].tolist() == torch.stack(want).tolist(), more
    model.long_context = switches
    beams = model.generate(batch, attention_mask=mask, num_beams=2, **options)
    options["attention_mask"] = torch.ones_like(rows[0])[None]
    alone = model.generate(rows[0][None], num_beams=2, **options)
    assert beams[0, -30:].tolist() == alone[0, -30:].tolist()
    guessed = model.generate(rows[0][None], prompt_lookup_num_tokens=3, **options)
    assert guessed[0, 50:].tolist() == want[0].tolist()
    out = model.generate(rows[0][None], return_dict_in_generate=True, **options)
    assert [layer.held() for layer in out.past_key_values.layers] == [8, 19, S - 1]
