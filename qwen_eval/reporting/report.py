"""The end of a run: each figure beside the reported one with its verdict, the tables, results.json."""

from __future__ import annotations

import sys
import time
from collections.abc import Iterable, Sequence
from typing import TYPE_CHECKING, Any

from qwen_eval import protocols, thinking
from qwen_eval.reporting import manifest, side_by_side, tables
from qwen_eval.reporting.missing import endpoint_notes
from qwen_eval.reporting.reported import Figure, Reported, Row, data_versions, decimals_of, find
from qwen_eval.reporting.tables import write_atomically
from qwen_eval.reporting.terminal import show
from qwen_eval.reporting.verdict import Verdict, judge
from qwen_eval.stats import Score

if TYPE_CHECKING:
    from qwen_eval.benchmark import Results
    from qwen_eval.run import Run


def report(run: Run, results: Results, services: Iterable[Any] = ()) -> int:
    """Print and write the tables; returns the exit status: 1 significantly worse than `--baseline`, 2 items without a
    reply. services: those of the run; one may `describe` itself for results.json, and have `notes`."""
    shots = results.shots
    if shots is None and run.benchmark.shots is not None:
        shots = run.setting.shots
    lines = [_line(run, name, score, shots, results.split) for name, score in results.scores.items()]
    parts: list[tables.Table | tables.Grid] = [results.grid(lines)] if results.grid else []
    parts.append(tables.Table("each figure" if results.grid else "", lines))
    beside = _beside(run, lines, shots, results.split)
    if beside:
        parts.append(side_by_side.grid(beside, run.target.reported_name.model, lambda *pair: _judged_open(run, *pair)))
    for title, part in results.breakdowns.items():
        if part:
            parts.append(tables.Table(title, [tables.Line(name, score) for name, score in part.items()]))
    remarks = results.remarks(lines) if results.remarks else []
    notes = [*_notes(run, lines, shots, results.split, beside), *results.notes, *remarks, *_disagreements(run)]
    extra: dict[str, Any] = {}
    for service in services:
        notes += service.notes() if hasattr(service, "notes") else []
        extra |= service.describe() if hasattr(service, "describe") else {}
    status, comparison = 0, None
    if run.baseline:
        status, note, comparison = run.baseline.compare(run.records)
        notes.append(note)
    kind = ("chat" if run.setting.chat else "base") + ("" if shots is None else f", {shots}-shot")
    title = f"{run.benchmark.name} - {run.target.model} ({kind})"
    _write(run, results, title, parts, notes)
    found = {
        "benchmark": run.benchmark.name,
        "model": run.target.model,
        **({"model_id": run.target.model_id} if run.target.model_id else {}),
        "items": _items(run),
        "scores": {line.name: _score_json(run, line, shots, results.split) for line in lines},
        **({"reported_figures": side_by_side.as_json(beside)} if beside else {}),
        **({"baseline": comparison} if comparison else {}),
        **extra,
        **results.extra,
        **({"requests": run.target.requests, "missing": run.missing.as_json()} if run.target.requests else {}),
        "notes": notes,
        # torch knows the hardware by now
        "manifest": {
            **run.manifest,
            **manifest.environment(),
            **run.target.environment,
            "band": run.target.args.band,
            "departures": run.departures,
            "seconds": round(time.time() - run.started, 1),
            "finished": manifest.now(),
        },
    }
    tables.write_results(run.folder, found)
    run.journal.close()
    show(title, parts, [*notes, f"written to {run.folder}"])
    if run.missing:
        print(f"error: {run.missing.notes(len(run.records))[0]}", file=sys.stderr)
        return 2
    return status


def _write(
    run: Run, results: Results, title: str, parts: Sequence[tables.Table | tables.Grid], notes: Sequence[str]
) -> None:
    """The tables as files, and the benchmark's own files."""
    write_atomically(run.folder / "table.md", tables.markdown(title, parts, notes))
    write_atomically(run.folder / "table.csv", tables.as_csv(parts))
    if isinstance(parts[0], tables.Grid):
        write_atomically(run.folder / "grid.csv", tables.grid_csv(parts[0]))
    for name, text in results.files.items():
        (run.folder / name).parent.mkdir(parents=True, exist_ok=True)
        write_atomically(run.folder / name, text)
    if results.plots:
        results.plots([line for part in parts if isinstance(part, tables.Table) for line in part.lines], run.folder)


