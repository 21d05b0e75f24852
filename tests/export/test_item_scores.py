"""What an item adds to which figure: the exports of an item agree with those of the figures."""

import json
from collections import defaultdict
from pathlib import Path
from statistics import fmean

from qwen_eval.export.finished import Finished, extracted, read_finished
from qwen_eval.export.item_scores import item_scores

import pytest


def finished(benchmark: str, *names: str) -> Finished:
    """A run with such figures, of no items."""
    scores = {name: {"value": 50.0, "n": 2, "ci95": None, "row": {"metric": name}} for name in names}
    return Finished(Path("out"), {"benchmark": benchmark, "model": "m", "scores": scores, "manifest": {}})


def scores_of(run: Finished, **record) -> dict[str, tuple[float, bool]]:
    return {score.figure.name: (score.value, score.mark) for score in item_scores(run, record)}


@pytest.mark.parametrize(
    "run",
    [
        ("mmlu", "-c", "demo", "--limit", "2"),
        ("gsm8k", "-c", "demo-chat", "--limit", "4"),
        ("vcsum", "-c", "demo-chat", "--limit", "2"),
        ("plugin", "-c", "demo-chat", "--limit", "3"),
    ],
    ids=lambda run: run[0],
)
def test_the_mean_over_the_items_of_a_figure_is_the_figure(script, tmp_path, run):
    assert script(*run, "-o", tmp_path / "out").status == 0
    found = read_finished(tmp_path / "out")
    values = defaultdict(list)
    for record in found.records().values():
        for score in item_scores(found, record):
            values[score.figure.name].append(score.value)
    assert values.keys() == {figure.name for figure in found.figures}
    for figure in found.figures:
        assert len(values[figure.name]) == figure.n
        assert fmean(values[figure.name]) == pytest.approx(figure.share)


def test_a_perplexity_is_a_value_and_never_right_or_wrong():
    run = finished("ppl", "none/seq_512", "none/seq_1024")
    record = {"subject": "none", "correct": True, "nll": {"512": {"mean": 1.0, "tokens": 511}}}
    assert scores_of(run, **record) == {"none/seq_512": (pytest.approx(2.718281828), False)}


def test_a_sentence_of_a_corpus_bleu_has_no_score():
    assert scores_of(finished("wmt22", "bleu_en-zh"), subject="en-zh", correct=False, correct_robust=False) == {}


def test_a_program_of_a_code_interpreter_has_its_own_figures():
    run = finished("code_interpreter", "executable_math", "acc_math", "acc_math_robust", "executable_all")
    record = {"executable": True, "executable_robust": False, "correct": False, "correct_robust": True}
    assert scores_of(run, subject="math", gold="4", **record) == {
        "executable_math": (1.0, True),
        "executable_all": (1.0, True),
        "acc_math": (0.0, True),
        "acc_math_robust": (1.0, True),
    }
    assert scores_of(run, subject="general", gold="", **record) == {"executable_all": (1.0, True)}


def test_the_parts_of_an_agents_step_are_values():
    names = ("tool_selection", "tool_used", "code")
    record = {name + kind: 0.5 for name in names for kind in ("", "_robust")}
    assert scores_of(finished("hf_agent_run", "tool_used", "code_robust"), **record) == {
        "tool_used": (0.5, False),
        "code_robust": (0.5, False),
    }


def test_each_way_to_count_has_its_figure():
    marks = {"correct": True, "correct_robust": True, "correct_norm": False, "correct_bytes": True}
    run = finished("custom", "acc", "acc_norm", "acc_bytes")
    assert scores_of(run, **marks) == {"acc": (1.0, True), "acc_norm": (0.0, True), "acc_bytes": (1.0, True)}
    run = finished("humaneval", "pass@1", "pass@10", "pass@1_plus", "pass@1_robust")
    assert scores_of(run, correct=True, correct_robust=True, correct_plus=False) == {
        "pass@1": (1.0, True),
        "pass@1_plus": (0.0, True),
        "pass@1_robust": (1.0, True),
    }


def test_what_was_extracted_is_exported_of_a_program_the_program():
    program = {"prediction": "passed", "prediction_robust": "", "completion": "    return 1"}
    assert extracted(program, robust=False) == "    return 1"
    answer = {"prediction": "7", "prediction_robust": "8"}
    assert (extracted(answer, robust=False), extracted(answer, robust=True)) == ("7", "8")


def test_figures_are_exported_with_the_items_that_they_are_of(script, tmp_path):
    flags = ("mmlu", "-c", "demo", "-o", tmp_path)
    assert script(*flags, "--limit", "3").status == 0
    assert script(*flags, "--limit", "1").status == 0
    found = read_finished(tmp_path)
    assert len((tmp_path / "samples.jsonl").read_text().splitlines()) == 15
    assert len(found.records()) == found.figures[0].n == 5 and found.whole == 99


def test_a_folder_whose_run_was_started_again_and_is_not_finished_is_one_line(script, tmp_path):
    flags = ("mmlu", "-c", "demo", "--limit", "1", "-o", tmp_path)
    assert script(*flags).status == 0
    path = tmp_path / "samples.jsonl"
    more = {**json.loads(path.read_text().splitlines()[0]), "id": "astronomy/77"}
    path.write_text(path.read_text() + json.dumps(more) + "\n")
    ended = script("export", tmp_path, "--export", "eee,lm-eval,inspect")
    assert ended.status == 2 and ended.out == ""
    assert ended.err.count("its figures are of 5 items and samples.jsonl has 6") == 3
