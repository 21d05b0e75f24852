"""HellaSwag: 10,042 beginnings of everyday scenes, each with four endings; 10-shot.

    python eval/evaluate_hellaswag.py -c Qwen/Qwen2.5-7B -d data/hellaswag
    python eval/evaluate_hellaswag.py -c Qwen/Qwen2.5-7B-Instruct -d data/hellaswag      # chat: the letter in the reply

Data: Zellers et al. 2019 (arXiv 1905.07830), `hellaswag_val.jsonl` and, for the examples, `hellaswag_train.jsonl`, or
the hub's tables (Rowan/hellaswag).

Protocol: lm-evaluation-harness (hellaswag): the activity, the context without the brackets that WikiHow's part has in
it, and the likeliest ending, by the log-likelihood (acc) or by that per character (acc_norm). The cards state 10
examples and no more. Ours: the examples are the first rows of the training set, and the card's figure stands beside
acc_norm, which the Open LLM Leaderboard showed for 10 examples; so the verdict is never `reproduced`. Chat, ours: the
endings are in the prompt, examples are not shown unless -k asks for them.
"""

import re
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from qwen_eval.benchmark import Benchmark, Evaluation, Generate, Item, LogLikelihood, Record, Results, Setting, Shots
from qwen_eval.benchmarks import likelihood_choices as likely
from qwen_eval.benchmarks import multiple_choice as choices
from qwen_eval.data.items import STRING, STRINGS, TEXT, Hub, Kind, read_table, tables
from qwen_eval.errors import run_script
from qwen_eval.runner import run_benchmark

LETTERS = "ABCD"
SPLITS = {"val": "validation", "train": "train"}  # the official files' names, and the hub's
FOUR = Kind("a list of four texts", lambda value: STRINGS.fits(value) and len(value) == len(LETTERS))
LABEL = Kind("0, 1, 2 or 3", lambda value: type(value) in (int, str) and str(value) in ("0", "1", "2", "3"))
FIELDS = {"activity_label": TEXT, "ctx_a": TEXT, "ctx_b": STRING, "endings": FOUR, "label": LABEL}


def read(given: str | None, split: str) -> list[dict[str, Any]]:
    hub_split = SPLITS[split]
    hub = Hub("Rowan/hellaswag", f"data/{hub_split}-00000-of-00001.parquet")
    files = (f"hellaswag_{split}.jsonl", *tables("", hub_split))
    rows = read_table(given, hub, files, FIELDS, file_ok=False)
    return [{**{name: row[name] for name in FIELDS}, "label": int(row["label"])} for row in rows]


def plain(text: str) -> str:
    """Without the marks that WikiHow's part has: `[header]`, `[title]`, `[step]`."""
    text = re.sub(r"\[.*?\]", "", text.strip().replace(" [title]", ". "))
    return text.replace("  ", " ")


def context(row: Mapping[str, Any]) -> str:
    return plain(f"{row['activity_label']}: {row['ctx_a']} {row['ctx_b'].capitalize()}")


def example(row: Mapping[str, Any]) -> str:
    return f"{context(row)} {plain(row['endings'][row['label']])}\n\n"


class HellaSwag(Benchmark):
    name = "hellaswag"
    official_items = 10_042
    shots = Shots(base=10, chat=0)
    scores_choices = True
    two_extractions = False

    def load(self, setting: Setting) -> Iterable[Item]:
        setting.subjects(["val"])
        examples = choices.few_shot(read(setting.data_path, "train") if setting.shots else [], setting.shots)
        for number, row in enumerate(read(setting.data_path, "val")):
            yield Item(f"val/{number}", "val", gold=LETTERS[row["label"]], row=row, examples=examples)

    def evaluate(self, item: Item, setting: Setting) -> Evaluation:
        endings = [plain(text) for text in item.row["endings"]]
        shots, asked = "".join(map(example, item.examples)), context(item.row)
        if setting.chat:
            asked = f"Which ending goes on best with this text?\n{asked}"
            reply = yield Generate(shots + likely.chat_prompt(asked, endings, LETTERS))
            return choices.label_record(item, reply, endings, LETTERS, asked)
        continuations = [f" {text}" for text in endings]
        likelihoods = yield LogLikelihood(shots + asked, continuations, setting.max_prompt_tokens)
        return choices.likelihood_record(item, likelihoods, endings, LETTERS)

    def departures(self, setting: Setting) -> list[str]:
        return likely.ours(setting, "acc_norm")

    def aggregate(self, records: Sequence[Record], setting: Setting) -> Results:
        return likely.results(records, setting, "acc_norm", self.name)


def main() -> int:
    return run_benchmark(HellaSwag(), __doc__)


if __name__ == "__main__":
    run_script(main)
