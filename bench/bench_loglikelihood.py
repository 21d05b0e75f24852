"""Log-likelihoods of whole answers behind 5-shot prompts: this engine and lm-evaluation-harness's HFLM, side by side.

    python bench/bench_loglikelihood.py                        # prompts of MMLU's shape, random tokens
    python bench/bench_loglikelihood.py --answers 4 --tokens 20,40

Each question has several answers of several tokens, as in ARC or HellaSwag. Same requests, same random weights, one
process, in turns; equal answers are checked first and of all that is timed. HFLM runs at its best batch size, on a
sample of the questions spread evenly over their lengths, and its time is scaled by tokens. `lm-eval` comes with
`pip install -e '.[bench]'`.
"""

from __future__ import annotations

import argparse
import importlib.util
import os
import sys
import time
from collections.abc import Iterable, Sequence
from statistics import median
from typing import Any

import numpy as np
from contenders import tokenizer_for_lm_eval
from machine import free_memory, load, processor, versions
from workload import BODY_HEAVY, HEAD_HEAVY, MAX_SEQ_LEN, NUTRITION, Shape, build, synthetic_prompts

SHAPES = {shape.name: shape for shape in (HEAD_HEAVY, BODY_HEAVY)}
BATCH_SIZES = (1, 4, 8, 16)
TOLERANCE = 1e-3  # per token, fp32
AIM = 4.0


def main() -> int:
    args = _arguments()
    if importlib.util.find_spec("lm_eval") is None:
        print("lm-evaluation-harness is not installed: pip install -e '.[bench]'", file=sys.stderr)
        return 2
    print(f"{processor()}, {os.cpu_count()} cores, {load()}; {versions()}")
    if args.threads is not None:
        import torch

        torch.set_num_threads(args.threads)
        print(f"{args.threads} thread(s)")
    return 0 if all([run_shape(SHAPES[name], args) for name in args.shape.split(",")]) else 1


def _arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--shape", default=",".join(SHAPES), help=f"of {', '.join(SHAPES)}")
    parser.add_argument("--limit", type=int, default=60, help="questions (default: 60)")
    parser.add_argument("--answers", type=int, default=4, help="per question (default: 4)")
    parser.add_argument("--tokens", default="2,16", help="shortest and longest answer (default: 2,16)")
    parser.add_argument("--sample", type=int, default=4, help="questions of HFLM per pass (default: 4)")
    parser.add_argument("--passes", type=int, default=3, help="the medians are printed (default: 3)")
    parser.add_argument("--threads", type=int, help="on a machine that others use, 1 is steadier")
    parser.add_argument("-s", "--seed", type=int, default=0)
    return parser.parse_args()


class Sides:
    """The two ways of answering the same requests. Requests: one list of (context, continuation) per question."""

    def __init__(self, shape: Shape, questions: list[list[tuple[np.ndarray, tuple[int, ...]]]]) -> None:
        from qwen_eval.engines.local.engine import LocalEngine

        from lm_eval.models.huggingface import HFLM

        model = build(shape)
        self.questions = questions
        self.engine = LocalEngine.of(model)
        self.lm: Any = HFLM(
            pretrained=model,
            tokenizer=tokenizer_for_lm_eval(None),
            batch_size=1,
            max_length=MAX_SEQ_LEN,
            backend="causal",
        )

    def ours(self, chosen: Iterable[int]) -> list[tuple[float, bool]]:
        from qwen_eval.engines.base import LogLikelihoodRequest

        asked = [LogLikelihoodRequest(*pair) for index in chosen for pair in self.questions[index]]
        found = dict(self.engine.loglikelihood(asked))
        return [(found[index].log_likelihood, found[index].is_greedy) for index in range(len(asked))]

    def theirs(self, chosen: Iterable[int], batch_size: int) -> list[tuple[float, bool]]:
        self.lm.batch_size_per_gpu = batch_size
        jobs = [
            ((str(index), str(number)), context.tolist(), list(own))
            for index in chosen
            for number, (context, own) in enumerate(self.questions[index])
        ]
        return self.lm._loglikelihood_tokens(jobs, disable_tqdm=True)  # type: ignore[no-any-return]

    def tokens(self, chosen: Iterable[int]) -> int:
        """What has to be read where nothing is shared."""
        return sum(len(context) + len(own) - 1 for index in chosen for context, own in self.questions[index])

    def agree(self, chosen: Sequence[int], ours: list[tuple[float, bool]], theirs: list[tuple[float, bool]]) -> float:
        """The largest difference per token; SystemExit where an answer is not the same."""
        sizes = [len(own) for index in chosen for _, own in self.questions[index]]
        worst = max(abs(a[0] - b[0]) / size for a, b, size in zip(ours, theirs, sizes, strict=True))
        if worst > TOLERANCE or [bool(a[1]) for a in ours] != [bool(b[1]) for b in theirs]:
            raise SystemExit(f"NOT THE SAME: {worst:.1e} per token; {ours[:4]} against {theirs[:4]}")
        return worst


