"""Folders as people have them: which load as what they are, and which are called what they are."""

import codecs
import json
import os
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

from qwen_model.checkpoint import LFS_POINTER
from qwen_model.loading import CheckpointError, check_checkpoint, is_chat, load_config, load_model, load_tokenizer

import pytest
import torch
from safetensors.torch import load_file, save_file
from transformers import LlamaConfig, LlamaForCausalLM

Weights = dict[str, torch.Tensor]


def edit_json(path: Path, **changes: Any) -> None:
    content = json.loads(path.read_text()) if path.exists() else {}
    path.write_text(json.dumps({**content, **changes}))


def edit_weights(folder: Path, change: Callable[[Weights], object]) -> None:
    weights = load_file(folder / "model.safetensors")
    changed = change(weights)
    weights = changed if isinstance(changed, dict) else weights
    save_file(weights, folder / "model.safetensors", metadata={"format": "pt"})


@pytest.fixture
def qwen(build, tiny_vocab: Path, tmp_path: Path) -> Path:
    """A tiny Qwen with room for its tokenizer's ids; chat_format in generation_config.json."""
    folder = tmp_path / "qwen"
    build(vocab_size=720).save_pretrained(folder)
    shutil.copy(tiny_vocab, folder / "qwen.tiktoken")
    (folder / "generation_config.json").write_text('{"chat_format": "chatml"}')
    edit_json(folder / "tokenizer_config.json", tokenizer_class="QWenTokenizer", model_max_length=77)
    return folder


@pytest.fixture
def llama(tmp_path: Path) -> Path:
    shape = {"hidden_size": 32, "intermediate_size": 48, "num_hidden_layers": 2, "num_attention_heads": 4}
    LlamaForCausalLM(LlamaConfig(vocab_size=96, **shape)).save_pretrained(tmp_path / "llama")
    return tmp_path / "llama"


def same_logits(one: Path, other: Path) -> None:
    tokens = torch.arange(1, 40)[None]
    with torch.no_grad():
        first, second = (load_model(folder, device="cpu")(tokens).logits for folder in (one, other))
    assert torch.equal(first, second)


# -- odd, and right ----------------------------------------------------------------------------------------------------


def stale_index(folder: Path) -> None:
    edit_json(
        folder / "model.safetensors.index.json", weight_map={"lm_head.weight": "model-00001-of-00009.safetensors"}
    )


def byte_order_marks(folder: Path) -> None:
    for path in folder.glob("*.json"):
        path.write_bytes(codecs.BOM_UTF8 + path.read_bytes())


def tables_and_pictures(folder: Path) -> None:
    edit_weights(
        folder,
        lambda weights: weights.update(
            {
                "transformer.h.0.attn.rotary_emb.inv_freq": torch.ones(4),
                "transformer.h.1.attn.masked_bias": torch.tensor(-1e4),
                "transformer.h.1.attn.bias": torch.ones(1, 1, 8, 8),
                "transformer.visual.transformer.resblocks.7.ln_1.weight": torch.ones(8),
            }
        ),
    )


def dtype_with_a_prefix(folder: Path) -> None:
    config = json.loads((folder / "config.json").read_text())
    config.pop("dtype", None)
    (folder / "config.json").write_text(json.dumps({**config, "torch_dtype": "torch.float32"}))


def folder_of_the_hub_cache(folder: Path) -> None:
    snapshot = folder / "snapshots" / "0123abcd"
    snapshot.mkdir(parents=True)
    (folder / "blobs").mkdir()
    for path in [path for path in folder.iterdir() if path.is_file()]:
        blob = path.rename(folder / "blobs" / f"{path.name}-blob")
        (snapshot / path.name).symlink_to(blob)


def adapter_settings_left_behind(folder: Path) -> None:
    edit_json(folder / "adapter_config.json", peft_type="LORA")


ODD = [
    stale_index,
    byte_order_marks,
    tables_and_pictures,
    dtype_with_a_prefix,
    folder_of_the_hub_cache,
    adapter_settings_left_behind,
]


@pytest.mark.parametrize("make", ODD, ids=lambda make: make.__name__)
def test_an_odd_folder_loads_as_the_model_that_it_holds(qwen, make):
    odd = shutil.copytree(qwen, qwen.parent / "odd")
    make(odd)
    check_checkpoint(odd)
    same_logits(odd, qwen)
    assert is_chat(odd) and load_model(odd, device="cpu").generation_config.chat_format == "chatml"
    assert load_tokenizer(odd).model_max_length == 77


@pytest.mark.parametrize("make", [stale_index, byte_order_marks, dtype_with_a_prefix, folder_of_the_hub_cache])
def test_the_same_of_another_family(llama, make):
    odd = shutil.copytree(llama, llama.parent / "odd")
    make(odd)
    same_logits(odd, llama)


