"""`compare.py A B`: worse or not, by which test, on which items; and when no regression can be told."""

import json
import re
from pathlib import Path

from tests.comparison.runs import line, run_of_marks, write_run

import pytest

N = 500


def marks(right: int, n: int = N) -> list[bool]:
    return [number < right for number in range(n)]


def figure(folder: Path, number: int = 0) -> dict:
    return json.loads((folder / "comparison.json").read_text())["figures"][number]


def flips(folder: Path) -> list[dict]:
    return [json.loads(one) for one in (folder / "flips.jsonl").read_text().splitlines()]


@pytest.fixture
def compare(script, tmp_path):
    """Run compare.py; its files go to out/."""
    return lambda *words: script("compare", *words, "-o", tmp_path / "out")


def test_a_significant_loss_is_status_1_with_every_flipped_item(compare, tmp_path):
    a = run_of_marks(tmp_path / "a", marks(300))
    b = run_of_marks(tmp_path / "b", [*marks(280, 495), *[True] * 5])
    ended = compare(a, b)
    assert ended.status == 1, ended
    found = figure(tmp_path / "out")
    assert (found["lost"], found["gained"], found["items"], found["verdict"]) == (20, 5, 500, "worse")
    assert found["difference"] == pytest.approx(-3.0) and found["p_loss"] == pytest.approx(0.00204, abs=1e-5)
    assert found["p_two_sided"] == pytest.approx(2 * found["p_loss"])
    assert found["ci95"][0] < -3 < found["ci95"][1] < 0
    assert "McNemar, exact" in ended.out and "worse" in ended.out
    listed = flips(tmp_path / "out")
    assert [one["id"] for one in listed if one["change"] == "lost"] == [f"test/{n}" for n in range(280, 300)]
    assert [one["id"] for one in listed if one["change"] == "gained"] == [f"test/{n}" for n in range(495, 500)]
    assert listed[0]["prediction_a"] == "A" and listed[0]["prediction_b"] == "B" and listed[0]["gold"] == "A"
    shown = " ".join(ended.out.split())  # a title is broken where its table is narrow
    assert "lost: 20 items, the first 10" in shown and "gained: 5 items" in shown
    assert "test/289" in ended.out and "test/290" not in ended.out


def test_what_the_items_can_show_is_said_before_the_comparison(compare, tmp_path):
    a, b = (run_of_marks(tmp_path / name, marks(300)) for name in "ab")
    ended = compare(a, b)
    assert ended.status == 0
    assert ended.out.startswith("gsm8k: 500 items can show a true loss of 3.0 points or more (found in 90 % of cases")
    assert "no loss shown" in ended.out and "GO: no figure shows a loss" in ended.out


def test_a_few_items_are_not_enough_data(compare, tmp_path):
    a, b = (run_of_marks(tmp_path / name, marks(10, 20)) for name in "ab")
    ended = compare(a, b)
    assert ended.status == 0 and figure(tmp_path / "out")["verdict"] == "not enough data"
    assert "NOT ENOUGH DATA" in ended.out and "20 items can show 36.1 or more" in ended.out


def test_a_gain_is_no_loss(compare, tmp_path):
    a, b = run_of_marks(tmp_path / "a", marks(300)), run_of_marks(tmp_path / "b", marks(330))
    assert compare(a, b).status == 0 and figure(tmp_path / "out")["verdict"] == "better"


def test_the_plan_needs_no_folders(script):
    ended = script("compare", "--plan", 500)
    assert ended.status == 0, ended
    assert "500 items can show a true loss of 3.0 points or more" in ended.out
    rows = dict(re.findall(r"(\d) points\s+([\d,]+)", ended.out))
    assert rows == {"1": "4,434", "2": "1,120", "3": "489", "5": "158"}
    stricter = script("compare", "--plan", 500, "--disagreement", 20, "--power", 0.8, "--alpha", 0.01)
    assert "found in 80 % of cases at level 1 %, if the runs disagree on 20 % of the items" in stricter.out


# -- several benchmarks ------------------------------------------------------------------------------------------------


