"""Checkpoints on disk: round trip, file layouts, the Auto classes beside remote code, and every one-line error."""

import builtins
import json
import shutil
from pathlib import Path
from typing import Any

from qwen_model import QWenConfig, QWenLMHeadModel, QWenTokenizer
from qwen_model.loading import CheckpointError, is_chat, load_model, load_tokenizer

import pytest
import torch
from safetensors.torch import load_file, save_file
from transformers import AutoConfig, AutoModelForCausalLM, AutoTokenizer, LlamaConfig, LlamaForCausalLM

AUTO_MAP = {
    "AutoConfig": "configuration_qwen.QWenConfig",
    "AutoModel": "modeling_qwen.QWenLMHeadModel",
    "AutoModelForCausalLM": "modeling_qwen.QWenLMHeadModel",
}
TRAP = 'raise SystemExit("remote code was run")\n'


def edit_json(path: Path, **changes: Any) -> None:
    content = json.loads(path.read_text()) if path.exists() else {}
    path.write_text(json.dumps({**content, **changes}))


@pytest.fixture
def checkpoint(build, tiny_vocab, tmp_path) -> Path:
    """A folder as published: auto_map everywhere, with remote code that must not run."""
    folder = tmp_path / "checkpoint"
    build().save_pretrained(folder)
    shutil.copy(tiny_vocab, folder / "qwen.tiktoken")
    edit_json(folder / "config.json", auto_map=AUTO_MAP)
    edit_json(
        folder / "tokenizer_config.json",
        tokenizer_class="QWenTokenizer",
        model_max_length=8192,
        auto_map={"AutoTokenizer": ["tokenization_qwen.QWenTokenizer", None]},
    )
    for name in ("configuration_qwen", "modeling_qwen", "tokenization_qwen"):
        (folder / f"{name}.py").write_text(TRAP)
    return folder


def all_outputs(model: QWenLMHeadModel, tokens: torch.Tensor) -> list[torch.Tensor]:
    with torch.no_grad():
        out = model(tokens, labels=tokens, output_hidden_states=True)
    kept = [layer.keys for layer in out.past_key_values.layers]
    return [out.loss, out.logits, *out.hidden_states, *kept, *model.buffers()]


@pytest.mark.parametrize("changes", [{}, {"rotary_pct": 0.5}, {"no_bias": False}, {"tie_word_embeddings": True}])
def test_round_trip_is_bit_for_bit(build, ids, tmp_path, changes):
    model = build(**changes)
    model.save_pretrained(tmp_path)
    tokens = ids(2, 100)
    for again in (load_model(tmp_path, device="cpu"), QWenLMHeadModel.from_pretrained(tmp_path).eval()):
        for ours, theirs in zip(all_outputs(model, tokens), all_outputs(again, tokens), strict=True):
            assert torch.equal(ours, theirs)


def test_published_names(checkpoint, build):
    names = set(load_file(checkpoint / "model.safetensors"))
    expected = {"transformer.wte.weight", "transformer.ln_f.weight", "lm_head.weight"}
    for layer in range(3):
        parts = "ln_1.weight ln_2.weight attn.c_attn.weight attn.c_attn.bias attn.c_proj.weight"
        parts += " mlp.w1.weight mlp.w2.weight mlp.c_proj.weight"
        expected |= {f"transformer.h.{layer}.{part}" for part in parts.split()}
    assert names == expected
    assert not list(build().named_buffers())  # nothing that meta-device loading could leave uninitialised


@pytest.mark.parametrize("layout", ["sharded", "bin", "sharded bin", "stray buffers"])
def test_file_layouts(checkpoint, build, ids, layout):
    model, tokens = build(), ids(1, 50)
    weights = load_file(checkpoint / "model.safetensors")
    (checkpoint / "model.safetensors").unlink()
    if layout == "sharded":
        model.save_pretrained(checkpoint, max_shard_size="20KB")
        assert len(list(checkpoint.glob("model-*.safetensors"))) > 1
    elif layout == "bin":
        torch.save(weights, checkpoint / "pytorch_model.bin")
    elif layout == "sharded bin":
        names = sorted(weights)
        weight_map: dict[str, str] = {}
        for i, part in enumerate((names[:9], names[9:])):
            torch.save({name: weights[name] for name in part}, checkpoint / f"pytorch_model-{i}.bin")
            weight_map |= dict.fromkeys(part, f"pytorch_model-{i}.bin")
        edit_json(checkpoint / "pytorch_model.bin.index.json", metadata={"total_size": 1}, weight_map=weight_map)
    else:
        weights["transformer.h.0.attn.rotary_emb.inv_freq"] = torch.full((4,), 9.0)
        weights["transformer.h.0.attn.masked_bias"] = torch.tensor(-1e4)
        save_file(weights, checkpoint / "model.safetensors", metadata={"format": "pt"})
    for ours, theirs in zip(
        all_outputs(model, tokens), all_outputs(load_model(checkpoint, device="cpu"), tokens), strict=True
    ):
        assert torch.equal(ours, theirs)


