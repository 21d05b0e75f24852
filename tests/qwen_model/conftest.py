"""Tiny Qwen models and vocabularies, built here. Training length S = 32: the long-context rules are cheap to reach."""

import base64
from collections.abc import Callable
from pathlib import Path
from typing import Any

from qwen_model import LongContext, QWenConfig, QWenLMHeadModel, QWenTokenizer

import pytest
import torch

S = 32
VOCAB = 96

Build = Callable[..., QWenLMHeadModel]


#: all techniques, with a window a layer of the tiny model: below, at and beyond the training length
ON = LongContext(True, True, (7, S, 70))
PLAIN: dict[str, Any] = {"use_dynamic_ntk": False, "use_logn_attn": False}
VARIANTS: list[dict[str, Any]] = [
    {},
    PLAIN,
    {"use_logn_attn": False},
    {"use_dynamic_ntk": False},
    {"rotary_pct": 0.5, "rotary_emb_base": 1e6},
    {"no_bias": False, "seq_length": 20},
]


def same(a: torch.Tensor, b: torch.Tensor, atol: float = 1e-5) -> None:
    torch.testing.assert_close(a, b, atol=atol, rtol=0)


def padded(rows: list[torch.Tensor], side: str) -> tuple[torch.Tensor, torch.Tensor]:
    width = max(len(row) for row in rows)
    out, mask = torch.zeros(len(rows), width, dtype=torch.long), torch.zeros(len(rows), width, dtype=torch.long)
    for i, row in enumerate(rows):
        where = slice(width - len(row), width) if side == "left" else slice(0, len(row))
        out[i, where], mask[i, where] = row, 1
    return out, mask


def rows_of(ids: Any, *lengths: int) -> list[torch.Tensor]:
    return [ids(1, n, seed=n)[0] for n in lengths]


@pytest.fixture(autouse=True, scope="session")
def _one_thread() -> None:
    torch.set_num_threads(1)


def tiny_config(**changes: Any) -> QWenConfig:
    settings = {
        "vocab_size": VOCAB,
        "hidden_size": 32,
        "num_hidden_layers": 3,
        "num_attention_heads": 4,
        "kv_channels": 8,
        "intermediate_size": 96,
        "seq_length": S,
        "fp32": True,
    }
    return QWenConfig(**{**settings, **changes})


@pytest.fixture
def build() -> Build:
    """build(seed=0, attn="sdpa", **config) -> a model whose random weights are large enough for logits of size 1."""

    def make(seed: int = 0, attn: str = "sdpa", **changes: Any) -> QWenLMHeadModel:
        config = tiny_config(**changes)
        config._attn_implementation = attn
        model = QWenLMHeadModel(config).eval()
        generator = torch.Generator().manual_seed(seed)
        with torch.no_grad():
            for name, parameter in model.named_parameters():
                mean = 1.0 if ".ln_" in name else 0.0
                parameter.copy_(torch.randn(parameter.shape, generator=generator) * 0.2 + mean)
        return model

    return make


@pytest.fixture
def ids() -> Callable[..., torch.Tensor]:
    """ids(rows, columns, seed=0) -> random token ids."""

    def make(rows: int, columns: int, seed: int = 0) -> torch.Tensor:
        return torch.randint(0, VOCAB, (rows, columns), generator=torch.Generator().manual_seed(seed))

    return make


@pytest.fixture(scope="session")
def tiny_vocab(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A `qwen.tiktoken` of 500 ranks: the bytes, then pairs of letters."""
    letters = b" etaoinshrdlucmw"
    tokens = [bytes([b]) for b in range(256)] + [bytes([a, b]) for a in letters for b in letters][:244]
    path = tmp_path_factory.mktemp("vocab") / "qwen.tiktoken"
    path.write_bytes(b"".join(base64.b64encode(token) + b" %d\n" % rank for rank, token in enumerate(tokens)))
    return path


@pytest.fixture(scope="session")
def tiny_tokenizer(tiny_vocab: Path) -> QWenTokenizer:
    return QWenTokenizer(tiny_vocab)


@pytest.fixture(scope="session")
def tokenizer(shared: Path) -> QWenTokenizer:
    """The published vocabulary."""
    return QWenTokenizer(shared / "data/tokenizer/qwen.tiktoken")
