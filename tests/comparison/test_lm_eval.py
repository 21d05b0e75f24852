"""lm-evaluation-harness's samples on either side: matched by question, and on which items the harnesses differ."""

import json
from pathlib import Path

from qwen_eval.comparison import sides as of_files
from qwen_eval.comparison.pairing import pair_up
from tests.comparison.runs import choice_line, line, lm_eval_line, write_lines, write_run

import pytest


def read_sides(path: Path, filter_name: str | None = None) -> dict[str, of_files.Side]:
    return of_files.read_sides(path, filter_name)[0]


DATE = "2025-01-01T00-00-00.123"


def gsm8k(folder: Path, right: list[bool], order: list[int] | None = None, **fields) -> Path:
    numbers = order or list(range(len(right)))
    lines = [lm_eval_line(place, right[n], f"How many is {n} and {n}?", **fields) for place, n in enumerate(numbers)]
    return write_lines(folder / f"samples_gsm8k_{DATE}.jsonl", *lines)


def ours(folder: Path, right: list[bool]) -> Path:
    """Two examples and the question; `test/1` asks what lm-eval's document 1 asks."""
    shots = "Question: How many is one and one?\nAnswer: #### 2\n\n"
    return write_run(
        folder,
        [
            line(f"test/{n}", mark, f"{shots}Question: How many is {n} and {n}?\nAnswer:")
            for n, mark in enumerate(right)
        ],
    )


def test_two_files_are_paired_by_document_and_a_loss_is_found(script, tmp_path):
    a, b = gsm8k(tmp_path / "a", [True] * 200), gsm8k(tmp_path / "b", [n >= 20 for n in range(200)])
    for words in ((a, b), (a.parent, b.parent)):
        ended = script("compare", *words)
        assert ended.status == 1, ended
        assert "read as right or wrong: exact_match" in ended.out


def test_documents_in_another_order_are_paired_by_their_question(tmp_path):
    order = [3, 0, 4, 1, 2]
    a = read_sides(gsm8k(tmp_path / "a", [n == 3 for n in range(5)]))["gsm8k"]
    b = read_sides(gsm8k(tmp_path / "b", [n == 3 for n in range(5)], order))["gsm8k"]
    found = pair_up(a, b)
    assert all(pair.a.question == pair.b.question and pair.a.correct == pair.b.correct for pair in found.pairs)
    assert len(found.pairs) == 5 and not found.differences


def test_other_generation_settings_and_prompts_are_no_regression(script, tmp_path):
    a = gsm8k(tmp_path / "a", [True] * 60)
    b = gsm8k(tmp_path / "b", [False] * 60)
    lines = [json.loads(one) for one in b.read_text().splitlines()]
    for one in lines:
        one["arguments"]["gen_args_0"]["arg_0"] += " Let's think."
        one["arguments"]["gen_args_0"]["arg_1"]["do_sample"] = True
    write_lines(b, *lines)
    ended = script("compare", a, b)
    assert ended.status == 0 and "NOT COMPARABLE" in ended.out
    assert "generation.do_sample is false in A and true in B" in ended.out
    assert "60 of 60 shared items have another prompt" in ended.out


@pytest.mark.parametrize("lm_eval_first", [True, False])
def test_against_a_run_of_ours_it_says_where_the_harnesses_differ_with_both_prompts(
    script, tmp_path, lm_eval_first: bool
):
    order = [1, 0, *range(2, 60)]
    theirs = gsm8k(tmp_path / "lm", [n != 7 for n in range(60)], order)
    own = ours(tmp_path / "own", [n != 9 for n in range(60)])
    sides = (theirs, own) if lm_eval_first else (own, theirs)
    ended = script("compare", *sides, "-o", tmp_path / "out")
    assert ended.status == 0 and "two harnesses" in ended.out and "60 of 60 items have another prompt" in ended.out
    flips = [json.loads(one) for one in (tmp_path / "out/flips.jsonl").read_text().splitlines()]
    assert {one["id"].rpartition("/")[2]: one["change"] for one in flips} == (
        {"7": "gained", "9": "lost"} if lm_eval_first else {"7": "lost", "9": "gained"}
    )
    for one in flips:
        number = one["id"].rpartition("/")[2]
        prompts = one["prompt_a"], one["prompt_b"]
        assert all(f"Question: How many is {number} and {number}?" in prompt for prompt in prompts)
        assert sum("How many is one and one?" in prompt for prompt in prompts) == 1
    assert len((tmp_path / "out/prompts.jsonl").read_text().splitlines()) == 60


def test_a_run_exported_for_lm_eval_is_the_run_itself(script, tmp_path):
    own, data = tmp_path / "own", Path(__file__).resolve().parents[2] / "demo/data/gsm8k"
    replies = write_lines(tmp_path / "r.jsonl", *({"id": f"test/{n}", "response": f"It is {n}."} for n in range(30)))
    assert script("gsm8k", "--rescore", replies, "-d", data, "-k", 2, "--base", "-o", own).status == 0
    assert script("export", own, "--export", "lm-eval", "-o", tmp_path / "exported").status == 0
    ended = script("compare", own, tmp_path / "exported", "--ignore-differences", "-o", tmp_path / "out")
    assert ended.status == 0 and "another prompt" not in ended.out and "only in" not in ended.out
    (found,) = json.loads((tmp_path / "out/comparison.json").read_text())["figures"]
    assert (found["items"], found["lost"], found["gained"]) == (30, 0, 0)


def test_a_question_that_is_nowhere_else_is_named(script, tmp_path):
    theirs = gsm8k(tmp_path / "lm", [True] * 3)
    own = ours(tmp_path / "own", [True] * 2)
    assert "1 items only in A, in no figure: gsm8k/2" in script("compare", theirs, own).out


