"""Texts with long common beginnings, each beginning kept once: few-shot prompts of a subject share theirs."""

from bisect import bisect_left
from collections.abc import Iterator, Sequence
from itertools import pairwise
from typing import NamedTuple

#: A beginning is kept apart where it has this many characters and this many texts have it.
CHARACTERS, TEXTS = 40, 4


class Shared(NamedTuple):
    """beginnings: (index of the beginning before it, or -1; text); texts: (index of its beginning, or -1; rest)."""

    beginnings: list[tuple[int, str]]
    texts: list[tuple[int, str]]

    def whole(self, number: int) -> str:
        """A text as it was."""
        at, found = self.texts[number]
        while at >= 0:
            at, part = self.beginnings[at]
            found = part + found
        return found


def share_beginnings(texts: Sequence[str]) -> Shared:
    """Each text as a beginning that others have too and a rest of its own. A beginning ends with a line."""
    order = sorted(range(len(texts)), key=texts.__getitem__)
    common = [0, *(_common_lines(texts[a], texts[b]) for a, b in pairwise(order))]
    made = Shared([], [(-1, text) for text in texts])
    open_groups = [(0, len(order), 0, -1)]  # in `order`: from, to; characters of the beginning so far, its index
    while open_groups:
        start, end, length, beginning = open_groups.pop()
        if length:
            for number in order[start:end]:
                made.texts[number] = (beginning, texts[number][length:])
        for low, high in _groups(common, start, end, length + CHARACTERS):
            longer = min(common[low + 1 : high])
            made.beginnings.append((beginning, texts[order[low]][length:longer]))
            open_groups.append((low, high, longer, len(made.beginnings) - 1))
    return made


def _groups(common: Sequence[int], start: int, end: int, least: int) -> Iterator[tuple[int, int]]:
    """The parts of `start` to `end` in which neighbours have `least` characters in common."""
    cuts = [start, *(place for place in range(start + 1, end) if common[place] < least), end]
    return ((low, high) for low, high in pairwise(cuts) if high - low >= TEXTS)


def _common_lines(one: str, other: str) -> int:
    """Characters of the whole lines with which both begin."""
    length = bisect_left(range(1, min(len(one), len(other)) + 1), True, key=lambda n: one[:n] != other[:n])
    return one.rfind("\n", 0, length) + 1
