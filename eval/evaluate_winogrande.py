"""WinoGrande: 1,267 sentences with a blank that one of two words fills; 5-shot, by partial scoring.

    python eval/evaluate_winogrande.py -c Qwen/Qwen2.5-7B -d data/winogrande
    python eval/evaluate_winogrande.py -c Qwen/Qwen2.5-7B-Instruct -d data/winogrande      # chat: 1 or 2 in the reply

Data: Sakaguchi et al. 2019 (arXiv 1907.10641), `dev.jsonl` and, for the examples, `train_xl.jsonl`, or the hub's tables
(allenai/winogrande, winogrande_xl).

Protocol: lm-evaluation-harness (winogrande), the partial scoring of Trinh and Le 2018: the sentence is read up to the
blank with either word in it, and the word with which the rest of the sentence is likelier is the answer. The words
themselves are not scored. The cards state 5 examples and no more. Ours: the examples are the first sentences of the
training set, so the verdict is never `reproduced`. Chat, ours: both words are in the prompt, examples are not shown
unless -k asks for them.
"""

from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from qwen_eval.benchmark import Benchmark, Evaluation, Generate, Item, LogLikelihood, Record, Results, Setting, Shots
from qwen_eval.benchmarks import likelihood_choices as likely
from qwen_eval.benchmarks import multiple_choice as choices
from qwen_eval.data.items import TEXT, Hub, Kind, read_table, tables
from qwen_eval.errors import run_script
from qwen_eval.runner import run_benchmark

LABELS = "12"
FILES = {"dev": ("dev.jsonl", "validation"), "train": ("train_xl.jsonl", "train")}  # official, and the hub's split
CONFIG = "winogrande_xl"
BLANK = Kind("a sentence with a blank `_`", lambda value: TEXT.fits(value) and "_" in value)
FIELDS = {"sentence": BLANK, "option1": TEXT, "option2": TEXT, "answer": Kind("1 or 2", lambda v: v in ("1", "2"))}


def read(given: str | None, split: str) -> list[dict[str, Any]]:
    official, hub_split = FILES[split]
    hub = Hub("allenai/winogrande", f"{CONFIG}/{hub_split}-00000-of-00001.parquet")
    rows = read_table(given, hub, (official, *tables(CONFIG, hub_split), *tables("", hub_split)), FIELDS, file_ok=False)
    return [{name: row[name] for name in FIELDS} for row in rows]


def parts(row: Mapping[str, Any]) -> tuple[str, str]:
    """What stands before the blank, and behind it, which always follows after a space."""
    before, _, behind = row["sentence"].partition("_")
    return before, f" {behind.strip()}"


def words(row: Mapping[str, Any]) -> list[str]:
    return [row["option1"], row["option2"]]


def example(row: Mapping[str, Any]) -> str:
    before, behind = parts(row)
    return f"{before}{words(row)[LABELS.index(row['answer'])]}{behind}\n\n"


class WinoGrande(Benchmark):
    name = "winogrande"
    official_items = 1_267
    shots = Shots(base=5, chat=0)
    scores_choices = True
    two_extractions = False

    def load(self, setting: Setting) -> Iterable[Item]:
        setting.subjects(["dev"])
        examples = choices.few_shot(read(setting.data_path, "train") if setting.shots else [], setting.shots)
        for number, row in enumerate(read(setting.data_path, "dev")):
            yield Item(f"dev/{number}", "dev", gold=row["answer"], row=row, examples=examples)

    def evaluate(self, item: Item, setting: Setting) -> Evaluation:
        (before, behind), shots = parts(item.row), "".join(map(example, item.examples))
        if setting.chat:
            asked = f"Which word fills the blank?\n{item.row['sentence']}"
            reply = yield Generate(shots + likely.chat_prompt(asked, words(item.row), LABELS))
            return choices.label_record(item, reply, words(item.row), LABELS, asked)
        limit = setting.max_prompt_tokens
        likelihoods = yield LogLikelihood(shots + before, [behind] * 2, limit, between=words(item.row))
        return choices.choice_record(item, likelihoods, LABELS)

    def departures(self, setting: Setting) -> list[str]:
        return likely.ours(setting)

    def aggregate(self, records: Sequence[Record], setting: Setting) -> Results:
        return likely.results(records, setting, "acc", self.name, LABELS)


def main() -> int:
    return run_benchmark(WinoGrande(), __doc__)


if __name__ == "__main__":
    run_script(main)
