"""The flags of evaluate_ppl.py, for the perplexity and for the needle in a haystack."""

import argparse
from typing import Any

from qwen_eval.benchmark import Benchmark
from qwen_eval.benchmarks.long_context.configurations import CARDS, parse_configs
from qwen_eval.benchmarks.long_context.documents import parse_lengths
from qwen_eval.cli import positive
from qwen_eval.errors import UserError

DEPTHS = [float(depth) for depth in range(0, 101, 10)]


def parse_depths(text: str) -> list[float]:
    """`0,50,100` as shares of the text in percent."""
    try:
        depths = sorted({float(word) for word in text.split(",")})
    except ValueError:
        depths = [-1.0]
    if not all(0 <= depth <= 100 for depth in depths):
        raise argparse.ArgumentTypeError(f"{text!r} is not a list of depths in percent, such as 0,50,100")
    return depths


def _lengths(text: str) -> list[int]:
    try:
        return parse_lengths(text)
    except ValueError as error:
        raise argparse.ArgumentTypeError(str(error)) from None


class LongContextBenchmark(Benchmark):
    """What both have in common: whole documents, read by the local engine."""

    extras = ("plots",)

    def add_flags(self, flags: argparse.ArgumentParser) -> None:
        add: Any = flags.add_argument
        add(
            "--lengths", type=_lengths, metavar="L,...", help="tokens (default: 1024 to 32768; a small demo: 1x to 16x)"
        )
        add("--configs", type=parse_configs, metavar="A,...", help=f"long-context configurations (default: {CARDS})")
        add("--stride", type=positive, metavar="N", help="windows that move on by N tokens over the whole document")
        add("--ragged", action="store_true", help="use shorter documents too, for the lengths that they reach")
        add("--needle", action="store_true", help="a sentence hidden in the documents, asked for in a chat turn")
        depths = "--needle: percent (default: by tens)"
        add("--depths", type=parse_depths, metavar="D,...", default=DEPTHS, help=depths)
        add("--needles", type=positive, metavar="N", default=1, help="--needle: questions a cell (default: 1)")

    def settle_flags(self, flags: argparse.Namespace) -> None:
        for name in ("rescore", "subjects", "max_seq_len"):
            if getattr(flags, name) is not None:
                flag = f"--{name.replace('_', '-')}"
                raise UserError(f"{flag} has no use here (--lengths and --configs choose what is run)")
        if flags.engine == "vllm":
            raise UserError("--engine vllm has no long-context switches, and ends at the training length; use local")
        if flags.engine != "local":
            raise UserError(
                f"--engine {flags.engine} gives neither tokens nor their log-likelihoods; this needs the model itself"
            )
