"""MMLU-Pro: 14 categories, 12,032 questions with up to ten options, answered with a chain of thought; 5-shot.

    python eval/evaluate_mmlu_pro.py -c Qwen/Qwen2.5-7B -d data/mmlu_pro
    python eval/evaluate_mmlu_pro.py -c Qwen/Qwen2.5-7B-Instruct -d data/mmlu_pro      # the same text as a user turn
    python eval/evaluate_mmlu_pro.py --rescore replies.jsonl -d data/mmlu_pro

Data: TIGER-Lab/MMLU-Pro on the hub (Wang et al. 2024, arXiv 2406.01574): `test` and, for the examples, `validation`, as
parquet or JSON lines. An id is `category/question_id`. The card speaks of 3 to 10 options; seven questions have one or
two.

Protocol: TIGER-AI-Lab/MMLU-Pro @ f418b11, evaluate_from_local.py. The examples are the first five validation questions
of the category; one less is shown while the prompt has 2,048 tokens or more. Greedy, at most 2,048 new tokens, up to
`Question:`. The answer is the letter behind the first `answer is`, an opening bracket between them perhaps. A reply
without one counts as wrong. The published script draws an option at random there, which a note puts in points. The
robust extraction keeps the protocol's letter unless the reply takes it back, and reads more where there is none.
"""

import re
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

from qwen_eval.benchmark import Benchmark, Content, Evaluation, Generate, Item, Record, Results, Setting, Shots
from qwen_eval.benchmarks import multiple_choice as choices
from qwen_eval.data.items import STRING, TEXT, TEXTS, WHOLE, Hub, locate_files, no_duplicates, read_rows, tables
from qwen_eval.errors import UserError, run_script
from qwen_eval.extraction.labels import LETTERS
from qwen_eval.extraction.letters import read_letter
from qwen_eval.extraction.replies import END_OF_TEXT, cut_at
from qwen_eval.metrics import accuracy_by_subject
from qwen_eval.runner import run_benchmark
from qwen_eval.stats import accuracy

HUB = Hub("TIGER-Lab/MMLU-Pro", "data/test-00000-of-00001.parquet")
HUB_EXAMPLES = Hub("TIGER-Lab/MMLU-Pro", "data/validation-00000-of-00001.parquet")
CATEGORIES = (
    "biology",
    "business",
    "chemistry",
    "computer science",
    "economics",
    "engineering",
    "health",
    "history",
    "law",
    "math",
    "other",
    "philosophy",
    "physics",
    "psychology",
)
SUBJECTS = {category.replace(" ", "_"): category for category in CATEGORIES}
MOST_OPTIONS = 10
PROMPT_TOKENS = 2048  # a prompt of as many is asked with one example less
STOPS = (END_OF_TEXT, "Question:")
THINK = "Let's think step by step."
FIELDS = {"question_id": WHOLE, "question": TEXT, "options": TEXTS, "answer": TEXT, "category": TEXT}

# --- data ---


def read_split(paths: Iterable[Path], fields: Mapping[str, Any]) -> dict[str, list[dict[str, Any]]]:
    """The questions of a split by subject, without the options `N/A`. UserError naming file and row."""
    found: dict[str, list[dict[str, Any]]] = {subject: [] for subject in SUBJECTS}
    for path in paths:
        rows = read_rows(path, fields)
        no_duplicates(rows, "question_id", path)
        for number, row in enumerate(rows):
            options = [option for option in row["options"] if option != "N/A"]
            where, subject = f"{path} row {number}", row["category"].replace(" ", "_")
            if subject not in found:
                raise UserError(f"{where}: {row['category']!r} is none of the {len(SUBJECTS)} categories")
            if len(options) > MOST_OPTIONS or row["answer"] not in list(LETTERS[: len(options)]):
                raise UserError(f"{where}: the answer {row['answer']!r} is none of {len(options)} options (at most 10)")
            found[subject].append({name: row[name] for name in fields} | {"options": options})
    return found


def files(split: str) -> tuple[str, ...]:
    return (*tables("", split), f"{split}.jsonl", f"{split}.jsonl.gz")


def read_examples(given: str | None) -> dict[str, list[dict[str, Any]]]:
    """The validation questions with their chains of thought."""
    try:
        found = locate_files(given, HUB_EXAMPLES, files("validation"), file_ok=False)
    except UserError as error:
        raise UserError(f"no examples: {error}; or ask without them: -k 0") from error
    return read_split(found, {**FIELDS, "cot_content": STRING})


# --- prompt ---


def question(row: Mapping[str, Any]) -> str:
    options = "".join(f"{letter}. {text}\n" for letter, text in zip(LETTERS, row["options"], strict=False))
    return f"Question:\n{row['question']}\nOptions:\n{options}"


def example(row: Mapping[str, Any]) -> str:
    """A question with its chain of thought, which ends in `The answer is (X).`"""
    thought = row["cot_content"].replace(f"A: {THINK}", f"Answer: {THINK}")
    return f"{question(row)}{thought}\n\n"


