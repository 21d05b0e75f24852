"""What the multiple-choice scripts share: rows with an answer A-D, asking by logits or by a chat reply, the tables.

Fields of a row besides the question: `A` to `D` (texts) and `answer` (a letter, or None in a split without answers).
"""

import math
from collections import Counter
from collections.abc import Callable, Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

from .data import read_csv
from .errors import UserError
from .run import Run
from .stats import Score, accuracy

LETTERS = "ABCD"
# Chat replies: the published scripts set the penalty of the checkpoint's generation_config.json aside.
DECODING = {"repetition_penalty": 1.0}


def rows(path: Path, columns: Sequence[str], header: bool, answer: str | None = "answer") -> list[dict[str, Any]]:
    """Rows of an official CSV; the column `answer` must hold a letter A-D (None: the split has no answers)."""
    found: list[dict[str, Any]] = [dict(row) for row in read_csv(path, columns, header)]
    for number, row in enumerate(found):
        if answer is not None and row[answer] not in list(LETTERS):
            raise UserError(f"{path} row {number}: the answer is {row[answer]!r}, not one of A, B, C, D")
        row["answer"] = row[answer] if answer is not None else None
    return found


def shots(path: Path, columns: Sequence[str], count: int, header: bool, answer: str = "answer") -> list[dict[str, Any]]:
    """The first `count` rows of a dev file, the examples of the prompt; UserError when it has fewer."""
    found = rows(path, columns, header, answer)
    if len(found) < count:
        raise UserError(f"{path} has {len(found)} examples, fewer than --num-fewshot {count}")
    return found[:count]


def present(run: Run, folder: Path, suffix: str, subjects: Iterable[str]) -> list[str]:
    """The subjects to expect: all of the benchmark; for the demo, whose samples are few, those that it has."""
    return [name for name in subjects if not run.own_samples or (folder / f"{name}{suffix}").exists()]


Reader = Callable[[Mapping[str, str], str], str | None]


def ask(run: Run, tokens: Sequence[str], max_seq_len: int | None, protocol: Reader, robust: Reader) -> None:
    """Put every item to the model and save its answer.

    Base: the largest logit among `tokens` (one a letter). Chat: the letter read from the reply, in the published way
    (`protocol`, the headline) and in a careful way (`robust`; None: no answer found).
    """
    if not run.chat:
        for item, logits in run.choose(tokens, max_seq_len):
            if not all(map(math.isfinite, logits)):
                raise UserError(
                    f"{item.id}: the model's logits are not finite numbers; try --dtype float32 or bfloat16"
                )
            prediction = LETTERS[max(range(len(logits)), key=logits.__getitem__)]
            kept = [float(f"{value:.9g}") for value in logits]  # nine digits are every fp32: --rescore reads the same
            run.save(item, choice_logits=kept, prediction=prediction, gold=item.gold, correct=prediction == item.gold)
        return
    for item, reply in run.generate():
        read, careful = protocol(item.row, reply), robust(item.row, reply)
        run.save(
            item,
            response=reply,
            prediction=read,
            prediction_robust=careful,
            gold=item.gold,
            correct=read == item.gold,
            correct_robust=careful is not None and careful == item.gold,
        )


def marks(run: Run, subjects: Iterable[str], field: str = "correct") -> list[bool]:
    """Right or wrong, item by item, of these subjects."""
    wanted = set(subjects)
    return [record[field] for record in run.records if record["subject"] in wanted]


def by_subject(run: Run, field: str = "correct") -> dict[str, list[bool]]:
    """Right or wrong, item by item, of each subject of the run, in the order of the run."""
    found: dict[str, list[bool]] = {}
    for record in run.records:
        found.setdefault(record["subject"], []).append(record[field])
    return found


def breakdowns(run: Run, groups: Mapping[str, Score]) -> dict[str, dict[str, Score]]:
    """The tables behind the headline: groups that have items, then every subject."""
    subjects = {name: accuracy(found) for name, found in by_subject(run).items()}
    return {"by group": {name: score for name, score in groups.items() if score.n}, "by subject": subjects}


def notes(run: Run) -> list[str]:
    """What a reader of the table should know: how often each letter was chosen, where the two readings differ."""
    chosen = Counter(record["prediction"] for record in run.records)
    lines = ["answers given: " + ", ".join(f"{letter} {chosen[letter]}" for letter in LETTERS)]
    if run.chat:
        differ = [r["id"] for r in run.records if r["correct"] != r["correct_robust"]]
        lines.append(run.list_disagreements(differ))
    return lines