def test_choices_of_every_subject_are_one_benchmark(tmp_path):
    for subject in ("nutrition", "human_sexuality"):
        lines = [choice_line(n, n % 4, 0, f"Which {subject} {n}?") for n in range(4)]
        write_lines(tmp_path / "lm" / f"samples_mmlu_{subject}_{DATE}.jsonl", *lines)
        write_lines(tmp_path / "lm" / f"samples_mmlu_{subject}_2024-01-01T00-00-00.1.jsonl", lines[0])  # older
    (side,) = read_sides(tmp_path / "lm").values()
    assert side.benchmark == "mmlu" and len(side.rows) == 8
    assert side.rows["mmlu_nutrition/2", 0].prediction == "C" and not side.rows["mmlu_nutrition/2", 0].correct
    own = write_run(
        tmp_path / "own",
        [line(f"nutrition/{n}", True, f"Question: Which nutrition {n}?\nA. a\nAnswer:") for n in range(4)],
        benchmark="mmlu",
    )
    found = pair_up(read_sides(own)["mmlu"], side)
    assert [pair.key for pair in found.pairs] == [(f"nutrition/{n}", 0) for n in range(4)]
    assert all(pair.b.subject == "mmlu_nutrition" for pair in found.pairs)


def test_the_first_filter_counts_unless_another_is_named(script, tmp_path):
    path = tmp_path / f"samples_gsm8k_{DATE}.jsonl"
    lines = [lm_eval_line(n, False, f"q {n}") for n in range(3)]
    write_lines(path, *lines, *({**one, "filter": "flexible-extract", "exact_match": 1.0} for one in lines))
    first, other = (read_sides(path, name)["gsm8k"] for name in (None, "flexible-extract"))
    assert not any(row.correct for row in first.rows.values()) and all(row.correct for row in other.rows.values())
    assert "filters strict-match, flexible-extract; the first counts" in script("compare", path, path).out
    assert script("compare", path, path, "--filter", "none").err.endswith(
        "has no filter 'none'; it has strict-match, flexible-extract\n"
    )


@pytest.mark.parametrize(
    ("fields", "said"),
    [
        ({"doc_id": "x"}, "line 1: 'doc_id' is \"x\", not a whole number"),
        ({"exact_match": 0.4}, "has no metric of 0 or 1 (it has: exact_match); --metric names one"),
        ({"arguments": None}, "is no line of lm-evaluation-harness"),
    ],
)
def test_a_line_that_is_none_of_lm_eval_is_one_line(script, tmp_path, fields: dict, said: str):
    row = {name: value for name, value in {**lm_eval_line(0, True, "q"), **fields}.items() if value is not None}
    path = write_lines(tmp_path / "samples_gsm8k.jsonl", row)
    ended = script("compare", path, path)
    assert ended.status == 2 and ended.err.count("\n") == 1 and said in ended.err, ended


TASK = """\
task: {name}
dataset_path: json
dataset_kwargs: {{data_files: {{test: {data}}}}}
test_split: test
"""
GSM8K = """\
output_type: generate_until
doc_to_text: "Question: {{question}}\\nAnswer:"
doc_to_target: "{{answer}}"
generation_kwargs: {until: ["Question:"], do_sample: false}
metric_list: [{metric: exact_match, aggregation: mean, higher_is_better: true}]
"""
MMLU = """\
output_type: multiple_choice
doc_to_text: "{{question}}\\nAnswer:"
doc_to_choice: [A, B, C, D]
doc_to_target: answer
metric_list: [{metric: acc, aggregation: mean, higher_is_better: true}]
"""


@pytest.mark.heavy
def test_files_that_lm_evaluation_harness_itself_writes_are_read(script, tmp_path, monkeypatch):
    pytest.importorskip("lm_eval", reason="lm-evaluation-harness comes with the bench extra; .ci/run installs it")
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    monkeypatch.setenv("HF_DATASETS_CACHE", str(tmp_path / "cache"))
    from lm_eval import simple_evaluate
    from lm_eval.loggers import EvaluationTracker
    from lm_eval.tasks import TaskManager

    for name, kind in (("gsm8k", GSM8K), ("mmlu_astronomy", MMLU)):
        rows = [{"question": f"What is {n} of {name}?", "answer": "B"} for n in range(12)]
        data = write_lines(tmp_path / "data" / f"{name}.jsonl", *rows)
        (tmp_path / "data" / f"{name}.yaml").write_text(TASK.format(name=name, data=data) + kind)
    tracker = EvaluationTracker(output_path=str(tmp_path / "lm"))
    tasks = TaskManager(include_path=str(tmp_path / "data"), include_defaults=False)
    found = simple_evaluate(
        model="dummy",
        tasks=["gsm8k", "mmlu_astronomy"],
        task_manager=tasks,
        evaluation_tracker=tracker,
        log_samples=True,
        bootstrap_iters=0,
    )
    samples_of = found.pop("samples")
    tracker.save_results_aggregated(results=found, samples=samples_of)  # gives the files their date
    for name, samples in samples_of.items():
        tracker.save_results_samples(task_name=name, samples=samples)
    sides = read_sides(tmp_path / "lm")
    assert {name: len(side.rows) for name, side in sides.items()} == {"gsm8k": 12, "mmlu": 12}
    right = [bool(one["acc"]) for one in samples_of["mmlu_astronomy"]]
    assert [row.correct for row in sides["mmlu"].rows.values()] == right
    assert [row.prediction == "B" for row in sides["mmlu"].rows.values()] == right
    own = write_run(tmp_path / "own", [line(f"test/{n}", True, f"Q: What is {n} of gsm8k?") for n in range(12)])
    ended = script("compare", tmp_path / "lm", own)
    assert ended.status == 0 and "12 of 12 items have another prompt" in ended.out, ended
