"""The items of a benchmark: how they are chosen and digested. Where their files lie is `sources`, how these are read
`readers`; a script takes all three from here.
"""

import hashlib
import json
import random
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from qwen_eval.data.readers import (
    BOOLEAN,
    NUMBER,
    NUMBERS,
    OBJECT,
    PRESENT,
    STRING,
    STRINGS,
    TEXT,
    TEXTS,
    WHOLE,
    Kind,
    check_row,
    no_duplicates,
    read_csv,
    read_json,
    read_jsonl,
    read_rows,
    read_text,
)
from qwen_eval.data.sources import (
    CACHE,
    Hub,
    file_sha256,
    find,
    given_path,
    locate,
    locate_files,
    tables,
)
from qwen_eval.errors import UserError

__all__ = [
    "BOOLEAN",
    "CACHE",
    "NUMBER",
    "NUMBERS",
    "OBJECT",
    "PRESENT",
    "STRING",
    "STRINGS",
    "TEXT",
    "TEXTS",
    "WHOLE",
    "Hub",
    "Item",
    "Kind",
    "check_row",
    "choose_subjects",
    "file_sha256",
    "find",
    "given_path",
    "item_sha256",
    "items_sha256",
    "locate",
    "locate_files",
    "no_duplicates",
    "read_csv",
    "read_json",
    "read_jsonl",
    "read_rows",
    "read_table",
    "read_text",
    "subset",
    "tables",
]


@dataclass(frozen=True)
class Item:
    """One question: `id` as in the contract (`nutrition/17`), the gold answer, the raw row, the rows of its few-shot
    examples. `prompt` and `assistant_prefill` are what the model is asked first: the runner fills them in."""

    id: str
    subject: str
    prompt: str = ""
    gold: Any = None
    row: Any = field(default=None, compare=False)
    sample: int = 0  # which of several replies to the same question (pass@k)
    assistant_prefill: str = ""  # what of a chat model's turn is there already: its reply goes on from it
    examples: Sequence[Any] = field(default=(), compare=False)

    @property
    def key(self) -> tuple[str, int]:
        return (self.id, self.sample)


def read_table(
    given: str | None, hub: Hub, patterns: Sequence[str], fields: Mapping[str, Kind], file_ok: bool = True
) -> list[dict[str, Any]]:
    """Rows of a benchmark's table: the file of `-d`, or what fits `patterns` in its folder, archive or hub repository.

    file_ok False: one of several tables (splits), so that a file given by `-d` is refused.
    """
    return [row for path in locate_files(given, hub, patterns, file_ok) for row in read_rows(path, fields)]


def choose_subjects(known: Iterable[str], asked: str | None) -> list[str]:
    """The subjects of `--subjects a,b`, in the benchmark's order; UserError for one that it does not have."""
    names = list(known)
    if not asked:
        return names
    wanted = [name.strip() for name in asked.split(",") if name.strip()]
    if unknown := [name for name in wanted if name not in names]:
        import difflib

        near = difflib.get_close_matches(unknown[0], names, n=1)
        hint = f"did you mean {near[0]!r}?" if near else f"there are {len(names)}, such as {names[0]!r}"
        raise UserError(f"unknown subject {unknown[0]!r} in --subjects; {hint}")
    return [name for name in names if name in wanted]


def subset(items: Sequence[Item], limit: int | None, sample: int | None, seed: int) -> list[Item]:
    """`--limit N`: the first N items of each subject; `--sample N`: N items in all, by share of subject, seeded."""
    if not items:
        raise UserError("the data set is empty: no item to run")
    seen: set[tuple[str, int]] = set()
    for item in items:
        if item.key in seen:
            raise UserError(f"the data has two items with the id {item.id!r}; each id may stand there once")
        seen.add(item.key)
    by_subject: dict[str, list[Item]] = {}
    for item in items:
        by_subject.setdefault(item.subject, []).append(item)
    if limit is not None:
        by_subject = {name: _first(group, limit) for name, group in by_subject.items()}
    if sample is not None:
        by_subject = _stratified(by_subject, sample, seed)
    kept = {item.key for group in by_subject.values() for item in group}
    return [item for item in items if item.key in kept]


def _first(items: Sequence[Item], limit: int) -> list[Item]:
    """The first questions, with all of the samples of each."""
    questions = dict.fromkeys(item.id for item in items)
    kept = set(list(questions)[:limit])
    return [item for item in items if item.id in kept]


def _stratified(groups: dict[str, list[Item]], total: int, seed: int) -> dict[str, list[Item]]:
    """Largest-remainder shares of `total`, sampled without replacement, from one seeded stream per subject."""
    count = sum(map(len, groups.values()))
    total = min(total, count)
    exact = {name: total * len(group) / count for name, group in groups.items()}
    shares = {name: int(value) for name, value in exact.items()}
    by_remainder = sorted(groups, key=lambda name: (shares[name] - exact[name], name))
    for name in by_remainder[: total - sum(shares.values())]:
        shares[name] += 1
    return {name: random.Random(f"{seed}/{name}").sample(group, shares[name]) for name, group in groups.items()}


def item_sha256(item: Item) -> str:
    """One digest of all that decides an item's verdict: what is asked, the gold answer, and the row (choices, tests).

    A finished line counts only while this is the same. Input files count by their content, not by where they lie.
    """
    known = [item.id, item.subject, item.prompt, item.assistant_prefill, item.gold, item.row]
    return hashlib.sha256(json.dumps(known, sort_keys=True, default=_plain).encode()).hexdigest()


def _plain(value: Any) -> Any:
    """What JSON can hold of a value in a row."""
    if isinstance(value, Path):
        return file_sha256(value) if value.is_file() else value.name
    if isinstance(value, (set, frozenset)):
        return sorted(value)
    if getattr(value, "ndim", 0) and value.dtype.kind in "iufb":  # the tokens of a document: millions
        return hashlib.sha256(value.tobytes()).hexdigest()
    if hasattr(value, "tolist"):  # numpy's other arrays and numbers, as in the rows of a parquet file
        return value.tolist()
    return str(value)


def items_sha256(items: Iterable[Item]) -> str:
    """One digest of a data set: those of its items, in order."""
    return hashlib.sha256("".join(item_sha256(item) + "\n" for item in items).encode()).hexdigest()
