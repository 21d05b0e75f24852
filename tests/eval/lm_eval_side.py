"""The same questions in lm-evaluation-harness, for the heavy tests that hold a benchmark against it."""

from pathlib import Path
from typing import Any

import pytest


def own_task(yaml: str, files: dict[str, str], **changes: Any) -> dict[str, Any]:
    """A task of lm-evaluation-harness's own, such as `arc/arc_challenge.yaml`, on files of ours (split -> JSON)."""
    import lm_eval.tasks
    from lm_eval.tasks._yaml_loader import load_yaml

    task = dict(load_yaml(Path(lm_eval.tasks.__file__).parent / yaml, resolve_func=True))
    for name in ("tag", "dataset_name", "metadata", "should_decontaminate"):
        task.pop(name, None)
    ours = {"task": f"our_{task['task']}", "dataset_path": "json", "dataset_kwargs": {"data_files": files}}
    return {**task, **ours, **changes}


def in_lm_eval(checkpoint: Path, task: dict[str, Any]) -> list[dict[str, Any]]:
    """Its samples of one task of ours, 5-shot."""
    from qwen_model.loading import load_model, load_tokenizer

    import torch
    from lm_eval import simple_evaluate
    from lm_eval.models.huggingface import HFLM

    model = load_model(checkpoint, dtype=torch.float32).eval()
    lm = HFLM(pretrained=model, tokenizer=load_tokenizer(checkpoint), batch_size=1, device="cpu", max_length=8192)
    metrics = [{"metric": name, "aggregation": "mean", "higher_is_better": True} for name in ("acc", "acc_norm")]
    config = {"output_type": "multiple_choice", "num_fewshot": 5, "metric_list": metrics, **task}
    config["fewshot_config"] = {"sampler": "first_n"}
    done = simple_evaluate(model=lm, tasks=[config], log_samples=True, bootstrap_iters=0)
    samples_of_it: list[dict[str, Any]] = done["samples"][task["task"]]
    return samples_of_it


def compare(ours: dict[str, dict[str, Any]], theirs: list[dict[str, Any]], split: str) -> None:
    """The same prompts, likelihoods, acc and acc_norm for every item."""
    assert len(ours) == len(theirs)
    for one in theirs:
        row = ours[f"{split}/{one['doc_id']}"]
        asked = [argument[0] for argument in _arguments(one)]
        assert set(asked) == {row["prompt"]}
        likelihoods = [float(response[0]) for response in one["filtered_resps"]]
        assert row["choice_logits"] == pytest.approx(likelihoods, abs=2e-4)
        assert (row["correct"], row["correct_norm"]) == (bool(one["acc"]), bool(one["acc_norm"]))


def _arguments(sample: dict[str, Any]) -> list[list[str]]:
    given = sample["arguments"]
    if isinstance(given, dict):
        return [[part["arg_0"], part["arg_1"]] for part in given.values()]
    return [list(part) for part in given]
