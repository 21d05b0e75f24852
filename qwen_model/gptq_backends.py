"""How the packed layers of a GPTQ checkpoint are run, once they are loaded (`--gptq-backend`).

* `reference`: a layer unpacks its weight at each call (gptq.py). Exact, in any dtype; slow.
* `torch`: torch's own int4 product for a few rows (`_weight_int4pack_mm`, and `_weight_int4pack_mm_for_cpu`): it reads
  a quarter of what bf16 weights take. In bf16 only, 4 bits, groups of 32, 64, 128 or 256; scales are rounded to bf16.
  Other packings and dtypes, on a GPU with Triton: a product of a single row that torch.compile makes, exact. More rows
  are multiplied with the unpacked weight.
* `gptqmodel`: the kernels of that package, where it is installed; it chooses by device and dtype.
* `auto`: each weight is unpacked once, where half of the free memory holds them, else `reference`: the same numbers, at
  the speed of a float model.
"""

from __future__ import annotations

import importlib.util
from collections.abc import Iterator
from typing import Any

import torch
from torch import nn

from .devices import free_memory
from .fused import can_fuse, compiled
from .gptq import FEW_ROWS, GPTQLinear, packing_of

BACKENDS = ("auto", "reference", "torch", "gptqmodel")
UNPACKED, COMPILED = "unpacked once", "torch, compiled"
GROUPS = (32, 64, 128, 256)  # of torch's int4 product


Packed = tuple[nn.Module, str, GPTQLinear]  # what the layer is in, its name there, and itself


class Int4Product:
    """torch's int4 product of one layer: x bf16 [M, K] -> [M, N].

    The kernel's weight is (q - 8) * scale + zero with 4-bit q, so zero is (8 - z) * scale. Inputs are put in the order
    of their groups (desc_act).
    """

    most_rows = FEW_ROWS

    def __init__(self, layer: GPTQLinear) -> None:
        """Raises ValueError, without the layer's name, where the kernel does not take the layer."""
        self.size, self.is_cpu = layer.packing.group_size, layer.scales.device.type == "cpu"
        if self.size == -1:
            self.size = layer.in_features
        order = torch.argsort(layer.g_idx, stable=True)
        groups = torch.bincount(layer.g_idx.long(), minlength=len(layer.scales))
        if self.size not in GROUPS or bool((groups != self.size).any()):
            raise ValueError(
                f"groups of {self.size} inputs, of which torch's int4 product has {GROUPS} and no uneven ones"
            )
        in_order = bool((order == torch.arange(len(order), device=order.device)).all())
        self.order = None if in_order else order
        values, zeros = layer.values()
        scales = layer.scales.float()
        self.scales_and_zeros = torch.stack((scales, (8 - zeros) * scales), dim=-1).to(torch.bfloat16).contiguous()
        self.weight = self._packed(values[order].t().contiguous())

    def _packed(self, values: torch.Tensor) -> torch.Tensor:
        """values: int32 [N, K], 0 to 15."""
        ops, inputs = torch.ops.aten, values.shape[1]
        if self.is_cpu:
            return ops._convert_weight_to_int4pack_for_cpu(values, 1)  # type: ignore[no-any-return]
        tiles = next((tiles for tiles in (8, 4, 2) if inputs % (16 * tiles) == 0), None)
        if tiles is None or values.shape[0] % 8:
            raise ValueError(f"{inputs} x {values.shape[0]} weights, which torch's int4 product does not tile")
        pairs = (values[:, ::2] << 4 | values[:, 1::2]).to(torch.uint8)
        return ops._convert_weight_to_int4pack(pairs, tiles)  # type: ignore[no-any-return]

    @property
    def nbytes(self) -> int:
        """Bytes that a product reads of the weight."""
        return self.weight.nbytes + self.scales_and_zeros.nbytes

    def __call__(self, x: torch.Tensor) -> torch.Tensor:
        rows = x.reshape(-1, x.shape[-1])
        if self.order is not None:
            rows = rows[:, self.order]
        product = torch.ops.aten._weight_int4pack_mm_for_cpu if self.is_cpu else torch.ops.aten._weight_int4pack_mm
        out: torch.Tensor = product(rows.contiguous(), self.weight, self.size, self.scales_and_zeros)
        return out.view(*x.shape[:-1], -1)


