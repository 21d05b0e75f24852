"""Result folders and files of lm-evaluation-harness, in their real formats."""

import hashlib
import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from qwen_eval.reporting.samples import flat_record, packed


def sha(text: object) -> str:
    return hashlib.sha256(str(text).encode()).hexdigest()


def line(name: str, correct: bool, prompt: str = "", gold: str = "A", **fields: Any) -> dict[str, Any]:
    """A line of samples.jsonl; the rest of its fields follow from these."""
    prompt = prompt or f"Question: what is {name}?\nAnswer:"
    given = {
        "id": name,
        "subject": name.partition("/")[0],
        "prompt": prompt,
        "prompt_sha256": sha(prompt),
        "prediction": gold if correct else "B",
        "gold": gold,
        "correct": correct,
        "item_sha256": sha([name, prompt, gold]),
        "run": "0",
    }
    return packed(flat_record({**given, **fields}))


def write_run(folder: Path, lines: Sequence[Mapping[str, Any]], benchmark: str = "gsm8k", **settings: Any) -> Path:
    """A finished run."""
    folder.mkdir(parents=True, exist_ok=True)
    text = "".join(json.dumps(one) + "\n" for one in lines)
    (folder / "samples.jsonl").write_text(text)
    results = {
        "benchmark": benchmark,
        "model": folder.name,
        "scores": {},
        "manifest": {"settings": {"benchmark": benchmark, "chat": False, "num_fewshot": 8, **settings}},
    }
    (folder / "results.json").write_text(json.dumps(results))
    return folder


def run_of_marks(folder: Path, marks: Sequence[bool], **more: Any) -> Path:
    return write_run(folder, [line(f"test/{n}", bool(mark)) for n, mark in enumerate(marks)], **more)


def lm_eval_line(number: int, right: bool, question: str, reply: str = "18", **fields: Any) -> dict[str, Any]:
    """As EvaluationTracker.save_results_samples of lm-evaluation-harness 0.4.13 writes it."""
    prompt = f"Question: {question}\nAnswer:"
    return {
        "doc_id": number,
        "doc": {"question": question, "answer": "#### 18"},
        "target": "#### 18",
        "arguments": {"gen_args_0": {"arg_0": prompt, "arg_1": {"until": ["Question:"], "do_sample": False}}},
        "resps": [[f"so it is {reply}"]],
        "filtered_resps": [reply],
        "filter": "strict-match",
        "metrics": ["exact_match"],
        "doc_hash": sha(question),
        "prompt_hash": sha(prompt),
        "target_hash": sha("#### 18"),
        "exact_match": float(right),
        **fields,
    }


def choice_line(number: int, best: int, gold: int, question: str) -> dict[str, Any]:
    """A multiple-choice document: four log-likelihoods, as text."""
    pairs = [[str(-1.0 - (index != best)), "False"] for index in range(4)]
    prompt = f"{question}\nA. a\nB. b\nC. c\nD. d\nAnswer:"
    return {
        "doc_id": number,
        "doc": {"question": question, "choices": ["a", "b", "c", "d"], "answer": gold},
        "target": str(gold),
        "arguments": {f"gen_args_{n}": {"arg_0": prompt, "arg_1": f" {'ABCD'[n]}"} for n in range(4)},
        "resps": [[pair] for pair in pairs],
        "filtered_resps": pairs,
        "filter": "none",
        "metrics": ["acc"],
        "doc_hash": sha(question),
        "prompt_hash": sha(prompt),
        "target_hash": sha(gold),
        "acc": float(best == gold),
    }


def write_lines(path: Path, *lines: Mapping[str, Any]) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text("".join(json.dumps(one) + "\n" for one in lines))
    return path
