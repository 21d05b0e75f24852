"""One answered item, whatever wrote it."""

from collections.abc import Mapping
from typing import Any, NamedTuple, TypeAlias

Key: TypeAlias = tuple[str, int]  # id and sample


class Row(NamedTuple):
    """prompt: the text that was asked; prompt_sha256, item_sha256: of the prompt, and of all that decides the verdict;
    record: every field of the line; question: the question alone, where the file has it (lm-evaluation-harness)."""

    subject: str
    prompt: str
    prompt_sha256: str
    item_sha256: str
    prediction: str
    gold: str
    correct: bool
    record: Mapping[str, Any]
    question: str = ""


class Pair(NamedTuple):
    """An item that both runs have."""

    key: Key
    a: Row
    b: Row


def shown_key(key: Key) -> str:
    """`test/7`, and of a further sample `test/7 #2`."""
    return f"{key[0]} #{key[1]}" if key[1] else key[0]
