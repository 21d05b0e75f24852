"""The letter that a reply means: what models write in English and Chinese, and properties over a grammar of replies."""

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from harness.letters import LETTERS, read_letter

CITY = {
    "question": "What is the capital of the UK?",
    "A": "Paris",
    "B": "London",
    "C": "Rome",
    "D": "None of the above",
}
UNTRUE = {
    "question": "Which of these is NOT true?",
    "A": "Water is wet",
    "B": "Fire is cold",
    "C": "Ice is cold",
    "D": "The sun is hot",
}
BOTH = {"question": "?", "A": "Only I", "B": "Only II", "C": "Both I and II", "D": "Neither I nor II"}
SUM = {"question": "1+1?", "A": "1", "B": "2", "C": "3", "D": "4"}
CITY_ZH = {"question": "下列哪一项是正确的____", "A": "北京", "B": "上海", "C": "广州", "D": "深圳"}
UNTRUE_ZH = {"question": "下列说法错误的是____", "A": "水是湿的", "B": "火是冷的", "C": "冰是冷的", "D": "太阳是热的"}

CITY_B = [
    "B is the best choice", "Answer: B) London", "The correct answer is: **B. London**",
    "Option B is the most suitable", "Option B is the most suitable one among the four.", "<answer>B</answer>",
    "答案：B", "【答案】B", "A) Paris is not right. B) London is right.", "The correct option is (B).", "b", "(b)",
    "b) London", "The answer is b.", "The answer is B, not A.", "The answer is not A but B.",
    "The answer is B because A is incorrect.", "The answer is B. Although A is correct in other contexts.",
    "The answer is B; A would be correct if we were in France.", "It's B.", "I think it's B",
    "I believe the answer would be B", "I'd go with B.", "I would choose option B.", "My choice is B.",
    "I would not choose A; I choose B", "Among the choices, B is correct.",
    "B is correct. A, C and D are incorrect.", "A, C, and D are incorrect.", "We can rule out A, C and D.",
    "A is wrong because Paris is in France. B is right. C is wrong because Rome is in Italy. D is wrong.",
    "A is wrong because B is right.",
    "- A: Paris is the capital of France. ❌\n- B: London is the capital of the UK. ✅\n- C: Rome ❌\n- D: ❌",
    "A. Paris - Incorrect, this is France.\n"
    "B. London - Correct, this is the UK.\nC. Rome - Incorrect.\n"
    "D. None of the above - Incorrect.",
    "A. Paris: This is the capital of France, so it is incorrect.\n"
    "B. London: This is the capital of the UK.\nC. Rome: This is incorrect.\n"
    "D. None of the above: incorrect since B works.",
    "1. Paris is the capital of France.\n2. London is the capital of the UK.\n\nTherefore, the answer is London.",
    "**A. Paris** is wrong.\n**B. London** is right.\n**C. Rome** is wrong.",
    "**B**\n\nA is the capital of France.", "**B**. A is correct for France.", "**Answer:** B", "**Answer: B**",
    "### Answer\nB", "Final answer: \\boxed{B}", "$\\boxed{\\textbf{(B)}}$", "\\boxed{\\text{B. London}}",
    "\\boxed{\\text{London}}", "Let's think. Paris is in France. Rome is in Italy. So London.",
    "Let's go through the options:\nA. Paris\nB. London\nC. Rome\nD. None of the above\n\nThe answer is B.",
    "Option A: Paris is wrong.\nOption B: London is right.\nOption C: wrong.\nOption D: wrong.",
    "The answer is London.", "London", "london.", "London is the capital of the UK.", "It is London, not Paris.",
    "You might think the answer is A, but the answer is B.", "The answer is B. You might think the answer is A.",
    "The answer is B. Many students choose A.", "The answer is B.\n\nQuestion: What is 2+2?\nA. 3\nB. 5\nAnswer: C",
    "B\nQuestion: next\nAnswer: C", "Answer: B\r\n", "\ufeffB", "Ｂ", "Ⓑ", "𝐁", "[[B]]", "\"B\"",
    "{\"answer\": \"B\"}", "'B'", "Answer is B", "answer B", "ANSWER: B", "Answer - B", "Ans: B",
    "The right choice here is B", "Correct choice: B", "B: London", "B - London", "(B) London", "B) London", "B.",
    "B,", "The statement in B is true.", "Only B is correct.", "B is true, while A, C, D are false.",
    "Of the options, only London fits.", "The best answer is likely B.",
    "The most appropriate answer is option B: London.", "My final answer is therefore B.",
    "So, the correct option would be: B", "Hence (B).", "Thus, B is the answer.",
    "A is the answer? No, B is the answer.", "The answer is A. Wait, that is wrong. The answer is B.",
    "A plant needs light. The answer is B.", "A good question! B", "I am not sure, but I would guess B.",
    "Select B", "Selected option: B", "Choice B", "Option B", "option b",
    "the correct answer is option B, London, because A, Paris, is the capital of France.",
    "The capital is London (B).", "London (option B)",
    "**B. London**\n\n- A. Paris is the capital of France.\n- C. Rome is the capital of Italy.",
    "B\n\nExplanation: A is correct for France; C is correct for Italy.", "B. A is correct only in special cases.",
    "A: false\nB: true\nC: false\nD: false", "A - No\nB - Yes\nC - No\nD - No",
    "A. False; B. True; C. False; D. False", "A ✗ B ✓ C ✗ D ✗", "A is not correct. B is correct. C is not correct.",
    "A isn't right, C isn't right, D isn't right.",
    "The answer to the question \"What is the capital of the UK?\" is B.",
    "The answer is (B) London. (A) is correct for France.", "<think>A? The answer is A. no</think>B",
    "The answer is:\n\nB", "The answer is\nB", "Answer:\n\n**B. London**", "I choose A... no, I choose B",
    "The options are A, B, C and D. I pick B", "Since London is the capital, option B is the answer.",
    "According to the question, B should be selected.", "So I'd say B", "B!", "B?", "*B*", "__B__", "`B`", "B\n",
    "\n\nB\n\n", "It's option B, I'm sure. People who say A are wrong.",
]  # fmt: skip

