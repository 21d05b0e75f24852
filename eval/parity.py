"""Two ways to run a model, on the same prompts: how far their logits, answers and texts are apart, with a verdict.

    python eval/parity.py -c Qwen/Qwen-7B -d data --a dtype=float32 --b dtype=bfloat16
    python eval/parity.py -c Qwen/Qwen-7B-Chat -d data --b checkpoint=Qwen/Qwen-7B-Chat-Int4
    python eval/parity.py -c Qwen/Qwen-7B-Chat -d data --b engine=openai base-url=http://host:8000/v1

A and B are the same runs but for a few flags of the scripts as name=value: checkpoint, adapter, engine, base-url,
tokenizer, dtype, device, batch-size, kv-cache, gptq-backend, attn-implementation, use-dynamic-ntk, use-logn-attn,
window-attn.
What a side does not name is that of the other flags (-c; --dtype and so on: those of the scripts, for both sides).
The verdict is `same`, `close` or `different`; its rule stands below the tables. Exit status: 1 different, 0 same or
close, 2 wrong use, or items without a reply.
"""

import argparse
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from qwen_eval.checkpoints import DEMO_FOLDERS
from qwen_eval.cli import OneLineParser, positive
from qwen_eval.comparison import parity_report
from qwen_eval.comparison.parity import DIFFERENT, Measured, judge, overall
from qwen_eval.engines.loaded import Engines
from qwen_eval.errors import UserError, run_script
from qwen_eval.places import DEMO
from qwen_eval.reporting.terminal import show
from qwen_eval.reproduction.parity_sides import (
    Side,
    carry_out,
    check_alike,
    compared,
    make_runs,
    read_side,
    tokens_of,
)
from qwen_eval.reproduction.runs import check_flags
from qwen_eval.reproduction.subjects import demo_subjects, subjects_of
from qwen_eval.reproduction.tables import (
    BBH,
    CEVAL,
    CMMLU,
    GSM8K,
    HUMANEVAL,
    MATH,
    MBPP,
    MMLU,
    CardTable,
    Part,
)

#: benchmarks that are answered by the logits of choices, or by a text with an answer in it that is right or wrong
PARTS = {part.name: part for part in (MMLU, CEVAL, CMMLU, GSM8K, MATH, HUMANEVAL, MBPP, BBH)}
NOT_HERE = ("--rescore", "--baseline", "--export", "--push-to-hub")


def chosen(text: str) -> list[Part]:
    """Some benchmarks, as `mmlu,gsm8k`."""
    names = dict.fromkeys(name.strip() for name in text.split(",") if name.strip())
    if unknown := [name for name in names if name not in PARTS]:
        raise argparse.ArgumentTypeError(f"{unknown[0]!r} is none of {', '.join(PARTS)}")
    if not names:
        raise argparse.ArgumentTypeError("names no benchmark")
    return [PARTS[name] for name in names]


def parse() -> tuple[argparse.Namespace, list[str]]:
    """The flags of this script, and what is left for those of the benchmarks."""
    flags = OneLineParser(
        description=(__doc__ or "").strip(), formatter_class=argparse.RawDescriptionHelpFormatter, allow_abbrev=False
    )
    add = flags.add_argument
    add("-c", "--checkpoint-path", metavar="CHECKPOINT", help="of each side that names none")
    add("--a", nargs="+", default=[], metavar="NAME=VALUE", help="how A is run (default: as the other flags say)")
    add("--b", nargs="+", default=[], metavar="NAME=VALUE", help="how B is run")
    add(
        "--benchmarks",
        type=chosen,
        default=[MMLU, GSM8K],
        metavar="A,B",
        help=f"of {', '.join(PARTS)} (default: mmlu,gsm8k)",
    )
    add("--sample", type=positive, default=200, metavar="N", help="items of each benchmark (default: 200)")
    add("-d", "--eval-data-path", type=Path, metavar="DATA", help="a folder with mmlu/, gsm8k/ ... in it")
    add("--subjects", metavar="A,B", help="only these subjects; a benchmark that has none of them runs whole")
    add(
        "--tokenizer",
        metavar="CHECKPOINT",
        help="whose tokens texts are counted in (default: of the side that runs here)",
    )
    add("-o", "--output-dir", type=Path, default=Path("results/parity"), metavar="DIR", help="default: results/parity")
    return flags.parse_known_args()


def main() -> int:
    flags, rest = parse()
    if named := [word for word in rest if word.partition("=")[0] in NOT_HERE]:
        raise UserError(f"{named[0]} is not for two sides; start the benchmark's own script")
    parts = flags.benchmarks
    check_flags([CardTable("parity", "", False, parts, {})], rest)
    a, b = (read_side(name, words, flags.checkpoint_path) for name, words in (("A", flags.a), ("B", flags.b)))
    data, subjects = flags.eval_data_path, subjects_of(flags.subjects, parts)
    if data is None and {a.checkpoint, b.checkpoint} & DEMO_FOLDERS.keys():
        data, subjects = DEMO / "data", subjects if flags.subjects else demo_subjects(parts)
    own = {part.name: [*rest, "--sample", str(flags.sample), *subjects[part.name]] for part in parts}
    engines = Engines()
    for side in (a, b):
        make_runs(side, parts, data, flags.output_dir, own, engines)
    check_alike(a, b)
    tokens = tokens_of((a, b), flags.tokenizer)
    for side in (a, b):
        carry_out(side)
    measured = compared(a, b, tokens)
    told = [*notes(a, b, measured), *parity_report.notes(measured)]
    title = f"B = {b} against A = {a}"
    parity_report.write(flags.output_dir, title, measured, told, {"a": about(a), "b": about(b)})
    show(title, parity_report.grids(measured), [*told, f"written to {flags.output_dir}"])
    if a.missing or b.missing:
        return 2
    return int(overall([judge(one) for one in measured]) == DIFFERENT)


def about(side: Side) -> dict[str, Any]:
    return {"side": str(side), "model": side.model, "without_reply": side.missing, "runs": side.manifests}


def notes(a: Side, b: Side, measured: Sequence[Measured]) -> list[str]:
    """What a reader should know of the sides."""
    found = ["A and B are the same: what differs is the noise of a second run"] if a.flags == b.flags else []
    for side in (a, b):
        found += [f"{side.name}: {note}" for note in side.notes]
        if side.missing:
            found.append(
                f"{side.name}: {side.missing} items without a reply, not compared; the same command asks again"
            )
    if a.local != b.local:
        found.append("prompts were compared before the endpoint puts its chat frame around them")
    if not (a.gives_logits and b.gives_logits) and any(one.choices for one in measured):
        found.append(
            "endpoints and vLLM give log-probabilities: logits were compared less their mean over a prompt's choices"
        )
    return found


if __name__ == "__main__":
    run_script(main)
