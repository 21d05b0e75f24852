"""Marks by subject, and Rouge-L against its definition."""

from qwen_eval.metrics import accuracy_by_subject, by_subject, rouge_l

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

RECORDS = [
    {"subject": "virology", "correct": True, "correct_robust": True},
    {"subject": "anatomy", "correct": False, "correct_robust": True},
    {"subject": "virology", "correct": False, "correct_robust": False},
]


def test_marks_of_each_subject_in_the_order_of_the_run() -> None:
    assert list(by_subject(RECORDS).items()) == [("virology", [True, False]), ("anatomy", [False])]
    assert by_subject(RECORDS, "correct_robust") == {"virology": [True, False], "anatomy": [True]}
    assert by_subject([]) == {}


def test_the_accuracy_of_each_subject() -> None:
    found = accuracy_by_subject(RECORDS)
    assert {name: (score.value, score.n) for name, score in found.items()} == {"virology": (50, 2), "anatomy": (0, 1)}


def longest_common_subsequence(one: str, other: str) -> int:
    if not one or not other:
        return 0
    if one[-1] == other[-1]:
        return 1 + longest_common_subsequence(one[:-1], other[:-1])
    return max(longest_common_subsequence(one[:-1], other), longest_common_subsequence(one, other[:-1]))


@settings(max_examples=100)
@given(st.text("今天b ", max_size=7), st.text("今天b ", max_size=7))
def test_rouge_l_is_the_f1_of_the_longest_common_subsequence(reply: str, reference: str) -> None:
    common = longest_common_subsequence(reply, reference)
    wanted = 2 * common / (len(reply) + len(reference)) if common else 0.0
    assert rouge_l(reply, reference, list) == pytest.approx(wanted)


def test_rouge_l_is_over_the_tokens_given() -> None:
    assert rouge_l("a b", "ab", lambda text: text.replace(" ", "")) == 1.0
    assert rouge_l("", "", str.split) == 0.0