def _disagreements(run: Run) -> list[str]:
    """Where replies are read, the items on which the two extractions differ: as a file, and the note that says so."""
    records = run.records
    if not run.benchmark.two_extractions or not any(record.get("response") for record in records):
        return []
    ids = [record["id"] for record in records if run.benchmark.disagree(record)]
    write_atomically(run.folder / "disagreements.txt", "".join(f"{name}\n" for name in ids))
    return [f"protocol and robust extraction differ on {len(ids)} items (disagreements.txt)"]


# -- beside the reported figures ---------------------------------------------------------------------------------------


def official_set(run: Run) -> bool:
    """Whether the items are the whole official set, as far as their number says."""
    return not run.subset and (run.setting.own_samples or len(run.records) == run.official)


def other_data(run: Run) -> bool:
    """Whether the data are known not to be the official set, whatever their number."""
    return run.data is not None and not run.data.official


def shots_given(run: Run) -> bool:
    """Whether -k gives another number than the protocol's."""
    setting, benchmark = run.setting, run.benchmark
    return benchmark.shots is not None and setting.shots != benchmark.usual_shots(setting.protocol, setting.chat)


def _figure(run: Run, score: Score, shots: int | None, split: str) -> Figure:
    """What a score's reported figure is looked up by."""
    return Figure(
        score.benchmark or run.benchmark.name,
        score.metric,
        shots,
        split if score.split is None else score.split,
        score.setting,
        run.benchmark.data_version(run.setting),
    )


def _reported(run: Run, score: Score, shots: int | None, split: str) -> Reported | None:
    """The published figure of a score's setting. Where the version of the data is not known, one that is the same on
    several versions."""
    if not score.compared:
        return None
    figures, name, figure = run.target.figures, run.target.reported_name, _figure(run, score, shots, split)
    if (found := find(figures, name, figure)) or figure.data_version != "":
        return found
    versions = list(data_versions(figures, name, figure).values())
    return versions[0] if len(versions) > 1 and len({one.value for one in versions}) == 1 else None


def _line(run: Run, name: str, score: Score, shots: int | None, split: str) -> tables.Line:
    """A score with its reported figure and the verdict."""
    if (reported := _reported(run, score, shots, split)) is None:
        return tables.Line(name, score, None, None)
    official = official_set(run) if score.as_reported is None else score.as_reported
    official = official and not other_data(run)
    stated = not reported.open_protocol and not (reported.any_shots and shots_given(run))
    as_reported = official and not run.departures and stated
    verdict = judge(score, reported.value, reported.decimals, as_reported, run.target.args.band)
    return tables.Line(name, score, reported, verdict)


def _beside(run: Run, lines: Sequence[tables.Line], shots: int | None, split: str) -> list[side_by_side.Beside]:
    """Every reported figure of a later model that belongs to these scores."""
    scores = [
        (line.name, line.score, _figure(run, line.score, shots, split))
        for line in lines
        if line.score.compared and line.score.value is not None
    ]
    return side_by_side.reported_beside(scores, run.target.figures, run.target.reported_name)


def _judged_open(run: Run, score: Score, row: Row) -> Verdict | None:
    """The verdict beside a figure whose source does not say how it was asked: never `reproduced`."""
    return judge(score, float(row["value"]), decimals_of(row), False, run.target.args.band)


def _items(run: Run) -> dict[str, Any]:
    """Of which lines of samples.jsonl the figures are: of all, or where an earlier start had other items, of `ids`."""
    found: dict[str, Any] = {"answered": len(run.records), "whole": run.whole}
    if len(run.journal.records) > len(run.records):
        found["ids"] = [[record["id"], record["sample"]] for record in run.records]
    return found


def _score_json(run: Run, line: tables.Line, shots: int | None, split: str) -> dict[str, Any]:
    """A score for results.json; `row`: the columns of reported_numbers.csv that its figure is looked up by."""
    if not line.score.compared:
        return tables.score_json(line)
    row = _figure(run, line.score, shots, split)._asdict()
    row["variant"] = row.pop("setting")
    if row["data_version"] is None:
        del row["data_version"]
    return {**tables.score_json(line), "row": row}


# -- notes -------------------------------------------------------------------------------------------------------------


