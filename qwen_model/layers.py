"""The building blocks of the Qwen decoder: RMSNorm, attention, gated MLP, and the pre-norm block of them.

Module and weight names are the published ones (`ln_1`, `attn.c_attn`, `attn.c_proj`, `ln_2`, `mlp.w1`, `mlp.w2`,
`mlp.c_proj`). Source: Qwen technical report (arXiv 2309.16609) section 2.3: pre-norm RMSNorm, SwiGLU, rotary
embedding, a bias on QKV only.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import nn
from torch.nn import functional as F
from transformers.cache_utils import Cache
from transformers.modeling_layers import GradientCheckpointingLayer
from transformers.modeling_utils import ALL_ATTENTION_FUNCTIONS

from .configuration import QWenConfig
from .rope import PositionTables, rotate


class QWenRMSNorm(nn.Module):
    """x / sqrt(mean(x^2) + eps) in float32, rounded to the model's dtype, then times the weight in that dtype."""

    def __init__(self, size: int, eps: float) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.ones(size))
        self.eps = eps

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        if x.dtype == torch.float32:
            return F.rms_norm(x, x.shape[-1:], self.weight, self.eps)
        # The kernel computes in float32 and rounds once; the weight comes after, as published.
        return F.rms_norm(x, x.shape[-1:], None, self.eps) * self.weight


def eager_attention(
    module: QWenAttention,
    query: torch.Tensor,
    key: torch.Tensor,
    value: torch.Tensor,
    attention_mask: torch.Tensor | None,
    scaling: float,
    dropout: float = 0.0,
    **kwargs: Any,
) -> tuple[torch.Tensor, torch.Tensor]:
    """Attention with explicit scores: query [B, heads, T, d], key and value [B, heads, K, d], additive mask.

    Returns the output [B, T, heads, d] and the probabilities [B, heads, T, K].
    """
    scores = torch.matmul(query, key.transpose(2, 3)) * scaling
    if attention_mask is not None:
        scores = scores + attention_mask
    softmax_dtype = torch.float32 if module.config.softmax_in_fp32 else query.dtype
    weights = F.softmax(scores, dim=-1, dtype=softmax_dtype).to(query.dtype)
    weights = F.dropout(weights, p=dropout, training=module.training)
    return torch.matmul(weights, value).transpose(1, 2).contiguous(), weights


def is_plain(linear: nn.Module) -> bool:
    """Whether a part of the layer's weight may be used alone: no adapter, quantiser, offload or user hook in it."""
    hooked = linear._forward_hooks or linear._forward_pre_hooks or hasattr(linear, "_hf_hook")
    return type(linear) is nn.Linear and not hooked


