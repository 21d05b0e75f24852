"""The same weights in transformers' Qwen2: what a first-generation Qwen without NTK and LogN must agree with."""

from qwen_model import QWenLMHeadModel

import torch
from transformers import Qwen2Config, Qwen2ForCausalLM

NAMES = (
    ("transformer.", "model."),
    (".h.", ".layers."),
    ("wte", "embed_tokens"),
    ("ln_f", "norm"),
    ("ln_1", "input_layernorm"),
    ("ln_2", "post_attention_layernorm"),
    ("attn.c_proj", "self_attn.o_proj"),
    ("mlp.c_proj", "mlp.down_proj"),
    ("w1", "up_proj"),
    ("w2", "gate_proj"),
)


def qwen2_of(model: QWenLMHeadModel) -> Qwen2ForCausalLM:
    """A Qwen2ForCausalLM with this model's weights, renamed; the fused QKV in three parts."""
    c = model.config
    other = Qwen2ForCausalLM(
        Qwen2Config(
            vocab_size=c.vocab_size,
            hidden_size=c.hidden_size,
            intermediate_size=c.intermediate_size // 2,
            num_hidden_layers=c.num_hidden_layers,
            num_attention_heads=c.num_attention_heads,
            num_key_value_heads=c.num_attention_heads,
            rms_norm_eps=c.layer_norm_epsilon,
            attn_implementation=c._attn_implementation,
        )
    ).eval()
    renamed: dict[str, torch.Tensor] = {}
    for name, value in model.state_dict().items():
        for ours, theirs in NAMES:
            name = name.replace(ours, theirs)
        if "attn.c_attn" in name:
            for part, piece in zip("qkv", value.chunk(3), strict=True):
                renamed[name.replace("attn.c_attn", f"self_attn.{part}_proj")] = piece
        else:
            renamed[name] = value
    other.load_state_dict(renamed)
    return other
