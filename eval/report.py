"""One HTML page of one or more runs: tables with verdicts, charts, and every item, searchable. Opens from disk.

    python eval/report.py results/                                        # every run in the folder
    python eval/report.py results/Qwen-7B/mmlu -o mmlu.html               # one run
    python eval/report.py results/new --baseline results/old              # items gained and lost since then
    python eval/report.py results/ --unfinished                           # also runs that are not at their end

The page needs no network and holds all of the items: prompt, reply or logits, extraction, gold answer, details. Texts
of a model or of the data are shown as texts and cannot run (qwen_eval/page/build.py).
"""

import argparse
from collections.abc import Sequence
from pathlib import Path

from qwen_eval.cli import OneLineParser
from qwen_eval.errors import UserError, run_script
from qwen_eval.page.build import build
from qwen_eval.page.folders import read_runs
from qwen_eval.reporting.tables import write_atomically


def parse(words: Sequence[str] | None = None) -> argparse.Namespace:
    flags = OneLineParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter, allow_abbrev=False)
    add = flags.add_argument
    add("folders", nargs="+", type=Path, metavar="DIR", help="the folder of a run, or one with such folders in it")
    add("-o", "--output", type=Path, default=Path("report.html"), metavar="FILE", help="default: report.html")
    add(
        "--baseline", type=Path, metavar="DIR", help="earlier runs of the same benchmarks: mark what was gained or lost"
    )
    add("--unfinished", action="store_true", help="also runs that still go on, or were stopped: items, no figures")
    add("--debug", action="store_true", help="the traceback of an error")
    return flags.parse_args(words)


def main() -> int:
    flags = parse()
    if flags.output.is_dir():
        raise UserError(f"-o {flags.output} is a folder; give the name of a file")
    runs = read_runs(flags.folders, flags.unfinished)
    baselines = read_runs([flags.baseline], flags.unfinished) if flags.baseline else []
    page = build(runs, baselines)
    write_atomically(flags.output, page)
    count, items = len(runs), sum(len(run.records) for run in runs)
    size = f"{len(page.encode('utf-8')) / 1e6:.1f} MB"
    print(f"written to {flags.output}: {count} run{'s' * (count != 1)}, {items:,} items, {size}")
    return 0


if __name__ == "__main__":
    run_script(main)
