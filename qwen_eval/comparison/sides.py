"""What is compared: a run of this harness, or the samples of lm-evaluation-harness, both as rows of one form."""

import json
import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from qwen_eval.comparison import lm_eval_files
from qwen_eval.comparison.rows import Key, Row
from qwen_eval.data.items import PRESENT
from qwen_eval.errors import UserError
from qwen_eval.reporting.finished import MARKED, FinishedRun, read_run, unfinished

FIELDS = {name: PRESENT for name in ("subject", "prompt", "prompt_sha256", "item_sha256", "prediction", "gold")}


@dataclass
class Side:
    """One benchmark of A or of B. path: where it lies; settings: how it was asked, by name; data_sha256: of all its
    data, prompts included ("" where nothing says so); lm_eval: from lm-evaluation-harness; missing: ids of items to
    which there is no reply; remarks: what a reader should know of how it was read."""

    path: Path
    benchmark: str
    model: str
    rows: dict[Key, Row]
    settings: Mapping[str, Any]
    data_sha256: str = ""
    lm_eval: bool = False
    missing: list[str] = field(default_factory=list)
    remarks: list[str] = field(default_factory=list)


def read_sides(
    path: Path, filter_name: str | None = None, metric: str | None = None
) -> tuple[dict[str, Side], list[str]]:
    """Every benchmark in a folder or file, by its name; and notes on runs in it that are not finished.

    A folder is one of a run, one with such folders in it (at any depth), or one with the `samples_*.jsonl` of
    lm-evaluation-harness, which may also be given as a file. filter_name, metric: which of its rows and fields count.
    Raises UserError in one line.
    """
    if not path.exists():
        raise UserError(f"{path}: no such file or folder")
    if path.is_file():
        return _lm_eval([path], filter_name, metric), []
    if (path / "samples.jsonl").exists() or (path / "results.json").exists():
        side = read_side(path)
        return {side.benchmark: side}, []
    folders = sorted(file.parent for file in path.rglob("samples.jsonl"))
    runs = [folder for folder in folders if not unfinished(folder)]
    if runs:
        return _named([read_side(folder) for folder in runs], path), [
            f"{one}: {unfinished(one)}" for one in folders if one not in runs
        ]
    if files := lm_eval_files.newest(path):
        return _lm_eval(files, filter_name, metric), []
    if folders:
        raise UserError(f"{folders[0]}: {unfinished(folders[0])}")
    raise UserError(f"{path} holds no results: neither results.json and samples.jsonl, nor samples_*.jsonl of lm-eval")


def _named(sides: list[Side], path: Path) -> dict[str, Side]:
    """The sides by benchmark; of several runs of one, those in folders of another name by that name too."""
    names = [side.benchmark for side in sides]
    found: dict[str, Side] = {}
    for side in sides:
        name = side.benchmark
        if names.count(name) > 1 and side.path.name != name:
            name = f"{name} ({side.path.name})"
        if name in found:
            raise UserError(f"{path} has two runs of {side.benchmark}, in {found[name].path} and {side.path}; name one")
        found[name] = side
    return found


def read_side(folder: Path) -> Side:
    """A finished run of this harness."""
    run = read_run(folder)
    return Side(
        folder,
        run.benchmark,
        run.model,
        rows_of(run),
        flat({name: value for name, value in run.settings.items() if name != "benchmark"}),
        str(run.manifest.get("data_sha256") or ""),
        missing=[str(one.get("id")) for one in run.results.get("missing", []) if isinstance(one, dict)],
    )


def rows_of(run: FinishedRun) -> dict[Key, Row]:
    """The items behind the run's figures."""
    found = {
        key: Row(
            record["subject"],
            record["prompt"],
            record["prompt_sha256"],
            record["item_sha256"],
            record["prediction"] or str(record.get("response", "")),
            record["gold"],
            record["correct"],
            record,
        )
        for key, record in run.records({**MARKED, **FIELDS}).items()
    }
    if not found:
        raise UserError(f"{run.folder / 'samples.jsonl'} is empty: no item was finished")
    return found


def flat(settings: Mapping[str, Any], prefix: str = "") -> dict[str, Any]:
    """Nested settings by names such as `decoding.temperature`. Control tokens among the stop strings are left out: they
    belong to the model's vocabulary."""
    found: dict[str, Any] = {}
    for name, value in settings.items():
        if isinstance(value, dict):
            found |= flat(value, f"{prefix}{name}.")
        elif name == "stop" and isinstance(value, list):
            found[prefix + name] = [one for one in value if not re.fullmatch(r"<[^<>]*>", str(one))]
        else:
            found[prefix + name] = value
    return found


def _lm_eval(files: list[Path], filter_name: str | None, metric: str | None) -> dict[str, Side]:
    found: dict[str, Side] = {}
    for name, group in lm_eval_files.by_benchmark(files).items():
        rows, settings, remarks = lm_eval_files.read(group, filter_name, metric)
        place = group[0] if len(group) == 1 else group[0].parent
        found[name] = Side(place, name, "", rows, settings, lm_eval=True, remarks=remarks)
    return found


def described(settings: Mapping[str, Any], name: str) -> str:
    """A setting's value as JSON; `not set` where it has none."""
    return json.dumps(settings[name], ensure_ascii=False, default=str) if name in settings else "not set"
