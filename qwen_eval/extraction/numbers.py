"""Robust extraction of a number: the one that a careful reader takes for the answer of a reply."""

import math
import re
from typing import Any

from qwen_eval.extraction.replies import Text, questions, sentence, without_reason

# A sign, thousands with commas or plain digits, decimals. A minus between two numbers is an operator ("10-3 is 7, 10-7"
# ends in 7), a dollar may stand behind the sign, a full stop that ends the sentence is no decimal point, and leading
# zeros do no harm.
ANY_NUMBER = re.compile(
    r"(?:(?<![\w)\]%.])(?P<sign>[+\-−])\$?)?(?P<number>(?:[0-9]{1,3}(?:,[0-9]{3})+(?![0-9])|[0-9]+)(?:\.[0-9]+)?|\.[0-9]+)"
)


def read_number(reply: str) -> float | None:
    """The number that the reply announces as its answer, else its last one in bold, else its last one.

    Of several announcements the last counts, but not one in a further question that the model asks itself. None without
    a number.
    """
    for text in questions(reply):
        for announcement in text.announced():
            if (value := _announced(announcement.text, announcement.outright)) is not None:
                return value
        if (value := _bold(text)) is not None or (value := last_number(text.text)) is not None:
            return value
    return None


def last_number(text: str) -> float | None:
    """The last number in `text` with sign, commas and decimals; None without one."""
    numbers = list(ANY_NUMBER.finditer(text))
    return _value(numbers[-1]["sign"], numbers[-1]["number"]) if numbers else None


def _value(sign: str | None, digits: str) -> float:
    value = float(digits.replace(",", ""))
    return -value if (sign or "+") != "+" else value


# The announced number comes first, with little in front of it, a sign perhaps with a space behind it.
FIRST = re.compile(
    r"[\s\"'(\[{~≈:]*(?:(?:about|approximately|around|roughly|exactly|only|just|equal to|a total of|约|大约|共)\s*)*"
    r"(?:[A-Z]{0,3}[$£€¥￥]|USD|RMB)?\s*(?:(?P<sign>[+\-−]|minus|negative|负)\s*[$£€¥￥]?\s*)?"
    r"(?P<number>(?:[0-9]{1,3}(?:,[0-9]{3})+(?![0-9])|[0-9]+)(?:\.[0-9]+)?|\.[0-9]+)"
    r"(?:\s*(?:\\times|\\cdot|[×x*])\s*10\s*\^\s*\{?\s*(?P<power>[0-9]{1,2})\b)?(?:\s*/\s*(?P<below>[1-9][0-9]*)(?![\w/]))?",
    re.IGNORECASE,
)
WORDS = """zero one two three four five six seven eight nine ten eleven twelve thirteen fourteen fifteen sixteen
    seventeen eighteen nineteen twenty""".split()


def _announced(behind: str, outright: bool) -> float | None:
    """The number in the sentence behind an announcement; outright: words may stand before it."""
    clause = sentence(behind)
    head = without_reason(clause)
    if not ANY_NUMBER.search(head):
        word = re.match(r"[a-z]+", head.lower())
        if word and word[0] in WORDS:
            return float(WORDS.index(word[0]))
        head = clause
    head = re.sub(r"(?<=\d)\s*\([^()]*\)", "", head)  # 5 (2 + 3)
    first = FIRST.match(head)
    if first is None and not outright:
        return None
    if first is None or SUM.match(head, first.end()):
        result = FIRST.match(head.replace("≈", "=").rpartition("=")[2])
        first = result or first
    if first is None:
        return last_number(head)
    value = _value(first["sign"], first["number"])
    return float(value * 10 ** int(first["power"] or 0) / int(first["below"] or 1))


SUM = re.compile(
    r"\s*(?:[A-Za-z-]+\s*){0,3}(?:[=≈]|(?:[-+*/×÷]|x\s*\d).*[=≈])", re.DOTALL
)  # 2 + 3 = 5, 28 days / 7 = 4 weeks
HEADING = re.compile(r"\W*(?:\d+[.)]\s|step|part|第|步)|.*:$", re.IGNORECASE)


def _bold(text: Text) -> float | None:
    """The number in the last bold words that are no heading; its sign may stand before them."""
    for start, end in reversed(text.bold):
        if HEADING.match(text.text[start:end]) or text.text[end : end + 1] == ":":
            continue
        numbers = [match for match in ANY_NUMBER.finditer(text.text, max(0, start - 1), end) if match.end() > start]
        if numbers:
            return _value(numbers[-1]["sign"], numbers[-1]["number"])
    return None


def close(left: Any, right: Any) -> bool:
    """Equal within 1e-4; False where one is missing or too large for a float."""
    try:
        return left is not None and right is not None and math.isclose(left, right, rel_tol=0, abs_tol=1e-4)
    except (OverflowError, TypeError):
        return False
