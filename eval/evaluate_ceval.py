"""C-Eval: 52 subjects of four-way multiple choice in Chinese, 1,346 questions in val
(Huang et al. 2023, arXiv:2305.08322).

    python eval/evaluate_ceval.py -c Qwen/Qwen-7B -d data/ceval                  # base: 5-shot, on val
    python eval/evaluate_ceval.py -c Qwen/Qwen-7B-Chat -d data/ceval             # chat: 0-shot; -k 5 for 5-shot
    python eval/evaluate_ceval.py -c Qwen/Qwen-7B -d data/ceval --split test     # writes submission.json

Base models answer by the largest next-token logit among "A", "B", "C", "D" (no space) behind the few-shot prompt.
Averages are over subjects (macro). The test split has no answers: its submission file goes to the C-Eval site.
"""

import argparse
import json
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from qwen_eval.benchmark import Item, Record, Results, Setting
from qwen_eval.benchmarks import multiple_choice as choices
from qwen_eval.benchmarks.chinese_choices import ChineseChoices, marks_by_group, robust_mean
from qwen_eval.data.items import Hub, locate
from qwen_eval.errors import run_script
from qwen_eval.metrics import by_subject
from qwen_eval.runner import run_benchmark
from qwen_eval.stats import Score, macro_accuracy

HUB = Hub("ceval/ceval-exam", "ceval-exam.zip")
COLUMNS = ("question", "A", "B", "C", "D", "answer")
LAYOUT = choices.Layout(COLUMNS, "_{split}.csv", header=True)
OFFICIAL_ITEMS = {"val": 1_346, "test": 12_342}

GROUPS = {
    "stem": """advanced_mathematics college_chemistry college_physics college_programming computer_architecture
        computer_network discrete_mathematics electrical_engineer high_school_biology high_school_chemistry
        high_school_mathematics high_school_physics metrology_engineer middle_school_biology middle_school_chemistry
        middle_school_mathematics middle_school_physics operating_system probability_and_statistics
        veterinary_medicine""".split(),
    "social_sciences": """business_administration college_economics education_science high_school_geography
        high_school_politics mao_zedong_thought marxism middle_school_geography middle_school_politics
        teacher_qualification""".split(),
    "humanities": """art_studies chinese_language_and_literature high_school_chinese high_school_history
        ideological_and_moral_cultivation law legal_professional logic middle_school_history modern_chinese_history
        professional_tour_guide""".split(),
    "others": """accountant basic_medicine civil_servant clinical_medicine environmental_impact_assessment_engineer
        fire_engineer physician plant_protection sports_science tax_accountant urban_and_rural_planner""".split(),
}
HARD = """advanced_mathematics discrete_mathematics probability_and_statistics college_physics college_chemistry
    high_school_mathematics high_school_physics high_school_chemistry""".split()
SUBJECTS = sorted(subject for group in GROUPS.values() for subject in group)


def submission(records: Sequence[Record]) -> str:
    """What the C-Eval site takes: {subject: {"0": "A", ...}}."""
    answers: dict[str, dict[str, str]] = {}
    for record in records:
        subject, _, number = record["id"].partition("/")
        answers.setdefault(subject, {})[number] = record["prediction"]
    return json.dumps(answers, ensure_ascii=False, indent=2) + "\n"


class CEval(ChineseChoices):
    name = "ceval"

    def add_flags(self, flags: argparse.ArgumentParser) -> None:
        flags.add_argument(
            "--split", choices=OFFICIAL_ITEMS, default="val", help="default: val; test writes submission.json"
        )

    def load(self, setting: Setting) -> Iterable[Item]:
        split = setting.flags.split
        folder = locate(setting.data_path, HUB, LAYOUT.holds(split))
        for subject in choices.there(setting, folder, LAYOUT, split, SUBJECTS):
            examples = choices.shots(folder, LAYOUT, subject, setting.shots)
            for number, row in enumerate(choices.subject_rows(folder, LAYOUT, split, subject, split == "val")):
                yield Item(f"{subject}/{number}", subject, gold=row["answer"], row=row, examples=examples)

    def official(self, setting: Setting) -> int:
        return OFFICIAL_ITEMS[setting.flags.split]

    def data_set(self, setting: Setting) -> str:
        return self.output_name(setting)

    def output_name(self, setting: Setting) -> str:
        return "ceval" if setting.flags.split == "val" else "ceval-test"

    def protocol(self, setting: Setting) -> Mapping[str, Any]:
        return {**super().protocol(setting), "split": setting.flags.split}

    def aggregate(self, records: Sequence[Record], setting: Setting) -> Results:
        notes = [choices.answers_given(records)]
        if setting.flags.split == "test":
            notes.append("the test split has no answers: hand submission.json to the C-Eval site for the figure")
            files = {"submission.json": submission(records)}
            return Results({"acc": Score(None, len(records), None)}, notes=notes, split="test", files=files)
        parts = marks_by_group(records, {**GROUPS, "hard": HARD})
        groups = {f"acc_{name}": macro_accuracy(marks, metric=f"acc_{name}") for name, marks in parts.items()}
        scores = {"acc": macro_accuracy(by_subject(records).values()), **groups, **robust_mean(records, setting)}
        return Results(scores, choices.tables_of(records, {}), notes, split="val")


def main() -> int:
    return run_benchmark(CEval(), __doc__)


if __name__ == "__main__":
    run_script(main)
