"""Hugging Face's `.eval_results/{benchmark}.yaml`, which a model's page on the hub shows.

Only figures of whole official sets: a part of the items is no figure of the model.
Format: huggingface.co/docs/hub/eval-results; huggingface_hub writes it.
"""

from pathlib import Path

from qwen_eval.errors import UserError
from qwen_eval.export.finished import HUB_DATA, Finished
from qwen_eval.reporting.tables import write_atomically

PARTS = ("limit", "sample", "subjects")  # flags that leave items out


def write(run: Finished, folder: Path) -> list[Path]:
    import yaml
    from huggingface_hub import EvalResultEntry, eval_result_entries_to_yaml

    check(run)
    repo, _ = HUB_DATA[run.benchmark]
    figure = run.figures[0]  # the headline: the format has one value for a task
    entry = EvalResultEntry(
        dataset_id=repo,
        task_id=run.benchmark,
        value=round(figure.value, 2),
        date=run.finished_at.isoformat(),
        notes=_notes(run),
    )
    place = folder / ".eval_results"
    place.mkdir(parents=True, exist_ok=True)
    path = place / f"{run.benchmark}.yaml"
    write_atomically(path, yaml.safe_dump(eval_result_entries_to_yaml([entry]), sort_keys=False, allow_unicode=True))
    return [path]


def check(run: Finished) -> None:
    """UserError where the figure is not that of the whole official set, or the set is not on the hub."""
    check_benchmark(run.benchmark)
    if not run.figures:
        raise UserError(f"{run.folder} has no figure with a value")
    data = run.manifest.get("data") or {}
    part = any(run.manifest.get(name) for name in PARTS)
    if part or data.get("official") is not True or run.results.get("missing"):
        raise UserError(
            f"{run.folder}: not the whole official set, so no figure of the model; .eval_results is not written"
        )


def check_benchmark(name: str) -> None:
    """UserError for a benchmark that is no data set of the hub."""
    if name not in HUB_DATA:
        raise UserError(f"{name} is no data set of the hub; .eval_results has figures of {', '.join(HUB_DATA)} only")


def _notes(run: Finished) -> str:
    """`5-shot, base, qwen-eval 0.1.0`."""
    shots = run.settings.get("num_fewshot")
    parts = [] if shots is None else [f"{shots}-shot"]
    given = ["of replies from a file"] if run.manifest.get("replies_sha256") else []
    departures = run.manifest.get("departures") or []
    parts += ["chat" if run.settings.get("chat") else "base", *given, *departures, f"qwen-eval {run.version}"]
    return ", ".join(parts)