class QWenAttention(nn.Module):
    """Multi-head attention with fused QKV, rotary embedding and LogN scaling of the queries."""

    def __init__(self, config: QWenConfig, layer_idx: int) -> None:
        super().__init__()
        self.config = config
        self.layer_idx = layer_idx
        self.num_heads = config.num_attention_heads
        self.head_dim = config.kv_channels
        self.num_key_value_groups = 1
        self.scaling = self.head_dim**-0.5
        self.is_causal = True
        size = config.hidden_size
        self.c_attn = nn.Linear(size, 3 * size)
        self.c_proj = nn.Linear(size, size, bias=not config.no_bias)

    def forward(
        self,
        hidden: torch.Tensor,
        tables: PositionTables,
        attention_mask: Any = None,
        cache: Cache | None = None,
        last_positions: torch.Tensor | None = None,
        **kwargs: Any,
    ) -> tuple[torch.Tensor, torch.Tensor | None]:
        """[B, T, hidden] -> [B, T, hidden] and probabilities (eager only). With `last_positions`: one query per row."""
        if last_positions is None:
            query, key, value = self._project(hidden, tables)
        else:
            query, key, value = self._project_last(hidden, tables, last_positions)
            tables = tables.at(last_positions)
            kwargs["last_positions"] = last_positions
        if tables.logn is not None:
            query = query * tables.logn[:, :, None, None]
        query, key, value = query.transpose(1, 2), key.transpose(1, 2), value.transpose(1, 2)
        if cache is not None:
            key, value = cache.update(key, value, self.layer_idx)
        attend = ALL_ATTENTION_FUNCTIONS.get_interface(self.config._attn_implementation, eager_attention)
        output, weights = attend(
            self,
            query,
            key,
            value,
            attention_mask,
            dropout=self.config.attn_dropout_prob if self.training else 0.0,
            scaling=self.scaling,
            **kwargs,
        )
        return self.c_proj(output.flatten(2)), weights

    def _project(self, hidden: torch.Tensor, tables: PositionTables) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
        """Rotated query and key, and value, each [B, T, heads, head_dim]."""
        batch, length, _ = hidden.shape
        qkv = self.c_attn(hidden).view(batch, length, 3, self.num_heads, self.head_dim)
        cos, sin = tables.cos[:, :, None, None], tables.sin[:, :, None, None]
        query, key = rotate(qkv[:, :, :2], cos, sin).unbind(2)
        return query, key, qkv[:, :, 2]

    def _project_last(
        self, hidden: torch.Tensor, tables: PositionTables, last_positions: torch.Tensor
    ) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
        """As `_project`, the query at `last_positions` only: [B, 1, heads, head_dim]."""
        batch, length, size = hidden.shape
        rows = torch.arange(batch, device=hidden.device)
        if is_plain(self.c_attn):
            weight, bias = self.c_attn.weight, self.c_attn.bias
            query = F.linear(hidden[rows, last_positions], weight[:size], bias[:size])
            key, value = F.linear(hidden, weight[size:], bias[size:]).chunk(2, dim=-1)
        else:
            query, key, value = self.c_attn(hidden).chunk(3, dim=-1)
            query = query[rows, last_positions]
        at_last = tables.at(last_positions)
        heads = (self.num_heads, self.head_dim)
        query = rotate(query.view(batch, 1, *heads), at_last.cos[:, :, None], at_last.sin[:, :, None])
        key = rotate(key.view(batch, length, *heads), tables.cos[:, :, None], tables.sin[:, :, None])
        return query, key, value.view(batch, length, *heads)


class QWenMLP(nn.Module):
    """c_proj(w1(x) * silu(w2(x))): w2 is the gate, w1 the linear branch, each intermediate_size // 2 wide."""

    def __init__(self, config: QWenConfig) -> None:
        super().__init__()
        width, bias = config.intermediate_size // 2, not config.no_bias
        self.w1 = nn.Linear(config.hidden_size, width, bias=bias)
        self.w2 = nn.Linear(config.hidden_size, width, bias=bias)
        self.c_proj = nn.Linear(width, config.hidden_size, bias=bias)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        out: torch.Tensor = self.c_proj(self.w1(x) * F.silu(self.w2(x)))
        return out


class QWenBlock(GradientCheckpointingLayer):
    """x + attention(norm(x)), then x + MLP(norm(x))."""

    def __init__(self, config: QWenConfig, layer_idx: int) -> None:
        super().__init__()
        self.ln_1 = QWenRMSNorm(config.hidden_size, eps=config.layer_norm_epsilon)
        self.attn = QWenAttention(config, layer_idx)
        self.ln_2 = QWenRMSNorm(config.hidden_size, eps=config.layer_norm_epsilon)
        self.mlp = QWenMLP(config)

    def forward(
        self,
        hidden: torch.Tensor,
        tables: PositionTables,
        attention_mask: Any = None,
        cache: Cache | None = None,
        last_positions: torch.Tensor | None = None,
        **kwargs: Any,
    ) -> torch.Tensor:
        """[B, T, hidden] -> [B, T, hidden]; with `last_positions` (int64 [B]) -> [B, 1, hidden], at these columns."""
        attended, _ = self.attn(
            self.ln_1(hidden),
            tables=tables,
            attention_mask=attention_mask,
            cache=cache,
            last_positions=last_positions,
            **kwargs,
        )
        if last_positions is not None:
            hidden = hidden[torch.arange(len(hidden), device=hidden.device), last_positions][:, None]
        hidden = hidden + attended
        out: torch.Tensor = hidden + self.mlp(self.ln_2(hidden))
        return out
