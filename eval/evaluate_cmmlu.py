"""CMMLU: 67 subjects of four-way multiple choice in Chinese, 11,582 questions (Li et al. 2023, arXiv 2306.09212).

    python eval/evaluate_cmmlu.py -c Qwen/Qwen-7B -d data/cmmlu              # base: 5-shot
    python eval/evaluate_cmmlu.py -c Qwen/Qwen-7B-Chat -d data/cmmlu         # chat: 0-shot; -k 5 for 5-shot

Prompts, answer tokens and extraction are C-Eval's (qwen_eval/benchmarks/chinese_choices.py); the average is over
subjects (macro). A subject may be in two groups.
"""

from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from qwen_eval.benchmark import Item, Record, Results, Setting
from qwen_eval.benchmarks import multiple_choice as choices
from qwen_eval.benchmarks.chinese_choices import ChineseChoices, marks_by_group, robust_mean
from qwen_eval.data.items import Hub, locate
from qwen_eval.errors import run_script
from qwen_eval.metrics import by_subject
from qwen_eval.runner import run_benchmark
from qwen_eval.stats import macro_accuracy

HUB = Hub("haonan-li/cmmlu", "cmmlu_v1_0_1.zip")
COLUMNS = ("Question", "A", "B", "C", "D", "Answer")
LAYOUT = choices.Layout(COLUMNS, ".csv", header=True)

GROUPS = {
    "stem": """anatomy astronomy college_actuarial_science college_engineering_hydrology college_mathematics
        college_medical_statistics computer_science conceptual_physics electrical_engineering elementary_mathematics
        genetics high_school_biology high_school_chemistry high_school_mathematics high_school_physics
        machine_learning virology""".split(),
    "humanities": """arts chinese_history chinese_literature college_law global_facts international_law jurisprudence
        logical marxist_theory philosophy professional_law world_history world_religions""".split(),
    "social_science": """ancient_chinese business_ethics chinese_civil_service_exam chinese_food_culture
        chinese_foreign_policy chinese_teacher_qualification college_education economics education elementary_chinese
        ethnology high_school_geography high_school_politics journalism management marketing modern_chinese
        professional_accounting professional_psychology public_relations security_study sociology""".split(),
    "other": """agronomy chinese_driving_rule clinical_knowledge college_medicine computer_security
        construction_project_management elementary_commonsense elementary_information_and_technology food_science
        human_sexuality legal_and_moral_basis nutrition professional_medicine sports_science
        traditional_chinese_medicine""".split(),
    "china_specific": """ancient_chinese chinese_civil_service_exam chinese_driving_rule chinese_food_culture
        chinese_foreign_policy chinese_history chinese_literature chinese_teacher_qualification
        construction_project_management elementary_chinese elementary_commonsense ethnology high_school_politics
        modern_chinese traditional_chinese_medicine""".split(),
}
SUBJECTS = sorted({subject for group in GROUPS.values() for subject in group})


class CMMLU(ChineseChoices):
    name = "cmmlu"
    official_items = 11_582

    def load(self, setting: Setting) -> Iterable[Item]:
        folder = locate(setting.data_path, HUB, LAYOUT.holds("test"))
        for subject in choices.there(setting, folder, LAYOUT, "test", SUBJECTS):
            examples = [renamed(row) for row in choices.shots(folder, LAYOUT, subject, setting.shots)]
            for number, row in enumerate(map(renamed, choices.subject_rows(folder, LAYOUT, "test", subject))):
                yield Item(f"{subject}/{number}", subject, gold=row["answer"], row=row, examples=examples)

    def aggregate(self, records: Sequence[Record], setting: Setting) -> Results:
        groups = {name: macro_accuracy(marks) for name, marks in marks_by_group(records, GROUPS).items()}
        scores = {"acc": macro_accuracy(by_subject(records).values()), **robust_mean(records, setting)}
        return Results(scores, choices.tables_of(records, groups), [choices.answers_given(records)])


def renamed(row: Mapping[str, Any]) -> dict[str, Any]:
    """A row with its question where C-Eval's rows have it."""
    return {**row, "question": row["Question"]}


def main() -> int:
    return run_benchmark(CMMLU(), __doc__)


if __name__ == "__main__":
    run_script(main)
