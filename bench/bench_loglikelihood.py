"""Log-likelihoods of whole answers behind 5-shot prompts: this engine and lm-evaluation-harness's HFLM, side by side.

    python bench/bench_loglikelihood.py                        # prompts of MMLU's shape, random tokens
    python bench/bench_loglikelihood.py --answers 4 --tokens 20,40
    python bench/bench_loglikelihood.py -d data --tokenizer qwen.tiktoken     # prompts of ARC, HellaSwag ... themselves

Each question has several answers of several tokens, as in ARC or HellaSwag. Same requests, same random weights, one
process, in turns; equal answers are checked first and of all that is timed. HFLM runs at its best batch size, on a
sample of the questions spread evenly over their lengths, and its time is scaled by tokens. `lm-eval` comes with
`pip install -e '.[bench]'`. -d: the requests are those of the scripts, of each task that has a folder there (arc/,
hellaswag/, winogrande/, truthfulqa/), with as many examples as the cards state; token ids modulo the vocabulary.
"""

from __future__ import annotations

import argparse
import importlib
import importlib.util
import os
import sys
import time
from collections.abc import Iterable, Sequence
from pathlib import Path
from statistics import median
from typing import Any, TypeAlias

import numpy as np
from contenders import tokenizer_for_lm_eval
from machine import free_memory, load, processor, versions
from workload import BODY_HEAVY, HEAD_HEAVY, MAX_SEQ_LEN, NUTRITION, Shape, build, synthetic_prompts

TINY = Shape("tiny", 128, 2, 8192, kv_channels=32)
SHAPES = {shape.name: shape for shape in (HEAD_HEAVY, BODY_HEAVY, TINY)}
BATCH_SIZES = (1, 4, 8, 16)
TOLERANCE = 1e-3  # per token, fp32
AIM = 4.0
TASKS = {"arc": "ARC", "hellaswag": "HellaSwag", "winogrande": "WinoGrande", "truthfulqa": "TruthfulQA"}

#: (context, continuation) of each answer, as token ids
Question: TypeAlias = list[tuple[np.ndarray, tuple[int, ...]]]


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
    fast = []
    for shape in (SHAPES[name] for name in args.shape.split(",")):
        print(f"\n{shape.name}: hidden {shape.hidden}, {shape.layers} layers, vocabulary {shape.vocab}, fp32")
        if args.eval_data_path is None:
            fast.append(run("synthetic, 5-shot", shape, synthetic_questions(shape, args), args))
        for name in TASKS if args.eval_data_path else ():
            if (folder := args.eval_data_path / name).is_dir():
                fast.append(run(name, shape, task_questions(name, folder, shape, args), args))
    return 0 if fast and all(fast) else 1


def _arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--shape", default="head-heavy,body-heavy", help=f"of {', '.join(SHAPES)}")
    parser.add_argument("-d", "--eval-data-path", type=Path, help="a folder with arc/, hellaswag/ ...: real prompts")
    parser.add_argument("--tokenizer", type=Path, help="qwen.tiktoken; needed with -d")
    parser.add_argument("--limit", type=int, default=60, help="questions (default: 60)")
    parser.add_argument("--answers", type=int, default=4, help="per question (default: 4)")
    parser.add_argument("--tokens", default="2,16", help="shortest and longest answer (default: 2,16)")
    parser.add_argument("--sample", type=int, default=4, help="questions of HFLM per pass (default: 4)")
    parser.add_argument("--passes", type=int, default=3, help="the medians are printed (default: 3)")
    parser.add_argument("--threads", type=int, help="on a machine that others use, 1 is steadier")
    parser.add_argument("-s", "--seed", type=int, default=0)
    args = parser.parse_args()
    if (args.eval_data_path is None) != (args.tokenizer is None):
        parser.error("-d and --tokenizer go together")
    return args


class Sides:
    """The two ways of answering the same requests. Requests: one list of (context, continuation) per question."""

    def __init__(self, shape: Shape, questions: list[Question]) -> None:
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


def synthetic_questions(shape: Shape, args: argparse.Namespace) -> list[Question]:
    rng = np.random.default_rng(args.seed)
    contexts = synthetic_prompts([NUTRITION], shape.vocab, args.seed)[0][: args.limit]
    shortest, longest = map(int, args.tokens.split(","))

    def answer() -> tuple[int, ...]:
        return tuple(rng.integers(0, shape.vocab, int(rng.integers(shortest, longest + 1))).tolist())

    return [[(context, answer()) for _ in range(args.answers)] for context in contexts]


def task_questions(name: str, folder: Path, shape: Shape, args: argparse.Namespace) -> list[Question]:
    """The requests of a script to a base model, of --limit questions that are spread over the data."""

    from qwen_eval.benchmark import Setting
    from qwen_eval.engines.local.prompts import Encoder
    from qwen_eval.engines.model_input import continuations
    from qwen_eval.runner import parse_flags
    from qwen_model import QWenTokenizer

    benchmark = getattr(importlib.import_module(f"evaluate_{name}"), TASKS[name])()
    shots = benchmark.shots.base if benchmark.shots else 0
    setting = Setting(shots=shots, flags=parse_flags(benchmark, "", []), data_path=str(folder))
    items = list(benchmark.load(setting))
    places = np.linspace(0, len(items) - 1, min(args.limit, len(items))).astype(int)
    encoder = Encoder(QWenTokenizer(args.tokenizer))
    questions = []
    for item in (items[place] for place in places):
        pairs = continuations(encoder, False, next(benchmark.evaluate(item, setting)))
        questions.append([(context % shape.vocab, tuple(one % shape.vocab for one in own)) for context, own in pairs])
    return questions


def run(title: str, shape: Shape, questions: list[Question], args: argparse.Namespace) -> bool:
    """Measure one set of questions and print its lines; whether ours is as much faster as we aim at."""
    rng = np.random.default_rng(args.seed)
    sides = Sides(shape, questions)
    everything = range(len(questions))
    lengths = [len(question[0][0]) for question in questions]
    order = np.argsort(lengths, kind="stable")
    answers = [len(question) for question in questions]
    first = np.cumsum([0, *answers])
    sizes = [len(own) for question in questions for _, own in question]
    print(
        f"\n{title}: {len(questions)} questions of {np.mean(lengths):.0f} tokens, {np.mean(answers):.1f} answers "
        f"each of {min(sizes)} to {max(sizes)} tokens: {sides.tokens(everything)} tokens with nothing shared"
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
        same = [one for index in chosen for one in ours[first[index] : first[index + 1]]]
        worst = max(worst, sides.agree(chosen, same, theirs))
        spent.append((middle - begin, (end - middle) * sides.tokens(everything) / sides.tokens(chosen)))
    ratio = median(theirs / ours for ours, theirs in spent)
    print(f"same answers in the timed runs: {worst:.1e} per token")
    print(f"this engine   {median(ours for ours, _ in spent):8.2f} s  all questions")
    print(f"lm-eval HFLM  {median(theirs for _, theirs in spent):8.2f} s  {args.sample} per pass, scaled by tokens")
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
