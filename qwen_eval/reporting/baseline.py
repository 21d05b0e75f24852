"""`--baseline DIR`: a paired comparison with an earlier run on the items that both have."""

from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

from qwen_eval.comparison.significance import exchange_clusters
from qwen_eval.data.items import Item
from qwen_eval.errors import UserError
from qwen_eval.reporting.finished import read_lines
from qwen_eval.stats import Comparison, paired


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

    def compare(self, records: Sequence[Mapping[str, Any]]) -> tuple[int, str, dict[str, Any]]:
        """Exit status (1: significantly worse), the note for the table, and what goes into results.json."""
        now = {mark_name(r["id"], r.get("sample", 0)): r["correct"] for r in records}
        result, how = paired(self.marks, now), "McNemar"
        if any(r.get("sample", 0) for r in records):  # replies to one question are right or wrong together
            result, how = self._by_question(result, now), "by question"
        worse = "significantly worse than" if result.significantly_worse else "not significantly worse than"
        note = (
            f"{worse} the baseline on {result.n} shared items: {result.gained} gained, {result.lost} lost, "
            f"{how} p = {result.p_value:.3g}"
        )
        return int(result.significantly_worse), note, {"folder": str(self.folder), **result._asdict()}

    def _by_question(self, result: Comparison, now: Mapping[str, bool]) -> Comparison:
        """The comparison of several replies per question, tested by questions as compare.py does."""
        changes: dict[str, int] = {}
        for name in self.marks.keys() & now.keys():
            question = name.rpartition("#")[0]
            changes[question] = changes.get(question, 0) + now[name] - self.marks[name]
        p_value = exchange_clusters(list(changes.values())).two_sided
        worse = p_value < 0.05 and result.lost > result.gained
        return result._replace(p_value=p_value, significantly_worse=worse)
