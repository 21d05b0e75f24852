"""`--attn-implementation` reaches the model, is recorded, and never changes an answer by more than rounding."""

import json
import sys
import types
from collections.abc import Callable
from pathlib import Path
from typing import Any

from qwen_eval.engines.base import ChoiceRequest, GenerateRequest, LogLikelihoodRequest, ScoreRequest
from qwen_eval.engines.local.engine import LocalEngine
from qwen_eval.engines.local.placement import check_attention
from qwen_eval.errors import UserError
from qwen_model import layers

import numpy as np
import pytest
import torch
from transformers.modeling_utils import ALL_ATTENTION_FUNCTIONS

from .models import GQA, VOCAB, other, qwen
from .test_generate import Spell

DATA = Path(__file__).resolve().parents[2] / "demo" / "data" / "mmlu"
MODELS: dict[str, Callable[[], Any]] = {
    "qwen-1": qwen,
    "qwen-1 windows": lambda: qwen(window_attn=[48, 100]),
    "llama": lambda: other("Llama", **GQA),
    "mistral window": lambda: other("Mistral", **GQA, sliding_window=72),
}


def as_flash_attention(
    module: Any,
    query: torch.Tensor,
    key: torch.Tensor,
    value: torch.Tensor,
    attention_mask: torch.Tensor | None,
    scaling: float,
    sliding_window: int | None = None,
    **_: Any,
) -> tuple[torch.Tensor, None]:
    """In place of transformers' flash attention, which no CPU runs, by its documented rules: it is given a mask of real
    tokens [B, K] or none, is causal from the bottom right, and sees a window that ends at the query's own key."""
    groups = query.shape[1] // key.shape[1]
    key, value = key.repeat_interleave(groups, 1), value.repeat_interleave(groups, 1)
    count, total = query.shape[2], key.shape[2]
    out = torch.zeros_like(query)
    for row in range(len(query)):
        real = torch.ones(total) if attention_mask is None else attention_mask[row]
        keys = real.nonzero()[:, 0]
        queries = real[-count:].nonzero()[:, 0] if count > 1 else torch.tensor([0])
        at = torch.arange(len(queries))[:, None] + len(keys) - len(queries)
        place = torch.arange(len(keys))[None]
        seen = (place <= at) & (place > at - (sliding_window or total + 1))
        scores = query[row, :, queries] @ key[row, :, keys].transpose(1, 2) * scaling
        out[row, :, queries] = scores.masked_fill(~seen, float("-inf")).softmax(-1) @ value[row, :, keys]
    return out.transpose(1, 2), None


def answers(model: Any) -> list[np.ndarray]:
    """Of each kind of request, some that share a prefix and some that share nothing, short and past the windows."""
    rng = np.random.default_rng(0)
    head = rng.integers(6, VOCAB, 40)
    texts = [np.concatenate([head, rng.integers(6, VOCAB, size)]).astype(np.int32) for size in (3, 9, 20)]
    texts += [rng.integers(6, VOCAB, size).astype(np.int32) for size in (7, 90, 150)]
    engine = LocalEngine.of(model, Spell())
    assert not engine.uses_plain_forward
    chosen = dict(engine.choose([ChoiceRequest(text, (7, 9, 40)) for text in texts]))
    pairs = [LogLikelihoodRequest(text[:-4], tuple(text[-size:].tolist())) for text in texts for size in (1, 4)]
    likely = dict(engine.loglikelihood(pairs))
    scored = dict(engine.score([ScoreRequest(text) for text in texts]))
    said = dict(engine.generate([GenerateRequest(text, 6) for text in texts]))
    found = [np.array([chosen[i] for i in range(6)]), np.array([likely[i].log_likelihood for i in range(12)])]
    found += [scored[i] for i in range(6)]
    return [*found, np.array([ord(char) for i in range(6) for char in said[i].text])]


