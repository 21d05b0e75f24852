"""The verdict beside a reported figure: the words, the smallest difference that a run could show, what forbids
`reproduced`."""

import csv
import json
import math
from pathlib import Path
from typing import Any

from qwen_eval.reporting.verdict import SCALES, judge, smallest_difference
from qwen_eval.stats import Interval, Score, accuracy, macro_accuracy, mean, mean_mark

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

ROOT = Path(__file__).resolve().parents[2]
WORDS = {"reproduced", "consistent", "too few items", "higher", "lower"}


def share(right: int, n: int, **more: Any) -> Score:
    return accuracy([True] * right + [False] * (n - right), **more)


def word(score: Score, reported: float, *, decimals: int = 1, as_reported: bool = True, band: float | None = None):
    told = judge(score, reported, decimals, as_reported, band)
    return told and told.word


# -- the words -------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("score", "reported", "as_reported", "told"),
    [
        (share(0, 1), 45.0, False, "too few items"),
        (share(1, 1), 100.0, False, "too few items"),
        (share(0, 1), 0.4, False, "too few items"),
        (share(40, 164), 24.4, True, "reproduced"),
        (share(40, 164), 29.9, True, "consistent"),
        (share(40, 164), 24.4, False, "consistent"),  # a part of the questions, or another protocol
        (share(30, 164), 29.9, True, "lower"),
        (share(7962, 14042), 58.2, True, "lower"),  # 56.7
        (share(8060, 14042), 58.2, True, "reproduced"),  # 57.4
        (share(8060, 14042), 56.0, True, "higher"),
        (share(500, 1319), 35.0, False, "higher"),
        (share(2, 5), 41.0, True, "reproduced"),  # an item weighs 20 points: two of them are the band
        (share(15, 30), 58.0, True, "too few items"),
        (Score(None, 0, None), 58.2, True, None),
    ],
)
def test_the_word(score: Score, reported: float, as_reported: bool, told: str | None) -> None:
    assert word(score, reported, as_reported=as_reported) == told


@pytest.mark.parametrize(("right", "told"), [(1000, "reproduced"), (999, "consistent"), (1040, "reproduced")])
def test_the_band_is_a_point(right: int, told: str) -> None:
    assert word(share(right, 2000), 51.0) == told


def test_two_items_are_the_band_where_they_weigh_more() -> None:
    assert judge(share(40, 164), 24.4).band == pytest.approx(200 / 164)  # type: ignore[union-attr]
    assert judge(share(40, 200), 24.4).band == 1.0  # type: ignore[union-attr]
    assert [word(share(right, 164), 100 * 40 / 164) for right in (37, 38, 42, 43)] == [
        "consistent",
        "reproduced",
        "reproduced",
        "consistent",
    ]


@pytest.mark.parametrize(
    ("metric", "reported", "inside", "outside", "band"),
    [
        ("acc", 50.0, 50.99, 51.01, 1.0),
        ("rouge_l", 16.6, 17.59, 17.61, 1.0),
        ("tool_input_rouge_l", 0.91, 0.9199, 0.9201, 0.01),
        ("bleu", 30.6, 31.09, 31.11, 0.5),
        ("ppl", 200.0, 203.9, 204.1, 4.0),
    ],
)
def test_each_metric_has_its_band(metric: str, reported: float, inside: float, outside: float, band: float) -> None:
    def score(value: float) -> Score:
        wide = 0.08 * abs(reported)
        return Score(value, 1000, Interval(value - wide, value + wide), metric)

    told = judge(score(inside), reported)
    assert told is not None and (told.word, told.band) == ("reproduced", pytest.approx(band))
    assert word(score(outside), reported) == "consistent"
    points = {"tool_input_rouge_l": 0.01, "ppl": reported / 100}.get(metric, 1.0)
    assert word(score(outside), reported, band=2 * band / points) == "reproduced"
    assert (told.difference_items is None) == (metric in SCALES)


def test_another_band_replaces_the_items_too() -> None:
    assert word(share(40, 164), 24.4, band=0) == "consistent"
    assert word(share(41, 164), 24.4, band=0.5) == "consistent"
    assert word(share(40, 164), 29.9, band=6) == "reproduced"
    assert word(share(7962, 14042), 58.2, band=1.5) == "reproduced"


def test_the_reported_value_is_the_range_that_rounds_to_it() -> None:
    def at(low: float, high: float, decimals: int) -> str | None:
        return word(Score((low + high) / 2, 100, Interval(low, high)), 58.2, decimals=decimals, as_reported=False)

    assert at(55.0, 58.15, 1) == "consistent" and at(55.0, 58.149, 1) == "lower" and at(55.0, 58.15, 2) == "lower"
    assert at(58.25, 61.0, 1) == "consistent" and at(58.251, 61.0, 1) == "higher"


def test_difference_in_points_and_items() -> None:
    told = judge(share(40, 164), 29.9)
    assert told is not None
    assert told.difference == pytest.approx(100 * 40 / 164 - 29.9)
    assert told.difference_items == pytest.approx(40 - 0.299 * 164)


