"""Attention over a shared prefix and a row's own tokens, without ever copying the prefix to the rows.

Softmax attention over two sets of keys is the mean of the attentions over each, weighted by their exponentiated
log-sum-exps; the merge is exact (Rabe and Staats 2021, arXiv 2112.05682; cascade attention). All rows' queries go to
the prefix as one long query, so its keys and values are read once per batch. A third set may stand between the two:
a context that some of the rows share (a question, before each of its answers). The function is registered with the
attention interface of transformers under `shared_prefix`, so it serves every model that uses the interface.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any

import torch
from transformers.modeling_utils import ALL_ATTENTION_FUNCTIONS

NAME = "shared_prefix"
SCORES_BYTES = 128 << 20  # of the scores of one part of the contexts, fp32; their exponentials take as much again
Pair = tuple[torch.Tensor, torch.Tensor]  # (keys, values), each [1, key-value heads, prefix length, head_dim]


@dataclass
class Contexts:
    """Keys and values between the prefix and a row's own tokens: of C contexts, each read by one row or several.

    pairs: of each layer, [C, key-value heads, S, head_dim], padded on the right; lengths: int64 [C], at least 1.
    place: int64 [B], each row's place among C x `width` places: `width` for each context, a row has one to itself.
    """

    pairs: list[Pair]
    lengths: torch.Tensor
    place: torch.Tensor
    width: int


@dataclass
class Rows:
    """What the attention function reads while a forward runs.

    prefix: keys and values of each layer that all rows share, by layer index; None where nothing is shared.
    lengths: int32 [B], how many of a row's own keys its single query sees (decoding); None: the rows' own tokens go in
    whole and attend causally among themselves (prefill).
    contexts: what some of the rows share behind the prefix.
    """

    prefix: list[Pair] | None
    lengths: torch.Tensor | None = None
    contexts: Contexts | None = None

    _unseen: torch.Tensor | None = field(default=None, init=False, repr=False)

    def unseen(self, like: torch.Tensor, keys: int) -> torch.Tensor | None:
        """What is added to the scores of a decoding step, [B, 1, 1, keys] in the dtype of `like`: made once for all
        layers. None where a single row sees every key."""
        assert self.lengths is not None
        if len(self.lengths) == 1 and int(self.lengths) == keys:
            return None
        if self._unseen is None or self._unseen.shape[-1] != keys:
            beyond = torch.arange(keys, device=like.device)[None, :] >= self.lengths[:, None]
            mask = torch.zeros(beyond.shape, dtype=like.dtype, device=like.device)
            self._unseen = mask.masked_fill_(beyond, float("-inf"))[:, None, None]
        return self._unseen

    def seen_on(self, device: torch.device) -> torch.Tensor | None:
        """`lengths` where a layer is: a model may be spread over several devices."""
        if self.lengths is not None and self.lengths.device != device:
            self.lengths = self.lengths.to(device)  # the layers that follow are on this device too
        return self.lengths


_running: Rows | None = None


@contextmanager
def running(rows: Rows) -> Iterator[None]:
    """Within it, forwards of a model set to `shared_prefix` attend to the prefix before their own tokens."""
    global _running
    _running = rows
    try:
        yield
    finally:
        _running = None


def attend(
    module: torch.nn.Module,
    query: torch.Tensor,
    key: torch.Tensor,
    value: torch.Tensor,
    attention_mask: torch.Tensor | None,
    scaling: float | None = None,
    last_positions: torch.Tensor | None = None,
    **kwargs: Any,
) -> tuple[torch.Tensor, None]:
    """transformers' attention interface. query [B, H, T, d]; key, value [B, Hkv, K, d]: the rows' own tokens, padded on
    the right; returns ([B, T, H, d], None). Masks are not read: `running` says all there is to know."""
    if _running is None:
        raise RuntimeError("the shared_prefix attention works only within attention.running(...)")
    scale = scaling if scaling is not None else query.shape[-1] ** -0.5
    seen = _running.seen_on(query.device) if last_positions is None else (last_positions.to(query.device) + 1).int()
    return attend_rows(_running, module.layer_idx, query, key, value, scale, seen).transpose(1, 2), None  # type: ignore[arg-type]


def attend_rows(
    rows: Rows,
    layer: int,
    query: torch.Tensor,
    key: torch.Tensor,
    value: torch.Tensor,
    scale: float,
    seen: torch.Tensor | None,
) -> torch.Tensor:
    """The attention of one layer: [B, H, T, d] over the rows' own keys and all that stands before them."""
    if seen is not None and seen is rows.lengths and query.device.type == "cpu" and query.shape[1] == key.shape[1]:
        out, lse = _one_query_on_cpu(query, key, value, scale, rows.unseen(query, key.shape[2]))
    else:
        out, lse = _over_own(query, key, value, scale, seen)
    if rows.contexts is not None:
        context, context_lse = _over_contexts(query, rows.contexts, layer, scale)
        out, lse = merge(context, context_lse, out, lse), torch.logaddexp(context_lse, lse)
    if rows.prefix is not None:
        prefix_key, prefix_value = rows.prefix[layer]
        out = merge(*_over_prefix(query, prefix_key, prefix_value, scale), out, lse)
    return out


