"""What the tests of perplexity share: the settings of their runs, and what a run writes."""

import json
from pathlib import Path
from typing import Any

from qwen_eval.reporting.samples import unpacked

TRAINED = 64
LENGTHS = [64, 128, 200, 256]
NAMES = ["none", "dynamic_ntk", "dynamic_ntk + logn", "dynamic_ntk + logn + window_attn"]


def trained_at(folder: Path, length: int) -> Path:
    config = json.loads((folder / "config.json").read_text())
    (folder / "config.json").write_text(json.dumps({**config, "seq_length": length}))
    return folder


def samples(folder: Path) -> list[dict[str, Any]]:
    return [unpacked(json.loads(line)) for line in (folder / "samples.jsonl").read_text(encoding="utf-8").splitlines()]


def results(folder: Path) -> dict[str, Any]:
    return json.loads((folder / "results.json").read_text(encoding="utf-8"))


def figures(folder: Path) -> dict[str, float]:
    return {name: score["value"] for name, score in results(folder)["scores"].items()}


def refused(ended, *words: str) -> None:
    assert ended.status == 2, ended
    assert ended.err.count("\n") == 1, ended.err
    assert "; --debug shows where" not in ended.err, f"not foreseen: {ended.err}"
    for word in words:
        assert word in ended.err, ended.err


def flag(lengths: list[int]) -> str:
    return ",".join(map(str, lengths))