def test_a_path_that_is_not_utf8(qwen):
    folder = Path(os.fsdecode(os.fsencode(qwen.parent) + b"/\xc4\xa3\xd0\xcd"))
    try:
        shutil.copytree(qwen, folder)
    except OSError:
        pytest.skip("this file system takes UTF-8 names only")
    check_checkpoint(folder)
    same_logits(folder, qwen)


def test_both_published_flags_are_no_fault_where_a_dtype_is_given(qwen):
    edit_json(qwen / "config.json", bf16=True, fp16=True, fp32=False)
    assert load_model(qwen, dtype="fp32", device="cpu").dtype == torch.float32
    assert load_model(qwen, dtype="bfloat16", device="cpu").dtype == torch.bfloat16
    with pytest.raises(CheckpointError, match=r"config\.json: bf16 and fp16 are both true; give a dtype"):
        load_model(qwen, device="cpu")


@pytest.mark.parametrize(("flag", "dtype"), [("fp32", "float32"), ("bf16", "bfloat16"), ("fp16", "float16")])
def test_the_flag_of_the_configuration_is_the_engines_dtype_on_a_gpu(qwen, monkeypatch, flag, dtype):
    from qwen_eval.engines.local import placement as local

    edit_json(qwen / "config.json", **{"fp32": False, flag: True})
    monkeypatch.setattr(local, "resolve_device", lambda device: "cuda")
    assert local.resolve_dtype(qwen, "auto", None) == dtype
    assert load_config(qwen).select_dtype("cuda") == getattr(torch, dtype)


# -- tensors that the model does not use -------------------------------------------------------------------------------


def named(*names: str) -> Callable[[Weights], object]:
    return lambda weights: weights.update({name: torch.zeros(4) for name in names})


def prefixed(prefix: str) -> Callable[[Weights], object]:
    return lambda weights: {prefix + name: tensor for name, tensor in weights.items()}


def another_layer(weights: Weights) -> None:
    weights.update({name.replace(".2.", ".3."): t.clone() for name, t in list(weights.items()) if ".h.2." in name})


QWEN_UNUSED = [
    (another_layer, r"8 tensors that the model does not use: transformer\.h\.3.*says 3 layers .* the files have 4\)"),
    (
        named("transformer.h.0.attn.c_attn.lora_A.weight", "transformer.h.0.attn.c_attn.lora_B.weight"),
        r"2 tensors .*lora_A\.weight.*LoRA weights that were never merged",
    ),
    (named("lm_head.bias"), r"1 tensor that the model does not use: lm_head\.bias \(a bias of the head"),
    (named("transformer.h.0.attn.c_proj.bias"), r"c_proj\.bias \(biases where config\.json says that there are none"),
    (named("v_head.summary.weight"), r"the head of a reward or value model"),
    (named("something.else"), r"something\.else \(they are of another architecture"),
    (prefixed("module."), r"module\.lm_head\.weight.*saved through DataParallel"),
    (prefixed("_orig_mod."), r"saved through torch\.compile"),
    (prefixed("base_model.model."), r"saved with PEFT's layers"),
]


@pytest.mark.parametrize(("change", "said"), QWEN_UNUSED)
def test_a_tensor_without_a_place_is_named_with_the_reason(qwen, change, said):
    edit_weights(qwen, change)
    for use in (check_checkpoint, lambda folder: load_model(folder, device="cpu")):
        with pytest.raises(CheckpointError, match=said) as caught:
            use(qwen)
        assert "\n" not in str(caught.value)


def test_the_same_in_a_file_of_torch(qwen):
    weights = load_file(qwen / "model.safetensors")
    torch.save({**weights, "lm_head.bias": torch.zeros(4)}, qwen / "pytorch_model.bin")
    (qwen / "model.safetensors").unlink()
    with pytest.raises(CheckpointError, match=r"lm_head\.bias"):
        check_checkpoint(qwen)


@pytest.mark.parametrize(
    ("change", "said"),
    [
        (named("model.layers.2.self_attn.q_proj.weight"), "says 2 layers .* the files have 3"),
        (named("model.layers.0.self_attn.q_proj.lora_A.default.weight"), "never merged"),
        (named("lm_head.bias"), "a bias of the head"),
        (named("model.layers.0.self_attn.rotary_emb.inv_freq", "visual.blocks.0.weight"), None),
    ],
)
def test_tensors_without_a_place_in_another_family(llama, change, said):
    edit_weights(llama, change)
    if said is None:
        assert type(load_model(llama, device="cpu")) is LlamaForCausalLM
        return
    with pytest.raises(CheckpointError, match=said):
        load_model(llama, device="cpu")


