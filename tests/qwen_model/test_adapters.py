"""PEFT adapters: the model that they make is PEFT's own, in the base's class; what does not fit is one line."""

import json
import shutil
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

from qwen_model.adapters import base_and_adapter, beside_packed, is_untrained
from qwen_model.checkpoint import LFS_POINTER
from qwen_model.gptq import GPTQLinear
from qwen_model.loading import CheckpointError, check_checkpoint, is_chat, load_config, load_model, load_tokenizer
from tests.qwen_model.gptq_packing import packed_copy
from tests.qwen_model.peft_training import train

import pytest
import torch
from peft import LoraConfig, PromptTuningConfig, get_peft_model
from safetensors.torch import load_file, save_file
from transformers import LlamaConfig, LlamaForCausalLM, PreTrainedModel

pytestmark = [  # what PEFT says while the tests train
    pytest.mark.filterwarnings("ignore:Unsupported layer type:UserWarning"),
    pytest.mark.filterwarnings("ignore:.*is_gradient_checkpointing:FutureWarning"),
]
IDS = torch.tensor([[5, 17, 99, 4, 3, 60, 8]])
DEMO = Path(__file__).resolve().parents[2] / "demo/checkpoint/base"


def logits(model: Any) -> torch.Tensor:
    with torch.no_grad():
        found: torch.Tensor = model(IDS).logits
        return found


def on_cpu(path: Path, **options: Any) -> Any:
    return load_model(path, dtype="float32", device="cpu", **options)


def far_apart(one: torch.Tensor, other: torch.Tensor) -> bool:
    return bool((one - other).abs().max() > 0.1)


KINDS = {
    "LoRA": {},
    "as a .bin file": {"bin_file": True},
    "DoRA": {"use_dora": True},
    "rsLoRA, ranks by layer": {"use_rslora": True, "rank_pattern": {"w1": 2}},
    "embedding and head trained": {"modules_to_save": ["wte", "lm_head"]},
    "the biases, too": {"bias": "all"},
    "LoRA on the embedding": {"target_modules": ["wte", "c_attn"]},
}


@pytest.mark.parametrize("how", KINDS.values(), ids=KINDS)
def test_the_adapted_model_is_that_of_peft_in_its_own_class(tmp_path, how):
    trained = train(DEMO, tmp_path / "adapter", **how)
    check_checkpoint(DEMO, tmp_path / "adapter")
    model = on_cpu(DEMO, adapter=tmp_path / "adapter")
    assert (logits(model) - logits(trained)).abs().max() < 2e-4
    assert far_apart(logits(model), logits(on_cpu(DEMO)))
    plain = on_cpu(DEMO)
    assert [(name, type(one)) for name, one in model.named_modules()] == [
        (name, type(one)) for name, one in plain.named_modules()
    ], "no layer of PEFT is left, and the fast path is open"
    assert torch.equal(logits(on_cpu(tmp_path / "adapter")), logits(model)), "an adapter's folder finds its base"


def test_another_family_too(tmp_path):
    shape = {"hidden_size": 32, "intermediate_size": 48, "num_hidden_layers": 2, "num_attention_heads": 4}
    base = LlamaForCausalLM(LlamaConfig(vocab_size=128, **shape))
    base.save_pretrained(tmp_path / "llama")
    adapted = get_peft_model(base, LoraConfig(r=4, target_modules=["q_proj", "down_proj"]))
    with torch.no_grad():
        for name, tensor in adapted.named_parameters():
            if "lora_B" in name:
                tensor.normal_()
    adapted.save_pretrained(tmp_path / "adapter")
    model = on_cpu(tmp_path / "llama", adapter=tmp_path / "adapter")
    assert type(model) is LlamaForCausalLM
    assert (logits(model) - logits(adapted.eval())).abs().max() < 1e-5
    assert far_apart(logits(model), logits(on_cpu(tmp_path / "llama")))


PACKINGS = [{"bits": 4, "group": 32}, {"bits": 8, "group": 128, "desc_act": True}]


