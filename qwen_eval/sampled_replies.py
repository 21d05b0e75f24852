"""Several replies to a question (--samples): which items that makes, and the figures over them.

Sample s of all questions is a run by itself, with a figure of its own. What is reported is their mean, which for a
share of right answers is the mean over questions of the mean over a question's replies. Its interval is over questions:
replies to one question are right or wrong together, so that ten of them are no ten questions.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import replace
from statistics import fmean, stdev
from typing import TYPE_CHECKING, Any

from qwen_eval.benchmark import Benchmark, Item, Record, Results, Setting
from qwen_eval.card_sampling import card_sampling
from qwen_eval.engines.decoding import Decoding
from qwen_eval.errors import UserError
from qwen_eval.stats import Interval, MeanMark, Score

if TYPE_CHECKING:
    from qwen_eval.run import Run


def samples_each(benchmark: Benchmark, setting: Setting, decoding: Decoding | None) -> int:
    """How many replies each question of a run has. decoding: of these replies, None where none is generated.

    Raises UserError where several make no sense. Given replies (--rescore) decide themselves.
    """
    if setting.given is not None:
        found = {sample for _, sample in setting.given}
        return 1 + max(found) if 0 in found else 1  # without a first reply the numbers are wrong: no such item
    given = getattr(setting.flags, "num_samples", None)
    sampled = decoding is not None and decoding.temperature > 0
    if given is None:
        return benchmark.usual_samples(setting) if sampled else 1
    if given > 1 and decoding is None:
        kind = "chat" if setting.chat else "base"
        raise UserError(f"--samples {given}: {benchmark.name} of a {kind} model generates no replies to sample")
    if given > 1 and not benchmark.takes_samples:
        raise UserError(f"--samples {given}: {benchmark.name} takes one reply per question")
    if given > 1 and not sampled:
        raise UserError(f"--samples {given} wants a --temperature above 0: greedy replies are all the same")
    return int(given)


def expanded(items: Sequence[Item], samples: int) -> list[Item]:
    """Each question as often as it is asked."""
    return [replace(item, sample=sample) for item in items for sample in range(samples)]


# -- figures -----------------------------------------------------------------------------------------------------------


def aggregate(made: Run) -> Results:
    """The results of a run, over one reply per question or several, with what to know of how they were sampled."""
    benchmark, setting, records = made.benchmark, made.setting, made.records
    whole = benchmark.aggregate(records, setting)
    card = card_sampling(made.target) if made.decoding else None
    notes = [card.note(made.decoding)] if card and made.decoding else []
    if setting.samples > 1:
        singles = [benchmark.aggregate(part, setting) for part in by_sample(records)]
        spread = spread_notes(singles)
        if not benchmark.pass_at_k:
            whole = over_samples(whole, benchmark.aggregate(folded(records), setting), singles)
            usual = "" if getattr(setting.flags, "num_samples", None) or setting.given else " (--samples sets another)"
            notes.append(f"{setting.samples} replies per question{usual}: means over them, intervals over questions")
        notes += spread
    return whole._replace(notes=[*notes, *whole.notes])


def by_sample(records: Iterable[Record]) -> list[list[Record]]:
    """The records of each sample, in the order of the questions."""
    found: dict[int, list[Record]] = {}
    for record in records:
        found.setdefault(record["sample"], []).append(record)
    return [found[sample] for sample in sorted(found)]


def folded(records: Iterable[Record]) -> list[Record]:
    """One record per question: its first reply's, with the mean over all of its replies for each true or false."""
    questions: dict[str, list[Record]] = {}
    for record in records:
        questions.setdefault(record["id"], []).append(record)
    return [{**replies[0], **_means(replies)} for replies in questions.values()]


def _means(replies: Sequence[Record]) -> dict[str, MeanMark]:
    columns = {name: [reply.get(name) for reply in replies] for name in replies[0]}
    return {
        name: MeanMark([mark for mark in marks if isinstance(mark, bool)])
        for name, marks in columns.items()
        if all(isinstance(mark, bool) for mark in marks)
    }


def over_samples(whole: Results, by_question: Results, singles: Sequence[Results]) -> Results:
    """The results over all replies. whole: as the benchmark counts them all, for its notes; by_question: of the folded
    records; singles: of each sample."""
    return by_question._replace(
        scores=_mean_scores(by_question.scores, [one.scores for one in singles]),
        breakdowns={
            title: _mean_scores(part, [one.breakdowns.get(title, {}) for one in singles])
            for title, part in by_question.breakdowns.items()
        },
        notes=whole.notes,
        files=singles[0].files,  # what is handed in elsewhere has one answer per question
        extra=whole.extra,
    )


def _mean_scores(scores: Mapping[str, Score], singles: Sequence[Mapping[str, Score]]) -> dict[str, Score]:
    return {name: _mean_score(score, [one[name] for one in singles if name in one]) for name, score in scores.items()}


def _mean_score(by_question: Score, singles: Sequence[Score]) -> Score:
    """The mean over samples. Where the folded records give the same, their interval over questions is its interval;
    for another figure, such as a corpus BLEU, the mean of the samples' own intervals, which is never too narrow."""
    values = [one.value for one in singles if one.value is not None]
    if not values:
        return by_question
    value = fmean(values)
    linear = by_question.effective is not None and math.isclose(by_question.value or 0.0, value, abs_tol=1e-6)
    if linear:
        return by_question
    ends = [one.ci95 for one in singles if one.ci95 is not None]
    interval = Interval(fmean(end.low for end in ends), fmean(end.high for end in ends)) if ends else None
    return by_question._replace(value=value, ci95=interval, effective=None)


def spread_notes(singles: Sequence[Results]) -> list[str]:
    """How far the headline figure of single samples lies apart."""
    name = next(iter(singles[0].scores), "")
    values: list[Any] = [one.scores[name].value for one in singles if name in one.scores]
    values = [value for value in values if value is not None]
    if len(values) < 2:
        return []
    shown = f"from {min(values):.2f} to {max(values):.2f}, standard deviation {stdev(values):.2f}"
    return [f"{name} of each of the {len(values)} samples of all questions: {shown}"]
