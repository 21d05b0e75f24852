"""A run read back from its folder: the same for compare.py, export.py and report.py."""

import fcntl
import json

from qwen_eval.errors import UserError
from qwen_eval.reporting.finished import read_run

import pytest


@pytest.fixture
def folder(script, tmp_path):
    """Two questions per subject, in a folder that an earlier start filled with four."""
    out = tmp_path / "mmlu"
    for limit in (4, 2):
        assert script("mmlu", "-c", "demo", "--limit", limit, "-o", out).status == 0
    return out


def ids(path) -> list[str]:
    return [json.loads(line)["id"] for line in path.read_text().splitlines()]


def test_the_items_are_those_of_the_figures(folder):
    run = read_run(folder)
    found = run.records()
    assert len(ids(folder / "samples.jsonl")) == 20 and len(found) == run.results["scores"]["acc"]["n"] == 10
    assert {key[0].rpartition("/")[2] for key in found} == {"0", "1"}


@pytest.mark.parametrize("command", [("compare", 2), ("export", 1), ("report", 1)], ids=lambda one: one[0])
def test_a_run_that_is_going_is_refused_by_every_reader(script, folder, tmp_path, monkeypatch, command):
    monkeypatch.chdir(tmp_path)
    name, times = command
    with open(folder / "samples.jsonl") as file:
        fcntl.flock(file, fcntl.LOCK_EX)
        ended = script(name, *[folder] * times)
    assert ended.status == 2 and f"{folder}: this run is still going; wait for it" in ended.err
    assert len(ended.err.strip().splitlines()) == 1


def test_compare_takes_the_items_of_the_figures(script, folder, tmp_path):
    ended = script("compare", folder, folder, "-o", tmp_path / "out")
    assert ended.status == 0, ended.err
    (found,) = json.loads((tmp_path / "out/comparison.json").read_text())["benchmarks"].values()
    assert found["a"]["items"] == found["b"]["items"] == 10


def test_a_run_that_was_started_again_and_stopped_is_not_finished(folder):
    lines = (folder / "samples.jsonl").read_text().splitlines()
    kept = [line for line in lines if not json.loads(line)["id"].endswith("/1")]
    (folder / "samples.jsonl").write_text("\n".join(kept) + "\n")
    with pytest.raises(UserError, match=r"its figures are of 10 items and samples\.jsonl has 5 of them"):
        read_run(folder).records()