def single_row(
    x: torch.Tensor, qweight: torch.Tensor, zeros: torch.Tensor, scales: torch.Tensor, bits: int
) -> torch.Tensor:
    """One row times a packed weight whose groups are in order: x [K], qweight int32 [K / p, N], zeros int32 and scales
    fp32 [G, N] -> fp32 [N]. Compiled it is one kernel, which reads the packed words."""
    groups, outputs = scales.shape
    shifts = torch.arange(0, 32, bits, dtype=torch.int32, device=x.device)
    words = qweight.view(groups, -1, 1, outputs)
    values = (words >> shifts[None, None, :, None]) & ((1 << bits) - 1)
    weight = (values - zeros[:, None, None, :]).float() * scales[:, None, None, :]
    return (x.float().view(groups, -1, len(shifts), 1) * weight).sum((0, 1, 2))


class CompiledProduct:
    """`single_row` of one layer, compiled for all layers of a shape."""

    most_rows = 1
    function: Any = None

    def __init__(self, layer: GPTQLinear) -> None:
        """Raises ValueError where the groups are not in order, or uneven."""
        size = layer.in_features if layer.packing.group_size == -1 else layer.packing.group_size
        in_order = torch.arange(layer.in_features, device=layer.g_idx.device) // size
        if layer.in_features % size or not torch.equal(layer.g_idx.long(), in_order):
            raise ValueError(
                "groups that are not in order (desc_act) or uneven; torch.compile's product has none of these"
            )
        if CompiledProduct.function is None:
            CompiledProduct.function = staticmethod(compiled(single_row, dynamic=False))
        self.layer, self.zeros, self.scales = layer, layer.values()[1], layer.scales.float()
        self.nbytes = layer.qweight.nbytes + self.zeros.nbytes + self.scales.nbytes

    def __call__(self, x: torch.Tensor) -> torch.Tensor:
        out: torch.Tensor = self.function(
            x.reshape(-1), self.layer.qweight, self.zeros, self.scales, self.layer.packing.bits
        )
        return out.to(x.dtype).view(*x.shape[:-1], -1)


def use_backend(model: Any, backend: str) -> None:
    """Run a loaded model's packed layers by this backend. The model's attribute `gptq_backend` says what it came to:
    for `auto` UNPACKED or `reference`, for `torch` that or COMPILED; None for a model without packed layers.

    Raises:
        ValueError: a backend that cannot run these layers here.
    """
    if backend not in BACKENDS:
        raise ValueError(f"the GPTQ backend is one of {', '.join(BACKENDS)}, not {backend!r}")
    layers = list(packed_layers(model))
    model.gptq_backend = None
    if not layers:
        if backend in ("torch", "gptqmodel"):
            raise ValueError(f"--gptq-backend {backend}: no GPTQ checkpoint of first-generation Qwen")
        return
    dtype = next(model.parameters()).dtype
    if backend == "torch":
        if why := why_not_torch(layers, dtype):
            raise ValueError(f"--gptq-backend torch: {why}")
        product = _product_of(layers, dtype)
        for _, _, layer in layers:
            layer.few_rows = product(layer)
        backend = "torch" if product is Int4Product else COMPILED
    elif backend == "gptqmodel":
        from .gptqmodel_layers import use_gptqmodel

        use_gptqmodel(layers, dtype)
    elif backend == "auto" and _fit_unpacked(layers, dtype):
        for parent, name, layer in layers:
            setattr(parent, name, unpacked_linear(layer, dtype))
        model.gptq_backend = UNPACKED
        return
    model.gptq_backend = "reference" if backend == "auto" else backend


