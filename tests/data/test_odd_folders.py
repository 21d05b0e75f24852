"""Data as people have it on their disks - hub repositories, conversions, archives of other systems - gives the items
and the figures of the official folder."""

import codecs
import json
import os
import shutil
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

from qwen_eval.data import sources
from qwen_eval.data.readers import read_csv

import pyarrow
import pyarrow.parquet
import pytest

ROOT = Path(__file__).resolve().parents[2]
DEMO = ROOT / "demo" / "data"
SUBJECTS = {"mmlu": "nutrition", "ceval": "plant_protection", "cmmlu": "agronomy"}
COLUMNS = ("question", "A", "B", "C", "D", "answer")


def jsonl(path: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for line in path.read_text(encoding="utf-8").splitlines()]


def table(path: Path, rows: list[dict[str, Any]]) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    pyarrow.parquet.write_table(pyarrow.Table.from_pylist(rows), path)


def packed(folder: Path, archive: Path, top: str) -> None:
    """The files of a folder as a zip, below `top`."""
    archive.parent.mkdir(parents=True, exist_ok=True)
    with zipfile.ZipFile(archive, "w") as members:
        for path in sorted(folder.rglob("*")):
            if path.is_file():
                members.write(path, f"{top}/{path.relative_to(folder)}")


# -- the folders -------------------------------------------------------------------------------------------------------


def mmlu_rows(split: str, subject: str) -> list[dict[str, Any]]:
    rows = read_csv(DEMO / "mmlu" / split / f"{subject}_{split}.csv", COLUMNS, header=False)
    return [
        {
            "question": row["question"],
            "subject": subject,
            "choices": [row[letter] for letter in "ABCD"],
            "answer": "ABCD".index(row["answer"]),
        }
        for row in rows
    ]


def mmlu_all_subjects_in_one_table(folder: Path) -> None:
    for split in ("test", "dev"):
        rows = [row for subject in ("anatomy", "nutrition", "virology") for row in some_mmlu(split, subject)]
        table(folder / "all" / f"{split}-00000-of-00001.parquet", rows)
    table(folder / "auxiliary_train" / "train-00000-of-00001.parquet", some_mmlu("test", "nutrition"))


def some_mmlu(split: str, subject: str) -> list[dict[str, Any]]:
    return [{**row, "subject": subject} for row in mmlu_rows(split, "nutrition")][
        : None if subject == "nutrition" else 2
    ]


def mmlu_a_table_per_subject(folder: Path) -> None:
    for split in ("test", "dev"):
        table(folder / "nutrition" / f"{split}-00000-of-00001.parquet", mmlu_rows(split, "nutrition"))


def mmlu_converted_by_the_hub(folder: Path) -> None:
    for split in ("test", "dev"):
        table(folder / "nutrition" / split / "0000.parquet", mmlu_rows(split, "nutrition"))


def mmlu_archive_in_the_folder(folder: Path) -> None:
    folder.mkdir()
    shutil.make_archive(str(folder / "data"), "tar", DEMO, "mmlu")
    (folder / "README.md").write_text("cais/mmlu")
    packed(DEMO / "bbh", folder / "another.zip", "bbh")


def ceval_archive_from_a_mac_with_byte_order_marks(folder: Path) -> None:
    marked = folder / "marked"
    shutil.copytree(DEMO / "ceval", marked)
    for path in marked.rglob("*.csv"):
        path.write_bytes(codecs.BOM_UTF8 + path.read_bytes())
    packed(marked, folder / "ceval-exam.zip", "ceval-exam")
    with zipfile.ZipFile(folder / "ceval-exam.zip", "a") as members:
        members.writestr("__MACOSX/ceval-exam/val/._plant_protection_val.csv", b"\x00\x05\x16\x07")
    shutil.rmtree(marked)


def cmmlu_in_a_repository(folder: Path) -> None:
    packed(DEMO / "cmmlu", folder / "cmmlu_v1_0_1.zip", ".")
    (folder / "cmmlu.py").write_text("raise SystemExit('remote code was run')")


def gsm8k_tables_in_two_parts(folder: Path) -> None:
    rows = jsonl(DEMO / "gsm8k" / "test.jsonl")
    for part, some in enumerate((rows[:25], rows[25:])):
        table(folder / "main" / f"test-0000{part}-of-00002.parquet", some)
    table(folder / "socratic" / "test-00000-of-00001.parquet", rows[:3])
    table(folder / "main" / "train-00000-of-00001.parquet", rows[:3])


def gsm8k_saved_to_disk(folder: Path) -> None:
    import datasets

    rows = jsonl(DEMO / "gsm8k" / "test.jsonl")
    datasets.DatasetDict({"test": datasets.Dataset.from_list(rows)}).save_to_disk(str(folder))


def gsm8k_in_the_authors_repository(folder: Path) -> None:
    (folder / "grade_school_math" / "data").mkdir(parents=True)
    data = (DEMO / "gsm8k" / "test.jsonl").read_bytes().replace(b"\n", b"\r\n")
    (folder / "grade_school_math" / "data" / "test.jsonl").write_bytes(codecs.BOM_UTF8 + data)


def gsm8k_below_a_path_that_is_not_utf8(folder: Path) -> None:
    below = Path(os.fsdecode(os.fsencode(folder) + b"/\xca\xfd\xbe\xdd"))
    try:
        below.mkdir(parents=True)
    except OSError:
        pytest.skip("this file system takes UTF-8 names only")
    shutil.copy(DEMO / "gsm8k" / "test.jsonl", below)


