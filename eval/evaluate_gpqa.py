"""GPQA: hard science questions with four options, 198 (diamond), 448 (main) or 546 (extended); 5-shot.

    python eval/evaluate_gpqa.py -c Qwen/Qwen2.5-7B -d gpqa/                        # base: five examples with reasons
    python eval/evaluate_gpqa.py -c Qwen/Qwen2.5-7B-Instruct -d gpqa/               # chat: no example, step by step
    python eval/evaluate_gpqa.py -c Qwen/Qwen2.5-7B-Instruct -d gpqa/ --part main

Data: Rein et al. 2023 (arXiv 2311.12022), `gpqa_diamond.csv` and so on. They are gated: agree to the terms on
huggingface.co/datasets/Idavidrein/gpqa, then `hf auth login`, or give -d the folder of `dataset.zip`
(github.com/idavidrein/gpqa, password in its README). Please do not publish the questions; samples.jsonl holds them.

Chat models of Qwen3 are sampled as their cards say, ten replies per question, and the figure is their mean (Qwen3
report, 4.6; --samples sets another number).

The files have the right answer first among four, so that the options are shuffled: of each question by
`random.Random("gpqa/{seed}/{record id}")` with --shuffle-seed (default: 0), whatever else is asked.

Protocol: the cards state the number of examples (base: 5) and, for Qwen3, a chain of thought, and no more. Ours, after
lm-evaluation-harness and the paper: `What is the correct answer to this question: ...`, `Choices:`, `(A) ...`, a chain
of thought that ends in `The answer is (X)`, greedy, 2,048 new tokens. The examples are the first questions of
`gpqa_main` that are not in the part asked, with their published explanations. Which part a card's "GPQA" is, we take
from its figures, which fit k/198: diamond. So the verdict is never `reproduced`. protocol: the letter behind the first
`answer is`; robust: extraction/letters.py.
"""

import argparse
import random
import re
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from qwen_eval.benchmark import Benchmark, Content, Evaluation, Generate, Item, Record, Results, Setting, Shots
from qwen_eval.benchmarks import multiple_choice as choices
from qwen_eval.cli import natural
from qwen_eval.data.items import STRING, TEXT, Hub, locate_files, read_rows
from qwen_eval.errors import UserError, run_script
from qwen_eval.extraction.choice_replies import robust_letter_en
from qwen_eval.extraction.replies import END_OF_TEXT, cut_at
from qwen_eval.metrics import accuracy_by_subject
from qwen_eval.runner import run_benchmark
from qwen_eval.stats import accuracy

REPO = "Idavidrein/gpqa"
SAMPLES = 10  # replies per question behind the figures of Qwen3's chat models (Qwen3 report, 4.6)
SIZES = {"diamond": 198, "main": 448, "extended": 546}
WRONG = ("Incorrect Answer 1", "Incorrect Answer 2", "Incorrect Answer 3")
FIELDS = {"Record ID": TEXT, "Question": TEXT, "Correct Answer": TEXT, **dict.fromkeys(WRONG, TEXT)}
FIELDS |= {"Explanation": STRING, "High-level domain": TEXT}
STOPS = (END_OF_TEXT, "What is the correct answer to this question:")
THINK = "Let's think step by step:"
GATED = (
    f"GPQA is gated: agree to the terms at huggingface.co/datasets/{REPO} and run `hf auth login`, or unpack "
    "dataset.zip of github.com/idavidrein/gpqa (its README has the password) and give that folder with -d"
)

# --- data ---


def read(given: str | None, part: str) -> list[dict[str, str]]:
    """The questions of a part of the data; UserError that says how to get it."""
    file = f"gpqa_{part}.csv"
    try:
        paths = locate_files(given, Hub(REPO, file), (file,), file_ok=False)
    except UserError as error:
        raise UserError(f"no {file} ({error}); {GATED}") from error
    rows = [row for path in paths for row in read_rows(path, FIELDS)]
    return [{name: row[name].strip() for name in FIELDS} for row in rows]


def asked(row: Mapping[str, str], seed: int) -> dict[str, str]:
    """A question with its options shuffled: `question`, `A` to `D`, `answer`, `explanation`."""
    options = [row["Correct Answer"], *(row[name] for name in WRONG)]
    order = list(range(len(options)))
    random.Random(f"gpqa/{seed}/{row['Record ID']}").shuffle(order)
    texts = {letter: options[place] for letter, place in zip(choices.LETTERS, order, strict=True)}
    answer = choices.LETTERS[order.index(0)]
    return {"question": row["Question"], **texts, "answer": answer, "explanation": row["Explanation"]}


