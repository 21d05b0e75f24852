"""Your own questions, without code: multiple choice with any number of choices, or a question and its reference.

    python eval/evaluate_custom.py -c CHECKPOINT -d questions.jsonl
    python eval/evaluate_custom.py -c CHECKPOINT -d questions.csv --fewshot examples.csv -k 3
    python eval/evaluate_custom.py -c CHECKPOINT -d sums.jsonl --match numeric
    python eval/evaluate_custom.py -c CHECKPOINT -d questions.jsonl --baseline results/before      # exit 1 where worse

Rows, as JSON lines or CSV with a header; `id` (else the row's number) and `subject` (else `custom`) may stand in each:

    {"question": "Which is a fruit?", "choices": ["stone", "pear", "chair"], "answer": 1}
    {"question": "2 + 3 = ?", "reference": "5"}
    question,A,B,C,answer            (CSV: a column per choice, A to Z; an empty cell is no choice)

`answer` is the choice's text, its letter, or its number from 0 (the first of these that fits). A base model is asked
with the few-shot examples before the question (`Question: ...`, the choices as `A. ...`, `Answer:`) and answers by the
largest logit among the letters, or with --score loglikelihood (no choices in the prompt) by the likeliest text: acc,
and acc_norm per character. A chat model gets the question and the choices (with examples, what a base model gets), and
its reply is read by extraction/labels.py. A reply to a question with a reference is compared as --match says: `exact`,
the announced answer ("The answer is ...") or the whole reply, but for case, spaces, emphasis and a final full stop;
`numeric`, the announced number, else the last one, to 0.0001 (of a reference below 1, to a ten-thousandth of it);
`math`, the announced formula, by math-verify.
"""

import argparse
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

from qwen_eval.benchmark import (
    Benchmark,
    Choose,
    Evaluation,
    Generate,
    Item,
    LogLikelihood,
    Record,
    Results,
    Setting,
    Shots,
)
from qwen_eval.benchmarks import multiple_choice
from qwen_eval.benchmarks.custom import Row, check_numbers, read_questions, same_number
from qwen_eval.equivalence import Equivalence, Equivalent
from qwen_eval.errors import UserError, run_script
from qwen_eval.extraction.formulas import in_the_same_unit, read_formula
from qwen_eval.extraction.labels import LETTERS
from qwen_eval.extraction.numbers import read_number
from qwen_eval.extraction.replies import END_OF_TEXT, cut_at, plain_text, questions
from qwen_eval.extras import need
from qwen_eval.metrics import accuracy_by_subject
from qwen_eval.runner import run_benchmark
from qwen_eval.stats import accuracy

MATCHES = ("exact", "numeric", "math")
STOPS = (END_OF_TEXT, "\n\n", "Question:")  # a base model goes on with the next question

# --- prompt ---


def options(row: Row) -> str:
    return "".join(f"{letter}. {text}\n" for letter, text in zip(LETTERS, row.choices, strict=False))


def example(row: Row, listed: bool) -> str:
    """A few-shot example. listed: with its choices, and their letter as the answer."""
    answer = row.letter if listed and row.choices else row.choices[row.answer] if row.choices else row.reference
    return f"{asked(row, listed)} {answer}\n\n"


def asked(row: Row, listed: bool) -> str:
    return f"Question: {row.question}\n{options(row) if listed else ''}Answer:"


def chat_prompt(row: Row) -> str:
    """Without examples, which show a model what an answer looks like."""
    if not row.choices:
        return row.question
    return f"{row.question}\n\n{options(row)}\nAnswer with the letter of the right choice."


# --- score ---


def exact(text: str) -> str:
    return " ".join(plain_text(text).split()).removesuffix(".").casefold()


def compare(reply: str, reference: str, match: str) -> tuple[Any, bool | Equivalent]:
    """What the reply answers, and whether it is the reference, or the request that finds it out."""
    if match == "numeric":
        number = read_number(reply)
        return number, number is not None and same_number(number, reference)
    if match == "math":
        formula = read_formula(reply)
        converted = None if formula is None else in_the_same_unit(reference, formula)
        return formula, converted is not None and (converted == reference or Equivalent(reference, converted))
    announced = (part.text.split("\n")[0] for text in questions(reply) for part in text.announced())
    found = exact(next(announced, reply))  # the last announcement of the answer to the question asked
    return found, exact(reference) in (found, exact(reply))


# --- the benchmark ---