def bbh_archive_of_github_from_windows(folder: Path) -> None:
    copy = shutil.copytree(DEMO / "bbh", folder / "copy")
    for path in copy.glob("cot-prompts/*.txt"):
        path.write_bytes(path.read_bytes().replace(b"\n", b"\r\n"))
    packed(copy, folder / "BIG-Bench-Hard-main.zip", "BIG-Bench-Hard-main")
    shutil.rmtree(copy)


def wmt22_repository_from_windows(folder: Path) -> None:
    copy = shutil.copytree(DEMO / "wmt22", folder / "wmt22-news-systems-main" / "txt")
    shutil.copytree(DEMO / "wmt21", copy.parent / "wmt21")
    for path in copy.rglob("*2022*"):
        path.write_bytes(path.read_bytes().replace(b"\n", b"\r\n"))


def vcsum_above_the_folder(folder: Path) -> None:
    shutil.copytree(DEMO / "vcsum", folder / "VCSum" / "vcsum_data")


FOLDERS = [
    mmlu_all_subjects_in_one_table,
    mmlu_a_table_per_subject,
    mmlu_converted_by_the_hub,
    mmlu_archive_in_the_folder,
    ceval_archive_from_a_mac_with_byte_order_marks,
    cmmlu_in_a_repository,
    gsm8k_tables_in_two_parts,
    gsm8k_saved_to_disk,
    gsm8k_in_the_authors_repository,
    gsm8k_below_a_path_that_is_not_utf8,
    bbh_archive_of_github_from_windows,
    wmt22_repository_from_windows,
    vcsum_above_the_folder,
]


@pytest.fixture
def outcome(script, tmp_path: Path) -> Callable[[str, Path], tuple[dict, list]]:
    """outcome(benchmark, folder): the scores, and what was asked and found right, for given replies."""
    runs = 0

    def run(benchmark: str, folder: Path) -> tuple[dict, list]:
        nonlocal runs
        runs += 1
        out = tmp_path / f"out{runs}"
        subject = SUBJECTS.get(benchmark)
        subjects = {"bbh": "boolean_expressions", "wmt22": "zh-en"}.get(benchmark, "test")
        replies = tmp_path / "replies.jsonl"
        rows = [
            {
                "id": f"{subject or subjects}/{n}",
                **({"choice_logits": [n % 4, 1, 2, 1]} if subject else {"response": f"{n}"}),
            }
            for n in range(3)
        ]
        replies.write_text("".join(json.dumps(row) + "\n" for row in rows))
        flags = ("--subjects", subject or subjects) if subject or subjects != "test" else ()
        mode = ("--base",) if benchmark != "vcsum" else ("--chat",)
        ended = script(benchmark, "--rescore", replies, "-d", folder, "-o", out, *flags, *mode)
        assert ended.status == 0, ended.err
        scores = json.loads((out / "results.json").read_text(encoding="utf-8"))["scores"]
        samples = jsonl(out / "samples.jsonl")
        return scores, [(row["id"], row["prompt_sha256"], row["gold"], row["correct"]) for row in samples]

    return run


@pytest.mark.parametrize("make", FOLDERS, ids=lambda make: make.__name__)
def test_an_odd_folder_gives_what_the_official_one_gives(make, outcome, tmp_path: Path) -> None:
    folder = tmp_path / "odd"
    make(folder)
    benchmark = make.__name__.split("_")[0]
    scores, samples = outcome(benchmark, folder)
    assert len(samples) == 3
    assert (scores, samples) == outcome(benchmark, DEMO / benchmark)


def test_math_in_a_table_per_subject_and_in_the_authors_tree(script, tmp_path: Path) -> None:
    """Their ids are of their subject: the same answers as in the one file, under other names."""
    rows = jsonl(DEMO / "math" / "test.jsonl")
    by_subject: dict[str, list[dict]] = {}
    for row in rows:
        by_subject.setdefault(row["type"].lower().replace(" & ", "_and_").replace(" ", "_"), []).append(row)
    for subject, some in by_subject.items():
        table(tmp_path / "hub" / subject / "test-00000-of-00001.parquet", some)
        for number, row in enumerate(some):
            (tmp_path / "MATH" / "test" / subject).mkdir(parents=True, exist_ok=True)
            (tmp_path / "MATH" / "test" / subject / f"{number}.json").write_text(json.dumps(row))
    replies = tmp_path / "replies.jsonl"
    solutions = [(f"{name}/{n}", row["solution"]) for name, some in by_subject.items() for n, row in enumerate(some)]
    replies.write_text("".join(json.dumps({"id": name, "response": text}) + "\n" for name, text in solutions))
    for folder in (tmp_path / "hub", tmp_path / "MATH"):
        out = tmp_path / f"out-{folder.name}"
        assert script("math", "--rescore", replies, "-d", folder, "-o", out, "--base").status == 0
        score = json.loads((out / "results.json").read_text())["scores"]["acc"]
        assert (score["value"], score["n"]) == (100.0, len(rows))


def test_what_a_killed_run_left_half_unpacked_is_cleaned_up(tmp_path: Path) -> None:
    left = sources.CACHE / "unpacked" / "data-0123456789abcdef.partial"
    left.mkdir(parents=True)
    (left / "half").write_text("x")
    mmlu_archive_in_the_folder(tmp_path / "odd")
    assert sources.locate(str(tmp_path / "odd"), sources.Hub("cais/mmlu", "data.tar"), "test/*_test.csv").is_dir()
    assert not left.exists()


def test_a_user_without_home_and_passwd_entry_has_a_cache(monkeypatch: pytest.MonkeyPatch) -> None:
    import pwd

    def nobody(uid: int) -> None:
        raise KeyError(uid)

    for name in ("HOME", "QWEN_EVAL_CACHE"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setattr(pwd, "getpwuid", nobody)
    assert os.access(sources.cache_folder().parent, os.W_OK)
