"""Result folders as the report takes them: figures, tables and items of each run."""

import csv
import io
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from qwen_eval.data.readers import read_text
from qwen_eval.errors import UserError
from qwen_eval.reporting.finished import read_records, read_run, unfinished

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


def read_runs(given: Iterable[Path], with_unfinished: bool = False) -> list[Run]:
    """Every run in these folders, at any depth, each once; those of a benchmark together. with_unfinished: take runs
    that are not at their end, too.

    Raises UserError, in one line, for a folder without results, a run that is not at its end, and files that cannot be
    read.
    """
    folders = {place.resolve(): place for path in given for place in run_folders(path)}
    runs = [read_page_run(folder, with_unfinished) for folder in folders.values()]
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


def read_page_run(folder: Path, with_unfinished: bool = False) -> Run:
    state = unfinished(folder)
    if state and with_unfinished and (folder / "samples.jsonl").exists():
        records = list(read_records(folder / "samples.jsonl").values())
        count = "1 item is" if len(records) == 1 else f"{len(records):,} items are"
        return Run(folder, {}, records=records, notes=[f"unfinished: {state}; {count} there, no figures"])
    if state:
        raise UserError(f"{folder}: {state}, or show it as it is with --unfinished")
    run = read_run(folder)
    records = list(run.records().values())
    tables, grid = read_tables(folder / "table.csv"), read_grid(folder / "grid.csv")
    return Run(folder, run.results, tables, grid, records, differing(records, folder / "disagreements.txt"))


def differing(records: Iterable[Mapping[str, Any]], listed: Path) -> frozenset[str]:
    """The ids on which protocol and robust extraction differ: as the run listed them, else by the verdicts."""
    if listed.exists():
        return frozenset(read_text(listed).split("\n")) - {""}
    return frozenset(row["id"] for row in records if row["correct"] != row.get("correct_robust", row["correct"]))


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