@pytest.mark.parametrize("packing", PACKINGS, ids=["Int4", "Int8, desc_act"])
@pytest.mark.parametrize("saved", [[], ["lm_head"]], ids=["", "and the head"])
def test_an_adapter_trained_on_packed_weights_stays_beside_them(tmp_path, packing, saved):
    """QLoRA equals the same adapter merged into the dequantised weights."""
    meant = packed_copy(DEMO, tmp_path / "packed", **packing)
    train(tmp_path / "packed", tmp_path / "adapter", modules_to_save=saved)
    check_checkpoint(tmp_path / "packed", tmp_path / "adapter")
    shutil.copytree(DEMO, tmp_path / "twin")
    meant = {name: tensor.contiguous() for name, tensor in meant.items()}
    save_file(meant, tmp_path / "twin/model.safetensors", metadata={"format": "pt"})
    twin = on_cpu(tmp_path / "twin", adapter=tmp_path / "adapter")
    model = on_cpu(tmp_path / "packed", adapter=tmp_path / "adapter")
    assert (logits(model) - logits(twin)).abs().max() <= 1e-4
    assert far_apart(logits(model), logits(on_cpu(tmp_path / "packed")))
    again = model.generate(IDS, max_new_tokens=8, do_sample=False)
    assert torch.equal(again, twin.generate(IDS, max_new_tokens=8, do_sample=False))
    layer = model.transformer.h[0].mlp.w1
    assert isinstance(layer.base, GPTQLinear), "the weights are packed as before"
    assert beside_packed(tmp_path / "adapter", load_config(tmp_path / "packed"))
    assert not beside_packed(tmp_path / "adapter", load_config(DEMO))


def test_beside_packed_weights_the_adapter_has_the_dtype_of_the_model(tmp_path):
    packed_copy(DEMO, tmp_path / "packed")
    train(tmp_path / "packed", tmp_path / "adapter")
    model = load_model(tmp_path / "packed", dtype="bfloat16", device="cpu", adapter=tmp_path / "adapter")
    layer = model.transformer.h[0].mlp.w1
    assert (layer.lora_A.dtype, layer.base.scales.dtype) == (torch.bfloat16, torch.float32)

    def rounding(**options: Any) -> torch.Tensor:
        half = load_model(tmp_path / "packed", dtype="bfloat16", device="cpu", **options)
        return (logits(half).float() - logits(on_cpu(tmp_path / "packed", **options))).abs().mean()

    assert rounding(adapter=tmp_path / "adapter") < 2 * rounding(), "it adds no error of its own size"


# -- whose it is -------------------------------------------------------------------------------------------------------


def settings(folder: Path, **changes: object) -> Path:
    content = json.loads((folder / "adapter_config.json").read_text())
    (folder / "adapter_config.json").write_text(json.dumps({**content, **changes}))
    return folder


