"""The clean-up before robust extraction: a reply in plain characters, and the places where it announces its answer.

The robust extractions of all benchmarks begin here, so that other line ends, full-width letters, bold words or a box
change nothing. The protocol extractions never do: they take a reply as it came, so that a carriage return or a byte
order mark may change their answer, as it did in the published scripts.

`questions(reply)` cuts the reply where the model goes on to questions of its own, into one `Text` per question; the
first belongs to the question asked. `Text.announced()` gives what stands behind "the answer is", `####`, 答案是 or in
a box.
"""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Iterable
from typing import NamedTuple

#: The special token with which a base model ends its text; published scripts stop there, and cut given replies there.
END_OF_TEXT = "<|endoftext|>"


def cut_at(reply: str, stops: Iterable[str]) -> str:
    """The reply up to the first stop string in it, or all of it. An engine stops there by itself; given replies may go
    on."""
    for stop in stops:
        reply = reply.partition(stop)[0]
    return reply


ZERO_WIDTH = "\u200b\u200c\u200d\u200e\u200f\u2060\ufeff"


def plain_lines(reply: str) -> str:
    """The reply with newline as its only line end, and no byte order mark or zero-width character at its start."""
    return re.sub(r"\r*\n|\r", "\n", reply.lstrip(ZERO_WIDTH))


# Wide, small, circled and mathematical forms of plain characters: Ｂ Ⓑ 𝐁 ② （ ：. Superscripts and fractions are no
# such forms (x² is not x2), and the wide comma parts clauses where a plain one may part the letters of a list.
VARIANTS = re.compile("[\u2460-\u24ff\u3000\ufe54-\ufe6f\uff01-\uff0b\uff0d-\uff5e\uffe0-\uffe6\U0001d400-\U0001d7ff]+")
SPACES = "[\u00a0\u2000-\u200a\u202f\u205f]"


def plain_characters(reply: str) -> str:
    """The reply in plain characters: line ends, spaces, quotes, minus signs, wide forms; nothing zero-width in it."""
    text = re.sub("[\u2028\u2029\x85]", "\n", plain_lines(reply))
    text = re.sub(f"[{ZERO_WIDTH}\u00ad\u202a-\u202e]", "", text)
    text = VARIANTS.sub(lambda match: unicodedata.normalize("NFKC", match[0]), text)
    # Thousands: behind a thin space, a wide comma or an apostrophe; behind a space where 070 would be no number.
    text = re.sub(rf"(?<=\d)(?:(?:{SPACES}|[，'’])(?=\d{{3}}(?!\d))| ?,? (?=0\d\d(?!\d)))", ",", text)
    text = re.sub(SPACES, " ", text)
    text = re.sub("[‘’]", "'", re.sub("[“”„「」『』]", '"', text))
    return re.sub(r"\u2212|(?<![\w)])[\u2012\u2013](?=\d)", "-", text)


def without_latex(text: str) -> str:
    r"""The text without the commands that LaTeX puts around letters and numbers: \text{B}, 70{,}000, $\$5$."""
    text = re.sub(r"(?<=\d)(?:,?(?:\\[,!;: ])+|\{,\}(?:\\!)?|~)(?=\d{3}(?!\d))", ",", text)
    text = re.sub(r"\\(?:[!,;:()\[\] ]|(?:q?quad|left|right|displaystyle)(?![A-Za-z]))", " ", text)
    text = re.sub(r"\\(?:text\w{0,2}|math\w{2}|mbox|operatorname)\s*\{([^{}]*)\}", r"\1", text)
    return re.sub(r"\\(?=[%#&_])|\\?\$", "", text)


MAX_ANSWER = 1_000  # characters of an answer
MAX_ANNOUNCEMENTS = 20  # the last ones: a model that repeats itself for long gives no other answer before


class Announcement(NamedTuple):
    """A place where a reply announces its answer.

    text: what stands behind it (of a box, what is in it). That is more than the answer, for where the answer ends
    depends on what is looked for. start: where the text begins in the reply. outright: the answer follows at once
    ("the answer is"); behind a mere `Answer:` a whole solution may stand. boxed: it is a box.
    """

    text: str
    start: int
    outright: bool
    boxed: bool = False


class Text(NamedTuple):
    """The reply to one question in plain characters, without emphasis marks. boxes, bold: where its boxes and its bold
    words begin and end."""

    text: str
    boxes: list[tuple[int, int]]
    bold: list[tuple[int, int]]

    def announced(self) -> list[Announcement]:
        """The announcements of an answer, the last one first."""
        by_place = {start: Announcement(self.text[start:end], start, True, True) for start, end in self.boxes}
        for match in ANNOUNCEMENT.finditer(self.text):
            start = match.end()
            if start not in by_place and not supposed(self.text[max(0, match.start() - 120) : match.start()]):
                outright = not match[0].rstrip().endswith(":")
                by_place[start] = Announcement(self.text[start : start + MAX_ANSWER], start, outright)
        return [by_place[start] for start in sorted(by_place, reverse=True)[:MAX_ANNOUNCEMENTS]]


