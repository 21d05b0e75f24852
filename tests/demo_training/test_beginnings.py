"""What the demo's training begins with: heads that look a few tokens back, and heads that find the same content."""

from __future__ import annotations

from qwen_model.configuration import QWenConfig
from qwen_model.modeling import QWenLMHeadModel

import pytest
import torch
from beginnings import begin
from train import CHECKPOINT


@pytest.fixture(scope="module")
def attentions() -> tuple[torch.Tensor, ...]:
    """Of 40 different tokens and five of them once more, from the 16th on: a layer's [1, heads, 45, 45]."""
    config = QWenConfig.from_pretrained(str(CHECKPOINT / "base"))
    config._attn_implementation = "eager"
    torch.manual_seed(0)
    model = QWenLMHeadModel(config).eval()
    begin(model)
    ids = torch.randperm(1_800)[:40]
    with torch.no_grad():
        return model(input_ids=torch.cat([ids, ids[16:21]])[None], output_attentions=True).attentions


def test_the_first_layers_heads_look_one_to_four_tokens_back(attentions: tuple[torch.Tensor, ...]) -> None:
    for head in range(4):
        back = attentions[0][0, head].diagonal(-1 - head)[8:]
        assert back.min() > 0.85


def test_most_other_layers_look_for_the_same_content_elsewhere(attentions: tuple[torch.Tensor, ...]) -> None:
    found = [layer[0, :, 44].mean(dim=0)[:40] for layer in attentions[1:]]
    assert sum(bool(last.argmax() == 20 and last[20] > 0.2) for last in found) > len(found) / 2
