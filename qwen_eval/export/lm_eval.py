"""lm-evaluation-harness's output (0.4): `{model}/results_{date}.json` and `samples_{task}_{date}.jsonl`."""

import hashlib
import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from qwen_eval.export.finished import HUB_DATA, Finished, answer_of
from qwen_eval.reporting.journal import line_of
from qwen_eval.reporting.samples import NO_LOGITS
from qwen_eval.reporting.tables import write_atomically

Z95 = 1.959963984540054


def write(run: Finished, folder: Path) -> list[Path]:
    place = folder / run.model_id.replace("/", "__")
    place.mkdir(parents=True, exist_ok=True)
    stamp = run.finished_at.strftime("%Y-%m-%dT%H-%M-%S.%f")
    results, samples = place / f"results_{stamp}.json", place / f"samples_{run.benchmark}_{stamp}.jsonl"
    lines = [line_of(_sample(number, record)) for number, record in enumerate(run.records())]
    samples.write_bytes(b"".join(lines))
    write_atomically(results, json.dumps(_results(run, len(lines)), ensure_ascii=False, indent=2) + "\n")
    return [results, samples]


def _share(run: Finished, name: str) -> float:
    """Of a figure in percent lm-evaluation-harness keeps the share."""
    return 100.0 if next(figure for figure in run.figures if figure.name == name).unit[0] == "percent" else 1.0


def _results(run: Finished, count: int) -> dict[str, Any]:
    task, figures = run.benchmark, run.figures
    scores: dict[str, Any] = {"alias": task}
    for figure in figures:
        unit = _share(run, figure.name)
        error = "N/A" if figure.interval is None else (figure.interval[1] - figure.interval[0]) / (2 * Z95) / unit
        scores |= {f"{figure.name},none": figure.value / unit, f"{figure.name}_stderr,none": error}
    repo, split = HUB_DATA.get(task, ("", "test"))
    shots = run.settings.get("num_fewshot")
    generated = {name: value for name, value in run.decoding.items() if name != "stop"}
    config = {
        "task": task,
        "dataset_path": repo,
        "test_split": split,
        "output_type": "generate_until" if run.decoding else "multiple_choice",
        "num_fewshot": shots,
        **({"generation_kwargs": {**generated, "until": list(run.decoding.get("stop", ()))}} if run.decoding else {}),
        "metadata": {"version": run.version, "harness": "qwen-eval"},
    }
    return {
        "results": {task: scores},
        "group_subtasks": {task: []},
        "configs": {task: config},
        "versions": {task: run.version},
        "n-shot": {task: shots},
        "higher_is_better": {task: {figure.name: not figure.lower_is_better for figure in figures}},
        "n-samples": {task: {"original": count, "effective": count}},
        "config": {
            "model": "hf",
            "model_args": {"pretrained": run.model_id, "dtype": run.manifest.get("dtype")},
            "limit": run.manifest.get("limit"),
            "random_seed": run.manifest.get("seed"),
        },
        "git_hash": run.manifest.get("git_commit"),
        "date": run.finished_at.timestamp(),
        "transformers_version": run.manifest["versions"].get("transformers"),
        "model_source": "qwen-eval",
        "model_name": run.model_id,
        "model_name_sanitized": run.model_id.replace("/", "__"),
        "total_evaluation_time_seconds": str(run.manifest.get("seconds", "")),
    }


def _sample(number: int, record: Mapping[str, Any]) -> dict[str, Any]:
    choices = record["choice_logits"] != NO_LOGITS
    answers: list[Any] = [[[value, False]] for value in record["choice_logits"]] if choices else [[answer_of(record)]]
    doc = {name: record[name] for name in ("id", "subject", "sample", "gold")}
    prompt, target = str(record["prompt"]), str(record["gold"])
    return {
        "doc_id": number,
        "doc": doc,
        "target": target,
        "arguments": {"gen_args_0": {"arg_0": prompt}},
        "resps": answers,
        "filtered_resps": [answer[0] for answer in answers] if choices else [str(record["prediction"])],
        "filter": "none",
        "metrics": ["acc", "acc_robust"],
        "doc_hash": _hash(json.dumps(doc, ensure_ascii=False, indent=2)),
        "prompt_hash": _hash(prompt),
        "target_hash": _hash(target),
        "acc": float(record["correct"]),
        "acc_robust": float(record["correct_robust"]),
    }


def _hash(text: str) -> str:
    return hashlib.sha256(text.encode("utf-8", "surrogatepass")).hexdigest()
