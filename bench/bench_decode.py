"""Decoding on a CPU: this engine beside the bare products that a step cannot do without, and transformers' `generate`.

    python bench/bench_decode.py                             # 110 M parameters, fp32 and bf16, 1 row and 8
    python bench/bench_decode.py --tiny --tokens 8           # does it run at all?

One process, contenders in turns, the same random weights; ratios are medians over the turns. `bare` is F.linear of the
shapes of one step and nothing else. share: bytes of weights over the time, of the rate at which a large array is read.
Greedy tokens are the same in each turn (a tie of two logits in fp32 may part them): the count is printed.
"""

from __future__ import annotations

import argparse
import statistics
import sys
import time
from collections.abc import Callable
from typing import Any

import numpy as np
from gpu_speed import Even, model_of
from gsm8k_workload import Ids
from machine import load, processor, versions
from workload import Shape, build

MIDDLE = Even("110M", 768, 12, 16384, kv_channels=64)
TINY = Even("tiny", 256, 2, 8192, kv_channels=64)
BARE, OURS, THEIRS, INT4 = "bare F.linear", "this engine", "transformers", "this engine, int4"


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--tokens", type=int, default=64, help="new tokens per row")
    parser.add_argument("--rows", default="1,8", help="rows in flight, by comma")
    parser.add_argument("--turns", type=int, default=7)
    parser.add_argument("--threads", type=int)
    parser.add_argument("--tiny", action="store_true")
    args = parser.parse_args()

    import torch

    if args.threads:
        torch.set_num_threads(args.threads)
    torch.set_grad_enabled(False)
    shape = TINY if args.tiny else MIDDLE
    rate = read_rate()
    print(f"{processor()}, {torch.get_num_threads()} threads, {load()}; {versions()}")
    print(
        f"{shape.name}: hidden {shape.hidden}, {shape.layers} layers, vocabulary {shape.vocab}; {rate / 1e9:.0f} GB/s"
    )
    for dtype in ("float32", "bfloat16"):
        for rows in map(int, args.rows.split(",")):
            compare(shape, dtype, rows, args.tokens, args.turns, rate)
    return 0


def read_rate() -> float:
    """Bytes per second at which an array far larger than its cores' own caches is read: the best of ten sums."""
    import torch

    array, best = torch.ones(2**27), float("inf")
    for _ in range(10):
        start = time.perf_counter()
        array.sum()
        best = min(best, time.perf_counter() - start)
    return array.nbytes / best


def compare(shape: Shape, dtype: str, rows: int, tokens: int, turns: int, rate: float) -> None:
    import torch

    model = build(shape, dtype=dtype)
    weights = [weight for name, weight in model.named_parameters() if weight.dim() == 2 and "wte" not in name]
    inputs = {size: torch.randn(rows, size).to(weights[0].dtype) for size in {weight.shape[1] for weight in weights}}
    prompts = [np.array([5 + row, 7, 9], dtype=np.int32) for row in range(rows)]

    def bare() -> Any:
        for _ in range(tokens):
            for weight in weights:
                torch.nn.functional.linear(inputs[weight.shape[1]], weight)

    def theirs() -> Any:
        ids = torch.from_numpy(np.stack(prompts).astype(np.int64))
        more = {"do_sample": False, "eos_token_id": None, "pad_token_id": 0}
        said = model.generate(
            ids, attention_mask=torch.ones_like(ids), max_new_tokens=tokens, min_new_tokens=tokens, **more
        )
        return said[:, ids.shape[1] :].tolist()

    work: dict[str, Callable[[], Any]] = {BARE: bare, OURS: ours(model, prompts, tokens), THEIRS: theirs}
    if dtype == "bfloat16":
        work[INT4] = ours(model_of(shape, 4, "cpu"), prompts, tokens)
    spent: dict[str, list[float]] = {name: [] for name in work}
    said = {name: run() for name, run in work.items()}  # warm
    for _ in range(turns):
        for name, run in work.items():
            start = time.perf_counter()
            run()
            spent[name].append(time.perf_counter() - start)
    same = sum(mine == their for mine, their in zip(said[OURS], said[THEIRS], strict=True))
    size = sum(weight.nbytes for weight in weights)
    print(f"\n{dtype}, {rows} in flight, {tokens} new tokens; {same} of {rows} replies are transformers'")
    for name, seconds in spent.items():
        middle = statistics.median(seconds)
        ratios = ", ".join(
            f"{statistics.median(a / b for a, b in zip(spent[other], seconds, strict=True)):.2f} x {other}"
            for other in (BARE, THEIRS, OURS)
            if other != name
        )
        share = "" if name == INT4 else f", {size * tokens / middle / rate:.0%} of the rate of reading"
        print(f"{name:<18}{rows * tokens / middle:>8.1f} tokens/s{share}; {ratios}")


def ours(model: Any, prompts: list[np.ndarray], tokens: int) -> Callable[[], Any]:
    from qwen_eval.engines.base import GenerateRequest
    from qwen_eval.engines.local.engine import LocalEngine

    engine = LocalEngine.of(model, Ids(model.config.vocab_size))
    requests = [GenerateRequest(prompt, tokens, frozenset(), (), 0.0, 1.0, 0, 1.0, 0) for prompt in prompts]

    def run() -> Any:
        replies = dict(engine.generate(requests))
        return [[int(part) for part in replies[i].text.split()] for i in range(len(requests))]

    return run


if __name__ == "__main__":
    sys.exit(main())
