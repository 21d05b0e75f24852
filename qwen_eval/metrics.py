"""What several benchmarks measure: marks by subject, and Rouge-L over tokens of the benchmark's own choice."""

from collections.abc import Callable, Iterable, Mapping
from typing import Any

from qwen_eval.stats import Score, accuracy


def by_subject(records: Iterable[Mapping[str, Any]], field: str = "correct") -> dict[str, list[Any]]:
    """What the records have in `field`, item by item, for each `subject`, in the order of the records."""
    found: dict[str, list[Any]] = {}
    for record in records:
        found.setdefault(record["subject"], []).append(record[field])
    return found


def accuracy_by_subject(records: Iterable[Mapping[str, Any]], field: str = "correct") -> dict[str, Score]:
    """The share of right items of each subject, in percent, in the order of the records."""
    return {subject: accuracy(marks) for subject, marks in by_subject(records, field).items()}


class _Tokenizer:
    """A function that splits a text, as rouge-score wants it; its own tokenizer drops every Chinese character."""

    def __init__(self, tokens: Callable[[str], Iterable[str]]) -> None:
        self._tokens = tokens

    def tokenize(self, text: str) -> list[str]:
        return list(self._tokens(text))


def rouge_l(reply: str, reference: str, tokens: Callable[[str], Iterable[str]]) -> float:
    """Rouge-L F1, from 0 to 1: how long the longest common subsequence of two texts' tokens is; 0 where a text has no
    token (Lin 2004; the package rouge-score).

    tokens: splits a text into its tokens.
    """
    from rouge_score.rouge_scorer import RougeScorer

    scores = RougeScorer(["rougeL"], tokenizer=_Tokenizer(tokens)).score(reference, reply)
    return float(scores["rougeL"].fmeasure)
