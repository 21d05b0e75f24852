"""Result folders as the report takes them: figures, tables and items of each run."""

import csv
import fcntl
import io
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from qwen_eval.data.items import BOOLEAN, OBJECT, TEXT, check_row
from qwen_eval.data.readers import numbered_rows, read_json, read_text
from qwen_eval.errors import UserError, one_line
from qwen_eval.reporting.samples import unpacked

Cells = list[dict[str, Any]]
FIGURE = ("value", "ci95_low", "ci95_high", "n")


@dataclass
class Run:
    """One run of one benchmark.

    results: results.json, empty for an unfinished run; tables: title -> rows (name, value, ci95_low, ci95_high, n) of
    the parts of a benchmark; grid: the cells of grid.csv, head first; records: the lines of samples.jsonl, flat;
    differ: ids on which protocol and robust extraction differ; notes: what a reader should know beside the run's own.
    """

    folder: Path
    results: Mapping[str, Any]
    tables: Mapping[str, Cells] = field(default_factory=dict)
    grid: Sequence[Sequence[str]] = ()
    records: Sequence[Mapping[str, Any]] = ()
    differ: frozenset[str] = frozenset()
    notes: list[str] = field(default_factory=list)

    @property
    def unfinished(self) -> bool:
        return not self.results

    @property
    def benchmark(self) -> str:
        """Of an unfinished run: the folder's name, for nothing else says it."""
        return str(self.results.get("benchmark", self.folder.resolve().name))

    @property
    def model(self) -> str:
        return str(self.results.get("model", self.folder.resolve().parent.name))

    @property
    def settings(self) -> Mapping[str, Any]:
        found = self.results.get("manifest", {}).get("settings")
        return found if isinstance(found, dict) else {}

    @property
    def asked(self) -> str:
        """How the model was asked: `chat, 0-shot`; "" where that is not known."""
        if "chat" not in self.settings:
            return ""
        shots = self.settings.get("num_fewshot")
        return ("chat" if self.settings["chat"] else "base") + ("" if shots is None else f", {shots}-shot")


def read_runs(given: Iterable[Path], unfinished: bool = False) -> list[Run]:
    """Every run in these folders, at any depth, each once; those of a benchmark together. unfinished: take runs that
    are not at their end, too.

    Raises UserError, in one line, for a folder without results, a run that is not at its end, and files that cannot be
    read.
    """
    folders = {place.resolve(): place for path in given for place in run_folders(path)}
    runs = [read_run(folder, unfinished) for folder in folders.values()]
    benchmarks = list(dict.fromkeys(run.benchmark for run in runs))
    return sorted(runs, key=lambda run: benchmarks.index(run.benchmark))


def run_folders(path: Path) -> list[Path]:
    """The folders of runs in `path`, or `path` itself."""
    if not path.exists():
        raise UserError(f"{path}: no such folder")
    if not path.is_dir():
        raise UserError(f"{path} is a file; give the folder of a run, or a folder with such folders in it")
    found = {file.parent for name in ("results.json", "samples.jsonl") for file in path.rglob(name)}
    if not found:
        empty = not any(path.iterdir())
        what = "is empty" if empty else "holds no results of a run: no results.json and no samples.jsonl"
        raise UserError(f"{path} {what}; give an output folder (-o) of a script, or a folder such as results/")
    return sorted(found)


def read_run(folder: Path, unfinished: bool = False) -> Run:
    results, samples = folder / "results.json", folder / "samples.jsonl"
    going = samples.exists() and in_use(samples)
    if going or not results.exists():
        records = read_records(samples)
        count = "1 item is" if len(records) == 1 else f"{len(records):,} items are"
        state = "is still going" if going else "was stopped before its end (no results.json)"
        if not unfinished:
            next_step = "wait for it" if going else "start its command again"
            raise UserError(f"{folder}: this run {state}; {next_step}, or show it as it is with --unfinished")
        return Run(folder, {}, records=records, notes=[f"unfinished: this run {state}; {count} there, no figures"])
    run = Run(folder, checked_results(results), read_tables(folder / "table.csv"), read_grid(folder / "grid.csv"))
    if not samples.exists():
        run.notes.append("samples.jsonl is not in the folder: its items cannot be shown")
        return run
    run.records = read_records(samples)
    run.differ = differing(run.records, folder / "disagreements.txt")
    run.notes += count_notes(run)
    return run


def in_use(samples: Path) -> bool:
    """Whether a run writes this file right now: it holds a lock on it (reporting/journal.py)."""
    with open(samples, "rb") as file:
        try:
            fcntl.flock(file, fcntl.LOCK_SH | fcntl.LOCK_NB)
        except BlockingIOError:
            return True
    return False


def checked_results(path: Path) -> dict[str, Any]:
    results = check_row(
        read_json(path), {"benchmark": TEXT, "model": TEXT, "scores": OBJECT, "manifest": OBJECT}, f"{path}"
    )
    for name, score in results["scores"].items():
        check_row(score, ("n",), f"{path}: the score {name!r}")
    return results


def read_records(path: Path) -> list[dict[str, Any]]:
    """The items; of several lines of an item the last counts, and a last line that a kill has cut does not."""
    text = read_text(path)
    found: dict[tuple[str, int], dict[str, Any]] = {}
    for where, row in numbered_rows(text[: text.rfind("\n") + 1], path, {"id": TEXT, "correct": BOOLEAN}):
        try:
            found[row["id"], row.get("sample", 0)] = unpacked(row)
        except (TypeError, ValueError) as error:
            raise UserError(f"{where} is damaged ({one_line(error)})") from error
    return list(found.values())


def differing(records: Iterable[Mapping[str, Any]], listed: Path) -> frozenset[str]:
    """The ids on which protocol and robust extraction differ: as the run listed them, else by the verdicts."""
    if listed.exists():
        return frozenset(read_text(listed).split("\n")) - {""}
    return frozenset(row["id"] for row in records if row["correct"] != row.get("correct_robust", row["correct"]))


def count_notes(run: Run) -> list[str]:
    """Says so where the folder holds more items than the figures are of: `--limit` and such leave others there."""
    scores = run.results["scores"].values()
    largest = max((score["n"] for score in scores if isinstance(score["n"], int)), default=0)
    flags = [name for name in ("limit", "sample", "subjects") if run.results["manifest"].get(name)]
    items = len({row["id"] for row in run.records})
    if not flags or items <= largest or any(score.get("row", {}).get("metric") == "ppl" for score in scores):
        return []
    return [
        f"the figures are of at most {largest:,} items (--{', --'.join(flags)}); the folder holds {items:,}, all listed"
    ]


def read_tables(path: Path) -> dict[str, Cells]:
    """table.csv without the scores themselves, which results.json has."""
    found: dict[str, Cells] = {}
    for row in _csv_rows(path):
        if row.get("table") and row["table"] != "each figure":
            cells = {name: _number(row.get(name, "")) for name in FIGURE}
            found.setdefault(row["table"], []).append({"name": row.get("name", ""), **cells})
    return found


def read_grid(path: Path) -> list[list[str]]:
    return list(csv.reader(io.StringIO(read_text(path), newline=""))) if path.exists() else []


def _csv_rows(path: Path) -> Iterable[dict[str, str]]:
    return csv.DictReader(io.StringIO(read_text(path), newline="")) if path.exists() else ()


def _number(text: str) -> float | None:
    try:
        return float(text)
    except ValueError:
        return None
