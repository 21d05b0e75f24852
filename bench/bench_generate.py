"""Greedy generation at 8-shot GSM8K lengths: this engine, transformers' `generate`, lm-evaluation-harness, vLLM.

    make bench-generate                                                       # random prompts of GSM8K's shape
    python bench/bench_generate.py -d data/gsm8k --tokenizer qwen.tiktoken    # the real prompts
    python bench/bench_generate.py --full                                     # every static batch from start to end

64 requests whose replies end at different lengths, the same random weights, one run, each contender in a process of its
own, in turns; before and in the timed run all must say the same tokens. A static batch goes on to its longest reply.
Without --full one static batch per pass is timed through its prefill and a few steps, and stands for the others.
lm-evaluation-harness is given whole batches: a limit per request would split them, since it batches equal settings
only. `lm-eval` comes with `pip install -e '.[bench]'`, vLLM with bench/setup_vllm.sh; a row that is not installed says
so.
"""

from __future__ import annotations

import argparse
import importlib.util
import os
import sys
import tempfile
from pathlib import Path
from typing import Any

import numpy as np
from contenders import Contender, Spent
from generators import LM_EVAL, OURS, STATIC, VLLM, Batch, Said, Vllm, side, vllm_installed
from gsm8k_workload import Job, generation_flops, jobs
from machine import free_memory, load, processor, versions
from workload import Shape, matmul_rate, needed_tokens

SHAPES = {
    "100M": Shape("100M", 768, 14, 151936, kv_channels=64),  # 100 M in the layers; with both embeddings 333 M
    "small-head": Shape("small-head", 768, 13, 8192, kv_channels=64),  # 105 M in all
    "tiny": Shape("tiny", 128, 2, 8192, kv_channels=64),
}
BATCH_SIZES = (1, 4, 8, 16, 64)
STEPS = 6  # steps of a static batch that are timed
TIE = 1e-3  # two tokens whose logits are closer than this in fp32 may change places


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("-d", "--eval-data-path", "--eval_data_path", type=Path, help="the folder with test.jsonl")
    parser.add_argument("--tokenizer", type=Path, help="qwen.tiktoken; needed with -d")
    parser.add_argument("--shape", default="100M", choices=list(SHAPES))
    parser.add_argument("--requests", type=int, default=64)
    parser.add_argument("--reply", type=int, default=120, help="mean length of a reply, in tokens")
    parser.add_argument("--passes", type=int, default=2, help="the table holds each contender's fastest")
    parser.add_argument("--sizes", default=",".join(map(str, BATCH_SIZES)), help="static batch sizes to try, by comma")
    parser.add_argument("--without", default="", help=f"leave out, by comma: {STATIC}, {LM_EVAL}, {VLLM}")
    parser.add_argument("--threads", type=int, help="of every contender")
    parser.add_argument("--full", action="store_true", help="run every static batch to its end")
    parser.add_argument("-s", "--seed", type=int, default=0)
    args = parser.parse_args()
    if (args.eval_data_path is None) != (args.tokenizer is None):
        parser.error("-d and --tokenizer go together")
    if args.threads is not None:
        import torch

        torch.set_num_threads(args.threads)  # the matmul rate is measured here
    shape = SHAPES[args.shape]
    work = jobs(args.requests, shape.vocab, args.eval_data_path, args.tokenizer, args.reply, args.seed)
    _describe(shape, work, args)
    sides: dict[str, Any] = {OURS: side(OURS, shape, work, threads=args.threads)}
    absent: dict[str, str] = {}
    try:
        with tempfile.TemporaryDirectory(prefix="qwen2-layout-") as folder:
            for name in (STATIC, LM_EVAL, VLLM):
                if why := _missing(name, args.without.split(",")):
                    absent[name] = why
                elif name == VLLM:
                    sides[OURS].call("export", folder)
                    sides[name] = Vllm(folder, work, args.threads, Path(folder) / "vllm.log")
                else:
                    sides[name] = side(name, shape, work, threads=args.threads)
            return 0 if Comparison(shape, work, sides, absent, args).run() else 1
    finally:
        for one in sides.values():
            one.stop()


def _missing(name: str, without: list[str]) -> str:
    if name in without:
        return "left out"
    if name == LM_EVAL and importlib.util.find_spec("lm_eval") is None:
        return "not installed (pip install -e '.[bench]')"
    if name == VLLM and not vllm_installed():
        return "not installed (make bench-vllm-env)"
    return ""