# What follows is the answer: "The answer is", "Answer:", "the correct answer would be", "#### ", 答案是, 【答案】. No
# negation stands between the two words, nor the answer itself ("answer A is").
NEGATION = r"\b(?:not|never|neither|nor|cannot|wrong|incorrect)\b|n't\b"
ANNOUNCEMENT = re.compile(
    rf"\banswers?\b(?:(?!{NEGATION}|\b(?:answers?|part|step|first|options?|choices?|[A-D])\b)[^.;:=\n]){{0,60}}?"
    r"(?:\b(?:is|are|be|was|becomes)\b|[:=]|-+>)(?!\W*(?:not|neither)\b)[\s:]*"
    r"(?:\b(?:as follows|therefore|thus|then|simply|just)\b[\s:,]*)?"
    r"|^\W*(?:(?:final|correct) )?answer[ \t]*(?:[:.-]+|\n|(?=\(?[A-D\d$\\-]))\s*|####\s*|<answer>\s*"
    r"|答案(?:(?![不非错]|答案)[^。;:\nA-D\d]){0,15}?(?:是|选|等于|(?<![因认以])为|[:】\]])[\s:]*"
    r"|答案\s*(?=[A-D\d(])",
    re.IGNORECASE | re.MULTILINE,
)
SUPPOSED = re.compile(
    r"(?:\b(?:you|one|some\w*|people|students|many|they|others)\s+(?:\w+\s+){0,3}"
    r"(?:think|thought|say|said|believe|choose|chose|pick|guess|assume|conclude)\b"
    r"|\b(?:tempt\w*|mistake\w*|wrongly|(?:at )?first thought|initially thought|thought (?:at first|initially))\b"
    r"|\b(?:check|verify|confirm)\w*\s+(?:that\s+)?(?:(?:the|our|my|this)\b)?|有人|有些人|误以为|容易|验证|检验)[^.;,。；，\n]{0,20}$",
    re.IGNORECASE,
)


def supposed(before: str) -> bool:
    """Whether the sentence that ends here, unfinished, tells what somebody might say, or checks an answer."""
    return SUPPOSED.search(before[-120:]) is not None


def sentence(text: str) -> str:
    """The first sentence of the text, or its first line that is not empty."""
    return re.split(r"[.!?](?=\s|$)|(?<!\\);|[。；！？\n]", text.strip(), maxsplit=1)[0].strip()


# What follows these words is not the answer but its reason, its check, or what it is not.
REASON = re.compile(
    r"[\s,;(，]*(?:(?<!\\)\b(?:because|since|as|which|where|when|so|given|assuming|not|rather than|instead of"
    r"|for (?:all|any|every|each|(?=\$?[a-z] ?[<>=\\])))\b|因为|其中|由于|而不是|而非)",
    re.IGNORECASE,
)


def without_reason(clause: str) -> str:
    """The clause up to the words that begin a reason or a condition."""
    return REASON.split(clause, maxsplit=1)[0]


# A question of the model's own, at the beginning of a line or behind a sentence. "Question 3:" is not: a solution may
# go through the parts of its problem.
QUESTION = re.compile(
    r"^[ \t>#*_-]*(?:(?:(?:next |new )?(?:question|problem|exercise)|q|human|user)[*_ \t]*:"
    r"|(?:问题|题目|下一题)[*_ \t]*:)|(?-i:\bQuestion:)",
    re.IGNORECASE | re.MULTILINE,
)


def questions(reply: str, formulas: bool = False) -> list[Text]:
    """The reply to the question asked, then the replies to questions that the model asked itself.

    formulas: keep LaTeX, except boxes. What a model thought before `</think>` is no part of its reply.
    """
    text = re.split(r"<\|(?:endoftext|im_end|im_start)\|>", plain_characters(reply), maxsplit=1)[0]
    text = text.rpartition("</think>")[2].strip() or text
    text = re.sub(r"</?(?:b|strong)>", "**", re.sub(r"<br\s*/?>", "\n", text))
    return [_without_marks(part if formulas else without_latex(part)) for part in QUESTION.split(text) if part.strip()]


def plain_text(text: str) -> str:
    """A choice or a reference as it would stand in a reply after the clean-up, so that the two can be compared."""
    return _without_marks(without_latex(plain_characters(text))).text


# A box in which braces may stand three deep, bold words, words in code. x**2 is a power.
MARKS = re.compile(
    r"\\(?:boxed|fbox)\s*(?:\{(?P<box>(?:[^{}]|\{(?:[^{}]|\{(?:[^{}]|\{[^{}]*\})*\})*\})*)\}|(?P<digit>[\w.]+))"
    r"|(?<![A-Za-z0-9)*])\*\*(?P<bold>(?=\S)[^*\n]+?)\*\*|(?<!\w)__(?P<under>(?=\S)[^_\n]+?)__(?!\w)"
    r"|(?<![\w)*])\*(?P<italic>(?=\S)[^*\n]*?)(?<=\S)\*(?![\w*(])|`(?P<code>[^`\n]+)`"
)
STRAY = re.compile(r"(?<![A-Za-z0-9)])\*\*|\*\*(?![A-Za-z0-9(])|`")


def _without_marks(text: str) -> Text:
    """The text without its marks, and where boxes and bold words stood."""
    plain, boxes, bold, done = "", [], [], 0
    for mark in MARKS.finditer(text):
        plain += STRAY.sub("", text[done : mark.start()])
        inside = _without_marks(mark[mark.lastgroup]).text  # type: ignore[index]
        span = len(plain), len(plain) + len(inside)
        if mark.lastgroup in ("box", "digit"):
            boxes.append(span)
        elif mark.lastgroup in ("bold", "under"):
            bold.append(span)
        plain, done = plain + inside, mark.end()
    return Text(plain + STRAY.sub("", text[done:]), boxes, bold)
