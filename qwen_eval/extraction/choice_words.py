"""How a cleaned reply names a choice of a multiple-choice question: by its letter, or by its text.

The text of a choice is replaced by a mark of the same length, so that one pattern serves all questions that have the
same letters. `naming(letters)` gives these patterns.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from functools import lru_cache
from typing import NamedTuple

from qwen_eval.extraction.replies import plain_text

LETTERS = "ABCD"
FLAGS = re.IGNORECASE | re.MULTILINE
NOT_BEHIND, NOT_BEFORE = r"(?<![A-Za-z\d])(?<![A-Za-z]')", r"(?![A-Za-z\d=+^]|'[A-Za-z])"
OPENING = r"[\s\"'(\[{【〔<:]{0,8}"
NOUN = rf"(?:(?:option|choice|answer|letter|statement|选项|答案)\s*{OPENING})?"
# "A" in front of a small word is an article and "I" a pronoun, unless the word is one of these.
NO_ARTICLE = (
    r"A(?!\s+(?!(?:and|or|nor|because|cannot|seems|looks)\b|(?:is|was|are|would|can|could|does|has|may|might)(?:n't)?\b)"
    r"[a-z])"
)
NO_PRONOUN = r"(?!I\s+(?!(?:is|seems|looks|and|or|nor)\b)[a-z])"
FIRST_MARK, FILLER = 0xE000, "\ue0ff"


class Naming(NamedTuple):
    """Patterns (as text) by which a reply names a choice.

    letters: of the choices, from A on. mark: what stands in place of a choice's text. letter: a capital, or a small
    letter that something closes. letter_alone: a capital that is neither an article nor a pronoun. choice: a letter or
    a mark (its group `choice`) with what may stand around it.
    """

    letters: str
    marks: str
    mark: str
    letter: str
    letter_alone: str
    choice: str

    def letter_of(self, matched: str) -> str:
        """The letter that a text matched by `letter`, by `mark` or by the group `choice` stands for."""
        return self.letters[self.marks.index(matched[0])] if matched[0] in self.marks else matched.upper()

    def mark_choices(self, row: Mapping[str, str], text: str) -> str:
        """The cleaned reply with marks in place of the texts of the choices, which `row` has under their letters; in
        any case."""
        texts = {c: re.sub(r"\s+", " ", plain_text(row[c])).strip().rstrip(".。").strip() for c in self.letters}
        longest = sorted(self.letters, key=lambda letter: -len(texts[letter]))
        groups = [f"(?P<{c}>{_whole(texts[c])})" for c in longest if not re.fullmatch("[A-Za-z]?", texts[c])]
        return re.sub("|".join(groups), self._mark, text, flags=re.IGNORECASE) if groups else text

    def _mark(self, match: re.Match[str]) -> str:
        return self.marks[self.letters.index(match.lastgroup or "A")] + FILLER * (len(match[0]) - 1)


@lru_cache
def naming(letters: str) -> Naming:
    """The patterns for a question whose choices have these letters: "ABC" to "ABCDEFGHIJKLMNOPQRSTUVWXYZ"."""
    last, has_pronoun = letters[-1], "I" in letters
    marks = "".join(chr(FIRST_MARK + number) for number in range(len(letters)))
    mark = rf"[{marks}]{FILLER}*"
    capital = rf"{NO_PRONOUN}[A-{last}]" if has_pronoun else f"[A-{last}]"
    letter = rf"(?-i:{NOT_BEHIND}(?:{capital}{NOT_BEFORE}|[a-{last.lower()}](?=\s*[).\]:,;\"']|\s*$)))"
    others = rf"{NO_PRONOUN}[B-{last}]" if has_pronoun else f"[B-{last}]"
    letter_alone = rf"(?-i:{NOT_BEHIND}(?:{others}|{NO_ARTICLE}){NOT_BEFORE}(?![股超]))"
    choice = rf"{OPENING}{NOUN}(?P<choice>{letter}|{mark})(?:[\s\"')\]}}.:】、]*{mark})?"
    return Naming(letters, marks, mark, letter, letter_alone, choice)


def _whole(words: str) -> str:
    """A pattern that matches the words, but no part of a longer word or number; Chinese has no space between words."""
    before = r"(?<![A-Za-z0-9])(?<![\d.-][.,])" if words[0].isascii() and words[0].isalnum() else ""
    after = r"(?![A-Za-z0-9]|[.,]\d)" if words[-1].isascii() and words[-1].isalnum() else ""
    return before + re.escape(words).replace(r"\ ", r"\s+") + after
