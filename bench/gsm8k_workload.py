"""What the generation benchmarks run: 8-shot GSM8K prompts or their shape, reply lengths, a tokenizer of bare ids.

Used by bench_generate.py and gpu_gsm8k.py; nothing to run here. Needs torch, transformers, tiktoken and numpy only.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from transformers import PreTrainedTokenizer
from workload import Shape, needed_tokens

# Measured with Qwen's tokenizer on GSM8K's test set: tokens of the common prefix, and behind it (mean, and standard
# deviation of the logarithm).
PREFIX, OWN, OWN_SPREAD = 1308, 70, 0.37
REPLY_SPREAD = 0.4
RESERVED = 2  # the last ids of the vocabulary: end and padding, which no prompt holds


class Job(NamedTuple):
    """One request: its prompt, int32 [T], and how many tokens its reply has. Nobody stops earlier or later."""

    tokens: np.ndarray
    reply: int


def jobs(count: int, vocab: int, data: Path | None, tokenizer: Path | None, mean: float, seed: int) -> list[Job]:
    """The first `count` requests, with reply lengths drawn around `mean`."""
    rng = np.random.default_rng(seed)
    if data is not None and tokenizer is not None:
        prompts = [tokens % (vocab - RESERVED) for tokens in real_prompts(data, tokenizer, count)]
    else:
        prompts = synthetic_prompts(count, vocab - RESERVED, rng)
    replies = np.exp(rng.normal(0.0, REPLY_SPREAD, len(prompts)))
    replies = np.clip(np.round(replies * mean / replies.mean()), 1, 4 * mean).astype(int)
    return [Job(tokens, int(reply)) for tokens, reply in zip(prompts, replies, strict=True)]


def real_prompts(data: Path, tokenizer: Path, count: int) -> list[np.ndarray]:
    """The 8-shot prompts of evaluate_gsm8k.py. data: the folder with test.jsonl, or that file."""
    from qwen_eval.places import PROMPTS
    from qwen_model import QWenTokenizer

    examples = (PROMPTS / "gsm8k_8shot.txt").read_text(encoding="utf-8").rstrip("\n")
    lines = (data / "test.jsonl" if data.is_dir() else data).read_text(encoding="utf-8").splitlines()
    encode = QWenTokenizer(tokenizer).encode_plain
    asked = [json.loads(line)["question"] for line in lines[:count]]
    texts = [f"{examples}\n\nQuestion: {question}\nLet's think step by step\n" for question in asked]
    return [np.asarray(encode(text), dtype=np.int32) for text in texts]


def synthetic_prompts(count: int, vocab: int, rng: np.random.Generator) -> list[np.ndarray]:
    """Random ids of the same lengths."""
    shared = rng.integers(0, vocab, PREFIX, dtype=np.int32)
    lengths = np.exp(rng.normal(0.0, OWN_SPREAD, count))
    lengths = np.maximum(16, np.round(lengths * OWN / lengths.mean())).astype(int)
    return [np.concatenate((shared, rng.integers(0, vocab, length, dtype=np.int32))) for length in lengths]


def generate_requests(jobs: Sequence[Job], limit: int | None = None, stop: tuple[str, ...] = ()) -> list[Any]:
    """The engine's greedy requests; `limit` cuts the replies."""
    from qwen_eval.engines.base import GenerateRequest

    return [GenerateRequest(tokens, min(reply, limit or reply), frozenset(), stop) for tokens, reply in jobs]


class Ids(PreTrainedTokenizer):
    """Text is the ids themselves, `17 4711`: all contenders read and write the same tokens, and replies can be compared
    token by token. lm-evaluation-harness wants text in, and a tokenizer of transformers' class."""

    vocab_files_names: dict[str, str] = {}  # noqa: RUF012 - class attribute of the base class
    model_input_names = ["input_ids", "attention_mask"]  # noqa: RUF012

    def __init__(self, vocab: int) -> None:
        self.size = vocab
        super().__init__(eos_token="<end>", pad_token="<pad>")  # type: ignore[no-untyped-call]

    @property
    def vocab_size(self) -> int:
        return self.size

    def get_vocab(self) -> dict[str, int]:
        return {"<end>": self.size - 2, "<pad>": self.size - 1}

    def _tokenize(self, text: str, **kwargs: Any) -> list[str]:
        return text.split()

    def _convert_token_to_id(self, token: str) -> int:
        return self.get_vocab().get(token) or int(token)

    def _convert_id_to_token(self, index: int) -> str:
        return str(index)

    def convert_tokens_to_string(self, tokens: list[str]) -> str:
        return " ".join(tokens)


def ids_of(text: str) -> list[int]:
    """The tokens of a reply's text in the tokenizer above."""
    return [int(word) for word in text.split()]


def generation_flops(shape: Shape, work: Sequence[Job]) -> float:
    """What has to be computed with the prefix run once, two operations a multiply-add: layers, attention, the head."""
    linear = shape.layers * 2 * (4 * shape.hidden**2 + 3 * shape.hidden * shape.width)
    pair = shape.layers * 4 * shape.hidden  # one query and one key
    prompt = needed_tokens([job.tokens for job in work])
    total = float(prompt * (linear + pair * PREFIX / 2))
    for tokens, reply in work:
        total += reply * (linear + pair * (len(tokens) + reply / 2) + 2 * shape.hidden * shape.vocab)
    return total
