"""Every figure that was reported of a later model, beside the one of a run: other numbers of examples, other modes, the
same figure of another source. Only those of the run's own setting get a verdict."""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

from qwen_eval.reporting.reported import Figure, ModelName, Row, candidates, decimals_of
from qwen_eval.reporting.tables import Grid, signed
from qwen_eval.reporting.verdict import Verdict
from qwen_eval.stats import Score

HEAD = ("figure", "reported", "setting", "source", "difference", "verdict")
OPEN_PROTOCOL = (
    "the sources of these reported figures state the number of examples at most; prompt, extraction and whatever else "
    "they leave open are this script's own, so that a figure is at best `consistent`"
)


class Beside(NamedTuple):
    """A reported figure and the score that it is of. same_setting: it was measured as the score was."""

    name: str
    score: Score
    row: Row
    same_setting: bool


def reported_beside(scores: Sequence[tuple[str, Score, Figure]], rows: Sequence[Row], name: ModelName) -> list[Beside]:
    """The reported figures of the later models that belong to these scores, in the order of the sources."""
    found = []
    for label, score, figure in scores:
        same, fitting, _ = candidates(rows, name, figure)
        found += [Beside(label, score, row, row in fitting) for row in same if row.get("protocol") == "open"]
    return found


def grid(beside: Sequence[Beside], model: str, judged: Callable[[Score, Row], Verdict | None]) -> Grid:
    """The table of them. judged: the verdict on a score beside a row."""
    rows = []
    for one in beside:
        verdict = judged(one.score, one.row) if one.same_setting else None
        value = f"{float(one.row['value']):.{decimals_of(one.row)}f}"
        said = (signed(verdict.difference), verdict.word) if verdict else ("", "another setting")
        rows.append((one.name, value, setting_of(one.row), short_source(one.row["source"]), *said))
    return Grid(f"every reported figure of {model} for this benchmark", HEAD, rows)


def notes(beside: Sequence[Beside], shots: int | None, takes_shots: bool) -> list[str]:
    """What to know of them; how to ask as they were asked, where none is of this run's setting."""
    found = [OPEN_PROTOCOL] if any(one.same_setting for one in beside) else []
    if beside and not found:
        of_run = "" if shots is None else f" ({shots}-shot)"
        counts = sorted({int(one.row["shots"]) for one in beside if one.row["shots"]} - {shots})
        how = f"; -k {' or -k '.join(map(str, counts))} asks with as many examples" if counts and takes_shots else ""
        found.append(f"no reported figure of this model is of this setting{of_run}{how}")
    return found


def setting_of(row: Row) -> str:
    """`4-shot, thinking, v1.1`: what a row says of how it was measured."""
    shots = f"{row['shots']}-shot" if row["shots"] else ""
    data = f"data {row['data_version']}" if row["data_version"] else ""
    return ", ".join(filter(None, (shots, row["split"], row["variant"], row["version"], data))) or "not stated"


def short_source(source: str) -> str:
    """A source as a narrow column has it; the whole one is in `qwen-eval list --reported NAME` and results.json."""
    return re.sub(r"^.*content/blog/(.+)/index\.md", r"blog \1", source).removeprefix("QwenLM/Qwen3:").split("/")[-1]


def as_json(beside: Sequence[Beside]) -> list[dict[str, Any]]:
    """For results.json: the columns of the CSV that say what each figure is."""
    columns = ("benchmark", "metric", "shots", "split", "variant", "value", "source")
    return [
        {"score": one.name, **{column: one.row[column] for column in columns}, "same_setting": one.same_setting}
        for one in beside
    ]
