"""GPQA on files of our own in its layout: shuffled options, prompts to the letter, extraction, how to get the data."""

import csv
import json
from pathlib import Path
from typing import Any

from qwen_eval.benchmark import Item, answered
from qwen_eval.benchmark import Setting as Run
from qwen_eval.reporting.samples import unpacked
from qwen_eval.runner import parse_flags

import evaluate_gpqa as gpqa
import pytest


def row(number: int) -> dict[str, str]:
    wrong = {name: f" wrong {place} of {number}\n" for place, name in enumerate(gpqa.WRONG)}
    known = {"Question": f"What is {number}?\n", "Correct Answer": f"right {number}", "Explanation": f"It is {number}."}
    domain = ("Physics", "Biology")[number % 2]
    return {"Record ID": f"rec{number}", **known, **wrong, "High-level domain": domain, "Canary String": "x"}


def write(path: Path, rows: list[dict[str, str]]) -> None:
    with path.open("w", encoding="utf-8", newline="") as stream:
        table = csv.DictWriter(stream, list(rows[0]))
        table.writeheader()
        table.writerows(rows)


@pytest.fixture
def data(tmp_path: Path) -> Path:
    folder = tmp_path / "gpqa"
    folder.mkdir()
    write(folder / "gpqa_diamond.csv", [row(number) for number in range(8)])
    write(folder / "gpqa_main.csv", [row(number) for number in range(14)])
    write(folder / "gpqa_extended.csv", [row(number) for number in range(20)])
    return folder


def setting(*flags: str, **known: Any) -> Run:
    return Run(flags=parse_flags(gpqa.GPQA(), None, flags), **known)


def samples(folder: Path) -> list[dict[str, Any]]:
    lines = (folder / "samples.jsonl").read_text(encoding="utf-8").splitlines()
    return [unpacked(json.loads(line)) for line in lines]


def load(data: Path, *flags: str, shots: int = 0) -> list[Item]:
    return list(gpqa.GPQA().load(setting(*flags, data_path=str(data), shots=shots)))


def test_options_are_shuffled_by_the_question_and_the_seed_alone(data: Path) -> None:
    items = load(data)
    assert all(item.row[item.gold] == f"right {number}" for number, item in enumerate(items))
    assert len({item.gold for item in items}) > 2
    assert {item.row[letter] for letter in "ABCD" for item in items[:1]} == {
        "right 0", "wrong 0 of 0", "wrong 1 of 0", "wrong 2 of 0",
    }  # fmt: skip
    in_main = load(data, "--part", "main")
    assert [item.row for item in in_main[:8]] == [item.row for item in items]
    assert [item.row for item in load(data, "--shuffle-seed", "1")] != [item.row for item in items]


ASKED = {"question": "Why?", "A": "one", "B": "two", "C": "three", "D": "four", "answer": "B", "explanation": "So."}
ONE_SHOT = """\
What is the correct answer to this question: Why?
Choices:
(A) one
(B) two
(C) three
(D) four
Let's think step by step: So.
The answer is (B).

What is the correct answer to this question: Why?
Choices:
(A) one
(B) two
(C) three
(D) four
Let's think step by step:"""


def test_the_prompts_to_the_letter() -> None:
    assert gpqa.prompt(ASKED, [ASKED], chat=False) == ONE_SHOT
    question = ONE_SHOT.partition("Let's")[0]
    chat = f'{question}\nThink step by step, and finish with "The answer is (X)", where X is the letter.'
    assert gpqa.prompt(ASKED, [], chat=True) == chat


def test_examples_are_questions_that_are_not_asked(data: Path) -> None:
    (examples,) = {json.dumps(item.examples) for item in load(data, shots=5)}
    assert [one["question"] for one in json.loads(examples)] == [f"What is {number}?" for number in range(8, 13)]
    of_main = load(data, "--part", "main", shots=5)[0].examples
    assert [one["question"] for one in of_main] == [f"What is {number}?" for number in range(14, 19)]


def test_an_item_is_scored_from_a_list_of_answers() -> None:
    def marks(reply: str) -> tuple[Any, ...]:
        item = Item("diamond/0", "diamond", gold="B", row={**ASKED, "domain": "Physics"})
        record = answered(gpqa.GPQA().evaluate(item, setting(chat=True)), reply)
        return record["prediction"], record["correct"], record["prediction_robust"], record["correct_robust"]

    assert marks("The answer is (B).") == ("B", True, "B", True)
    assert marks("The answer is (A). No, the answer is (B).") == ("A", False, "B", True)
    assert marks("I choose B.") == (None, False, "B", True)
    assert marks("The answer is Beryllium.") == (None, False, None, False)


@pytest.mark.parametrize("checkpoint", ["demo", "demo-chat"])
def test_both_demo_models_run(script, checkpoint: str, data: Path, tmp_path: Path) -> None:
    ended = script("gpqa", "-c", checkpoint, "-d", data, "--max-new-tokens", 8, "-o", tmp_path / "out")
    assert ended.status == 0, ended.err
    assert len(samples(tmp_path / "out")) == 8
    assert "by domain" in ended.out and "shuffled by seed 0" in ended.out


def test_missing_data_say_how_to_get_them(script, demo_checkpoint: Path, data: Path, tmp_path: Path) -> None:
    def said(*flags: object) -> str:
        ended = script("gpqa", "-c", demo_checkpoint, *flags, "-o", tmp_path / "out")
        assert ended.status == 2 and ended.err.count("\n") == 1, ended.err
        return ended.err

    assert "fewer than --num-fewshot 9" in said("-d", data, "-k", 9)
    (data / "gpqa_main.csv").unlink()
    for flags, file in ((("-d", data), "gpqa_main.csv"), (("-d", data, "-k", 0, "--part", "main"), "gpqa_main.csv")):
        assert (
            f"no {file} (" in said(*flags) and "agree to the terms" in said(*flags) and "hf auth login" in said(*flags)
        )
    write(data / "gpqa_diamond.csv", [{**row(0), "Incorrect Answer 2": ""}])
    assert "row 0: 'Incorrect Answer 2' is \"\", not a text" in said("-d", data, "-k", 0)