@pytest.mark.parametrize("trust", [None, False, True])
def test_auto_classes_never_run_remote_code(checkpoint, monkeypatch, trust):
    monkeypatch.setattr(builtins, "input", lambda *_: pytest.fail("a prompt was asked"))
    options = {} if trust is None else {"trust_remote_code": trust}
    assert type(AutoConfig.from_pretrained(checkpoint, **options)) is QWenConfig
    assert type(AutoModelForCausalLM.from_pretrained(checkpoint, **options)) is QWenLMHeadModel
    assert type(AutoTokenizer.from_pretrained(checkpoint, **options)) is QWenTokenizer
    tokenizer = AutoTokenizer.from_pretrained(checkpoint, padding_side="left", pad_token="<|extra_0|>", **options)
    assert (tokenizer.padding_side, tokenizer.pad_token_id, tokenizer.model_max_length) == ("left", 503, 8192)


def test_auto_tokenizer_without_a_class_in_its_config(checkpoint, monkeypatch):
    monkeypatch.setattr(builtins, "input", lambda *_: pytest.fail("a prompt was asked"))
    path = checkpoint / "tokenizer_config.json"
    path.write_text(json.dumps({"auto_map": {"AutoTokenizer": ["tokenization_qwen.QWenTokenizer", None]}}))
    assert type(AutoTokenizer.from_pretrained(checkpoint)) is QWenTokenizer
    path.unlink()
    assert type(AutoTokenizer.from_pretrained(checkpoint)) is QWenTokenizer


def test_day_one_config_file(checkpoint, ids, build):
    path = checkpoint / "config.json"
    config = json.loads(path.read_text())
    names = {"hidden_size": "n_embd", "num_attention_heads": "n_head", "num_hidden_layers": "n_layer"}
    names |= {"intermediate_size": "ffn_hidden_size", "max_position_embeddings": "n_positions"}
    path.write_text(json.dumps({names.get(key, key): value for key, value in config.items()}))
    tokens = ids(1, 40)
    with torch.no_grad():
        assert torch.equal(load_model(checkpoint, device="cpu")(tokens).logits, build()(tokens).logits)


def test_device_map_and_dtypes(checkpoint):
    model = load_model(checkpoint, dtype="bf16", device_map={"": "cpu"}, attn_implementation="eager")
    assert model.dtype == torch.bfloat16 and model.config._attn_implementation == "eager" and not model.training
    assert load_model(checkpoint, dtype=torch.float16, device="cpu").dtype == torch.float16
    edit_json(checkpoint / "config.json", fp32=False, dtype="bfloat16")
    assert load_model(checkpoint, device="cpu").dtype == torch.float32  # the published rule on a CPU
    with pytest.raises(ValueError, match="dtype must be"):
        load_model(checkpoint, dtype="int3", device="cpu")


def test_offloaded_blocks(checkpoint, build, ids, tmp_path):
    """accelerate's hooks keep the weights of a block elsewhere until it runs."""
    pytest.importorskip("accelerate")
    from accelerate import cpu_offload

    tokens, last = ids(2, 9), torch.tensor([8, 4])
    model = cpu_offload(load_model(checkpoint, device="cpu"), execution_device=torch.device("cpu"))
    with torch.no_grad():
        expected = build()(tokens).logits
        torch.testing.assert_close(model(tokens).logits, expected)
        torch.testing.assert_close(model(tokens, last_positions=last).logits[:, 0], expected[torch.arange(2), last])


def test_other_families_load_by_their_own_class(tmp_path, ids):
    config = LlamaConfig(
        vocab_size=96, hidden_size=32, intermediate_size=48, num_hidden_layers=1, num_attention_heads=4
    )
    LlamaForCausalLM(config).save_pretrained(tmp_path)
    assert type(load_model(tmp_path, device="cpu")) is LlamaForCausalLM
    assert not is_chat(tmp_path)
    with pytest.raises(CheckpointError, match="no tokenizer in it"):
        load_tokenizer(tmp_path)
    edit_json(tmp_path / "tokenizer_config.json", chat_template="{{ messages }}")
    assert is_chat(tmp_path) and is_chat(load_model(tmp_path, device="cpu"))


def test_is_chat_follows_the_generation_config(checkpoint):
    assert not is_chat(checkpoint)
    (checkpoint / "generation_config.json").unlink()
    edit_json(checkpoint / "generation_config.json", chat_format="chatml")
    assert is_chat(checkpoint) and is_chat(load_model(checkpoint, device="cpu"))
    edit_json(checkpoint / "generation_config.json", chat_format="raw")
    assert not is_chat(checkpoint) and not is_chat(load_model(checkpoint, device="cpu"))


