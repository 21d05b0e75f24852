"""What stands between the products of a decoding step, as torch writes it, and compiled for a GPU.

A decoded token's products read memory at its rate; a dozen small kernels between them each take as long as a launch.
torch.compile (TorchInductor) makes one of each function here. Where it cannot (no Triton, no compiler), the functions
run as they are written, and nothing is said: the numbers are the same but for the last rounding.
"""

from __future__ import annotations

import importlib.util
import logging
from collections.abc import Callable
from functools import lru_cache
from typing import Any, NamedTuple

import torch
from torch.nn import functional as F


def add_norm(
    hidden: torch.Tensor, step: torch.Tensor | None, weight: torch.Tensor, eps: float
) -> tuple[torch.Tensor, torch.Tensor]:
    """hidden + step [B, h], and its RMS norm as QWenRMSNorm rounds it: to the dtype, then times the weight."""
    hidden = hidden if step is None else hidden + step
    wide = hidden.float()
    normed = wide * torch.rsqrt(wide.square().mean(-1, keepdim=True) + eps)
    return hidden, normed.to(hidden.dtype) * weight


def turn(x: torch.Tensor, cos: torch.Tensor, sin: torch.Tensor) -> torch.Tensor:
    """Rotate [B, 2, heads, d] whole. cos, sin: fp32 [B or 1, 1, 1, d], the first half of the sines negative."""
    return torch.addcmul(x * cos, x.roll(x.shape[-1] // 2, -1), sin).to(x.dtype)


def gate(gated: torch.Tensor, linear: torch.Tensor) -> torch.Tensor:
    """silu(gated) * linear, [B, n] each."""
    return F.silu(gated) * linear


class Between(NamedTuple):
    """The three functions, plain or compiled."""

    add_norm: Callable[..., tuple[torch.Tensor, torch.Tensor]]
    turn: Callable[..., torch.Tensor]
    gate: Callable[..., torch.Tensor]


PLAIN = Between(add_norm, turn, gate)


def can_fuse() -> bool:
    """Whether torch.compile may make kernels for a GPU here."""
    return importlib.util.find_spec("triton") is not None


@lru_cache
def fused() -> Between:
    """The functions compiled, once per process."""
    return Between(*(compiled(function) for function in PLAIN))


def compiled(function: Callable[..., Any], dynamic: bool | None = None) -> Callable[..., Any]:
    """The function compiled at its first call; as it is from the first call on that fails to compile. dynamic: as for
    torch.compile."""
    logging.getLogger("torch._dynamo.convert_frame").addFilter(_is_no_limit)
    made: list[Callable[..., Any]] = [torch.compile(function, fullgraph=True, dynamic=dynamic)]

    def call(*given: Any) -> Any:
        if made[0] is not function:
            try:
                return made[0](*given)
            except torch.OutOfMemoryError:
                raise
            except Exception:  # the compiler's, of many kinds; one of the function itself comes again below
                made[0] = function
        return function(*given)

    return call


def _is_no_limit(record: logging.LogRecord) -> bool:
    """Drops torch's warning that a function was compiled for too many shapes: it then runs as it is."""
    return "recompile_limit" not in record.getMessage()