def _describe(shape: Shape, work: list[Job], args: argparse.Namespace) -> None:
    body = shape.layers * (4 * shape.hidden**2 + 3 * shape.hidden * shape.width)
    head = shape.vocab * shape.hidden
    replies = [job.reply for job in work]
    lengths = [len(job.tokens) for job in work]
    print(f"{processor()}, {os.cpu_count()} cores, {load()}; {versions()}")
    if args.threads is not None:
        print(f"{args.threads} thread(s)")
    print(
        f"{shape.name}: hidden {shape.hidden}, {shape.layers} layers, heads of {shape.kv_channels}, vocabulary "
        f"{shape.vocab}, fp32: {body / 1e6:.0f} M parameters in the layers, {head / 1e6:.0f} M in each embedding"
    )
    needed = needed_tokens([job.tokens for job in work])
    what = "synthetic" if args.eval_data_path is None else "GSM8K"
    print(
        f"{len(work)} requests, {what}: prompts of {min(lengths)} to "
        f"{max(lengths)} tokens ({sum(lengths)}; {needed} with the prefix once), replies of {min(replies)} to "
        f"{max(replies)} ({sum(replies)} tokens)"
    )


class Comparison:
    """One run: the check, the static batch sizes, the passes, the table."""

    def __init__(
        self, shape: Shape, work: list[Job], sides: dict[str, Any], absent: dict[str, str], args: argparse.Namespace
    ) -> None:
        self.shape, self.work, self.sides, self.absent, self.args = shape, work, sides, absent, args
        self.ours: Contender = sides[OURS]
        # As both static contenders take them: the longest prompts first. How long replies will be is not known before.
        self.order = sorted(range(len(work)), key=lambda i: -len(work[i].tokens))
        self.sizes: dict[str, int] = {}
        self.times: dict[str, list[Spent]] = {name: [] for name in sides}
        self.notes: dict[str, str] = {}
        if VLLM in sides:
            self.notes[VLLM] = f"all; vLLM {sides[VLLM].version}, without its pool of 2 GB"

    def run(self) -> bool:
        few = self.order[:: max(1, len(self.order) // 4)][:4]
        said = {}
        for name, one in self.sides.items():
            said[name] = one.call("batch", few, 12).said if name in (STATIC, LM_EVAL) else one.call("run", few, 12)[1]
        if not self.agree(said, "before timing"):
            return False
        static = [name for name in (STATIC, LM_EVAL) if name in self.sides]
        for name in static:
            # lm-evaluation-harness calls the same `generate`: its own search is worth its time in a full run only.
            known = self.sizes.get(STATIC) if name == LM_EVAL and not self.args.full else None
            self.sizes[name] = known or self.best_size(name)
        same = True
        rates = [matmul_rate(self.shape, tokens=64)]
        for turn in range(self.args.passes):
            said = {}
            for name, one in self.sides.items():
                if name in static:
                    spent, said[name] = self.static_pass(name, turn)
                else:
                    spent, said[name] = one.call("run", list(range(len(self.work))))
                self.times[name].append(spent)
                rates.append(matmul_rate(self.shape, tokens=64))
            same &= self.agree(said, f"in pass {turn + 1}")
        self.table(max(rates))
        return same

    def agree(self, said: dict[str, Said], when: str) -> bool:
        """Whether each contender's tokens are a start of ours, or part from ours at a tie."""
        equal, ties, bad = 0, 0, []
        for name, replies in said.items():
            for index, tokens in replies.items():
                mine = said[OURS][index]
                n = min(len(tokens), len(mine))
                differ = np.flatnonzero(np.not_equal(tokens[:n], mine[:n]))
                if name == OURS:
                    if when.startswith("in pass") and len(mine) != self.work[index].reply:
                        bad.append(f"{name}, request {index}: {len(mine)} tokens")
                elif not len(differ):
                    equal += 1
                else:
                    at = int(differ[0])
                    gap = self.ours.call("gap", index, mine[:at], (mine[at], tokens[at]))
                    ties += gap <= TIE
                    if gap > TIE:
                        bad.append(
                            f"{name}, request {index}, token {at}: {tokens[at]} for {mine[at]}, logits {gap:.1e} apart"
                        )
        print(f"same tokens {when}: {equal} replies compared equal, {ties} part at a tie, {len(bad)} differ")
        for line in bad[:5]:
            print(f"NOT THE SAME: {line}", file=sys.stderr)
        return not bad

    def best_size(self, name: str) -> int:
        """The fastest static batch size, from a prefill and a few steps of each that fits."""
        rates: dict[int, float] = {}
        token = 8 * self.shape.hidden * self.shape.layers  # bytes of keys and values
        for size in map(int, self.args.sizes.split(",")):
            size = min(size, len(self.order))
            if 1.5 * size * (len(self.work[self.order[0]].tokens) + self.args.reply) * token > 0.7 * free_memory():
                print(f"{name} batch size {size} left out: its keys and values do not fit")
                break
            batch = self.sides[name].call("batch", self.order[:size], 1 + STEPS)
            rates[size] = self.work_tokens() / self.estimate(batch, size).wall
            if not self.args.full and rates[size] < 0.8 * max(rates.values()):
                break
        best = max(rates, key=rates.__getitem__)
        print(f"{name} batch sizes, tokens/s: {', '.join(f'{k}: {v:.1f}' for k, v in rates.items())}; taken: {best}")
        return best

    def work_tokens(self) -> int:
        return sum(job.reply for job in self.work)

    def batches(self, size: int) -> list[list[int]]:
        return [self.order[i : i + size] for i in range(0, len(self.order), size)]

    def estimate(self, batch: Batch, size: int) -> Spent:
        """What all batches take if each is like this one: a prefill, and steps up to its longest reply."""
        step = np.min(batch.steps, axis=0)
        steps = sum(max(self.work[i].reply for i in members) - 1 for members in self.batches(size))
        prefills = len(self.order) / size
        return Spent(*(float(p * prefills + s * steps) for p, s in zip(batch.prefill, step, strict=True)))

    def static_pass(self, name: str, turn: int) -> tuple[Spent, Said]:
        size = self.sizes[name]
        groups = self.batches(size)
        if not self.args.full:
            members = groups[(len(groups) // 2 + turn) % len(groups)]
            batch = self.sides[name].call("batch", members, 1 + STEPS)
            self.notes[name] = f"batches of {size}; a prefill and {STEPS} steps per pass, scaled"
            return self.estimate(batch, len(members)), batch.said
        spent = np.zeros(2)
        said: Said = {}
        for members in groups:
            batch = self.sides[name].call("batch", members, max(self.work[i].reply for i in members))
            spent += np.sum([batch.prefill, *batch.steps], axis=0)
            said |= batch.said
        self.notes[name] = f"batches of {size}; all"
        return Spent(*spent.tolist()), said

    def table(self, rate: float) -> None:
        best = {name: np.min(times, axis=0) for name, times in self.times.items()}
        tokens = self.work_tokens()
        print(f"\n{'':<15}{'seconds':>9}{'tokens/s':>10}{'ours x':>8}{'CPU s':>9}{'ours x':>8}", end="")
        print(f"{'GB over weights':>17}   timed")
        for name, one in self.sides.items():
            wall, cpu = best[name]
            gains = [float(np.median(self.ratios(name, kind))) for kind in (0, 1)]
            print(f"{name:<15}{wall:>9.1f}{tokens / wall:>10.1f}{gains[0]:>8.2f}{cpu:>9.1f}{gains[1]:>8.2f}", end="")
            print(f"{one.call('memory') / 1e9:>17.2f}   {self.notes.get(name, 'all')}")
        for name, why in self.absent.items():
            print(f"{name:<15}{why}")
        flops = generation_flops(self.shape, self.work)
        print(
            f"this engine: {flops / 1e12:.2f} TFLOP of work, {flops / best[OURS][0] / rate:.0%} of the fp32 matmul "
            f"rate of 64 rows ({rate / 1e9:.0f} GFLOP/s)"
        )
        for name, aim in ((STATIC, 4), (LM_EVAL, 3), (VLLM, 1)):
            if name in self.sides:
                each = ", ".join(f"{ratio:.2f}" for ratio in self.ratios(name, 0))
                print(f"{name}: {np.median(self.ratios(name, 0)):.2f} times our time (aim {aim}; each pass: {each})")

    def ratios(self, name: str, kind: int) -> list[float]:
        """A contender's time over ours, pass by pass, in which both met the same noise. kind 0: wall, 1: CPU."""
        return [theirs[kind] / ours[kind] for theirs, ours in zip(self.times[name], self.times[OURS], strict=True)]


if __name__ == "__main__":
    sys.exit(main())
