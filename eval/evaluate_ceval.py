"""C-Eval: 52 subjects of four-way multiple choice in Chinese, 1,346 questions in val
(Huang et al. 2023, arXiv:2305.08322).

    python eval/evaluate_ceval.py -c Qwen/Qwen-7B -d data/ceval                  # base: 5-shot, on val
    python eval/evaluate_ceval.py -c Qwen/Qwen-7B-Chat -d data/ceval             # chat: 0-shot; -k 5 for 5-shot
    python eval/evaluate_ceval.py -c Qwen/Qwen-7B -d data/ceval --split test     # writes submission.json

Base models answer by the largest next-token logit among "A", "B", "C", "D" (no space) behind the few-shot prompt.
Averages are over subjects (macro). The test split has no answers: its submission file goes to the C-Eval site.
"""

import json
from collections.abc import Sequence

from qwen_eval.benchmarks import multiple_choice as choices
from qwen_eval.cli import parser
from qwen_eval.data.items import Hub, Item, choose_subjects, locate
from qwen_eval.errors import run_script
from qwen_eval.extraction.choice_replies import read_letter_zh, robust_letter_zh
from qwen_eval.reporting.tables import write_atomically
from qwen_eval.run import Run
from qwen_eval.stats import Score, macro_accuracy

HUB = Hub("ceval/ceval-exam", "ceval-exam.zip")
COLUMNS = ("question", "A", "B", "C", "D", "answer")
LAYOUT = choices.Layout(COLUMNS, "_{split}.csv", header=True)
OFFICIAL_N = {"val": 1346, "test": 12342}

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


def options(row: dict[str, str]) -> str:
    return "\n".join(f"{letter}. {row[letter]}" for letter in "ABCD")


def example(row: dict[str, str], answer: bool) -> str:
    """One question of the base prompt; a shot carries its answer, the question asked ends in `答案：`."""
    return f"问题：{row['question']}\n{options(row)}\n答案：" + (f"{row['answer']}\n\n" if answer else "")


def base_prompt(shots: Sequence[dict[str, str]], row: dict[str, str]) -> str:
    return "".join(example(shot, answer=True) for shot in shots) + example(row, answer=False)


def chat_prompt(row: dict[str, str]) -> str:
    return f"{row['question']}\n\n{options(row)}\n"


def averages(run: Run, field: str = "correct", compared: bool = True) -> dict[str, Score]:
    """Mean over subjects: all of them, each group, and the hard ones."""
    found = choices.by_subject(run, field)
    scores = {"acc": macro_accuracy(found.values(), compared=compared)}
    for name, members in {**GROUPS, "hard": HARD}.items():
        part = [marks for subject, marks in found.items() if subject in members]
        if part:
            scores[f"acc_{name}"] = macro_accuracy(part, metric=f"acc_{name}", compared=compared)
    return scores


def submission(run: Run) -> str:
    """What the C-Eval site takes: {subject: {"0": "A", ...}}."""
    answers: dict[str, dict[str, str]] = {}
    for record in run.records:
        subject, _, number = record["id"].partition("/")
        answers.setdefault(subject, {})[number] = record["prediction"]
    return json.dumps(answers, ensure_ascii=False, indent=2) + "\n"


def main() -> int:
    flags = parser(__doc__, shots=5, chat_shots=0)
    flags.add_argument(
        "--split", choices=("val", "test"), default="val", help="default: val; test writes submission.json"
    )
    args = flags.parse_args()
    run = Run(args, "ceval", OFFICIAL_N[args.split], choice=True)
    if args.split == "test":
        run.output_name = "ceval-test"
    shots = run.shots(base=5, chat=0)
    labelled = args.split == "val"
    folder = locate(run.data_path, HUB, LAYOUT.holds(args.split))

    items = []
    for subject in choose_subjects(choices.present(run, folder, LAYOUT, args.split, SUBJECTS), args.subjects):
        dev = choices.shots(folder, LAYOUT, subject, shots)
        for number, row in enumerate(choices.subject_rows(folder, LAYOUT, args.split, subject, labelled)):
            prompt = chat_prompt(row) if run.chat and not shots else base_prompt(dev, row)
            items.append(Item(f"{subject}/{number}", subject, prompt, row["answer"], row))

    run.start(
        items,
        {"num_fewshot": shots, "max_seq_len": args.max_seq_len, "split": args.split},
        choices.DECODING if run.chat else None,
    )
    choices.ask(run, "ABCD", args.max_seq_len, read_letter_zh, robust_letter_zh)

    notes = choices.notes(run)
    if not labelled:
        write_atomically(run.folder / "submission.json", submission(run))
        notes.append("the test split has no answers: hand submission.json to the C-Eval site for the figure")
        return run.report({"acc": Score(None, len(run.items), None)}, {}, notes, shots=shots, split="test")
    scores = averages(run)
    if run.chat:
        scores["acc_robust"] = averages(run, "correct_robust", compared=False)["acc"]
    return run.report(scores, choices.breakdowns(run, {}), notes, shots=shots, split="val")


if __name__ == "__main__":
    run_script(main)