def check_backend(config: Any, backend: str, dtype: str, device: str) -> None:
    """ValueError where a backend is certain not to run a checkpoint, by its configuration. dtype: `bfloat16` ...;
    device: `cpu`, `cuda` ..."""
    settings = getattr(config, "gptq", None)
    if backend == "auto":
        return
    if settings is None:
        raise ValueError("no GPTQ checkpoint of first-generation Qwen")
    if backend == "torch":
        packing = packing_of(settings)
        if why := _not_for_torch(dtype, packing.bits, device.partition(":")[0]):
            raise ValueError(why)
    if backend == "gptqmodel" and importlib.util.find_spec("gptqmodel") is None:
        raise ValueError("the package gptqmodel is not installed (pip install gptqmodel)")


def _fit_unpacked(layers: list[Packed], dtype: torch.dtype) -> bool:
    """Whether the unpacked weights take at most half of what each device has free."""
    wanted: dict[torch.device, int] = {}
    for _, _, layer in layers:
        device = layer.scales.device
        wanted[device] = wanted.get(device, 0) + layer.in_features * layer.out_features * dtype.itemsize
    return all(2 * size <= free_memory(device) for device, size in wanted.items())


def packed_layers(model: nn.Module) -> Iterator[Packed]:
    """The packed layers of a model, each with the module that it is in and its name there."""
    for parent in list(model.modules()):
        for name, layer in list(parent.named_children()):
            if isinstance(layer, GPTQLinear):
                yield parent, name, layer


def unpacked_linear(layer: GPTQLinear, dtype: torch.dtype) -> nn.Linear:
    """The float layer that a packed one stands for."""
    with torch.device("meta"):
        linear = nn.Linear(layer.in_features, layer.out_features, layer.bias is not None, dtype=dtype)
    linear.weight = nn.Parameter(layer.unpacked().to(dtype).contiguous(), requires_grad=False)
    if layer.bias is not None:
        linear.bias = nn.Parameter(layer.bias.detach().to(dtype), requires_grad=False)
    return linear.eval()


def _product_of(layers: list[Packed], dtype: torch.dtype) -> type[Int4Product] | type[CompiledProduct]:
    """torch's int4 product where it can, else the compiled one."""
    int4 = dtype == torch.bfloat16 and layers[0][2].packing.bits == 4
    return Int4Product if int4 else CompiledProduct


def why_not_torch(layers: list[Packed], dtype: torch.dtype) -> str:
    """Why torch's products cannot run these layers; "" where they can."""
    first = layers[0][2]
    if why := _not_for_torch(str(dtype).removeprefix("torch."), first.packing.bits, first.scales.device.type):
        return why
    for _, name, layer in layers[:5]:
        row = torch.zeros(1, layer.in_features, dtype=dtype, device=layer.scales.device)
        try:
            _product_of(layers, dtype)(layer)(row)  # a kernel may refuse a layer, or this device, only here
        except torch.OutOfMemoryError:
            raise
        except (ValueError, RuntimeError) as error:
            return f"{name}: {str(error).splitlines()[0]}"
    return ""


def _not_for_torch(dtype: str, bits: int, device: str) -> str:
    if device == "cuda" and (dtype, bits) != ("bfloat16", 4):
        return "" if can_fuse() else "Triton is not installed, which makes the product for these bits and this dtype"
    if dtype != "bfloat16":
        return f"torch's int4 product is for bfloat16, and the model runs in {dtype}: add --dtype bfloat16"
    if bits != 4:
        return f"torch's int4 product is for 4 bits, and these layers have {bits}"
    if not hasattr(torch.ops.aten, "_weight_int4pack_mm_for_cpu"):
        return f"torch {torch.__version__} has no int4 product for both CPU and GPU"
    return ""
