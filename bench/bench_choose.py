"""Choice scoring of 5-shot MMLU: this engine, a plain forward per prompt, and lm-evaluation-harness, side by side.

    make bench                                                             # random prompts of MMLU's shape
    python bench/bench_choose.py -d data/mmlu --tokenizer qwen.tiktoken    # real prompts (default: nutrition)
    python bench/bench_choose.py --full                                    # every contender over every question

Same requests, same random weights, one run. First all three must give the same answers; then each works in a process
of its own, in turns. Without --full a slow contender gets a sample of the questions, drawn evenly over their lengths,
and its time is scaled by tokens. `lm-eval` comes with `pip install -e '.[bench]'`; without it that row is left out.
"""

from __future__ import annotations

import argparse
import importlib.util
import os
import sys
from pathlib import Path
from statistics import median
from typing import Any, NamedTuple

import numpy as np
from contenders import LM_EVAL, OURS, PLAIN, Contender, Results
from machine import free_memory, load, processor, versions
from workload import (
    BODY_HEAVY,
    HEAD_HEAVY,
    NUTRITION,
    Shape,
    matmul_rate,
    needed_tokens,
    plain_flops,
    real_prompts,
    shared_flops,
    synthetic_prompts,
)

SHAPES = {shape.name: shape for shape in (HEAD_HEAVY, BODY_HEAVY)}
QUICK_QUESTIONS = {HEAD_HEAVY.name: 306, BODY_HEAVY.name: 102}
BATCH_SIZES = (1, 2, 4, 8, 16, 32)  # of lm-eval; without --full up to 8
ROUNDS = 4  # turns in a pass
TOLERANCE = 1e-3  # of a difference between two candidates' log-probabilities, fp32


class Pass(NamedTuple):
    """One contender's time over per pass, scaled to all questions, and how many were timed."""

    seconds: float
    cpu: float
    timed: int


def main() -> int:
    args = _arguments()
    print(f"{processor()}, {os.cpu_count()} cores, {load()}; {versions()}")
    if args.threads is not None:
        import torch

        torch.set_num_threads(args.threads)
        print(f"{args.threads} thread(s)")
    failed = False
    for name in args.shape.split(","):
        failed |= not run_shape(SHAPES[name], args)
    return 1 if failed else 0


def _arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("-d", "--eval-data-path", "--eval_data_path", type=Path, help="the official MMLU folder")
    parser.add_argument("--tokenizer", type=Path, help="qwen.tiktoken; needed with -d")
    parser.add_argument("--subjects", default="nutrition", help="subjects of the real data, by comma")
    parser.add_argument("--shape", default=",".join(SHAPES), help=f"of {', '.join(SHAPES)}")
    parser.add_argument("--limit", type=int, help="the first N questions (without --full: 306, body-heavy 102)")
    parser.add_argument("--seconds", type=float, default=25, help="time per pass that a sampled contender may take")
    parser.add_argument("--passes", type=int, default=2, help="the table holds the medians")
    parser.add_argument("--budget", type=int, help="token budget per forward of this engine, instead of its own")
    parser.add_argument("--threads", type=int, help="of every contender; on a machine that others use, 1 is steadier")
    parser.add_argument("--full", action="store_true", help="all questions for all contenders, all batch sizes")
    parser.add_argument("-s", "--seed", type=int, default=0)
    args = parser.parse_args()
    if (args.eval_data_path is None) != (args.tokenizer is None):
        parser.error("-d and --tokenizer go together")
    if unknown := set(args.shape.split(",")) - set(SHAPES):
        parser.error(f"no such shape: {', '.join(sorted(unknown))}")
    return args


