"""The model on a real GPU, where there is one: in fp32 its logits and replies are the CPU's. That nothing mixes and
that the host waits for nothing is also seen without one (test_devices.py)."""

import copy
import warnings
from collections.abc import Callable, Iterator
from typing import Any

from qwen_model.generation import StopTexts

import pytest
import torch
from transformers import GenerationConfig

from .conftest import ON, PLAIN, VARIANTS, S, padded, rows_of, same

if not torch.cuda.is_available():
    pytest.skip("no CUDA device here (make gpu-check runs these where there is one)", allow_module_level=True)

FP32 = 1e-4  # without TF32 both devices round every sum in another order, through three layers and logits of size 1
WAYS: dict[str, dict[str, Any]] = {
    "greedy": {},
    "penalised": {"repetition_penalty": 1.3},
    "beams": {"num_beams": 3, "num_return_sequences": 2},
    "chunked prefill": {"prefill_chunk_size": 7},
    "static cache": {"cache_implementation": "static", "disable_compile": True},
}


@pytest.fixture(autouse=True)
def _full_fp32() -> Iterator[None]:
    before = torch.get_float32_matmul_precision()
    torch.set_float32_matmul_precision("highest")
    yield
    torch.set_float32_matmul_precision(before)


def there(model: Any, dtype: torch.dtype = torch.float32) -> Any:
    return copy.deepcopy(model).to("cuda", dtype)


@torch.no_grad()
def run(model: Any, batch: Any, mask: Any, more: Any, device: str, **options: Any) -> list[torch.Tensor]:
    """Logits of a prefill at the last column, and of each column of `more`."""
    mask = mask.to(device)
    out = model(batch.to(device), attention_mask=mask, use_cache=True, **options)
    found = [out.logits[:, -1]]
    for column in more.to(device).split(1, dim=1):
        mask = torch.nn.functional.pad(mask, (0, 1), value=1)
        out = model(column, attention_mask=mask, past_key_values=out.past_key_values)
        found.append(out.logits[:, -1])
    return [logits.float().cpu() for logits in found]


@pytest.mark.parametrize("switches", [None, ON], ids=["as loaded", "windows"])
@pytest.mark.parametrize("attn", ["sdpa", "eager"])
@pytest.mark.parametrize("changes", VARIANTS, ids=str)
def test_logits_are_the_cpus(build: Callable[..., Any], ids: Any, changes: Any, attn: str, switches: Any) -> None:
    model = build(attn=attn, **changes)
    batch, mask = padded(rows_of(ids, 9, S + 8, 2 * S + 6), "left")
    given = (batch, mask, ids(3, 6, seed=5))
    options = {} if switches is None else {"long_context": switches}
    for got, want in zip(
        run(there(model), *given, "cuda", **options), run(model, *given, "cpu", **options), strict=True
    ):
        same(got, want, FP32)


@pytest.mark.parametrize("attn", ["sdpa", "eager"])
@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
def test_16_bits_are_near_to_fp32_and_to_themselves_alone(build: Any, ids: Any, dtype: torch.dtype, attn: str) -> None:
    model = build(attn=attn)
    rows, more = rows_of(ids, 9, S + 8, 2 * S + 6), ids(3, 6, seed=5)
    batch, mask = padded(rows, "left")
    want = run(model, batch, mask, more, "cpu")
    remote = there(model, dtype)
    together = run(remote, batch, mask, more, "cuda")
    alone = [run(remote, row[None], torch.ones(1, len(row)), more[i : i + 1], "cuda") for i, row in enumerate(rows)]
    loose = 0.1 if dtype == torch.bfloat16 else 0.02  # rounded to 2^-9 and 2^-12 at every layer; logits of size 1 to 5
    for step, logits in enumerate(want):
        same(together[step], logits, loose)
        same(torch.cat([found[step] for found in alone]), logits, loose)


