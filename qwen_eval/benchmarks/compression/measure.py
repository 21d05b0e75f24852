"""What is measured of one tokenizer on the texts of one language."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, field

from qwen_eval.benchmarks.compression.tokenizers import Tokenizer
from qwen_eval.stats import Z95, Interval

import numpy as np

BATCH_CHARACTERS = 1_000_000  # that are encoded at once
BATCH_DOCUMENTS = 1024
FEWEST_FOR_INTERVAL = 5


@dataclass
class Size:
    """Of the texts of one language."""

    documents: int = 0
    characters: int = 0
    utf8_bytes: int = 0


@dataclass
class Count:
    """One tokenizer on the texts of one language. tokens: of each document; unknown: tokens that stand for what the
    tokenizer has no token for; exact: documents that come back unchanged when they are decoded."""

    tokens: list[int] = field(default_factory=list)
    unknown: int = 0
    exact: int = 0

    @property
    def total(self) -> int:
        return sum(self.tokens)

    def __add__(self, other: Count) -> Count:
        return Count(self.tokens + other.tokens, self.unknown + other.unknown, self.exact + other.exact)


def measure(
    texts: Iterable[str], tokenizers: Sequence[Tokenizer], done: Callable[[int], object]
) -> tuple[Size, list[Count]]:
    """The texts of one language by every tokenizer. done: is told how many documents more are finished."""
    size, counts = Size(), [Count() for _ in tokenizers]
    for batch in batches(texts):
        size.documents += len(batch)
        size.characters += sum(map(len, batch))
        size.utf8_bytes += sum(len(text.encode()) for text in batch)
        for tokenizer, count in zip(tokenizers, counts, strict=True):
            ids = tokenizer.encode(batch)
            count.tokens += map(len, ids)
            if tokenizer.unknown_id is not None:
                count.unknown += sum(list(one).count(tokenizer.unknown_id) for one in ids)
            count.exact += sum(text == back for text, back in zip(batch, tokenizer.decode(ids), strict=True))
        done(len(batch))
    return size, counts


def batches(texts: Iterable[str]) -> Iterator[list[str]]:
    """The texts in order, some at a time."""
    batch: list[str] = []
    characters = 0
    for text in texts:
        batch.append(text)
        characters += len(text)
        if characters >= BATCH_CHARACTERS or len(batch) >= BATCH_DOCUMENTS:
            yield batch
            batch, characters = [], 0
    if batch:
        yield batch


def ratio_interval(reference: Sequence[int], own: Sequence[int]) -> Interval | None:
    """95 % interval of sum(reference) / sum(own) over documents: the ratio estimator of a simple sample (Cochran 1977,
    Sampling Techniques, 6.4). None with fewer than five documents."""
    n = len(own)
    if n < FEWEST_FOR_INTERVAL:
        return None
    a, b = np.asarray(reference, dtype=float), np.asarray(own, dtype=float)
    ratio = float(a.sum() / b.sum())
    rest = a - ratio * b
    half = Z95 * math.sqrt(n / (n - 1) * float((rest**2).sum())) / float(b.sum())
    return Interval(ratio - half, ratio + half)
