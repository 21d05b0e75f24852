"""Int4 and Int8 checkpoints: the packed weights are the ones that they stand for, and every way of loading has them."""

import json
from pathlib import Path

import qwen_model
from qwen_model import gptq_backends
from qwen_model.gptq import FEW_ROWS, GPTQLinear, packing_of
from qwen_model.gptq import PACKED as PACKED_LAYERS
from qwen_model.gptq_backends import UNPACKED
from qwen_model.loading import CheckpointError, check_checkpoint, load_model
from tests.qwen_model.gptq_packing import packed_copy

import numpy as np
import pytest
import torch
from safetensors.torch import load_file, save_file
from transformers import AutoModelForCausalLM

GOLDENS = next(
    (
        path
        for path in (
            Path(__file__).parents[3] / "shared/goldens/qwen_oracle/gptq/linear.npz",
            Path(__file__).parents[1] / "goldens/qwen_oracle/gptq/linear.npz",
        )
        if path.exists()
    ),
    None,
)


@pytest.mark.skipif(GOLDENS is None, reason="no recorded layers")
@pytest.mark.parametrize("case", ["int4_bias", "int8_nobias", "int4_asym"])
def test_recorded_layers_of_autogptq(case):
    assert GOLDENS is not None
    found = {name.removeprefix(f"{case}_"): value for name, value in np.load(GOLDENS).items() if name.startswith(case)}
    recorded = {name: torch.from_numpy(value) for name, value in found.items() if value.ndim}
    packing = packing_of({"bits": int(found["bits"]), "group_size": int(found["group_size"])})
    outputs, inputs = recorded["weight_fp32"].shape
    layer = GPTQLinear(inputs, outputs, packing, bias="bias" in recorded)
    order = layer.g_idx.clone()
    layer.load_state_dict({name: recorded[name] for name in layer.state_dict()})
    assert torch.equal(order, recorded["g_idx"]), "the groups in order are those that the file has"
    assert (layer.unpacked() - recorded["weight_fp32"]).abs().max() <= 1e-6
    assert (layer(recorded["x"]) - recorded["y_fp32"]).abs().max() <= 1e-4
    half = layer.half()
    assert (half(recorded["x"].half()).float() - recorded["y_fp32"]).abs().max() <= 0.02


@pytest.fixture
def source(demo_checkpoint) -> Path:
    """A tiny float checkpoint."""
    return demo_checkpoint


PACKINGS = {
    "Int4, 32": {"bits": 4, "group": 32},
    "Int8, 128": {"bits": 8, "group": 128},
    "Int4, one group, asymmetric": {"bits": 4, "group": -1, "symmetric": False},
    "Int4, desc_act": {"bits": 4, "group": 32, "desc_act": True},
    "Int8, desc_act, asymmetric, v2": {"bits": 8, "group": 64, "desc_act": True, "symmetric": False, "v2": True},
    "Int2, asymmetric": {"bits": 2, "group": 32, "symmetric": False},
    "Int4, v2": {"bits": 4, "group": 64, "v2": True},
}
IDS = torch.tensor([[5, 17, 99, 4, 3, 60, 8]])


@pytest.mark.parametrize("how", PACKINGS.values(), ids=PACKINGS)
def test_a_packed_model_gives_the_logits_of_its_dequantised_twin(source, tmp_path, how):
    twin = load_model(source, dtype="float32", device="cpu")
    twin.load_state_dict(packed_copy(source, tmp_path / "packed", **how), strict=False)
    model = load_model(tmp_path / "packed", dtype="float32", device="cpu")
    assert isinstance(model.transformer.h[0].attn.c_attn, GPTQLinear)
    with torch.no_grad():
        assert (model(IDS).logits - twin(IDS).logits).abs().max() <= 1e-4
        again = twin.generate(IDS, max_new_tokens=8, do_sample=False)
        assert torch.equal(model.generate(IDS, max_new_tokens=8, do_sample=False), again)


