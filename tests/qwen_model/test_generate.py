"""Native `generate` of transformers, the oldest and the newest that is allowed: the right text, or an error."""

import inspect
import logging
import warnings

from qwen_model import QWenLMHeadModel
from qwen_model.generation import StopTexts
from qwen_model.keywords import CACHE

import pytest
import torch
from transformers import DynamicCache, StaticCache
from transformers.generation import GenerationMixin

from .conftest import PLAIN, S, padded, rows_of, same
from .qwen2 import qwen2_of

PAD = {"pad_token_id": 0}
WAYS = {
    "greedy": {"do_sample": False},
    "sampled": {"do_sample": True, "top_p": 0.9, "temperature": 1.3, "top_k": 40},
    "penalised": {"do_sample": False, "repetition_penalty": 1.3},
    "beams": {"do_sample": False, "num_beams": 3, "num_return_sequences": 2},
    "sampled beams": {"do_sample": True, "num_beams": 2},
    "chunked prefill": {"do_sample": False, "prefill_chunk_size": 7},
    "chunked beams": {"do_sample": False, "prefill_chunk_size": 7, "num_beams": 3},
    "static cache": {"do_sample": False, "cache_implementation": "static", "disable_compile": True},
    "without cache": {"do_sample": False, "use_cache": False},
}


@pytest.mark.parametrize("way", WAYS)
@pytest.mark.parametrize("side", ["one prompt", "equal lengths", "left-padded"])
def test_generate_says_what_qwen2_says_with_the_same_weights(build, ids, way, side):
    model = build(**PLAIN)
    if side == "left-padded":
        batch, mask = padded(rows_of(ids, 9, 25, 40), "left")
    else:
        batch = ids(1 if side == "one prompt" else 3, 30)
        mask = torch.ones_like(batch)
    found = []
    for each in (model, qwen2_of(model)):
        torch.manual_seed(0)
        found.append(each.generate(batch, attention_mask=mask, max_new_tokens=12, **PAD, **WAYS[way]))
    assert found[0].tolist() == found[1].tolist()
    assert len(set(found[0][0, batch.shape[1] :].tolist())) > 2


@pytest.mark.parametrize("length", [9, 2 * S + 3])
def test_one_padded_prompt_goes_on_as_without_its_padding(build, ids, length):
    """Quirk Q8: the published `generate` takes the padding of a single prompt for text."""
    model, prompt = build(), ids(1, length)
    batch = torch.cat([ids(1, 6, seed=5), prompt], dim=1)
    ones, mask = torch.ones_like(batch), torch.ones_like(batch)
    mask[:, :6] = 0

    def reply(tokens: torch.Tensor, mask: torch.Tensor) -> list[int]:
        out = model.generate(tokens, attention_mask=mask, max_new_tokens=12, do_sample=False, **PAD)
        return out[0, tokens.shape[1] :].tolist()

    alone = reply(prompt, ones[:, 6:])
    assert reply(batch, mask) == alone
    assert reply(batch, ones) != alone, "as text the padding changes the reply"


@pytest.mark.parametrize("name", ["past_key_values", "cache"])
@torch.no_grad()
def test_the_cache_works_by_its_old_and_its_new_name(build, ids, name):
    model, tokens = build(), ids(1, 20)
    want = model(tokens, use_cache=False).logits
    for kind in (DynamicCache, lambda config: StaticCache(config=config, max_cache_len=30)):
        cache = kind(config=model.config)
        got = [model(piece, **{name: cache}).logits for piece in tokens.split([12, 1, 7], dim=1)]
        same(torch.cat(got, 1), want)
        base = kind(config=model.config)
        got = [model.transformer(p, **{name: base}).last_hidden_state for p in tokens.split([12, 8], dim=1)]
        same(torch.cat(got, 1), model.transformer(tokens).last_hidden_state)