@pytest.fixture(scope="module")
def trained(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """An adapter on the demo's base model. Not to be changed."""
    folder = tmp_path_factory.mktemp("trained") / "adapter"
    train(DEMO, folder)
    return folder


@pytest.fixture
def adapter(trained: Path, tmp_path: Path) -> Path:
    return shutil.copytree(trained, tmp_path / "adapter")


@pytest.mark.parametrize("named", ["whole", "from here", "from the adapter", "hub"])
def test_the_base_is_found_by_what_the_adapter_says(adapter, tmp_path, monkeypatch, named):
    base = shutil.copytree(DEMO, tmp_path / "models/base")
    (tmp_path / "elsewhere").mkdir()
    monkeypatch.chdir(tmp_path if named == "from here" else tmp_path / "elsewhere")
    said = {"whole": str(base), "from here": "models/base", "from the adapter": "../models/base"}.get(named, "Qwen/X")
    monkeypatch.setattr("huggingface_hub.snapshot_download", lambda name, **_: str(base) if name == "Qwen/X" else "")
    settings(adapter, base_model_name_or_path=said)
    found, on_it = base_and_adapter(adapter)
    assert (found.resolve(), on_it) == (base.resolve(), adapter)
    assert type(on_cpu(adapter)).__name__ == "QWenLMHeadModel"
    assert load_tokenizer(adapter).get_vocab() == load_tokenizer(base).get_vocab()


def test_chat_or_base_is_what_the_base_says_unless_the_adapter_says_otherwise(adapter):
    assert not is_chat(DEMO, adapter) and is_chat(DEMO.parent / "chat", adapter)
    (adapter / "generation_config.json").write_text('{"max_new_tokens": 7}')
    assert not is_chat(DEMO, adapter), "no chat_format, no word about it"
    (adapter / "generation_config.json").write_text('{"chat_format": "chatml", "max_new_tokens": 7}')
    assert is_chat(DEMO, adapter)
    model = on_cpu(DEMO, adapter=adapter)
    assert is_chat(model) and model.generation_config.max_new_tokens == 7


def test_one_that_was_never_trained_is_known(tmp_path, trained):
    train(DEMO, tmp_path / "fresh", steps=0)
    assert is_untrained(tmp_path / "fresh") and not is_untrained(trained)
    train(DEMO, tmp_path / "head", steps=0, modules_to_save=["lm_head"])
    assert not is_untrained(tmp_path / "head"), "its head may be another one"


def test_a_long_base_and_its_switches_stay(trained):
    model = on_cpu(DEMO, adapter=trained, use_dynamic_ntk=False, window_attn="16")
    assert isinstance(model, PreTrainedModel) and model.long_context.window_attn
    assert model.ntk_alpha(4096) == 1.0 and model.config._name_or_path == str(DEMO)


# -- what does not fit -------------------------------------------------------------------------------------------------


def weights(change: Callable[[dict[str, torch.Tensor]], object]) -> Callable[[Path], object]:
    def edit(folder: Path) -> None:
        found = load_file(folder / "adapter_model.safetensors")
        changed = change(found)
        save_file(changed if isinstance(changed, dict) else found, folder / "adapter_model.safetensors")

    return edit


def replaced(old: str, new: str) -> Callable[[Path], object]:
    return weights(lambda found: {name.replace(old, new): tensor for name, tensor in found.items()})


def write(name: str, content: bytes) -> Callable[[Path], object]:
    return lambda folder: (folder / name).write_bytes(content)


def biased(found: dict[str, torch.Tensor]) -> None:
    """With a bias for each lora_B, also for layers that have none."""
    heads = {name: tensor for name, tensor in found.items() if ".lora_B." in name}
    found.update({name.replace("weight", "bias"): torch.ones(len(tensor)) for name, tensor in heads.items()})


def other_tokens(folder: Path) -> None:
    (folder / "qwen.tiktoken").write_bytes((DEMO / "qwen.tiktoken").read_bytes() + b"eHl6enk= 99999\n")


LORA_A = "base_model.model.transformer.h.0.attn.c_attn.lora_A.weight"
HEAD = "base_model.model.lm_head.weight"
FAULTS = {
    "no weights": (lambda f: (f / "adapter_model.safetensors").unlink(), "without its weights: no adapter_model.safet"),
    "a pointer": (write("adapter_model.safetensors", LFS_POINTER + b"v1\n"), "safetensors: a Git LFS pointer"),
    "cut": (
        lambda f: write("adapter_model.safetensors", (f / "adapter_model.safetensors").read_bytes()[:-9])(f),
        "trunc",
    ),
    "settings that are no JSON": (write("adapter_config.json", b"{"), "adapter_config.json: not readable as JSON"),
    "prompt tuning": (lambda f: settings(f, peft_type="PROMPT_TUNING"), "'PROMPT_TUNING', and only LORA is supported"),
    "IA3": (lambda f: settings(f, peft_type="IA3"), "its peft_type is 'IA3', and only LORA is supported"),
    "no kind": (lambda f: settings(f, peft_type=None), "its peft_type is None, and only LORA is supported"),
    "a classifier": (lambda f: settings(f, task_type="SEQ_CLS"), "trained for SEQ_CLS, not as a causal language model"),
    "other names": (lambda f: settings(f, target_modules=["q_proj"]), "an adapter for another model: Target modules"),
    "other tensors": (replaced("transformer.h.0", "model.layers.0"), "10 tensors have no place in it (base_model."),
    "layers beyond": (replaced("h.1.", "h.9."), "the adapter has 10 layers, the model"),
    "another width": (weights(lambda w: w.update({LORA_A: torch.ones(4, 8)})), "1 weights of a wrong shape"),
    "another rank": (lambda f: settings(f, r=2), "weights of a wrong shape"),
    "a part": (weights(lambda w: w.pop(LORA_A)), "or not all of one: 1 tensors that adapter_config.json asks for are"),
    "nothing in it": (weights(lambda w: {}), "no tensors in it that can be read"),
    "resized": (
        lambda f: (
            settings(f, modules_to_save=["lm_head"]),
            weights(lambda w: w.update({HEAD: torch.ones(9999, load_config(DEMO).hidden_size)}))(f),
        ),
        "trained with 9,999 embeddings, the model has",
    ),
    "other tokens": (other_tokens, "the tokenizer beside the adapter has other tokens than that of"),
    "a setting of a newer PEFT": (lambda f: settings(f, lora_next=2), "lora_next (2): peft 0."),
    "what cannot be merged": (
        lambda f: (settings(f, lora_bias=True), weights(biased)(f)),
        "cannot be merged into the model: Impossible to merge LoRA with `lora_bias=True`",
    ),
    "a chat_format that is none": (write("generation_config.json", b'{"chat_format": 1}'), "chat_format is 1, not"),
}


@pytest.mark.parametrize(("spoil", "said"), FAULTS.values(), ids=FAULTS)
def test_what_does_not_fit_is_one_line(adapter, spoil, said):
    spoil(adapter)
    with pytest.raises(CheckpointError) as error:
        check_checkpoint(DEMO, adapter)
    assert said in str(error.value) and str(adapter) in str(error.value) and "\n" not in str(error.value)


def test_loading_refuses_the_same_by_itself(adapter):
    replaced("transformer.h.0", "model.layers.0")(adapter)
    for load in (lambda: on_cpu(DEMO, adapter=adapter), lambda: on_cpu(adapter)):
        with pytest.raises(CheckpointError, match="an adapter for another model than"):
            load()


def test_values_that_are_no_numbers_are_found(adapter):
    weights(lambda found: found[LORA_A].fill_(float("nan")))(adapter)
    with pytest.raises(
        CheckpointError, match=r"1 tensors have values that are no numbers: .*h\.0\.attn\.c_attn\.lora_A"
    ):
        on_cpu(DEMO, adapter=adapter)


def test_dora_on_packed_layers_is_refused(tmp_path):
    packed_copy(DEMO, tmp_path / "packed")
    train(DEMO, tmp_path / "adapter", use_dora=True)
    with pytest.raises(
        CheckpointError, match="use_dora on packed layers is not supported; train LoRA, or on the float"
    ):
        check_checkpoint(tmp_path / "packed", tmp_path / "adapter")


def test_prompt_tuning_as_peft_saves_it(tmp_path):
    model = get_peft_model(on_cpu(DEMO), PromptTuningConfig(num_virtual_tokens=2, task_type="CAUSAL_LM"))
    model.save_pretrained(tmp_path / "adapter")
    with pytest.raises(CheckpointError, match="peft_type is 'PROMPT_TUNING', and only LORA is supported"):
        check_checkpoint(DEMO, tmp_path / "adapter")


def test_a_base_that_is_none(adapter, tmp_path):
    plain = tmp_path / "folder"
    plain.mkdir()
    for given, said in (
        ((DEMO, plain), "folder: not a PEFT adapter: no adapter_config.json in it"),
        ((DEMO, DEMO), "base: not a PEFT adapter"),
        ((adapter, adapter), "an adapter on an adapter"),
    ):
        with pytest.raises(CheckpointError, match=said):
            base_and_adapter(*given)
    second = shutil.copytree(adapter, tmp_path / "second")
    for named, said in (
        (str(adapter), "an adapter on an adapter: its base model .* is one"),
        (
            "nowhere/at/all",
            r"its base model cannot be found \(nowhere/at/all: no such folder\); give that, and this with",
        ),
        (None, "of some model: it does not say of which; give the base model, and this with --adapter"),
    ):
        settings(second, base_model_name_or_path=named)
        with pytest.raises(CheckpointError, match=said):
            base_and_adapter(second)


def test_a_folder_above_an_adapter_is_told_where_it_is(adapter, tmp_path):
    with pytest.raises(CheckpointError, match=r"a PEFT adapter is in .*adapter: give that folder"):
        check_checkpoint(tmp_path)


def test_without_peft_the_package_is_named(trained, monkeypatch):
    monkeypatch.setitem(sys.modules, "peft", None)
    with pytest.raises(CheckpointError, match=r"adapters want the package peft .*pip install 'qwen-eval\[adapters\]'"):
        check_checkpoint(DEMO, trained)
