"""The clean-up of a reply before any extraction, and where an answer is announced."""

from qwen_eval.extraction.replies import cut_at, plain_characters, plain_lines, questions, without_latex

import pytest


@pytest.mark.parametrize(
    "given", ["a\n\nb\n", "a\r\n\r\nb\r\n", "a\r\rb\r", "\ufeffa\n\nb\n", "\ufeff\u200ba\r\r\n\r\r\nb\n"]
)
def test_line_ends_and_byte_order_marks_do_not_matter(given):
    assert plain_lines(given) == "a\n\nb\n"


@pytest.mark.parametrize("text", ["", "x\u2028y\x0cz", "a\ufeffb", " \ta", "ｆｕｌｌ　ｗｉｄｔｈ"])
def test_the_rest_stays_as_it_is(text):
    assert plain_lines(text) == text


@pytest.mark.parametrize(
    ("reply", "plain"),
    [
        ("（Ｂ）：１２％！", "(B):12%!"),
        ("Ⓑ ② 𝐁 ﹣", "B 2 B -"),
        ("x²，½", "x²，½"),  # x² is not x2; the wide comma parts clauses
        ("70\u202f000 and 70，000 and 70 000", "70,000 and 70,000 and 70,000"),
        ("5 100 g", "5 100 g"),
        ("5\u00a0apples\u2028“so”", '5 apples\n"so"'),
        ("\u22125, 3\u20135, \u20135", "-5, 3\u20135, -5"),
        ("A\u200bB\u00ad", "AB"),
    ],
)
def test_characters_are_plain(reply, plain):
    assert plain_characters(reply) == plain


@pytest.mark.parametrize(
    ("text", "plain"),
    [
        ("$\\$70,\\!000$", "70,000"),
        ("70{,}000 and 70\\,000 and 1\\,234\\,567", "70,000 and 70,000 and 1,234,567"),
        ("\\text{(B)} \\mathrm{ km} 5\\%", "(B)  km 5%"),
        ("\\left( 5 \\right)", " ( 5  )"),
    ],
)
def test_letters_and_numbers_lose_their_latex(text, plain):
    assert without_latex(text) == plain


@pytest.mark.parametrize(
    ("reply", "text", "boxes", "bold"),
    [
        ("so **B** it `is`", "so B it is", [], ["B"]),
        ("\\boxed{\\text{B}}", "B", ["B"], []),
        ("**\\boxed{5}**", "5", [], ["5"]),
        ("x**2 + y**2 = *one*", "x**2 + y**2 = one", [], []),
        ("__B__, <b>C</b>, snake__case__x", "B, C, snake__case__x", [], ["B", "C"]),
        ("<think>A, A, A</think>\nB", "B", [], []),
        ("B<|im_end|>\nA", "B", [], []),
    ],
)
def test_emphasis_goes_and_is_remembered(reply, text, boxes, bold):
    (found,) = questions(reply)
    assert found.text.strip() == text
    assert [found.text[a:b] for a, b in found.boxes] == boxes
    assert [found.text[a:b] for a, b in found.bold] == bold


@pytest.mark.parametrize(
    ("reply", "announced"),
    [
        ("So the answer is 5.", ["5."]),
        ("The answer is 5. No, the answer is: 6", ["6", "5. No, the answer is: 6"]),
        ("The correct answer to this question would be\nB", ["B"]),
        ("ANSWER: B", ["B"]),
        ("**Final Answer**\n\n5", ["5"]),
        ("#### 5", ["5"]),
        ("<answer>B</answer>", ["B</answer>"]),
        ("答案：B", ["B"]),
        ("【答案】B", ["B"]),
        ("本题的正确答案应该选B。", ["B。"]),
        ("The answer is not 5.", []),
        ("You might think the answer is 5.", []),
        ("I first thought the answer is 5.", []),
        ("Let us check the answer: 5", []),
        ("答案不是A", []),
        ("\\boxed{5} because 6", ["5"]),
    ],
)
def test_announcements(reply, announced):
    (found,) = questions(reply)
    assert [said.text for said in found.announced()] == announced


def test_questions_of_the_models_own_are_parted():
    reply = "It is 4.\r\n\r\nQuestion: 5?\r\nIt is 5.\n**Next question:** 6?"
    assert [found.text.strip() for found in questions(reply)] == ["It is 4.", "5?\nIt is 5.", "6?"]
    assert [found.text.strip() for found in questions("Q: 5?\nA: 5")] == ["5?\nA: 5"]


def test_a_reply_is_cut_at_whichever_stop_string_comes_first():
    stops = ("<|endoftext|>", "\n\n", "Question:")
    assert cut_at("18\n\nQuestion: 2\n\n3", stops) == cut_at("18Question:\n\n", stops) == "18"
    assert cut_at("no stop", stops) == cut_at("no stop", ()) == "no stop"
    assert cut_at("\n\n", stops) == ""
