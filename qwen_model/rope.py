"""Positions: rotary tables, the dynamic NTK factor and the LogN attention factor.

Rotary embedding in the rotate-half layout over tables that are always float32. Dynamic NTK-aware interpolation
raises the rotary base in steps with the prompt's length; LogN scales the queries beyond the training length.
Source: Qwen technical report (arXiv 2309.16609) section 2.3.2, with the constants of the published modelling file.
Quirks (Q6 ...) are listed in docs/quirks.md.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any, NamedTuple

import torch

from .configuration import QWenConfig
from .long_context import LongContext


class PositionTables(NamedTuple):
    """What a forward pass applies to queries and keys.

    cos, sin: float32 [B or 1, T, rotary_dim / 2]. logn: model dtype [B or 1, T], or None where every factor is 1.
    """

    cos: torch.Tensor
    sin: torch.Tensor
    logn: torch.Tensor | None

    def at(self, last_positions: torch.Tensor) -> PositionTables:
        """The rows at `last_positions` (int64 [B]) only: each table as [B, 1, ...]."""

        def pick(table: torch.Tensor) -> torch.Tensor:
            rows = torch.arange(len(last_positions), device=table.device) if table.shape[0] > 1 else 0
            return table[rows, last_positions][:, None]

        return PositionTables(pick(self.cos), pick(self.sin), None if self.logn is None else pick(self.logn))


def ntk_alpha(length: int, training_length: int) -> float:
    """The NTK factor of a prompt of `length` tokens: 1 up to S, 3 up to 2S, 7 up to 4S, 15 up to 8S ...

    alpha(n) = max(2^ceil(log2(n / S) + 1) - 1, 1), bounds inclusive on the right. An empty row gets 1
    (the published code takes the logarithm of 0 there, quirk Q24).
    """
    if length <= training_length:
        return 1.0
    return 2.0 ** math.ceil(math.log2(length / training_length) + 1) - 1


#: how often the training length can double in a table of factors; each factor is exact in float32
DOUBLINGS = 24


def ntk_alphas(lengths: torch.Tensor, training_length: int) -> torch.Tensor:
    """`ntk_alpha` of each length, float32 in the shape and on the device of `lengths`; the host waits for nothing."""
    limits = training_length * 2 ** torch.arange(DOUBLINGS - 1, device=lengths.device)
    doublings = (lengths[..., None] > limits).sum(dim=-1)
    return (2 ** (doublings + 1) - 1).to(torch.float32)


def inverse_frequencies(alphas: Sequence[float], dim: int, base: float) -> torch.Tensor:
    """Inverse frequencies base'^(-2i/d) with base' = base * alpha^(d / (d - 2)): float32 [len(alphas), dim / 2], CPU.

    base' is a double, the powers are float32: the precision of the published tables. Made on the CPU so that
    every device rotates by the same bits.
    """
    exponents = torch.arange(0, dim, 2, dtype=torch.float32) / dim
    bases = [base if alpha == 1 else base * alpha ** (dim / (dim - 2)) for alpha in alphas]
    return torch.stack([1.0 / torch.pow(float(b), exponents) for b in bases])


def cos_sin(positions: torch.Tensor, inv_freq: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
    """Cosine and sine of position * frequency, float32 [N, T, d / 2].

    positions: int64 [1 or B, T], from 0. inv_freq: float32 [1 or B, d / 2], or [B, T, d / 2].
    """
    inv_freq = inv_freq if inv_freq.ndim == 3 else inv_freq[:, None, :]
    angles = positions[..., None].to(torch.float32) * inv_freq
    return angles.cos(), angles.sin()


def logn_factors(positions: torch.Tensor, training_length: int, dtype: torch.dtype) -> torch.Tensor:
    """LogN factors max(ln(i) / ln(S), 1) with i = position + 1, in the shape of `positions` and in `dtype`.

    Rounded to the model's dtype, as the published buffer is (quirk Q7); no upper limit on the position (Q6).
    """
    index = (positions + 1).to(torch.float32)
    return (index.log() / math.log(training_length)).clamp(min=1.0).to(dtype)


def rotate(x: torch.Tensor, cos: torch.Tensor, sin: torch.Tensor) -> torch.Tensor:
    """Rotate the first 2 * cos.shape[-1] dimensions of `x` ([..., head_dim]) in float32; same shape and dtype.

    cos, sin: float32, broadcastable to [..., d / 2]. Dimension i turns with dimension i + d / 2.
    """
    half = cos.shape[-1]
    first, second, rest = x[..., :half], x[..., half : 2 * half], x[..., 2 * half :]
    if torch.is_grad_enabled() and x.requires_grad:
        turned = torch.cat((first * cos - second * sin, second * cos + first * sin), dim=-1)
        return torch.cat((turned.to(x.dtype), rest), dim=-1)
    # The same arithmetic without a copy: the products are float32 (the tables are), the last step writes x's dtype.
    out = torch.empty(x.shape, dtype=x.dtype, device=x.device)
    if x.is_cuda:  # a product less goes through memory
        torch.addcmul(first * cos, second, sin, value=-1, out=out[..., :half])
        torch.addcmul(second * cos, first, sin, out=out[..., half : 2 * half])
    else:
        torch.sub(first * cos, second * sin, out=out[..., :half])
        torch.add(second * cos, first * sin, out=out[..., half : 2 * half])
    out[..., 2 * half :] = rest
    return out


class TableMaker:
    """Makes the position tables of a call, for each layer its own where windows differ. Remembers frequencies."""

    def __init__(self, config: QWenConfig) -> None:
        self.config = config
        self._inv_freq: dict[tuple[Any, ...], torch.Tensor] = {}

    def tables(
        self, switches: LongContext, alpha: torch.Tensor, positions: torch.Tensor, beyond: bool, dtype: torch.dtype
    ) -> list[PositionTables]:
        """One entry per layer; layers with the same factors share theirs.

        alpha: the NTK factors of the rows' lengths, float64 [B] or [1] on the CPU, or as `ntk_alphas` makes them: [B],
        or [B, T] where rows are packed. A layer with window w gets min(alpha, alpha(w)), which is the factor of
        min(length, w). positions: int64 [B or 1, T]. beyond: whether a LogN factor may differ from 1. dtype: of the
        LogN factors.
        """
        windows = switches.window_attn or (None,) * self.config.num_hidden_layers
        highest = float(alpha.max()) if _by_value(alpha) else math.inf
        made: dict[tuple[Any, ...], PositionTables] = {}
        found: list[PositionTables] = []
        for window in windows:
            most = highest
            if window is not None and switches.ntk_per_layer and switches.use_dynamic_ntk:
                most = min(most, ntk_alpha(window, self.config.training_length()))
            visible = window if switches.logn_mode == "visible" else None
            if not beyond or (visible is not None and visible <= self.config.training_length()):
                visible = 0  # every factor is 1
            key = (visible, most)
            if key not in made:
                alphas = alpha.clamp(max=most) if most < highest else alpha
                made[key] = self._make(alphas, positions, visible, dtype)
            found.append(made[key])
        return found

    def _make(
        self, alpha: torch.Tensor, positions: torch.Tensor, visible: int | None, dtype: torch.dtype
    ) -> PositionTables:
        """visible: the most tokens that a token sees, None for all before it; 0 for no LogN."""
        cos, sin = cos_sin(positions, self._frequencies(alpha, positions.device))
        logn = None
        if visible != 0:
            seen = positions if visible is None else positions.clamp(max=visible - 1)
            logn = logn_factors(seen, self.config.training_length(), dtype)
        return PositionTables(cos, sin, logn)

    def _frequencies(self, alpha: torch.Tensor, device: torch.device) -> torch.Tensor:
        """Inverse frequencies on a device, [1 or B, d / 2] or [B, T, d / 2]: the same bits on every one."""
        if _by_value(alpha):
            return self._remembered(device, alpha.tolist())
        steps = torch.log2(alpha.to(device) + 1).round().to(torch.int64) - 1
        return self._remembered(device, [2.0 ** (step + 1) - 1 for step in range(DOUBLINGS)])[steps]

    def _remembered(self, device: torch.device, alphas: list[float]) -> torch.Tensor:
        key = (device, *alphas)
        inv_freq = self._inv_freq.get(key)
        if inv_freq is None:
            table = inverse_frequencies(alphas, self.config.rotary_dim, self.config.rotary_emb_base)
            # Few entries: there are as many as distinct batches of factors, and a long run sees ever new ones.
            if len(self._inv_freq) >= 64:
                self._inv_freq.clear()
            inv_freq = self._inv_freq[key] = table.to(device)
        return inv_freq


def _by_value(alpha: torch.Tensor) -> bool:
    """Whether the host knows the factors: others were counted on a device, and are those of the published steps."""
    return alpha.dtype == torch.float64
