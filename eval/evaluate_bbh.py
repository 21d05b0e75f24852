"""BIG-Bench Hard: 27 tasks, 6,511 questions, three worked examples with a chain of thought.

    python eval/evaluate_bbh.py -c Qwen/Qwen-7B -d BIG-Bench-Hard-main.zip
    python eval/evaluate_bbh.py -c Qwen/Qwen-7B -d BIG-Bench-Hard-main.zip --no-cot      # answer-only

-d: the repository suzgunmirac/BIG-Bench-Hard (Suzgun et al. 2022) as a folder or its archive: `bbh/{task}.json` and
`cot-prompts/{task}.txt`. (lukaemon/bbh on the hub has the questions but not the examples.)

Protocol: the examples without their canary line, the question, `A: Let's think step by step.`; the reply is cut at the
next question; the answer follows the last `the answer is`, one final full stop dropped, and must be the target exactly.
--no-cot is ours: the same examples with nothing but their answers, made from the chain-of-thought prompts; the whole
reply is the answer. The robust extraction (bbh_replies.py) forgives case, spaces, emphasis, units, reasons behind the
answer, and an option without its brackets, with its text or by it. The average is over the 27 tasks; the paper counts
the three sizes of logical_deduction, and those of tracking_shuffled_objects, as one task (23 tasks, of which 11
algorithmic and 12 NLP).
"""

import argparse
import re
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

from qwen_eval.benchmark import Benchmark, Content, Evaluation, Generate, Item, Record, Results, Setting
from qwen_eval.data.items import TEXT, Hub, Kind, check_row, given_path, locate, read_json, read_text
from qwen_eval.errors import UserError, run_script
from qwen_eval.extraction.bbh_replies import read_robust, same
from qwen_eval.extraction.replies import END_OF_TEXT, cut_at
from qwen_eval.metrics import accuracy_by_subject, by_subject
from qwen_eval.runner import run_benchmark
from qwen_eval.stats import Score, macro_accuracy

ALGORITHMIC = (
    "boolean_expressions",
    "dyck_languages",
    "geometric_shapes",
    "logical_deduction_five_objects",
    "logical_deduction_seven_objects",
    "logical_deduction_three_objects",
    "multistep_arithmetic_two",
    "navigate",
    "object_counting",
    "temporal_sequences",
    "tracking_shuffled_objects_five_objects",
    "tracking_shuffled_objects_seven_objects",
    "tracking_shuffled_objects_three_objects",
    "web_of_lies",
    "word_sorting",
)
NLP = (
    "causal_judgement",
    "date_understanding",
    "disambiguation_qa",
    "formal_fallacies",
    "hyperbaton",
    "movie_recommendation",
    "penguins_in_a_table",
    "reasoning_about_colored_objects",
    "ruin_names",
    "salient_translation_error_detection",
    "snarks",
    "sports_understanding",
)
TASKS = sorted(ALGORITHMIC + NLP)
NOT_ON_HUB = Hub("", "")
SHOTS = 3
STOPS = (END_OF_TEXT, "\n\nQ:")
THINK = "Let's think step by step."

# --- data ---


def given_folder(given: str | None) -> str:
    if given and given_path(given).exists():
        return given
    missing = f"no folder {given}" if given else "no -d"
    raise UserError(f"{missing}: BBH's examples are not on the hub; -d wants the repository suzgunmirac/BIG-Bench-Hard")


def read_task(path: Path) -> list[dict[str, str]]:
    """The questions of a task: rows of `input` and `target`."""
    task = check_row(read_json(path), {"examples": Kind("a list", lambda value: isinstance(value, list))}, str(path))
    rows = enumerate(task["examples"])
    return [check_row(row, {"input": TEXT, "target": TEXT}, f'{path}, "examples" {number}') for number, row in rows]


def read_examples(path: Path, cot: bool) -> tuple[str, str]:
    """The examples of a task, from its prompt file: as the prompt has them, and as the file has them."""
    if not path.exists():
        raise UserError(f"missing file {path}; -d wants the whole repository suzgunmirac/BIG-Bench-Hard")
    try:
        text = read_text(path).replace("\r\n", "\n")
        found = examples(text, cot), examples(text, True)
    except (ValueError, IndexError) as error:
        raise UserError(f"{path}: an example without `A: {THINK}` and `the answer is`") from error
    if "Q: " not in found[0]:
        raise UserError(f"{path} has no example in it; restore it from the repository suzgunmirac/BIG-Bench-Hard")
    return found


# --- prompt ---


