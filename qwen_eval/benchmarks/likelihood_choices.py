"""What the benchmarks of likelihoods share that later cards added (ARC, HellaSwag, WinoGrande): how a chat model is
asked, which accuracy stands beside a card's figure, and what of it the cards do not state."""

from collections.abc import Mapping, Sequence

from qwen_eval.benchmark import Record, Results, Setting
from qwen_eval.benchmarks import multiple_choice
from qwen_eval.stats import Score, accuracy


def chat_prompt(question: str, texts: Sequence[str], labels: Sequence[str]) -> str:
    """The question with its choices. Ours: no card has a figure for chat models."""
    options = "".join(f"{label}. {text}\n" for label, text in zip(labels, texts, strict=True))
    kind = "letter" if labels[0].isalpha() else "number"
    return f"{question}\n{options}\nAnswer with the {kind} of the right choice."


def ours(setting: Setting, metric: str = "") -> list[str]:
    """What of a base model's figure no card states. metric: the accuracy taken for the card's, of several."""
    if setting.chat:
        return []
    which = [f"the card does not say which accuracy (here: {metric})"] if metric else []
    return [*which, "nor which examples" if metric else "the card does not say which examples"]


def results(
    records: Sequence[Record], setting: Setting, headline: str, benchmark: str, labels: Sequence[str] = ()
) -> Results:
    """The scores, `headline` (acc or acc_norm) laid beside the figure of the card, and of a base model without other
    labels than `labels` how often each was taken. benchmark: whose figure that is."""
    if not setting.chat and all("correct_norm" in record for record in records):
        scores: Mapping[str, Score] = multiple_choice.likelihood_scores(records)
    else:
        scores, headline = {"acc": accuracy(record["correct"] for record in records)}, "acc"
    beside = {
        name: score._replace(metric="acc", benchmark=benchmark, compared=name == headline)
        for name, score in scores.items()
    }
    return Results(beside, notes=[multiple_choice.answers_given(records, labels)] if labels else [])