class Custom(Benchmark):
    name = "custom"
    shots = Shots(base=0, chat=0)
    scores_choices = True
    two_extractions = False

    def add_flags(self, flags: argparse.ArgumentParser) -> None:
        flags.epilog = (__doc__ or "").partition("\n\n")[2].replace("%", "%%")  # what a row may hold
        add: Any = flags.add_argument
        add(
            "--fewshot", type=Path, metavar="FILE", help="examples, in rows of the same form; -k N: the first N of them"
        )
        match = "how a reply and a reference are compared (default: exact)"
        add("--match", choices=MATCHES, default="exact", help=match)
        score = "base, multiple choice: by the letters' logits or the texts' log-likelihoods (default: letters)"
        add("--score", choices=("letters", "loglikelihood"), default="letters", help=score)

    def settle_flags(self, flags: argparse.Namespace) -> None:
        if not flags.eval_data_path:
            raise UserError("no -d given: a file of questions, JSON lines or CSV (--help shows the rows)")
        if flags.num_fewshot and not flags.fewshot:
            raise UserError(f"-k {flags.num_fewshot} wants --fewshot FILE, rows of the same form")
        if flags.match == "math":
            need("math")

    def load(self, setting: Setting) -> Iterable[Item]:
        if setting.chat and setting.flags.score == "loglikelihood":
            raise UserError("--score loglikelihood wants a base model; a chat model answers with a reply")
        examples: list[Row] = []
        if setting.flags.fewshot:
            examples = read_questions(setting.flags.fewshot)
            if (count := setting.flags.num_fewshot) is not None and count > len(examples):
                raise UserError(f"-k {count}: {setting.flags.fewshot} has {len(examples)} examples")
            examples = examples[:count]
        rows = read_questions(Path(setting.flags.eval_data_path))
        if setting.flags.match == "numeric":
            check_numbers(rows, setting.flags.eval_data_path)
        subjects = setting.subjects(dict.fromkeys(row.subject for row in rows))
        for row in rows:
            if row.subject in subjects:
                gold = row.letter if row.choices else row.reference
                yield Item(row.id, row.subject, gold=gold, row=row._asdict(), examples=[*examples])

    def protocol(self, setting: Setting) -> Mapping[str, Any]:
        flags = setting.flags
        known = {"num_fewshot": self.examples(setting), "match": flags.match, "score": flags.score}
        return {**super().protocol(setting), **known}

    def decoding(self, setting: Setting) -> Mapping[str, Any]:
        return {} if setting.chat else {"stop": STOPS}

    def services(self, setting: Setting) -> Mapping[type, Any]:
        return {Equivalent: Equivalence()} if setting.flags.match == "math" else {}

    def evaluate(self, item: Item, setting: Setting) -> Evaluation:
        row, flags = Row(**item.row), setting.flags
        letters = LETTERS[: len(row.choices)]
        listed = bool(row.choices) and flags.score == "letters"
        shots = "".join(example(one, listed) for one in item.examples)
        if row.choices and not setting.chat:
            if listed:
                logits = yield Choose(shots + asked(row, True), [f" {letter}" for letter in letters], flags.max_seq_len)
                return multiple_choice.choice_record(item, logits, letters)
            texts = [f" {text}" for text in row.choices]
            likelihoods = yield LogLikelihood(shots + asked(row, False), texts, flags.max_seq_len)
            return multiple_choice.likelihood_record(item, likelihoods, row.choices, letters)
        alone = setting.chat and not shots
        reply = yield Generate(chat_prompt(row) if alone else shots + asked(row, bool(row.choices)))
        if row.choices:
            return multiple_choice.label_record(item, reply, row.choices, letters, row.question)
        prediction, same = compare(reply if setting.chat else cut_at(reply, STOPS), row.reference, flags.match)
        if isinstance(same, Equivalent):
            same = yield same
        return {"response": reply, "prediction": prediction, "gold": item.gold, "correct": bool(same)}

    def aggregate(self, records: Sequence[Record], setting: Setting) -> Results:
        if all("correct_norm" in record for record in records):
            scores = multiple_choice.likelihood_scores(records)
        else:
            scores = {"acc": accuracy(record["correct"] for record in records)}
        subjects = accuracy_by_subject(records)
        return Results(scores, {"by subject": subjects} if len(subjects) > 1 else {}, shots=self.examples(setting))

    def examples(self, setting: Setting) -> int:
        """How many examples stand in a prompt: all of --fewshot, or as many as -k says."""
        given = setting.flags.num_fewshot
        return len(read_questions(setting.flags.fewshot)) if setting.flags.fewshot and given is None else given or 0


def main() -> int:
    return run_benchmark(Custom(), __doc__)


if __name__ == "__main__":
    run_script(main)