# -- the smallest difference -----------------------------------------------------------------------


def test_of_a_share_it_is_the_difference_at_which_the_interval_lets_go() -> None:
    assert smallest_difference(share(40, 164), 29.9) == pytest.approx(196 * math.sqrt(0.299 * 0.701 / 164), rel=1e-3)
    assert smallest_difference(share(0, 1), 45.0) == pytest.approx(97.5, abs=0.1)
    assert smallest_difference(share(100, 1319), 51.7) == smallest_difference(share(900, 1319), 51.7), (
        "n, not the value"
    )


@settings(max_examples=200)
@given(st.integers(1, 20_000), st.floats(0, 1), st.floats(0.2, 99.8))
def test_words_and_smallest_difference_agree(n: int, right: float, reported: float) -> None:
    told = judge(share(round(right * n), n), reported, decimals=6, as_reported=False)
    assert told is not None and told.smallest_difference is not None and told.word in WORDS
    assert (told.word in ("consistent", "too few items")) <= (abs(told.difference) <= told.smallest_difference + 1e-6)
    assert (told.word == "too few items") <= (told.smallest_difference > 10)
    assert (told.word == "consistent") <= (told.smallest_difference <= 10)
    assert (told.word == "higher") <= (told.difference > 0)


def test_a_mean_over_subjects_has_that_of_its_effective_size() -> None:
    groups = [[True] * 10, [False] * 30]
    effective = 4 / (1 / 10 + 1 / 30)
    assert smallest_difference(macro_accuracy(groups), 50.0) == pytest.approx(98 / math.sqrt(effective), rel=1e-3)


def test_a_mean_of_marks_has_that_of_a_share() -> None:
    assert smallest_difference(mean_mark([0.75] * 47), 75.0) == smallest_difference(share(30, 47), 75.0)


def test_a_bootstrapped_figure_has_the_end_of_its_interval() -> None:
    score = Score(17.0, 26, Interval(15.0, 20.0), "rouge_l")
    assert smallest_difference(score, 18.0) == 3.0 and smallest_difference(score, 16.0) == 2.0


def test_a_bootstrap_over_a_handful_of_values_shows_nothing() -> None:
    for values in ([0.5], [0.5, 0.6], [1.0] * 4, [1.0] * 40):
        score = mean(values, metric="tool_input_rouge_l")
        assert smallest_difference(score, 0.91) is None
        assert word(score, 0.7, as_reported=False) == "too few items"
    assert word(mean([1.0] * 40, metric="tool_input_rouge_l"), 1.0) == "reproduced"


# -- a run -----------------------------------------------------------------------------------------


def results(folder: Path) -> dict[str, Any]:
    return json.loads((folder / "results.json").read_text(encoding="utf-8"))


@pytest.fixture
def scored(script, tmp_path: Path, as_official):
    """scored(right, n, *flags): GSM8K with n questions of which `right` are answered right, beside Qwen-7B's 51.7. The
    first 1,319 such questions are the official set."""

    def questions(path: Path, count: int) -> None:
        rows = [{"question": f"How many is {i}?", "answer": "so\n#### 1"} for i in range(count)]
        path.write_text("".join(json.dumps(row) + "\n" for row in rows))

    questions(tmp_path / "official.jsonl", 1319)
    as_official("gsm8k", tmp_path / "official.jsonl")

    def run(right: int, n: int, *flags: object, official: int | None = None) -> dict[str, Any]:
        data, replies, out = tmp_path / "test.jsonl", tmp_path / "replies.jsonl", tmp_path / "out"
        questions(data, official or n)
        given = [{"id": f"test/{i}", "response": str(int(i < right))} for i in range(n)]
        replies.write_text("".join(json.dumps(row) + "\n" for row in given))
        ended = script("gsm8k", "--rescore", replies, "-d", data, "-o", out, "--reported-as", "Qwen-7B", *flags)
        assert ended.status == 0, ended.err
        return {"out": ended.out, "score": results(out)["scores"]["acc"], "folder": out, **results(out)}

    return run


def test_the_whole_official_set_is_reproduced_within_the_band(scored) -> None:
    found = scored(675, 1319)
    assert found["score"]["verdict"] == "reproduced"
    assert found["score"]["band"] == 1.0 and found["score"]["smallest_difference"] == pytest.approx(2.7, abs=0.01)
    assert found["score"]["difference"] == pytest.approx(100 * 675 / 1319 - 51.7)
    assert found["score"]["difference_items"] == pytest.approx(675 - 0.517 * 1319)
    assert found["manifest"]["band"] is None and found["manifest"]["departures"] == []