@pytest.mark.parametrize(("key", "value"), [("num_hidden_layers", 10**9), ("vocab_size", 10**11)])
def test_another_familys_sizes_are_compared_with_the_file_before_they_fill_the_memory(llama, key, value):
    edit_json(llama / "config.json", **{key: value})
    with pytest.raises(CheckpointError, match=r"weights missing: config\.json says 1,000,000,000 layers|wrong shape"):
        load_model(llama, device="cpu")


# -- what is no float checkpoint of transformers -----------------------------------------------------------------------


def packed(**tensors: torch.Tensor) -> Callable[[Path], None]:
    """The layers' weights as a quantiser leaves them."""
    return lambda folder: edit_weights(
        folder, lambda weights: weights.update({f"transformer.h.0.mlp.w1.{k}": t for k, t in tensors.items()})
    )


def in_fp8(folder: Path) -> None:
    edit_weights(folder, lambda weights: {k: t.to(torch.float8_e4m3fn) for k, t in weights.items()})


def settings(**changes: object) -> Callable[[Path], None]:
    return lambda folder: edit_json(folder / "config.json", quantization_config=changes)


INT = torch.int32
QUANTISED = [
    (settings(quant_method="gptq", bits=4), "says GPTQ, but no weight in the files is packed"),
    (settings(quant_method="awq", bits=4), "AWQ is not supported yet"),
    (settings(load_in_4bit=True), "bitsandbytes is not supported yet"),
    (lambda folder: edit_json(folder / "quantize_config.json", bits=4), "says GPTQ, but no weight in the files is"),
    (packed(qweight=torch.zeros(4, 48, dtype=INT), scales=torch.zeros(1, 48)), "packed GPTQ weights, but neither"),
    (packed(qweight=torch.zeros(32, 6, dtype=INT), scales=torch.zeros(1, 48)), "AWQ is not supported yet"),
    (
        packed(absmax=torch.zeros(4), **{"quant_state.bitsandbytes__nf4": torch.zeros(4)}),
        "bitsandbytes is not supported",
    ),
    (in_fp8, "FP8 is not supported yet"),
]


@pytest.mark.parametrize(("quantise", "said"), QUANTISED)
def test_a_quantised_checkpoint_is_called_by_its_method(qwen, quantise, said):
    quantise(qwen)
    with pytest.raises(CheckpointError, match=said):
        check_checkpoint(qwen)


OTHER_FORMATS = [
    ("model.Q4_K_M.gguf", "GGUF, the format of llama.cpp"),
    ("tf_model.h5", "weights of TensorFlow"),
    ("consolidated.00.pth", "weights in their authors' own format"),
    ("pytorch_model-00001-of-00008.bin", r"without their index: download pytorch_model\.bin\.index\.json"),
    ("model-00002-of-00008.safetensors", r"without their index: download model\.safetensors\.index\.json"),
]


@pytest.mark.parametrize(("name", "said"), OTHER_FORMATS)
def test_weights_in_another_form_are_called_what_they_are(qwen, name, said):
    (qwen / "model.safetensors").rename(qwen / name)
    with pytest.raises(CheckpointError, match=f"no weights in it; .*{said}"):
        check_checkpoint(qwen)


def test_an_adapter_is_none_of_a_model(qwen):
    edit_json(qwen / "adapter_config.json", base_model_name_or_path="Qwen/Qwen-7B")
    shutil.copy(qwen / "model.safetensors", qwen / "adapter_model.safetensors")
    with pytest.raises(CheckpointError, match="a whole model and a PEFT adapter in one folder"):
        check_checkpoint(qwen)
    (qwen / "model.safetensors").unlink()
    with pytest.raises(
        CheckpointError, match=r"a PEFT adapter \(LoRA or the like\) of Qwen/Qwen-7B, not a whole model"
    ):
        check_checkpoint(qwen)


@pytest.mark.parametrize("name", ["model.safetensors", "qwen.tiktoken", "config.json"])
def test_a_pointer_of_git_lfs_is_called_one(qwen, name):
    (qwen / name).write_bytes(LFS_POINTER + b"v1\noid sha256:00\nsize 7\n")
    with pytest.raises(CheckpointError, match=f"{name}: a Git LFS pointer"):
        check_checkpoint(qwen)


def test_a_link_to_nothing_is_called_one(qwen):
    (qwen / "model.safetensors").unlink()
    (qwen / "model.safetensors").symlink_to("../../blobs/0123")
    with pytest.raises(CheckpointError, match=r"model\.safetensors is a link to a file that is not there"):
        check_checkpoint(qwen)
