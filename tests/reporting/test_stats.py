"""Intervals and paired comparison against their definitions."""

import random
from fractions import Fraction
from math import comb
from statistics import fmean
from typing import Any

from qwen_eval.stats import MeanMark, Score, accuracy, bootstrap, macro_accuracy, paired, wilson

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import stats as reference


@settings(max_examples=150)
@given(st.integers(1, 20_000), st.floats(0, 1))
def test_wilson_is_scipys(n: int, share: float) -> None:
    k = round(n * share)
    low, high = wilson(k, n) or pytest.fail("no interval")
    want = reference.binomtest(k, n).proportion_ci(method="wilson")
    assert (low, high) == pytest.approx((want.low, want.high), abs=1e-12)


def test_no_items_no_interval() -> None:
    assert wilson(0, 0) is None
    assert accuracy([]) == Score(None, 0, None)
    assert macro_accuracy([[], []]) == Score(None, 0, None)


@settings(max_examples=150)
@given(st.integers(0, 400), st.integers(0, 400), st.integers(0, 50))
def test_paired_is_the_exact_mcnemar_test(gained: int, lost: int, same: int) -> None:
    before = {f"g{i}": False for i in range(gained)} | {f"l{i}": True for i in range(lost)}
    now = {f"g{i}": True for i in range(gained)} | {f"l{i}": False for i in range(lost)}
    both = {f"s{i}": True for i in range(same)}
    found = paired(before | both | {"only before": True}, now | both | {"only now": False})
    n, fewer = gained + lost, min(gained, lost)  # so few or fewer heads of n fair coins, or as many tails
    p_value = float(min(1, Fraction(2 * sum(comb(n, heads) for heads in range(fewer + 1)), 2**n)))
    assert found[:3] == (gained + lost + same, gained, lost)
    assert found.p_value == pytest.approx(p_value, abs=1e-9)
    assert found.significantly_worse == (p_value < 0.05 and lost > gained)


def test_five_losses_are_not_significant_and_six_are() -> None:
    def loses(n: int) -> bool:
        keys = [str(i) for i in range(n)]
        return paired(dict.fromkeys(keys, True), dict.fromkeys(keys, False)).significantly_worse

    assert (loses(5), loses(6)) == (False, True)


def test_accuracy_is_micro() -> None:
    score = accuracy([True] * 3 + [False])
    assert (score.value, score.n) == (75.0, 4)
    want = reference.binomtest(3, 4).proportion_ci(method="wilson")
    assert score.ci95 == pytest.approx((100 * want.low, 100 * want.high))


def test_macro_is_over_subjects_with_the_effective_number_of_items() -> None:
    score = macro_accuracy([[True] * 10, [False] * 30])
    assert (score.value, score.n) == (50.0, 40)
    effective = 4 / (1 / 10 + 1 / 30)  # 30 of 40: unequal subjects carry less
    low, high = wilson(effective / 2, effective) or pytest.fail("no interval")
    assert score.ci95 == pytest.approx((100 * low, 100 * high))


def test_macro_of_equal_subjects_is_the_plain_interval() -> None:
    groups = [[i < 3 for i in range(20)], [i < 9 for i in range(20)]]
    assert macro_accuracy(groups).ci95 == pytest.approx(accuracy([*groups[0], *groups[1]]).ci95)


def test_macro_interval_covers_about_95_in_100() -> None:
    rng = random.Random(5)
    sizes, hits = [8, 12, 20, 31], 0
    for _ in range(600):
        groups = [[rng.random() < 0.6 for _ in range(size)] for size in sizes]
        low, high = macro_accuracy(groups).ci95 or (0, 0)
        hits += low <= 60 <= high
    assert 0.92 < hits / 600 < 0.98


def questions(rng: random.Random, samples: int, alike: bool) -> list[MeanMark]:
    """120 questions of any difficulty, with replies that are all alike or each by itself; half are right on average."""
    found = []
    for _ in range(120):
        share = rng.random()
        first = rng.random() < share
        found.append(MeanMark([first if alike else rng.random() < share for _ in range(samples)]))
    return found


@pytest.mark.parametrize("alike", [False, True])
@pytest.mark.parametrize("score", [accuracy, lambda marks: macro_accuracy([marks[:50], marks[50:]])])
def test_the_interval_over_questions_with_ten_replies_covers_about_95_in_100(score: Any, alike: bool) -> None:
    rng, hits, widths = random.Random(6), 0, []
    for _ in range(400):
        low, high = score(questions(rng, 10, alike)).ci95
        hits += low <= 50 <= high
        widths.append(high - low)
    assert 0.92 < hits / 400 < 0.98
    single = accuracy([i % 2 == 0 for i in range(120)]).ci95 or pytest.fail("no interval")
    ratio = fmean(widths) / (single.high - single.low)
    assert 0.95 < ratio < 1.05 if alike else 0.55 < ratio < 0.7, "narrower only where replies differ"


def test_no_question_is_worth_more_than_its_replies_and_one_reply_is_right_or_wrong() -> None:
    assert accuracy([MeanMark([True, False])] * 3).effective == 6
    assert accuracy([MeanMark([True]), MeanMark([False])]) == accuracy([True, False])
    assert accuracy([MeanMark([True, True])] * 3) == accuracy([True] * 3)


def test_bootstrap_holds_the_mean_and_is_seeded() -> None:
    values = [float(i) for i in range(101)]
    low, high = bootstrap(values, lambda part: sum(part) / len(part))
    assert 40 < low < 50 < high < 60
    assert (low, high) == bootstrap(values, lambda part: sum(part) / len(part))
