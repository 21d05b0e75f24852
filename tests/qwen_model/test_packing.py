"""Sequences packed into one row, as TRL and transformers' collators give them: none sees another."""

from qwen_model import LongContext

import pytest
import torch
from transformers import DataCollatorWithFlattening, StaticCache

from .conftest import ON, PLAIN, S, rows_of, same

LENGTHS = (5, 1, 20, 70, 33)
FORMS = ("position_ids", "cu_seq_lens_q", "seq_idx")


def pack(rows, form="position_ids"):
    """One row of all sequences, and where each starts, in the form of a collator."""
    collate = DataCollatorWithFlattening(return_flash_attn_kwargs=True, return_seq_idx=True)
    made = collate([{"input_ids": row.tolist()} for row in rows])
    return made["input_ids"], {form: made[form]}


@pytest.mark.parametrize("attn", ["sdpa", "eager"])
@pytest.mark.parametrize("switches", [None, LongContext(False, False), ON], ids=["NTK and LogN", "plain", "windows"])
@pytest.mark.parametrize("form", FORMS)
@torch.no_grad()
def test_packed_sequences_have_the_logits_that_they_have_alone(build, ids, attn, switches, form):
    """With NTK and LogN each by its own length and positions; with a cache (the default outside of training) or not."""
    model, rows = build(attn=attn), rows_of(ids, *LENGTHS)
    want = torch.cat([model(row[None], long_context=switches).logits[0] for row in rows])
    tokens, starts = pack(rows, form)
    for use_cache in (True, False):
        same(model(tokens, long_context=switches, use_cache=use_cache, **starts).logits[0], want, atol=2e-5)


@torch.no_grad()
def test_a_mask_of_ones_beside_the_positions_changes_nothing(build, ids):
    model, rows = build(), rows_of(ids, *LENGTHS)
    tokens, starts = pack(rows)
    want = model(tokens, **starts).logits
    same(model(tokens, attention_mask=torch.ones_like(tokens), **starts).logits, want)
    last = model(tokens, last_positions=torch.tensor([len(rows[0]) + 10]), **starts).logits
    same(last[:, 0], want[:, len(rows[0]) + 10])


@torch.no_grad()
def test_what_goes_on_from_a_packed_cache_belongs_to_the_last_sequence(build, ids):
    model, rows = build(), rows_of(ids, 9, 2 * S + 1)
    tokens, starts = pack(rows)
    more = ids(1, 4, seed=9)
    alone = model(rows[1][None]).get("past_key_values")
    want = model(more, past_key_values=alone).logits
    position_ids = torch.arange(len(rows[1]), len(rows[1]) + 4)[None]
    for cache in (model.new_cache(), StaticCache(config=model.config, max_cache_len=120)):
        model(tokens, past_key_values=cache, **starts)
        for piece, where in zip(more.split([3, 1], 1), position_ids.split([3, 1], 1), strict=True):
            got = model(piece, past_key_values=cache, position_ids=where).logits
            same(got, want[:, : got.shape[1]] if got.shape[1] == 3 else want[:, 3:], atol=2e-5)


@pytest.mark.parametrize("side", ["left", "right"])
@torch.no_grad()
def test_positions_of_padded_rows_are_no_packed_sequences(build, ids, side):
    """As transformers makes them: 0 or 1 at pads."""
    from .conftest import padded

    model, rows = build(), rows_of(ids, 7, 40)
    batch, mask = padded(rows, side)
    want = model(batch, attention_mask=mask).logits[mask.bool()]
    counted = mask.cumsum(1) - 1
    for position_ids in (counted.clamp(min=0), counted.masked_fill(mask == 0, 1), counted.masked_fill(mask == 0, 0)):
        got = model(batch, attention_mask=mask, position_ids=position_ids).logits[mask.bool()]
        same(got, want, atol=2e-5)


def test_gradients_of_packed_sequences_are_those_of_separate_ones(build, ids):
    rows = rows_of(ids, 6, 11, 3)
    tokens, starts = pack(rows)
    labels = torch.cat([torch.cat([torch.tensor([-100]), row[1:]]) for row in rows])[None]
    packed, separate = build(**PLAIN).train(), build(**PLAIN).train()
    count = sum(len(row) - 1 for row in rows)
    packed(tokens, labels=labels, num_items_in_batch=count, **starts).loss.backward()
    sum(separate(row[None], labels=row[None], num_items_in_batch=count).loss for row in rows).backward()
    for one, other in zip(packed.parameters(), separate.parameters(), strict=True):
        same(one.grad, other.grad)
