"""The real data of every benchmark goes through its script, with a tiny model: 20 items of each subject."""

import json
from pathlib import Path

import pytest

RUNS = {
    "mmlu": ("mmlu", ()),
    "ceval": ("ceval", ()),
    "ceval test": ("ceval", ("--split", "test")),
    "cmmlu": ("cmmlu", ()),
    "mmlu chat": ("mmlu", ("--chat",)),
    "ceval chat": ("ceval", ("--chat", "-k", "5")),
    "cmmlu chat": ("cmmlu", ("--chat",)),
    "gsm8k": ("gsm8k", ()),
    "gsm8k chat": ("gsm8k", ("--chat", "-k", "4")),
    "math": ("math", ()),
    "bbh": ("bbh", ()),
    "bbh answer-only": ("bbh", ("--no-cot",)),
    "wmt22": ("wmt22", ()),
    "vcsum": ("vcsum", ("--chat", "--max-seq-len", "2048")),
    "humaneval": ("humaneval", ()),
    "humaneval chat": ("humaneval", ("--chat",)),
    "mbpp": ("mbpp", ()),
}


@pytest.mark.heavy
@pytest.mark.timeout(900)
@pytest.mark.parametrize("name", RUNS)
def test_twenty_items_of_each_subject(name: str, script, demo_checkpoint: Path, shared: Path, tmp_path: Path) -> None:
    benchmark, flags = RUNS[name]
    data = shared / f"data/{benchmark}"
    ended = script(
        benchmark, "-c", demo_checkpoint, "-d", data, "--limit", 20, "--max-new-tokens", 16, "-o", tmp_path, *flags
    )
    assert ended.status == 0, ended.err
    lines = [json.loads(line) for line in (tmp_path / "samples.jsonl").read_text(encoding="utf-8").splitlines()]
    results = json.loads((tmp_path / "results.json").read_text(encoding="utf-8"))
    subjects = {line["subject"] for line in lines}
    assert len(lines) >= 20 and all(sum(line["subject"] == one for line in lines) <= 20 for one in subjects)
    assert all(isinstance(line["correct"], bool) for line in lines)
    for score in results["scores"].values():
        assert score["verdict"] != "reproduced", "a part of the items"
    assert (tmp_path / "table.md").exists() and (tmp_path / "table.csv").exists()
