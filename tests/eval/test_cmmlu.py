"""CMMLU: C-Eval's prompt on its own files, groups that overlap, averages over subjects."""

import hashlib
import json
from pathlib import Path

from qwen_eval.benchmarks import multiple_choice as choices

import evaluate_cmmlu as cmmlu
import pytest

DEMO = Path(__file__).resolve().parents[2] / "demo" / "data" / "cmmlu"

ONE_SHOT = """\
问题：莫杜草在____播种。
A. 种月
B. 草月
C. 融月
D. 果月
答案：A

问题：种莫内草的农活始于
A. 草月
B. 阳月
C. 融月
D. 霜月
答案："""


def test_base_prompt_to_the_letter(script, demo_checkpoint: Path, tmp_path: Path) -> None:
    flags = ("-c", demo_checkpoint, "-d", DEMO, "-o", tmp_path, "--subjects", "agronomy", "--limit", 1, "-k", 1)
    assert script("cmmlu", *flags).status == 0
    row = json.loads((tmp_path / "samples.jsonl").read_text(encoding="utf-8"))
    assert (row["id"], row["gold"]) == ("agronomy/0", "C")
    assert row["prompt_sha256"] == hashlib.sha256(ONE_SHOT.encode()).hexdigest()


def test_chat_prompt_to_the_letter(script, tmp_path: Path) -> None:
    replies = tmp_path / "replies.jsonl"
    replies.write_text('{"id": "agronomy/0", "response": "选C"}\n', encoding="utf-8")
    flags = ("--rescore", replies, "-d", DEMO, "--subjects", "agronomy", "-o", tmp_path / "out")
    assert script("cmmlu", *flags).status == 0
    row = json.loads((tmp_path / "out" / "samples.jsonl").read_text(encoding="utf-8"))
    prompt = "种莫内草的农活始于\n\nA. 草月\nB. 阳月\nC. 融月\nD. 霜月\n"
    assert (row["prompt_sha256"], row["correct"]) == (hashlib.sha256(prompt.encode()).hexdigest(), True)


def test_the_groups_hold_the_67_subjects_and_china_specific_is_a_second_group() -> None:
    assert len(cmmlu.SUBJECTS) == 67
    first = [name for group, names in cmmlu.GROUPS.items() if group != "china_specific" for name in names]
    assert sorted(first) == cmmlu.SUBJECTS, "each subject is in exactly one of the four"
    assert set(cmmlu.GROUPS["china_specific"]) < set(cmmlu.SUBJECTS)


def test_groups_are_in_the_table(script, demo_checkpoint: Path, tmp_path: Path) -> None:
    subjects = "agronomy,chinese_food_culture"
    flags = ("-c", demo_checkpoint, "-d", DEMO, "-o", tmp_path, "--subjects", subjects, "--limit", 3, "-k", 0)
    assert script("cmmlu", *flags).status == 0
    table = (tmp_path / "table.md").read_text()
    for name in ("other", "social_science", "china_specific", *subjects.split(",")):
        assert f"\n| {name} |" in table
    assert "| stem |" not in table
    rows = [json.loads(line) for line in (tmp_path / "samples.jsonl").read_text().splitlines()]
    means = [sum(r["correct"] for r in rows if r["subject"] == s) / 3 for s in subjects.split(",")]
    score = json.loads((tmp_path / "results.json").read_text())["scores"]["acc"]
    assert score["value"] == pytest.approx(100 * sum(means) / 2)


def test_the_official_data_is_read_whole(shared: Path) -> None:
    folder = shared / "data/cmmlu"
    found = [choices.subject_rows(folder, cmmlu.LAYOUT, "test", s) for s in cmmlu.SUBJECTS]
    assert sum(map(len, found)) == cmmlu.CMMLU.official_items
    for subject in cmmlu.SUBJECTS:
        assert len(choices.shots(folder, cmmlu.LAYOUT, subject, 5)) == 5
