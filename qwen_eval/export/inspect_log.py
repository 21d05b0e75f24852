"""An eval log of inspect_ai (JSON, version 2), for `inspect view`: `{time}_{benchmark}_{id}.json`.

Written by hand after inspect_ai's own classes, so that the package is not needed; the tests read it with inspect_ai.
"""

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from qwen_eval.export.finished import Figure, Finished, answer_of
from qwen_eval.reporting.tables import write_atomically


def write(run: Finished, folder: Path) -> list[Path]:
    folder.mkdir(parents=True, exist_ok=True)
    stamp = run.finished_at.strftime("%Y-%m-%dT%H-%M-%S+00-00")
    path = folder / f"{stamp}_{run.benchmark}_{run.identity.hex[:22]}.json"
    write_atomically(path, json.dumps(_log(run), ensure_ascii=False, indent=1) + "\n")
    return [path]


def _log(run: Finished) -> dict[str, Any]:
    samples = [_sample(run, record) for record in run.records()]
    when = run.finished_at.isoformat()
    decoding = run.decoding
    config = {"max_tokens": decoding.get("max_new_tokens"), "temperature": decoding.get("temperature")}
    return {
        "version": 2,
        "status": "success",
        "eval": {
            "eval_id": run.identity.hex[:22],
            "run_id": run.identity.hex[:22],
            "task_id": run.identity.hex[:22],
            "created": str(run.manifest.get("started", when)),
            "task": run.benchmark,
            "task_version": run.version,
            "task_args": dict(run.settings),
            "dataset": {"name": run.benchmark, "samples": len(samples)},
            "model": run.model_id,
            "model_generate_config": config if decoding else {},
            "config": {"epochs": 1},
            "packages": {"qwen-eval": run.version},
            "metadata": {name: run.manifest.get(name) for name in ("dtype", "engine", "data", "weights_sha256")},
        },
        "plan": {"name": "plan", "steps": [], "config": {}},
        "results": {
            "total_samples": len(samples),
            "completed_samples": len(samples),
            "scores": [_score(figure) for figure in run.figures],
        },
        "stats": {"started_at": str(run.manifest.get("started", when)), "completed_at": when, "model_usage": {}},
        "samples": samples,
    }


def _score(figure: Figure) -> dict[str, Any]:
    metrics = {figure.metric: {"name": figure.metric, "value": figure.value, "params": {}}}
    for end, value in zip(("ci95_low", "ci95_high"), figure.interval or (), strict=False):
        metrics[end] = {"name": end, "value": value, "params": {}}
    return {"name": figure.name, "scorer": "robust" if figure.robust else "protocol", "params": {}, "metrics": metrics}


def _sample(run: Finished, record: Mapping[str, Any]) -> dict[str, Any]:
    answer, gold = answer_of(record), str(record["gold"])
    output = {
        "model": run.model_id,
        "choices": [
            {
                "message": {"role": "assistant", "content": answer, "source": "generate"},
                "stop_reason": "max_tokens" if record["finish"] == "length" else "stop",
            }
        ],
        "completion": answer,
    }
    scores = {
        "protocol": _mark(record["correct"], record["prediction"]),
        "robust": _mark(record["correct_robust"], record["prediction_robust"]),
    }
    return {
        "id": str(record["id"]),
        "epoch": int(record["sample"]) + 1,
        "input": str(record["prompt"]),
        "target": gold,
        "messages": [
            {"role": "user", "content": str(record["prompt"])},
            {"role": "assistant", "content": answer, "source": "generate"},
        ],
        "output": output,
        "scores": scores,
        "metadata": {"subject": record["subject"], "finish": record["finish"], "cut": record["cut"]},
        "store": {},
        "events": [],
        "model_usage": {},
        "attachments": {},
    }


def _mark(correct: bool, answer: Any) -> dict[str, Any]:
    """inspect's C and I, for right and wrong."""
    return {"value": "C" if correct else "I", "answer": str(answer)}
