"""8-shot GSM8K generation on one GPU: 1,319 requests, a 7B-shaped bf16 checkpoint of random weights made on the device.

    python bench/gpu_gsm8k.py                                                      # random prompts of GSM8K's shape
    python bench/gpu_gsm8k.py -d data/gsm8k --tokenizer qwen.tiktoken              # the real prompts, with stop strings
    python bench/gpu_gsm8k.py --tiny --device cpu --limit 8 --reply 10             # does it run at all?

Needs torch, transformers, tiktoken and numpy only. Reply lengths are drawn around 120 tokens and nothing stops earlier.
The bandwidth limit is the time to read what each step must read, once, at the copy rate measured here: the weights, the
prefix's keys and values, and those of the rows in flight at their own lengths; prefill, bound by arithmetic, adds none.
"""

from __future__ import annotations

import argparse
import sys
import time
from pathlib import Path
from typing import Any

from gsm8k_workload import Ids, generate_requests, jobs
from workload import SEVEN_B, Shape, build, needed_tokens

TINY = Shape("tiny", 64, 2, 8192, kv_channels=32)
STOPS = ("<|endoftext|>", "\n\n", "Question:")  # evaluate_gsm8k.py's


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("-d", "--eval-data-path", "--eval_data_path", type=Path, help="the folder with test.jsonl")
    parser.add_argument("--tokenizer", type=Path, help="qwen.tiktoken; needed with -d")
    parser.add_argument("--limit", type=int, default=1319, help="requests")
    parser.add_argument("--reply", type=int, default=120, help="mean length of a reply, in tokens")
    parser.add_argument("--rows", type=int, help="rows in flight, instead of the engine's own choice")
    parser.add_argument("--device", default="cuda")
    parser.add_argument("--dtype", default="bfloat16")
    parser.add_argument("--tiny", action="store_true", help="a tiny model instead of the 7B shape")
    parser.add_argument("-s", "--seed", type=int, default=0)
    args = parser.parse_args()
    if (args.eval_data_path is None) != (args.tokenizer is None):
        parser.error("-d and --tokenizer go together")

    import torch

    if args.device == "cuda" and not torch.cuda.is_available():
        print("error: no CUDA device here; --tiny --device cpu shows that the script runs", file=sys.stderr)
        return 2
    from qwen_eval.benchmarks.speed.limits import copy_bandwidth
    from qwen_eval.engines.local.engine import LocalEngine

    shape = TINY if args.tiny else SEVEN_B
    on_gpu = args.device.startswith("cuda")
    work = jobs(args.limit, shape.vocab, args.eval_data_path, args.tokenizer, args.reply, args.seed)
    model = build(shape, device=args.device, dtype=args.dtype)
    tokenizer, stop = _tokenizer(args.tokenizer, model)
    engine = LocalEngine.of(model, tokenizer, rows=args.rows)
    requests = generate_requests(work, stop=stop)
    total = sum(job.reply for job in work)
    device = torch.cuda.get_device_name() if on_gpu else args.device
    print(f"{shape.name}: {args.dtype} on {device}, torch {torch.__version__}")
    print(
        f"{len(work)} requests, {sum(len(job.tokens) for job in work)} prompt tokens, "
        f"{needed_tokens([job.tokens for job in work])} with the prefix once; {total} to generate"
    )

    list(engine.generate(generate_requests(work[: min(64, len(work))], limit=8, stop=stop)))  # kernels warm up
    measure(engine, work, requests, copy_bandwidth(torch.device(args.device)))
    return 0


def measure(engine: Any, work: list[Any], requests: list[Any], rate: float) -> None:
    """One run, timed, and what it should take. rate: bytes per second."""
    from qwen_eval.engines.local.generate import generate

    import torch

    model = engine.model
    on_gpu = model.get_input_embeddings().weight.is_cuda
    weights = sum(parameter.numel() * parameter.element_size() for parameter in model.parameters())
    if on_gpu:
        torch.cuda.synchronize()
        torch.cuda.reset_peak_memory_stats()
    counted = Counted()
    start = counted.last = time.perf_counter()
    replies = dict(generate(engine, requests, counted.pick))
    seconds = time.perf_counter() - start

    total, said = sum(job.reply for job in work), sum(reply.tokens for reply in replies.values())
    assert len(replies) == len(work)
    embedding = model.get_input_embeddings().weight
    token = 2 * model.config.num_hidden_layers * model.config.hidden_size * embedding.element_size()
    shared = _shared(work)
    own = sum(replies[i].tokens * (len(work[i].tokens) - shared + replies[i].tokens / 2) for i in replies)
    needed = counted.steps * (weights - embedding.numel() * embedding.element_size() + shared * token) + own * token
    early = f", {total - said} fewer than drawn: some stopped" if said < total else ""
    print(f"{seconds:.1f} s, {said} tokens{early}")
    print(f"{said / seconds:.0f} tokens/s, {len(work) / seconds:.1f} requests/s")
    steps = max(1, counted.steps)
    print(
        f"{counted.steps} steps of {counted.stepping / steps * 1e3:.1f} ms, {counted.rows / steps:.0f} rows in flight, "
        f"at most {counted.most} of {engine.flight_rows}; {counted.entering:.1f} s to read prompts"
    )
    print(
        f"{needed / 1e9:.0f} GB to read: {needed / rate:.1f} s at {rate / 1e9:.0f} GB/s measured here, "
        f"{needed / rate / seconds:.0%} of the bandwidth limit ({needed / rate / counted.stepping:.0%} in the steps)"
    )
    if on_gpu:
        peak = torch.cuda.max_memory_allocated()
        print(f"peak memory {peak / 1e9:.1f} GB, {(peak - weights) / 1e9:.1f} GB above the weights", flush=True)


class Counted:
    """Chooses tokens as the engine does, and counts decoding steps, their rows and their seconds. The host waits for
    each choice, so the time since the one before is this step's, or this lot's that enters."""

    def __init__(self) -> None:
        self.steps = self.rows = self.most = 0
        self.stepping = self.entering = self.last = 0.0

    def pick(self, logits: Any, requests: Any, steps: Any) -> list[int]:
        from qwen_eval.engines.local import sampling

        tokens = sampling.pick(logits, requests, steps)
        now = time.perf_counter()
        if steps[0]:
            self.steps, self.rows, self.most = self.steps + 1, self.rows + len(steps), max(self.most, len(steps))
            self.stepping += now - self.last
        else:
            self.entering += now - self.last
        self.last = now
        return tokens


def _tokenizer(path: Path | None, model: Any) -> tuple[Any, tuple[str, ...]]:
    """The real tokenizer with the task's stop strings, which cost time even where none occurs; or bare ids."""
    if path is None:
        return Ids(model.config.vocab_size), ()
    from qwen_model import QWenTokenizer

    return QWenTokenizer(path), STOPS


def _shared(work: list[Any]) -> int:
    from qwen_eval.engines.local.prefix import plan

    return max(group.length for group in plan([job.tokens for job in work]))


if __name__ == "__main__":
    sys.exit(main())
