"""Packed layers run by the kernels of the package gptqmodel (7.6), which chooses one by device, bits and dtype.

An option, never chosen by itself. Its kernels differ in what they take and in how exact they are, and not all of them
say so: each layer's product is compared with the reference before it is used.
"""

from __future__ import annotations

import contextlib
import io
from typing import Any

import torch
from torch import nn

from .gptq import GPTQLinear

FAR = 0.02  # of the product's size: 16-bit kernels stay ten times below


def use_gptqmodel(layers: list[tuple[nn.Module, str, GPTQLinear]], dtype: torch.dtype) -> None:
    """Put a layer of gptqmodel in the place of each packed layer; (what it is in, its name there, itself) each. Empties
    the list as it goes, so that no more than one layer is in memory twice.

    Raises:
        ValueError: the package is not there, has no kernel for these layers, or one that is not near the reference.
            Some layers may have been replaced by then.
        torch.OutOfMemoryError: the kernels' own layout does not fit.
    """
    try:
        with contextlib.redirect_stdout(io.StringIO()):  # its banner and log, among a script's tables
            _replace(layers, dtype)
    except torch.OutOfMemoryError:
        raise
    except ImportError as error:
        raise ValueError(f"--gptq-backend gptqmodel: {_line(error)} (pip install gptqmodel)") from error
    except Exception as error:  # another package's code, whatever it raises
        raise ValueError(f"--gptq-backend gptqmodel: {_line(error)}") from error


def _line(error: Exception) -> str:
    """What an error says, in one line; its name where it says nothing."""
    return (str(error).strip() or type(error).__name__).splitlines()[0]


def _replace(layers: list[tuple[nn.Module, str, GPTQLinear]], dtype: torch.dtype) -> None:
    from gptqmodel.utils.importer import hf_select_quant_linear_v2  # type: ignore[import-not-found,unused-ignore]

    first = layers[0][2]
    how: dict[str, Any] = {
        "bits": first.packing.bits,
        "group_size": first.packing.group_size,
        "desc_act": any(not _in_order(layer) for _, _, layer in layers),
        "sym": all(bool((layer.values()[1] == 2 ** (layer.packing.bits - 1)).all()) for _, _, layer in layers),
        "format": "gptq" if first.packing.zero_offset else "gptq_v2",
    }
    kernel = hf_select_quant_linear_v2(
        **how, quant_method="gptq", dtype=dtype, pack=False, device_map={"": first.scales.device}, backend="auto"
    )
    del first
    while layers:
        parent, name, layer = layers.pop()
        theirs = _of_gptqmodel(kernel, layer, how, dtype)
        _compare(name, layer, theirs, dtype)
        setattr(parent, name, theirs)


def _in_order(layer: GPTQLinear) -> bool:
    return bool((layer.g_idx[1:] >= layer.g_idx[:-1]).all())


def _of_gptqmodel(kernel: Any, layer: GPTQLinear, how: dict[str, Any], dtype: torch.dtype) -> Any:
    """One layer. Some kernels want the zeros as they are (v2), others less one (v1)."""
    from gptqmodel.utils.model import (  # type: ignore[import-not-found,unused-ignore]
        convert_gptq_v1_to_v2_format_module,
    )

    sizes = {"in_features": layer.in_features, "out_features": layer.out_features}
    made = kernel(**how, **sizes, bias=layer.bias is not None, pack_dtype=torch.int32)
    made.qweight, made.qzeros, made.g_idx = layer.qweight.clone(), layer.qzeros.clone(), layer.g_idx.clone()
    made.scales = layer.scales.to(dtype)
    if layer.bias is not None:
        made.bias = layer.bias.detach().to(dtype).clone()
    if layer.packing.zero_offset and getattr(kernel, "REQUIRES_FORMAT_V2", False):
        convert_gptq_v1_to_v2_format_module(made, layer.packing.bits, torch.int32)
    made = made.to(layer.qweight.device).eval()
    made.post_init()
    return made


@torch.inference_mode()
def _compare(name: str, layer: GPTQLinear, theirs: Any, dtype: torch.dtype) -> None:
    """ValueError where gptqmodel's product of two rows is far from the exact one."""
    generator = torch.Generator().manual_seed(0)
    x = torch.randn(2, layer.in_features, generator=generator).to(layer.scales.device, dtype)
    wanted = layer(x.float())
    off = float((theirs(x).float() - wanted).norm() / wanted.norm().clamp(min=1e-9))
    if not off < FAR:
        raise ValueError(f"{name}: {type(theirs).__name__} is {off:.1%} off the exact product")
