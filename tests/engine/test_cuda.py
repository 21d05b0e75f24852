"""The engine on a real GPU, where there is one. The GPU's answers are the CPU's; that nothing mixes and how often the
host waits is also seen without one (test_devices.py)."""

import warnings
from collections.abc import Iterator, Sequence
from typing import Any

from qwen_eval.engines.base import ChoiceRequest, GenerateRequest, ScoreRequest
from qwen_eval.engines.local import attention, generate, graphs
from qwen_eval.engines.local.engine import LocalEngine
from qwen_model import LongContext

import numpy as np
import pytest
import torch

from .everything import MODELS, asked, everything, prompts
from .models import VOCAB, qwen
from .test_generate import MODELS as MORE
from .test_generate import Spell
from .test_generate import asked as many
from .test_loglikelihood import requests as continued

if not torch.cuda.is_available():
    pytest.skip("no CUDA device here (make gpu-check runs these where there is one)", allow_module_level=True)

# In fp32 without TF32 both devices round every sum in another order: 1e-6 of a logit's size, through two lively layers.
FP32 = 1e-4
# bf16 has 8 bits: what roundings of 2^-9 make of two lively layers at the worst of 10,000 logits, as a part of their
# spread. Batched and alone the same kernels round in another order, so their mean errors are the same.
BF16 = 0.15
WIDE = {"hidden_size": 256, "num_attention_heads": 4, "kv_channels": 64, "intermediate_size": 512}


@pytest.fixture(autouse=True)
def _full_fp32() -> Iterator[None]:
    before = torch.get_float32_matmul_precision()
    torch.set_float32_matmul_precision("highest")
    yield
    torch.set_float32_matmul_precision(before)


def engine_of(
    model: Any, device: str = "cuda", rows: int | None = 5, dtype: torch.dtype = torch.float32
) -> LocalEngine:
    return LocalEngine.of(model.to(device, dtype), Spell(), rows=rows)


@pytest.mark.parametrize("name", MODELS)
def test_the_answers_are_the_cpus(name: str) -> None:
    wanted = everything(engine_of(MODELS[name](), "cpu"))
    got = everything(engine_of(MODELS[name]()))
    for want, found in zip(wanted[:2], got[:2], strict=True):
        assert want.keys() == found.keys()
        for index in want:
            np.testing.assert_allclose(found[index], want[index], atol=FP32)
    assert got[2] == wanted[2]


@pytest.mark.parametrize("name", MORE)
def test_replies_with_stop_strings_and_penalties_are_the_cpus(name: str) -> None:
    requests = [request._replace(stop=("<11>", "3><2")) for request in many(count=24)]
    wanted = dict(engine_of(MORE[name](), "cpu").generate(requests))
    assert "gemma2" in name or "stop" in {reply.finish for reply in wanted.values()}
    assert dict(engine_of(MORE[name]()).generate(requests)) == wanted


@pytest.mark.parametrize("windows", [None, (48, 90), (None, 70)])
@pytest.mark.parametrize("switches", [(True, True), (False, True), (True, False)])
def test_long_texts_are_scored_as_on_the_cpu(
    windows: tuple[int | None, ...] | None, switches: tuple[bool, bool]
) -> None:
    tokens = np.random.default_rng(1).integers(6, VOCAB, 300).astype(np.int32)
    request = ScoreRequest(tokens, LongContext(*switches, windows))
    found = []
    for device in ("cpu", "cuda"):
        engine = engine_of(qwen(), device)
        engine.token_budget = 64
        found.append(dict(engine.score([request]))[0])
    np.testing.assert_allclose(found[1], found[0], atol=FP32)


@pytest.mark.parametrize("name", MODELS)
def test_likelihoods_are_the_cpus(name: str) -> None:
    pairs = continued(seed=3)
    wanted, got = (dict(engine_of(MODELS[name](), device).loglikelihood(pairs)) for device in ("cpu", "cuda"))
    np.testing.assert_allclose([got[i][0] for i in wanted], [wanted[i][0] for i in wanted], atol=10 * FP32)  # of tokens
    assert [got[i][1] for i in wanted] == [wanted[i][1] for i in wanted]


def waits(work: Any) -> list[str]:
    """Where the host waited for the GPU, by the file of the program."""
    torch.cuda.synchronize()
    with warnings.catch_warnings(record=True) as seen:
        warnings.simplefilter("always")
        torch.cuda.set_sync_debug_mode("warn")
        try:
            work()
        finally:
            torch.cuda.set_sync_debug_mode("default")
    return [warning.filename.rpartition("/")[2] for warning in seen if "called a synchronizing" in str(warning.message)]


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
@pytest.mark.parametrize("name", ["qwen-1", "qwen2"])
def test_the_host_waits_once_a_token_of_the_whole_batch(name: str, dtype: torch.dtype) -> None:
    requests = [request._replace(tokens=request.tokens[:44], max_new_tokens=20) for request in asked()[1::3]]
    engine = engine_of(MODELS[name](), rows=None, dtype=dtype)
    assert not engine.uses_plain_forward
    list(engine.generate(requests))  # tables and kernels are made at a first call
    found = waits(lambda: list(engine.generate(requests)))
    assert found == ["sampling.py"] * 20, "once for the first token of all rows, then once a token"


# -- 16 bits: kernels of their own, and recorded steps -----------------------------------------------------------------