def test_every_file_and_the_terminal_say_the_verdict(scored) -> None:
    found = scored(690, 1319, "--band", 0.5)
    folder = found["folder"]
    assert found["score"]["verdict"] == "consistent" and found["manifest"]["band"] == 0.5
    row = next(line for line in (folder / "table.md").read_text().splitlines() if line.startswith("| acc |"))
    cells = [cell.strip() for cell in row.split("|")[5:-1]]
    assert cells == ["51.7 (v1.1)", "+0.61", "+8.1", "2.7", "consistent"]
    with open(folder / "table.csv", newline="") as lines:
        table = next(csv.DictReader(lines))
    assert table["verdict"] == "consistent" and float(table["band"]) == 0.5
    for name in ("difference", "difference_items", "smallest_difference"):
        assert float(table[name]) == pytest.approx(found["score"][name])
    assert "consistent" in found["out"] and "+8.1" in found["out"]
    assert any("no difference can be shown" in note for note in found["notes"])


def test_a_part_is_never_reproduced(scored) -> None:
    found = scored(620, 1200, official=1319)
    assert found["score"]["verdict"] == "consistent" and "subset: 1200 of 1319 items" in found["out"]
    found = scored(1, 2, official=1319)
    assert found["score"]["verdict"] == "too few items" and "too few items" in found["out"]


def test_other_questions_are_never_reproduced(scored) -> None:
    found = scored(1034, 2000)
    assert found["score"]["verdict"] == "consistent"
    assert any("not the official set of 1319" in note for note in found["notes"])


@pytest.mark.parametrize(
    ("flags", "named"),
    [
        ((), []),
        (("--temperature", 0), []),
        (("--dtype", "float32"), []),
        (("--temperature", 0.5), ["--temperature"]),
        (("--temperature", 0.5, "--top-p", 0.9), ["--temperature", "--top-p"]),
        (("--repetition-penalty", 1.0, "--max-new-tokens", 4), ["--max-new-tokens"]),
        (("--repetition-penalty", 1.3), ["--repetition-penalty"]),
        (("--use-logn-attn", "on"), []),  # as the checkpoint has it
        (("--use-logn-attn", "off", "--window-attn", "on"), ["--use-logn-attn", "--window-attn"]),
        (("--base",), []),
        (("--chat",), ["--chat"]),
    ],
)
def test_a_flag_that_makes_another_protocol_is_named(script, tmp_path: Path, flags, named: list[str]) -> None:
    """The demo's own samples are the whole set of its card."""
    shots = ("-k", 2) if "--chat" not in flags else ("-k", 0, "--reported-as", "Qwen-7B-Chat")
    folder = tmp_path / "out"
    replies = ("--max-new-tokens", 1) if "--max-new-tokens" not in flags and named else ()
    ended = script("gsm8k", "-c", "demo", *shots, *replies, *flags, "-o", folder, "--limit", 1)
    assert ended.status == 0, ended.err
    found = results(folder)
    told = found["manifest"]["departures"]
    assert [flag for flag in told if flag != "--max-new-tokens" or "--max-new-tokens" in flags] == named
    if told:
        assert any(", ".join(told) in note and "never `reproduced`" in note for note in found["notes"])


def test_a_longer_cut_is_another_protocol(script, demo_checkpoint: Path, tmp_path: Path) -> None:
    flags = ("-c", demo_checkpoint, "-d", ROOT / "demo" / "data" / "mmlu", "--subjects", "nutrition", "--limit", 1)
    script("mmlu", *flags, "-o", tmp_path / "a", "--max-seq-len", 1024, "--reported-as", "Qwen-7B")
    assert results(tmp_path / "a")["manifest"]["departures"] == ["--max-seq-len"]
    script("mmlu", *flags, "-o", tmp_path / "b", "--max-seq-len", 2048)
    assert results(tmp_path / "b")["manifest"]["departures"] == []


def test_shots_that_the_figure_does_not_name_are_the_protocols(script, tmp_path: Path) -> None:
    """WMT22's rows say no shots: with other shots than the protocol's five the figure is not that."""
    shots = tmp_path / "shots.jsonl"
    shots.write_text('{"pair": "en-zh", "source": "a", "reference": "b"}\n')
    data = ROOT / "demo" / "data" / "wmt22"
    replies = tmp_path / "replies.jsonl"
    lines = (data / "references" / "generaltest2022.en-zh.ref.A.zh").read_text(encoding="utf-8").splitlines()
    replies.write_text(
        "".join(json.dumps({"id": f"en-zh/{i}", "response": text}) + "\n" for i, text in enumerate(lines))
    )
    flags = ("--rescore", replies, "-d", data, "--subjects", "en-zh", "--reported-as", "Qwen-7B", "-k")
    script("wmt22", *flags, 5, "-o", tmp_path / "five")
    assert not any("--num-fewshot" in note for note in results(tmp_path / "five")["notes"])
    script("wmt22", *flags, 0, "-o", tmp_path / "none")
    assert any("--num-fewshot" in note for note in results(tmp_path / "none")["notes"])


@pytest.mark.parametrize("given", ["-1", "x", "nan"])
def test_a_band_is_a_number_of_at_least_0(script, given: str) -> None:
    ended = script("gsm8k", "-c", "demo", "--band", given)
    assert ended.status == 2 and ended.err.count("\n") == 1 and "--band" in ended.err
