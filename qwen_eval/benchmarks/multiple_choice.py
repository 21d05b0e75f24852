"""What the multiple-choice scripts share: rows with an answer A-D, asking by logits or by a chat reply, the tables.

Fields of a row besides the question: `A` to `D` (texts) and `answer` (a letter, or None in a split without answers).
"""

import math
from collections import Counter
from collections.abc import Callable, Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

from qwen_eval import metrics
from qwen_eval.benchmark import Content, Item, Record, Setting
from qwen_eval.data.items import STRING, STRINGS, TEXT, TEXTS, Kind, check_row, find, read_csv, read_rows, tables
from qwen_eval.errors import UserError
from qwen_eval.extraction.labels import read_label
from qwen_eval.stats import Score, accuracy

LETTERS = "ABCD"
MOST_NAMED = 5  # subjects in an error
# Chat replies: the published scripts set the penalty of the checkpoint's generation_config.json aside.
DECODING = {"repetition_penalty": 1.0}


class Layout(NamedTuple):
    """How a benchmark's questions lie in files: `{split}/{subject}{suffix}` (`{split}` in `suffix` is filled in), with
    these columns, in the first line (`header`) or fixed; the last column holds the answer, a letter."""

    columns: tuple[str, ...]
    suffix: str
    header: bool

    def file(self, split: str, subject: str) -> str:
        return f"{split}/{subject}{self.suffix.format(split=split)}"

    def holds(self, split: str) -> list[str]:
        """What `locate` looks for: the official files, the hub's tables, a folder of the split's name."""
        return [self.file(split, "*"), *tables("all", split), *tables("*", split), split]


def rows(path: Path, columns: Sequence[str], header: bool, answer: str | None = "answer") -> list[dict[str, Any]]:
    """Rows of an official CSV; the column `answer` must hold a letter A-D (None: the split has no answers)."""
    found = read_csv(path, columns, header)
    return [_question(row, columns, answer, f"{path} row {number}") for number, row in enumerate(found)]


def _question(row: dict[str, Any], columns: Sequence[str], answer: str | None, where: str) -> dict[str, Any]:
    """A row with the texts `A` to `D`, and the letter in `answer`. The hub's tables may have a list `choices` and the
    answer's number in it."""
    if "choices" in row:
        check_row(
            row, {"choices": Kind("a list of four texts", lambda value: STRINGS.fits(value) and len(value) == 4)}, where
        )
        row = {**row, **dict(zip(LETTERS, row["choices"], strict=True))}
    kinds = {name: STRING if name in list(LETTERS) else TEXT for name in columns if name != answer}
    check_row(row, kinds, where)
    if answer is None:
        return {**row, "answer": None}
    given = row.get(answer)
    letter = LETTERS[given] if type(given) is int and 0 <= given < len(LETTERS) else given
    if letter not in list(LETTERS):
        raise UserError(f"{where}: the answer is {given!r}, not one of A, B, C, D")
    return {**row, "answer": letter}


def subject_rows(folder: Path, layout: Layout, split: str, subject: str, labelled: bool = True) -> list[dict[str, Any]]:
    """The questions of one subject, each with its text in the first column's name, `A` to `D`, and `answer`.

    From the official CSV, else from the hub's table of the subject, else from its table of all subjects (`all`).
    labelled: the split has answers. Raises UserError that names file, row and column.
    """
    path = folder / layout.file(split, subject)
    answer = layout.columns[-1] if labelled else None
    columns = layout.columns if labelled else layout.columns[:-1]
    for config in (subject, "all") if not path.exists() else ():
        found = []
        for table in find(folder, tables(config, split)):
            for number, row in enumerate(read_rows(table)):
                if config == subject or row.get("subject") == subject:
                    found.append(_question(row, columns, answer, f"{table} row {number}"))
        if found:
            return found
    return rows(path, columns, layout.header, answer)


def content(row: Mapping[str, Any]) -> Content:
    """What an official set's fingerprint takes of a row."""
    return Content([row["question"], *(row[letter] for letter in LETTERS)], row["answer"])


def shots(folder: Path, layout: Layout, subject: str, count: int) -> list[dict[str, Any]]:
    """The first `count` rows of the dev split, the examples of the prompt; UserError when it has fewer."""
    if not count:
        return []
    found = subject_rows(folder, layout, "dev", subject)
    if len(found) < count:
        raise UserError(
            f"{folder / layout.file('dev', subject)} has {len(found)} examples, fewer than --num-fewshot {count}"
        )
    return found[:count]


Reader = Callable[[Mapping[str, str], str], str | None]


def there(setting: Setting, folder: Path, layout: Layout, split: str, subjects: Iterable[str]) -> list[str]:
    """The subjects to run: those of --subjects, of all that the benchmark has; the demo has samples of a few. Raises
    UserError that names all those without a file, where several have none."""
    chosen = setting.subjects(
        name for name in subjects if not setting.own_samples or (folder / layout.file(split, name)).exists()
    )
    if find(folder, tables("all", split)):
        return chosen
    files = (layout.file(split, "{}"), *tables("{}", split))
    absent = [name for name in chosen if not find(folder, [file.format(name) for file in files])]
    if len(absent) > 1:
        first, more = folder / layout.file(split, absent[0]), absent[1:]
        named = ", ".join(more[:MOST_NAMED]) + (" ..." if len(more) > MOST_NAMED else "")
        raise UserError(
            f"missing file {first}, and those of {len(more)} more subjects ({named}); "
            "-d wants the complete official data (or name what is there: --subjects)"
        )
    return chosen


