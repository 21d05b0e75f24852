"""All of MMLU 5-shot on one GPU with a 7B-shaped bf16 checkpoint of random weights, made on the device.

    python bench/gpu_mmlu.py                                                     # random prompts of MMLU's shape
    python bench/gpu_mmlu.py -d data/mmlu --tokenizer qwen.tiktoken              # the real prompts
    python bench/gpu_mmlu.py --tiny --device cpu --limit 2                       # does it run at all?

Needs torch, transformers, tiktoken and pandas only. The share of the matmul peak counts what has to be computed with
shared prefixes; a first run of one subject warms the kernels up and is not timed.
"""

from __future__ import annotations

import argparse
import sys
import time
from pathlib import Path

import numpy as np
from workload import (
    MAX_SEQ_LEN,
    SEVEN_B,
    Shape,
    build,
    matmul_rate,
    needed_tokens,
    real_prompts,
    shared_flops,
    subject_names,
    synthetic_names,
    synthetic_prompts,
)

TINY = Shape("tiny", 64, 2, 8192, kv_channels=32)


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("-d", "--eval-data-path", "--eval_data_path", type=Path, help="the official MMLU folder")
    parser.add_argument("--tokenizer", type=Path, help="qwen.tiktoken; needed with -d")
    parser.add_argument("--limit", type=int, help="the first N subjects")
    parser.add_argument("--device", default="cuda")
    parser.add_argument("--dtype", default="bfloat16")
    parser.add_argument("--budget", type=int, help="token budget per forward, instead of the engine's own")
    parser.add_argument("--max-seq-len", type=int, default=MAX_SEQ_LEN, help="0: prompts are not cut")
    parser.add_argument("--tiny", action="store_true", help="a tiny model instead of the 7B shape")
    args = parser.parse_args()
    if (args.eval_data_path is None) != (args.tokenizer is None):
        parser.error("-d and --tokenizer go together")

    import torch

    if args.device == "cuda" and not torch.cuda.is_available():
        print("error: no CUDA device here; --tiny --device cpu shows that the script runs", file=sys.stderr)
        return 2
    shape = TINY if args.tiny else SEVEN_B
    cut = args.max_seq_len or None
    if args.eval_data_path is None:
        prompts, candidates = synthetic_prompts(synthetic_names()[: args.limit], shape.vocab, cut=cut)
    else:
        names = subject_names(args.eval_data_path)[: args.limit]
        prompts, candidates = real_prompts(args.eval_data_path, args.tokenizer, names, cut=cut)
        prompts = [tokens % shape.vocab for tokens in prompts]
        candidates = tuple(token % shape.vocab for token in candidates)

    from qwen_eval.engines.base import ChoiceRequest
    from qwen_eval.engines.local.engine import LocalEngine

    on_gpu = args.device.startswith("cuda")
    device = torch.cuda.get_device_name() if on_gpu else args.device
    tokens, needed = sum(map(len, prompts)), needed_tokens(prompts)
    print(f"{shape.name}: {args.dtype} on {device}, torch {torch.__version__}")
    print(f"{len(prompts)} questions, {tokens} tokens, {needed} needed with shared prefixes ({tokens / needed:.2f} x)")
    model = build(shape, device=args.device, dtype=args.dtype)
    weights = sum(parameter.numel() * parameter.element_size() for parameter in model.parameters())
    engine = LocalEngine.of(model)
    if args.budget:
        engine.token_budget = args.budget
    print(f"token budget per forward: {engine.token_budget}")

    def synchronize() -> None:
        if on_gpu:
            torch.cuda.synchronize()

    requests = [ChoiceRequest(prompt, candidates) for prompt in prompts]
    warm = sum(1 for _ in engine.choose(requests[:200]))
    rates = [matmul_rate(shape, args.device, args.dtype, 8192 if on_gpu else 512) for _ in range(3)]
    synchronize()
    if on_gpu:
        torch.cuda.reset_peak_memory_stats()
    start = time.perf_counter()
    answers = dict(engine.choose(requests))
    synchronize()
    seconds = time.perf_counter() - start
    rates += [matmul_rate(shape, args.device, args.dtype, 8192 if on_gpu else 512) for _ in range(3)]

    assert warm and len(answers) == len(prompts)
    assert np.isfinite(np.array(list(answers.values()))).all(), "a logit is not a number"
    flops = shared_flops(shape, prompts)
    print(f"{seconds:.1f} s, {tokens / seconds:.0f} prompt tokens/s ({needed / seconds:.0f} computed tokens/s)")
    print(
        f"{flops / 1e15:.3g} PFLOP of work: {flops / seconds / 1e12:.4g} TFLOP/s, "
        f"{flops / seconds / max(rates):.0%} of the measured matmul rate ({max(rates) / 1e12:.4g} TFLOP/s)"
    )
    if on_gpu:
        peak = torch.cuda.max_memory_allocated()
        print(f"peak memory {peak / 1e9:.1f} GB, {(peak - weights) / 1e9:.1f} GB above the weights")
    return 0


if __name__ == "__main__":
    sys.exit(main())
