"""One decoding step of first-generation Qwen, written as few tensor operations as there can be.

A decoded token reads every weight once, so its time should be that of reading memory. Called through modules, a step
of a small model on a CPU takes half as long again; here a layer is a dozen calls. The arithmetic is that of `layers.py`
(tests/qwen_model/test_decoding.py compares the two). What attention reads is the caller's: any cache serves.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from torch import nn
from torch.nn import functional as F

from .fused import PLAIN, Between, can_fuse, fused
from .layers import QWenRMSNorm, is_plain
from .long_context import LongContext
from .rope import PositionTables, rotate

#: rows up to which a CPU multiplies 16-bit numbers fastest with the weight as the first factor
FEW_ROWS = 32
#: rows for which a packed fp32 weight is faster, and what it is packed for
FEWEST_PACKED, MOST_PACKED, PACKED_FOR = 3, 64, 8

#: attend(layer, query, key, value), each [B, heads, 1, head_dim] -> the output [B, heads * head_dim]
Attend = Callable[[int, torch.Tensor, torch.Tensor, torch.Tensor], torch.Tensor]


class FewRows:
    """A linear layer for a few rows: [B, K] -> [B, N].

    On a CPU `F.linear` is slow for them: it reorders a 16-bit weight at each call, where with the weight as the first
    factor it is read as it lies; and in fp32 some rows take several times as long as one, unless the weight has been
    packed for oneDNN. A layer that is not a plain nn.Linear (GPTQ, adapted, with hooks) is called as the module it is.
    """

    weight: Any
    bias: Any

    def __init__(self, linear: nn.Module, packed: bool = False) -> None:
        """packed: keep a packed copy of an fp32 weight, as large as the weight."""
        self.linear, self.plain = linear, is_plain(linear)
        parts: dict[str, Any] = dict(linear.named_parameters()) if self.plain else {}
        self.weight, self.bias = parts.get("weight"), parts.get("bias")
        self.on_cpu = self.weight is not None and self.weight.device.type == "cpu"
        self.packed: torch.Tensor | None = None
        if packed and self.weight is not None and self.on_cpu and self.weight.dtype == torch.float32:
            self.packed = torch.ops.mkldnn._reorder_linear_weight(self.weight.detach(), PACKED_FOR)

    def __call__(self, x: torch.Tensor, add: torch.Tensor | None = None, factor: float = 1.0) -> torch.Tensor:
        """The layer's output, plus `add` [B, N]. factor: of x, of a single row on a CPU."""
        if self.on_cpu and len(x) == 1:
            return self._one_row(x.view(-1), add, factor)
        out = self._rows(x)
        return out if add is None else add + out

    def _rows(self, x: torch.Tensor) -> torch.Tensor:
        if not self.plain:
            return self.linear(x)  # type: ignore[no-any-return]
        if self.packed is not None and FEWEST_PACKED <= len(x) <= MOST_PACKED:
            return torch.ops.mkldnn._linear_pointwise(x, self.packed, self.bias, "none", [], "")  # type: ignore[no-any-return]
        if not self.on_cpu or x.dtype == torch.float32 or len(x) > FEW_ROWS:
            return F.linear(x, self.weight, self.bias)
        turned = x.t()
        out = (
            torch.mm(self.weight, turned) if self.bias is None else torch.addmm(self.bias[:, None], self.weight, turned)
        )
        return out.t().contiguous()  # attention kernels want a head's numbers side by side

    def _one_row(self, row: torch.Tensor, add: torch.Tensor | None, factor: float) -> torch.Tensor:
        first = self.bias if add is None else add.view(-1)
        if first is None:
            out = torch.mv(self.weight, row)
            return (out if factor == 1.0 else out.mul_(factor))[None]
        out = torch.addmv(first, self.weight, row, alpha=factor)
        return (out if add is None or self.bias is None else out.add_(self.bias))[None]


def decoding_step(model: Any, rows: int, free_memory: Callable[[], float]) -> DecodingStep | None:
    """The decoding step of a model for up to `rows` rows; None where it must be run by its modules.

    It can be run by its weights if it is a first-generation Qwen on one device without a hook on a module (linear
    layers may have some: they are called). free_memory: bytes of the host; a quarter of it may hold packed copies.
    """
    body = getattr(model, "transformer", None)
    if model.training or getattr(model.config, "model_type", "") != "qwen" or not hasattr(body, "_tables"):
        return None
    if len({parameter.device for parameter in model.parameters()}) > 1:
        return None
    modules = (module for module in model.modules() if not isinstance(module, nn.Linear))
    if any(m._forward_hooks or m._forward_pre_hooks or hasattr(m, "_hf_hook") for m in modules):
        return None
    weight = model.lm_head.weight
    packed = rows >= FEWEST_PACKED and weight.dtype == torch.float32 and weight.device.type == "cpu"
    packed = packed and torch.backends.mkldnn.is_available()
    fuse = weight.device.type == "cuda" and can_fuse()
    return DecodingStep(model, packed and 4 * sum(each.nbytes for each in model.parameters()) <= free_memory(), fuse)


