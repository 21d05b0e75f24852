"""Is it the official data? The items of a run beside the fingerprint of the official set (fingerprints.py)."""

from collections import defaultdict
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple

from qwen_eval.data.fingerprints import QUESTION, Content, OfficialSet, digest, set_sha256

MOST_NAMED = 5  # subjects that a note names


class Change(NamedTuple):
    """An item whose content is another than the official one's. part: `the question`, `the answer` or both."""

    id: str
    part: str

    def __str__(self) -> str:
        return f"{self.id} ({self.part})"


@dataclass(frozen=True)
class Comparison:
    """What the items of a run are beside the official set.

    items: how many there are; subjects: those of the official set that were asked for; unasked: those that --subjects
    leaves out; missing, added: ids; absent: how many items are missing of each subject without any; reordered: items
    stand elsewhere than in the official set; unnamed: an item differs, but it cannot be said which; examples: those
    that differ.
    """

    official_set: OfficialSet
    items: int
    sha256: str
    subjects: list[str]
    unasked: list[str]
    missing: list[str]
    added: list[str]
    changed: list[Change]
    absent: dict[str, int]
    reordered: bool
    unnamed: bool
    examples: list[Change]

    @property
    def official(self) -> bool:
        """Whether these are the official items, of the subjects that were asked for."""
        return not (self.missing or self.added or self.changed or self.unnamed)

    @property
    def another(self) -> bool:
        """Whether no item is of the official set, nor its question."""
        return len(self.added) == self.items

    @property
    def departures(self) -> list[str]:
        """How the examples leave the protocol."""
        return [f"other {self.official_set.examples_called}"] if self.examples else []

    @property
    def note(self) -> str:
        """The line for the table."""
        title = f"the official {self.official_set.title}"
        if self.unasked:
            title = f"{self._asked()} of {title}"
        if self.official:
            order = " (the same items in another order)" if self.reordered else ""
            found = f"data: {title}, {self.items:,} items{order}"
        elif self.another:
            found = f"data: none of the {self.items:,} items is of {title}"
        else:
            found = f"data: not {title}: {'; '.join(self._differences())}"
        if self.examples:
            found += f"; other {self.official_set.examples_called}: {_such(self.examples, 'examples')}"
        return found

    def _asked(self) -> str:
        """The subjects of --subjects in words."""
        if len(self.subjects) <= MOST_NAMED:
            return ", ".join(self.subjects)
        count = f"{len(self.subjects)} of the {len(self.subjects) + len(self.unasked)} subjects"
        return count + (f" (without {', '.join(self.unasked)})" if len(self.unasked) <= MOST_NAMED else "")

    def _differences(self) -> list[str]:
        found = [f"without {name} ({count:,} items)" for name, count in [*self.absent.items()][:MOST_NAMED]]
        if (more := len(self.absent) - MOST_NAMED) > 0:
            found.append(f"without {more} more subjects")
        of_absent = {name for subject in self.absent for name in self.official_set.marks[subject]}
        rest = [name for name in self.missing if name not in of_absent]
        for word, names in (("missing", rest), ("added", self.added), ("changed", self.changed)):
            if names:
                found.append(f"{word}: {_such(names, 'items')}")
        return found or ["an answer differs, but it cannot be said which"]

    def as_json(self) -> dict[str, Any]:
        """For results.json."""
        return {
            "set": self.official_set.title,
            "sha256": self.sha256,
            "official": self.official,
            "missing": len(self.missing),
            "added": len(self.added),
            "changed": len(self.changed),
            "reordered": self.reordered,
            "other_examples": [str(change) for change in self.examples],
        }


def _such(names: Sequence[Any], what: str) -> str:
    return str(names[0]) if len(names) == 1 else f"{len(names):,} {what}, such as {names[0]}"