def logits_of(engine: LocalEngine, requests: Sequence[GenerateRequest], rows: int) -> dict[tuple[int, int], Any]:
    """The logits, by request and step, of replies whose tokens are laid down beforehand: the same in every dtype."""
    said = {}

    def pick(logits: torch.Tensor, asked: Sequence[GenerateRequest], steps: Sequence[int]) -> list[int]:
        for row, request, step in zip(logits.cpu().numpy(), asked, steps, strict=True):
            said[request.seed, step] = row
        return [6 + (7 * request.seed + 5 * step) % (VOCAB - 6) for request, step in zip(asked, steps, strict=True)]

    engine.rows = engine.flight_rows = rows
    list(generate.generate(engine, requests, pick))
    return said


@pytest.mark.parametrize("recorded", [True, False])
@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
@pytest.mark.parametrize("name", ["qwen-1", "qwen-1, wide heads", "qwen2"])
def test_16_bits_in_a_batch_are_as_near_to_fp32_as_alone(
    name: str, dtype: torch.dtype, recorded: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    made = (lambda: qwen(**WIDE)) if "wide" in name else MODELS[name]
    own = np.random.default_rng(2)
    requests = [
        GenerateRequest(np.concatenate([prompts(2)[1][:40], own.integers(6, VOCAB, 2 + i % 9)]).astype(np.int32),
                        int(own.integers(12, 40)), seed=i)
        for i in range(21)
    ]  # fmt: skip
    counted: list[int] = []
    record = graphs.Graphs._record
    monkeypatch.setattr(graphs, "WORTH_RECORDING", 2 if recorded else 10**9)
    monkeypatch.setattr(graphs.Graphs, "_record", lambda *given: counted.append(1) or record(*given))
    want = logits_of(engine_of(made(), "cpu"), requests, 8)
    engine = engine_of(made(), dtype=dtype)
    alone, batched = logits_of(engine, requests, 1), logits_of(engine, requests, 8)
    assert bool(counted) == (recorded and "qwen-1" in name)
    assert want.keys() == alone.keys() == batched.keys()
    error = {how: [float(np.abs(said[key] - want[key]).max() / np.ptp(want[key])) for key in want]
             for how, said in (("alone", alone), ("batched", batched))}  # fmt: skip
    print(name, dtype, {how: (max(found), sum(found) / len(found)) for how, found in error.items()})
    assert max(error["alone"]) < BF16 and max(error["batched"]) < BF16
    assert np.mean(error["batched"]) < 1.2 * np.mean(error["alone"]) + 1e-4


@pytest.mark.parametrize("name", ["qwen-1", "qwen2"])
def test_choices_in_bf16_are_those_of_fp32_but_for_rounding(name: str) -> None:
    requests = [ChoiceRequest(tokens, tuple(range(VOCAB))) for tokens in prompts(20)]
    want = dict(engine_of(MODELS[name](), "cpu").choose(requests))
    engine = engine_of(MODELS[name](), rows=None, dtype=torch.bfloat16)
    together, alone = dict(engine.choose(requests)), {i: dict(engine.choose([r]))[0] for i, r in enumerate(requests)}
    for index in want:
        for found in (together, alone):
            assert np.abs(np.subtract(found[index], want[index])).max() < BF16 * np.ptp(want[index])


@pytest.mark.parametrize("dtype", [torch.float32, torch.float16, torch.bfloat16])
@pytest.mark.parametrize(("heads", "kv_heads", "dim"), [(4, 4, 8), (4, 2, 64), (6, 2, 128), (2, 1, 20), (3, 3, 256)])
def test_the_kernels_give_the_formulas_attention_and_log_sum_exp(
    dtype: torch.dtype, heads: int, kv_heads: int, dim: int
) -> None:
    torch.manual_seed(1)
    scale = dim**-0.5
    loose = {torch.float32: 2e-5, torch.float16: 4e-3, torch.bfloat16: 3e-2}[dtype]

    def near(got: tuple[torch.Tensor, torch.Tensor], want: tuple[torch.Tensor, torch.Tensor]) -> None:
        assert got[1].dtype == torch.float32 and got[0].shape == want[0].shape and got[1].shape == want[1].shape
        torch.testing.assert_close(got[0].float(), want[0].float(), atol=loose, rtol=0)
        torch.testing.assert_close(got[1], want[1], atol=loose, rtol=0)

    def random(*shape: int) -> torch.Tensor:
        return torch.randn(*shape, device="cuda").to(dtype)

    for length in (1, 17, 200):
        query, key, value = (random(3, heads, length, dim) for _ in range(3))
        for causal in (True, False):
            want = attention._plain(query.float(), key.float(), value.float(), scale, causal)
            near(attention.with_lse(query, key, value, scale, causal), want)
    # slots wider than what is looked at, and keys as a projection leaves them
    slots = [random(5, kv_heads, 70, dim)[:4, :, :66] for _ in range(2)]
    beside = [part.transpose(1, 2) for part in random(4, 66, 2 * kv_heads, dim).chunk(2, dim=2)]
    seen = torch.tensor([1, 66, 40, 17], dtype=torch.int32, device="cuda")
    query = random(4, 1, heads, dim).transpose(1, 2)
    for key, value in (slots, beside):
        want = attention._one_query(query.float(), key.float(), value.float(), scale, seen)
        near(attention._over_own(query, key, value, scale, seen), want)


def test_replies_that_outgrow_their_slots_are_recorded_anew(monkeypatch: Any) -> None:
    """A memory pool of CUDA graphs takes no new graph once all of its own are gone."""
    monkeypatch.setattr(generate, "TYPICAL_REPLY", 1)
    requests = many(count=4, new=200)
    wanted = dict(engine_of(qwen(**WIDE), "cpu").generate(requests))
    model = qwen(**WIDE)
    found = dict(engine_of(model, dtype=torch.bfloat16).generate(requests))
    assert found.keys() == wanted.keys() and all(found[i].tokens > 0 for i in found)