def run_shape(shape: Shape, args: argparse.Namespace) -> bool:
    """Measure one shape and print its table; False when the contenders disagree."""
    prompts, candidates = _requests(shape, args)
    lengths = [len(tokens) for tokens in prompts]
    needed = needed_tokens(prompts)
    what = "synthetic" if args.eval_data_path is None else args.subjects
    print(f"\n{shape.name}: hidden {shape.hidden}, {shape.layers} layers, vocabulary {shape.vocab}, fp32, {what}")
    print(
        f"{len(prompts)} questions, {sum(lengths)} tokens, {needed} needed with shared prefixes: "
        f"{sum(lengths) / needed:.2f} times fewer"
    )
    both = {"threads": args.threads}
    more = both | {"tokenizer": str(args.tokenizer) if args.tokenizer else None}
    sides = [Contender(OURS, shape, prompts, candidates, budget=args.budget, **both)]
    sides.append(Contender(PLAIN, shape, prompts, candidates, **both))
    size = 1
    try:
        if importlib.util.find_spec("lm_eval") is None:
            print("lm-evaluation-harness is not installed (pip install -e '.[bench]'): its row is left out")
        else:
            size = _best_batch_size(shape, prompts, candidates, args.full, more)
            sides.append(Contender(LM_EVAL, shape, prompts, candidates, batch_size=size, **more))
        check = [int(i) for i in np.argsort(lengths)[np.linspace(0, len(prompts) - 1, 6).astype(int)]]
        answers = {side.name: side.call("run", check)[1] for side in sides}
        if not _agree(answers, "before timing"):
            return False
        return _measure(shape, prompts, needed, sides, size, args)
    finally:
        for side in sides:
            side.stop()


def _requests(shape: Shape, args: argparse.Namespace) -> tuple[list[np.ndarray], tuple[int, ...]]:
    if args.eval_data_path is None:
        prompts, candidates = synthetic_prompts([NUTRITION], shape.vocab, args.seed)
    else:
        prompts, candidates = real_prompts(args.eval_data_path, args.tokenizer, args.subjects.split(","))
        prompts = [tokens % shape.vocab for tokens in prompts]
        candidates = tuple(token % shape.vocab for token in candidates)
    limit = args.limit or (None if args.full else QUICK_QUESTIONS[shape.name])
    return prompts[:limit], candidates


