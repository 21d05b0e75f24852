"""What OpenCompass read from few-shot chat replies: all recorded vectors, others of their kinds, and its defects."""

import json
from pathlib import Path

from qwen_eval.extraction.opencompass import first_capital, read_digits, read_letter

import pytest
from hypothesis import given
from hypothesis import strategies as st

READERS = {"letter": first_capital, "number": read_digits}


def test_all_recorded_vectors(shared: Path) -> None:
    lines = (shared / "goldens/opencompass_chat.jsonl").read_text(encoding="utf-8").split("\n")
    vectors = [json.loads(line) for line in lines if line]
    assert len(vectors) == 311
    for vector in vectors:
        (kind,) = vector.keys() - {"response"}
        assert READERS[kind](vector["response"]) == vector[kind], vector


@pytest.mark.parametrize(
    ("reply", "letter"),
    [
        ("B", "B"),
        (" \n\tc) D", "D"),
        ("The answer is B", "T"),
        ("i think it is B, not A", "B"),
        ("(b)", ""),
        ("", ""),
        ("答案是C。", "C"),
        ("答案是Ｃ。", "Ｃ"),  # a wide capital is one too, and no answer
        ("élan Élan", "É"),
        ("ⅷ Ⅷ", "Ⅷ"),
        ("ß Σ", "Σ"),
        ("2Hydrogen", "H"),
    ],
)
def test_the_letter_is_the_first_capital_whatever_it_is(reply: str, letter: str) -> None:
    assert first_capital(reply) == read_letter({}, reply) == letter


@pytest.mark.parametrize(
    ("reply", "digits"),
    [
        ("The answer is 18", "18"),
        ("The answer is $20,800.00.", "2080000"),  # the decimal point goes
        ("The answer is -3", "3"),
        ("18 of 20 apples", "20"),
        ("So 18\n\nThe answer is 20", "18"),
        ("So 18\n \nThe answer is 20", "20"),  # a line with a blank in it is no blank line
        ("\n\nThe answer is 20", ""),  # the first paragraph is empty
        ("it is 18\nin all", "18"),  # a line end does not part words
        ("it is 18\n20 in all", "1820"),
        ("it is 18\t20 in all", "1820"),
        ("25 cm²", "²"),
        ("25 m", "25"),
        ("about ٣", "٣"),  # a digit to Python, and never the reference
        ("x1 = y", "1"),
        ("none", ""),
        ("", ""),
    ],
)
def test_the_number_is_the_digits_of_the_last_word_with_one(reply: str, digits: str) -> None:
    assert read_digits(reply) == digits


# Replies whose reading is known because they are put together around it.
WITHOUT = st.text(st.sampled_from("abcxyz,.!?-$%()是的。：\n "))


@given(WITHOUT, st.sampled_from("ABCDEFZÄΩ"), st.text())
def test_nothing_behind_the_first_capital_counts(before: str, letter: str, behind: str) -> None:
    assert first_capital(before + letter + behind) == letter
    assert first_capital(before) == ""


PARAGRAPH = WITHOUT.map(lambda text: text.replace("\n", " "))
WORD = st.lists(st.sampled_from(["0", "7", "42", ",", ".", "$", "-", "km", "%"]), min_size=1).map("".join)


@given(st.text(st.sampled_from("12abc \n")), PARAGRAPH, WORD, PARAGRAPH, st.sampled_from(["", "\n\n", "\n\n9 8"]))
def test_only_the_last_word_with_a_digit_of_the_first_paragraph_counts(
    start: str, before: str, word: str, behind: str, later: str
) -> None:
    digits = "".join(character for character in word if character in "0123456789")
    first = start.replace("\n\n", " ").strip("\n")
    if digits:
        assert read_digits(f"{first} {before} {word} {behind}{later}") == digits
    assert read_digits(f"{before}{later}") == ""
