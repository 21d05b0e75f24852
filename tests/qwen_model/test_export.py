"""Checkpoints exported to Qwen2's layout: the same logits in programs that do not know Qwen's own, and the same files
whatever the source looks like. The packed ones run here as Qwen2 with our own packed layers in it (`GPTQLinear`, which
tests/qwen_model/test_gptq.py holds against recorded layers of AutoGPTQ): no other package has to unpack them."""

import json
import re
from pathlib import Path

from qwen_model.export import export
from qwen_model.loading import load_model, load_tokenizer
from tests.qwen_model.exported import (
    DEMO,
    ROOT,
    edited,
    packed_qwen2,
    same_logits,
    settings_of,
    tensors_of,
)
from tests.qwen_model.gptq_packing import packed_copy

import pytest
import torch
from safetensors.torch import load_file, save_file
from transformers import AutoModelForCausalLM, GenerationConfig, Qwen2ForCausalLM


@pytest.fixture(params=["tiny", "demo", "demo-chat"])
def source(request, demo_checkpoint) -> Path:
    return {"tiny": demo_checkpoint, "demo": DEMO / "base", "demo-chat": DEMO / "chat"}[request.param]


def test_transformers_qwen2_gives_the_same_logits(source, tmp_path):
    export(source, tmp_path / "out", drop_long_context=True)
    model, info = Qwen2ForCausalLM.from_pretrained(tmp_path / "out", dtype="float32", output_loading_info=True)
    assert not info["missing_keys"] and not info["unexpected_keys"]
    same_logits(source, model.eval())
    assert type(AutoModelForCausalLM.from_pretrained(tmp_path / "out")) is Qwen2ForCausalLM


PACKINGS = {
    "Int4": {"bits": 4, "group": 32},
    "Int8": {"bits": 8, "group": 128},
    "Int4, desc_act": {"bits": 4, "group": 32, "desc_act": True},
    "Int4, one group, asymmetric": {"bits": 4, "group": -1, "symmetric": False},
    "Int8, v2, asymmetric": {"bits": 8, "group": 64, "symmetric": False, "v2": True},
}


@pytest.mark.parametrize("how", PACKINGS.values(), ids=PACKINGS)
def test_packed_layers_are_cut_between_words_and_give_the_same_logits(source, tmp_path, how):
    packed_copy(source, tmp_path / "packed", **how)
    export(tmp_path / "packed", tmp_path / "out", drop_long_context=True)
    model = packed_qwen2(tmp_path / "out")
    ours = load_model(tmp_path / "packed", dtype="float32", device="cpu")
    for block, theirs in zip(ours.transformer.h, model.model.layers, strict=True):
        attention = theirs.self_attn
        thirds = [part.unpacked() for part in (attention.q_proj, attention.k_proj, attention.v_proj)]
        assert torch.equal(torch.cat(thirds), block.attn.c_attn.unpacked()), "no value has changed"
    same_logits(tmp_path / "packed", model)


def test_how_weights_are_packed_is_said_in_config_json(tmp_path):
    packed_copy(DEMO / "base", tmp_path / "packed", **PACKINGS["Int4, desc_act"])
    export(tmp_path / "packed", tmp_path / "out", drop_long_context=True)
    assert settings_of(tmp_path / "out")["quantization_config"] == {
        **{"quant_method": "gptq", "bits": 4, "group_size": 32, "desc_act": True, "sym": True},
        "checkpoint_format": "gptq",
    }
    names = set(tensors_of(tmp_path / "out"))
    assert "model.layers.0.self_attn.q_proj.bias" in names
    assert not any(re.search(r"(o_proj|mlp\.\w+)\.bias$", name) for name in names), "AutoGPTQ's zeros have no place"


def test_an_old_packed_checkpoint_without_groups_gets_what_holds_for_every_one(tmp_path):
    folder = tmp_path / "packed"
    packed_copy(DEMO / "base", folder, bits=4, group=32)
    weights = load_file(folder / "model.safetensors")
    save_file({name: value for name, value in weights.items() if "g_idx" not in name}, folder / "model.safetensors")
    edited(folder, tmp_path / "old", quantization_config=None)
    (tmp_path / "old/quantize_config.json").write_text(json.dumps({"bits": 4, "group_size": 32}))
    export(tmp_path / "old", tmp_path / "out", drop_long_context=True)
    found = settings_of(tmp_path / "out")["quantization_config"]
    assert (found["desc_act"], found["sym"]) == (True, False), "what no kernel is wrong with"
    same_logits(folder, packed_qwen2(tmp_path / "out"))


