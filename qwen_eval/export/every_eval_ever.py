"""Every Eval Ever, schema 0.3.0 (evalevalai.com, PyPI every-eval-ever): one JSON of figures, one JSONL of items.

`data/{benchmark}/{developer}/{model}/{uuid}.json` and `..._samples.jsonl` beside it, as its datastore lays them out.
"""

import hashlib
import json
import math
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from qwen_eval.export.finished import HUB_DATA, Figure, Finished, answer_of, extracted, key_of
from qwen_eval.export.item_scores import ItemScore, item_scores
from qwen_eval.reporting.journal import line_of
from qwen_eval.reporting.tables import write_atomically

SCHEMA = "0.3.0"
LOCAL = "local"  # the developer of a model that only its folder names


def write(run: Finished, folder: Path) -> list[Path]:
    developer, _, name = run.model_id.rpartition("/")
    place = f"data/{run.benchmark}/{developer or LOCAL}/{name}"
    aggregate, samples = f"{place}/{run.identity}.json", f"{place}/{run.identity}_samples.jsonl"
    (folder / place).mkdir(parents=True, exist_ok=True)
    evaluation_id = f"{run.benchmark}/{run.model_id}/{_seconds(run)}"
    lines = [
        line_of(_instance(run, evaluation_id, record, score))
        for record in run.records().values()
        for score in item_scores(run, record)
    ]
    log = _aggregate(run, evaluation_id)
    if not lines:  # a corpus BLEU: no item has a score, which the schema wants of each
        write_atomically(folder / aggregate, json.dumps(log, indent=2) + "\n")
        return [folder / aggregate]
    (folder / samples).write_bytes(b"".join(lines))
    log["detailed_evaluation_results"] = {
        "format": "jsonl",
        "file_path": samples,
        "hash_algorithm": "sha256",
        "checksum": hashlib.sha256(b"".join(lines)).hexdigest(),
        "total_rows": len(lines),
    }
    write_atomically(folder / aggregate, json.dumps(log, indent=2) + "\n")
    return [folder / aggregate, folder / samples]


def _seconds(run: Finished) -> str:
    return str(run.finished_at.timestamp())


def _aggregate(run: Finished, evaluation_id: str) -> dict[str, Any]:
    developer = run.model_id.rpartition("/")[0] or LOCAL
    versions = run.manifest["versions"]
    engine = {"name": "transformers", "version": str(versions.get("transformers", "unknown"))}
    known = ("dtype", "weights_sha256", "tokenizer_sha256", "replies_sha256")
    more = {name: str(run.manifest[name]) for name in known if run.manifest.get(name)}
    served = run.manifest.get("engine") == "openai"
    return {
        "schema_version": SCHEMA,
        "evaluation_id": evaluation_id,
        "evaluation_timestamp": _seconds(run),
        "retrieved_timestamp": _seconds(run),
        "source_metadata": {
            "source_name": "qwen-eval",
            "source_type": "evaluation_run",
            "source_organization_name": "unknown",
            "evaluator_relationship": "third_party",
        },
        "eval_library": {"name": "qwen-eval", "version": run.version},
        "model_info": {
            "name": run.model,
            "id": run.model_id,
            "developer": developer,
            **({} if served or "engine" not in run.manifest else {"inference_engine": engine}),
            "additional_details": {"deployment_type": "unknown", "model_availability": "unknown", **more},
        },
        "evaluation_results": [_result(run, figure) for figure in run.figures],
    }


def _result(run: Finished, figure: Figure) -> dict[str, Any]:
    unit, largest = figure.unit
    uncertainty: dict[str, Any] = {"num_samples": figure.n}
    if figure.interval is not None:
        low, high = figure.interval
        uncertainty["confidence_interval"] = {"lower": low, "upper": high, "confidence_level": 0.95}
    return {
        **_names(run, figure),
        "source_data": _source(run),
        "metric_config": {
            "metric_id": figure.metric,
            "metric_name": figure.metric,
            "metric_unit": unit,
            "lower_is_better": figure.lower_is_better,
            "score_type": "continuous",
            "min_score": 0.0,
            "max_score": "Infinity" if math.isinf(largest) else largest,
            "additional_details": {"answer_extraction": _extraction(figure)},
        },
        "score_details": {"score": figure.value, "uncertainty": uncertainty, "details": _shown(run.settings)},
        "generation_config": _generation(run),
    }


def _source(run: Finished) -> dict[str, Any]:
    data = run.manifest.get("data") or {}
    details = {
        "items_sha256": str(run.manifest.get("data_sha256", "")),
        "official": str(data.get("official", "unknown")),
    }
    count = max(figure.n for figure in run.figures) if run.figures else 0
    if run.benchmark in HUB_DATA:
        repo, split = HUB_DATA[run.benchmark]
        named = {"source_type": "hf_dataset", "hf_repo": repo, "hf_split": split, "samples_number": count}
        return {"dataset_name": run.benchmark, **named, "additional_details": details}
    return {"dataset_name": run.benchmark, "source_type": "other", "additional_details": details}


def _generation(run: Finished) -> dict[str, Any]:
    decoding = run.decoding
    arguments: dict[str, Any] = {"execution_command": str(run.manifest.get("command", ""))}
    for theirs, ours in (("temperature", "temperature"), ("top_p", "top_p"), ("max_tokens", "max_new_tokens")):
        if ours in decoding:
            arguments[theirs] = decoding[ours]
    return {"generation_args": arguments, "additional_details": _shown(decoding)}


def _shown(values: Mapping[str, Any]) -> dict[str, str]:
    """Texts only, as the schema wants them."""
    return {name: value if isinstance(value, str) else json.dumps(value, default=str) for name, value in values.items()}


def _instance(run: Finished, evaluation_id: str, record: Mapping[str, Any], score: ItemScore) -> dict[str, Any]:
    """A line per item and figure, as the schema asks for: each belongs to one figure, and has its extraction."""
    prompt, gold = str(record["prompt"]), str(record["gold"])
    kind = _extraction(score.figure)
    found = {
        "turn_idx": 0,
        "source": "output.raw",
        "extracted_value": extracted(record, score.figure.robust),
        "extraction_method": kind,
        "is_terminal": True,
    }
    return {
        "schema_version": SCHEMA,
        "evaluation_id": evaluation_id,
        "model_id": run.model_id,
        **_names(run, score.figure),
        "sample_id": key_of(record),
        "sample_hash": hashlib.sha256((prompt + gold).encode("utf-8", "surrogatepass")).hexdigest(),
        "interaction_type": "single_turn",
        "input": {"raw": prompt, "formatted": prompt, "reference": [gold]},
        "output": {"raw": [answer_of(record)]},
        "messages": None,
        "answer_attribution": [found],
        "evaluation": {"score": score.value, "is_correct": score.value == 1.0 if score.mark else False},
        "metadata": {
            "subject": str(record["subject"]),
            "finish": str(record["finish"]),
            "score_kind": "right (1) or wrong (0)" if score.mark else f"value, {score.figure.metric}: never is_correct",
        },
    }


def _names(run: Finished, figure: Figure) -> dict[str, str]:
    name = f"{run.benchmark}/{figure.name}"
    return {"evaluation_result_id": name, "evaluation_name": name}


def _extraction(figure: Figure) -> str:
    return "robust" if figure.robust else "protocol"