# --- prompt ---


def question(row: Mapping[str, str]) -> str:
    options = "".join(f"({letter}) {row[letter]}\n" for letter in choices.LETTERS)
    return f"What is the correct answer to this question: {row['question']}\nChoices:\n{options}"


def example(row: Mapping[str, str]) -> str:
    return f"{question(row)}{THINK} {row['explanation']}\nThe answer is ({row['answer']}).\n\n"


def prompt(row: Mapping[str, str], examples: Sequence[Mapping[str, str]], chat: bool) -> str:
    shown = "".join(map(example, examples))
    if chat and not examples:
        return f'{question(row)}\nThink step by step, and finish with "The answer is (X)", where X is the letter.'
    return f"{shown}{question(row)}{THINK}"


# --- answer ---


def read_protocol(row: Mapping[str, str], reply: str) -> str | None:
    match = re.search(r"answer is \(?([A-D])\b", cut_at(reply, STOPS))
    return match[1] if match else None


def read_robust(row: Mapping[str, str], reply: str) -> str | None:
    return robust_letter_en(row, cut_at(reply, STOPS))


# --- the benchmark ---


class GPQA(Benchmark):
    name = "gpqa"
    shots = Shots(base=5, chat=0)

    def add_flags(self, flags: argparse.ArgumentParser) -> None:
        flags.add_argument("--part", choices=SIZES, default="diamond", help="which questions (default: diamond)")
        seed = "seed of the options' order (default: 0)"
        flags.add_argument("--shuffle-seed", type=natural, default=0, metavar="N", help=seed)

    def official(self, setting: Setting) -> int | None:
        return SIZES[setting.flags.part]

    def output_name(self, setting: Setting) -> str:
        return f"gpqa_{setting.flags.part}"

    def protocol(self, setting: Setting) -> Mapping[str, Any]:
        flags = setting.flags
        return {**super().protocol(setting), "part": flags.part, "shuffle_seed": flags.shuffle_seed}

    def usual_samples(self, setting: Setting) -> int:
        return SAMPLES if setting.chat and setting.protocol == "qwen3" else 1

    def load(self, setting: Setting) -> Iterable[Item]:
        part, seed = setting.flags.part, setting.flags.shuffle_seed
        setting.subjects([part])
        rows = read(setting.data_path, part)
        own = {row["Record ID"] for row in rows}
        examples: list[dict[str, str]] = []
        if setting.shots:
            others = read(setting.data_path, "extended" if part == "main" else "main")
            left = [row for row in others if row["Record ID"] not in own and row["Explanation"]]
            examples = choices.few_shot([asked(row, seed) for row in left], setting.shots)
        for number, row in enumerate(rows):
            one = {**asked(row, seed), "domain": row["High-level domain"]}
            yield Item(f"{part}/{number}", part, gold=one["answer"], row=one, examples=examples)

    def content(self, item: Item) -> Content:
        return choices.content(item.row)

    def evaluate(self, item: Item, setting: Setting) -> Evaluation:
        reply = yield Generate(prompt(item.row, item.examples, setting.chat))
        record = choices.letter_record(item, reply, read_protocol, read_robust)
        return {**record, "domain": item.row["domain"]}

    def decoding(self, setting: Setting) -> Mapping[str, Any]:
        return {"repetition_penalty": 1.0, "max_new_tokens": 2048, "stop": STOPS}

    def departures(self, setting: Setting) -> list[str]:
        found = ["no card states its prompt, its examples or the order of the options"]
        if setting.samples != (usual := self.usual_samples(setting)):
            found.append(f"number of replies per question {setting.samples}, the report's {usual} (--samples)")
        return found

    def aggregate(self, records: Sequence[Record], setting: Setting) -> Results:
        ours = setting.flags.part == "diamond"
        scores = {
            "acc": accuracy((record["correct"] for record in records), compared=ours),
            "acc_robust": accuracy((record["correct_robust"] for record in records), compared=False),
        }
        domains = accuracy_by_subject([{**record, "subject": record["domain"]} for record in records])
        order = f"the options are shuffled by seed {setting.flags.shuffle_seed} (--shuffle-seed)"
        return Results(
            scores, {"by domain": domains}, [choices.answers_given(records), order], split="diamond" if ours else ""
        )


def main() -> int:
    return run_benchmark(GPQA(), __doc__)


if __name__ == "__main__":
    run_script(main)
