"""MMLU: 57 subjects of four-way multiple choice in English, 14,042 questions (Hendrycks et al. 2021, arXiv 2009.03300).

    python eval/evaluate_mmlu.py -c Qwen/Qwen-7B -d data/mmlu              # base: 5-shot, reported as 5-shot
    python eval/evaluate_mmlu.py -c Qwen/Qwen-7B-Chat -d data/mmlu         # chat: 0-shot, reported as 0-shot
    python eval/evaluate_mmlu.py -c Qwen/Qwen-7B-Chat -d data/mmlu -k 5    # chat: 5-shot, reported as 5-shot

Base models answer by the largest next-token logit among " A", " B", " C", " D" behind the few-shot prompt. Scores are
over questions (micro average). Chat models with examples are asked and read as OpenCompass did it (`mmlu_gen_a484b3`):
every example is a turn of its own, the answer is the first capital of the reply, and the average is over subjects
(macro).

Two things differ from the published script: choices such as `None` and `NA` are read as
the text they are, and logits are compared in fp32, where its bf16 softmax rounded many questions into ties won by A.
"""

from collections.abc import Iterable, Mapping, Sequence
from functools import partial
from typing import Any

from qwen_eval.benchmark import Benchmark, Choose, Content, Evaluation, Generate, Item, Record, Results, Setting, Shots
from qwen_eval.benchmarks import multiple_choice as choices
from qwen_eval.benchmarks import opencompass
from qwen_eval.data.items import Hub, locate
from qwen_eval.engines.base import Turns
from qwen_eval.errors import run_script
from qwen_eval.extraction.choice_replies import read_letter_en, robust_letter_en
from qwen_eval.extraction.opencompass import read_letter
from qwen_eval.metrics import by_subject
from qwen_eval.runner import run_benchmark
from qwen_eval.stats import Score, accuracy, macro_accuracy

HUB = Hub("cais/mmlu", "data.tar")
COLUMNS = ("question", "A", "B", "C", "D", "answer")
LAYOUT = choices.Layout(COLUMNS, "_{split}.csv", header=False)

# The groups of the published table (anatomy stands among STEM there, in the paper among Other).
GROUPS = {
    "stem": """abstract_algebra anatomy astronomy college_biology college_chemistry college_computer_science
        college_mathematics college_physics computer_security conceptual_physics electrical_engineering
        elementary_mathematics high_school_biology high_school_chemistry high_school_computer_science
        high_school_mathematics high_school_physics high_school_statistics machine_learning""".split(),
    "humanities": """formal_logic high_school_european_history high_school_us_history high_school_world_history
        international_law jurisprudence logical_fallacies moral_disputes moral_scenarios philosophy prehistory
        professional_law world_religions""".split(),
    "social": """econometrics high_school_geography high_school_government_and_politics high_school_macroeconomics
        high_school_microeconomics high_school_psychology human_sexuality professional_psychology public_relations
        security_studies sociology us_foreign_policy""".split(),
    "other": """business_ethics clinical_knowledge college_medicine global_facts human_aging management marketing
        medical_genetics miscellaneous nutrition professional_accounting professional_medicine virology""".split(),
}
SUBJECTS = sorted(subject for group in GROUPS.values() for subject in group)


def example(row: dict[str, str], answer: bool) -> str:
    """One question of the base prompt; a shot carries its answer, the question asked ends in `Answer:`."""
    options = "\n".join(f"{letter}. {row[letter]}" for letter in "ABCD")
    return f"Question: {row['question']}\n{options}\nAnswer:" + (f" {row['answer']}\n\n" if answer else "")


def base_prompt(subject: str, shots: Sequence[dict[str, str]], row: dict[str, str]) -> str:
    topic = subject.replace("_", " ")
    head = f"The following are multiple choice questions (with answers) about {topic}.\n\n"
    return head + "".join(example(shot, answer=True) for shot in shots) + example(row, answer=False)


