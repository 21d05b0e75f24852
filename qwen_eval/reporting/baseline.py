"""`--baseline DIR`: a paired comparison with an earlier run on the items that both have."""

from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

from qwen_eval.data.items import Item
from qwen_eval.errors import UserError
from qwen_eval.reporting.finished import read_lines
from qwen_eval.stats import paired


def mark_name(name: str, sample: int) -> str:
    """The name of an item's sample in a paired comparison."""
    return f"{name}#{sample}"


class Baseline:
    """Which items an earlier run had right. Read before the work starts: an unusable folder is reported at once, and it
    may be the same folder that --overwrite is about to empty."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        path = folder / "samples.jsonl"
        if not path.exists():
            raise UserError(f"--baseline {folder} has no samples.jsonl")
        # of several lines of an item the last counts
        self.marks = {mark_name(row["id"], row["sample"]): row["correct"] for _, row in read_lines(path)}

    def check(self, items: Iterable[Item]) -> None:
        """Raises UserError when there is nothing to compare."""
        if not any(mark_name(item.id, item.sample) in self.marks for item in items):
            raise UserError(f"--baseline {self.folder} shares no item with this run")

    def compare(self, records: Iterable[Mapping[str, Any]]) -> tuple[int, str, dict[str, Any]]:
        """Exit status (1: significantly worse), the note for the table, and what goes into results.json."""
        result = paired(self.marks, {mark_name(r["id"], r.get("sample", 0)): r["correct"] for r in records})
        worse = "significantly worse than" if result.significantly_worse else "not significantly worse than"
        note = (
            f"{worse} the baseline on {result.n} shared items: {result.gained} gained, {result.lost} lost, "
            f"McNemar p = {result.p_value:.3g}"
        )
        return int(result.significantly_worse), note, {"folder": str(self.folder), **result._asdict()}
