"""What the tests of official sets share: the comparison without a run, MMLU's files, and its tables on the hub."""

import csv
from collections.abc import Callable
from pathlib import Path
from typing import Any

from qwen_eval.benchmark import Benchmark, Setting
from qwen_eval.data.official import Comparison
from qwen_eval.data.readers import read_csv
from qwen_eval.run import compare_data
from qwen_eval.runner import parse_flags

import evaluate_mmlu
import pyarrow
import pyarrow.parquet

Rows = list[list[str]]


def compared(benchmark: Benchmark, data: Path, *words: str, shots: int = 5) -> Comparison:
    """What a run with these flags says of the data."""
    flags = parse_flags(benchmark, "", words)
    setting = Setting(shots=shots, flags=flags, data_path=str(data))
    found = compare_data(benchmark, setting, list(benchmark.load(setting)))
    assert found is not None
    return found


def mmlu(data: Path, *words: str, shots: int = 5) -> Comparison:
    return compared(evaluate_mmlu.MMLU(), data, *words, shots=shots)


def read(path: Path) -> Rows:
    with open(path, newline="", encoding="utf-8") as lines:
        return list(csv.reader(lines))


def write(path: Path, rows: Rows) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    with open(path, "w", newline="", encoding="utf-8") as lines:
        csv.writer(lines).writerows(rows)


def edit(path: Path, change: Callable[[Rows], Any]) -> None:
    rows = read(path)
    change(rows)
    write(path, rows)


def hub_tables(data: Path, folder: Path) -> None:
    """MMLU as cais/mmlu has it: one table of all subjects for each split, the answers as numbers."""
    for split in ("test", "dev"):
        rows = [
            {
                "question": row["question"],
                "subject": subject,
                "choices": [row[letter] for letter in "ABCD"],
                "answer": "ABCD".index(row["answer"]),
            }
            for subject in evaluate_mmlu.SUBJECTS
            for row in read_csv(data / split / f"{subject}_{split}.csv", evaluate_mmlu.COLUMNS, header=False)
        ]
        path = folder / "all" / f"{split}-00000-of-00001.parquet"
        path.parent.mkdir(parents=True, exist_ok=True)
        pyarrow.parquet.write_table(pyarrow.Table.from_pylist(rows), path)
