"""How a cleaned reply names a choice of a multiple-choice question: by its letter, or by its text.

The text of a choice is replaced by a mark of the same length, so that one pattern serves all questions: `MARK` matches
such a mark, `LETTER` a letter by itself, `CHOICE` either of them (its group `choice`) with what may stand around it.
"""

from __future__ import annotations

import re
from collections.abc import Mapping

from qwen_eval.extraction.replies import plain_text

LETTERS = "ABCD"
MARKS = "\ue000\ue001\ue002\ue003"
MARK = rf"[{MARKS}]\ue0ff*"
# A capital, or a small letter that something closes. "A" in front of a small word is an article.
NOT_BEHIND, NOT_BEFORE = r"(?<![A-Za-z\d])(?<![A-Za-z]')", r"(?![A-Za-z\d=+^]|'[A-Za-z])"
LETTER = rf"(?-i:{NOT_BEHIND}(?:[A-D]{NOT_BEFORE}|[a-d](?=\s*[).\]:,;\"']|\s*$)))"
OPENING = r"[\s\"'(\[{【〔<:]{0,8}"
NOUN = rf"(?:(?:option|choice|answer|letter|statement|选项|答案)\s*{OPENING})?"
CHOICE = rf"{OPENING}{NOUN}(?P<choice>{LETTER}|{MARK})(?:[\s\"')\]}}.:】、]*{MARK})?"
FLAGS = re.IGNORECASE | re.MULTILINE


def mark_choices(row: Mapping[str, str], text: str) -> str:
    """The cleaned reply with marks in place of the texts of the choices under `A` to `D` of row, in any case."""
    texts = {letter: re.sub(r"\s+", " ", plain_text(row[letter])).strip().rstrip(".。").strip() for letter in LETTERS}
    longest = sorted(LETTERS, key=lambda letter: -len(texts[letter]))
    groups = [f"(?P<{c}>{_whole(texts[c])})" for c in longest if not re.fullmatch("[A-Za-z]?", texts[c])]
    return re.sub("|".join(groups), _mark, text, flags=re.IGNORECASE) if groups else text


def _mark(match: re.Match[str]) -> str:
    return MARKS[LETTERS.index(match.lastgroup or "A")] + "\ue0ff" * (len(match[0]) - 1)


def _whole(words: str) -> str:
    """A pattern that matches the words, but no part of a longer word or number; Chinese has no space between words."""
    before = r"(?<![A-Za-z0-9])(?<![\d.-][.,])" if words[0].isascii() and words[0].isalnum() else ""
    after = r"(?![A-Za-z0-9]|[.,]\d)" if words[-1].isascii() and words[-1].isalnum() else ""
    return before + re.escape(words).replace(r"\ ", r"\s+") + after


def letter_of(matched: str) -> str:
    """The letter that a text matched by `LETTER`, by `MARK` or by the group `choice` stands for."""
    return LETTERS[MARKS.index(matched[0])] if matched[0] in MARKS else matched.upper()