@pytest.mark.parametrize("name", ["past_key_values", "cache"])
def test_generate_goes_on_from_a_cache_by_either_name(build, ids, name):
    if name == "cache" and CACHE != "cache" and "cache" in inspect.signature(GenerationMixin.generate).parameters:
        pytest.fail("transformers has a parameter of its own by this name")
    model, prompt = build(), ids(1, 20)
    greedy = {"max_new_tokens": 8, "do_sample": False, "attention_mask": torch.ones_like(prompt), **PAD}
    want = model.generate(prompt, **greedy)
    cache = DynamicCache(config=model.config)
    with torch.no_grad():
        model(prompt[:, :12], **{name: cache})
    assert model.generate(prompt, **{name: cache}, **greedy).tolist() == want.tolist()
    assert cache.get_seq_length() == want.shape[1] - 1


def test_two_different_caches_are_refused(build, ids):
    model = build()
    one, other = (DynamicCache(config=model.config) for _ in range(2))
    with pytest.raises(TypeError, match="two names of the same thing"):
        model(ids(1, 3), past_key_values=one, cache=other)
    with pytest.raises(TypeError, match="not a tuple"):
        model(ids(1, 3), past_key_values=((torch.zeros(1), torch.zeros(1)),))
    model(ids(1, 3), past_key_values=one, cache=one)
    assert one.get_seq_length() == 3


@pytest.mark.parametrize("attn", ["sdpa", "eager"])
def test_a_keyword_that_nobody_reads_is_an_error_that_names_it(build, ids, attn):
    model, tokens = build(attn=attn), ids(1, 5)
    for call in (model, model.transformer):
        with pytest.raises(TypeError, match="unexpected keyword argument 'layer_past'"):
            call(tokens, layer_past=DynamicCache())
        call(tokens, layer_past=None)  # says nothing
    with pytest.raises(ValueError, match="atention_mask"):
        model.generate(tokens, atention_mask=torch.ones_like(tokens), max_new_tokens=2)
    with pytest.raises(ValueError, match="causal attention only"):
        model(tokens, is_causal=False)


@torch.no_grad()
def test_every_keyword_that_transformers_hands_to_a_causal_model_is_taken(build, ids):
    model, tokens = build(), ids(1, 6)
    want = model(tokens).logits
    known = {
        "attention_mask": torch.ones_like(tokens),
        "token_type_ids": torch.zeros_like(tokens),
        "position_ids": torch.arange(6)[None],
        "cache_position": torch.arange(6),
        "output_attentions": False,
        "output_hidden_states": True,
        "output_router_logits": False,
        "return_dict": True,
        "use_cache": True,
        "logits_to_keep": 0,
        "num_items_in_batch": torch.tensor(5),
        "cu_seq_lens_q": torch.tensor([0, 6], dtype=torch.int32),
        "cu_seq_lens_k": torch.tensor([0, 6], dtype=torch.int32),
        "max_length_q": 6,
        "max_length_k": 6,
        "seq_idx": torch.zeros_like(tokens),
        "is_causal": True,
    }
    out = model(tokens, labels=tokens, **known)
    same(out.logits, want)
    assert out.loss is not None and len(out.hidden_states) == 4
    looked_for = {"labels", "logits_to_keep", "position_ids", "inputs_embeds", "attention_mask", "token_type_ids"}
    assert looked_for <= set(inspect.signature(QWenLMHeadModel.forward).parameters)
    assert "inputs_embeds" in inspect.signature(QWenLMHeadModel.prepare_inputs_for_generation).parameters