def test_every_benchmark_that_both_have_is_compared_with_holms_correction(compare, tmp_path):
    for side, lost in (("a", 0), ("b", 6)):
        for benchmark in ("gsm8k", "math", "mbpp"):
            run_of_marks(tmp_path / side / benchmark, marks(N - lost), benchmark=benchmark)
    run_of_marks(tmp_path / "a" / "mmlu", marks(N), benchmark="mmlu")
    ended = compare(tmp_path / "a", tmp_path / "b")
    found = [figure(tmp_path / "out", number) for number in range(3)]
    assert [one["p_loss"] for one in found] == [pytest.approx(1 / 64)] * 3
    assert [one["p_loss_holm"] for one in found] == [pytest.approx(3 / 64)] * 3
    assert ended.status == 1
    assert "only in A, not compared: mmlu" in ended.out


def test_the_figures_of_one_benchmark_take_nothing_from_the_others(compare, tmp_path):
    documents = [f"{way}/doc{n}/1024" for way in ("none", "ntk", "logn", "window") for n in range(8)]
    for side, lost in (("a", 0), ("b", 6)):
        run_of_marks(tmp_path / side / "gsm8k", marks(N - lost))
        lines = [
            line(name, True, nll={"1024": {"mean": 2.0 + n % 8 / 10, "tokens": 1023}})
            for n, name in enumerate(documents)
        ]
        write_run(tmp_path / side / "ppl", lines, benchmark="ppl")
    assert compare(tmp_path / "a", tmp_path / "b").status == 1
    assert figure(tmp_path / "out")["p_loss_holm"] == pytest.approx(2 / 64)


def test_several_runs_of_a_benchmark_are_known_by_their_folders(compare, tmp_path):
    for side in "ab":
        for name in ("gsm8k", "gsm8k-0-shot"):
            run_of_marks(tmp_path / side / name, marks(N))
    run_of_marks(tmp_path / "a" / "gsm8k-chat", marks(N))
    ended = compare(tmp_path / "a", tmp_path / "b")
    told = json.loads((tmp_path / "out/comparison.json").read_text())["benchmarks"]
    assert list(told) == ["gsm8k", "gsm8k (gsm8k-0-shot)"]
    assert "only in A, not compared: gsm8k (gsm8k-chat)" in ended.out


def test_a_run_that_is_still_going_is_named_among_finished_ones(compare, tmp_path):
    for side in "ab":
        run_of_marks(tmp_path / side / "gsm8k", marks(N))
        run_of_marks(tmp_path / side / "math", marks(N), benchmark="math")
    (tmp_path / "b/math/results.json").unlink()
    ended = compare(tmp_path / "a", tmp_path / "b")
    stopped = "this run was stopped before its end (no results.json); start its command again"
    assert f"not compared: {tmp_path}/b/math: {stopped}" in ended.out
    assert "only in A, not compared: math" in ended.out


# -- what is not the same ----------------------------------------------------------------------------------------------


def test_items_of_one_side_only_are_counted_and_named(compare, tmp_path):
    a = run_of_marks(tmp_path / "a", marks(N))
    b = write_run(tmp_path / "b", [line(f"test/{n}", True) for n in range(3, N + 1)])
    ended = compare(a, b)
    assert "3 items only in A, in no figure: test/0, test/1, test/2" in ended.out
    assert "1 items only in B, in no figure: test/500" in ended.out
    told = json.loads((tmp_path / "out/comparison.json").read_text())["benchmarks"]["gsm8k"]
    assert (told["shared_items"], told["only_a"], told["only_b"]) == (497, ["test/0", "test/1", "test/2"], ["test/500"])


def other_prompt(folder: Path) -> Path:
    return write_run(folder, [line(f"test/{n}", False, f"Q: {n}?") for n in range(N)])


def other_answers(folder: Path) -> Path:
    return write_run(folder, [line(f"test/{n}", n > 40, gold="C" if n < 2 else "A") for n in range(N)])


def other_settings(folder: Path) -> Path:
    return run_of_marks(folder, marks(0), num_fewshot=4, decoding={"temperature": 0.7})


