"""What the page's program reads: the runs with their figures, and the items of each run, column by column."""

import math
import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from qwen_eval.errors import UserError
from qwen_eval.page.folders import Run
from qwen_eval.page.prefixes import share_beginnings
from qwen_eval.reporting.samples import FIELDS, NO_LOGITS, packed
from qwen_eval.stats import paired

Key = tuple[str, int]
SCORE = "value n reported reported_decimals reported_source reported_version verdict band".split()
SCORE += "difference difference_items smallest_difference".split()
PLAIN = ("response", "prediction", "prediction_robust", "gold", "finish", "new_tokens")


@dataclass(frozen=True)
class Flips:
    """What changed since a baseline. changed: key -> 1 gained, -1 lost; summary: for the page."""

    changed: Mapping[Key, int]
    summary: Mapping[str, Any]


def pick_baselines(runs: Sequence[Run], baselines: Sequence[Run]) -> list[Run | None]:
    """The baseline of each run: of the same benchmark, asked the same way; where several are, of the same folder name.

    UserError where no run has one.
    """
    found = [_baseline_of(run, baselines) for run in runs]
    if baselines and not any(found):
        there = ", ".join(sorted({f"{run.benchmark} ({run.asked})" for run in baselines}))
        raise UserError(f"--baseline {baselines[0].folder}: no run of these benchmarks is there, only {there}")
    return found


def _baseline_of(run: Run, baselines: Sequence[Run]) -> Run | None:
    same = [one for one in baselines if one.benchmark == run.benchmark and (run.unfinished or one.asked == run.asked)]
    named = [one for one in same if one.folder.resolve().name == run.folder.resolve().name]
    for group in (same, named):
        if len(group) == 1:
            return group[0]
    if len(same) > 1:
        places = ", ".join(str(one.folder) for one in same)
        raise UserError(f"--baseline: {run.folder} could be compared with {places}; name one of them")
    return None


def flips(run: Run, baseline: Run) -> Flips:
    """Items whose mark changed, and exact McNemar over all that both have."""
    before, now = _marks(baseline), _marks(run)
    changed = {key: 1 if now[key] else -1 for key in before.keys() & now.keys() if before[key] != now[key]}
    result = paired({str(key): mark for key, mark in before.items()}, {str(key): mark for key, mark in now.items()})
    sums = {_key(row): row.get("item_sha256") for row in baseline.records}
    other = sum(sums.get(_key(row)) != row.get("item_sha256") for row in run.records)
    summary = {
        "folder": str(baseline.folder), "n": result.n, "gained": result.gained, "lost": result.lost,
        "p": result.p_value, "other": other,
    }  # fmt: skip
    return Flips(changed, summary)


def _key(row: Mapping[str, Any]) -> Key:
    return row["id"], row.get("sample", 0)


def _marks(run: Run) -> dict[Key, bool]:
    return {_key(row): row["correct"] for row in run.records}


# -- one run -----------------------------------------------------------------------------------------------------------


def described(run: Run, label: str, compared: Flips | None) -> dict[str, Any]:
    """A run without its items."""
    return {
        "label": label,
        "folder": str(run.folder),
        "benchmark": run.benchmark,
        "model": run.model,
        "asked": run.asked,
        "unfinished": run.unfinished,
        "scores": [_score(name, score) for name, score in run.results.get("scores", {}).items()],
        "tables": [{"title": title, "rows": rows} for title, rows in run.tables.items()],
        "grid": run.grid,
        "notes": [*run.notes, *map(str, run.results.get("notes", ()))],
        "manifest": list(_flat(run.results.get("manifest", {}))),
        "items": len(run.records),
        "baseline": compared and compared.summary,
    }


def _score(name: str, score: Mapping[str, Any]) -> dict[str, Any]:
    row = score.get("row") if isinstance(score.get("row"), dict) else {}
    ends = score.get("ci95")
    low, high = ends if isinstance(ends, list) and len(ends) == 2 else (None, None)
    kept = {part: score.get(part) for part in SCORE}
    return {"name": name, **kept, "ci95_low": low, "ci95_high": high, "metric": (row or {}).get("metric", "")}


