"""The letter read from a chat reply: every vector of the published scripts, and what a careful reader would say."""

import csv
import json
import sys

from qwen_eval.extraction.choice_replies import (
    LETTERS,
    read_letter_en,
    read_letter_zh,
    robust_letter_en,
    robust_letter_zh,
)

import evaluate_ceval
import evaluate_cmmlu
import evaluate_mmlu
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

ANIMALS = {"question": "Which is not a mammal?", "A": "Whale", "B": "Bat", "C": "Shark", "D": "Dog"}
TRUTHS = {"question": "Both?", "A": "True, True", "B": "False, False", "C": "True, False", "D": "False, True"}
CITIES = {"question": "中国的首都是____", "A": "上海", "B": "北京。", "C": "广州", "D": "深圳"}
SUMS = {"question": "1加1等于几？", "A": "1", "B": "2", "C": "3", "D": "4"}


@pytest.mark.parametrize(("name", "read"), [("mmlu_chat", read_letter_en), ("ceval_chat", read_letter_zh)])
def test_published_vectors(shared, name, read):
    lines = (shared / f"goldens/{name}.jsonl").read_text(encoding="utf-8").split("\n")
    vectors = [json.loads(line) for line in lines if line]
    assert len(vectors) == 150
    wrong = [
        (v["response"], v["expected"], read(v, v["response"]))
        for v in vectors
        if read(v, v["response"]) != v["expected"]
    ]
    assert not wrong


@pytest.mark.parametrize(
    ("name", "script", "folder", "subject"),
    [
        ("mmlu_chat", evaluate_mmlu, "test", "anatomy_test"),
        ("ceval_chat", evaluate_ceval, "val", "law_val"),
        ("ceval_chat", evaluate_cmmlu, "test", "anatomy"),
    ],
)
def test_published_vectors_through_the_scripts(shared, monkeypatch, tmp_path, name, script, folder, subject):
    """The vectors as a subject of the benchmark, each asked with the answer that the published script read."""
    lines = (shared / f"goldens/{name}.jsonl").read_text(encoding="utf-8").split("\n")
    vectors = [json.loads(line) for line in lines if line]
    question, answer = ("Question", "Answer") if script is evaluate_cmmlu else ("question", "answer")
    columns = [question, *LETTERS, answer]
    (tmp_path / folder).mkdir()
    with open(tmp_path / folder / f"{subject}.csv", "w", encoding="utf-8", newline="") as file:
        writer = csv.writer(file)
        writer.writerows([columns] if script is not evaluate_mmlu else [])
        writer.writerows([v["question"], *(v[letter] for letter in LETTERS), v["expected"]] for v in vectors)
    subject = subject.removesuffix(f"_{folder}")
    replies = [{"id": f"{subject}/{n}", "response": v["response"]} for n, v in enumerate(vectors)]
    (tmp_path / "replies.jsonl").write_text("\n".join(map(json.dumps, replies)), encoding="utf-8")
    given = ["-d", tmp_path, "--rescore", tmp_path / "replies.jsonl", "--subjects", subject, "--chat"]
    words = map(str, [*given, "-o", tmp_path / "out"])
    monkeypatch.setattr(sys, "argv", [f"{script.__name__}.py", *words])
    assert script.main() == 0
    lines = (tmp_path / "out/samples.jsonl").read_text(encoding="utf-8").split("\n")
    assert [json.loads(line)["prediction"] for line in lines if line] == [v["expected"] for v in vectors]
    assert (tmp_path / "out/disagreements.txt").read_text(encoding="utf-8").count("\n") >= 10