@pytest.mark.parametrize(
    ("run", "words"),
    [
        (other_prompt, ["500 of 500 shared items have another prompt (the first: test/0)"]),
        (other_answers, ["2 of 500 shared items have another answer, choice or test in the data (the first: test/0)"]),
        (other_settings, ["num_fewshot is 8 in A and 4 in B", "decoding.temperature is not set in A and 0.7 in B"]),
    ],
)
def test_where_more_than_the_model_differs_no_regression_is_told(compare, tmp_path, run, words: list[str]):
    a, b = run_of_marks(tmp_path / "a", marks(N)), run(tmp_path / "b")
    ended = compare(a, b)
    assert ended.status == 0 and figure(tmp_path / "out")["verdict"] == "not comparable"
    assert "NOT COMPARABLE: gsm8k" in ended.out and "no regression can be told" in ended.out
    for said in words:
        assert said in ended.out
    forced = compare(a, b, "--ignore-differences")
    assert forced.status == 1 and "compared all the same (--ignore-differences)" in forced.out


def test_the_end_tokens_of_two_vocabularies_are_no_difference(compare, tmp_path):
    a = run_of_marks(tmp_path / "a", marks(N), decoding={"stop": ["<|endoftext|>", "\n\n"]})
    b = run_of_marks(tmp_path / "b", marks(N), decoding={"stop": ["</s>", "\n\n"]})
    assert "NOT COMPARABLE" not in compare(a, b).out


def test_the_same_folder_twice_is_said(compare, tmp_path):
    a = run_of_marks(tmp_path / "a", marks(N))
    ended = compare(a, a)
    assert ended.status == 0 and "A and B are the same folder" in ended.out


# -- wrong use ---------------------------------------------------------------------------------------------------------


def broken(path: Path) -> Path:
    run_of_marks(path, marks(3))
    text = (path / "samples.jsonl").read_text()
    (path / "samples.jsonl").write_text(text.replace('"correct": true', '"correct": "yes"', 1))
    return path


def unfinished(path: Path) -> Path:
    run_of_marks(path, marks(3))
    (path / "results.json").unlink()
    return path


def torn(path: Path) -> Path:
    run_of_marks(path, marks(3))
    (path / "results.json").write_text('{"benchmark": "gs')
    return path


def no_items(path: Path) -> Path:
    run_of_marks(path, [])
    return path


def emptied(path: Path) -> Path:
    path.mkdir()
    return path


@pytest.mark.parametrize(
    ("make", "said"),
    [
        (emptied, "holds no results"),
        (unfinished, "was stopped before its end (no results.json); start its command again"),
        (broken, "line 1: 'correct' is \"yes\", not true or false"),
        (torn, "results.json is not JSON"),
        (no_items, "samples.jsonl is empty"),
        (lambda path: path / "nowhere", "no such file or folder"),
        (lambda path: run_of_marks(path, marks(3), benchmark="mmlu"), "no benchmark in common"),
        (lambda path: write_run(path / "x/gsm8k", []).parent.parent, "samples.jsonl is empty"),
        (lambda path: write_run(path, [line("train/1", True)]), "share no item (the first of each: test/0, train/1)"),
    ],
)
def test_wrong_folders_are_one_line(compare, tmp_path, make, said: str):
    a = run_of_marks(tmp_path / "a", marks(3))
    ended = compare(a, make(tmp_path / "b"))
    assert ended.status == 2 and ended.err.count("\n") == 1 and said in ended.err, ended
    assert "Traceback" not in ended.err and not (tmp_path / "out").exists()


@pytest.mark.parametrize(
    ("words", "said"),
    [
        ((), "give two result folders, A and B, or --plan N"),
        (("a",), "give two result folders"),
        (("a", "b", "--plan", "5"), "--plan wants no folders"),
        (("--plan", "0"), "'0' is not a whole number of at least 1"),
        (("--plan", "5", "--power", "1"), "'1' is not between 0 and 1"),
        (("--plan", "5", "--disagreement", "101"), "at most 100"),
        (("a", "b", "--ci"), "--ci wants -o DIR"),
        (("a", "b", "--fail-on", "maybe"), "'maybe' is none of no-go, not-enough-data, not-comparable"),
    ],
)
def test_wrong_flags_are_one_line(script, words, said: str):
    ended = script("compare", *words)
    assert ended.status == 2 and ended.err.count("\n") == 1 and said in ended.err, ended
