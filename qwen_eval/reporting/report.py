"""The end of a run: each figure beside the reported one with its verdict, the tables, results.json."""

import sys
import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

from qwen_eval.data.items import Item
from qwen_eval.engines.decoding import Decoding
from qwen_eval.reporting import manifest, tables
from qwen_eval.reporting.baseline import Baseline
from qwen_eval.reporting.journal import Journal
from qwen_eval.reporting.missing import Missing, endpoint_notes
from qwen_eval.reporting.reported import Reported, find
from qwen_eval.reporting.terminal import show
from qwen_eval.reporting.verdict import judge
from qwen_eval.stats import Score
from qwen_eval.target import Target


class Reporting(Target):
    """What a run has when its items are done, and how it is shown. Run, in run.py, fills it."""

    benchmark: str
    items: list[Item]
    whole: int  # items of the whole benchmark
    official_n: (
        int | None
    )  # items of the official set; None where its size is not known, and for the demo's own samples
    own_samples: bool  # the demo's: they are the whole set of the demo's card
    subset: bool
    missing: Missing
    departures: list[str]  # flags and circumstances by which this is not the reported protocol
    shots_given: bool  # -k, with another number than the protocol's
    baseline: Baseline | None
    decoding: Decoding
    folder: Path
    journal: Journal
    manifest: dict[str, Any]
    started: float

    @property
    def records(self) -> list[dict[str, Any]]:
        """The finished lines in the order of the items."""
        return [self.journal.records[item.key] for item in self.items]

    def list_disagreements(self, ids: Sequence[str]) -> str:
        """Write the items on which two readings differ to disagreements.txt; returns the note that says so."""
        tables.write_atomically(self.folder / "disagreements.txt", "".join(f"{name}\n" for name in ids))
        return f"protocol and robust reading differ on {len(ids)} items (disagreements.txt)"

    # -- beside the reported figures -----------------------------------------------------------------------------------

    @property
    def official_set(self) -> bool:
        """Whether the items are the whole official set, as far as their number says."""
        return not self.subset and (self.own_samples or len(self.items) == self.official_n)

    def reported(self, score: Score, shots: int | None, split: str = "") -> Reported | None:
        """The published figure of a score's setting."""
        if not score.compared:
            return None
        name, path = self.reported_in()
        key = self._key(score, shots, split)
        return find(name, key["benchmark"], key["metric"], shots, key["split"], path, score.setting)

    def _key(self, score: Score, shots: int | None, split: str) -> dict[str, Any]:
        """The columns of reported_numbers.csv that a score's figure is looked up by."""
        return {
            "benchmark": score.benchmark or self.benchmark,
            "split": split if score.split is None else score.split,
            "shots": shots,
            "metric": score.metric,
            "variant": score.setting,
        }

    def _line(self, name: str, score: Score, shots: int | None, split: str) -> tables.Line:
        """A score with its reported figure and the verdict."""
        if (reported := self.reported(score, shots, split)) is None:
            return tables.Line(name, score, None, None)
        official = self.official_set if score.as_reported is None else score.as_reported
        as_reported = official and not self.departures and not (reported.any_shots and self.shots_given)
        verdict = judge(score, reported.value, reported.decimals, as_reported, self.args.band)
        return tables.Line(name, score, reported, verdict)

    # -- the tables ----------------------------------------------------------------------------------------------------

    def report(
        self,
        scores: Mapping[str, Score],
        breakdowns: Mapping[str, Mapping[str, Score]] | None = None,
        notes: Sequence[str] = (),
        shots: int | None = None,
        split: str = "",
        extra: Mapping[str, Any] | None = None,
        grid: Callable[[Sequence[tables.Line]], tables.Grid] | None = None,
    ) -> int:
        """Print and write the tables; returns the exit status (1: significantly worse than `--baseline`).

        scores: name -> Score, the headline first; breakdowns: title -> name -> Score, without reported figures.
        grid: makes of the scores, laid beside their reported figures, a table that stands above all others (grid.csv).
        """
        lines = [self._line(name, score, shots, split) for name, score in scores.items()]
        parts: list[tables.Table | tables.Grid] = [grid(lines)] if grid else []
        parts.append(tables.Table("each figure" if grid else "", lines))
        for title, part in (breakdowns or {}).items():
            if part:
                parts.append(tables.Table(title, [tables.Line(name, score) for name, score in part.items()]))
        notes = [*self._notes(lines), *notes]
        status, comparison = 0, None
        if self.baseline:
            status, note, comparison = self.baseline.compare(self.records)
            notes.append(note)
        kind = ("chat" if self.chat else "base") + ("" if shots is None else f", {shots}-shot")
        title = f"{self.benchmark} - {self.model} ({kind})"
        results = {
            "benchmark": self.benchmark,
            "model": self.model,
            "scores": {
                row.name: {
                    **tables.score_json(row),
                    **({"row": self._key(row.score, shots, split)} if row.score.compared else {}),
                }
                for row in lines
            },
            **({"baseline": comparison} if comparison else {}),
            **(extra or {}),
            **({"requests": self.requests, "missing": self.missing.as_json()} if self.requests else {}),
            "notes": notes,
            # torch knows the hardware by now
            "manifest": {
                **self.manifest,
                **manifest.environment(),
                "band": self.args.band,
                "departures": self.departures,
                "seconds": round(time.time() - self.started, 1),
                "finished": manifest.now(),
            },
        }
        tables.write_atomically(self.folder / "table.md", tables.markdown(title, parts, notes))
        tables.write_atomically(self.folder / "table.csv", tables.as_csv(parts))
        if isinstance(parts[0], tables.Grid):
            tables.write_atomically(self.folder / "grid.csv", tables.grid_csv(parts[0]))
        tables.write_results(self.folder, results)
        self.journal.close()
        show(title, parts, [*notes, f"written to {self.folder}"])
        if self.missing:
            print(f"error: {self.missing.notes(len(self.items))[0]}", file=sys.stderr)
            return 2
        return status

    def _notes(self, lines: Sequence[tables.Line]) -> list[str]:
        notes = [self.mode_note] if self.mode_note else []
        notes += self.missing.notes(len(self.items)) + endpoint_notes(self.requests, self.records)
        notes += self._verdict_notes(lines)
        if cut := sum(bool(record.get("cut")) for record in self.records):
            notes.append(f"prompts longer than --max-seq-len, which lost their beginning as published: {cut}")
        if long := sum(record.get("finish") == "length" for record in self.records):
            notes.append(f"replies that reached {self.decoding.max_new_tokens} new tokens without a stop: {long}")
        notes += self.engine_notes()
        dtype = self.manifest.get("dtype")
        if dtype in ("bfloat16", "float16") and any("finish" in record for record in self.records):
            notes.append(f"in {dtype} a few replies change with the batch: with another -b, and in a resumed run")
        if not any(row.reported for row in lines):
            notes.append(
                f"no reported figure for {self.model!r} in this setting (--reported-as names a model of the cards)"
            )
        return notes

    def _verdict_notes(self, lines: Sequence[tables.Line]) -> list[str]:
        """Why a figure cannot be called reproduced, and what the words of the table say."""
        notes = []
        if self.subset:
            notes.append(f"subset: {len(self.items)} of {self.whole} items; the verdict is about these only")
        if not any(row.verdict for row in lines):
            return notes
        if not self.subset and not self.own_samples and self.official_n and len(self.items) != self.official_n:
            notes.append(f"{len(self.items)} items are not the official set of {self.official_n}: never `reproduced`")
        departures = [*self.departures]
        if self.shots_given and any(row.reported and row.reported.any_shots for row in lines):
            departures.append("--num-fewshot")
        if departures:
            notes.append(f"not the reported protocol, so never `reproduced`: {', '.join(departures)}")
        if any(row.word == "consistent" for row in lines):
            notes.append(
                "consistent: no difference can be shown; the smallest that these items could show is in the table"
            )
        if any(row.word == "too few items" for row in lines):
            notes.append("too few items: no difference is shown, but a large one could not be either")
        return notes