def merge(a: torch.Tensor, a_lse: torch.Tensor, b: torch.Tensor, b_lse: torch.Tensor) -> torch.Tensor:
    """Attention over two disjoint key sets from the parts. a, b: [B, H, T, d]; *_lse: fp32 [B, H, T]."""
    share = torch.sigmoid(b_lse - a_lse).unsqueeze(-1)  # exp(b) / (exp(a) + exp(b)), without overflow
    return torch.lerp(a.float(), b.float(), share).to(a.dtype)


def _over_prefix(
    query: torch.Tensor, key: torch.Tensor, value: torch.Tensor, scale: float
) -> tuple[torch.Tensor, torch.Tensor]:
    """Every query sees all of the prefix: rows, and the query heads of one key-value head, become one long query."""
    rows, heads, length, dim = query.shape
    kv_heads = key.shape[1]
    folded = (
        query.view(rows, kv_heads, heads // kv_heads, length, dim).permute(1, 2, 0, 3, 4).reshape(1, kv_heads, -1, dim)
    )
    out, lse = with_lse(folded, key, value, scale, causal=False)
    out = out.view(kv_heads, heads // kv_heads, rows, length, dim).permute(2, 0, 1, 3, 4).reshape(query.shape)
    lse = lse.view(kv_heads, heads // kv_heads, rows, length).permute(2, 0, 1, 3).reshape(rows, heads, length)
    return out, lse


def _over_contexts(
    query: torch.Tensor, contexts: Contexts, layer: int, scale: float
) -> tuple[torch.Tensor, torch.Tensor]:
    """Every query sees all of its row's context. The queries of one context's rows, and the query heads of one
    key-value head, become one long query, so that its keys and values are not copied to the rows."""
    key, value = contexts.pairs[layer]
    _, heads, length, dim = query.shape
    count, kv_heads, size, _ = key.shape
    place, lengths = contexts.place.to(query.device), contexts.lengths.to(query.device)
    folded = query.new_zeros(count * contexts.width, heads, length, dim).index_copy_(0, place, query)
    folded = folded.view(count, contexts.width, kv_heads, heads // kv_heads, length, dim).permute(0, 2, 1, 3, 4, 5)
    folded = folded.reshape(count, kv_heads, -1, dim)
    out, lse = torch.empty_like(folded), folded.new_empty(folded.shape[:3], dtype=torch.float32)
    step = max(1, SCORES_BYTES // (4 * kv_heads * folded.shape[2] * size))
    for start in range(0, count, step):
        part = slice(start, start + step)
        scores = torch.matmul(folded[part], key[part].transpose(2, 3)).float() * scale
        unseen = torch.arange(size, device=query.device)[None, :] >= lengths[part, None]
        scores = scores.masked_fill_(unseen[:, None, None, :], float("-inf"))
        lse[part] = torch.logsumexp(scores, dim=-1)
        weights = torch.exp(scores.sub_(lse[part].unsqueeze(-1))).to(value.dtype)
        out[part] = torch.matmul(weights, value[part])
    shape = count, kv_heads, contexts.width, heads // kv_heads, length
    out = out.view(*shape, dim).permute(0, 2, 1, 3, 4, 5).reshape(count * contexts.width, heads, length, dim)
    lse = lse.view(shape).permute(0, 2, 1, 3, 4).reshape(count * contexts.width, heads, length)
    return out[place], lse[place]


def _over_own(
    query: torch.Tensor, key: torch.Tensor, value: torch.Tensor, scale: float, seen: torch.Tensor | None
) -> tuple[torch.Tensor, torch.Tensor]:
    """Attention among a row's own tokens: causal (padding is on the right, where no real query looks), or, with `seen`
    [B], of one query per row over its first keys."""
    if seen is not None:
        reads = _flash_one_query if reads_what_is_seen(query) and _side_by_side(key, value) else _one_query
        return reads(query, key, value, scale, seen)
    groups = query.shape[1] // key.shape[1]
    if groups > 1:
        key, value = key.repeat_interleave(groups, dim=1), value.repeat_interleave(groups, dim=1)
    return with_lse(query, key, value, scale, causal=True)


def _one_query(
    query: torch.Tensor, key: torch.Tensor, value: torch.Tensor, scale: float, seen: torch.Tensor
) -> tuple[torch.Tensor, torch.Tensor]:
    """One query per row [B, H, 1, d] over the first `seen` [B] of its keys [B, Hkv, K, d]; returns ([B, H, 1, d], fp32
    [B, H, 1]). The query heads of one key-value head go in together, so that its keys are read once."""
    rows, heads, _, dim = query.shape
    kv_heads = key.shape[1]
    grouped = query.view(rows, kv_heads, heads // kv_heads, dim)
    scores = torch.matmul(grouped, key.transpose(2, 3)).float() * scale
    unseen = torch.arange(key.shape[2], device=key.device)[None, :] >= seen[:, None]
    scores = scores.masked_fill_(unseen[:, None, None, :], float("-inf"))
    lse = torch.logsumexp(scores, dim=-1)
    weights = torch.exp(scores - lse.unsqueeze(-1)).to(value.dtype)
    return torch.matmul(weights, value).view(rows, heads, 1, dim), lse.view(rows, heads, 1)


def _one_query_on_cpu(
    query: torch.Tensor, key: torch.Tensor, value: torch.Tensor, scale: float, unseen: torch.Tensor | None
) -> tuple[torch.Tensor, torch.Tensor]:
    """`_one_query` in one kernel, for as many key-value heads as query heads."""
    found: tuple[torch.Tensor, torch.Tensor] = torch.ops.aten._scaled_dot_product_flash_attention_for_cpu(
        query, key, value, 0.0, False, attn_mask=unseen, scale=scale
    )
    return found


def reads_what_is_seen(like: torch.Tensor) -> bool:
    """Whether a query of this device, dtype and width (its last dimension) reads its own keys and no others while
    decoding, by the flash kernel of CUDA; elsewhere all that the longest row has is read, and masked."""
    return like.device.type == "cuda" and torch.version.hip is None and _flash(like)


def _flash(like: torch.Tensor) -> bool:
    fits = like.dtype in (torch.float16, torch.bfloat16) and like.shape[-1] % 8 == 0 and like.shape[-1] <= 256
    return fits and torch.cuda.get_device_capability(like.device) >= (8, 0)


def _side_by_side(key: torch.Tensor, value: torch.Tensor) -> bool:
    """Whether rows lie a whole number of tokens apart, as far in keys as in values: `_flash_one_query` wants that."""
    return all(x.stride(3) == 1 and x.stride(0) % x.stride(2) == 0 for x in (key, value)) and (
        key.stride(0) // key.stride(2) == value.stride(0) // value.stride(2)
    )


def _flash_one_query(
    query: torch.Tensor, key: torch.Tensor, value: torch.Tensor, scale: float, seen: torch.Tensor
) -> tuple[torch.Tensor, torch.Tensor]:
    """`_one_query` in one kernel, that for rows of several lengths in one long tensor: here the tensor is the slots as
    they lie, each row begins `apart` tokens behind the one before, and `seen` says how much of it counts."""
    rows, heads, _, dim = query.shape
    apart = key.stride(0) // key.stride(2)
    starts = torch.arange(rows + 1, dtype=torch.int32, device=query.device)

    def flat(x: torch.Tensor) -> torch.Tensor:
        shape = ((rows - 1) * apart + x.shape[2], x.shape[1], dim)
        return x.as_strided(shape, (x.stride(2), x.stride(1), 1))

    out, lse, *_ = torch.ops.aten._flash_attention_forward(
        query[:, :, 0],
        flat(key),
        flat(value),
        starts,
        starts * apart,
        1,
        key.shape[2],
        0.0,
        False,
        False,
        scale=scale,
        seqused_k=seen,
    )
    lse = lse.view(heads, rows).t()[:, :, None] if lse.dim() == 2 else lse[:, :, :1]  # the second: older torch
    return out.view(rows, heads, 1, dim), lse


def with_lse(
    query: torch.Tensor, key: torch.Tensor, value: torch.Tensor, scale: float, causal: bool
) -> tuple[torch.Tensor, torch.Tensor]:
    """Fused attention with the log-sum-exp of the scores (fp32 [B, H, T]), by the kernel of the device."""
    ops = torch.ops.aten
    if query.device.type == "cpu":
        out, lse = ops._scaled_dot_product_flash_attention_for_cpu(query, key, value, 0.0, causal, scale=scale)
        return out, lse
    if query.device.type == "cuda" and query.shape[-1] % 8 == 0:
        if _flash(query):
            found = ops._scaled_dot_product_flash_attention(query, key, value, 0.0, causal, False, scale=scale)
        else:
            found = ops._scaled_dot_product_efficient_attention(query, key, value, None, True, 0.0, causal, scale=scale)
        return found[0], found[1][..., : query.shape[2]]  # the second kernel pads its log-sum-exp
    return _plain(query, key, value, scale, causal)


def _plain(
    query: torch.Tensor, key: torch.Tensor, value: torch.Tensor, scale: float, causal: bool
) -> tuple[torch.Tensor, torch.Tensor]:
    """The formula itself, for devices without a fused kernel that gives the log-sum-exp (and for the tests)."""
    scores = torch.matmul(query, key.transpose(2, 3)).float() * scale
    if causal:
        length, total = scores.shape[-2:]
        future = torch.ones(length, total, dtype=torch.bool, device=scores.device).triu(total - length + 1)
        scores = scores.masked_fill(future, float("-inf"))
    lse = torch.logsumexp(scores, dim=-1)
    return torch.matmul(torch.exp(scores - lse.unsqueeze(-1)).to(value.dtype), value), lse


# No mask function is registered under this name, so transformers builds no mask for it.
ALL_ATTENTION_FUNCTIONS.register(NAME, attend)
