"""What is not exported, each in one line and with nothing written; and what --drop-long-context changes."""

import json

from qwen_model.export import export
from qwen_model.loading import load_model
from tests.qwen_model.exported import (
    DEMO,
    edited,
    logits_of,
    refused,
    same_logits,
)

import pytest
import torch
from safetensors.torch import load_file, save_file
from transformers import Qwen2ForCausalLM


@pytest.mark.parametrize(
    ("changes", "named"),
    [
        ({"use_logn_attn": False}, "dynamic NTK (on in config.json): the logits are the same up to 512 tokens"),
        ({"use_dynamic_ntk": False}, "LogN attention (on"),
        ({"use_dynamic_ntk": False, "use_logn_attn": False, "window_attn": 64}, "window attention (on"),
    ],
)
def test_long_context_is_dropped_only_on_demand(tmp_path, changes, named):
    source = edited(DEMO / "base", tmp_path / "in", **changes)
    assert named in (said := refused(source, tmp_path / "out")) and "--drop-long-context" in said
    assert not (tmp_path / "out").exists()
    (lost,) = export(source, tmp_path / "out", drop_long_context=True)
    assert named in lost


def test_windows_change_logits_from_the_smallest_one_on(tmp_path):
    source = edited(DEMO / "base", tmp_path / "in", window_attn=[100, 64, 200, None, None, None])
    (lost,) = export(source, tmp_path / "out", drop_long_context=True)
    assert "same up to 64 tokens" in lost
    ours = load_model(source, dtype="float32", device="cpu")
    theirs = Qwen2ForCausalLM.from_pretrained(tmp_path / "out", dtype="float32").eval()
    assert (logits_of(ours, 64) - logits_of(theirs, 64)).abs().max() <= 1e-5
    assert (logits_of(ours, 70) - logits_of(theirs, 70)).abs().max() > 1e-3


def test_a_checkpoint_without_long_context_needs_no_flag(tmp_path):
    source = edited(DEMO / "base", tmp_path / "in", use_dynamic_ntk=False, use_logn_attn=False)
    assert export(source, tmp_path / "out") == []


def test_an_8_bit_cache_is_named_as_dropped(tmp_path):
    source = edited(DEMO / "base", tmp_path / "in", use_cache_quantization=True)
    lines = export(source, tmp_path / "out", drop_long_context=True)
    assert len(lines) == 2 and "use_cache_quantization" in lines[1]


def test_what_qwen2_has_no_words_for_is_refused(tmp_path):
    assert "rotary_pct is 0.5" in refused(edited(DEMO / "base", tmp_path / "a", rotary_pct=0.5), tmp_path / "out")
    plain = {"use_dynamic_ntk": False, "use_logn_attn": False}
    source = edited(DEMO / "base", tmp_path / "b", seq_length=None, **plain)
    assert "no seq_length" in refused(source, tmp_path / "out")
    assert list(tmp_path.glob("out*")) == []


def test_biases_are_dropped_where_they_are_zero_and_refused_where_not(tmp_path):
    source = edited(DEMO / "base", tmp_path / "in", no_bias=False)
    weights = load_file(source / "model.safetensors")
    for layer in range(6):
        for name in ("attn.c_proj", "mlp.w1", "mlp.w2", "mlp.c_proj"):
            stem = f"transformer.h.{layer}.{name}"
            weights[f"{stem}.bias"] = torch.zeros(len(weights[f"{stem}.weight"]), dtype=torch.bfloat16)
    save_file(weights, source / "model.safetensors")
    export(source, tmp_path / "zero", drop_long_context=True)
    same_logits(source, Qwen2ForCausalLM.from_pretrained(tmp_path / "zero", dtype="float32").eval())
    weights["transformer.h.3.mlp.w2.bias"][5] = 0.5
    save_file(weights, source / "model.safetensors")
    said = refused(source, tmp_path / "out", drop_long_context=True)
    assert "transformer.h.3.mlp.w2.bias is not zero" in said
    assert not (tmp_path / "out").exists()


def test_what_is_no_first_generation_qwen_is_refused_by_name(tmp_path):
    export(DEMO / "base", tmp_path / "qwen2", drop_long_context=True)
    assert "model_type is 'qwen2', not 'qwen'" in refused(tmp_path / "qwen2", tmp_path / "out")
    assert "no such folder" in refused(tmp_path / "nowhere", tmp_path / "out")
    (tmp_path / "adapter").mkdir()
    (tmp_path / "adapter/adapter_config.json").write_text(json.dumps({"base_model_name_or_path": "Qwen/Qwen-7B"}))
    assert "PEFT adapter" in refused(tmp_path / "adapter", tmp_path / "out")
    source = edited(DEMO / "base", tmp_path / "cut")
    with open(source / "model.safetensors", "r+b") as file:
        file.truncate(1_000_000)
    assert "truncated or corrupt" in refused(source, tmp_path / "out", drop_long_context=True)
    assert not (tmp_path / "out").exists()


def test_a_folder_in_use_is_never_written_to(tmp_path):
    (tmp_path / "out").mkdir()
    (tmp_path / "out/notes.txt").write_text("mine")
    assert "not empty" in refused(DEMO / "base", tmp_path / "out", drop_long_context=True)
    (tmp_path / "file").write_text("mine")
    assert "a file" in refused(DEMO / "base", tmp_path / "file", drop_long_context=True)
    (tmp_path / "empty").mkdir()
    export(DEMO / "base", tmp_path / "empty", drop_long_context=True)
    assert [path.name for path in (tmp_path / "out").iterdir()] == ["notes.txt"]
