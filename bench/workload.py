"""What the choice benchmarks run: models of random weights, 5-shot MMLU prompts or their shape, operation counts.

Used by bench_choose.py and gpu_mmlu.py; nothing to run here. Needs torch, transformers, tiktoken and numpy only.
"""

from __future__ import annotations

import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

ROOT = Path(__file__).resolve().parents[1]
sys.path[:0] = [path for path in (str(ROOT / "eval"), str(ROOT)) if path not in sys.path]

MAX_SEQ_LEN = 2048


class Shape(NamedTuple):
    """A first-generation Qwen; one gated branch of the MLP is 2.6875 x hidden wide, as in Qwen-7B."""

    name: str
    hidden: int
    layers: int
    vocab: int
    kv_channels: int = 128

    @property
    def width(self) -> int:
        return round(self.hidden * 2.6875)


HEAD_HEAVY = Shape("head-heavy", 512, 8, 151936)
BODY_HEAVY = Shape("body-heavy", 1024, 16, 8192)
SEVEN_B = Shape("7B", 4096, 32, 151936)

# MMLU 5-shot by Qwen's tokenizer, measured, in the alphabetical order of the subjects: questions, tokens of the common
# prefix, tokens behind it (mean, and standard deviation of their logarithm). 14,042 questions, 9.94 M tokens.
MMLU = """
100 307 64 .28,135 286 61 .32,152 511 72 .35,100 490 73 .34,265 335 59 .28,144 404 76 .42,100 480 81 .45,
100 724 108 .43,100 520 81 .37,173 393 106 .62,102 425 84 .31,100 316 64 .48,235 254 44 .27,114 522 99 .37,
145 410 47 .28,378 500 70 .35,126 493 105 .41,100 365 57 .26,310 430 77 .40,203 428 82 .45,100 764 107 .59,
165 2466 342 .37,198 318 47 .28,193 391 69 .29,390 303 64 .30,270 483 75 .33,238 327 68 .33,151 475 99 .34,
545 426 63 .39,216 701 122 .37,204 1932 298 .26,237 1103 338 .39,223 267 48 .24,131 278 57 .35,121 544 90 .28,
108 321 67 .34,163 375 68 .38,112 598 77 .40,103 234 43 .21,234 342 55 .26,100 281 54 .27,783 249 48 .38,
346 402 67 .33,895 599 62 .11,306 524 69 .38,311 265 57 .37,324 456 65 .36,282 628 104 .36,1534 1404 253 .43,
272 929 189 .36,612 499 75 .39,110 345 56 .38,245 1007 153 .52,201 375 68 .28,100 361 60 .26,166 281 56 .33,
171 227 42 .18
"""
NUTRITION = 44  # its place in the list


def build(shape: Shape, seed: int = 0, device: str = "cpu", dtype: str = "float32") -> Any:
    """A QWenLMHeadModel of random weights, made on the device itself: no copy on the way."""
    from qwen_model import QWenConfig, QWenLMHeadModel

    import torch

    config = QWenConfig(
        vocab_size=shape.vocab,
        hidden_size=shape.hidden,
        num_hidden_layers=shape.layers,
        num_attention_heads=shape.hidden // shape.kv_channels,
        kv_channels=shape.kv_channels,
        intermediate_size=2 * shape.width,
        seq_length=MAX_SEQ_LEN,
    )
    with torch.device("meta"):
        model = QWenLMHeadModel(config).to(getattr(torch, dtype))
    assert not list(model.buffers()), "a buffer would stay uninitialised"
    model = model.to_empty(device=device).eval()
    generator = torch.Generator(device=device).manual_seed(seed)
    for name, parameter in model.named_parameters():
        parameter.requires_grad_(False)
        if "ln_" in name:
            parameter.fill_(1.0)
        else:
            parameter.normal_(0.0, 0.02, generator=generator)
    return model


def real_prompts(
    data: Path, tokenizer: Path, subjects: Sequence[str], cut: int | None = MAX_SEQ_LEN
) -> tuple[list[np.ndarray], tuple[int, ...]]:
    """The script's own 5-shot prompts of these subjects, cut from the left to `cut` tokens; and the answers' ids.

    Read with pandas and the model's tokenizer alone, so that it runs where the rest of the harness is not installed.
    """
    from qwen_model import QWenTokenizer

    import pandas as pd

    columns = ["question", *"ABCD", "answer"]

    def read(path: Path) -> list[dict[str, str]]:
        frame = pd.read_csv(path, header=None, names=columns, dtype=str, keep_default_na=False)
        return [dict(zip(columns, row, strict=True)) for row in frame.itertuples(index=False)]

    def example(row: dict[str, str], answer: str) -> str:
        options = "\n".join(f"{letter}. {row[letter]}" for letter in "ABCD")
        return f"Question: {row['question']}\n{options}\nAnswer:{answer}"

    encode = QWenTokenizer(tokenizer).encode_plain
    prompts = []
    for subject in subjects:
        head = f"The following are multiple choice questions (with answers) about {subject.replace('_', ' ')}.\n\n"
        shots = read(data / "dev" / f"{subject}_dev.csv")[:5]
        head += "".join(example(row, f" {row['answer']}\n\n") for row in shots)
        for row in read(data / "test" / f"{subject}_test.csv"):
            prompts.append(np.asarray(encode(head + example(row, ""))[-(cut or 0) :], dtype=np.int32))
    return prompts, tuple(encode(f" {letter}")[0] for letter in "ABCD")


