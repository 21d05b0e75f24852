"""What C-Eval and CMMLU share: prompts, answer tokens, extraction, averages over subjects.

Fields of a row: `question`, `A` to `D` (texts) and `answer` (a letter, or None in a split without answers).
"""

from collections.abc import Mapping, Sequence
from typing import Any

from qwen_eval.benchmark import Benchmark, Choose, Content, Evaluation, Generate, Item, Record, Setting, Shots
from qwen_eval.benchmarks.multiple_choice import DECODING, LETTERS, choice_record, letter_record
from qwen_eval.benchmarks.multiple_choice import content as content_of
from qwen_eval.extraction.choice_replies import read_letter_zh, robust_letter_zh
from qwen_eval.metrics import by_subject
from qwen_eval.stats import Score, macro_accuracy

Row = Mapping[str, str]


def options(row: Row) -> str:
    return "\n".join(f"{letter}. {row[letter]}" for letter in LETTERS)


def example(row: Row, answer: bool) -> str:
    """One question of the base prompt; a shot carries its answer, the question asked ends in `答案：`."""
    return f"问题：{row['question']}\n{options(row)}\n答案：" + (f"{row['answer']}\n\n" if answer else "")


def base_prompt(shots: Sequence[Row], row: Row) -> str:
    return "".join(example(shot, answer=True) for shot in shots) + example(row, answer=False)


def chat_prompt(row: Row) -> str:
    return f"{row['question']}\n\n{options(row)}\n"


class ChineseChoices(Benchmark):
    """How an item of C-Eval and CMMLU is asked; each of them says what its items and its averages are."""

    shots = Shots(base=5, chat=0)
    scores_choices = True

    def content(self, item: Item) -> Content:
        return content_of(item.row)

    def example_contents(self, item: Item) -> Sequence[Content]:
        return [content_of(row) for row in item.examples]

    def evaluate(self, item: Item, setting: Setting) -> Evaluation:
        few_shot = base_prompt(item.examples, item.row)
        if setting.chat:
            reply = yield Generate(few_shot if setting.shots else chat_prompt(item.row))
            return letter_record(item, reply, read_letter_zh, robust_letter_zh)
        logits = yield Choose(few_shot, LETTERS, setting.max_prompt_tokens)
        return choice_record(item, logits)

    def protocol(self, setting: Setting) -> Mapping[str, Any]:
        return {"num_fewshot": setting.shots, "max_seq_len": setting.max_prompt_tokens}

    def decoding(self, setting: Setting) -> Mapping[str, Any] | None:
        return DECODING if setting.chat else None


def robust_mean(records: Sequence[Record], setting: Setting) -> dict[str, Score]:
    """The headline by the robust extraction, for a chat model."""
    marks = by_subject(records, "correct_robust").values()
    return {"acc_robust": macro_accuracy(marks, compared=False)} if setting.chat else {}


def marks_by_group(records: Sequence[Record], groups: Mapping[str, Sequence[str]]) -> dict[str, list[list[bool]]]:
    """For each group that has items the marks of its subjects, subject by subject."""
    found = by_subject(records)
    parts = {name: [found[subject] for subject in found if subject in members] for name, members in groups.items()}
    return {name: part for name, part in parts.items() if part}
