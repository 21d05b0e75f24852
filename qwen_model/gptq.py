"""GPTQ checkpoints (Int4, Int8) as AutoGPTQ packs them: a linear layer that unpacks its weight at every call.

The reference: plain torch, on any device, exact. Format: AutoGPTQ 0.4 to 0.7 (v1 zeros) and `checkpoint_format`
"gptq_v2"; Frantar et al. 2022, arXiv 2210.17323, for the method. With b bits, p = 32 / b values in a word, K inputs, N
outputs and G groups of inputs, W[n, k] = scales[g, n] * (w[k, n] - z[g, n]) where g = g_idx[k], and

    qweight  int32 [K / p, N]   w: p inputs in a word, lowest bits first
    qzeros   int32 [G, N / p]   z - 1 (v2: z): p outputs in a word
    scales   float [G, N]
    g_idx    int32 [K]          the group of each input; k // group_size unless the checkpoint is of desc_act
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any, NamedTuple

import torch
import torch.nn.functional as F
from torch import nn

#: the layers of a block that are packed
PACKED = ("attn.c_attn", "attn.c_proj", "mlp.w1", "mlp.w2", "mlp.c_proj")
BITS = (2, 4, 8)
#: rows up to which torch's int4 product runs, and not the unpacked weight
FEW_ROWS = 32


class Packing(NamedTuple):
    """How weights are packed. group_size: inputs per scale, -1: all of them; zero_offset: what is added to a stored
    zero (1, in v2 nothing)."""

    bits: int
    group_size: int
    zero_offset: int

    @property
    def per_word(self) -> int:
        """Values in an int32."""
        return 32 // self.bits

    def groups(self, inputs: int) -> int:
        return 1 if self.group_size == -1 else -(-inputs // self.group_size)


def packing_of(settings: Mapping[str, Any]) -> Packing:
    """From `quantization_config` of config.json, or quantize_config.json.

    Raises:
        ValueError: a format that is none of these.
    """
    bits, size = settings.get("bits"), settings.get("group_size", 128)
    if bits not in BITS or type(bits) is not int:
        raise ValueError(f"quantization_config: bits is {bits!r}, not one of 2, 4, 8")
    if type(size) is not int or (size != -1 and size < 1):
        raise ValueError(f"quantization_config: group_size is {size!r}, not -1 or a positive integer")
    form = settings.get("checkpoint_format") or "gptq"
    if form not in ("gptq", "gptq_v2"):
        raise ValueError(f"quantization_config: checkpoint_format {form!r} is neither 'gptq' nor 'gptq_v2'")
    return Packing(bits, size, 0 if form == "gptq_v2" else 1)


class GPTQLinear(nn.Module):
    """A linear layer [..., K] -> [..., N] with packed weights. The product is in the dtype of its input."""

    qweight: torch.Tensor
    qzeros: torch.Tensor
    scales: torch.Tensor
    g_idx: torch.Tensor

    def __init__(self, inputs: int, outputs: int, packing: Packing, bias: bool = True) -> None:
        """Raises ValueError where the sizes do not fill whole words."""
        super().__init__()
        if inputs % packing.per_word or outputs % packing.per_word:
            raise ValueError(f"{inputs} x {outputs} weights do not fill words of {packing.per_word} values")
        self.in_features, self.out_features, self.packing = inputs, outputs, packing
        groups, words = packing.groups(inputs), packing.per_word
        self.register_buffer("qweight", torch.zeros(inputs // words, outputs, dtype=torch.int32))
        self.register_buffer("qzeros", torch.zeros(groups, outputs // words, dtype=torch.int32))
        self.register_buffer("scales", torch.zeros(groups, outputs, dtype=torch.float32))
        self.register_buffer("g_idx", torch.zeros(inputs, dtype=torch.int32))
        self.bias = nn.Parameter(torch.zeros(outputs), requires_grad=False) if bias else None
        self.order_groups()
        #: a faster product without the bias, for at most its `most_rows` rows (gptq_backends.py)
        self.few_rows: Any = None

    def order_groups(self) -> None:
        """The group of each input where the checkpoint does not say: in order."""
        size = self.in_features if self.packing.group_size == -1 else self.packing.group_size
        self.g_idx.copy_(torch.arange(self.in_features, dtype=torch.int32, device=self.g_idx.device) // size)

    def values(self) -> tuple[torch.Tensor, torch.Tensor]:
        """The weight's whole numbers, int32 [K, N], and the zeros, int32 [G, N]."""
        bits = self.packing.bits
        shifts = torch.arange(0, 32, bits, dtype=torch.int32, device=self.qweight.device)
        mask = (1 << bits) - 1  # words are signed: the sign that a shift brings in is cut off
        values = (self.qweight[:, None, :] >> shifts[None, :, None]) & mask
        zeros = ((self.qzeros[:, :, None] >> shifts) & mask).flatten(1) + self.packing.zero_offset
        return values.reshape(self.in_features, self.out_features), zeros

    def unpacked(self) -> torch.Tensor:
        """The weight [N, K], fp32."""
        values, zeros = self.values()
        group = self.g_idx.long()
        return (self.scales.float()[group] * (values - zeros[group])).t()

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        bias = None if self.bias is None else self.bias.to(x.dtype)
        if self.few_rows is not None and x.shape[:-1].numel() <= self.few_rows.most_rows:
            out: torch.Tensor = self.few_rows(x)
            return out if bias is None else out + bias
        return F.linear(x, self.unpacked().to(x.dtype), bias)

    def extra_repr(self) -> str:
        return f"{self.in_features}, {self.out_features}, bits={self.packing.bits}, group={self.packing.group_size}"


def pack_layers(blocks: Iterable[nn.Module], packing: Packing) -> None:
    """Put a GPTQLinear in the place of each linear layer of these blocks that a checkpoint has packed."""
    for block in blocks:
        for name in PACKED:
            parent, _, last = name.rpartition(".")
            linear = block.get_submodule(name)
            assert isinstance(linear, nn.Linear)
            packed = GPTQLinear(linear.in_features, linear.out_features, packing, linear.bias is not None)
            setattr(block.get_submodule(parent), last, packed)