def chat_prompt(row: dict[str, str]) -> str:
    ask = (
        "The following is a multiple-choice question. Please choose the most suitable one among A, B, C and D "
        "as the answer to this question."
    )
    return f"{ask}\n\n{row['question']}\n" + "".join(f"{letter}. {row[letter]}\n" for letter in "ABCD")


def chat_turn(subject: str, row: dict[str, str], question: str, answer: str) -> str:
    """A user's turn of the few-shot chat prompt. question, answer: what stands before either."""
    topic = subject.replace("_", " ")
    ask = f"There is a single choice question about {topic}. Answer the question by replying A, B, C or D."
    options = "\n".join(f"{letter}. {row[letter]}" for letter in "ABCD")
    return f"{ask}\n{question}: {row['question']}\n{options}\n{answer}: "


def chat_examples(subject: str, shots: Sequence[dict[str, str]]) -> Turns:
    """The examples as turns of user and assistant."""
    return tuple((chat_turn(subject, shot, "Question", "Answer"), f"{shot['answer']}\n") for shot in shots)


class MMLU(Benchmark):
    name = "mmlu"
    official_items = 14_042
    shots = Shots(base=5, chat=0)
    max_prompt_tokens = 2048
    scores_choices = True

    def load(self, setting: Setting) -> Iterable[Item]:
        folder = locate(setting.data_path, HUB, LAYOUT.holds("test"))
        for subject in choices.there(setting, folder, LAYOUT, "test", SUBJECTS):
            examples = choices.shots(folder, LAYOUT, subject, setting.shots)
            for number, row in enumerate(choices.subject_rows(folder, LAYOUT, "test", subject)):
                yield Item(f"{subject}/{number}", subject, gold=row["answer"], row=row, examples=examples)

    def content(self, item: Item) -> Content:
        return choices.content(item.row)

    def example_contents(self, item: Item) -> Sequence[Content]:
        return [choices.content(row) for row in item.examples]

    def evaluate(self, item: Item, setting: Setting) -> Evaluation:
        if opencompass.few_shot_chat(setting):
            # In the question asked, the published configuration has other words than in the examples.
            asked = chat_turn(item.subject, item.row, "Q", "A")
            reply = yield opencompass.ask(setting, chat_examples(item.subject, item.examples), asked)
            return choices.letter_record(item, reply, read_letter, robust_letter_en)
        if setting.chat:
            reply = yield Generate(chat_prompt(item.row))
            return choices.letter_record(item, reply, read_letter_en, robust_letter_en)
        prompt = base_prompt(item.subject, item.examples, item.row)
        logits = yield Choose(prompt, (" A", " B", " C", " D"), setting.max_prompt_tokens)
        return choices.choice_record(item, logits)

    def decoding(self, setting: Setting) -> Mapping[str, Any] | None:
        if opencompass.few_shot_chat(setting):
            return opencompass.LETTER_DECODING
        return choices.DECODING if setting.chat else None

    def aggregate(self, records: Sequence[Record], setting: Setting) -> Results:
        few_shot = opencompass.few_shot_chat(setting)
        scores = {"acc": average(records, few_shot)}
        if setting.chat:
            scores["acc_robust"] = average(records, few_shot, "correct_robust", compared=False)
        groups = {
            name: average([record for record in records if record["subject"] in members], few_shot)
            for name, members in GROUPS.items()
        }
        return Results(
            scores,
            choices.tables_of(records, groups),
            [choices.answers_given(records)],
            remarks=partial(opencompass.notes, setting) if few_shot else None,
        )


def average(records: Sequence[Record], macro: bool, field: str = "correct", **where: Any) -> Score:
    """The share of right records: over questions or, macro, over subjects."""
    if macro:
        return macro_accuracy(by_subject(records, field).values(), **where)
    return accuracy((record[field] for record in records), **where)


def main() -> int:
    return run_benchmark(MMLU(), __doc__)


if __name__ == "__main__":
    run_script(main)
