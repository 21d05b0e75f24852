"""`--rescore FILE`: given replies in place of a model's. A line is {"id", "response"}; a samples.jsonl is one too."""

import json
import math
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from .data import Item, file_sha256, read_jsonl
from .errors import UserError


class Replies:
    """The replies of a file, by id; human-eval's {"task_id", "completion"} too, several a task in order."""

    def __init__(self, path: Path) -> None:
        rows = read_jsonl(path, needs=())
        if not rows:
            raise UserError(f"{path} has no replies in it")
        self.path = path
        self.sha256 = file_sha256(path)
        self.by_key: dict[tuple[str, int], dict[str, Any]] = {}
        self.have_logits = "choice_logits" in rows[0]
        several = "task_id" in rows[0]
        seen: dict[str, int] = {}
        for number, row in enumerate(rows, start=1):
            name = row.get("task_id" if several else "id")
            reply = row.get("completion" if several else "response", row.get("choice_logits"))
            if not isinstance(name, str) or not isinstance(reply, (str, list)):
                raise UserError(f"{path} line {number} is no reply: it needs a text `id` and a text `response`")
            sample = seen.get(name, 0) if several else row.get("sample", 0)
            if type(sample) is not int:
                raise UserError(f"{path} line {number}: `sample` is {sample!r}, not a whole number")
            seen[name] = sample + 1
            if (name, sample) in self.by_key:
                raise UserError(f"{path} line {number}: duplicate id {name!r}")
            self.by_key[(name, sample)] = {**row, "response": reply}

    def match(self, loaded: Sequence[Item], chosen: Sequence[Item], part: bool) -> list[Item]:
        """The chosen items that have a reply. A reply to no loaded item is an error (with `part`, only subjects that
        were loaded count, since the others were left out by a flag)."""
        known = {item.key for item in loaded}
        subjects = {item.subject for item in loaded}
        unknown = [
            key for key in self.by_key if key not in known and not (part and key[0].split("/")[0] not in subjects)
        ]
        if unknown:
            raise UserError(
                f"{self.path}: unknown id {unknown[0][0]!r} ({len(unknown)} of {len(self.by_key)} fit no item)"
            )
        if not (kept := [item for item in chosen if item.key in self.by_key]):
            raise UserError(f"{self.path} has no reply to any of the {len(chosen)} items chosen")
        return kept

    def text(self, item: Item) -> str:
        reply = self.by_key[item.key]["response"]
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


def _finite(value: Any) -> bool:
    return isinstance(value, (int, float)) and math.isfinite(value)


def keep_generated(folder: Path) -> None:
    """UserError where rescoring, which starts its folder afresh, would drop the samples of a model's run."""
    samples, results = folder / "samples.jsonl", folder / "results.json"
    if samples.exists() and samples.stat().st_size:
        try:
            rescored = json.loads(results.read_text(encoding="utf-8"))["manifest"].get("replies_sha256")
        except (ValueError, KeyError, OSError):  # a run that was killed has samples and no results
            rescored = None
        if rescored is None:
            raise UserError(f"{folder} holds a model's run; give --rescore another -o (or --overwrite)")
