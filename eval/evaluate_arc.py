"""ARC: science questions of school exams with 3 to 5 choices, 1,172 (Challenge) or 2,376 (Easy); 25-shot.

    python eval/evaluate_arc.py -c Qwen/Qwen2.5-7B -d ARC-V1-Feb2018-2          # ARC-Challenge
    python eval/evaluate_arc.py -c Qwen/Qwen2.5-7B -d ARC-V1-Feb2018-2 --easy   # ARC-Easy
    python eval/evaluate_arc.py -c Qwen/Qwen2.5-7B-Instruct -d ARC-V1-Feb2018-2 # chat: the label in the reply

Data: Clark et al. 2018 (arXiv 1803.05457), `ARC-Challenge-Test.jsonl` and, for the examples,
`ARC-Challenge-Train.jsonl`, or the hub's tables (allenai/ai2_arc). Labels are A to E or 1 to 5.

Protocol: lm-evaluation-harness (arc_challenge): `Question: ...`, `Answer:`, and the likeliest of the choices' texts, by
the log-likelihood (acc) or by that per character (acc_norm). The cards state 25 examples and no more. Ours: the
examples are the first questions of the training set, and the card's figure stands beside acc_norm, which the Open LLM
Leaderboard showed for 25 examples; so the verdict is never `reproduced`. Chat, ours: the choices are in the prompt,
examples are not shown unless -k asks for them.
"""

import argparse
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from qwen_eval.benchmark import Benchmark, Evaluation, Generate, Item, LogLikelihood, Record, Results, Setting, Shots
from qwen_eval.benchmarks import likelihood_choices as likely
from qwen_eval.benchmarks import multiple_choice as choices
from qwen_eval.data.items import Hub, locate_files, read_rows, tables
from qwen_eval.errors import UserError, run_script
from qwen_eval.runner import run_benchmark

SIZES = {"ARC-Challenge": 1_172, "ARC-Easy": 2_376}


def read(given: str | None, part: str, split: str) -> list[dict[str, Any]]:
    """Rows of question, texts, labels and answer. part: ARC-Challenge or ARC-Easy."""
    hub = Hub("allenai/ai2_arc", f"{part}/{split}-00000-of-00001.parquet")
    files = (f"{part}-{split.title()}.jsonl", *tables(part, split), *tables("", split))
    paths = locate_files(given, hub, files, file_ok=False)
    if other := [path for path in paths if path.parent.name in SIZES and path.parent.name != part]:
        raise UserError(f"{given} has {other[0].parent.name} only, not {part}")
    return [choices.ai2_question(row) for path in paths for row in read_rows(path)]


def question(row: Mapping[str, Any]) -> str:
    return f"Question: {row['question']}\nAnswer:"


def example(row: Mapping[str, Any]) -> str:
    return f"{question(row)} {row['texts'][row['labels'].index(row['answer'])]}\n\n"


class ARC(Benchmark):
    name = "arc_challenge"
    shots = Shots(base=25, chat=0)
    scores_choices = True
    two_extractions = False

    def add_flags(self, flags: argparse.ArgumentParser) -> None:
        flags.add_argument("--easy", action="store_true", help="ARC-Easy in place of ARC-Challenge")

    def part(self, setting: Setting) -> str:
        return "ARC-Easy" if setting.flags.easy else "ARC-Challenge"

    def official(self, setting: Setting) -> int | None:
        return SIZES[self.part(setting)]

    def output_name(self, setting: Setting) -> str:
        return self.part(setting).lower().replace("-", "_")

    def protocol(self, setting: Setting) -> Mapping[str, Any]:
        return {**super().protocol(setting), "part": self.part(setting)}

    def load(self, setting: Setting) -> Iterable[Item]:
        setting.subjects(["test"])
        part = self.part(setting)
        train = read(setting.data_path, part, "train") if setting.shots else []
        examples = choices.few_shot(train, setting.shots)
        for number, row in enumerate(read(setting.data_path, part, "test")):
            yield Item(f"test/{number}", "test", gold=row["answer"], row=row, examples=examples)

    def evaluate(self, item: Item, setting: Setting) -> Evaluation:
        row, texts, labels = item.row, item.row["texts"], item.row["labels"]
        shots = "".join(map(example, item.examples))
        if setting.chat:
            reply = yield Generate(shots + likely.chat_prompt(f"Question: {row['question']}", texts, labels))
            return choices.label_record(item, reply, texts, labels, row["question"])
        continuations = [f" {text}" for text in texts]
        likelihoods = yield LogLikelihood(shots + question(row), continuations, setting.max_prompt_tokens)
        return choices.likelihood_record(item, likelihoods, texts, labels)

    def departures(self, setting: Setting) -> list[str]:
        return likely.ours(setting, "acc_norm")

    def aggregate(self, records: Sequence[Record], setting: Setting) -> Results:
        return likely.results(records, setting, "acc_norm", self.output_name(setting))


def main() -> int:
    return run_benchmark(ARC(), __doc__)


if __name__ == "__main__":
    run_script(main)
