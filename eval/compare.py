"""Is run B worse than run A? Item by item, with exact tests, and what so many items can show at all.

    python eval/compare.py results/before results/after              # every benchmark that both have
    python eval/compare.py results/before/mmlu results/after/mmlu -o comparison
    python eval/compare.py samples_gsm8k_2025-01-01T00-00-00.jsonl results/Qwen-7B/gsm8k
    python eval/compare.py --plan 500                                # what 500 items can show; no folders

A and B are result folders of this harness (results.json and samples.jsonl), folders of such folders, or the
samples_*.jsonl of lm-evaluation-harness. Exit status: 1 B is significantly worse, 0 it is not, 2 wrong use. Where data,
prompts or protocol differ, no regression is told (status 0) unless --ignore-differences is given. --ci makes a verdict
for a pipeline: GO (0), NO-GO (1), NOT ENOUGH DATA or NOT COMPARABLE (2); see docs/ci.md.
"""

import argparse
from pathlib import Path

from qwen_eval.cli import OneLineParser, above_zero, positive
from qwen_eval.comparison import ci, report
from qwen_eval.comparison.ci import NO_GO, VERDICTS, judge
from qwen_eval.comparison.power import Assumptions
from qwen_eval.comparison.result import compare, prepare
from qwen_eval.comparison.sides import Side, read_sides
from qwen_eval.errors import UserError, run_script
from qwen_eval.reporting.terminal import show


def part(text: str) -> float:
    """A number between 0 and 1, both left out."""
    if not 0 < (value := above_zero(text)) < 1:
        raise argparse.ArgumentTypeError(f"{text!r} is not between 0 and 1")
    return value


def verdicts(text: str) -> tuple[str, ...]:
    """Some verdicts, as `no-go,not-comparable`."""
    names = tuple(name.strip().upper().replace("_", " ") for name in text.split(",") if name.strip())
    known = {name.replace("-", " "): name for name in VERDICTS}
    if unknown := [name for name in names if name.replace("-", " ") not in known]:
        said = ", ".join(name.lower().replace(" ", "-") for name in VERDICTS[1:])
        raise argparse.ArgumentTypeError(f"{unknown[0].lower()!r} is none of {said}")
    return tuple(known[name.replace("-", " ")] for name in names)


def parse() -> argparse.Namespace:
    flags = OneLineParser(
        description=(__doc__ or "").strip(), formatter_class=argparse.RawDescriptionHelpFormatter, allow_abbrev=False
    )
    add = flags.add_argument
    add("a", type=Path, nargs="?", metavar="A", help="the earlier run, the baseline")
    add("b", type=Path, nargs="?", metavar="B", help="the run that may be worse")
    add("-o", "--output-dir", type=Path, metavar="DIR", help="write the tables and every flipped item there")
    add("--plan", type=positive, metavar="N", help="only say what N items can show")
    add(
        "--disagreement",
        type=above_zero,
        default=5.0,
        metavar="PERCENT",
        help="items that only one run has right (default: 5)",
    )
    add("--power", type=part, default=0.9, metavar="X", help="how often a true loss is to be found (default: 0.9)")
    add("--alpha", type=part, default=0.05, metavar="X", help="how often a false one may be reported (default: 0.05)")
    add(
        "--margin",
        type=above_zero,
        default=10.0,
        metavar="POINTS",
        help="not enough data: where a larger loss would be missed (default: 10)",
    )
    add("--ignore-differences", action="store_true", help="compare although data, prompts or protocol differ")
    add("--filter", metavar="NAME", help="lm-eval: the filter whose answers count (default: the first)")
    add(
        "--metric",
        metavar="NAME",
        help="lm-eval: the field that is 1 where an item is right (default: acc, exact_match ...)",
    )
    add(
        "--ci",
        action="store_true",
        help="a verdict for a pipeline: summary.md and junit.xml in -o, and GitHub's own files",
    )
    add(
        "--fail-on",
        type=verdicts,
        default=VERDICTS[1:],
        metavar="A,B",
        help="--ci: verdicts that fail (default: all but GO)",
    )
    add("--debug", action="store_true", help="show tracebacks")
    found = flags.parse_args()
    if found.disagreement > 100:
        flags.error("--disagreement is in percent: at most 100")
    if found.plan is None and found.b is None:
        flags.error("give two result folders, A and B, or --plan N")
    if found.plan is not None and found.a is not None:
        flags.error("--plan wants no folders")
    if found.ci and found.output_dir is None:
        flags.error("--ci wants -o DIR for its files")
    return found


def both(flags: argparse.Namespace) -> tuple[dict[str, Side], dict[str, Side], list[str]]:
    """The benchmarks that A and B have both, and notes on the others. UserError where there is none."""
    (a, unfinished_a), (b, unfinished_b) = (read_sides(path, flags.filter, flags.metric) for path in (flags.a, flags.b))
    shared = [name for name in a if name in b]
    if not shared:
        raise UserError(f"{flags.a} holds {', '.join(a)} and {flags.b} holds {', '.join(b)}: no benchmark in common")
    told = [f"not compared: {said}" for said in unfinished_a + unfinished_b]
    told += [
        f"only in {side}, not compared: {', '.join(names)}"
        for side, names in (("A", [name for name in a if name not in b]), ("B", [name for name in b if name not in a]))
        if names
    ]
    if flags.a.resolve() == flags.b.resolve():
        told.append("A and B are the same folder: no difference is possible")
    return {name: a[name] for name in shared}, {name: b[name] for name in shared}, told


def main() -> int:
    flags = parse()
    given = Assumptions(flags.disagreement / 100, flags.power, flags.alpha)
    if flags.plan is not None:
        text, table = report.plan(flags.plan, given)
        print(text)
        show("", [table], [])
        return 0
    a, b, told = both(flags)
    benchmarks = prepare(a, b)
    print("\n".join(report.beforehand(benchmarks, given)))
    compare(benchmarks, given, flags.margin, flags.ignore_differences)
    told += [note for one in benchmarks for note in [*report.notes(one), *report.other_prompts(one)]]
    verdict = judge(benchmarks, flags.margin, flags.power)
    told.append(verdict.sentence)
    title = f"B = {flags.b} against A = {flags.a}"
    if flags.output_dir is not None:
        about = {
            "a": str(flags.a),
            "b": str(flags.b),
            "verdict": verdict.word,
            **given._asdict(),
            "margin": flags.margin,
        }
        report.write(flags.output_dir, title, benchmarks, told, about)
        told.append(f"written to {flags.output_dir}")
    flips = [grid for one in benchmarks for grid in report.flipped(one)]
    show(title, [report.grid(benchmarks), *flips], told)
    if flags.ci:
        return ci.report(flags.output_dir, verdict, title, benchmarks, told, flags.fail_on)
    return 1 if verdict.word == NO_GO else 0


if __name__ == "__main__":
    run_script(main)
