"""What the demo's task files share: a question with its answer, and what is held out from training.

A task file (`story_problems.py`, `puzzles.py` ...) draws questions from numbers, names and forms. Whether a question is
held out follows from its key (the numbers and names that decide its answer) alone: three keys in ten are, and training
never sees one of them in any wording.
"""

from __future__ import annotations

import zlib
from collections.abc import Callable
from typing import TypeVar

T = TypeVar("T")
HELD_OUT_TENTHS = 3


def held_out(*key: object) -> bool:
    """Whether a question with this key is kept for the benchmark samples."""
    return zlib.crc32("/".join(map(str, key)).encode()) % 10 < HELD_OUT_TENTHS


def several(draw: Callable[[], T], n: int, same: Callable[[T], object]) -> list[T]:
    """n draws, no two of them the same."""
    found: dict[object, T] = {}
    for _ in range(1000 * n):
        if len(found) == n:
            return list(found.values())
        drawn = draw()
        found.setdefault(same(drawn), drawn)
    raise ValueError(f"only {len(found)} different questions, {n} wanted")
