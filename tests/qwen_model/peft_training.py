"""Adapters trained with PEFT in a few seconds, as users have them."""

from pathlib import Path
from typing import Any

from qwen_model.gptq import GPTQLinear
from qwen_model.loading import load_model, load_tokenizer
from qwen_model.packed_lora import PackedLora

import torch
from peft import LoraConfig, PeftModel, get_peft_model

LAYERS = ["c_attn", "attn.c_proj", "w1", "w2", "mlp.c_proj"]


def train(base: Path, target: Path, steps: int = 6, bin_file: bool = False, **settings: Any) -> PeftModel:
    """Train an adapter on sums, and save it as PEFT does; returns PEFT's model. On packed layers that is QLoRA."""
    torch.manual_seed(0)
    config = LoraConfig(**{"r": 4, "task_type": "CAUSAL_LM", "target_modules": LAYERS, **settings})
    config._register_custom_module({GPTQLinear: PackedLora})
    model = get_peft_model(load_model(base, dtype="float32", device="cpu"), config)
    tokenizer = load_tokenizer(base)
    ids = tokenizer([f"Question: {n} + {n}?\nAnswer: {2 * n}" for n in range(10, 18)])["input_ids"]
    rows = torch.tensor([row[: min(map(len, ids))] for row in ids])
    optimizer = torch.optim.AdamW([one for one in model.parameters() if one.requires_grad], lr=1e-2)
    losses = []
    model.train()
    for _ in range(steps):
        loss = model(input_ids=rows, labels=rows).loss
        loss.backward()
        optimizer.step()
        optimizer.zero_grad()
        losses.append(loss.item())
    assert not steps or losses[-1] < losses[0], "it learns"
    model.save_pretrained(target, safe_serialization=not bin_file)
    return model.eval()
