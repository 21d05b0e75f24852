"""Tiny models with random weights, lively enough that the engine's answers differ from prompt to prompt."""

from typing import Any

from qwen_model import QWenConfig, QWenLMHeadModel

import torch
import transformers

VOCAB = 128
TRAINED = 64  # training length of the tiny Qwen: NTK and LogN act beyond it
SMALL = {
    "vocab_size": VOCAB,
    "hidden_size": 32,
    "intermediate_size": 64,
    "num_hidden_layers": 2,
    "num_attention_heads": 4,
    "max_position_embeddings": 512,
    "pad_token_id": 0,
    "bos_token_id": 1,
    "eos_token_id": 5,
}
GQA = {**SMALL, "num_key_value_heads": 2}


def lively(model: torch.nn.Module, seed: int = 0) -> Any:
    """Weights large enough that attention picks the tokens and replies vary."""
    generator = torch.Generator().manual_seed(seed)
    with torch.no_grad():
        for parameter in model.parameters():
            if parameter.dim() > 1:
                parameter.copy_(torch.randn(parameter.shape, generator=generator) * (1.5 / parameter.shape[-1] ** 0.5))
            else:
                parameter.add_(torch.randn(parameter.shape, generator=generator) * 0.1)
    return model.eval()


def qwen(**changes: Any) -> Any:
    settings = {
        "vocab_size": VOCAB,
        "hidden_size": 32,
        "num_hidden_layers": 2,
        "num_attention_heads": 4,
        "kv_channels": 8,
        "intermediate_size": 64,
        "seq_length": TRAINED,
        "fp32": True,
    }
    return lively(QWenLMHeadModel(QWenConfig(**{**settings, **changes})))


def other(name: str, **settings: Any) -> Any:
    """A model of transformers by its name: `Llama` is a LlamaConfig with these settings."""
    config = getattr(transformers, f"{name}Config")(**settings)
    return lively(transformers.AutoModelForCausalLM.from_config(config))
