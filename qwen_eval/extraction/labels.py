"""Which of any number of labelled choices a reply names: letters from A on, or others such as 1 to 5.

Letters are left to `letters.read_letter`, which knows verdicts and both languages. Of other labels the reply gives, in
this order: the one that its last announced answer begins with; the one that stands alone in its first or last line, or
begins it; the only label, or the only choice's text, that the reply has in it.
"""

from __future__ import annotations

import re
from collections.abc import Sequence

from qwen_eval.extraction.letters import read_letter
from qwen_eval.extraction.replies import plain_text, questions

LETTERS = "ABCDEFGHIJKLMNOPQRSTUVWXYZ"


def read_label(reply: str, labels: Sequence[str], texts: Sequence[str], question: str = "") -> str | None:
    """The label that the reply gives; None where it gives none, or several. texts: of the choices, as `labels`."""
    if "".join(labels) == LETTERS[: len(labels)]:
        row = {**dict(zip(labels, texts, strict=True)), "question": question}
        return read_letter(row, reply, "".join(labels))
    names = "|".join(map(re.escape, sorted(labels, key=len, reverse=True)))
    label = rf"(?<![A-Za-z\d])({names})(?![A-Za-z\d=+^'])"
    begins = re.compile(rf"[\s\"'(\[{{:*]*(?:(?:option|choice|answer)\s*)?{label}")
    for text in questions(reply):
        for part in text.announced():  # the last one first
            if match := begins.match(part.text):
                return match[1]
        lines = text.text.strip().split("\n")
        for line in (lines[0], lines[-1]):
            if match := re.fullmatch(rf"\W*{label}\W*|{begins.pattern}\s*[.):,-].*", line, re.DOTALL):
                return str(next(group for group in match.groups() if group))
        named: set[str] = set(re.findall(label, text.text))
        if not named:
            whole = plain_text(text.text).casefold()
            named = {
                name for name, words in zip(labels, texts, strict=True) if plain_text(words).casefold().strip() in whole
            }
        if len(named) == 1:
            return named.pop()
    return None
