"""`report.py`: one file with every figure and item, in which no text of a model can run."""

import fcntl
import json
import re
import shutil

from qwen_eval.page.prefixes import share_beginnings
from tests.page.conftest import ODD, lines_of, write_lines

import pytest
from hypothesis import given
from hypothesis import strategies as st


def test_the_page_has_every_item_and_every_figure(make_page, runs):
    page = make_page(runs)
    assert [run["benchmark"] for run in page.about["runs"]] == ["gsm8k", "mmlu", "mmlu", "ppl"]
    for number, run in enumerate(page.about["runs"]):
        folder = runs / (("gsm8k", "mmlu", "mmlu-chat", "ppl")[number])
        results, lines = json.loads((folder / "results.json").read_text()), lines_of(folder)
        scores = {score["name"]: (score["value"], score["verdict"]) for score in run["scores"]}
        assert scores == {name: (one["value"], one["verdict"]) for name, one in results["scores"].items()}
        columns = page.items[number]
        marks = dict(zip(zip(columns["id"], columns["sample"], strict=True), columns["correct"], strict=True))
        assert marks == {(line["id"], line["sample"]): int(line["correct"]) for line in lines}
        assert sorted(page.prompts(number)) == sorted(line["prompt"] for line in lines)
        assert run["notes"][-len(results["notes"]) :] == results["notes"]


def test_no_text_of_a_model_is_markup_and_nothing_is_fetched(make_page, runs):
    page = make_page(runs)
    assert ODD in page.items[0]["response"], "the reply is there, as data"
    assert "document.title='ran'" not in page.text and "onerror" not in re.sub(r"<script>.*?</script>", "", page.text)
    parts = re.findall(r"<script[^>]*>", page.text)
    assert len(parts) == page.text.count("</script>")
    assert not re.search(r'(?:src|href|action)="(?!#)', page.text), "no address but places in the page itself"
    (policy,) = re.findall(r'http-equiv="Content-Security-Policy" content="([^"]*)"', page.text)
    assert policy.startswith("default-src 'none'; script-src 'sha256-") and "unsafe" not in policy


def test_shared_beginnings_are_kept_once(make_page, runs):
    page = make_page(runs / "mmlu")
    whole = sum(map(len, page.prompts(0)))
    kept = sum(len(text) for _, text in [*page.items[0]["beginnings"], *page.items[0]["prompt"]])
    assert kept < whole / 2


@given(st.lists(st.text("ab\n", max_size=120), max_size=12), st.text("xyz\n", min_size=50, max_size=90))
def test_every_text_comes_back_as_it_was(texts, beginning):
    texts = [*texts, *(f"{beginning}\n{text}" for text in texts)]
    shared = share_beginnings(texts)
    assert [shared.whole(number) for number in range(len(texts))] == texts


def test_a_baseline_marks_what_was_gained_and_lost(make_page, runs, tmp_path):
    before = tmp_path / "before"
    shutil.copytree(runs / "mmlu", before)
    lines = lines_of(before)
    lines[0]["correct"], lines[1]["correct"] = not lines[0]["correct"], not lines[1]["correct"]
    write_lines(before, lines)
    page = make_page(runs / "mmlu", "--baseline", before)
    columns = page.items[0]
    flips = {name: flip for name, flip in zip(columns["id"], columns["flip"], strict=True) if flip}
    assert flips == {line["id"]: -1 if line["correct"] else 1 for line in lines[:2]}
    summary = page.about["runs"][0]["baseline"]
    assert summary["gained"] + summary["lost"] == 2 and summary["n"] == len(lines)


def fails(ended, *said):
    assert ended.status == 2 and len(ended.err.strip().splitlines()) == 1, ended.err
    assert all(text in ended.err for text in said), ended.err


def test_folders_that_cannot_be_shown_are_one_line(make_page, runs, tmp_path):
    empty = tmp_path / "empty"
    empty.mkdir()
    fails(make_page(empty), "is empty")
    fails(make_page(tmp_path / "nowhere"), "no such folder")
    (empty / "notes.txt").write_text("x")
    fails(make_page(empty), "holds no results of a run")
    fails(make_page(runs / "mmlu/results.json"), "is a file")
    fails(make_page(runs / "mmlu", "--baseline", runs / "gsm8k"), "no run of these benchmarks is there")
    (runs / "mmlu/results.json").write_text("{")
    fails(make_page(runs / "mmlu"), "results.json is not JSON")
    (runs / "gsm8k/samples.jsonl").write_text("{}\n")
    fails(make_page(runs / "gsm8k"), "samples.jsonl line 1 has no 'id'")


def test_a_run_that_is_still_going_is_refused_or_shown_as_unfinished(make_page, runs):
    with open(runs / "mmlu/samples.jsonl") as file:
        fcntl.flock(file, fcntl.LOCK_EX)
        fails(make_page(runs / "mmlu"), "is still going", "--unfinished")
    (runs / "mmlu/results.json").unlink()
    fails(make_page(runs / "mmlu"), "was stopped before its end", "--unfinished")
    page = make_page(runs / "mmlu", "--unfinished")
    assert page.about["runs"][0]["unfinished"] and page.about["runs"][0]["scores"] == []
    assert len(page.items[0]["id"]) == len(lines_of(runs / "mmlu"))


@pytest.mark.parametrize("value", [float("nan"), float("inf")])
def test_figures_that_are_no_numbers_do_not_break_the_page(make_page, runs, value):
    path = runs / "mmlu/results.json"
    results = json.loads(path.read_text())
    results["scores"]["acc"]["value"] = value
    path.write_text(json.dumps(results))
    assert make_page(runs / "mmlu").about["runs"][0]["scores"][0]["value"] is None
