"""Checkpoints that the package gptqmodel quantised and packed itself, and its kernels. Heavy: its own environment."""

import json
import os
import shutil
import subprocess
import sys
import types
from pathlib import Path

from qwen_model.gptq import GPTQLinear
from qwen_model.gptq_backends import packed_layers
from qwen_model.loading import CheckpointError, load_model
from tests.qwen_model.gptq_packing import packed_copy

import pytest
import torch
from safetensors.torch import load_file, save_file

ROOT = Path(__file__).parents[2]
SIDE = Path(__file__).with_name("gptqmodel_side.py")
PACKAGES = ("gptqmodel==7.6.*", "tiktoken")
# In the environment with gptqmodel: logits of a checkpoint by the reference and by its kernels, and what it said.
LOGITS = """
import sys, torch
from qwen_model.loading import load_model
ids = torch.arange(40)[None] + 300
with torch.inference_mode():
    exact = load_model(sys.argv[1], "float32", "cpu")(ids).logits
    model = load_model(sys.argv[1], sys.argv[2], "cpu", gptq_backend="gptqmodel")
    found = model(ids).logits.float()
print(float((found - exact).abs().mean() / exact.std()), type(model.transformer.h[0].attn.c_attn).__module__)
"""


@pytest.fixture(scope="session")
def theirs(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The Python of an environment with gptqmodel, which wants other versions than the project."""
    folder = tmp_path_factory.mktemp("gptqmodel") / "venv"
    subprocess.run([sys.executable, "-m", "venv", str(folder)], check=True)
    python = folder / "bin" / "python"
    for packages in (("torch==2.13.0",), PACKAGES):  # torch first and alone
        subprocess.run([str(python), "-m", "pip", "install", "--quiet", *packages], check=True)
    return python


def quantised(theirs: Path, source: Path, out: Path, **settings: object) -> Path:
    command = [str(theirs), str(SIDE), str(source), str(out), json.dumps(settings)]
    subprocess.run(command, check=True, capture_output=True)
    return out


@pytest.mark.heavy
@pytest.mark.parametrize("desc_act", [False, True])
@pytest.mark.parametrize("sym", [True, False])
@pytest.mark.parametrize(("bits", "group_size"), [(4, 32), (4, 128), (8, 32), (8, 128)])
def test_a_model_that_gptqmodel_packed_is_its_dequantised_twin(
    theirs, demo_checkpoint, tmp_path, bits, group_size, sym, desc_act
):
    settings = {"bits": bits, "group_size": group_size, "sym": sym, "desc_act": desc_act}
    folder = quantised(theirs, demo_checkpoint, tmp_path / "packed", **settings)
    model, meant = load_model(folder, "float32", "cpu"), load_file(folder / "dequantised.safetensors")
    ids = torch.arange(40)[None] + 300
    with torch.no_grad():
        packed = model(ids).logits
        for parent, name, layer in list(packed_layers(model)):
            setattr(parent, name, dense(layer, meant[full_name(model, layer)]))
        assert not list(packed_layers(model))
        assert (packed - model(ids).logits).abs().max() <= 1e-4
    assert packed.std() > 0.5


@pytest.mark.heavy
@pytest.mark.parametrize(
    "settings",
    [
        {"bits": 8, "group_size": 32, "sym": True, "desc_act": True},
        {"bits": 4, "group_size": 32, "sym": True, "desc_act": False},
        {"bits": 4, "group_size": 32, "sym": False, "desc_act": True},
    ],
    ids=str,
)
def test_its_kernels_are_near_the_reference(theirs, demo_checkpoint, tmp_path, settings):
    v1 = quantised(theirs, demo_checkpoint, tmp_path / "v1", **settings)
    for folder in (v1, with_v2_zeros(v1, tmp_path / "v2", settings["bits"])):
        ended = logits(theirs, folder, "float16")
        error, module = ended.stdout.split()  # and nothing of gptqmodel's banner
        # 0.002 and 0.01 were measured: products in fp16; the one of Int4 on a CPU rounds more
        assert float(error) < (0.02 if settings["bits"] == 4 else 0.005)
        assert module.startswith("gptqmodel.")


@pytest.mark.heavy
def test_a_kernel_that_fails_or_is_far_off_is_refused_in_one_line(theirs, demo_checkpoint, tmp_path):
    uneven = quantised(theirs, demo_checkpoint, tmp_path / "a", bits=4, group_size=128, sym=True, desc_act=False)
    ended = logits(theirs, uneven, "float16")  # a layer of 352 inputs in groups of 128
    assert ended.returncode == 1 and "expect K to be divisible" in refusal(ended)
    ordered = quantised(theirs, demo_checkpoint, tmp_path / "b", bits=4, group_size=32, sym=False, desc_act=True)
    ended = logits(theirs, ordered, "float32")
    assert ended.returncode == 1 and "% off the exact product" in refusal(ended)


def test_without_gptqmodel_its_backend_is_one_line(demo_checkpoint, tmp_path):
    packed_copy(demo_checkpoint, tmp_path / "packed", bits=4, group=32)
    with pytest.raises(CheckpointError, match=r"--gptq-backend gptqmodel: No module named 'gptqmodel'"):
        load_model(tmp_path / "packed", "float32", "cpu", gptq_backend="gptqmodel")


@pytest.mark.parametrize(
    ("raised", "line"),
    [
        (NotImplementedError(), "--gptq-backend gptqmodel: NotImplementedError"),
        (AssertionError("no such\nsize"), "--gptq-backend gptqmodel: no such"),
    ],
)
def test_whatever_gptqmodel_raises_is_one_line(monkeypatch, demo_checkpoint, tmp_path, raised, line):
    packed_copy(demo_checkpoint, tmp_path / "packed", bits=4, group=32)
    choice_raises(monkeypatch, raised)
    with pytest.raises(CheckpointError) as found:
        load_model(tmp_path / "packed", "float32", "cpu", gptq_backend="gptqmodel")
    assert str(found.value) == f"{tmp_path / 'packed'}: {line}"


def test_memory_that_runs_out_is_no_fault_of_the_checkpoint(monkeypatch, demo_checkpoint, tmp_path):
    packed_copy(demo_checkpoint, tmp_path / "packed", bits=4, group=32)
    choice_raises(monkeypatch, torch.OutOfMemoryError("CUDA out of memory"))
    with pytest.raises(torch.OutOfMemoryError):
        load_model(tmp_path / "packed", "float32", "cpu", gptq_backend="gptqmodel")


def choice_raises(monkeypatch: pytest.MonkeyPatch, raised: Exception) -> None:
    """A gptqmodel whose choice of a kernel raises this."""

    def select(**_: object) -> None:
        raise raised

    for name in ("gptqmodel", "gptqmodel.utils", "gptqmodel.utils.importer"):
        monkeypatch.setitem(sys.modules, name, types.ModuleType(name))
    monkeypatch.setattr(sys.modules["gptqmodel.utils.importer"], "hf_select_quant_linear_v2", select, raising=False)


def refusal(ended: subprocess.CompletedProcess[str]) -> str:
    last = ended.stderr.strip().splitlines()[-1]
    assert "--gptq-backend gptqmodel:" in last
    return last


def with_v2_zeros(folder: Path, out: Path, bits: int) -> Path:
    """A copy whose zeros are stored as they are (`gptq_v2`), and not less one."""
    shutil.copytree(folder, out)
    config = json.loads((out / "config.json").read_text())
    config["quantization_config"]["checkpoint_format"] = "gptq_v2"
    (out / "config.json").write_text(json.dumps(config))
    one_each = torch.tensor(sum(1 << shift for shift in range(0, 32, bits)), dtype=torch.int32)
    tensors = load_file(out / "model.safetensors")
    tensors = {name: value + one_each if name.endswith("qzeros") else value for name, value in tensors.items()}
    save_file(tensors, out / "model.safetensors")
    return out


def logits(theirs: Path, folder: Path, dtype: str) -> subprocess.CompletedProcess[str]:
    env = {**os.environ, "PYTHONPATH": str(ROOT)}
    return subprocess.run([str(theirs), "-c", LOGITS, str(folder), dtype], capture_output=True, text=True, env=env)


def full_name(model: torch.nn.Module, layer: GPTQLinear) -> str:
    return next(f"{name}.weight" for name, module in model.named_modules() if module is layer)


def dense(layer: GPTQLinear, weight: torch.Tensor) -> torch.nn.Linear:
    linear = torch.nn.Linear(layer.in_features, layer.out_features, layer.bias is not None)
    linear.weight.data = weight
    if layer.bias is not None:
        linear.bias.data = layer.bias.float()
    return linear
