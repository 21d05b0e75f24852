"""The demo's samples: they equal what the seed gives, keep the official layouts and can be answered from the world."""

from __future__ import annotations

import csv
import gzip
import io
import subprocess
import sys
from collections import Counter
from pathlib import Path

import make_data
import pytest
from questions import examine
from world import LANGUAGES, PHRASES, Dice, World


def rows(name: str) -> list[list[str]]:
    text = (make_data.DATA / name).read_bytes().decode("utf-8")
    return list(csv.reader(io.StringIO(text, newline="")))


@pytest.fixture(scope="module")
def world() -> World:
    return World()


def test_files_are_those_of_the_seed() -> None:
    result = subprocess.run([sys.executable, make_data.__file__, "--check"], capture_output=True, text=True)
    assert (result.returncode, result.stdout, result.stderr) == (0, "69 files, 0 wrong\n", "")


def test_check_sees_every_kind_of_difference(tmp_path: Path) -> None:
    files = {"mmlu/dev/a_dev.csv": b"1", "mmlu/dev/b_dev.csv": b"2", "ceval/val/c_val.csv": b"3"}
    for name, content in {"mmlu/dev/a_dev.csv": b"1\r", "mmlu/dev/x_dev.csv": b"", "ceval/val/c_val.csv": b"3"}.items():
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).write_bytes(content)
    assert make_data.differences(files, tmp_path) == [
        "mmlu/dev/a_dev.csv: differs",
        "mmlu/dev/b_dev.csv: missing",
        "mmlu/dev/x_dev.csv: not from the seed",
    ]


def test_a_compressed_file_is_compared_by_its_text(tmp_path: Path) -> None:
    (tmp_path / "humaneval").mkdir()
    (tmp_path / "humaneval/a.gz").write_bytes(gzip.compress(b"text", 1, mtime=7))
    assert make_data.differences({"humaneval/a.gz": gzip.compress(b"text", 9, mtime=0)}, tmp_path) == []
    for content in (gzip.compress(b"other"), gzip.compress(b"text")[:-3], b""):
        (tmp_path / "humaneval/a.gz").write_bytes(content)
        assert make_data.differences({"humaneval/a.gz": gzip.compress(b"text")}, tmp_path) == [
            "humaneval/a.gz: differs"
        ]


def test_another_seed_gives_another_world() -> None:
    assert make_data.build(1) != make_data.build()


def test_official_layouts() -> None:
    for subject, (_, n, _) in make_data.MMLU.items():
        assert [len(row) for row in rows(f"mmlu/dev/{subject}_dev.csv")] == [6] * 5
        assert [len(row) for row in rows(f"mmlu/test/{subject}_test.csv")] == [6] * n
    for subject, (_, n, _) in make_data.CEVAL.items():
        head = ["id", "question", "A", "B", "C", "D"]
        dev, val, test = (rows(f"ceval/{split}/{subject}_{split}.csv") for split in ("dev", "val", "test"))
        assert (dev[0], val[0], test[0]) == ([*head, "answer", "explanation"], [*head, "answer"], head)
        assert [row[0] for row in val[1:]] == [str(i) for i in range(n)]
        assert (len(dev), len(test)) == (6, 1 + make_data.UNLABELLED)
    for subject, (_, n, _) in make_data.CMMLU.items():
        for split, count in (("dev", 5), ("test", n)):
            table = rows(f"cmmlu/{split}/{subject}.csv")
            assert table[0] == ["", "Question", "A", "B", "C", "D", "Answer"]
            assert [row[0] for row in table[1:]] == [str(i) for i in range(count)]


def test_choices_differ_and_letters_are_balanced() -> None:
    for path in sorted(make_data.DATA.rglob("*.csv")):
        name = path.relative_to(make_data.DATA).as_posix()
        table = rows(name) if name.startswith("mmlu") else [row[1:] for row in rows(name)[1:]]
        assert all(len({cell.strip() for cell in row[1:5]}) == 4 for row in table), name
        if not name.startswith("ceval/test"):
            counts = Counter(row[5] for row in table)
            assert set(counts) == set("ABCD") and max(counts.values()) - min(counts.values()) <= 1, name


def test_the_oddities_are_there() -> None:
    raw = {path.name: path.read_bytes() for path in make_data.DATA.rglob("*.csv")}
    table = [row for subject in make_data.MMLU for row in rows(f"mmlu/test/{subject}_test.csv")]
    assert {"None", "nan"} <= {cell for row in table for cell in row[1:5]}
    assert any(row[0].endswith("\n") for row in table) and any("\n" in row[0].strip() for row in table)
    assert any('"' in cell for row in table for cell in row) and any("," in cell for row in table for cell in row[1:5])
    assert sorted(len(row[0]) for row in table)[-1] > 5_000 > 50 * sorted(len(row[0]) for row in table)[len(table) // 2]
    assert not raw["nutrition_test.csv"].endswith(b"\n") and b"\r\n" in raw["business_ethics_test.csv"]
    biology = raw["middle_school_biology_val.csv"]
    assert 0 < biology.count(b"\r\n") < biology.count(b"\n")
    assert any(cell != cell.strip() for row in rows("cmmlu/test/agronomy.csv") for cell in row)
    chinese = [cell for row in rows("ceval/val/plant_protection_val.csv") for cell in row[2:6]]
    assert {"NA", "nan"} <= set(chinese)


def test_direct_and_back_answers_follow_from_the_world(world: World) -> None:
    for lang in LANGUAGES:
        truth = {}
        for fact in world.facts:
            phrases = PHRASES[lang][fact.relation]
            for form in phrases.ask:
                truth[form.format(x=fact.thing.text(lang)).casefold()] = {fact.value.text(lang)}
            back = phrases.back.format(v=fact.value.text(lang)).casefold()
            truth.setdefault(back, set()).add(fact.thing.text(lang))
        for held_out in (False, True):
            for q in examine(world, lang, ("town", "crop", "dish"), 40, Dice("t"), held_out=held_out, passages=(9,)):
                if q.style not in ("most", "two", "kind"):
                    answers = truth[q.text.split("\n")[-1].casefold()]
                    assert [letter for letter, c in zip("ABCD", q.choices, strict=True) if c in answers] == [q.answer]


def test_training_questions_ask_no_held_out_fact_and_no_held_out_form(world: World) -> None:
    for lang in LANGUAGES:
        held = [fact for fact in world.about("town") if fact.held_out]
        hidden = {PHRASES[lang][f.relation].ask[-1].format(x=f.thing.text(lang)) for f in world.about("town")}
        asked = {form.format(x=f.thing.text(lang)) for f in held for form in PHRASES[lang][f.relation].ask}
        told = {f.statements(lang)[0] for f in held}
        drawn = examine(world, lang, ("town",), 60, Dice("split"), held_out=False)
        assert not {q.text for q in drawn} & (hidden | asked)
        assert not [
            q for q in drawn if q.style == "two" and any(line.split(": ")[-1] in told for line in q.text.split("\n"))
        ]
        # Either way of saying a fact names both its ends, so that it can be asked from both.
        assert all(f.thing.text(lang) in text for f in world.facts for text in f.statements(lang))