@pytest.mark.parametrize("implementation", ["eager", "flash_attention_2"])
@pytest.mark.parametrize("name", MODELS)
def test_answers_are_the_same_with_every_attention(
    name: str, implementation: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    calls = []

    def counted(*arguments: Any, **options: Any) -> Any:
        calls.append(implementation)
        return as_flash_attention(*arguments, **options)

    monkeypatch.setitem(ALL_ATTENTION_FUNCTIONS._global_mapping, "flash_attention_2", counted)
    model = MODELS[name]()
    wanted = answers(model)
    model.config._attn_implementation = implementation
    for got, want in zip(answers(model), wanted, strict=True):
        np.testing.assert_allclose(got, want, atol=2e-4)
    assert model.config._attn_implementation == implementation
    assert bool(calls) == (implementation == "flash_attention_2")


def test_the_models_own_attention_runs_where_nothing_is_shared(
    demo_checkpoint: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Prompts that share nothing, a shared prefix itself, and documents; not the prompts behind it, nor replies."""
    calls: list[int] = []
    real = layers.eager_attention

    def counted(module: Any, query: torch.Tensor, *arguments: Any, **options: Any) -> Any:
        calls.append(query.shape[0] * query.shape[2])
        return real(module, query, *arguments, **options)

    monkeypatch.setattr(layers, "eager_attention", counted)
    engine = LocalEngine(demo_checkpoint, device="cpu", attn_implementation="eager")
    assert engine.model.config._attn_implementation == "eager"

    def own(requests: Callable[[], Any]) -> int:
        calls.clear()
        list(requests())
        return max(calls, default=0)

    text, other_text = (np.random.default_rng(seed).integers(6, 300, 60).astype(np.int32) for seed in range(2))
    shared = [np.append(text, token).astype(np.int32) for token in (7, 8, 9)]
    assert own(lambda: engine.choose([ChoiceRequest(text, (7, 8)), ChoiceRequest(other_text, (7, 8))])) == 120
    assert own(lambda: engine.choose([ChoiceRequest(tokens, (7, 8)) for tokens in shared])) == 60, "the prefix alone"
    assert own(lambda: engine.score([ScoreRequest(text)])) == 59
    assert own(lambda: engine.generate([GenerateRequest(text, 3)])) == 0


def test_the_flag_is_recorded_and_a_folder_of_another_one_is_not_gone_on_with(
    demo_checkpoint: Path, script: Any, tmp_path: Path
) -> None:
    base = ("mmlu", "-c", demo_checkpoint, "-d", DATA, "--subjects", "nutrition", "-k", 1, "--limit", 2, "-o", tmp_path)
    assert script(*base, "--attn-implementation", "eager").status == 0
    assert json.loads((tmp_path / "results.json").read_text())["manifest"]["attn_implementation"] == "eager"
    ended = script(*base)
    assert ended.status == 2 and "--overwrite" in ended.err
    assert script(*base, "--overwrite").status == 0
    assert "attn_implementation" not in json.loads((tmp_path / "results.json").read_text())["manifest"]


def test_what_cannot_be_used_is_one_line_before_anything_is_loaded(
    demo_checkpoint: Path, script: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refused(*flags: object) -> str:
        ended = script("mmlu", "-d", DATA, "-o", tmp_path / "out", *flags)
        assert ended.status == 2 and len(ended.err.strip().splitlines()) == 1, ended.err
        assert not (tmp_path / "out").exists()
        return str(ended.err)

    flash = ("--attn-implementation", "flash_attention_2")
    monkeypatch.setitem(sys.modules, "flash_attn", None)
    assert "flash-attn cannot be imported" in refused("-c", demo_checkpoint, *flash)
    monkeypatch.setitem(sys.modules, "flash_attn", types.ModuleType("flash_attn"))
    assert "wants a GPU, and the device is cpu" in refused("-c", demo_checkpoint, "--device", "cpu", *flash)
    endpoint = ("--engine", "openai", "--base-url", "http://localhost:1", "-c", "m", "--chat")
    assert "wants the local engine" in refused(*endpoint, *flash)


def test_flash_attention_in_32_bits_is_refused(demo_checkpoint: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "flash_attn", types.ModuleType("flash_attn"))
    monkeypatch.setattr("qwen_eval.engines.local.placement.resolve_device", lambda device: "cuda")
    check_attention(demo_checkpoint, "flash_attention_2", "bfloat16", None)
    with pytest.raises(UserError, match="add --dtype bfloat16"):
        check_attention(demo_checkpoint, "flash_attention_2", "float32", None)