def _notes(
    run: Run, lines: Sequence[tables.Line], shots: int | None, split: str, beside: Sequence[side_by_side.Beside]
) -> list[str]:
    records, target = run.records, run.target
    notes = [*target.model_notes]
    notes += [run.data.note] if run.data else []
    notes += target.figure_notes + _data_version_notes(run, lines, shots, split)
    notes += target.replies.notes() if target.replies is not None else []
    notes += run.missing.notes(len(records)) + endpoint_notes(target.requests, records)
    most = run.decoding.max_new_tokens if run.decoding and target.replies is None else None
    notes += thinking.notes(target.thinking, records, most, target.checkpoint is None)
    notes += _verdict_notes(run, lines)
    if cut := sum(bool(record.get("cut")) for record in records):
        limit = "--max-seq-len less the new tokens" if run.decoding else "--max-seq-len"
        notes.append(f"prompts longer than {limit}, which lost their beginning as published: {cut}")
    if run.decoding and (long := sum(record.get("finish") == "length" for record in records)):
        notes.append(f"replies that reached {run.decoding.max_new_tokens} new tokens without a stop: {long}")
    notes += target.engine_notes()
    dtype = run.manifest.get("dtype")
    if dtype in ("bfloat16", "float16") and any(record.get("finish") for record in records):
        notes.append(f"in {dtype} a few replies change with the batch: with another -b, and in a resumed run")
    notes += _protocol_notes(run, lines, shots)
    notes += side_by_side.notes(beside, shots, run.benchmark.shots is not None)
    elsewhere = run.benchmark.data_version(run.setting) == "" or bool(beside)
    if not any(line.reported for line in lines) and not elsewhere:
        notes.append(
            f"no reported figure for {target.model!r} in this setting (--reported-as names a model of the cards)"
        )
    return notes


def _protocol_notes(run: Run, lines: Sequence[tables.Line], shots: int | None) -> list[str]:
    """What of a later family's way of asking is stated, and what is ours; that the family is not known, where a figure
    is compared."""
    name, protocol, family = run.benchmark.name, run.setting.protocol, run.target.family
    families = protocols.families_of(name)
    compared = not run.setting.own_samples and any(line.reported for line in lines)
    if compared and families and not family and not run.target.args.protocol:
        return [
            f"which family of models {run.target.model} is of, is not known: asked as the first generation was "
            f"(--protocol {' or '.join(families)})"
        ]
    evalplus = bool(getattr(run.target.args, "evalplus", None))
    return protocols.notes(name, protocol, run.setting.chat, evalplus, shots)


def _data_version_notes(run: Run, lines: Sequence[tables.Line], shots: int | None, split: str) -> list[str]:
    """Which version of the data the figures are of; where that is not known, what was reported of each."""
    version = run.benchmark.data_version(run.setting)
    if version is None or run.setting.own_samples:
        return []
    if version:
        return [f"version of the data: {version}"]
    target, found = run.target, []
    for line in lines:
        if line.score.compared and line.score.value is not None and line.reported is None:
            figure = _figure(run, line.score, shots, split)
            versions = data_versions(target.figures, target.reported_name, figure)
            if versions:
                each = ", ".join(f"{value.value:g} on {version}" for version, value in versions.items())
                found.append(f"{line.name} {each}")
    reported = f" (reported: {'; '.join(found)})" if found else ""
    return [
        "which version of the data this is, is not known, and a figure of one version is not that of another: no "
        f"verdict{reported}; --data-version says which"
    ] * bool(found)


def _verdict_notes(run: Run, lines: Sequence[tables.Line]) -> list[str]:
    """Why a figure cannot be called reproduced, and what the words of the table say."""
    notes = []
    count = len(run.records)
    if run.subset:
        what = "items" if run.setting.samples == 1 else "replies"
        notes.append(f"subset: {count} of {run.whole} {what}; the verdict is about these only")
    if not any(line.verdict for line in lines):
        return notes
    if run.data is None and not run.setting.own_samples:
        notes.append("data: no official set is known to compare the items with")
    if not run.subset and not run.setting.own_samples and run.official and count != run.official:
        notes.append(f"{count} items are not the official set of {run.official}: never `reproduced`")
    elif other_data(run):
        notes.append("the data are not the official set: never `reproduced`")
    departures = [*run.departures]
    if shots_given(run) and any(line.reported and line.reported.any_shots for line in lines):
        departures.append("--num-fewshot")
    if departures:
        notes.append(f"not the reported protocol, so never `reproduced`: {', '.join(departures)}")
    if any(line.word == "consistent" for line in lines):
        notes.append("consistent: no difference can be shown; the smallest that these items could show is in the table")
    if any(line.word == "too few items" for line in lines):
        notes.append("too few items: no difference is shown, but a large one could not be either")
    return notes
