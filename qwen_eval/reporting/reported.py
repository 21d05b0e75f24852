"""The published figures: which row of reported_numbers.csv a score is compared with.

A checkpoint is known by its name (`Qwen/Qwen-7B-Chat-Int4`, or a folder so called), by `--reported-as`, or not at all.
"""

import csv
import difflib
import json
import re
from functools import cache
from pathlib import Path
from typing import NamedTuple

from qwen_eval.errors import UserError

REPORTED_CSV = Path(__file__).with_name("reported_numbers.csv")


class Reported(NamedTuple):
    value: float
    decimals: int  # how precisely it was printed
    source: str
    version: str
    any_shots: bool = False  # how many examples it was measured with is not said


class ModelName(NamedTuple):
    """A model of the cards: `Qwen-7B-Chat`, version `v1.1` (or "" for the newest), variant `Int4` (or "")."""

    model: str
    version: str = ""
    variant: str = ""


@cache
def _rows(path: Path) -> tuple[dict[str, str], ...]:
    with open(path, newline="", encoding="utf-8") as lines:
        return tuple(csv.DictReader(lines))


def parse_model_name(text: str) -> ModelName:
    """`Qwen/Qwen-7B-Chat-Int4`, a folder of that name, a hub cache folder, or `Qwen-7B@v1.0`."""
    if Path(text).name in ("", ".."):  # `.`, `..`: the name is the folder's own
        text = str(Path(text).resolve())
    if cached := re.search(r"models--([^/]+)--([^/]+)", text):
        name, version = cached.group(2), ""
    else:
        name, _, version = Path(text).name.partition("@")
    match = re.fullmatch(r"(.+?)[-_](Int4|Int8|BF16)", name, flags=re.IGNORECASE)
    if not match:
        return ModelName(name, version)
    variant = {"int4": "Int4", "int8": "Int8", "bf16": "BF16"}[match.group(2).lower()]
    return ModelName(match.group(1), version, variant)


def known_models(path: Path = REPORTED_CSV) -> list[str]:
    return sorted({row["model"] for row in _rows(path)})


def parse_known_name(text: str, path: Path = REPORTED_CSV) -> ModelName:
    """The same for a name that must be in the reported figures (`--reported-as`). Raises UserError for any other."""
    name, known = parse_model_name(text), known_models(path)
    if name.model.lower() not in [model.lower() for model in known]:
        near = difflib.get_close_matches(name.model, known, n=1)
        hint = f"did you mean {near[0]!r}?" if near else f"there are {len(known)}, such as 'Qwen-7B' and 'Qwen-7B-Chat'"
        raise UserError(f"no reported figure is of a model {name.model!r} (--reported-as); {hint}")
    return name


def find(
    name: ModelName,
    benchmark: str,
    metric: str,
    shots: int | None,
    split: str = "",
    path: Path = REPORTED_CSV,
    setting: str | None = None,
) -> Reported | None:
    """The published figure for this model, benchmark, metric, number of shots and split; the newest version first.

    setting: how one float checkpoint was run, in the column `variant` (long-context switches). Not every version was
    run in every way: without a version in the name all such figures are those of the newest that has any.

    A row that leaves its shots or split empty stands for any, but only where no row of the same model, benchmark and
    metric fills that field; a figure without a variant is the float model's, never a quantised one's.
    """
    same = [
        row
        for row in _rows(path)
        if (row["model"].lower(), row["benchmark"], row["metric"]) == (name.model.lower(), benchmark, metric)
    ]
    if setting is not None:
        if name.variant or not same:
            return None
        name = ModelName(name.model, name.version or max(row["version"] for row in same), setting)
    wanted = {"shots": "" if shots is None else str(shots), "split": split}
    open_fields = {field for field in wanted if not any(row[field] for row in same)}

    def fits(row: dict[str, str]) -> bool:
        if name.version and row["version"] != name.version:
            return False
        if row["variant"] != name.variant and not (row["variant"] == "BF16" and not name.variant):
            return False
        return all(field in open_fields or row[field] == text for field, text in wanted.items())

    if not (fitting := [row for row in same if fits(row)]):
        return None
    row = max(fitting, key=lambda row: (row["version"], not row["variant"]))
    text = row["value"]
    decimals = len(text.partition(".")[2]) or 1
    return Reported(float(text), decimals, row["source"], row["version"], "shots" in open_fields)


def version_of(model: str, checkpoint: Path | None) -> str:
    """Qwen-7B came twice under one name: v1.0 was trained at 2,048 tokens, v1.1 at 8,192. "" for all others."""
    if checkpoint is None or not model.startswith("Qwen-7B"):
        return ""
    config = json.loads((checkpoint / "config.json").read_text(encoding="utf-8-sig"))
    return "v1.0" if config.get("seq_length") == 2048 or "n_embd" in config else ""
