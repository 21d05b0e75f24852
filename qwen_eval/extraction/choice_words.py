"""How a cleaned reply names a choice of a multiple-choice question: by its letter, or by its text.

The text of a choice is replaced by a mark of the same length, so that a pattern has one form for all questions: `T`
finds the mark, `L` a letter by itself, `X` either, with what may stand around it (its group `x`).
"""

from __future__ import annotations

import re
from collections.abc import Mapping

from qwen_eval.extraction.replies import plain_text

LETTERS = "ABCD"
MARKS = "\ue000\ue001\ue002\ue003"
T = rf"[{MARKS}]\ue0ff*"
# A capital, or a small letter that something closes. "A" in front of a small word is an article.
ALONE = r"(?<![A-Za-z\d])(?<![A-Za-z]')", r"(?![A-Za-z\d=+^]|'[A-Za-z])"
L = rf"(?-i:{ALONE[0]}(?:[A-D]{ALONE[1]}|[a-d](?=\s*[).\]:,;\"']|\s*$)))"
OPEN = r"[\s\"'(\[{【〔<:]{0,8}"
X = rf"{OPEN}(?:(?:option|choice|answer|letter|statement|选项|答案)\s*{OPEN})?(?P<x>{L}|{T})(?:[\s\"')\]}}.:】、]*{T})?"
FLAGS = re.IGNORECASE | re.MULTILINE


def mark_choices(row: Mapping[str, str], text: str) -> str:
    """The cleaned reply with marks in place of the texts of the choices under `A` to `D` of row, in any case."""
    said = {letter: re.sub(r"\s+", " ", plain_text(row[letter])).strip().rstrip(".。").strip() for letter in LETTERS}
    longest = sorted(LETTERS, key=lambda letter: -len(said[letter]))
    groups = [f"(?P<{c}>{_whole(said[c])})" for c in longest if not re.fullmatch("[A-Za-z]?", said[c])]
    return re.sub("|".join(groups), _mark, text, flags=re.IGNORECASE) if groups else text


def _mark(found: re.Match[str]) -> str:
    return MARKS[LETTERS.index(found.lastgroup or "A")] + "\ue0ff" * (len(found[0]) - 1)


def _whole(words: str) -> str:
    """A pattern of the words that finds no part of a longer word or number; Chinese puts no space between words."""
    before = r"(?<![A-Za-z0-9])(?<![\d.-][.,])" if words[0].isascii() and words[0].isalnum() else ""
    after = r"(?![A-Za-z0-9]|[.,]\d)" if words[-1].isascii() and words[-1].isalnum() else ""
    return before + re.escape(words).replace(r"\ ", r"\s+") + after


def letter_of(said: str) -> str:
    """The letter of a match of `x`, `L` or `T`."""
    return LETTERS[MARKS.index(said[0])] if said[0] in MARKS else said.upper()
