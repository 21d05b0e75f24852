"""C-Eval: 52 subjects of four-way multiple choice in Chinese, 1,346 questions in val
(Huang et al. 2023, arXiv:2305.08322).

    python eval/evaluate_ceval.py -c Qwen/Qwen-7B -d data/ceval                  # base: 5-shot, on val
    python eval/evaluate_ceval.py -c Qwen/Qwen-7B-Chat -d data/ceval             # chat: 0-shot
    python eval/evaluate_ceval.py -c Qwen/Qwen-7B-Chat -d data/ceval -k 5        # chat: 5-shot
    python eval/evaluate_ceval.py -c Qwen/Qwen-7B -d data/ceval --split test     # writes submission.json

Base models answer by the largest next-token logit among "A", "B", "C", "D" (no space) behind the few-shot prompt.
Chat models with examples are asked and read as OpenCompass did it (`ceval_gen_5f30c7`): every example is a turn of its
own, and the answer is the first capital of the reply. Averages are over subjects (macro). The test split has no
answers: its submission file goes to the C-Eval site.
"""

import argparse
import json
from collections.abc import Iterable, Mapping, Sequence
from functools import partial
from typing import Any

from qwen_eval.benchmark import Evaluation, Item, Record, Results, Setting
from qwen_eval.benchmarks import multiple_choice as choices
from qwen_eval.benchmarks import opencompass
from qwen_eval.benchmarks.chinese_choices import ChineseChoices, Row, marks_by_group, options, robust_mean
from qwen_eval.data.items import Hub, locate
from qwen_eval.engines.base import Turns
from qwen_eval.errors import run_script
from qwen_eval.extraction.choice_replies import robust_letter_zh
from qwen_eval.extraction.opencompass import read_letter
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
# The subjects' Chinese names, from C-Eval's own subject_mapping.json; the few-shot chat prompt has them.
NAMES = """computer_network 计算机网络, operating_system 操作系统, computer_architecture 计算机组成,
    college_programming 大学编程, college_physics 大学物理, college_chemistry 大学化学, advanced_mathematics 高等数学,
    probability_and_statistics 概率统计, discrete_mathematics 离散数学, electrical_engineer 注册电气工程师,
    metrology_engineer 注册计量师, high_school_mathematics 高中数学, high_school_physics 高中物理,
    high_school_chemistry 高中化学, high_school_biology 高中生物, middle_school_mathematics 初中数学,
    middle_school_biology 初中生物, middle_school_physics 初中物理, middle_school_chemistry 初中化学,
    veterinary_medicine 兽医学, college_economics 大学经济学, business_administration 工商管理,
    marxism 马克思主义基本原理, mao_zedong_thought 毛泽东思想和中国特色社会主义理论体系概论, education_science 教育学,
    teacher_qualification 教师资格, high_school_politics 高中政治, high_school_geography 高中地理,
    middle_school_politics 初中政治, middle_school_geography 初中地理, modern_chinese_history 近代史纲要,
    ideological_and_moral_cultivation 思想道德修养与法律基础, logic 逻辑学, law 法学,
    chinese_language_and_literature 中国语言文学, art_studies 艺术学, professional_tour_guide 导游资格,
    legal_professional 法律职业资格, high_school_chinese 高中语文, high_school_history 高中历史,
    middle_school_history 初中历史, civil_servant 公务员, sports_science 体育学, plant_protection 植物保护,
    basic_medicine 基础医学, clinical_medicine 临床医学, urban_and_rural_planner 注册城乡规划师,
    accountant 注册会计师, fire_engineer 注册消防工程师,
    environmental_impact_assessment_engineer 环境影响评价工程师, tax_accountant 税务师, physician 医师资格"""
CHINESE_NAMES = dict(pair.split() for pair in NAMES.split(","))


def chat_turn(subject: str, row: Row) -> str:
    """A user's turn of the few-shot chat prompt."""
    ask = f"以下是中国关于{CHINESE_NAMES[subject]}考试的单项选择题，请选出其中的正确答案。"
    return f"{ask}\n{row['question']}\n{options(row)}\n答案: "


def chat_examples(subject: str, shots: Sequence[Row]) -> Turns:
    """The examples as turns of user and assistant."""
    return tuple((chat_turn(subject, shot), shot["answer"]) for shot in shots)


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

    def evaluate(self, item: Item, setting: Setting) -> Evaluation:
        if not opencompass.few_shot_chat(setting):
            return (yield from super().evaluate(item, setting))
        examples = chat_examples(item.subject, item.examples)
        reply = yield opencompass.ask(setting, examples, chat_turn(item.subject, item.row))
        return choices.letter_record(item, reply, read_letter, robust_letter_zh)

    def decoding(self, setting: Setting) -> Mapping[str, Any] | None:
        few_shot = opencompass.few_shot_chat(setting)
        return opencompass.LETTER_DECODING if few_shot else super().decoding(setting)

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
        remarks = partial(opencompass.notes, setting) if opencompass.few_shot_chat(setting) else None
        return Results(scores, choices.tables_of(records, {}), notes, split="val", remarks=remarks)


def main() -> int:
    return run_benchmark(CEval(), __doc__)


if __name__ == "__main__":
    run_script(main)