@torch.no_grad()
def test_packed_rows_and_one_query_a_row_are_the_cpus(build: Any, ids: Any) -> None:
    model, rows = build(), rows_of(ids, 5, S + 8, 2 * S + 6)
    tokens = torch.cat(rows)[None]
    positions = torch.cat([torch.arange(len(row)) for row in rows])[None]
    remote = there(model)
    got = remote(tokens.cuda(), position_ids=positions.cuda()).logits
    same(got.cpu(), model(tokens, position_ids=positions).logits, FP32)
    batch, mask = padded(rows, "right")
    last = torch.tensor([len(row) - 1 for row in rows])
    got = remote(batch.cuda(), attention_mask=mask.cuda(), last_positions=last.cuda()).logits
    same(got.cpu(), model(batch, attention_mask=mask, last_positions=last).logits, FP32)


@torch.no_grad()
def test_a_forward_never_waits(build: Any, ids: Any) -> None:
    remote = there(build())
    batch, mask = (tensor.cuda() for tensor in padded(rows_of(ids, 9, S + 8, 2 * S + 6), "left"))
    step = ids(3, 1).cuda()

    def work() -> None:
        cache = remote(batch, attention_mask=mask, use_cache=True).past_key_values
        remote(step, attention_mask=torch.nn.functional.pad(mask, (0, 1), value=1), past_key_values=cache)

    work()  # what is made at a first call: frequencies of each factor
    torch.cuda.synchronize()
    with warnings.catch_warnings(record=True) as seen:
        warnings.simplefilter("always")
        torch.cuda.set_sync_debug_mode("warn")
        try:
            work()
        finally:
            torch.cuda.set_sync_debug_mode("default")
    assert [str(each) for each in seen if "called a synchronizing" in str(each.message)] == []


@pytest.mark.parametrize("changes", [{}, PLAIN], ids=["NTK and LogN", "plain"])
@pytest.mark.parametrize("way", WAYS)
def test_generate_says_what_it_says_on_the_cpu(build: Any, ids: Any, way: str, changes: Any) -> None:
    model = build(**changes)
    batch, mask = padded(rows_of(ids, 9, 25, 40), "left")
    options = {"max_new_tokens": 12, "pad_token_id": 0, "do_sample": False, **WAYS[way]}
    want = model.generate(batch, attention_mask=mask, **options)
    got = there(model).generate(batch.cuda(), attention_mask=mask.cuda(), **options)
    assert got.tolist() == want.tolist()


def test_sampling_draws_from_a_generator_and_stop_strings_end(build: Any, ids: Any) -> None:
    remote, tokens = there(build()), ids(2, 20).cuda()
    found = []
    for _ in range(2):
        torch.manual_seed(3)
        found.append(remote.generate(tokens, max_new_tokens=12, do_sample=True, top_p=0.9, pad_token_id=0).tolist())
    assert found[0] == found[1] and all(0 <= token < remote.config.vocab_size for row in found[0] for token in row)

    class Letters:
        def decode(self, given: Any) -> str:
            return "".join(chr(64 + int(i)) for i in given)

    stop = Letters().decode(found[0][0][25:27])
    torch.manual_seed(3)
    ended = remote.generate(
        tokens[:1], max_new_tokens=12, pad_token_id=0, stopping_criteria=[StopTexts([stop], Letters())], do_sample=False
    )
    assert 20 < ended.shape[1] <= 32


def test_chat_says_what_it_says_on_the_cpu(build: Any, tiny_tokenizer: Any) -> None:
    model = build(vocab_size=len(tiny_tokenizer))
    model.generation_config = GenerationConfig(
        chat_format="chatml",
        max_window_size=6144,
        max_new_tokens=12,
        do_sample=False,
        eos_token_id=tiny_tokenizer.eod_id,
        pad_token_id=tiny_tokenizer.eod_id,
    )
    remote = there(model)
    for each in ({}, {"stop_words_ids": [[tiny_tokenizer.im_end_id]]}):
        want = model.chat(tiny_tokenizer, "hello there", history=None, **each)
        assert remote.chat(tiny_tokenizer, "hello there", history=None, **each) == want
        assert list(remote.chat_stream(tiny_tokenizer, "hello", history=None, **each)) == list(
            model.chat_stream(tiny_tokenizer, "hello", history=None, **each)
        )
