"""The Qwen decoder once more, written out from the formulas: one unpadded row, explicit scores, dense masks.

Shares no code with qwen_model: it reads the weights by name and nothing else.
"""

import math
from collections.abc import Sequence

import torch


def ntk(length: int, trained: int) -> float:
    """1 up to S, then 3, 7, 15 ... at every doubling."""
    alpha, reach = 1.0, trained
    while length > reach:
        alpha, reach = 2 * alpha + 1, 2 * reach
    return alpha


def norm(x: torch.Tensor, weight: torch.Tensor, eps: float) -> torch.Tensor:
    return x / (x.pow(2).mean(-1, keepdim=True) + eps).sqrt() * weight


def turn(x: torch.Tensor, alpha: float, base: float, dims: int) -> torch.Tensor:
    """Rotary embedding of x [T, heads, d] in pairs (i, i + dims / 2), as complex numbers."""
    half = dims // 2
    base = base * alpha ** (dims / (dims - 2))
    frequency = torch.tensor([base ** (-2 * i / dims) for i in range(half)], dtype=x.dtype)
    angle = torch.arange(x.shape[0], dtype=x.dtype)[:, None] * frequency
    turned = torch.complex(x[..., :half], x[..., half:dims]) * torch.polar(torch.ones_like(angle), angle)[:, None]
    return torch.cat([turned.real, turned.imag, x[..., dims:]], dim=-1)


def logits(
    model: torch.nn.Module,
    tokens: torch.Tensor,
    windows: Sequence[int | None] | None = None,
    use_dynamic_ntk: bool = False,
    use_logn_attn: bool = False,
    ntk_per_layer: bool = True,
    visible: bool = False,
    ntk_length: int | None = None,
) -> torch.Tensor:
    """float64 [T, vocabulary] after tokens int64 [T]. ntk_length: the length that sets the NTK factor (default: T)."""
    config = model.config
    weights = {name: value.double() for name, value in model.state_dict().items()}
    length, heads, trained = len(tokens), config.num_attention_heads, config.seq_length
    dims = int(config.kv_channels * config.rotary_pct)
    x = weights["transformer.wte.weight"][tokens]
    for layer in range(config.num_hidden_layers):
        part = {name.split(f"h.{layer}.", 1)[1]: w for name, w in weights.items() if f".h.{layer}." in name}
        window = (windows[layer] if windows else None) or 10**9
        n = min(ntk_length or length, window) if ntk_per_layer else (ntk_length or length)
        alpha = ntk(n, trained) if use_dynamic_ntk else 1.0

        y = norm(x, part["ln_1.weight"], config.layer_norm_epsilon)
        y = y @ part["attn.c_attn.weight"].T + part["attn.c_attn.bias"]
        q, k, v = (t.reshape(length, heads, -1) for t in y.split(config.hidden_size, dim=-1))
        q, k = (turn(t, alpha, config.rotary_emb_base, dims) for t in (q, k))
        if use_logn_attn:
            index = [min(i, window) if visible else i for i in range(1, length + 1)]
            factor = torch.tensor([max(math.log(i) / math.log(trained), 1.0) for i in index], dtype=q.dtype)
            q = q * factor[:, None, None]
        scores = torch.einsum("ihd,jhd->hij", q, k) / config.kv_channels**0.5
        for i in range(length):
            for j in range(length):
                if not i - window < j <= i:
                    scores[:, i, j] = -math.inf
        y = torch.einsum("hij,jhd->ihd", scores.softmax(-1), v).reshape(length, -1)
        x = x + y @ part["attn.c_proj.weight"].T + part.get("attn.c_proj.bias", 0)

        y = norm(x, part["ln_2.weight"], config.layer_norm_epsilon)
        gate = y @ part["mlp.w2.weight"].T + part.get("mlp.w2.bias", 0)
        y = (y @ part["mlp.w1.weight"].T + part.get("mlp.w1.bias", 0)) * gate * torch.sigmoid(gate)
        x = x + y @ part["mlp.c_proj.weight"].T + part.get("mlp.c_proj.bias", 0)
    return norm(x, weights["transformer.ln_f.weight"], config.layer_norm_epsilon) @ weights["lm_head.weight"].T
