"""The weights that the demo's training begins with: attention that looks back and matches from the first step.

Once its answer is known, a choice question asks which letter stands before a text. Attention has to find out two
things for that: to look back from a text to its letter, and to find the same text again. From random weights 400 steps
of nothing else did not get there; from such weights (with FAST = 5) 150 did. The heads of the first layer begin by
looking 1, 2, 3, 4 ... tokens back, most of the others by looking for the same content elsewhere. Starting from the
structure that trained attention has is the idea of Trockman & Kolter 2023, "Mimetic Initialization of Self-Attention
Layers" (queries close to keys, values close to the transpose of their way back); the biases for distances are ours.

Rotary pair i of a head turns by THETA ** (-2 i / width) per token: fast pairs tell distances, slow ones content.
"""

from __future__ import annotations

import math
from typing import Any

from qwen_model.modeling import QWenLMHeadModel

import torch

THETA = 10_000.0
FAST = 3  # rotary pairs of a head that tell distances
LOOK, AWAY = 10.0, 2.5  # logits per pair: how strongly a head is drawn to its distance, or away from its own token
MATCH = 0.2  # standard deviation of the slow half of queries and keys, which are the same
QUIET = 0.3  # what is left of the rest of them
FIRST_COPY, COPY = 1.0, 0.5  # gain of the values, in the first layer and in the others
EMBEDDING, HEAD = 0.3, 0.3  # standard deviation; the output head begins as this share of the embeddings


@torch.no_grad()
def begin(model: QWenLMHeadModel) -> None:
    """Set the weights of a new model in place. Draws from torch's generator."""
    hidden, heads = model.config.hidden_size, model.config.num_attention_heads
    width = hidden // heads
    torch.nn.init.normal_(model.transformer.wte.weight, std=EMBEDDING)
    model.lm_head.weight.copy_(HEAD * model.transformer.wte.weight)
    slow = [row for row in range(hidden) if row % (width // 2) >= width // 4]
    blocks: Any = model.transformer.h
    for layer, block in enumerate(blocks):
        query, key, value = block.attn.c_attn.weight.view(3, hidden, hidden)
        query *= QUIET
        key *= QUIET
        torch.nn.init.orthogonal_(value, gain=COPY if layer else FIRST_COPY)
        block.attn.c_proj.weight.copy_(value.T)
        query_bias, key_bias, _ = block.attn.c_attn.bias.view(3, heads, width)
        if layer:
            query[slow] = key[slow] = torch.randn(len(slow), hidden) * MATCH
            q, k = _drawn_to(0, AWAY, width)
            query_bias[:], key_bias[:] = -q, k
        else:
            for head in range(heads):
                query_bias[head], key_bias[head] = _drawn_to(head + 1, LOOK, width)


def _drawn_to(distance: int, strength: float, width: int) -> tuple[torch.Tensor, torch.Tensor]:
    """Biases of a head's queries and keys, float32 [width], whose product is largest `distance` tokens back."""
    q, k = torch.zeros(width), torch.zeros(width)
    size = math.sqrt(strength * math.sqrt(width))  # attention divides by the root of the width
    for pair in range(FAST):
        turn = distance * THETA ** (-2 * pair / width)
        k[pair] = size
        q[pair], q[pair + width // 2] = size * math.cos(turn), -size * math.sin(turn)
    return q, k
