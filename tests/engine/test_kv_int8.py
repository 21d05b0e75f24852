"""`--kv-cache int8`: every kind of request is read whole and by itself, and the run says so."""

import json
from pathlib import Path
from typing import Any

from qwen_eval.engines.base import ChoiceRequest, GenerateRequest, LogLikelihoodRequest, ScoreRequest
from qwen_eval.engines.local.engine import LocalEngine
from qwen_model.int8_cache import Int8Cache

import numpy as np
import pytest
import torch

from .models import GQA, VOCAB, other, qwen
from .test_generate import Spell

DATA = Path(__file__).resolve().parents[2] / "demo" / "data" / "mmlu"


@pytest.fixture
def model() -> Any:
    return qwen(use_cache_quantization=True)


@pytest.fixture
def texts() -> list[np.ndarray]:
    """Some that share a beginning, and some that are longer than the trained length."""
    rng = np.random.default_rng(0)
    head = rng.integers(6, VOCAB, 40)
    found = [np.concatenate([head, rng.integers(6, VOCAB, size)]) for size in (3, 9, 20)]
    return [text.astype(np.int32) for text in [*found, rng.integers(6, VOCAB, 90)]]


@torch.no_grad()
def logits(model: Any, tokens: Any) -> torch.Tensor:
    """fp32 [T, V] of one call with all tokens."""
    return model(torch.as_tensor(np.asarray(tokens, dtype=np.int64))[None]).logits[0].float()


def test_choose_is_one_call_with_the_whole_prompt(model: Any, texts: list[np.ndarray]) -> None:
    engine = LocalEngine.of(model, Spell())
    chosen = dict(engine.choose([ChoiceRequest(text, (7, 9, 40)) for text in texts]))
    for index, text in enumerate(texts):
        np.testing.assert_allclose(chosen[index], logits(model, text)[-1][[7, 9, 40]], atol=1e-5)


def test_log_likelihoods_are_one_call_with_context_and_continuation(model: Any, texts: list[np.ndarray]) -> None:
    engine = LocalEngine.of(model, Spell())
    likely = dict(engine.loglikelihood([LogLikelihoodRequest(text[:-3], tuple(text[-3:].tolist())) for text in texts]))
    for index, text in enumerate(texts):
        wanted = logits(model, text[:-1]).log_softmax(-1)[-3:][range(3), text[-3:].tolist()].sum()
        assert likely[index].log_likelihood == pytest.approx(float(wanted), abs=1e-4)


def test_score_is_one_call_with_the_text(model: Any, texts: list[np.ndarray]) -> None:
    engine = LocalEngine.of(model, Spell())
    engine.token_budget = 16
    scored = dict(engine.score([ScoreRequest(text) for text in texts]))
    for index, text in enumerate(texts):
        wanted = logits(model, text)[:-1].log_softmax(-1)[range(len(text) - 1), text[1:].tolist()]
        np.testing.assert_allclose(scored[index], wanted, atol=1e-4)


def test_replies_are_a_prefill_and_one_token_a_call(model: Any, texts: list[np.ndarray]) -> None:
    engine = LocalEngine.of(model, Spell(), rows=8)
    engine.token_budget = 16
    replies = dict(engine.generate([GenerateRequest(text, 5) for text in texts]))
    for index, text in enumerate(texts):
        cache, step, said = model.new_cache(), torch.from_numpy(text.astype(np.int64))[None], []
        with torch.no_grad():
            for _ in range(5):
                step = model(step, past_key_values=cache).logits[:, -1:].argmax(-1)
                said.append(int(step))
        assert isinstance(cache, Int8Cache) and replies[index].text == Spell().decode(said)


def test_no_answer_depends_on_another_prompt(model: Any, texts: list[np.ndarray]) -> None:
    engine = LocalEngine.of(model, Spell())
    together = dict(engine.choose([ChoiceRequest(text, (7, 9)) for text in texts]))
    for index, text in enumerate(texts):
        assert dict(engine.choose([ChoiceRequest(text, (7, 9))]))[0] == together[index]


def test_it_is_noted(model: Any) -> None:
    assert any("the KV cache was int8" in note for note in LocalEngine.of(model, Spell()).notes())
    assert not LocalEngine.of(qwen(), Spell()).notes()


def run(script: Any, out: Path, *flags: object) -> Any:
    return script("mmlu", "-d", DATA, "--subjects", "nutrition", "-k", 1, "--limit", 2, "-o", out, *flags)


def test_a_run_records_it_says_what_it_costs_and_is_not_gone_on_with_without_it(
    demo_checkpoint: Path, script: Any, tmp_path: Path
) -> None:
    ended = run(script, tmp_path, "-c", demo_checkpoint, "--kv-cache", "int8")
    assert ended.status == 0 and "the KV cache was int8" in ended.out
    found = json.loads((tmp_path / "results.json").read_text())
    assert found["manifest"]["settings"]["kv_cache"] == "int8" and "--kv-cache" in found["manifest"]["departures"]
    ended = run(script, tmp_path, "-c", demo_checkpoint)
    assert ended.status == 2 and "--overwrite" in ended.err
    assert run(script, tmp_path, "-c", demo_checkpoint, "--overwrite").status == 0
    assert "kv_cache" not in json.loads((tmp_path / "results.json").read_text())["manifest"]["settings"]


def test_a_checkpoint_that_has_it_on_is_run_with_it(demo_checkpoint: Path, script: Any, tmp_path: Path) -> None:
    copy = tmp_path / "int8"
    copy.mkdir()
    for path in demo_checkpoint.iterdir():
        (copy / path.name).write_bytes(path.read_bytes())
    config = json.loads((copy / "config.json").read_text())
    (copy / "config.json").write_text(json.dumps({**config, "use_cache_quantization": True}))
    assert run(script, tmp_path / "out", "-c", copy).status == 0
    found = json.loads((tmp_path / "out" / "results.json").read_text())["manifest"]
    assert found["settings"]["kv_cache"] == "int8" and "--kv-cache" not in found["departures"]


def test_other_models_and_endpoints_are_refused_in_one_line(script: Any, tmp_path: Path) -> None:
    other("Llama", **GQA).save_pretrained(tmp_path / "llama")
    served = ("--engine", "openai", "--base-url", "http://localhost:1", "-c", "m", "--chat")
    for flags, message in ((("-c", tmp_path / "llama"), "is of type llama"), (served, "wants the local engine")):
        ended = run(script, tmp_path / "out", *flags, "--kv-cache", "int8")
        assert ended.status == 2 and message in ended.err and len(ended.err.strip().splitlines()) == 1
        assert not (tmp_path / "out").exists()