def examples(prompt_file: str, cot: bool) -> str:
    """The task's description and its worked examples; the canary is what stands above the first line of dashes."""
    text = prompt_file.split("-----\n", 1)[-1].strip()
    if cot:
        return text
    description, *worked = text.split("\n\nQ: ")
    return "\n\n".join([description, *(_answer_only(example) for example in worked)])


def _answer_only(example: str) -> str:
    question, reasoning = example.split(f"\nA: {THINK}", 1)
    return f"Q: {question}\nA: {reasoning.rsplit('the answer is ', 1)[1].strip().removesuffix('.')}"


def prompt(shots: str, question: str, cot: bool) -> str:
    return f"{shots}\n\nQ: {question}\nA:{' ' + THINK if cot else ''}"


# --- extract and score ---


def read(reply: str, cot: bool) -> str:
    """protocol: what follows the last `the answer is`, one final full stop dropped; answer-only: the reply as it is."""
    if not cot:
        return reply.strip()
    return reply.rsplit("the answer is", 1)[-1].strip().removesuffix(".")


def score(reply: str, target: str, cot: bool, question: str = "") -> dict[str, Any]:
    """Both extractions of a reply and both verdicts. question: its options may be named by text."""
    prediction, robust = read(cut_at(reply, STOPS), cot), read_robust(reply, target, cot, question)
    return {
        "prediction": prediction,
        "gold": target,
        "correct": prediction == target,
        "prediction_robust": robust,
        "correct_robust": prediction == target or same(robust, target),
    }


# --- the benchmark ---


class BBH(Benchmark):
    name = "bbh"
    official_items = 6_511

    def add_flags(self, flags: argparse.ArgumentParser) -> None:
        flags.add_argument("--no-cot", action="store_true", help="answer-only: the examples without their reasoning")

    def load(self, setting: Setting) -> Iterable[Item]:
        folder = locate(given_folder(setting.data_path), NOT_ON_HUB, holds="cot-prompts")
        there = [task for task in TASKS if not setting.own_samples or (folder / "bbh" / f"{task}.json").exists()]
        for task in setting.subjects(there):
            examples = read_examples(folder / "cot-prompts" / f"{task}.txt", not setting.flags.no_cot)
            for number, row in enumerate(read_task(folder / "bbh" / f"{task}.json")):
                yield Item(f"{task}/{number}", task, gold=row["target"], row=row, examples=examples)

    def content(self, item: Item) -> Content:
        return Content(item.row["input"], item.gold)

    def example_contents(self, item: Item) -> Sequence[Content]:
        return [Content(item.examples[-1], None)]

    def evaluate(self, item: Item, setting: Setting) -> Evaluation:
        question, cot = item.row["input"], not setting.flags.no_cot
        reply = yield Generate(prompt(item.examples[0], question, cot))
        return {"response": reply, **score(reply, item.gold, cot, question)}

    def protocol(self, setting: Setting) -> Mapping[str, Any]:
        return {"num_fewshot": SHOTS, "cot": not setting.flags.no_cot}

    def decoding(self, setting: Setting) -> Mapping[str, Any]:
        return {"stop": STOPS}

    def aggregate(self, records: Sequence[Record], setting: Setting) -> Results:
        # The reported figures are those with a chain of thought: answer-only is not laid beside them.
        marks, robust = by_subject(records), by_subject(records, "correct_robust")
        scores = {
            "acc": macro_accuracy(marks.values(), compared=not setting.flags.no_cot),
            "acc_robust": macro_accuracy(robust.values(), compared=False),
        }
        halves = {"all": TASKS, "algorithmic": ALGORITHMIC, "nlp": NLP}
        averages = {name: score for name, tasks in halves.items() if (score := paper_average(records, tasks)).n}
        breakdowns = {"as the paper counts": averages, "by task": accuracy_by_subject(records)}
        return Results(scores, breakdowns, shots=SHOTS)


def paper_average(records: Sequence[Record], tasks: Iterable[str]) -> Score:
    """Mean over the tasks as the paper counts them: the three sizes of a family are one task."""
    families: dict[str, list[bool]] = {}
    for record in records:
        if record["subject"] in tasks:
            family = re.sub(r"^(logical_deduction|tracking_shuffled_objects)_.*", r"\1", record["subject"])
            families.setdefault(family, []).append(record["correct"])
    return macro_accuracy(families.values(), compared=False)


def main() -> int:
    return run_benchmark(BBH(), __doc__)


if __name__ == "__main__":
    run_script(main)
