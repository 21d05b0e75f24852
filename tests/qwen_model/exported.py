"""What the tests of the export share: checkpoints that differ in a setting, and what an export holds."""

import json
import shutil
from pathlib import Path

from qwen_model.export import export
from qwen_model.gptq import GPTQLinear, packing_of
from qwen_model.loading import CheckpointError, load_model

import pytest
import torch
from safetensors.torch import load_file
from transformers import AutoConfig, Qwen2ForCausalLM

ROOT = Path(__file__).resolve().parents[2]
DEMO = ROOT / "demo/checkpoint"


def edited(source: Path, target: Path, **changes) -> Path:
    """A copy of a checkpoint with other settings in its config.json; None removes one."""
    shutil.copytree(source, target)
    content = json.loads((target / "config.json").read_text()) | changes
    content = {name: value for name, value in content.items() if value is not None}
    (target / "config.json").write_text(json.dumps(content))
    return target


def settings_of(folder: Path, name: str = "config.json") -> dict:
    return json.loads((folder / name).read_text())


def tensors_of(folder: Path) -> dict[str, torch.Tensor]:
    return {name: tensor for path in sorted(folder.glob("*.safetensors")) for name, tensor in load_file(path).items()}


def logits_of(model, length: int) -> torch.Tensor:
    tokens = torch.randint(0, 1500, (1, length), generator=torch.Generator().manual_seed(length))
    with torch.no_grad():
        return model(tokens).logits


def same_logits(source: Path, exported) -> None:
    ours = load_model(source, dtype="float32", device="cpu")
    for length in (1, 20, ours.config.training_length()):
        assert (logits_of(ours, length) - logits_of(exported, length)).abs().max() <= 1e-5


def packed_qwen2(folder: Path) -> Qwen2ForCausalLM:
    """The exported folder as transformers' Qwen2 whose packed layers are ours; every tensor of it is used."""
    config = AutoConfig.from_pretrained(folder)
    packing = packing_of(config.quantization_config)
    del config.quantization_config
    model, weights = Qwen2ForCausalLM(config).eval(), tensors_of(folder)
    for stem in {name.removesuffix(".qweight") for name in weights if name.endswith(".qweight")}:
        layer, (parent, _, last) = model.get_submodule(stem), stem.rpartition(".")
        packed = GPTQLinear(layer.in_features, layer.out_features, packing, bias=layer.bias is not None)
        setattr(model.get_submodule(parent), last, packed)
    model.load_state_dict({name: t.float() if t.is_floating_point() else t for name, t in weights.items()})
    return model


def refused(*arguments, **options) -> str:
    with pytest.raises(CheckpointError) as error:
        export(*arguments, **options)
    assert "\n" not in str(error.value)
    return str(error.value)