def test_generate_takes_what_the_tokenizer_returns(build, tiny_tokenizer):
    model = build(vocab_size=tiny_tokenizer.vocab_size + 208 + 3)
    inputs = tiny_tokenizer("the rain", return_tensors="pt")
    greedy = {"max_new_tokens": 6, "do_sample": False, **PAD}
    want = model.generate(inputs["input_ids"], **greedy)
    types = torch.zeros_like(inputs["input_ids"])
    for more in ({}, {"prefill_chunk_size": 2}, {"num_beams": 2}):
        full = model.generate(**{**inputs, "token_type_ids": types}, **greedy, **more)
        plain = model.generate(inputs["input_ids"], **greedy, **more)
        assert full.tolist() == plain.tolist()
    assert want.shape[1] > inputs["input_ids"].shape[1]


@pytest.mark.parametrize("where", ["call", "configuration"])
def test_stop_strings_end_a_reply_where_they_are_complete(build, tiny_tokenizer, where):
    """Also across tokens, and with characters of several bytes."""
    model = build(vocab_size=len(tiny_tokenizer))
    inputs = tiny_tokenizer("the rain", return_tensors="pt")
    free = model.generate(**inputs, max_new_tokens=30, do_sample=False, **PAD)[0].tolist()
    start = inputs["input_ids"].shape[1]
    stop = tiny_tokenizer.decode(free[start + 4 : start + 6])
    first = next(n for n in range(start + 1, len(free) + 1) if stop in tiny_tokenizer.decode(free[start:n]))
    options = {"max_new_tokens": 30, "do_sample": False, "tokenizer": tiny_tokenizer, **PAD}
    if where == "call":
        out = model.generate(**inputs, stop_strings=stop, **options)
    else:
        model.generation_config.stop_strings = ["never said", stop]
        out = model.generate(**inputs, **options)
        assert model.generation_config.stop_strings == ["never said", stop]
    assert out[0].tolist() == free[:first]
    with pytest.raises(ValueError, match="tokenizer="):
        model.generate(**inputs, stop_strings=["a"])


@pytest.mark.parametrize(
    "said, stop", [("你好吗", "好"), ("a then b", "hen "), ("the", "the"), ("x<|im_end|>", "<|im_")]
)
def test_a_stop_text_ends_in_the_last_token(tiny_tokenizer, said, stop):
    ids = tiny_tokenizer.encode(said)
    ended = StopTexts([stop], tiny_tokenizer)
    found = [bool(ended(torch.tensor([ids[:n]]), None)[0]) for n in range(1, len(ids) + 1)]
    whole = [stop in tiny_tokenizer.decode(ids[:n]) for n in range(1, len(ids) + 1)]
    assert found.index(True) == whole.index(True) and sum(found) == 1


@pytest.mark.parametrize("length", [12, 3 * S])
def test_generate_from_embeddings_equals_from_ids(build, ids, length):
    model, prompt = build(), ids(2, length)
    greedy = {"max_new_tokens": 6, "do_sample": False}
    embeds = model.get_input_embeddings()(prompt)
    want = model.generate(prompt, **greedy)[:, length:].tolist()
    assert model.generate(inputs_embeds=embeds, **greedy).tolist() == want
    mask = torch.ones_like(prompt)
    assert model.generate(inputs_embeds=embeds, attention_mask=mask, **greedy).tolist() == want


def test_beams_of_a_chunked_prompt_beyond_the_training_length(build, ids):
    model, prompt = build(), ids(2, 3 * S)
    settings = {"max_new_tokens": 5, "do_sample": False, "num_beams": 3, **PAD}
    want = model.generate(prompt, **settings)
    assert model.generate(prompt, prefill_chunk_size=30, **settings).tolist() == want.tolist()


def test_generate_and_training_warn_about_nothing(build, ids, caplog):
    model, prompt = build(), ids(2, 9).clamp(min=1)
    logger = logging.getLogger("transformers")
    logger.addHandler(caplog.handler)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("error")
            for way in WAYS.values():
                model.generate(prompt, max_new_tokens=3, **PAD, **way)
            model(prompt, labels=prompt).loss.backward()
    finally:
        logger.removeHandler(caplog.handler)
    assert [record.getMessage() for record in caplog.records] == []
