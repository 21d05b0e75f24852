"""What the scripts that run programs share: their flags, pass@k."""

import argparse
import math
from collections.abc import Iterable, Mapping, Sequence
from statistics import fmean
from typing import Any

from qwen_eval.cli import positive
from qwen_eval.errors import UserError
from qwen_eval.sandbox.pool import Sandbox
from qwen_eval.stats import Score, accuracy, bootstrap

KS = (1, 10, 100)


def add_flags(flags: argparse.ArgumentParser) -> None:
    add = flags.add_argument
    add("--num-samples", type=positive, metavar="N", help="replies a problem, for pass@k (default: 1)")
    add("--allow-unsandboxed", action="store_true", help="run model-written code even where there is no sandbox")
    add("--workers", type=positive, metavar="N", help="programs checked at a time (default: one a core)")


def samples_each(args: argparse.Namespace, replies: Iterable[tuple[str, int]] | None) -> int:
    """How many replies a problem has. replies: the keys (id, sample) of given ones, which then decide.

    `--limit` keeps counting problems. Raises UserError where the flags make no sense together.
    """
    if replies is not None:
        count = 1 + max(sample for _, sample in replies)
    else:
        count = args.num_samples or 1
        if count > 1 and not args.temperature:
            raise UserError("--num-samples wants a --temperature above 0: greedy replies are all the same")
    if count > 1 and args.sample:
        raise UserError("--sample draws single replies; with several a problem use --limit")
    if count > 1 and args.limit:
        args.limit *= count  # the items lie problem by problem
    return count


def pass_at_k(n: int, right: int, k: int) -> float:
    """The unbiased estimate that at least one of k replies is right, from n of which `right` are (Chen et al. 2021)."""
    if n - right < k:
        return 1.0
    return 1.0 - math.prod((n - right - i) / (n - i) for i in range(k))


def pass_scores(
    records: Sequence[Mapping[str, Any]], field: str = "correct", suffix: str = "", compared: bool = True
) -> dict[str, Score]:
    """pass@k in percent for every k that the replies suffice for, over problems. field: which boolean counts.

    The interval is Wilson's with one reply a problem, else a bootstrap over problems.
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
        values = [100 * pass_at_k(len(part), sum(part), k) for part in marks.values()]
        scores[name + suffix] = Score(
            fmean(values), len(values), bootstrap(values, fmean), metric=name, compared=compared
        )
    return scores


def isolation_note(sandbox: Sandbox) -> str:
    """The line under the table that says how programs were shut in."""
    if sandbox.level == "none":
        return "programs ran WITHOUT a sandbox (--allow-unsandboxed)"
    proven = f"{len(sandbox.guards)} guards proven ({', '.join(sandbox.guards)})"
    return f"programs ran in the sandbox, level {sandbox.level}: {proven}"
