"""C-Eval: the prompt to the letter, averages over subjects, the submission file."""

import csv
import hashlib
import json
from pathlib import Path
from typing import Any

from qwen_eval.benchmarks import chinese_choices as chinese
from qwen_eval.benchmarks import multiple_choice as choices
from qwen_eval.stats import macro_accuracy

import evaluate_ceval as ceval
import pytest

DEMO = Path(__file__).resolve().parents[2] / "demo" / "data" / "ceval"
FIVE = "high_school_geography,high_school_history,high_school_mathematics,middle_school_biology,plant_protection"

ONE_SHOT = """\
问题：下列各项中，属于月份的是____。
A. 内乌
B. 种月
C. 渔网
D. 格蒂镇
答案：B

问题：一位旅行者在家信中写道：帕乔草的种子代号是nan。融月，农民种莫内草。玛科草的种子代号是 TU。
装玛科草种子的袋子上写着
A. NA
B. nan
C. TU
D. RI
答案："""

ZERO_SHOT_CHAT = """\
一位旅行者在家信中写道：帕乔草的种子代号是nan。融月，农民种莫内草。玛科草的种子代号是 TU。
装玛科草种子的袋子上写着

A. NA
B. nan
C. TU
D. RI
"""


def samples(folder: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for line in (folder / "samples.jsonl").read_text(encoding="utf-8").splitlines()]


def sha256(text: str) -> str:
    return hashlib.sha256(text.encode()).hexdigest()


def test_base_prompt_to_the_letter(script, demo_checkpoint: Path, tmp_path: Path) -> None:
    flags = ("-c", demo_checkpoint, "-d", DEMO, "-o", tmp_path, "--subjects", "plant_protection", "--limit", 1)
    assert script("ceval", *flags, "-k", 1).status == 0
    (row,) = samples(tmp_path)
    assert (row["id"], row["gold"], row["prompt_sha256"]) == ("plant_protection/0", "C", sha256(ONE_SHOT))


def test_chat_prompt_to_the_letter(script, tmp_path: Path) -> None:
    replies = tmp_path / "replies.jsonl"
    replies.write_text('{"id": "plant_protection/0", "response": "答案是A。"}\n', encoding="utf-8")
    flags = ("--rescore", replies, "-d", DEMO, "--subjects", "plant_protection", "-o", tmp_path / "out")
    assert script("ceval", *flags).status == 0
    (row,) = samples(tmp_path / "out")
    assert (row["prompt_sha256"], row["prediction"]) == (sha256(ZERO_SHOT_CHAT), "A")


def test_no_header_before_the_first_question_and_none_is_text(tmp_path: Path) -> None:
    path = tmp_path / "x_val.csv"
    path.write_text("id,question,A,B,C,D,answer\r\n0,问,None,NA,nan,,D\r\n", encoding="utf-8")
    (row,) = choices.rows(path, ceval.COLUMNS, True)
    assert chinese.base_prompt([], row) == "问题：问\nA. None\nB. NA\nC. nan\nD. \n答案："


def test_the_groups_are_the_52_subjects_and_hard_are_eight_of_stem() -> None:
    sizes = {name: len(group) for name, group in ceval.GROUPS.items()}
    assert sizes == {"stem": 20, "social_sciences": 10, "humanities": 11, "others": 11}
    assert len(set(ceval.SUBJECTS)) == 52
    assert len(set(ceval.HARD)) == 8
    assert set(ceval.HARD) < set(ceval.GROUPS["stem"])


def test_averages_are_over_subjects(script, demo_checkpoint: Path, tmp_path: Path) -> None:
    ended = script(
        "ceval", "-c", demo_checkpoint, "-d", DEMO, "-o", tmp_path, "--subjects", FIVE, "--limit", 4, "-k", 0
    )
    assert ended.status == 0
    marks: dict[str, list[bool]] = {}
    for row in samples(tmp_path):
        marks.setdefault(row["subject"], []).append(row["correct"])
    scores = json.loads((tmp_path / "results.json").read_text())["scores"]

    def mean(*subjects: str) -> float | None:
        return macro_accuracy([marks[name] for name in subjects]).value

    assert scores["acc"]["value"] == pytest.approx(mean(*marks))
    assert scores["acc_stem"]["value"] == pytest.approx(mean("high_school_mathematics", "middle_school_biology"))
    assert scores["acc_hard"]["value"] == pytest.approx(mean("high_school_mathematics"))
    assert scores["acc_others"]["value"] == pytest.approx(mean("plant_protection"))
    assert {name: score["n"] for name, score in scores.items()} == {
        "acc": 20, "acc_stem": 8, "acc_social_sciences": 4, "acc_humanities": 4, "acc_others": 4, "acc_hard": 4,
    }  # fmt: skip


def test_the_test_split_writes_the_submission_of_the_site(script, demo_checkpoint: Path, tmp_path: Path) -> None:
    flags = ("-c", demo_checkpoint, "-d", DEMO, "-o", tmp_path, "--subjects", FIVE, "-k", 0, "--split", "test")
    ended = script("ceval", *flags)
    assert ended.status == 0
    written = json.loads((tmp_path / "submission.json").read_text())
    assert sorted(written) == FIVE.split(",")
    for subject, answers in written.items():
        with open(DEMO / "test" / f"{subject}_test.csv", newline="", encoding="utf-8") as lines:
            assert list(answers) == [row["id"] for row in csv.DictReader(lines)]
        assert set(answers.values()) <= set("ABCD")
    rows = samples(tmp_path)
    assert {(row["gold"], row["correct"]) for row in rows} == {("", False)}
    score = json.loads((tmp_path / "results.json").read_text())["scores"]["acc"]
    assert (score["value"], score["n"], score["verdict"]) == (None, 30, None)
    assert "submission.json" in ended.out


def test_the_official_data_is_read_whole(shared: Path) -> None:
    folder = shared / "data/ceval"
    for split in ("val", "test"):
        found = [choices.subject_rows(folder, ceval.LAYOUT, split, s, split == "val") for s in ceval.SUBJECTS]
        assert sum(map(len, found)) == ceval.OFFICIAL_ITEMS[split]
    for subject in ceval.SUBJECTS:
        assert len(choices.shots(folder, ceval.LAYOUT, subject, 5)) == 5