CITY_NONE = [
    "A and B", "The answer is A and B.", "Both A and B are correct.", "A or B", "It could be either A or B.",
    "I cannot answer this question.", "As an AI language model, I cannot determine the answer.", "A is incorrect.",
    "A. Paris\nB. London\nC. Rome\nD. None of the above",
    "Option A: Paris\nOption B: London\nOption C: Rome\nOption D: None of the above",
    "Paris is not the capital of the UK. Rome isn't either.", "The answer cannot be A.",
    "Neither A nor C is correct.", "Not A, C or D.", "The answer is B or C.", "The answer is AB.", "A, B", "A/B",
]  # fmt: skip

CITY_D = [
    "None of the above",
]  # fmt: skip

CITY_A = [
    "B is incorrect, so A is the correct answer.", "B is not the answer; the answer is A.",
]  # fmt: skip

UNTRUE_B = [
    "A is true. B is false. C is true. D is true.", "A. True\nB. False\nC. True\nD. True",
    "The statement that is not true is B.", "B is not true.", "Option B is false, so the answer is B.",
    "The false statement is B.", "Fire is cold is not true.",
]  # fmt: skip

BOTH_C = [
    "Both I and II", "The answer is Both I and II.", "both I and II are correct", "C. Both I and II",
]  # fmt: skip

BOTH_D = [
    "Neither I nor II",
]  # fmt: skip

BOTH_A = [
    "Only I",
]  # fmt: skip

SUM_B = [
    "2", "The answer is 2.", "1 + 1 = 2, so the answer is 2", "B. 2", "\\boxed{2}", "答案是2",
]  # fmt: skip

SUM_NONE = [
    "1+1=2", "The answer is 2.5",
]  # fmt: skip

CITY_ZH_B = [
    "综上所述，故选B", "因此，选项B是正确的", "正确选项为：B", "我选择B", "B", "B。", "选B", "选B。", "应选B项。",
    "故本题选B。", "本题正确答案为B。", "正确答案是B。A项说法正确，但不符合题意。", "A错误。B正确。C错误。D错误。",
    "答案选B，我认为A不合题意。", "A项错误，因为北京不是；B项正确，因为上海是；C项错误；D项错误。",
    "A、C、D错误，故选B。", "A、C、D错误。", "A、C、D三项均错误", "排除A、C、D。", "因为A不对，所以选B",
    "我认为B正确", "我认为是B", "我认为答案是B", "我认为应该选择B选项。", "答案是B，因为A是错误的",
    "答案：B。解析：A选项正确描述了北京，但不符合题意。",
    "答案是B。解析：A项，北京，错误；C项，广州，错误；D项错误。", "A不正确，B正确", "B是对的", "B对，A错", "B对",
    "不能选A，应选B", "容易误选A，但正确答案是B", "正确答案是B，容易误选A", "答案不是A，而是B", "答案为【B】",
    "答案为（B）", "答案为 B ", "【解析】A错误。【答案】B", "【答案】B\n【解析】A项符合题意？不，A项错误。", "上海",
    "答案是上海", "答案是上海。", "正确的是B", "正确的是上海", "说法正确的是B", "符合题意的是B",
    "A. 北京\nB. 上海\nC. 广州\nD. 深圳\n答案：B",
    "A选项：北京，错误。\nB选项：上海，正确。\nC选项：广州，错误。\nD选项：深圳，错误。",
    "选项A：北京，错误；选项B：上海，正确；选项C：错误；选项D：错误", "选项B", "选项B正确。", "选项B是正确答案",
    "B选项正确", "B项符合题意", "B是最佳选择", "B最合适", "综上，B", "综上所述，正确答案是选项B：上海。",
    "因此答案是B：上海", "所以，正确答案是：\n\nB. 上海", "**答案：B**", "答案：**B**", "**B. 上海**", "答案是：Ｂ",
    "答案：（B）上海", "根据题意，答案应该是B。", "根据题意，应该选择B。", "由此可知B正确", "The answer is B",
    "因此本题应选 B 项", "首先，A是错误的。其次，B是正确的。", "A、B、C、D中，只有B正确",
    "A、B、C、D四个选项中，B是正确的。", "B选项是正确的，其他选项都是错误的。", "A、C、D均不符合题意",
    "因为A错误，B正确，故选B", "答案B", "答案选项B", "答案是选项B", "答案：选B", "最终答案：B", "所选答案：B",
    "这道题的答案是B，A、C、D都不对", "这道题选B，A也有道理", "正确答案B", "参考答案：B", "我的答案是B", "答：B",
    "B、上海", "B：上海", "Ａ错误，Ｂ正确。", "A：错误\nB：正确\nC：错误\nD：错误",
    "A．错误\nB．正确\nC．错误\nD．错误", "A×B√C×D×", "A（×）B（√）C（×）D（×）", "答案是B\r\n",
    "答案是B。\n\n题目：下一题\n答案：C", "B正确，A、C、D错误", "应该是B吧", "应该选B吧", "可能是B", "B吧",
    "选项为B", "选择：B", "我会选B", "应当选择“B”", "故答案为B", "故答案为：B．", "故选：B．", "故选B.", "选(B)",
]  # fmt: skip

