"""A byte-pair trainer for small tiktoken vocabularies in the first-generation Qwen format.

`train(texts, size)` gives the entries in rank order: the 256 bytes, the entries asked for, then the merges.
tiktoken knows no list of merges: it joins the two neighbours whose joined bytes have the lowest rank. So an entry
is only of use if its own bytes encode to it; `train` makes sure that all do.
"""

from __future__ import annotations

import base64
from collections import Counter, defaultdict
from collections.abc import Iterable, Sequence
from itertools import pairwise

import regex
import tiktoken

# The split pattern of the format: cl100k's, with single digits.
PATTERN = (
    r"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}| ?[^\s\p{L}\p{N}]+[\r\n]*"
    r"|\s*[\r\n]+|\s+(?!\S)|\s+"
)
SPECIALS = ("<|endoftext|>", "<|im_start|>", "<|im_end|>", *(f"<|extra_{i}|>" for i in range(205)))

Pair = tuple[bytes, bytes]


def train(texts: Iterable[str], size: int, first: Sequence[bytes] = ()) -> list[bytes]:
    """`size` entries in rank order. `first` are two-byte entries that are wanted whatever their count."""
    entries = [bytes([i]) for i in range(256)] + list(first)
    if any(len(entry) != 2 for entry in first) or len(entries) > size:
        raise ValueError(f"wanted entries have two bytes each and leave room in {size}")
    words = Counter(piece.encode("utf-8") for text in texts for piece in regex.findall(PATTERN, text))
    trainer = _Trainer(words)
    for entry in first:
        trainer.join(entry)
    known = set(entries)
    while len(entries) < size:
        while len(entries) < size:
            best = trainer.best(known)
            if best is None:
                raise ValueError(f"the texts give no more than {len(entries)} entries")
            entries.append(best)
            known.add(best)
            trainer.join(best)
        entries = reachable(entries)  # rarely drops one, as the trainer counts neighbours, not whole words
    return entries


class _Trainer:
    """Words as lists of parts, with the count of every neighbouring pair and the words it stands in."""

    def __init__(self, words: Counter[bytes]) -> None:
        self.parts = [[word[i : i + 1] for i in range(len(word))] for word in words]
        self.weights = list(words.values())
        self.counts: Counter[Pair] = Counter()
        self.places: defaultdict[Pair, set[int]] = defaultdict(set)
        self.by_bytes: defaultdict[bytes, set[Pair]] = defaultdict(set)
        for index in range(len(self.parts)):
            self._count(index, +1)

    def _count(self, index: int, sign: int) -> None:
        parts, weight = self.parts[index], self.weights[index]
        for pair in pairwise(parts):
            self.counts[pair] += sign * weight
            if sign > 0:
                self.places[pair].add(index)
                self.by_bytes[pair[0] + pair[1]].add(pair)

    def best(self, known: set[bytes]) -> bytes | None:
        """The joined bytes of the most frequent pair; of equals the first in byte order, so that runs agree."""
        while self.counts:
            top = max(self.counts.values())
            if top <= 0:
                break
            pairs = [pair for pair, count in self.counts.items() if count == top]
            fresh = [left + right for left, right in pairs if left + right not in known]
            if fresh:
                return min(fresh)
            for pair in pairs:  # made of an entry's bytes in another way: never to be chosen
                del self.counts[pair]
        return None

    def join(self, entry: bytes) -> None:
        """Join all neighbours that make up these bytes, however they are divided."""
        for index in sorted({i for pair in self.by_bytes[entry] for i in self.places[pair]}):
            self._count(index, -1)
            parts, joined = self.parts[index], []
            i = 0
            while i < len(parts):
                if i + 1 < len(parts) and parts[i] + parts[i + 1] == entry:
                    joined.append(entry)
                    i += 2
                else:
                    joined.append(parts[i])
                    i += 1
            self.parts[index] = joined
            self._count(index, +1)
        for pair in self.by_bytes.pop(entry, set()):
            self.counts.pop(pair, None)
            self.places.pop(pair, None)


def reachable(entries: list[bytes]) -> list[bytes]:
    """The entries whose bytes tiktoken encodes to themselves. One taken out can free another: until none changes."""
    while True:
        coder = encoding(entries)
        kept = [entry for rank, entry in enumerate(entries) if coder._encode_single_piece(entry) == [rank]]
        if len(kept) == len(entries):
            return kept
        entries = kept


def encoding(entries: Sequence[bytes]) -> tiktoken.Encoding:
    """The tiktoken encoder of a vocabulary, with Qwen's special tokens after it."""
    return tiktoken.Encoding(
        "qwen",
        pat_str=PATTERN,
        mergeable_ranks={entry: rank for rank, entry in enumerate(entries)},
        special_tokens={text: len(entries) + i for i, text in enumerate(SPECIALS)},
    )


def dump(entries: Sequence[bytes]) -> str:
    """The text of a `qwen.tiktoken` file."""
    return "".join(f"{base64.b64encode(entry).decode('ascii')} {rank}\n" for rank, entry in enumerate(entries))
