"""Checkpoints packed as AutoGPTQ packs them, made of float ones by rounding: enough for a format."""

import json
import shutil
from pathlib import Path

import torch
from safetensors.torch import load_file, save_file

LAYERS = ("attn.c_attn", "attn.c_proj", "mlp.w1", "mlp.w2", "mlp.c_proj")


def pack(values: torch.Tensor, bits: int) -> torch.Tensor:
    """Whole numbers [K, N] -> int32 words [K * bits / 32, N], lowest bits first."""
    words = values.view(-1, 32 // bits, values.shape[1]).long()
    shifts = torch.arange(0, 32, bits)[None, :, None]
    total = (words << shifts).sum(1)
    return torch.where(total >= 2**31, total - 2**32, total).to(torch.int32)


def quantise(weight: torch.Tensor, bits: int, group: int, symmetric: bool, order: torch.Tensor) -> dict:
    """A float weight [N, K] as tensors of a packed layer, and `dequantised`, the weight that they stand for."""
    outputs, inputs = weight.shape
    size = inputs if group == -1 else group
    g_idx = torch.empty(inputs, dtype=torch.int32)
    g_idx[order] = torch.arange(inputs, dtype=torch.int32) // size
    count = int(g_idx.max()) + 1
    largest = 2**bits - 1
    scales, zeros = torch.empty(count, outputs), torch.empty(count, outputs)
    for number in range(count):
        part = weight[:, g_idx == number]
        low, high = part.amin(1).clamp(max=0), part.amax(1).clamp(min=0)
        if symmetric:
            scales[number] = torch.maximum(-low, high) * 2 / largest
            zeros[number] = 2 ** (bits - 1)
        else:
            scales[number] = (high - low) / largest
            zeros[number] = (-low / scales[number].clamp(min=1e-8)).round().clamp(1, largest)
    scales = scales.clamp(min=1e-6).half()
    of = g_idx.long()
    values = (weight.t() / scales.float()[of] + zeros[of]).round().clamp(0, largest)
    return {
        "values": values,
        "zeros": zeros,
        "scales": scales,
        "g_idx": g_idx,
        "dequantised": (scales.float()[of] * (values - zeros[of])).t(),
    }


def packed_copy(
    source: Path,
    target: Path,
    bits: int = 4,
    group: int = 32,
    symmetric: bool = True,
    desc_act: bool = False,
    v2: bool = False,
) -> dict[str, torch.Tensor]:
    """Write a packed copy of a float checkpoint; returns the float weights that it stands for."""
    shutil.copytree(source, target)
    weights, meant = load_file(source / "model.safetensors"), {}
    found: dict[str, torch.Tensor] = {}
    drawn = torch.Generator().manual_seed(0)
    for name, tensor in weights.items():
        stem = name.removesuffix(".weight")
        if not stem.endswith(LAYERS) or not name.endswith(".weight"):
            meant[name] = found[name] = tensor.half().float()
            continue
        inputs = tensor.shape[1]
        order = torch.randperm(inputs, generator=drawn) if desc_act else torch.arange(inputs)
        made = quantise(tensor.float(), bits, group, symmetric, order)
        stored = made["zeros"] - (0 if v2 else 1)
        found[f"{stem}.qweight"] = pack(made["values"], bits)
        found[f"{stem}.qzeros"] = pack(stored.t(), bits).t().contiguous()
        found[f"{stem}.scales"], found[f"{stem}.g_idx"] = made["scales"], made["g_idx"]
        if f"{stem}.bias" not in weights:
            found[f"{stem}.bias"] = torch.zeros(tensor.shape[0]).half()  # as AutoGPTQ writes it
        meant[name] = made["dequantised"]
    save_file({name: tensor.contiguous() for name, tensor in found.items()}, target / "model.safetensors")
    config = json.loads((source / "config.json").read_text())
    config["quantization_config"] = {
        "quant_method": "gptq",
        "bits": bits,
        "group_size": group,
        "desc_act": desc_act,
        "sym": symmetric,
        **({"checkpoint_format": "gptq_v2"} if v2 else {}),
    }
    (target / "config.json").write_text(json.dumps(config))
    return meant
