"""Runs in an environment of its own, where gptqmodel is installed: quantises the linear layers of a checkpoint with it.

    python gptqmodel_side.py FLOAT_FOLDER OUT_FOLDER '{"bits": 4, "group_size": 32, "desc_act": false, "sym": true}'

Each layer by gptqmodel's GPTQ class on random inputs, packed by its own layer. OUT gets `model.safetensors` in the
published layout, config.json, and `dequantised.safetensors`: the weights that gptqmodel's layer says it stands for.
"""

import json
import shutil
import sys
from pathlib import Path

import torch
from gptqmodel.nn_modules.qlinear.torch import TorchLinear
from gptqmodel.quantization import QuantizeConfig
from gptqmodel.quantization.gptq import GPTQ
from gptqmodel.utils.model import convert_gptq_v2_to_v1_format_module
from safetensors.torch import load_file, save_file
from torch import nn

LAYERS = ("attn.c_attn", "attn.c_proj", "mlp.w1", "mlp.w2", "mlp.c_proj")


def quantised(weight: torch.Tensor, bias: torch.Tensor, settings: dict) -> tuple[dict[str, torch.Tensor], torch.Tensor]:
    """The packed tensors of a layer, and the weight that they stand for."""
    config = QuantizeConfig(**settings)
    linear = nn.Linear(weight.shape[1], weight.shape[0])
    linear.weight.data, linear.bias.data = weight.clone(), bias.clone()
    gptq = GPTQ(linear, config)
    gptq.quantizer.configure(perchannel=True)
    inputs = torch.randn(4, 64, weight.shape[1], generator=torch.Generator().manual_seed(0))
    for batch in inputs:
        gptq.add_batch(batch[None], linear(batch)[None])
    values, scales, zeros, g_idx, *_ = gptq.quantize()
    linear.weight.data = values.to(linear.weight.dtype)
    layer = TorchLinear(
        in_features=weight.shape[1], out_features=weight.shape[0], bias=True, register_buffers=False, **settings
    )
    layer.pack_original(linear, scales.cpu(), zeros.cpu(), g_idx.cpu().to(torch.int32))
    layer.eval().post_init()
    stored, layer.scales = layer.scales, layer.scales.float()  # its product is then not rounded to fp16
    meant = layer.dequantize_weight().t().float().contiguous().clone()
    layer.scales = stored
    convert_gptq_v2_to_v1_format_module(layer, config)
    names = ("qweight", "qzeros", "scales", "g_idx", "bias")
    return {name: getattr(layer, name).detach().clone().contiguous() for name in names}, meant


def main(source: Path, out: Path, settings: dict) -> None:
    shutil.copytree(source, out)
    found, meant = {}, {}
    weights = load_file(source / "model.safetensors")
    for name, tensor in weights.items():
        stem = name.removesuffix(".weight")
        if stem.endswith(LAYERS) and name.endswith(".weight"):
            bias = weights.get(f"{stem}.bias", torch.zeros(len(tensor)))
            tensors, meant[name] = quantised(tensor.float(), bias.float(), settings)
            found |= {f"{stem}.{part}": value for part, value in tensors.items()}
        elif name not in found:
            found[name] = tensor.half()
    save_file(found, out / "model.safetensors")
    save_file(meant, out / "dequantised.safetensors")
    config = json.loads((source / "config.json").read_text())
    quantization = {"quant_method": "gptq", "checkpoint_format": "gptq", **settings}
    (out / "config.json").write_text(json.dumps({**config, "quantization_config": quantization}))


if __name__ == "__main__":
    main(Path(sys.argv[1]), Path(sys.argv[2]), json.loads(sys.argv[3]))