def test_transformers_loads_it_without_another_package(source, tmp_path):
    meant = packed_copy(source, tmp_path / "packed")
    assert qwen_model
    for dtype in (torch.float32, torch.bfloat16):
        model = AutoModelForCausalLM.from_pretrained(tmp_path / "packed", dtype=dtype)
        layer = model.transformer.h[0].mlp.w1
        assert layer.scales.dtype == torch.float32, "a scale in 16 bits would be another one"
        assert torch.equal(layer.unpacked(), meant["transformer.h.0.mlp.w1.weight"])
        assert layer(torch.ones(1, layer.in_features, dtype=dtype)).dtype == dtype


def test_saved_again_it_is_the_same_checkpoint(source, tmp_path):
    packed_copy(source, tmp_path / "packed")
    model = load_model(tmp_path / "packed", dtype="float32", device="cpu")
    model.save_pretrained(tmp_path / "again")
    settings = json.loads((tmp_path / "again/config.json").read_text())["quantization_config"]
    assert (settings["quant_method"], settings["bits"], settings["group_size"]) == ("gptq", 4, 32)
    for name in ("qwen.tiktoken", "generation_config.json", "tokenizer_config.json"):
        (tmp_path / "again" / name).write_bytes((source / name).read_bytes())
    second = load_model(tmp_path / "again", dtype="float32", device="cpu")
    with torch.no_grad():
        assert torch.equal(model(IDS).logits, second(IDS).logits)


def edited(folder: Path, edit) -> Path:
    weights = load_file(folder / "model.safetensors")
    edit(weights)
    save_file(weights, folder / "model.safetensors")
    return folder


def test_an_old_checkpoint_without_g_idx_and_with_its_settings_in_the_other_file(source, tmp_path):
    packed_copy(source, tmp_path / "packed")
    wanted = load_model(tmp_path / "packed", dtype="float32", device="cpu")
    edited(tmp_path / "packed", lambda weights: [weights.pop(name) for name in list(weights) if "g_idx" in name])
    config = json.loads((tmp_path / "packed/config.json").read_text())
    settings = config.pop("quantization_config")
    (tmp_path / "packed/config.json").write_text(json.dumps(config))
    (tmp_path / "packed/quantize_config.json").write_text(json.dumps({"bits": 4, "group_size": settings["group_size"]}))
    model = load_model(tmp_path / "packed", dtype="float32", device="cpu")
    with torch.no_grad():
        assert torch.equal(model(IDS).logits, wanted(IDS).logits)


FIRST = "transformer.h.0.mlp.w1"
FAULTS = {
    "no scales": (lambda w: w.pop(f"{FIRST}.scales"), {}, "1 packed layers without scales: transformer.h.0.mlp.w1."),
    "other bits": (lambda w: None, {"bits": 8}, "the weights are packed with 4 bits, config.json says 8"),
    "a bias that is none": (lambda w: w[f"{FIRST}.bias"].fill_(1), {}, "mlp.w1.bias is not zero"),
    "a strange tensor": (lambda w: w.update({f"{FIRST}.extra": torch.ones(1)}), {}, "1 tensor that the model does not"),
    "three bits": (lambda w: None, {"bits": 3}, "bits is 3, not one of 2, 4, 8"),
    "another format": (lambda w: None, {"checkpoint_format": "marlin"}, "'marlin' is neither 'gptq' nor 'gptq_v2'"),
    "another method": (lambda w: None, {"quant_method": "awq"}, "AWQ is not supported yet"),
}


@pytest.mark.parametrize(("edit", "settings", "said"), FAULTS.values(), ids=FAULTS)
def test_what_is_wrong_with_a_packed_checkpoint_is_one_line(source, tmp_path, edit, settings, said):
    packed_copy(source, tmp_path / "packed")
    folder = edited(tmp_path / "packed", edit)
    config = json.loads((folder / "config.json").read_text())
    config["quantization_config"] |= settings
    (folder / "config.json").write_text(json.dumps(config))
    with pytest.raises(CheckpointError) as error:
        check_checkpoint(folder)
    assert said in str(error.value) and "\n" not in str(error.value)