@pytest.mark.parametrize(
    ("reply", "letter"),
    [
        ("The answer is not A, the answer is D.", "D"),  # a negated announcement is passed over
        ("The answer cannot be B; it must be A", "B"),  # nothing announced: the first letter
        ("The answer isn't clear but B is right", "B"),
        ("D is not correct; C is right", "C"),
        ("Both C and B could be right, but choose B", "B"),
        ("A plant needs light. So D", "A"),  # an article is taken for a letter: a defect of the protocol
        ("So A is out; the answer would be, as I said, D", "D"),
        ("So A is out; the answer would probably have to be the last of these, D", "A"),  # too far from the keyword
        ("shark!", "C"),
        ("A=3", "B"),  # the letter of an equation is passed over; "A=3" is nearest in spelling to "Bat"
        ("", "A"),
    ],
)
def test_protocol_english(reply, letter):
    assert read_letter_en(ANIMALS, reply) == letter


def test_protocol_replaces_the_longest_choice_first():
    numbers = {"question": "?", "A": "40", "B": "140", "C": "1400", "D": "5."}
    assert read_letter_en(numbers, "It is 1400") == "C"
    assert read_letter_en(numbers, "It is 140") == "B"
    assert read_letter_en(numbers, "5") == "D"
    assert read_letter_en(TRUTHS, "TRUE, FALSE") == "C"


@pytest.mark.parametrize(
    ("row", "reply", "letter"),
    [
        (CITIES, "中国的首都是北京", "B"),  # the question again, its blank filled in
        (CITIES, "答案不是A，而是D。", "A"),  # negated; then simply the first letter
        (CITIES, "A股市场中，选D", "D"),
        (CITIES, "A项不正确，C项正确", "C"),
        (CITIES, "（B）", "B"),
        (CITIES, "选择 D ", "D"),
        (SUMS, "综上所述，3是对的", "C"),
        (SUMS, "", "A"),
    ],
)
def test_protocol_chinese(row, reply, letter):
    assert read_letter_zh(row, reply) == letter


@pytest.mark.parametrize(
    ("reply", "letter"),
    [
        ("The answer is not A, the answer is D.", "D"),
        ("The answer cannot be B; it must be A", "A"),
        ("We can rule out D and B. Therefore, A.", "A"),
        ("A plant needs light. So D", "D"),
        ("D is not correct; C is right", "C"),
        ("**B**", "B"),
        ("$\\boxed{C}$", "C"),
        ("$\\boxed{\\text{C}}$", "C"),
        ("ANSWER: D", "D"),
        ("The answer is shark.", "C"),
        ("It is a bat, I believe.", "B"),
        ("A. Whale", "A"),
        ("I first thought the answer is A. On reflection the correct answer is (C).", "C"),
        ("Whales and dogs are mammals", None),
        ("A whale or a bat or a dog", None),
        ("A=3", None),
        ("I don't know.", None),
        ("", None),
    ],
)
def test_robust_english(reply, letter):
    assert robust_letter_en(ANIMALS, reply) == letter


@pytest.mark.parametrize(
    ("reply", "letter"),
    [
        ("答案不是A，而是D。", "D"),
        ("答案非C，为B", "B"),
        ("本题的答案是【B】", "B"),
        ("Ａ项不正确，Ｃ项正确", "C"),
        ("中国的首都是北京。", "B"),
        ("A股市场中，选D", "D"),
        ("（Ｂ）", "B"),
        ("不是上海，也不是广州", None),
        ("不知道", None),
        ("", None),
    ],
)
def test_robust_chinese(reply, letter):
    assert robust_letter_zh(CITIES, reply) == letter


@settings(max_examples=200)
@given(
    st.text(alphabet="ABCD abnt.答案是选不：()=\n*[]\\", max_size=40),
    st.lists(st.text(max_size=6), min_size=4, max_size=4),
)
def test_any_reply_and_any_choices_are_read(reply, texts):
    row = {"question": "x____y", **dict(zip(LETTERS, texts, strict=True))}
    assert read_letter_en(row, reply) in LETTERS
    assert read_letter_zh(row, reply) in LETTERS
    assert robust_letter_en(row, reply) in (*LETTERS, None)
    assert robust_letter_zh(row, reply) in (*LETTERS, None)