def compare(
    official: OfficialSet,
    contents: Mapping[str, tuple[str, Content]],
    examples: Mapping[str, Sequence[Content]],
    asked: str | None = None,
) -> Comparison:
    """Compare items with the official set.

    contents: subject and content of each item by its id; examples: of each subject's prompt, in its order; asked: the
    value of --subjects, which leaves the other subjects out of the comparison.
    """
    wanted = {name.strip() for name in asked.split(",")} if asked else set(official.marks)
    subjects = [subject for subject in official.marks if subject in wanted]
    known = {name: mark for subject in subjects for name, mark in official.marks[subject].items()}
    digests = {name: digest(*one) for name, one in contents.items()}
    given = {name: one.mark for name, one in digests.items()}
    sha256, whole = set_sha256(digests.values()), len(subjects) == len(official.marks)
    missing, added, changed, moved = _match(given, known)
    there = {subject for subject, _ in contents.values()}
    named = bool(missing or added or changed)
    return Comparison(
        official_set=official,
        items=len(given),
        sha256=sha256,
        subjects=subjects,
        unasked=[subject for subject in official.marks if subject not in wanted],
        missing=missing,
        added=added,
        changed=changed,
        absent={subject: len(official.marks[subject]) for subject in subjects if subject not in there},
        reordered=moved or (list(given) != list(known) and not named),
        unnamed=whole and not named and sha256 != official.sha256,
        # other data have other examples
        examples=[] if len(added) == len(given) else _other_examples(official, examples),
    )


def _match(given: Mapping[str, bytes], known: Mapping[str, bytes]) -> tuple[list[str], list[str], list[Change], bool]:
    """(missing ids, added ids, changed items, whether items stand under other ids): by id and content, then by content,
    then by question, then by id."""
    left = [name for name, mark in given.items() if known.get(name) != mark]
    gone = [name for name, mark in known.items() if given.get(name) != mark]
    equal = len(given) - len(left)
    moved, left, gone = _pair(left, gone, given.__getitem__, known.__getitem__)
    other_answer, left, gone = _pair(
        left, gone, lambda name: given[name][:QUESTION], lambda name: known[name][:QUESTION]
    )
    changed = [Change(name, "the answer") for name in other_answer]
    if equal or moved or changed:  # else these are other questions, whatever their ids
        other_question, left, gone = _pair(left, gone, str, str)
        changed += [Change(name, _part(given[name], known[name])) for name in other_question]
    return gone, left, changed, bool(moved)


def _part(given: bytes, known: bytes) -> str:
    """What of two marks differs."""
    parts = [given[:QUESTION] != known[:QUESTION], given[QUESTION:] != known[QUESTION:]]
    return "question and answer" if all(parts) else "the question" if parts[0] else "the answer"


Key = Callable[[str], Any]


def _pair(left: list[str], gone: list[str], given: Key, known: Key) -> tuple[list[str], list[str], list[str]]:
    """Pair ids that have the same key, those of the same name first. Returns the paired ids of `left`, and what is left
    of both lists."""
    by_key: dict[Any, list[str]] = defaultdict(list)
    for name in gone:
        by_key[known(name)].append(name)
    pairs: dict[str, str] = {}
    for name in left:
        if name in by_key[given(name)]:
            by_key[given(name)].remove(name)
            pairs[name] = name
    for name in left:
        if name not in pairs and by_key[given(name)]:
            pairs[name] = by_key[given(name)].pop(0)
    taken = set(pairs.values())
    rest = [name for name in left if name not in pairs]
    return [name for name in left if name in pairs], rest, [name for name in gone if name not in taken]


def _other_examples(official: OfficialSet, examples: Mapping[str, Sequence[Content]]) -> list[Change]:
    """The examples that are not the official ones in their place."""
    found = []
    for subject, contents in examples.items():
        known = official.examples.get(subject, [])
        for number, content in enumerate(contents):
            name = f"example {number + 1} of {len(contents)} of {subject}"
            mark = digest("", content).mark
            if number >= len(known):
                found.append(Change(name, "not in the official set"))
            elif mark != known[number]:
                found.append(Change(name, _part(mark, known[number])))
    return found