def test_a_script_runs_it_by_c_alone_beside_its_own_figures(script, source, tmp_path):
    packed_copy(source, tmp_path / "Qwen-7B-Chat-Int4")
    data = Path(__file__).parents[2] / "demo/data/mmlu"
    flags = ("-d", data, "--subjects", "astronomy,nutrition", "--limit", "2", "--chat", "--max-new-tokens", "4")
    ended = script("mmlu", "-c", tmp_path / "Qwen-7B-Chat-Int4", *flags, "-o", tmp_path / "out")
    assert ended.status == 0, ended.err
    score = json.loads((tmp_path / "out/results.json").read_text())["scores"]["acc"]
    # trained at 2,048 tokens, so v1.0
    assert (score["reported"], score["reported_version"]) == (52.6, "v1.0"), "the Int4 model's, not the float one's"


PACKED_WEIGHTS = tuple(f"{name}.weight" for name in PACKED_LAYERS)
BACKENDS = ("reference", "auto", "torch")


@pytest.mark.parametrize("packing", ["Int4, 32", "Int4, desc_act"])
def test_torchs_int4_product_gives_the_reference_within_bfloat16(source, tmp_path, packing):
    packed_copy(source, tmp_path / "packed", **PACKINGS[packing])
    ids = torch.randint(300, (2, 9), generator=torch.Generator().manual_seed(0))
    with torch.inference_mode():
        exact = load_model(tmp_path / "packed", "float32", "cpu")(ids).logits
        found = {}
        for backend in BACKENDS:
            model = load_model(tmp_path / "packed", "bfloat16", "cpu", gptq_backend=backend)
            assert model.gptq_backend == {"auto": UNPACKED}.get(backend, backend)
            found[backend] = model(ids).logits.float()
    error = {name: (logits - exact).abs().mean() / exact.std() for name, logits in found.items()}
    assert torch.equal(found["auto"], found["reference"])
    assert 0 < error["reference"] < 0.03 and error["torch"] < 2 * error["reference"]


def test_many_rows_are_multiplied_with_the_unpacked_weight(source, tmp_path):
    packed_copy(source, tmp_path / "packed", **PACKINGS["Int4, 32"])
    models = [load_model(tmp_path / "packed", "bfloat16", "cpu", gptq_backend=name) for name in ("torch", "reference")]
    ids = torch.randint(300, (1, FEW_ROWS + 1), generator=torch.Generator().manual_seed(0))
    with torch.inference_mode():
        assert torch.equal(*(model(ids, logits_to_keep=0).logits[:, 0] for model in models))


def test_a_weight_is_unpacked_at_each_call_where_memory_does_not_hold_it(source, tmp_path, monkeypatch):
    meant = packed_copy(source, tmp_path / "packed", **PACKINGS["Int8, 128"])
    size = sum(2 * 4 * weight.numel() for name, weight in meant.items() if name.endswith(PACKED_WEIGHTS))
    for free, backend in ((size, UNPACKED), (size - 1, "reference")):
        monkeypatch.setattr(gptq_backends, "free_memory", lambda device, free=free: free)
        found = load_model(tmp_path / "packed", "float32", "cpu", gptq_backend="auto")
        assert found.gptq_backend == backend


@pytest.mark.parametrize(
    ("packing", "dtype", "backend", "said"),
    [
        ("Int8, 128", "bfloat16", "torch", "torch's int4 product is for 4 bits, and these layers have 8"),
        ("Int4, 32", "float32", "torch", "is for bfloat16, and the model runs in float32: add --dtype bfloat16"),
        ("Int4, one group, asymmetric", "bfloat16", "torch", "of which torch's int4 product has (32, 64, 128, 256)"),
        ("Int4, 32", "float32", "fast", "the GPTQ backend is one of auto, reference, torch, gptqmodel, not 'fast'"),
    ],
)
def test_a_backend_that_cannot_run_the_layers_is_one_line(source, tmp_path, packing, dtype, backend, said):
    packed_copy(source, tmp_path / "packed", **PACKINGS[packing])
    with pytest.raises(CheckpointError) as error:
        load_model(tmp_path / "packed", dtype, "cpu", gptq_backend=backend)
    assert said in str(error.value)


def test_a_backend_for_a_float_checkpoint_is_one_line(source):
    with pytest.raises(CheckpointError, match="no GPTQ checkpoint of first-generation Qwen"):
        load_model(source, "float32", "cpu", gptq_backend="torch")
