"""The memory that an export takes: a 72B model must go through a machine that holds one of its shards."""

import json
import os
import shutil
import subprocess
import sys
from pathlib import Path

from tests.qwen_model.exported import DEMO, ROOT

import pytest
import torch
from safetensors.torch import save_file

SHARDS, LAYERS, HIDDEN, WIDTH, VOCAB = 8, 3, 1024, 2816, 2048  # LAYERS: per shard

# The high-water mark of the process's resident memory is set back before the export. It counts the pages of mapped
# files too, though the system may take these back at any time.
MEASURE = """
import sys
from qwen_model.export import export

def status(name):
    return next(int(line.split()[1]) for line in open("/proc/self/status") if line.startswith(name)) * 1024

demo, source, out = sys.argv[1:]
export(demo, out + "-small", drop_long_context=True)  # whatever is imported and set up once
open("/proc/self/clear_refs", "w").write("5")
before = status("VmRSS")
export(source, out, drop_long_context=True)
print(status("VmHWM") - before)
"""


def random_words(*shape: int) -> torch.Tensor:
    return torch.randint(-(2**31), 2**31, shape).to(torch.int32)


def layer(outputs: int, inputs: int, packed: bool) -> dict[str, torch.Tensor]:
    if not packed:
        return {"weight": torch.rand(outputs, inputs).bfloat16()}
    groups = inputs // 128
    return {
        "qweight": random_words(inputs // 8, outputs),
        "qzeros": random_words(groups, outputs // 8),
        "scales": torch.rand(groups, outputs).half(),
        "g_idx": torch.arange(inputs, dtype=torch.int32) // 128,
    }


def block(number: int, packed: bool) -> dict[str, torch.Tensor]:
    linear = {
        **{"attn.c_attn": (3 * HIDDEN, HIDDEN), "attn.c_proj": (HIDDEN, HIDDEN)},
        **{"mlp.w1": (WIDTH, HIDDEN), "mlp.w2": (WIDTH, HIDDEN), "mlp.c_proj": (HIDDEN, WIDTH)},
    }
    parts = {f"{name}.{kind}": t for name, shape in linear.items() for kind, t in layer(*shape, packed).items()}
    parts |= {f"{name}.weight": torch.ones(HIDDEN).bfloat16() for name in ("ln_1", "ln_2")}
    parts["attn.c_attn.bias"] = torch.rand(3 * HIDDEN).bfloat16()
    return {f"transformer.h.{number}.{name}": tensor for name, tensor in parts.items()}


def checkpoint(folder: Path, form: str, packed: bool) -> list[Path]:
    """A checkpoint of eight shards of equal size; the paths of its shards."""
    repeats = 4 if packed else 1  # packed layers are smaller
    shutil.copytree(DEMO / "base", folder)
    (folder / "model.safetensors").unlink()
    sizes = {"hidden_size": HIDDEN, "kv_channels": 128, "num_attention_heads": HIDDEN // 128, "vocab_size": VOCAB}
    sizes |= {"intermediate_size": 2 * WIDTH, "num_hidden_layers": SHARDS * LAYERS * repeats}
    settings = json.loads((folder / "config.json").read_text()) | sizes
    if packed:
        settings["quantization_config"] = {"quant_method": "gptq", "bits": 4, "group_size": 128}
    (folder / "config.json").write_text(json.dumps(settings))
    stem = "model" if form == "safetensors" else "pytorch_model"
    weight_map, paths = {}, []
    for shard in range(SHARDS):
        tensors: dict[str, torch.Tensor] = {}
        for number in range(shard * LAYERS * repeats, (shard + 1) * LAYERS * repeats):
            tensors |= block(number, packed)
        if shard == 0:
            tensors |= {
                name: torch.rand(VOCAB, HIDDEN).bfloat16() for name in ("transformer.wte.weight", "lm_head.weight")
            }
            tensors["transformer.ln_f.weight"] = torch.ones(HIDDEN).bfloat16()
        path = folder / f"{stem}-{shard + 1:05}-of-{SHARDS:05}.{form}"
        save_file(tensors, path) if form == "safetensors" else torch.save(tensors, path)
        weight_map |= dict.fromkeys(tensors, path.name)
        paths.append(path)
    (folder / f"{stem}.{form}.index.json").write_text(json.dumps({"weight_map": weight_map}))
    return paths


@pytest.mark.heavy
@pytest.mark.skipif(sys.platform != "linux", reason="reads /proc")
@pytest.mark.parametrize(("form", "packed"), [("safetensors", False), ("bin", False), ("safetensors", True)])
def test_an_export_of_eight_shards_takes_less_than_one_and_a_half(tmp_path, form, packed):
    shard = max(path.stat().st_size for path in checkpoint(tmp_path / "in", form, packed))
    assert shard > 60e6
    done = subprocess.run(
        [sys.executable, "-c", MEASURE, str(DEMO / "base"), str(tmp_path / "in"), str(tmp_path / "out")],
        capture_output=True,
        text=True,
        env=os.environ | {"PYTHONPATH": str(ROOT), "OMP_NUM_THREADS": "1"},
        timeout=500,
    )
    assert done.returncode == 0, done.stderr
    assert len(list((tmp_path / "out").glob("*.safetensors"))) == SHARDS
    peak = int(done.stdout)
    print(f"{form}, {'Int4' if packed else 'bf16'}: {peak / shard:.2f} shards")
    assert peak < 1.5 * shard
