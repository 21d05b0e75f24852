"""The formula that a reply gives as its answer, and the unit of an answer."""

from qwen_eval.extraction.formulas import in_the_same_unit, read_formula, unit_of

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st


@pytest.mark.parametrize(
    ("reply", "formula"),
    [
        ("The answer is $2$. Check: 6+6=12, 12>7.", "2"),
        ("The answer is 2, as required.", "2"),
        ("答案：$2$，其中 x>1。", "2"),
        ("因此，答案是 $\\frac{3}{4}$。验证：$3 < 4$。", "\\frac{3}{4}"),
        ("The final answer is (1, 2).", "(1, 2)"),
        ("The answer is $x=1$ and $x=2$.", "x=1, x=2"),
        ("The answer is\n$$\\frac{1}{2}$$\nbecause $1+1=2$.", "\\frac{1}{2}"),
        ("The answer is \\(\\frac{1}{2}\\), not \\(2\\).", "\\frac{1}{2}"),
        ("The answer is the interval $(1, 2)$.", "(1, 2)"),
        ("The answer is that there are 12 ways.", "12"),
        ("The answer is $5.", "\\$5"),
        ("The answer is $5$ cents.", "5\\text{ cents}"),
        ("The answer is ½x² + √2.", "\\frac{1}{2}x^{2} + \\sqrt{2}"),
        ("The area is **12**. That is 3 times 4.", "12"),
        ("**Answer:** $\\dfrac{3}{4}$", "\\dfrac{3}{4}"),
        ("Answer: even", "even"),
        ("Answer: We add. $2+3=5$. The total is $10$.", "10"),  # behind a mere colon: a whole solution
        ("$\\boxed{x + y}$. Check with $x = 1$: the value is $3$.", "x + y"),
        ("\\boxed{\\frac{\\sqrt{\\frac{1}{2}}}{3}}", "\\frac{\\sqrt{\\frac{1}{2}}}{3}"),
        ("\\boxed{2}\n\nProblem:\nNext\nSolution: \\boxed{3}", "2"),
        ("Thus\n\\[x = 5\\]", "x = 5"),
        ("The solutions are $\\boxed{2}$ and $\\boxed{3}$.", "3"),  # the last box, as in the references
        ("First \\boxed{2}, then \\boxed{3}.", "3"),
        ("The answer is 2 for x > 1.", "2"),
        ("so 1 or 2", "2"),
        ("no idea", None),
    ],
)
def test_the_formula_that_a_reply_announces(reply, formula):
    assert read_formula(reply) == formula
    assert read_formula("\ufeff" + reply.replace("\n", "\r\n") + "\r\n") == formula


@settings(max_examples=150)
@given(
    said=st.sampled_from(
        ["The answer is ${}$.", "\\boxed{{{}}}.", "So the final answer is: ${}$.", "答案是${}$。", "#### {}\n"]
    ),
    formula=st.sampled_from(["2", "\\frac{1}{2}", "x + 1", "(1,2)", "\\sqrt{2}", "-3", "y = 2x"]),
    after=st.lists(
        st.sampled_from(
            [
                " Check: $6+6=12$.",
                "\n\nHere $x > 1$.",
                " That is more than 7.",
                " 验证：$1+1=2$。",
                "\n\nProblem:\n\\boxed{9}",
            ]
        )
    ),
)
def test_an_announced_formula_is_read_whatever_follows(said, formula, after):
    reply = "Let $a = 5$.\n" + said.format(formula) + "".join(after)
    for same in (reply, reply.replace("\n", "\r\n"), reply.replace("\n", "\r"), reply + "\n", "\ufeff" + reply):
        assert read_formula(same) == formula


@pytest.mark.parametrize(
    ("answer", "unit"),
    [
        ("\\$5", "dollar"),
        ("5 \\text{ cents}", "cent"),
        ("12\\text{ cm}^2", "cm"),
        ("90^\\circ", "degree"),
        ("\\min(2, 3)", None),
        ("30 miles per hour", None),
        ("\\text{feet}", None),
        ("5", None),
    ],
)
def test_units(answer, unit):
    assert unit_of(answer) == unit


def test_dollars_and_cents_are_converted_and_other_units_are_not():
    assert in_the_same_unit("\\$5", "500 cents") == "5"
    assert in_the_same_unit("54 \\text{ cents}", "\\$0.54") == "54"
    assert in_the_same_unit("3 \\text{ m}", "3") == "3"
    assert in_the_same_unit("3 \\text{ km}", "3 \\text{ miles}") is None
