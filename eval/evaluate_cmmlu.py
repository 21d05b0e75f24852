"""CMMLU: 67 subjects of four-way multiple choice in Chinese, 11,582 questions (Li et al. 2023, arXiv 2306.09212).

    python eval/evaluate_cmmlu.py -c Qwen/Qwen-7B -d data/cmmlu              # base: 5-shot
    python eval/evaluate_cmmlu.py -c Qwen/Qwen-7B-Chat -d data/cmmlu         # chat: 0-shot; -k 5 for 5-shot

Prompts, tokens and chat readings are C-Eval's; the average is over subjects (macro). A subject may be in two groups.
"""

from qwen_eval.benchmarks import multiple_choice as choices
from qwen_eval.cli import parser
from qwen_eval.data.items import Hub, Item, choose_subjects, locate
from qwen_eval.errors import run_script
from qwen_eval.extraction.choice_replies import read_letter_zh, robust_letter_zh
from qwen_eval.run import Run
from qwen_eval.stats import macro_accuracy

from evaluate_ceval import base_prompt, chat_prompt

HUB = Hub("haonan-li/cmmlu", "cmmlu_v1_0_1.zip")
COLUMNS = ("Question", "A", "B", "C", "D", "Answer")
LAYOUT = choices.Layout(COLUMNS, ".csv", header=True)
OFFICIAL_N = 11582

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


def main() -> int:
    args = parser(__doc__, shots=5, chat_shots=0).parse_args()
    run = Run(args, "cmmlu", OFFICIAL_N, choice=True)
    shots = run.shots(base=5, chat=0)
    folder = locate(run.data_path, HUB, LAYOUT.holds("test"))

    def read(questions):
        return [{**row, "question": row["Question"]} for row in questions]

    items = []
    for subject in choose_subjects(choices.present(run, folder, LAYOUT, "test", SUBJECTS), args.subjects):
        dev = read(choices.shots(folder, LAYOUT, subject, shots))
        for number, row in enumerate(read(choices.subject_rows(folder, LAYOUT, "test", subject))):
            prompt = chat_prompt(row) if run.chat and not shots else base_prompt(dev, row)
            items.append(Item(f"{subject}/{number}", subject, prompt, row["answer"], row))

    run.start(items, {"num_fewshot": shots, "max_seq_len": args.max_seq_len}, choices.DECODING if run.chat else None)
    choices.ask(run, "ABCD", args.max_seq_len, read_letter_zh, robust_letter_zh)

    found = choices.by_subject(run)
    scores = {"acc": macro_accuracy(found.values())}
    if run.chat:
        scores["acc_robust"] = macro_accuracy(choices.by_subject(run, "correct_robust").values(), compared=False)
    groups = {
        name: macro_accuracy([marks for subject, marks in found.items() if subject in members])
        for name, members in GROUPS.items()
    }
    return run.report(scores, choices.breakdowns(run, groups), choices.notes(run), shots=shots)


if __name__ == "__main__":
    run_script(main)
