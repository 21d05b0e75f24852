"""The demo: every script on the embedded samples with the embedded checkpoints, each figure beside the card's.

    make demo            or  python demo/run.py, from an installed package qwen-eval demo
    python demo/run.py --exact          # exit 1 unless every figure is the card's, to the last digit printed
    python demo/run.py --write-card     # write the figures into the card: README.md and reported_numbers.csv

Tables and every answer go to demo/out/{run}; from an installed package, to demo-out/{run} in the current folder. The
scripts run as a user would run them, but several in one process: importing torch anew each time would take longer than
the work.
"""

from __future__ import annotations

import argparse
import contextlib
import json
import multiprocessing
import os
import runpy
import shlex
import sys
import time
from collections.abc import Iterator
from concurrent.futures import ProcessPoolExecutor, as_completed
from pathlib import Path
from typing import Any, NamedTuple

from qwen_eval.places import INSTALLED, SCRIPTS

from card import Figure, show, write

os.environ.setdefault("OMP_NUM_THREADS", "1")  # two runs at a time; a tiny model gains nothing from threads

HERE = Path(__file__).resolve().parent
OUT = Path("demo-out").absolute() if INSTALLED else HERE / "out"


class Job(NamedTuple):
    """One command line: `python eval/evaluate_{script}.py {flags}`."""

    name: str
    script: str
    flags: str


# The longest first, so that none is left alone at the end.
JOBS = (
    Job("ppl", "ppl", "-c demo"),
    Job("code_interpreter", "code_interpreter", "-c demo-chat"),
    Job("mmlu", "mmlu", "-c demo"),
    Job("plugin", "plugin", "-c demo-chat"),
    Job("ceval", "ceval", "-c demo"),
    Job("cmmlu", "cmmlu", "-c demo"),
    Job("mmlu-0-shot", "mmlu", "-c demo -k 0"),
    Job("math", "math", "-c demo"),
    Job("bbh", "bbh", "-c demo"),
    Job("wmt22", "wmt22", "-c demo"),
    Job("gsm8k", "gsm8k", "-c demo -k 2"),
    Job("gsm8k-0-shot", "gsm8k", "-c demo -k 0"),
    Job("humaneval", "humaneval", "-c demo"),
    Job("mbpp", "mbpp", "-c demo"),
    Job("mmlu-chat", "mmlu", "-c demo-chat"),
    Job("gsm8k-chat-4-shot", "gsm8k", "-c demo-chat -k 4"),
    Job("ceval-chat", "ceval", "-c demo-chat"),
    Job("cmmlu-chat", "cmmlu", "-c demo-chat"),
    Job("gsm8k-chat", "gsm8k", "-c demo-chat"),
    Job("humaneval-chat", "humaneval", "-c demo-chat"),
    Job("vcsum-chat", "vcsum", "-c demo-chat"),
)


def run(job: Job, folder: Path) -> tuple[Job, int]:
    """Run one script in this process; what it prints goes to a file in its output folder. Returns its exit status."""
    folder.mkdir(parents=True, exist_ok=True)
    script = SCRIPTS / f"evaluate_{job.script}.py"
    # in fp32 on a GPU too, as the card's figures are
    sys.argv = [str(script), *shlex.split(job.flags), "--dtype", "float32", "-o", str(folder), "--overwrite"]
    with (
        open(folder / "log.txt", "w", encoding="utf-8") as log,
        contextlib.redirect_stdout(log),
        contextlib.redirect_stderr(log),
    ):
        try:
            runpy.run_path(str(script), run_name="__main__")
        except SystemExit as end:
            return job, int(end.code or 0)
    return job, 0


def prepare() -> None:
    """Import what every script needs, once per process."""
    sys.path.insert(0, str(SCRIPTS))
    import qwen_model  # noqa: F401

    import transformers  # noqa: F401


def run_all(jobs: tuple[Job, ...]) -> Iterator[Job]:
    from tqdm import tqdm

    # Not a multiprocessing.Pool, whose workers may have no children: the scripts start some (sandboxes, math-verify).
    with (
        ProcessPoolExecutor(min(2, os.cpu_count() or 1), multiprocessing.get_context("spawn"), prepare) as pool,
        tqdm(total=len(jobs), desc="demo", unit="run", mininterval=0.5 if sys.stderr.isatty() else 10) as bar,
    ):
        for done in as_completed([pool.submit(run, job, OUT / job.name) for job in jobs]):
            job, status = done.result()
            bar.update()
            if status:
                log = (OUT / job.name / "log.txt").read_text(encoding="utf-8").strip()
                pool.shutdown(wait=False, cancel_futures=True)
                sys.exit(f"\n$ python eval/evaluate_{job.script}.py {job.flags}\n{log}\nexit status {status}")
            yield job


def figures(job: Job) -> list[Figure]:
    """Every score of a run that the card has a row for."""
    result: dict[str, Any] = json.loads((OUT / job.name / "results.json").read_text(encoding="utf-8"))
    return [
        Figure(
            job.name,
            result["model"],
            name,
            score["row"],
            score["value"],
            score["ci95"] and tuple(score["ci95"]),
            score["n"],
            score["reported"],
            score["verdict"],
            *(score.get(name) for name in ("difference", "difference_items", "smallest_difference")),
        )
        for name, score in result["scores"].items()
        if "row" in score and score["value"] is not None
    ]


def main() -> int:
    parser = argparse.ArgumentParser(description="Run every script on the demo's models and samples.")
    parser.add_argument("--exact", action="store_true", help="exit 1 unless every figure is the card's")
    parser.add_argument("--write-card", action="store_true", help="write the measured figures into the card")
    parser.add_argument("--only", metavar="A,B", help="only these runs")
    args = parser.parse_args()
    names = [job.name for job in JOBS]
    if unknown := [name for name in (args.only or "").split(",") if name and name not in names]:
        parser.error(f"--only: there is no run {unknown[0]!r}; there are {', '.join(names)}")
    if INSTALLED and args.write_card:
        parser.error("--write-card is for a checkout")
    if args.only and args.write_card:
        parser.error("--write-card needs every run: leave --only out")
    wanted = tuple(job for job in JOBS if not args.only or job.name in args.only.split(","))
    os.chdir(HERE)  # multiprocessing looks for modules in the current directory, where a user may have others
    started = time.time()
    found = {job: figures(job) for job in run_all(wanted)}
    ordered = [figure for job in wanted for figure in found[job]]
    if args.write_card:
        write(ordered)
        return 0
    moved = show(ordered, [job.name for job in wanted])
    print(f"\n{time.time() - started:.0f} s; tables and every answer are in {OUT if INSTALLED else 'demo/out'}/")
    return 1 if args.exact and moved else 0


if __name__ == "__main__":
    sys.exit(main())
