"""A run read back from its output folder. What compares runs, exports them or makes a page of them begins here."""

import fcntl
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from qwen_eval.data.readers import BOOLEAN, OBJECT, TEXT, WHOLE, Kind, check_row, numbered_rows, read_json
from qwen_eval.errors import UserError, disk_error, one_line
from qwen_eval.reporting.samples import unpacked

Key = tuple[str, int]  # id, sample
MARKED: Mapping[str, Kind] = {"id": TEXT, "correct": BOOLEAN}  # what every line has


@dataclass(frozen=True)
class FinishedRun:
    """A run that came to its end. results: results.json."""

    folder: Path
    results: Mapping[str, Any]

    @property
    def benchmark(self) -> str:
        return str(self.results["benchmark"])

    @property
    def model(self) -> str:
        return str(self.results["model"])

    @property
    def manifest(self) -> Mapping[str, Any]:
        found: Mapping[str, Any] = self.results["manifest"]
        return found

    @property
    def settings(self) -> Mapping[str, Any]:
        found = self.manifest.get("settings")
        return found if isinstance(found, dict) else {}

    def records(self, fields: Mapping[str, Kind] = MARKED) -> dict[Key, dict[str, Any]]:
        """The records behind the figures, flat, in the order of samples.jsonl; others of an earlier start are left out.

        fields: those that a line must have. UserError where samples.jsonl does not hold just these: a run that was
        started again is not finished.
        """
        found = read_records(self.folder / "samples.jsonl", fields)
        items = self.results.get("items")
        if not isinstance(items, dict):  # a folder of an earlier version
            return found
        if "ids" in items:
            wanted = {(name, sample) for name, sample in items["ids"]}
            found = {key: record for key, record in found.items() if key in wanted}
        if len(found) != items["answered"]:
            raise UserError(
                f"{self.folder}: its figures are of {items['answered']} items and samples.jsonl has {len(found)} of "
                "them; the run was started again and is not finished (the same command goes on)"
            )
        return found


def read_run(folder: Path) -> FinishedRun:
    """The run in this folder. UserError, in one line, where there is none, or none that came to its end."""
    if not folder.is_dir():
        raise UserError(f"{folder} is no folder of results")
    path = folder / "results.json"
    if state := unfinished(folder):
        raise UserError(f"{folder}: {state}")
    if not (folder / "samples.jsonl").exists():
        raise UserError(f"{folder} has no samples.jsonl")
    results = read_json(path)
    try:
        check_row(results, {"benchmark": TEXT, "model": TEXT, "scores": OBJECT, "manifest": OBJECT}, path.name)
        for name, score in results["scores"].items():
            check_row(score, ("n",), f"the score {name!r}")
    except UserError as error:
        raise UserError(f"{path} is not one of this harness ({one_line(error)})") from error
    return FinishedRun(folder, results)


def unfinished(folder: Path) -> str:
    """Why the folder holds no finished run, and what to do; "" for one that does."""
    samples = folder / "samples.jsonl"
    if samples.exists() and _in_use(samples):
        return "this run is still going; wait for it"
    if (folder / "results.json").exists():
        return ""
    if samples.exists():
        return "this run was stopped before its end (no results.json); start its command again"
    return "it holds no results of a run: no results.json and no samples.jsonl"


def _in_use(samples: Path) -> bool:
    """Whether a run writes this file right now: it holds a lock on it (journal.py)."""
    with disk_error(samples), open(samples, "rb") as file:
        try:
            fcntl.flock(file, fcntl.LOCK_SH | fcntl.LOCK_NB)
        except BlockingIOError:
            return True
    return False


def read_records(path: Path, fields: Mapping[str, Kind] = MARKED) -> dict[Key, dict[str, Any]]:
    """The finished items of a samples.jsonl, flat; of several lines of an item the last counts."""
    found = {}
    for where, line in read_lines(path, fields):
        try:
            found[line["id"], line["sample"]] = unpacked(line)
        except (TypeError, ValueError) as error:
            raise UserError(f"{where} is damaged ({one_line(error)})") from error
    return found


def read_lines(path: Path, fields: Mapping[str, Kind] = MARKED) -> list[tuple[str, dict[str, Any]]]:
    """The lines of a samples.jsonl as they are there, each with where it stands; `sample` is 0 where a line has none. A
    last line that a kill has cut does not count.

    fields: those that a line must have. Raises UserError that names file and line.
    """
    with disk_error(path):
        data = path.read_bytes()
    try:
        text = data[: data.rfind(b"\n") + 1].decode("utf-8-sig")
        return [
            (where, check_row({"sample": 0, **row}, {"sample": WHOLE}, where))
            for where, row in numbered_rows(text, path, fields)
        ]
    except (UnicodeDecodeError, UserError) as error:
        raise UserError(f"{path} is not a samples.jsonl of this harness ({one_line(error)})") from error