class DecodingStep:
    """The decoder of a model, for one more token of each of B rows."""

    def __init__(self, model: Any, packed: bool = False, fuse: bool = False) -> None:
        """packed: see `FewRows`; the copies are of the weights as they are now. fuse: what stands between the products
        is compiled (fused.py)."""
        self.body, self.config, self.heads = model.transformer, model.config, model.config.num_attention_heads
        self.layers = [_Layer(block, packed) for block in self.body.h]
        self.head = FewRows(model.lm_head, packed)
        self.between = fused() if fuse else PLAIN

    def __call__(
        self, ids: torch.Tensor, places: torch.Tensor, alpha: torch.Tensor, switches: LongContext, attend: Attend
    ) -> torch.Tensor:
        """Hidden states [B, h] behind the final norm. ids, places: int64 [B], each row's token and its position from 0;
        alpha: the NTK factors, float64 [B] or [1]; attend: called in each layer, keeps what later steps need."""
        body, between = self.body, self.between
        hidden: torch.Tensor = body.wte(ids)
        positions = places[:, None]
        beyond = body._beyond(positions, 1, switches)
        all_tables = body._tables.tables(switches, alpha, positions, beyond, hidden.dtype)
        rotations: dict[int, _Rotation] = {}
        step: torch.Tensor | None = None  # what the last product adds to the residual stream
        for index, (layer, tables) in enumerate(zip(self.layers, all_tables, strict=True)):
            rotation = rotations.get(id(tables))
            if rotation is None:
                rotation = rotations[id(tables)] = _Rotation(tables, self.config.kv_channels, hidden, between)
            hidden, x, factor = _normed(hidden, step, layer.ln_1, between, layer.c_attn)
            qkv = layer.c_attn(x, factor=factor).reshape(len(hidden), 3, self.heads, -1)
            query, key = rotation(qkv[:, :2]).unbind(1)
            if tables.logn is not None:
                query = query * tables.logn[:, :, None]
            attended = attend(index, query[:, :, None], key[:, :, None], qkv[:, 2, :, None])
            hidden, step = _add(layer.c_proj, attended, hidden)
            hidden, x, factor = _normed(hidden, step, layer.ln_2, between, layer.w1, layer.w2)
            gated = between.gate(layer.w2(x, factor=factor), layer.w1(x, factor=factor))
            hidden, step = _add(layer.down, gated, hidden)
        return _normed(hidden, step, body.ln_f, between)[1]


def _add(linear: FewRows, x: torch.Tensor, hidden: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor | None]:
    """The residual stream, and what is still to be added to it: on a CPU the product adds by itself, elsewhere the norm
    that follows does."""
    return (linear(x, hidden), None) if linear.on_cpu else (hidden, linear(x))


class _Layer:
    """The parts of a block."""

    def __init__(self, block: Any, packed: bool) -> None:
        self.ln_1, self.ln_2 = block.ln_1, block.ln_2
        self.c_attn, self.c_proj, self.w1, self.w2, self.down = (
            FewRows(linear, packed)
            for linear in (block.attn.c_attn, block.attn.c_proj, block.mlp.w1, block.mlp.w2, block.mlp.c_proj)
        )


def _normed(
    hidden: torch.Tensor, step: torch.Tensor | None, norm: QWenRMSNorm, between: Between, *readers: FewRows
) -> tuple[torch.Tensor, torch.Tensor, float]:
    """The residual stream [B, h] with `step` added, its QWenRMSNorm, and a factor that the readers of this have still
    to multiply by.

    On a CPU torch's kernel is ten calls. Here the mean square of a row is one product; of a single fp32 row it goes
    into the factor of the products that follow.
    """
    if hidden.device.type != "cpu":
        hidden, x = between.add_norm(hidden, step, norm.weight, norm.eps)
        return hidden, x, 1.0
    hidden = hidden if step is None else hidden + step
    size = hidden.shape[-1]
    if len(hidden) == 1 and hidden.dtype == torch.float32 and readers and all(reader.on_cpu for reader in readers):
        row = hidden.view(-1)
        return hidden, hidden * norm.weight, (float(torch.dot(row, row)) / size + norm.eps) ** -0.5
    wide = hidden.float()
    mean_square = torch.linalg.vecdot(wide, wide).div_(size)
    normed = wide * mean_square.add_(norm.eps).rsqrt_()[:, None]
    return hidden, normed.to(hidden.dtype) * norm.weight, 1.0


class _Rotation:
    """Rotates [B, 2, heads, head_dim] by the tables of its rows.

    Where a head is rotated whole, by three calls; on a CPU in fp32 by one, a product with the rotation's matrix, which
    is zero but for two numbers per column.
    """

    def __init__(self, tables: PositionTables, head_dim: int, like: torch.Tensor, between: Between) -> None:
        self.between = between
        cos, sin = tables.cos[:, 0], tables.sin[:, 0]  # [B or 1, d / 2]
        self.whole = 2 * cos.shape[-1] == head_dim
        self.matrix: torch.Tensor | None = None
        if self.whole and like.device.type == "cpu" and like.dtype == torch.float32:
            cos, sin = torch.diag_embed(cos), torch.diag_embed(sin)
            self.matrix = torch.cat((torch.cat((cos, sin), -1), torch.cat((-sin, cos), -1)), -2)[:, None]
            return
        self.cos, self.sin = cos[:, None, None], sin[:, None, None]
        if self.whole:
            self.cos, self.sin = torch.cat((self.cos, self.cos), -1), torch.cat((-self.sin, self.sin), -1)

    def __call__(self, x: torch.Tensor) -> torch.Tensor:
        if self.matrix is not None:
            return torch.matmul(x, self.matrix)
        return self.between.turn(x, self.cos, self.sin) if self.whole else rotate(x, self.cos, self.sin)
