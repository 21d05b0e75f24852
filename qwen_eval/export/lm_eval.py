"""lm-evaluation-harness's output (0.4): `{model}/results_{date}.json` and `samples_{task}_{date}.jsonl`."""

import hashlib
import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from qwen_eval.export.finished import HUB_DATA, Finished, extracted
from qwen_eval.export.item_scores import item_scores
from qwen_eval.extraction.labels import LETTERS
from qwen_eval.reporting.journal import line_of
from qwen_eval.reporting.samples import NO_LOGITS
from qwen_eval.reporting.tables import write_atomically

MODEL_TYPES = {"local": "hf", "vllm": "vllm", "openai": "local-chat-completions"}  # its names of engines
OUTPUT_TYPES = {"ppl": "loglikelihood_rolling"}


def write(run: Finished, folder: Path) -> list[Path]:
    place = folder / run.model_id.replace("/", "__")
    place.mkdir(parents=True, exist_ok=True)
    stamp = run.finished_at.strftime("%Y-%m-%dT%H-%M-%S.%f")
    results, samples = place / f"results_{stamp}.json", place / f"samples_{run.benchmark}_{stamp}.jsonl"
    lines = [_sample(run, number, record) for number, record in enumerate(run.records().values())]
    sums = _hash("".join(line["doc_hash"] + line["prompt_hash"] + line["target_hash"] for line in lines))
    samples.write_bytes(b"".join(map(line_of, lines)))
    write_atomically(results, json.dumps(_results(run, len(lines), sums), ensure_ascii=False, indent=2) + "\n")
    return [results, samples]


def _results(run: Finished, count: int, task_hash: str) -> dict[str, Any]:
    task, figures, manifest = run.benchmark, run.figures, run.manifest
    scores: dict[str, Any] = {"alias": task}
    for figure in figures:
        error = "N/A" if figure.standard_error is None else figure.standard_error
        scores |= {f"{figure.name},none": figure.share, f"{figure.name}_stderr,none": error}
    shots = run.settings.get("num_fewshot")
    return {
        "results": {task: scores},
        "group_subtasks": {task: []},
        "configs": {task: _config(run)},
        "versions": {task: run.version},
        "n-shot": {task: shots},
        "higher_is_better": {task: {figure.name: not figure.lower_is_better for figure in figures}},
        "n-samples": {task: {"original": run.whole or count, "effective": count}},
        "config": {
            "model": MODEL_TYPES.get(str(manifest.get("engine")), "qwen-eval"),
            "model_args": {"pretrained": run.model_id, "dtype": manifest.get("dtype")},
            "model_dtype": manifest.get("dtype"),
            "limit": manifest.get("limit"),
            "random_seed": manifest.get("seed"),
        },
        "git_hash": manifest.get("git_commit"),
        "date": run.finished_at.timestamp(),
        "transformers_version": manifest["versions"].get("transformers"),
        "model_source": "qwen-eval",
        "model_name": run.model_id,
        "model_name_sanitized": run.model_id.replace("/", "__"),
        "task_hashes": {task: task_hash},
        "total_evaluation_time_seconds": str(manifest.get("seconds", "")),
    }


def _config(run: Finished) -> dict[str, Any]:
    repo, split = HUB_DATA.get(run.benchmark, ("", "test"))
    generated = {"generation_kwargs": _generation(run)} if run.decoding else {}
    kind = "generate_until" if run.decoding else OUTPUT_TYPES.get(run.benchmark, "multiple_choice")
    return {
        "task": run.benchmark,
        "dataset_path": repo,
        "test_split": split,
        "output_type": kind,
        "num_fewshot": run.settings.get("num_fewshot"),
        **generated,
        "metadata": {"version": run.version, "harness": "qwen-eval"},
    }


def _generation(run: Finished) -> dict[str, Any]:
    decoding = {name: value for name, value in run.decoding.items() if name != "stop"}
    return {**decoding, "until": list(run.decoding.get("stop", ()))}


def _sample(run: Finished, number: int, record: Mapping[str, Any]) -> dict[str, Any]:
    """All values of `resps` are texts, as there. Of a choice the logit is known, not whether it was greedy."""
    prompt, target = str(record["prompt"]), str(record["gold"])
    logits = record["choice_logits"]
    arguments: list[tuple[Any, ...]]
    if logits != NO_LOGITS:
        arguments = [(prompt, label) for label in _labels(record)]
        answers: list[Any] = [[[str(value), "None"]] for value in logits]
        filtered: list[Any] = [answer[0] for answer in answers]
    else:
        arguments = [(prompt, _generation(run))] if run.decoding else [(prompt,)]
        answers, filtered = [[str(record["response"])]], [extracted(record, robust=False)]
    doc = {name: record[name] for name in ("id", "subject", "sample", "gold")}
    scores = {score.figure.name: score.value for score in item_scores(run, record)}
    return {
        "doc_id": number,
        "doc": doc,
        "target": target,
        "arguments": {
            f"gen_args_{n}": {f"arg_{at}": part for at, part in enumerate(parts)} for n, parts in enumerate(arguments)
        },
        "resps": answers,
        "filtered_resps": filtered,
        "filter": "none",
        "metrics": list(scores),
        "doc_hash": _hash(json.dumps(doc, ensure_ascii=False, indent=2)),
        "prompt_hash": _hash(prompt),
        "target_hash": _hash(target),
        **scores,
    }


def _labels(record: Mapping[str, Any]) -> list[str]:
    """The choices' names: letters, where the one that was chosen is the letter of its place; else their numbers."""
    logits = record["choice_logits"]
    letters = LETTERS[: len(logits)]
    best = max(range(len(logits)), key=logits.__getitem__)
    named = len(letters) == len(logits) and record["prediction"] == letters[best]
    return list(letters) if named else [str(number) for number in range(len(logits))]


def _hash(text: str) -> str:
    return hashlib.sha256(text.encode("utf-8", "surrogatepass")).hexdigest()