CITY_ZH_NONE = [
    "A错", "不选A", "A和B", "A、B", "答案是A和B", "AB", "答案：AB", "我不知道", "无法确定",
    "抱歉，我无法回答这个问题。", "A. 北京\nB. 上海\nC. 广州\nD. 深圳", "选项A不正确。", "不是上海",
    "A、B错误，C、D也错误",
]  # fmt: skip

UNTRUE_ZH_B = [
    "A正确。B错误。C正确。D正确。", "错误的是B", "说法错误的是B。", "B项错误，故选B。", "B是错误的",
    "A、C、D正确，B错误", "火是冷的", "B选项说法错误，因此答案是B",
    "A项正确，水是湿的；B项错误，火是热的；C项正确；D项正确。", "不正确的是B",
]  # fmt: skip

CASES = [
    *((row, reply, letter) for row, letter, replies in [
        (CITY, "B", CITY_B),
        (CITY, None, CITY_NONE),
        (CITY, "D", CITY_D),
        (CITY, "A", CITY_A),
        (UNTRUE, "B", UNTRUE_B),
        (BOTH, "C", BOTH_C),
        (BOTH, "D", BOTH_D),
        (BOTH, "A", BOTH_A),
        (SUM, "B", SUM_B),
        (SUM, None, SUM_NONE),
        (CITY_ZH, "B", CITY_ZH_B),
        (CITY_ZH, None, CITY_ZH_NONE),
        (UNTRUE_ZH, "B", UNTRUE_ZH_B),
    ] for reply in replies)
]  # fmt: skip


@pytest.mark.parametrize(("row", "reply", "letter"), CASES, ids=lambda value: value if isinstance(value, str) else "")
def test_the_letter_that_a_reply_means(row, reply, letter):
    assert read_letter(row, reply) == letter


@pytest.mark.parametrize("text", ["BC", "A and B", "", "A", "AB"])
def test_a_choice_that_looks_like_letters(text):
    """Found by hypothesis: the text of a choice was returned in place of its letter."""
    row = {**CITY, "A": text}
    assert read_letter(row, text) in (*LETTERS, None)
    assert read_letter({**CITY, "C": "BC"}, "BC") == "C"


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


@settings(max_examples=300, deadline=None)
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


@settings(max_examples=100, deadline=None)
@given(
    letter=st.sampled_from(LETTERS),
    form=st.sampled_from(["{0}: {1}\n", "{0}. {1}. ", "{0} is {1} because so. ", "{0}{2}。", "选项{0}{2}；"]),
)
def test_a_list_of_verdicts_reads_the_one_called_right(letter, form):
    verdicts = [(each, *(("correct", "正确") if each == letter else ("incorrect", "错误"))) for each in LETTERS]
    assert read_letter(CITY, "".join(form.format(*verdict) for verdict in verdicts)) == letter


@settings(max_examples=300, deadline=None)
@given(
    st.text(alphabet="ABCD abnt.答案是选不错对：()=\n\r*[]\\$", max_size=40),
    st.lists(st.text(alphabet="ABCDab 是1.$\\\n", max_size=6), min_size=4, max_size=4),
)
def test_any_reply_is_a_letter_or_none_and_line_ends_do_not_matter(reply, texts):
    row = {"question": "x____y", **dict(zip(LETTERS, texts, strict=True))}
    letter = read_letter(row, reply)
    assert letter is None or letter in tuple(LETTERS)
    assert read_letter(row, "\ufeff" + reply.replace("\r", "\n").replace("\n", "\r\n") + "\r\n") == letter
