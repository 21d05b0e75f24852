"""An adapter beside the packed weights of a GPTQ linear. It builds on PEFT, an optional package: `adapters.py` imports
it where there is an adapter to load."""

from __future__ import annotations

from typing import Any

import torch
import torch.nn.functional as F
from peft.tuners.lora.gptq import GPTQLoraLinear
from torch import nn


class AdaptedLinear(nn.Module):
    """A packed linear layer [..., K] -> [..., N] with an adapter beside it: base(x) + B(A(x)) + bias.

    lora_A [r, K]; lora_B [N, r] and bias [N] (or None), both with the adapter's scale in them.
    """

    lora_A: torch.Tensor
    lora_B: torch.Tensor
    lora_bias: torch.Tensor | None

    def __init__(self, base: nn.Module, lora_a: torch.Tensor, lora_b: torch.Tensor, bias: torch.Tensor | None) -> None:
        super().__init__()
        self.base = base
        for name, tensor in (("lora_A", lora_a), ("lora_B", lora_b), ("lora_bias", bias)):
            self.register_buffer(name, tensor)

    def cast(self, dtype: torch.dtype) -> None:
        """The adapter's weights to the dtype of the layer's input; the packed ones stay."""
        self.lora_A, self.lora_B = self.lora_A.to(dtype), self.lora_B.to(dtype)
        self.lora_bias = None if self.lora_bias is None else self.lora_bias.to(dtype)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        out: torch.Tensor = self.base(x)
        return out + F.linear(F.linear(x, self.lora_A), self.lora_B, self.lora_bias)


class PackedLora(GPTQLoraLinear):
    """What PEFT puts around a packed layer while it loads an adapter."""

    def unload_and_optionally_merge_module(self, **options: Any) -> nn.Module:
        """What takes its place at the end, whatever PEFT asks for (its options): the weights cannot be merged."""
        (name,) = self.active_adapters
        lora_a: Any = self.lora_A[name]
        lora_b: Any = self.lora_B[name]
        scale = self.scaling[name]
        bias = None if lora_b.bias is None else lora_b.bias.data * scale
        return AdaptedLinear(self.get_base_layer(), lora_a.weight.data, lora_b.weight.data * scale, bias)