def run_shape(shape: Shape, args: argparse.Namespace) -> bool:
    """Measure one shape and print its lines; whether ours is as much faster as we aim at."""
    rng = np.random.default_rng(args.seed)
    contexts = synthetic_prompts([NUTRITION], shape.vocab, args.seed)[0][: args.limit]
    shortest, longest = map(int, args.tokens.split(","))

    def answer() -> tuple[int, ...]:
        return tuple(rng.integers(0, shape.vocab, int(rng.integers(shortest, longest + 1))).tolist())

    questions = [[(context, answer()) for _ in range(args.answers)] for context in contexts]
    sides = Sides(shape, questions)
    everything = range(len(questions))
    order = np.argsort([len(context) for context in contexts], kind="stable")
    print(f"\n{shape.name}: hidden {shape.hidden}, {shape.layers} layers, vocabulary {shape.vocab}, fp32, synthetic")
    print(
        f"{len(questions)} questions of {np.mean([len(c) for c in contexts]):.0f} tokens, each with {args.answers} "
        f"answers of {args.tokens.replace(',', ' to ')} tokens: {sides.tokens(everything)} tokens with nothing shared"
    )
    few = order[np.linspace(0, len(order) - 1, 2).astype(int)].tolist()
    print(f"same answers before timing: {sides.agree(few, sides.ours(few), sides.theirs(few, 1)):.1e} per token")
    size = _best_batch_size(sides, few, shape)
    spent: list[tuple[float, float]] = []
    worst = 0.0
    for _ in range(args.passes):
        places = (np.arange(args.sample) + rng.random()) * len(order) / args.sample
        chosen = [int(order[int(place)]) for place in places]
        begin = time.perf_counter()
        ours = sides.ours(everything)
        middle = time.perf_counter()
        theirs = sides.theirs(chosen, size)
        end = time.perf_counter()
        same = [one for index in chosen for one in ours[index * args.answers : (index + 1) * args.answers]]
        worst = max(worst, sides.agree(chosen, same, theirs))
        spent.append((middle - begin, (end - middle) * sides.tokens(everything) / sides.tokens(chosen)))
    ratio = median(theirs / ours for ours, theirs in spent)
    print(f"same answers in the timed runs: {worst:.1e} per token")
    print(f"this engine   {median(ours for ours, _ in spent):8.1f} s  all questions")
    print(f"lm-eval HFLM  {median(theirs for _, theirs in spent):8.1f} s  {args.sample} per pass, scaled by tokens")
    print(f"ours is {ratio:.1f} times faster (aim: {AIM:.0f}; passes: {', '.join(f'{b / a:.1f}' for a, b in spent)})")
    return ratio >= AIM


def _best_batch_size(sides: Sides, few: list[int], shape: Shape) -> int:
    rates: dict[int, float] = {}
    longest = max(len(context) + len(own) for index in few for context, own in sides.questions[index])
    for size in BATCH_SIZES:
        if size > 1 and 8.0 * size * longest * shape.vocab > 0.5 * free_memory():
            print(f"lm-eval batch size {size} left out: its logits do not fit")
            break
        begin = time.perf_counter()
        sides.theirs(few, size)
        rates[size] = sides.tokens(few) / (time.perf_counter() - begin)
        if rates[size] < 0.8 * max(rates.values()):
            break
    best = max(rates, key=rates.__getitem__)
    print(f"lm-eval batch sizes, tokens/s: {', '.join(f'{k}: {v:.0f}' for k, v in rates.items())}; taken: {best}")
    return best


if __name__ == "__main__":
    sys.exit(main())
