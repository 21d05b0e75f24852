"""First-generation Qwen in the words of Qwen2: names, parts, configuration. Values stay as they are.

Qwen2 is the same decoder: RMSNorm, rotary embedding, SwiGLU, biases on query, key and value only. The fused `c_attn`
becomes three layers, and `w2` (behind the activation) the gate. Source: transformers' Qwen2Config and Qwen2ForCausalLM.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from typing import Any

import torch

from ..checkpoint import CheckpointError
from ..configuration import QWenConfig
from ..fit import HARMLESS
from ..long_context import resolve

TOP = {"transformer.wte": "model.embed_tokens", "transformer.ln_f": "model.norm", "lm_head": "lm_head"}
BLOCK = {
    "ln_1": "input_layernorm",
    "attn.c_proj": "self_attn.o_proj",
    "ln_2": "post_attention_layernorm",
    "mlp.w1": "mlp.up_proj",
    "mlp.w2": "mlp.gate_proj",
    "mlp.c_proj": "mlp.down_proj",
}
#: the parts of a packed layer whose outputs are columns
_BY_COLUMN = ("qweight", "qzeros", "scales")
_UNSAID_BIAS = re.compile(r"\.(?:attn\.c_proj|mlp\.(?:w1|w2|c_proj))\.bias$")


def is_unsaid_bias(name: str) -> bool:
    """Whether this is the bias of a layer that has none in Qwen2."""
    return bool(_UNSAID_BIAS.search(name))


def has_no_place(name: str) -> bool:
    """Whether a tensor has no counterpart in Qwen2: such a bias, or a table that is computed."""
    return is_unsaid_bias(name) or bool(HARMLESS.search(name))


def as_qwen2(name: str, tensor: torch.Tensor) -> Iterator[tuple[str, torch.Tensor]]:
    """A tensor of a first-generation checkpoint under its name in Qwen2; one of `c_attn` as its three thirds.

    Packed tensors (see `qwen_model/gptq.py`) are cut between whole words: the width of query, key and value fills them.
    """
    stem, _, kind = name.rpartition(".")
    if stem in TOP:
        yield f"{TOP[stem]}.{kind}", tensor
        return
    _, _, layer, part = stem.split(".", 3)
    if part != "attn.c_attn":
        yield f"model.layers.{layer}.{BLOCK[part]}.{kind}", tensor
        return
    if kind == "g_idx":  # the group of each input: the same for all three
        thirds: tuple[torch.Tensor, ...] = (tensor, tensor.clone(), tensor.clone())
    else:
        thirds = tensor.chunk(3, dim=1 if kind in _BY_COLUMN else 0)
    for letter, third in zip("qkv", thirds, strict=True):
        yield f"model.layers.{layer}.self_attn.{letter}_proj.{kind}", third.contiguous()


def long_context_lost(config: QWenConfig) -> str | None:
    """What the checkpoint has switched on and Qwen2 cannot say, and from which length on that changes the logits; None
    where nothing is on."""
    switches = resolve(config)
    names = {"dynamic NTK": switches.use_dynamic_ntk, "LogN attention": switches.use_logn_attn}
    lost = [name for name, on in names.items() if on]
    length = config.seq_length or config.max_position_embeddings
    if switches.window_attn is not None:
        lost.append("window attention")
        length = min([length, *(window for window in switches.window_attn if window is not None)])
    if not lost:
        return None
    return f"{', '.join(lost)} (on in config.json): the logits are the same up to {length:,} tokens, not beyond"


def dropped(config: QWenConfig) -> list[str]:
    """What of the checkpoint's settings the copy does not say: a line each."""
    lines = [lost] if (lost := long_context_lost(config)) else []
    if config.use_cache_quantization:
        lines.append("the 8-bit KV cache (use_cache_quantization): the logits are those of an unquantised cache")
    return lines


def refuse_unsayable(folder: str, config: QWenConfig, drop_long_context: bool = False) -> None:
    """CheckpointError where Qwen2's configuration has no words for what this model computes."""
    if config.rotary_pct != 1:
        raise CheckpointError(
            f"{folder}: rotary_pct is {config.rotary_pct}; Qwen2 always rotates the whole head, so there is no export"
        )
    if config.seq_length is None:
        raise CheckpointError(f"{folder}: config.json has no seq_length, the training length; add it")
    if (lost := long_context_lost(config)) and not drop_long_context:
        raise CheckpointError(
            f"{folder}: Qwen2's layout has no {lost}. Export without them: --drop-long-context. "
            "Keep them: run the checkpoint itself, by the local engine"
        )


def qwen2_config(
    config: QWenConfig, dtype: str, tied: bool = False, eos: int | None = None, bos: int | None = None
) -> dict[str, Any]:
    """The config.json of the exported model.

    Args:
        dtype: the name of its floating-point dtype in torch.
        tied: whether it has no head but the word embedding.
        eos, bos: ids of tokens.
    """
    settings: dict[str, Any] = {
        "architectures": ["Qwen2ForCausalLM"],
        "model_type": "qwen2",
        "vocab_size": config.vocab_size,
        "hidden_size": config.hidden_size,
        "intermediate_size": config.intermediate_size // 2,
        "num_hidden_layers": config.num_hidden_layers,
        "num_attention_heads": config.num_attention_heads,
        "num_key_value_heads": config.num_attention_heads,
        "hidden_act": "silu",
        "max_position_embeddings": config.seq_length,
        "initializer_range": config.initializer_range,
        "rms_norm_eps": config.layer_norm_epsilon,
        "rope_theta": float(config.rotary_emb_base),
        "use_sliding_window": False,
        "attention_dropout": config.attn_dropout_prob,
        "tie_word_embeddings": tied,
        "use_cache": config.use_cache,
        "torch_dtype": dtype,
    }
    settings |= {name: value for name, value in (("bos_token_id", bos), ("eos_token_id", eos)) if value is not None}
    if config.gptq is not None:
        # Where the checkpoint does not say it, what is right for every one: groups in any order, any zero.
        known = {"group_size": 128, "desc_act": True, "sym": False, "checkpoint_format": "gptq"}
        settings["quantization_config"] = {**known, **config.gptq, "quant_method": "gptq"}
    return settings
