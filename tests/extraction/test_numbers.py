"""The number that a reply gives as its answer: announced, in bold, or simply its last one."""

from qwen_eval.extraction.numbers import read_number

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

FORMS = [
    "70000",
    "70,000",
    "$70,000",
    "\\$70,\\!000",
    "70{,}000",
    "70\\,000",
    "70\u202f000",
    "７０，０００",
    "70 000",
    "70,000.00",
    "70'000",
    "70, 000",
    "70~000",
]


@pytest.mark.parametrize("number", FORMS)
@pytest.mark.parametrize(
    "said", ["{}", "so {}.", "**{}**", "$\\boxed{{{}}}$", "The answer is ${}$.", "答案是{}元。", "#### {}"]
)
def test_a_number_however_it_is_written(number, said):
    assert read_number(said.format(number)) == 70000


@pytest.mark.parametrize(
    ("reply", "number"),
    [
        ("The answer is 8 objects.", 8),
        ("The answer is 8. Check: 4 + 4 = 8, and 8 > 7.", 8),
        ("The answer is 2, as required by 3.", 2),
        ("The answer is: 2 (1 + 1).", 2),
        ("The answer is 20 - 12 = 8 apples because 3 were eaten.", 8),
        ("The answer is that John needs 3 boxes. Each holds 5.", 3),
        ("The answer is - 50.", -50),
        ("The answer is −50.", -50),
        ("The answer is minus 50.", -50),
        ("The answer is 1/2.", 0.5),
        ("The answer is 12 / 3 = 4.", 4),
        ("The answer is -$50.", -50),
        ("The answer is 7 \\times 10^4.", 70000),
        ("The answer is eight, not 9.", 8),
        ("The answer is about 3.5 hours.", 3.5),
        ("First 1 and 2.\n\nThen the profit is 70000.", 70000),
        ("The answer is 28 days / 7 days a week = 4 weeks.", 4),
        ("It was -**7** degrees.", -7),
        ("答案：8个苹果，因为3+5=8，每人4个", 8),
        ("所以答案是8。\n验证：2+6=8，6-2=4", 8),
        ("因此一共需要8个。", 8),
        ("**Step 1:** 3 + 4 = 7\n**Step 2:** 7 - 2 = 5", 5),
        ("She earns **$18** a day. That is 9 eggs at 2 dollars.", 18),
        ("Answer: Janet sells 16 - 7 = 9 eggs. At $2 each she makes 18.", 18),  # behind a mere colon: a whole solution
        ("The answer is 8.\nQ: next\nA: the answer is 3.", 8),
        ("The profit is 8.\r\n\r\nQuestion: Next\r\nThe answer is 5", 8),
        ("The answer is 7. Wait, I forgot one. The answer is 8.", 8),
        ("You might think the answer is 7. It is 8.", 8),
        ("The answer is not 7 but 8.", 8),
        ("I do not know.", None),
        ("", None),
    ],
)
def test_what_is_announced_outranks_what_is_discussed(reply, number):
    assert read_number(reply) == number


ANNOUNCED = st.sampled_from(
    [
        "The answer is {}.",
        "So the final answer is: {}.",
        "#### {}",
        "答案是{}。",
        "\\boxed{{{}}}",
        "**Answer:** {}",
        "Final Answer\n\n{}",
    ]
)
DISCUSSED = st.lists(
    st.sampled_from(
        [" Check: 3 + 4 = 7.", "\n\nThis is 12% more than 5.", " (2 of them red.)", "\n- 17 came later",
         " 验证：1+1=2。", " So 9 > 3, as it must be.",
         "\n\nQuestion: And 6?\nThe answer is 6."]
    )
)  # fmt: skip


@settings(max_examples=150)
@given(
    before=st.sampled_from(["", "First 5.\n\n", "We have 3 + 4 = 7.\n"]),
    said=ANNOUNCED,
    number=st.integers(-(10**6), 10**6),
    after=DISCUSSED,
)
def test_an_announced_number_is_read_whatever_follows(before, said, number, after):
    reply = before + said.format(f"{number:,}") + "".join(after)
    assert read_number(reply) == number
    for same in (reply.replace("\n", "\r\n"), reply.replace("\n", "\r"), reply + "\n", "\ufeff" + reply):
        assert read_number(same) == number


@settings(max_examples=200)
@given(st.text(alphabet="0123456789,.-+$=\\{}*# \n\rABanswer is:答案是", max_size=60))
def test_line_ends_and_byte_order_marks_change_no_number(reply):
    number = read_number(reply)
    assert read_number(reply.replace("\r", "\n").replace("\n", "\r\n")) == number
    assert read_number("\ufeff" + reply + "\n") == number


def test_a_model_that_repeats_its_announcement_is_read_in_time():
    for words in ("the answer is ", "答案是", "####"):
        assert read_number("1 2 " + words * 5_000 + "7") == 7
