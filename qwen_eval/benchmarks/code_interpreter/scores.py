"""The figures of a code interpreter run, and which of them are of the reported questions."""

from collections.abc import Sequence

from qwen_eval.benchmark import Item, Record, Setting
from qwen_eval.stats import Score, accuracy

TAGS = ("math", "visualization", "general")
PUBLISHED = "eval_code_interpreter_v1.jsonl"
GSM8K_N = 1319


def as_reported(answered: Sequence[Item], items: Sequence[Item], setting: Setting) -> dict[str, bool]:
    """Which figures are of the reported questions and rounds: by tag, and `result` for the math accuracy.

    answered: those with a record; items: all that -d has. The published figures: the published file with its rounds;
    the math accuracy GSM8K's test with three. Judged figures are another judge's.
    """
    rounds = setting.flags.rounds
    published = setting.own_samples or all(item.row["file"] == PUBLISHED for item in items)
    found = {tag: published and rounds is None and _count(answered, tag) == _count(items, tag) for tag in TAGS}
    gsm8k = rounds == 3 and len(answered) == GSM8K_N and all("####" in str(item.row["gold"]) for item in answered)
    return {**found, "result": gsm8k or (setting.own_samples and found["math"])}


def _count(items: Sequence[Item], tag: str) -> int:
    return sum(item.subject == tag for item in items)


def scores_of(pairs: Sequence[tuple[Item, Record]], judged: bool, official: dict[str, bool]) -> dict[str, Score]:
    """The figures of the card's two tables, then ours."""
    tagged = [(item, record) for item, record in pairs if item.row["tagged"]]
    found = {}
    for tag in TAGS:
        marks = [record["executable"] for item, record in tagged if item.subject == tag]
        found[f"executable_{tag}"] = accuracy(marks, metric="executable_rate", split=tag, as_reported=official[tag])
    right = [record["correct"] for item, record in pairs if item.gold is not None]
    found["acc_math"] = accuracy(right, metric="result_accuracy", split="math", as_reported=official["result"])
    for level in ("hard", "easy"):
        marks = [record["judged_right"] for item, record in pairs if judged and item.row["level"] == level]
        split = f"visualization_{level}"
        found[f"acc_{split}"] = accuracy(marks, metric="result_accuracy", split=split, as_reported=False)
    found["executable_all"] = accuracy((record["executable"] for _, record in tagged), compared=False)
    found["executable_robust_all"] = accuracy((record["executable_robust"] for _, record in tagged), compared=False)
    robust = [record["correct_robust"] for item, record in pairs if item.gold is not None]
    found["acc_math_robust"] = accuracy(robust, compared=False)
    return found