def subject_names(data: Path) -> list[str]:
    return sorted(path.name.removesuffix("_test.csv") for path in (data / "test").glob("*_test.csv"))


def synthetic_prompts(
    places: Sequence[int], vocab: int, seed: int = 0, cut: int | None = MAX_SEQ_LEN
) -> tuple[list[np.ndarray], tuple[int, ...]]:
    """Random ids with the prefix and suffix lengths of the subjects at `places` of MMLU, cut from the left to `cut`."""
    rng = np.random.default_rng(seed)
    table = [tuple(map(float, entry.split())) for entry in MMLU.replace("\n", "").split(",")]
    assert len(table) == 57 and sum(row[0] for row in table) == 14042
    prompts = []
    for place in places:
        count, prefix, mean, spread = table[place]
        shared = rng.integers(0, vocab, int(prefix), dtype=np.int32)
        lengths = np.exp(rng.normal(0.0, spread, int(count)))
        lengths = np.maximum(16, np.round(lengths * mean / lengths.mean())).astype(int)
        for length in lengths:
            own = rng.integers(0, vocab, length, dtype=np.int32)
            prompts.append(np.concatenate((shared, own))[-(cut or 0) :])
    return prompts, tuple(int(token) for token in rng.choice(vocab, 4, replace=False))


def synthetic_names() -> list[int]:
    return list(range(57))


def layer_flops(shape: Shape) -> int:
    """A token through the linear layers of one block, two operations a multiply-add."""
    return 2 * (4 * shape.hidden**2 + 3 * shape.hidden * shape.width)


def attention_flops(shape: Shape, queries: int, first_keys: int) -> int:
    """One layer's scores and weighted sums: `queries` queries in a row, the first of which sees `first_keys` keys."""
    return 4 * shape.hidden * (queries * first_keys + queries * (queries - 1) // 2)


def plain_flops(shape: Shape, lengths: Sequence[int], head_everywhere: bool) -> int:
    """One full forward per prompt, with the head at every position or at the last."""
    total = 0
    for length in lengths:
        total += shape.layers * (length * layer_flops(shape) + attention_flops(shape, length, 1))
        total += 2 * shape.hidden * shape.vocab * (length if head_everywhere else 1)
    return total


def shared_flops(shape: Shape, prompts: Sequence[np.ndarray]) -> int:
    """What has to be computed when every shared prefix runs once: in the last layer only keys, values and one query."""
    from qwen_eval.engines.local.prefix import plan

    keys_values = 4 * shape.hidden**2
    total = 0
    for group in plan(prompts):
        own = [(len(prompts[i]) - group.length, group.length + 1) for i in group.members]
        for length, first in own + ([(group.length, 1)] if group.length else []):
            total += (shape.layers - 1) * (length * layer_flops(shape) + attention_flops(shape, length, first))
            total += length * keys_values
        ones = sum(attention_flops(shape, 1, len(prompts[i])) for i in group.members)
        total += ones + len(group.members) * (layer_flops(shape) - keys_values)
    return total


def needed_tokens(prompts: Sequence[np.ndarray]) -> int:
    """Tokens when every shared prefix runs once."""
    from qwen_eval.engines.local.prefix import plan

    return sum(g.length + sum(len(prompts[i]) - g.length for i in g.members) for g in plan(prompts))


def matmul_rate(shape: Shape, device: str = "cpu", dtype: str = "float32", tokens: int = 1024) -> float:
    """Operations per second of the four kinds of linear layers at the model's own shapes: one timing of a block."""
    import time

    import torch

    kind = getattr(torch, dtype)
    pairs = [(shape.hidden, 3 * shape.hidden), (shape.hidden, shape.hidden)]
    pairs += [(shape.hidden, shape.width)] * 2 + [(shape.width, shape.hidden)]
    layers = [torch.randn(o, i, device=device, dtype=kind) for i, o in pairs]
    inputs = {i: torch.randn(tokens, i, device=device, dtype=kind) for i, _ in pairs}

    def block() -> None:
        for weight in layers:
            torch.nn.functional.linear(inputs[weight.shape[1]], weight)

    def seconds(times: int) -> float:
        start = time.perf_counter()
        for _ in range(times):
            block()
        if device != "cpu":
            torch.cuda.synchronize()
        return time.perf_counter() - start

    once = max(min(seconds(1), seconds(1)), 1e-6)
    times = max(2, min(200, int(0.3 / once)))
    return layer_flops(shape) * tokens * times / seconds(times)
