"""The official sets, as fingerprints: what `official.py` compares the items of a run with.

A fingerprint is a small file in data/official/, made by tools/fingerprint_data.py. For each item it holds 6 bytes: 4 of
the sha256 of the question, 2 of that of the answer. One sha256 of all items, whole and in any order, has the last word.
What counts is the content of an item, not the file that it came in. Line ends and white space at the ends of lines do
not count: the hub's copies have lost some. All other text does.
"""

import base64
import hashlib
import json
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple

FOLDER = Path(__file__).with_name("official")
QUESTION, MARK = 4, 6  # bytes of a mark that are the question's; of the whole mark


class Content(NamedTuple):
    """An item's data, in what JSON can hold: all that the model may be shown, and all that the verdict rests on."""

    question: Any
    answer: Any


# -- digests -----------------------------------------------------------------------------------------------------------


def _plain(value: Any) -> Any:
    """The value without what does not count."""
    if isinstance(value, str):
        lines = value.replace("\r\n", "\n").replace("\r", "\n").split("\n")
        return "\n".join([line.rstrip() for line in lines]).rstrip("\n")
    if isinstance(value, Mapping):
        return {name: _plain(part) for name, part in value.items()}
    if isinstance(value, (list, tuple)):
        return [_plain(part) for part in value]
    return value


def _sha256(value: Any) -> bytes:
    text = json.dumps(_plain(value), ensure_ascii=False, sort_keys=True)
    return hashlib.sha256(text.encode("utf-8", "surrogatepass")).digest()


class Digest(NamedTuple):
    """The sha256 of a question (with its subject) and of an answer."""

    question: bytes
    answer: bytes

    @property
    def mark(self) -> bytes:
        return self.question[:QUESTION] + self.answer[: MARK - QUESTION]


def digest(subject: str, content: Content) -> Digest:
    return Digest(_sha256([subject, content.question]), _sha256(content.answer))


def set_sha256(digests: Iterable[Digest]) -> str:
    """One sha256 of all items, in any order."""
    return hashlib.sha256(b"".join(sorted(one.question + one.answer for one in digests))).hexdigest()


# -- the official set --------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class OfficialSet:
    """title: `MMLU test set`; sha256: of all items; marks: of each item, by subject and id, in the official order;
    examples: the marks of the few-shot examples by subject; examples_called: what stands there, in words."""

    title: str
    sha256: str
    marks: dict[str, dict[str, bytes]]
    examples: dict[str, list[bytes]]
    examples_called: str = "few-shot examples"


def read_official(name: str) -> OfficialSet | None:
    """The official set of this name; None where none is known."""
    path = FOLDER / f"{name}.json"
    if not path.is_file():
        return None
    found = json.loads(path.read_text(encoding="utf-8"))
    marks = {}
    for subject, text in found["subjects"].items():
        parts = _unpacked(text)
        ids = found["ids"].get(subject) or {"before": f"{subject}/", "numbers": [[0, len(parts)]]}
        numbers = (number for first, count in ids["numbers"] for number in range(first, first + count))
        names = (f"{ids['before']}{number}" for number in numbers)
        marks[subject] = dict(zip(names, parts, strict=True))
    examples = {subject: _unpacked(text) for subject, text in found["examples"].items()}
    return OfficialSet(found["title"], found["sha256"], marks, examples, found["examples_called"])


def write_official(path: Path, official: OfficialSet, source: str) -> None:
    """The set as a file. Ids are kept only where they are not the subject and the number in it."""
    ids = {}
    for subject, marks in official.marks.items():
        if list(marks) != [f"{subject}/{number}" for number in range(len(marks))]:
            before = next(iter(marks)).rpartition("/")[0] + "/"
            ids[subject] = {"before": before, "numbers": _runs(int(name.removeprefix(before)) for name in marks)}
    known = {
        "title": official.title,
        "source": source,
        "items": sum(map(len, official.marks.values())),
        "sha256": official.sha256,
        "subjects": {subject: _packed(marks.values()) for subject, marks in official.marks.items()},
        "ids": ids,
        "examples": {subject: _packed(marks) for subject, marks in official.examples.items()},
        "examples_called": official.examples_called,
    }
    lines = ",\n".join(f"{json.dumps(name)}: {_by_line(value)}" for name, value in known.items())
    path.write_text(f"{{\n{lines}\n}}\n", encoding="utf-8")


def _runs(numbers: Iterable[int]) -> list[list[int]]:
    """The numbers as [first, how many] of each run of consecutive ones."""
    runs: list[list[int]] = []
    for number in numbers:
        if runs and number == sum(runs[-1]):
            runs[-1][1] += 1
        else:
            runs.append([number, 1])
    return runs


def _by_line(value: Any) -> str:
    """JSON with a line for each subject."""
    if not isinstance(value, dict) or not value:
        return json.dumps(value)
    return "{\n" + ",\n".join(f" {json.dumps(name)}: {json.dumps(part)}" for name, part in value.items()) + "\n}"


def _packed(marks: Iterable[bytes]) -> str:
    return base64.b64encode(b"".join(marks)).decode()


def _unpacked(text: str) -> list[bytes]:
    data = base64.b64decode(text)
    return [data[start : start + MARK] for start in range(0, len(data), MARK)]
