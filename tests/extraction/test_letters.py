"""The letter that a reply means: what models write in English and Chinese, and properties over a grammar of replies."""

import json
from pathlib import Path

from qwen_eval.extraction.choice_words import LETTERS
from qwen_eval.extraction.letters import read_letter

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

ROWS = {
    name: dict(zip(("question", *LETTERS), texts, strict=True))
    for name, texts in {
        "city": ("What is the capital of the UK?", "Paris", "London", "Rome", "None of the above"),
        "untrue": ("Which of these is NOT true?", "Water is wet", "Fire is cold", "Ice is cold", "The sun is hot"),
        "both": ("?", "Only I", "Only II", "Both I and II", "Neither I nor II"),
        "sum": ("1+1?", "1", "2", "3", "4"),
        "city_zh": ("下列哪一项是正确的____", "北京", "上海", "广州", "深圳"),
        "untrue_zh": ("下列说法错误的是____", "水是湿的", "火是冷的", "冰是冷的", "太阳是热的"),
    }.items()
}
CITY, CITY_ZH = ROWS["city"], ROWS["city_zh"]
LINES = (Path(__file__).parents[1] / "cases/letters.jsonl").read_text(encoding="utf-8").split("\n")
CASES = [json.loads(line) for line in LINES if line]


@pytest.mark.parametrize("case", CASES, ids=lambda case: case["reply"][:40])
def test_the_letter_that_a_reply_means(case):
    assert read_letter(ROWS[case["row"]], case["reply"]) == case["letter"]


@pytest.mark.parametrize("text", ["BC", "A and B", "", "A", "AB"])
def test_a_choice_that_looks_like_letters(text):
    """Found by hypothesis: the text of a choice was returned in place of its letter."""
    row = {**CITY, "A": text}
    assert read_letter(row, text) in (*LETTERS, None)
    assert read_letter({**CITY, "C": "BC"}, "BC") == "C"


TOWNS = "Paris London Rome Oslo Bern Lima Cairo Delhi Kyiv Accra".split()


@pytest.mark.parametrize("count", [2, 3, 5, 10])
@pytest.mark.parametrize(
    "form",
    ["The answer is {}.", "{}", "({})", "I think the answer is {}.", "I choose {}.", "**{}**", "Answer {}",
     "答案是{}。", "I believe it must be {}, because I know it.", "故选{}。", "{}. {town}", "It is {town}.",
     "{} is right."],
)  # fmt: skip
def test_any_number_of_choices(count, form):
    letters = "ABCDEFGHIJ"[:count]
    row = {"question": "Which?", **dict(zip(letters, TOWNS, strict=False))}
    for letter in letters:
        assert read_letter(row, form.format(letter, town=row[letter]), letters) == letter


def test_what_is_no_choice_of_the_question():
    three = {"question": "Which?", "A": "Paris", "B": "London", "C": "Rome"}
    assert read_letter(three, "The answer is D.", "ABC") is None
    assert read_letter(three, "A is wrong, and C is wrong.", "ABC") == "B"
    assert read_letter(three, "I do not know.", "ABC") is None
    nine = {"question": "Which?", **dict(zip("ABCDEFGHI", TOWNS, strict=False))}
    assert read_letter(nine, "I do not know. I cannot say.", "ABCDEFGHI") is None
    two = {"question": "Which is false?", "A": "Paris", "B": "London"}
    assert read_letter(two, "A is false.", "AB") == "A"


def test_long_runs_of_brackets_and_spaces_end_in_time():
    for piece in (" ", "\n", "(", "[\"'", "A ", "A、", "不"):
        assert read_letter(CITY, piece * (10_000 // len(piece))) in ("A", None)


ANNOUNCED = st.sampled_from(
    [
        "The answer is {}.", "Answer: {}\n", "The correct option is ({}).", "**{}**\n", "\\boxed{{{}}}. ",
        "I choose {}. ", "So the best answer would be option {}.\n", "{}\n",
        "答案是{}。", "故选{}。", "正确选项为：{}。", "因此，选项{}是正确答案。",
        "<answer>{}</answer>\n",
    ]
)  # fmt: skip
DISCUSSED = st.lists(
    st.sampled_from(
        [" A is correct only in special cases.", "\nB: true, but besides the question.",
         " Many students choose C.", " A项说法正确，但不符合题意。",
         "我认为D不合题意。", "\n\nQuestion: next\nAnswer: C", " If it were Paris, D would be right.",
         " 有人误选A。", " Option C looks true."]
    ),
    max_size=4,
)  # fmt: skip
BEFORE = st.sampled_from(
    [
        "",
        "Let us think about Paris and Rome.\n",
        "A is wrong. ",
        "首先，C是错误的。\n",
        "You might think the answer is C. ",
    ]
)


@settings(max_examples=300)
@given(before=BEFORE, said=ANNOUNCED, letter=st.sampled_from(LETTERS), after=DISCUSSED)
def test_an_announced_letter_is_read_whatever_is_discussed(before, said, letter, after):
    if said == "{}\n":  # a letter by itself announces only where the reply begins
        before = ""
    reply = before + said.format(letter) + "".join(after)
    assert read_letter(CITY, reply) == letter
    assert read_letter(CITY_ZH, reply) == letter
    for same in (
        reply.replace("\n", "\r\n"),
        reply.replace("\n", "\r"),
        reply + "\n",
        "\ufeff" + reply,
        reply.translate(WIDE),
    ):
        assert read_letter(CITY, same) == letter


WIDE = str.maketrans("ABCD():.", "ＡＢＣＤ（）：．")


@settings(max_examples=100)
@given(
    letter=st.sampled_from(LETTERS),
    form=st.sampled_from(["{0}: {1}\n", "{0}. {1}. ", "{0} is {1} because so. ", "{0}{2}。", "选项{0}{2}；"]),
)
def test_a_list_of_verdicts_reads_the_one_called_right(letter, form):
    verdicts = [(each, *(("correct", "正确") if each == letter else ("incorrect", "错误"))) for each in LETTERS]
    assert read_letter(CITY, "".join(form.format(*verdict) for verdict in verdicts)) == letter


@settings(max_examples=300)
@given(
    st.text(alphabet="ABCD abnt.答案是选不错对：()=\n\r*[]\\$", max_size=40),
    st.lists(st.text(alphabet="ABCDab 是1.$\\\n", max_size=6), min_size=4, max_size=4),
)
def test_any_reply_is_a_letter_or_none_and_line_ends_do_not_matter(reply, texts):
    row = {"question": "x____y", **dict(zip(LETTERS, texts, strict=True))}
    letter = read_letter(row, reply)
    assert letter is None or letter in tuple(LETTERS)
    assert read_letter(row, "\ufeff" + reply.replace("\r", "\n").replace("\n", "\r\n") + "\r\n") == letter