def choice_record(item: Item, logits: Sequence[float], labels: Sequence[str] = LETTERS) -> Record:
    """The record of an item that was answered by the largest of its choices' logits (or log-likelihoods)."""
    if not all(map(math.isfinite, logits)):
        raise UserError(f"{item.id}: the model's logits are not finite numbers; try --dtype float32 or bfloat16")
    prediction = labels[max(range(len(logits)), key=logits.__getitem__)]
    kept = [float(f"{value:.9g}") for value in logits]  # nine digits are every fp32: --rescore reads the same
    return {"choice_logits": kept, "prediction": prediction, "gold": item.gold, "correct": prediction == item.gold}


def letter_record(item: Item, reply: str, protocol: Reader, robust: Reader) -> Record:
    """The record of an item that was answered by a reply: the letter in it by the published extraction (`protocol`, the
    headline) and by a careful one (`robust`; None: no answer found)."""
    read, careful = protocol(item.row, reply), robust(item.row, reply)
    return {
        "response": reply,
        "prediction": read,
        "prediction_robust": careful,
        "gold": item.gold,
        "correct": read == item.gold,
        "correct_robust": careful is not None and careful == item.gold,
    }


def tables_of(records: Sequence[Record], groups: Mapping[str, Score]) -> dict[str, dict[str, Score]]:
    """The tables behind the headline: groups that have items, then every subject."""
    filled = {name: score for name, score in groups.items() if score.n}
    return {"by group": filled, "by subject": metrics.accuracy_by_subject(records)}


def answers_given(records: Iterable[Record], labels: Sequence[str] = LETTERS) -> str:
    """The note that says how often each choice was taken, and how often anything else was read: a model that answers A
    always is seen at once."""
    chosen = Counter(record["prediction"] for record in records)
    other = chosen.total() - sum(chosen[label] for label in labels)
    counts = [f"{label} {chosen[label]}" for label in labels] + [f"other or none {other}"] * bool(other)
    return "answers given: " + ", ".join(counts)


# -- any number of choices ---------------------------------------------------------------------------------------------


def ai2_question(row: Mapping[str, Any]) -> dict[str, Any]:
    """A row of AI2's benchmarks (ARC and others): `question`, `texts` and `labels` of its choices, and the `answer`.

    From the official JSON lines ({"question": {"stem", "choices": [{"text", "label"}]}, "answerKey"}) or the hub's
    tables ({"question", "choices": {"text": [...], "label": [...]}, "answerKey"}). UserError where it is neither.
    """
    try:
        question, choices = row["question"], row.get("choices")
        if isinstance(question, Mapping):
            choices = {name: [choice[name] for choice in question["choices"]] for name in ("text", "label")}
            question = question["stem"]
        texts, labels, answer = choices["text"], choices["label"], row["answerKey"]  # type: ignore[index]
    except (KeyError, TypeError) as error:
        raise UserError(f"question {row.get('id')!r} has no choices with text and label, or no answerKey") from error
    if not TEXT.fits(question) or not TEXTS.fits(texts) or not TEXTS.fits(labels) or len(texts) != len(labels):
        raise UserError(f"question {row.get('id')!r}: question, choices and labels must be texts that are not empty")
    if len(set(labels)) < len(labels) or answer not in labels:
        raise UserError(f"question {row.get('id')!r}: answerKey {answer!r} is not one of the labels {labels}")
    return {"question": question, "texts": texts, "labels": labels, "answer": answer}


def few_shot(rows: Sequence[dict[str, Any]], count: int) -> list[dict[str, Any]]:
    """The first `count` rows, the examples of the prompt; UserError when there are fewer."""
    if len(rows) < count:
        raise UserError(f"there are {len(rows)} examples, fewer than --num-fewshot {count}")
    return list(rows[:count])


def likelihood_record(item: Item, likelihoods: Sequence[float], texts: Sequence[str], labels: Sequence[str]) -> Record:
    """The record of an item that was answered by the likeliest of its choices' texts.

    `correct` counts by the log-likelihood itself (acc), `correct_norm` by the log-likelihood per character (acc_norm),
    `correct_bytes` per byte of the text in UTF-8 (acc_bytes), as lm-evaluation-harness counts.
    """
    best = {
        "norm": [value / max(1, len(text)) for value, text in zip(likelihoods, texts, strict=True)],
        "bytes": [value / max(1, len(text.encode())) for value, text in zip(likelihoods, texts, strict=True)],
    }
    chosen = {name: labels[max(range(len(values)), key=values.__getitem__)] for name, values in best.items()}
    return {
        **choice_record(item, likelihoods, labels),
        "prediction_norm": chosen["norm"],
        "correct_norm": chosen["norm"] == item.gold,
        "correct_bytes": chosen["bytes"] == item.gold,
    }


def likelihood_scores(records: Sequence[Record]) -> dict[str, Score]:
    """acc, acc_norm and acc_bytes of records of `likelihood_record`."""
    fields = {"acc": "correct", "acc_norm": "correct_norm", "acc_bytes": "correct_bytes"}
    return {name: accuracy((record[field] for record in records), metric=name) for name, field in fields.items()}


def label_record(item: Item, reply: str, texts: Sequence[str], labels: Sequence[str], question: str = "") -> Record:
    """The record of an item that was answered by a reply: the label in it (extraction/labels.py)."""
    found = read_label(reply, labels, texts, question)
    return {"response": reply, "prediction": found, "gold": item.gold, "correct": found == item.gold}