def _flat(values: Mapping[str, Any], before: str = "") -> Iterable[tuple[str, str]]:
    """Nested settings as (name, text): `settings.decoding.top_p`."""
    for name, value in values.items():
        if isinstance(value, dict) and value:
            yield from _flat(value, f"{before}{name}.")
        else:
            yield f"{before}{name}", "-" if value is None else str(value)


def columns(run: Run, compared: Flips | None) -> dict[str, Any]:
    """The items of a run, a list per field; texts that repeat are kept once."""
    records = sorted(run.records, key=in_order)
    prompts = share_beginnings([row.get("prompt", "") for row in records])
    subjects = sorted({row.get("subject", "") for row in records})
    place = {subject: number for number, subject in enumerate(subjects)}
    changed = compared.changed if compared else {}
    # a line of an older version may have fewer fields
    plain = {name: [row.get(name, FIELDS[name]) for row in records] for name in PLAIN}
    return {
        "id": [row["id"] for row in records],
        "sample": [row.get("sample", 0) for row in records],
        "subjects": subjects,
        "subject": [place[row.get("subject", "")] for row in records],
        "beginnings": prompts.beginnings,
        "prompt": prompts.texts,
        **plain,
        "logits": [_logits(row.get("choice_logits", NO_LOGITS)) for row in records],
        "details": [_details(row) for row in records],
        "correct": [int(row["correct"]) for row in records],
        "correct_robust": [int(row.get("correct_robust", row["correct"])) for row in records],
        "cut": [int(row.get("cut", False)) for row in records],
        "differ": [int(row["id"] in run.differ) for row in records],
        "flip": [changed.get(_key(row), 0) for row in records],
    }


def in_order(row: Mapping[str, Any]) -> tuple[Any, ...]:
    """What items are sorted by: their ids, numbers in them as numbers. samples.jsonl has them as they were finished."""
    parts = re.split(r"([0-9]+)", row["id"])
    return [
        (part if place % 2 == 0 else "", int(part) if place % 2 else 0) for place, part in enumerate(parts)
    ], row.get("sample", 0)


def _logits(values: Sequence[float]) -> list[float]:
    return [] if values == NO_LOGITS else list(values)


def _details(row: Mapping[str, Any]) -> str:
    """The benchmark's own fields, as the line has them: JSON as text."""
    text: str = packed({**FIELDS, **row})["details"]
    return "" if text == "{}" else text


def finite(value: Any) -> Any:
    """The value with null in the place of NaN and infinities, which JSON does not have."""
    if isinstance(value, dict):
        return {name: finite(part) for name, part in value.items()}
    if isinstance(value, (list, tuple)):
        return [finite(part) for part in value]
    return None if isinstance(value, float) and not math.isfinite(value) else value


def labels(runs: Sequence[Run]) -> list[str]:
    """A name for each run, unique in its benchmark: the model, how it was asked where that differs, or the folder."""
    found = []
    for run in runs:
        beside = [one for one in runs if one.benchmark == run.benchmark]
        names = (run.model, f"{run.model} ({run.asked})", _short(run.folder, beside))
        forms = zip(
            *((one.model, f"{one.model} ({one.asked})", _short(one.folder, beside)) for one in beside), strict=True
        )
        found.append(next(name for name, all_names in zip(names, forms, strict=True) if all_names.count(name) == 1))
    return found


def _short(folder: Path, runs: Sequence[Run]) -> str:
    """The last parts of a folder's path that no other run has."""
    parts = folder.resolve().parts
    others = [run.folder.resolve().parts for run in runs if run.folder.resolve() != folder.resolve()]
    count = next((n for n in range(1, len(parts)) if all(one[-n:] != parts[-n:] for one in others)), len(parts))
    return "/".join(parts[-count:])