def _best_batch_size(
    shape: Shape, prompts: list[np.ndarray], candidates: tuple[int, ...], full: bool, more: dict[str, Any]
) -> int:
    """The fastest by tokens per second on questions of middle length, in a process whose memory is not counted."""
    middle = [int(i) for i in np.argsort([len(tokens) for tokens in prompts])]
    middle = middle[len(middle) // 2 :] + middle[: len(middle) // 2]
    longest = max(map(len, prompts))
    prober = Contender(LM_EVAL, shape, prompts, candidates, **more)
    prober.call("run", middle[:1], 1)
    rates: dict[int, float] = {}
    for size in BATCH_SIZES if full else BATCH_SIZES[:4]:
        # Logits and their log-softmax, both fp32 at every position.
        if size > 1 and 8.0 * size * longest * shape.vocab > 0.6 * free_memory():
            print(f"lm-eval batch size {size} left out: its logits do not fit")
            break
        chosen = middle[: max(size, 8 if full else 2)]
        tokens = sum(len(prompts[i]) for i in chosen)
        runs = [prober.call("run", chosen, size)[0].wall for _ in range(3 if full else 1)]
        rates[size] = tokens / min(runs)
        if not full and rates[size] < 0.8 * max(rates.values()):
            break
    prober.stop()
    best = max(rates, key=rates.__getitem__)
    print(f"lm-eval batch sizes, tokens/s: {', '.join(f'{k}: {v:.0f}' for k, v in rates.items())}; taken: {best}")
    return best


def _agree(answers: dict[str, Results], when: str) -> bool:
    """Whether all contenders give the same argmax and the same differences between the candidates, item by item."""
    ours, worst, bad, n = answers[OURS], 0.0, [], 0
    for name, theirs in answers.items():
        for index, values in theirs.items():
            a, b = np.subtract(ours[index], ours[index][0]), np.subtract(values, values[0])
            drift = float(np.abs(a - b).max())
            first, second = np.sort(b)[-1:-3:-1]
            worst, n = max(worst, drift), n + (name != OURS)
            if drift > TOLERANCE or (np.argmax(a) != np.argmax(b) and first - second > 1e-4):
                bad.append(f"{name}, request {index}: {values} against {ours[index]}")
    print(f"same answers {when}: {n} compared, largest difference of log-probabilities {worst:.1e}")
    for line in bad[:5]:
        print(f"NOT THE SAME: {line}", file=sys.stderr)
    return not bad


def _measure(
    shape: Shape, prompts: list[np.ndarray], needed: int, sides: list[Contender], size: int, args: argparse.Namespace
) -> bool:
    lengths = np.array([len(tokens) for tokens in prompts])
    rng = np.random.default_rng(args.seed)
    rates = [matmul_rate(shape) for _ in range(3)]
    flops = {
        OURS: shared_flops(shape, prompts),
        PLAIN: plain_flops(shape, lengths.tolist(), False),
        LM_EVAL: plain_flops(shape, lengths.tolist(), True),
    }
    times: dict[str, list[Pass]] = {side.name: [] for side in sides}
    same = True
    for _ in range(args.passes):
        turns: dict[str, list[list[int]]] = {}
        for side in sides[1:]:
            step = size if side.name == LM_EVAL else 1
            wanted = 0.5 * args.seconds * median(rates) / flops[side.name] * len(prompts)
            clusters = len(prompts) if args.full else max(2 * ROUNDS, round(wanted / step))
            turns[side.name] = _turns(lengths, step, clusters, rng)
        spent = {name: np.zeros(2) for name in times}
        found: dict[str, Results] = {name: {} for name in times}
        for turn in range(ROUNDS):
            for side in sides:
                if side.name == OURS:
                    last = turn == ROUNDS - 1
                    used, results = side.call("slice", None if last else -(-len(prompts) // ROUNDS))
                else:
                    used, results = side.call("run", turns[side.name][turn])
                spent[side.name] += used
                found[side.name].update(results)
            rates.append(matmul_rate(shape))
        assert len(found[OURS]) == len(prompts)
        same &= _agree(found, "in the timed run")
        for name, results in found.items():
            scale = lengths.sum() / lengths[list(results)].sum()
            wall, cpu = (spent[name] * scale).tolist()
            times[name].append(Pass(wall, cpu, len(results)))
    _table(int(lengths.sum()), needed, len(prompts), times, flops, median(rates), sides)
    return same


def _turns(lengths: np.ndarray, step: int, clusters: int, rng: np.random.Generator) -> list[list[int]]:
    """Questions to time, dealt to the turns: runs of `step` neighbours in length (a batch without padding), spread
    evenly over the lengths from a random start, so that the sample's mean length is that of all."""
    order = np.argsort(lengths, kind="stable")
    runs = [order[i : i + step].tolist() for i in range(0, len(order), step)]
    if clusters < len(runs):
        places = (np.arange(clusters) + rng.random()) * len(runs) / clusters
        runs = [runs[int(place)] for place in places]
    return [[index for run in runs[turn::ROUNDS] for index in run] for turn in range(ROUNDS)]


def _table(
    tokens: int,
    needed: int,
    questions: int,
    times: dict[str, list[Pass]],
    flops: dict[str, int],
    rate: float,
    sides: list[Contender],
) -> None:
    seconds = {name: median(one.seconds for one in passes) for name, passes in times.items()}
    print(f"measured fp32 matmul at these shapes, between the turns: {rate / 1e9:.0f} GFLOP/s (median)")
    print(
        f"{'':<15}{'seconds':>9}{'tokens/s':>10}{'ours x':>8}{'CPU s':>9}{'ours x':>8}"
        f"{'of matmul':>11}{'GB over weights':>17}   timed"
    )
    for side in sides:
        name = side.name
        pairs = list(zip(times[name], times[OURS], strict=True))
        gain = median(theirs.seconds / ours.seconds for theirs, ours in pairs)
        cpu_gain = median(theirs.cpu / ours.cpu for theirs, ours in pairs)
        count = times[name][0].timed
        timed = "all" if count == questions else f"{count} of {questions} per pass, scaled by tokens"
        print(
            f"{name:<15}{seconds[name]:>9.1f}{tokens / seconds[name]:>10.0f}{gain:>8.1f}"
            f"{median(one.cpu for one in times[name]):>9.1f}{cpu_gain:>8.1f}"
            f"{flops[name] / seconds[name] / rate:>11.0%}{side.call('memory') / 1e9:>17.2f}   {timed}"
        )
    allowed = tokens / needed
    pairs = list(zip(times[PLAIN], times[OURS], strict=True))
    speedups = [theirs.seconds / ours.seconds for theirs, ours in pairs]
    by_cpu = median(theirs.cpu / ours.cpu for theirs, ours in pairs)
    each = ", ".join(f"{s / allowed:.0%}" for s in speedups)
    print(
        f"speed-up over the plain forward {median(speedups):.2f} of {allowed:.2f} that the tokens allow: "
        f"{median(speedups) / allowed:.0%} (aim 80%; each pass: {each}; by CPU time {by_cpu / allowed:.0%})"
    )


if __name__ == "__main__":
    sys.exit(main())