def test_config_json_says_what_the_checkpoint_is(tmp_path):
    source = edited(DEMO / "base", tmp_path / "in", rotary_emb_base=1e6, layer_norm_epsilon=1e-5)
    export(source, tmp_path / "out", drop_long_context=True)
    assert settings_of(tmp_path / "out") == {
        **{"architectures": ["Qwen2ForCausalLM"], "model_type": "qwen2", "torch_dtype": "bfloat16"},
        **{"vocab_size": 2048, "hidden_size": 128, "intermediate_size": 352, "num_hidden_layers": 6},
        **{"num_attention_heads": 4, "num_key_value_heads": 4, "hidden_act": "silu", "rms_norm_eps": 1e-5},
        **{
            "max_position_embeddings": 512,
            "rope_theta": 1e6,
            "tie_word_embeddings": False,
            "use_sliding_window": False,
        },
        **{"initializer_range": 0.02, "attention_dropout": 0.0, "use_cache": True},
        **{"bos_token_id": 1800, "eos_token_id": 1800},
    }
    same_logits(source, Qwen2ForCausalLM.from_pretrained(tmp_path / "out", dtype="float32").eval())


def test_a_head_that_is_the_embedding_stays_it_and_one_that_has_weights_keeps_them(tmp_path):
    source = edited(DEMO / "base", tmp_path / "in", tie_word_embeddings=True)
    weights = load_file(source / "model.safetensors")
    (source / "model.safetensors").unlink()
    tied = weights | {"lm_head.weight": weights["transformer.wte.weight"]}
    headless = {name: tensor for name, tensor in weights.items() if name != "lm_head.weight"}
    for number, (saved, has_head) in enumerate([(weights, True), (tied, True), (headless, False)]):
        torch.save(saved, source / "pytorch_model.bin")
        out = tmp_path / f"out{number}"
        export(source, out, drop_long_context=True)
        assert ("lm_head.weight" in tensors_of(out)) == has_head
        assert settings_of(out)["tie_word_embeddings"] != has_head
        same_logits(source, Qwen2ForCausalLM.from_pretrained(out, dtype="float32").eval())


def test_replies_end_and_are_sampled_as_the_checkpoint_says(tmp_path):
    for name in ("base", "chat"):
        export(DEMO / name, tmp_path / name, drop_long_context=True)
    chat = GenerationConfig.from_pretrained(tmp_path / "chat")
    assert (chat.eos_token_id, chat.pad_token_id) == ([1802, 1800], 1800)
    assert (chat.do_sample, chat.top_p, chat.top_k, chat.repetition_penalty) == (True, 0.8, 0, 1.1)
    assert GenerationConfig.from_pretrained(tmp_path / "base").eos_token_id == 1800
    written = settings_of(tmp_path / "chat", "generation_config.json")
    assert "max_new_tokens" not in written, "vLLM would cut every reply there"


def samples_of(script, benchmark: str, checkpoint: Path, out: Path, *flags: str) -> dict[str, dict]:
    done = script(
        *(benchmark, "-c", checkpoint, "-d", ROOT / "demo/data" / benchmark, "-o", out),
        *("--dtype", "float32", "--device", "cpu", *flags),
    )
    assert done.status == 0, done.err
    return {sample["id"]: sample for sample in map(json.loads, (out / "samples.jsonl").read_text().splitlines())}


def test_our_scripts_give_the_demos_figures_for_the_export(script, tmp_path):
    export(DEMO / "base", tmp_path / "base", drop_long_context=True)
    subjects = sorted(path.name.removesuffix("_test.csv") for path in (ROOT / "demo/data/mmlu/test").iterdir())
    flags = ("--subjects", ",".join(subjects))
    ours = samples_of(script, "mmlu", DEMO / "base", tmp_path / "ours", *flags)
    theirs = samples_of(script, "mmlu", tmp_path / "base", tmp_path / "theirs", *flags)
    assert ours.keys() == theirs.keys() and len(ours) > 90
    assert [sample["prompt"] for sample in ours.values()] == [theirs[name]["prompt"] for name in ours]
    ids_of = load_tokenizer(DEMO / "base").encode_plain
    within = [name for name, sample in ours.items() if len(ids_of(sample["prompt"])) <= 512]
    assert len(within) > 50, "beyond the training length dynamic NTK is missing"
    for name in within:
        assert ours[name]["choice_logits"] == pytest.approx(theirs[name]["choice_logits"], abs=1e-4)
        assert ours[name]["prediction"] == theirs[name]["prediction"]
    for run in (ours, theirs):
        assert round(100 * sum(sample["correct"] for sample in run.values()) / len(run), 2) == 38.38


def test_a_chat_model_replies_the_same_to_our_scripts(script, tmp_path):
    export(DEMO / "chat", tmp_path / "chat", drop_long_context=True)
    ours = samples_of(script, "gsm8k", DEMO / "chat", tmp_path / "ours", "--limit", "12")
    theirs = samples_of(script, "gsm8k", tmp_path / "chat", tmp_path / "theirs", "--limit", "12")
    for name, sample in ours.items():
        for field in ("prompt", "response", "finish", "new_tokens", "correct"):
            assert sample[field] == theirs[name][field]
