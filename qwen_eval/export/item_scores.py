"""What each item adds to each figure: every export has an item's scores by the name of the figure that they belong to.

A value is in the unit of `Figure.share`: the mean over items is the figure, where the figure is such a mean. The items
of a corpus BLEU have no score of their own, and are exported without one.
"""

import math
from collections.abc import Callable, Iterator, Mapping
from typing import Any, NamedTuple

from qwen_eval.export.finished import Figure, Finished

Record = Mapping[str, Any]
KINDS = ("", "_robust")  # of extraction


class ItemScore(NamedTuple):
    """mark: the item is right or wrong by this figure; else it has a value only."""

    figure: Figure
    value: float
    mark: bool


def item_scores(run: Finished, record: Record) -> list[ItemScore]:
    """The item's scores, one for each figure of the run that it belongs to."""
    figures = {figure.name: figure for figure in run.figures}
    found = MAKERS.get(run.benchmark, _marks)(record, next(iter(figures), ""))
    return [
        ItemScore(figures[name], float(value), isinstance(value, bool))
        for name, value in found
        if name in figures and math.isfinite(value)
    ]


Scores = Iterator[tuple[str, "float | bool"]]  # name of a figure, and what the item adds


def _marks(record: Record, headline: str) -> Scores:
    """`correct`, and each `correct_robust`, `correct_norm`, `correct_plus` that the benchmark has."""
    yield headline, bool(record["correct"])
    for field, value in record.items():
        if field.startswith("correct_") and isinstance(value, bool):
            yield headline + field.removeprefix("correct"), value


def _code(record: Record, headline: str) -> Scores:
    yield from _marks(record, "pass@1")


def _plugin(record: Record, headline: str) -> Scores:
    for kind in KINDS:
        if record["subject"] == "negative":  # right is not to call a tool
            yield f"false_positive_rate{kind}", not record[f"correct{kind}"]
        else:
            yield f"tool_selection_acc{kind}", bool(record[f"correct{kind}"])
            yield f"tool_input_rouge_l{kind}", float(record[f"tool_input{kind}"])


def _agent(record: Record, headline: str) -> Scores:
    for name in ("tool_selection", "tool_used", "code"):
        for kind in KINDS:
            yield name + kind, float(record[name + kind])


def _interpreter(record: Record, headline: str) -> Scores:
    yield f"executable_{record['subject']}", bool(record["executable"])
    yield "executable_all", bool(record["executable"])
    yield "executable_robust_all", bool(record["executable_robust"])
    if record["gold"]:
        yield "acc_math", bool(record["correct"])
        yield "acc_math_robust", bool(record["correct_robust"])


def _summaries(record: Record, headline: str) -> Scores:
    yield "rouge_l", record["rouge_l"]["words"] / 100
    yield "rouge_l_characters", record["rouge_l"]["characters"] / 100


def _perplexity(record: Record, headline: str) -> Scores:
    for length, nll in record["nll"].items():
        yield f"{record['subject']}/seq_{length}", math.exp(min(nll["mean"], 700.0))  # beyond it there is no float


def _truthful(record: Record, headline: str) -> Scores:
    yield "mc1", bool(record["correct"])
    if "mc2" in record:
        yield "mc2", float(record["mc2"])


def _none(record: Record, headline: str) -> Scores:
    yield from ()


MAKERS: dict[str, Callable[[Record, str], Scores]] = {
    "humaneval": _code,
    "mbpp": _code,
    "plugin": _plugin,
    "hf_agent_run": _agent,
    "hf_agent_chat": _agent,
    "code_interpreter": _interpreter,
    "vcsum": _summaries,
    "ppl": _perplexity,
    "truthfulqa": _truthful,
    "wmt22": _none,
}