def test_the_tokenizer_file_alone_is_enough(tiny_vocab):
    assert type(load_tokenizer(tiny_vocab.parent)) is QWenTokenizer


def truncate(path: Path) -> None:
    path.write_bytes(path.read_bytes()[:-1000])


def drop_weight(folder: Path, name: str, replacement: torch.Tensor | None = None) -> None:
    weights = load_file(folder / "model.safetensors")
    del weights[name]
    save_file(weights | ({} if replacement is None else {name: replacement}), folder / "model.safetensors")


def shard_without_one(folder: Path) -> None:
    QWenLMHeadModel.from_pretrained(folder).save_pretrained(folder, max_shard_size="20KB")
    (folder / "model.safetensors").unlink(missing_ok=True)
    next(folder.glob("model-00002-*")).unlink()


BAD_MODELS = {
    "no folder": (lambda f: shutil.rmtree(f), r"checkpoint: no such folder"),
    "no config": (lambda f: (f / "config.json").unlink(), r"no config\.json in it"),
    "bad config": (lambda f: (f / "config.json").write_text("{"), r"config\.json: not readable as JSON"),
    "list config": (lambda f: (f / "config.json").write_text("[]"), r"config\.json: not a JSON object"),
    "no model type": (lambda f: (f / "config.json").write_text("{}"), r"no model_type"),
    "unknown model type": (
        lambda f: edit_json(f / "config.json", model_type="qwen99"),
        r"no class for model_type 'qwen99'",
    ),
    "not a causal LM": (lambda f: edit_json(f / "config.json", model_type="clip"), r"not a causal language model"),
    "bad sizes": (lambda f: edit_json(f / "config.json", hidden_size=33), r"kv_channels x num_attention_heads"),
    "no seq_length": (lambda f: edit_json(f / "config.json", seq_length=None), r"seq_length is missing"),
    "truncated": (lambda f: truncate(f / "model.safetensors"), r"model\.safetensors: truncated or corrupt"),
    "empty": (lambda f: (f / "model.safetensors").write_bytes(b""), r"model\.safetensors: truncated or corrupt"),
    "garbage": (
        lambda f: (f / "model.safetensors").write_bytes(b"x" * 99),
        r"model\.safetensors: truncated or corrupt",
    ),
    "no weights": (lambda f: (f / "model.safetensors").unlink(), r"no weights in it"),
    "missing shard": (shard_without_one, r"missing shard model-00002-of"),
    "missing weight": (
        lambda f: drop_weight(f, "transformer.h.1.attn.c_proj.weight"),
        r"1 weights missing: transformer\.h\.1\.attn\.c_proj\.weight",
    ),
    "misshaped weight": (
        lambda f: drop_weight(f, "lm_head.weight", torch.zeros(3, 32)),
        r"wrong shape: lm_head\.weight \(3, 32\) instead of \(96, 32\)",
    ),
    "quantised": (
        lambda f: edit_json(f / "config.json", quantization_config={"quant_method": "gptq", "bits": 4}),
        r"its configuration says GPTQ, but no weight in the files is packed",
    ),
}


@pytest.mark.parametrize("fault", BAD_MODELS)
def test_a_bad_checkpoint_is_one_line(checkpoint, fault, capfd):
    spoil, message = BAD_MODELS[fault]
    spoil(checkpoint)
    capfd.readouterr()
    with pytest.raises(CheckpointError, match=message) as caught:
        load_model(checkpoint, device="cpu")
    assert "\n" not in str(caught.value) and len(str(caught.value)) < 400
    assert "checkpoint" in str(caught.value)
    out, err = capfd.readouterr()
    assert out == err == ""


def test_truncated_bin(checkpoint):
    torch.save(load_file(checkpoint / "model.safetensors"), checkpoint / "pytorch_model.bin")
    (checkpoint / "model.safetensors").unlink()
    truncate(checkpoint / "pytorch_model.bin")
    with pytest.raises(CheckpointError, match=r"pytorch_model\.bin: truncated"):
        load_model(checkpoint, device="cpu")


def test_bad_tokenizers(checkpoint, tmp_path):
    (checkpoint / "qwen.tiktoken").write_text("garbage\n")
    with pytest.raises(CheckpointError, match="not 'base64 rank'"):
        load_tokenizer(checkpoint)
    (checkpoint / "qwen.tiktoken").unlink()
    with pytest.raises(CheckpointError, match=r"no tokenizer in it \(qwen\.tiktoken is missing\)"):
        load_tokenizer(checkpoint)
    with pytest.raises(CheckpointError, match="no such folder"):
        load_tokenizer(tmp_path / "nowhere")
    with pytest.raises(CheckpointError, match="a file, not the folder"):
        load_tokenizer(checkpoint / "config.json")


def test_a_good_load_prints_nothing(checkpoint, capfd):
    capfd.readouterr()
    load_model(checkpoint, device="cpu")
    load_tokenizer(checkpoint)
    assert capfd.readouterr() == ("", "")