def prompt(category: str, examples: Sequence[Mapping[str, Any]], row: Mapping[str, Any]) -> str:
    head = (
        f"The following are multiple choice questions (with answers) about {category}. Think step by step and then "
        'finish your answer with "the answer is (X)" where X is the correct letter choice.\n\n\n\n'
    )
    return f"{head}{''.join(map(example, examples))}{question(row)}Answer: {THINK}"


# --- answer ---


PROTOCOL = re.compile(r"answer is \(?([A-J])\)?")
WORD = re.compile(r"[^(]*[A-J][\w']")  # a match that goes on as a word, such as `answer is Both`
TAKEN_BACK = re.compile(
    r"(?:^|[.!?)\u2014\u2026]\s*|\n)[\s*_]*(?:(?:oh|hm+|but|and)\b,?\s+)*"
    r"(?:no[,.:;!]|wait\b|actually\b|correction\b|sorry\b|i apologi[sz]e\b|on second thoughts?\b)"
    r"|\bmade an? (?:\w+ )?(?:mistake|error)\b|\blet me (?:correct|re-?(?:check|consider|think|examine|calculate))",
    re.IGNORECASE,
)


def read_protocol(row: Mapping[str, Any], reply: str) -> str | None:
    """The letter behind the first `answer is`; one that no option has is wrong, as published."""
    match = PROTOCOL.search(cut_at(reply, STOPS))
    return match[1] if match else None


def read_robust(row: Mapping[str, Any], reply: str) -> str | None:
    """The protocol's letter, and a letter for more replies: none that the protocol reads is lost.

    The prompt asks for a reply that finishes with `the answer is (X)`, so what a model writes on behind the first one
    counts only where it takes that back ("No, the answer is (B)"). A careful reader's letter (extraction/letters.py)
    is taken there, where the protocol finds none, and where its letter is no option's or begins a word.
    """
    reply, letters = cut_at(reply, STOPS), LETTERS[: max(2, len(row["options"]))]
    match = PROTOCOL.search(reply)
    kept = None
    if match and match[1] in letters and not WORD.match(reply[match.start() : match.end() + 1]):
        kept = match[1]
        if not TAKEN_BACK.search(reply[match.end() :]):
            return kept
    texts = dict.fromkeys(letters, "") | dict(zip(letters, row["options"], strict=False))
    return read_letter({**texts, "question": row["question"]}, reply, letters) or kept


def unread(records: Sequence[Record]) -> list[str]:
    """The note on replies without a letter."""
    chances = [1 / record["options"] for record in records if not record["prediction"]]
    if not chances:
        return []
    points = 100 * sum(chances) / len(records)
    drawn = f"the published script draws one of the options there, which would add about {points:.1f} points"
    return [f"replies without a letter by the protocol, counted as wrong: {len(chances):,}; {drawn}"]


# --- the benchmark ---


class MMLUPro(Benchmark):
    name = "mmlu_pro"
    official_items = 12_032
    shots = Shots(base=5, chat=5)

    def load(self, setting: Setting) -> Iterable[Item]:
        subjects = setting.subjects(SUBJECTS)
        rows = read_split(locate_files(setting.data_path, HUB, files("test"), file_ok=not setting.shots), FIELDS)
        shown = read_examples(setting.data_path) if setting.shots else {subject: [] for subject in SUBJECTS}
        for subject in subjects:
            if rows[subject] and len(shown[subject]) < setting.shots:
                there = f"{len(shown[subject])} validation questions of {SUBJECTS[subject]!r}"
                raise UserError(f"there are {there}, fewer than --num-fewshot {setting.shots}")
            examples = shown[subject][: setting.shots]
            for row in rows[subject]:
                name = f"{subject}/{row['question_id']}"
                yield Item(name, subject, gold=row["answer"], row=row, examples=examples)

    def content(self, item: Item) -> Content:
        return Content([item.row["question"], *item.row["options"]], item.gold)

    def evaluate(self, item: Item, setting: Setting) -> Evaluation:
        category = SUBJECTS[item.subject]
        longest, *shorter = (
            prompt(category, item.examples[:count], item.row) for count in range(len(item.examples), -1, -1)
        )
        reply = yield Generate(longest, shorter=tuple(shorter), shorter_from=PROMPT_TOKENS)
        record = choices.letter_record(item, reply, read_protocol, read_robust)
        return {**record, "options": len(item.row["options"])}

    def decoding(self, setting: Setting) -> Mapping[str, Any]:
        return {"repetition_penalty": 1.0, "max_new_tokens": 2048, "stop": STOPS}

    def aggregate(self, records: Sequence[Record], setting: Setting) -> Results:
        scores = {
            "acc": accuracy(record["correct"] for record in records),
            "acc_robust": accuracy((record["correct_robust"] for record in records), compared=False),
        }
        notes = [choices.answers_given(records, LETTERS[:MOST_OPTIONS]), *unread(records)]
        if short := sum(bool(record.get("examples_left_out")) for record in records):
            notes.append(
                f"prompts of {PROMPT_TOKENS:,} tokens or more, asked with fewer examples as published: {short}"
            )
        return Results(scores, {"by category": accuracy_by_subject(records)}, notes)


def main() -> int:
    return run_benchmark(MMLUPro(), __doc__)


if __name__ == "__main__":
    run_script(main)
