"""An eval log of inspect_ai (JSON, version 2), for `inspect view`: `{time}_{benchmark}_{id}.json`.

Written by hand after inspect_ai's own classes, so that the package is not needed; the tests read it with inspect_ai.
"""

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from qwen_eval.export.finished import Figure, Finished, answer_of, extracted
from qwen_eval.export.item_scores import ItemScore, item_scores
from qwen_eval.reporting.tables import write_atomically

# inspect's names of engines, the first part of its model names
PROVIDERS = {
    "local": "hf",
    "vllm": "vllm",
    "openai": "openai-api",
}  # inspect's names of engines, the first part of its model names


def write(run: Finished, folder: Path) -> list[Path]:
    folder.mkdir(parents=True, exist_ok=True)
    stamp = run.finished_at.strftime("%Y-%m-%dT%H-%M-%S+00-00")
    path = folder / f"{stamp}_{run.benchmark}_{run.identity.hex[:22]}.json"
    write_atomically(path, json.dumps(_log(run), ensure_ascii=False, indent=1) + "\n")
    return [path]


def _log(run: Finished) -> dict[str, Any]:
    samples = [_sample(run, record) for record in run.records().values()]
    epochs = max((sample["epoch"] for sample in samples), default=1)
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
            "dataset": {"name": run.benchmark, "samples": len({sample["id"] for sample in samples})},
            "model": _model(run),
            "model_generate_config": config if decoding else {},
            "config": {"epochs": epochs, "limit": run.manifest.get("limit")},
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


def _model(run: Finished) -> str:
    """`hf/Qwen/Qwen-7B`; of replies from a file the model alone."""
    provider = PROVIDERS.get(str(run.manifest.get("engine")))
    return f"{provider}/{run.model_id}" if provider else run.model_id


def _score(figure: Figure) -> dict[str, Any]:
    """inspect's own accuracy is a share from 0 to 1, and so are these."""
    values = {figure.metric: figure.share}
    interval = {}
    if figure.interval is not None and figure.standard_error is not None:
        values["stderr"] = figure.standard_error
        interval = {"metadata": {"ci95": [end / figure.divisor for end in figure.interval]}}
    metrics = {name: {"name": name, "value": value, "params": {}} for name, value in values.items()}
    kind = "robust" if figure.robust else "protocol"
    return {"name": figure.name, "scorer": kind, "params": {}, "metrics": metrics, **interval}


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
        "scores": {score.figure.name: _item_score(score, record) for score in item_scores(run, record)},
        "metadata": {"subject": record["subject"], "finish": record["finish"], "cut": record["cut"]},
        "store": {},
        "events": [],
        "model_usage": {},
        "attachments": {},
    }


def _item_score(score: ItemScore, record: Mapping[str, Any]) -> dict[str, Any]:
    """inspect's C and I for right and wrong, else the value; with the answer that the extraction found."""
    value: str | float = ("C" if score.value else "I") if score.mark else score.value
    return {"value": value, "answer": extracted(record, score.figure.robust)}
