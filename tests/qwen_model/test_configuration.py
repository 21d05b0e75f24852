"""QWenConfig: defaults, v1.0 names, validation, dtype rule, round trip."""

import json
from typing import Any

from qwen_model import QWenConfig

import pytest
import torch

from .conftest import tiny_config

# The published 7B file's keys, at a small size.
DAY_ONE: dict[str, Any] = {
    "n_embd": 64,
    "n_head": 4,
    "n_layer": 2,
    "n_positions": 6144,
    "ffn_hidden_size": 128,
    "embd_pdrop": 0.1,
    "attn_pdrop": 0.2,
    "kv_channels": 16,
    "seq_length": 2048,
    "layer_norm_epsilon": 1e-5,
    "use_dynamic_ntk": False,
    "use_logn_attn": False,
    "padded_vocab_size": 151936,
    "pos_emb": "rotary",
    "apply_residual_connection_post_layernorm": False,
}


def test_defaults_are_those_of_the_published_code():
    config = QWenConfig(seq_length=8192)
    assert (config.vocab_size, config.hidden_size, config.num_hidden_layers) == (151936, 4096, 32)
    assert (config.intermediate_size, config.kv_channels, config.layer_norm_epsilon) == (22016, 128, 1e-6)
    assert (config.rotary_emb_base, config.rotary_pct) == (10000, 1.0)
    assert config.use_dynamic_ntk and config.use_logn_attn and config.no_bias and not config.tie_word_embeddings
    assert config.head_dim == 128 and config.rotary_dim == 128


def test_day_one_config_names():
    config = QWenConfig(**DAY_ONE)
    assert (config.hidden_size, config.num_attention_heads, config.num_hidden_layers) == (64, 4, 2)
    assert (config.max_position_embeddings, config.intermediate_size) == (6144, 128)
    assert (config.emb_dropout_prob, config.attn_dropout_prob) == (0.1, 0.2)
    assert config.layer_norm_epsilon == 1e-5 and not config.use_dynamic_ntk
    assert config.n_embd == 64


@pytest.mark.parametrize(
    "changes, message",
    [
        ({"hidden_size": 33}, "kv_channels x num_attention_heads"),
        ({"hidden_size": 0}, "hidden_size must be a positive integer"),
        ({"vocab_size": 1.5}, "vocab_size must be a positive integer"),
        ({"intermediate_size": 97}, "must be even"),
        ({"bf16": True}, "only one of bf16, fp16 and fp32"),
        ({"rotary_pct": 0.0}, "rotary_pct"),
        ({"rotary_pct": 0.25}, "more than 2 rotary dimensions"),
        ({"seq_length": "2048"}, "seq_length must be an integer"),
        ({"pos_emb": "alibi"}, "pos_emb"),
        ({"use_dynamic_ntk": "false"}, "use_dynamic_ntk must be true or false, not 'false'"),
        ({"no_bias": None}, "no_bias must be true or false"),
        ({"seq_length": True}, "seq_length must be an integer"),
        ({"layer_norm_epsilon": "1e-6"}, "layer_norm_epsilon must be a number from 0 to 1"),
        ({"rotary_emb_base": float("inf")}, "rotary_emb_base must be a number"),
        ({"apply_residual_connection_post_layernorm": True}, "apply_residual"),
    ],
)
def test_contradictions_are_one_line(changes, message):
    with pytest.raises(ValueError, match=message) as caught:
        tiny_config(**changes)
    assert "\n" not in str(caught.value)


def test_training_length_is_needed_only_where_it_is_used(build):
    assert build(seq_length=None, use_dynamic_ntk=False, use_logn_attn=False)
    with pytest.raises(ValueError, match="seq_length is missing"):
        build(seq_length=None)


def test_dtype_rule(monkeypatch):
    auto = {"fp32": False, "torch_dtype": "bfloat16"}
    assert tiny_config(**auto).select_dtype("cpu") == torch.float32
    assert tiny_config(fp32=False, bf16=True).select_dtype("cpu") == torch.bfloat16
    assert tiny_config(fp32=False, fp16=True).select_dtype("cpu") == torch.float16
    assert tiny_config(fp32=True).select_dtype("cuda") == torch.float32
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    monkeypatch.setattr(torch.cuda, "is_bf16_supported", lambda **_: True)
    assert tiny_config(**auto).select_dtype() == torch.bfloat16
    assert tiny_config(**auto).select_dtype("cpu") == torch.float32
    monkeypatch.setattr(torch.cuda, "is_bf16_supported", lambda **_: False)
    for capability, dtype in (((7, 0), torch.float16), ((6, 1), torch.float32)):
        monkeypatch.setattr(torch.cuda, "get_device_capability", lambda _=None, c=capability: c)
        assert tiny_config(**auto).select_dtype("cuda") == dtype


def test_round_trip(tmp_path):
    config = tiny_config(rotary_emb_base=1e6, use_logn_attn=False, layer_norm_epsilon=1e-5, made_up_key=3)
    config.save_pretrained(tmp_path)
    again = QWenConfig.from_pretrained(tmp_path)
    assert again.to_dict() == config.to_dict()
    saved = json.loads((tmp_path / "config.json").read_text())
    assert saved["model_type"] == "qwen" and saved["seq_length"] == 32 and saved["made_up_key"] == 3
