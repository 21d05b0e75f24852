"""What still counts in an output folder when the data has changed, and what a start, a kill or a full disk does."""

import json
import os
import resource
import shutil
import signal
import subprocess
import sys
from pathlib import Path
from typing import Any

from qwen_eval.data.items import Item, item_sha256, items_sha256
from qwen_eval.errors import UserError
from qwen_eval.reporting.journal import Journal, append_whole

import pytest

ROOT = Path(__file__).resolve().parents[2]
DATA = ROOT / "demo" / "data" / "mmlu"


def samples(folder: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for line in (folder / "samples.jsonl").read_text(encoding="utf-8").splitlines()]


def results(folder: Path) -> dict[str, Any]:
    return json.loads((folder / "results.json").read_text(encoding="utf-8"))


# -- what a verdict rests on -----------------------------------------------------------------------


@pytest.fixture
def answers(monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """The model says ` 7`, or a body that returns 7; how many requests each call of the engine got."""
    from qwen_eval.engines.base import Reply
    from qwen_eval.engines.local.engine import LocalEngine

    asked: list[int] = []

    def generate(self, requests):
        asked.append(len(requests))
        return ((index, Reply("    return 7\n", 3, "stop")) for index in range(len(requests)))

    monkeypatch.setattr(LocalEngine, "generate", generate)
    return asked


def run_twice(script, name: str, flags: tuple[object, ...], folder: Path, file: Path, old: str, new: str) -> None:
    """Run, change the data in one place, run again, and run afresh: the second run must say what the fresh one does."""
    assert script(name, *flags, "-o", folder / "out").status == 0
    text = file.read_text()
    assert text.count(old) == 1
    file.write_text(text.replace(old, new))
    for out in ("out", "fresh"):
        assert script(name, *flags, "-o", folder / out).status == 0
    ran, fresh = results(folder / "out"), results(folder / "fresh")
    assert ran["scores"] == fresh["scores"]
    assert ran["manifest"]["data_sha256"] == fresh["manifest"]["data_sha256"]
    names = [(row["id"], row.get("sample", 0)) for row in samples(folder / "out")]
    assert len(names) == len(set(names)), "an item that is asked again leaves one line"
    assert sorted(samples(folder / "out"), key=str) == sorted(samples(folder / "fresh"), key=str)


def test_a_changed_answer_key_is_scored_anew(script, demo_checkpoint: Path, answers, tmp_path: Path) -> None:
    file = tmp_path / "test.jsonl"
    file.write_text("".join(json.dumps({"question": f"{i}?", "answer": f"why #### {7 + i}"}) + "\n" for i in range(9)))
    flags = ("-c", demo_checkpoint, "-d", tmp_path, "-k", 0)
    run_twice(script, "gsm8k", flags, tmp_path, file, "#### 12", "#### 7")
    assert answers == [9, 1, 9], "the others keep their lines"


def test_changed_tests_are_run_anew(script, demo_checkpoint: Path, answers, tmp_path: Path) -> None:
    rows = [
        {
            "task_id": f"T/{i}",
            "prompt": f'def f{i}():\n    """A number."""\n',
            "entry_point": f"f{i}",
            "test": f"def check(f): assert f() == {7 + i}",
        }
        for i in range(3)
    ]
    file = tmp_path / "HumanEval.jsonl"
    file.write_text("".join(json.dumps(row) + "\n" for row in rows))
    flags = ("-c", demo_checkpoint, "-d", file)
    assert script("humaneval", *flags, "-o", tmp_path / "out").status == 0
    before = results(tmp_path / "out")
    file.write_text(file.read_text().replace("f() == 8", "f() == 7"))
    ended = script("humaneval", *flags, "-o", tmp_path / "out")
    assert ended.status == 0
    assert "1 of 3 finished items had another prompt, answer or test in the data; they are asked again" in ended.err
    after = results(tmp_path / "out")
    assert [round(found["scores"]["pass@1"]["value"]) for found in (before, after)] == [33, 67]
    assert before["manifest"]["data_sha256"] != after["manifest"]["data_sha256"]
    assert answers == [3, 1]
    assert len(samples(tmp_path / "out")) == 3


def test_a_changed_choice_or_key_is_asked_anew(script, demo_checkpoint: Path, tmp_path: Path) -> None:
    data = shutil.copytree(DATA, tmp_path / "data")
    file = data / "test" / "nutrition_test.csv"
    lines = file.read_text().splitlines(keepends=True)
    key = lines[3].rstrip("\n")[-1]
    file.write_text("".join([*lines[:3], lines[3].rstrip("\n")[:-1] + key + "\n", *lines[4:]]))
    other = next(letter for letter in "ABCD" if letter != key)
    old, new = lines[3].rstrip("\n"), lines[3].rstrip("\n")[:-1] + other
    flags = ("-c", demo_checkpoint, "-d", data, "--subjects", "nutrition", "-k", 0, "-b", 1)
    run_twice(script, "mmlu", flags, tmp_path, file, old, new)


@pytest.mark.parametrize(
    "change",
    [
        {"prompt": "q"},
        {"assistant_prefill": "x"},
        {"gold": "B"},
        {"gold": ["A"]},
        {"subject": "t"},
        {"row": {"test": "assert f() == 1", "files": []}},
        {"row": {"test": "assert f()", "files": [], "more": None}},
    ],
)
def test_every_part_of_an_item_is_in_its_digest(change: dict[str, Any]) -> None:
    known: dict[str, Any] = {"id": "s/0", "subject": "s", "prompt": "p", "gold": "A"}
    row = {"test": "assert f()", "files": []}
    first, second = Item(**known, row=row), Item(**{**known, "row": row, **change})
    assert item_sha256(first) == item_sha256(Item(**known, row=dict(reversed(row.items()))))
    assert item_sha256(first) != item_sha256(second)
    assert items_sha256([first]) != items_sha256([second])


def test_an_input_file_counts_by_its_content_not_by_its_place(tmp_path: Path) -> None:
    for name, text in (("a", "1"), ("b", "1"), ("c", "2")):
        (tmp_path / name).mkdir()
        (tmp_path / name / "in.csv").write_text(text)
    sums = [item_sha256(Item("s/0", "s", "p", row={"files": [tmp_path / name / "in.csv"]})) for name in "abc"]
    assert sums[0] == sums[1] != sums[2]


def test_rows_of_a_parquet_file_have_a_digest() -> None:
    import numpy as np

    one, same, other = (
        item_sha256(Item("s/0", "s", "p", row={"tests": np.array(tests, dtype=object), "n": np.int64(3)}))
        for tests in (["a", "b"], ["a", "b"], ["a", "c"])
    )
    assert one == same != other
    tokens = [item_sha256(Item("s/0", "s", "p", row=np.array(ids, dtype=np.int32))) for ids in ([1, 2], [1, 2], [1, 3])]
    assert tokens[0] == tokens[1] != tokens[2]


# -- one line per item -----------------------------------------------------------------------------


def item(number: int, gold: str = "A") -> Item:
    return Item(f"s/{number}", "s", f"p{number}", gold)


def test_a_killed_second_run_leaves_the_new_line_in_force_and_the_next_start_one_line(tmp_path: Path) -> None:
    journal = Journal(tmp_path, "r")
    for number in range(3):
        journal.append(item(number), {"correct": False})
    journal.close()
    journal = Journal(tmp_path, "r")
    assert not journal.finished(item(1, "B")) and journal.finished(item(2))
    journal.append(item(1, "B"), {"correct": True})
    journal._file.close()  # killed
    assert len(samples(tmp_path)) == 4
    journal = Journal(tmp_path, "r")
    assert [row["correct"] for row in samples(tmp_path)] == [False, True, False]
    assert journal.finished(item(1, "B"))
    journal.append(item(3), {"correct": True})
    journal.close()
    assert [row["id"] for row in samples(tmp_path)] == [f"s/{number}" for number in range(4)]


def test_lines_of_other_data_stay_until_their_items_are_answered(tmp_path: Path) -> None:
    """A wrong -d, stopped at once, costs nothing."""
    journal = Journal(tmp_path, "r")
    journal.append(item(0), {"correct": True})
    journal.close()
    journal = Journal(tmp_path, "r")
    assert not journal.finished(item(0, "B"))
    journal.close()
    assert Journal(tmp_path, "r").finished(item(0))


def test_overwrite_leaves_the_finished_run_until_an_item_is_finished(
    script, demo_checkpoint: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from qwen_eval.engines.local.engine import LocalEngine

    flags = ("-c", demo_checkpoint, "-d", DATA, "--subjects", "nutrition", "-k", 0, "--limit", 3, "-o", tmp_path)
    assert script("mmlu", *flags).status == 0
    before = {path.name: path.read_bytes() for path in tmp_path.iterdir()}

    def broken(self, requests):
        raise UserError("out of memory")

    with monkeypatch.context() as patch:
        patch.setattr(LocalEngine, "choose", broken)
        assert script("mmlu", *flags, "--overwrite").status == 2
    assert {path.name: path.read_bytes() for path in tmp_path.iterdir()} == before

    def one_and_no_more(self, requests):
        yield 0, [0.0, 1.0, 2.0, 3.0]
        raise UserError("out of memory")

    with monkeypatch.context() as patch:
        patch.setattr(LocalEngine, "choose", one_and_no_more)
        assert script("mmlu", *flags, "--overwrite").status == 2
    assert [path.name for path in tmp_path.iterdir()] == ["samples.jsonl"]
    assert [row["prediction"] for row in samples(tmp_path)] == ["D"]
    assert script("mmlu", *flags).status == 0
    assert len(samples(tmp_path)) == 3


# -- disks -----------------------------------------------------------------------------------------


class Disk:
    """An unbuffered file that takes five bytes at a time, and `room` in all."""

    def __init__(self, room: int) -> None:
        self.room, self.data = room, b"old\n"

    def seek(self, *_: int) -> int:
        return len(self.data)

    def truncate(self, size: int) -> None:
        self.data = self.data[:size]

    def write(self, data: memoryview) -> int:
        taken = bytes(data[: min(5, self.room)])
        self.data += taken
        self.room -= len(taken)
        return len(taken)


def test_a_short_write_is_gone_on_with(tmp_path: Path) -> None:
    disk = Disk(room=100)
    append_whole(disk, b"a line of some length\n")  # type: ignore[arg-type]
    assert disk.data == b"old\na line of some length\n"


def test_half_a_line_never_stays(tmp_path: Path) -> None:
    disk = Disk(room=12)
    with pytest.raises(OSError, match="No space left"):
        append_whole(disk, b"a line of some length\n")  # type: ignore[arg-type]
    assert disk.data == b"old\n"


def test_a_full_disk_is_one_line_and_keeps_what_is_finished(tmp_path: Path) -> None:
    """A limit of the file size stands for a full disk: the kernel takes what fits, then refuses."""
    replies = tmp_path / "replies.jsonl"
    rows = [{"id": f"nutrition/{i}", "choice_logits": [0, 1, 0, 0]} for i in range(20)]
    replies.write_text("".join(json.dumps(row) + "\n" for row in rows))
    flags = ("--rescore", replies, "-d", DATA, "--subjects", "nutrition", "-k", "0", "-o", tmp_path / "out")

    def small_disk() -> None:
        signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
        resource.setrlimit(resource.RLIMIT_FSIZE, (3000, 3000))

    command = [sys.executable, str(ROOT / "eval" / "evaluate_mmlu.py"), *map(str, flags)]
    ended = subprocess.run(command, capture_output=True, text=True, preexec_fn=small_disk)
    assert (ended.returncode, ended.stderr.count("\n")) == (2, 1), ended.stderr
    assert ended.stderr.startswith(f"error: {tmp_path}/out/samples.jsonl: File too large")
    data = (tmp_path / "out" / "samples.jsonl").read_bytes()
    assert data.endswith(b"\n") and len(data) > 1000
    assert all(json.loads(line)["correct"] in (True, False) for line in data.splitlines())


def test_no_room_says_how_much_there_is_and_what_to_do(tmp_path: Path) -> None:
    import errno

    from qwen_eval.errors import disk_error

    with pytest.raises(UserError) as error, disk_error(tmp_path / "samples.jsonl"):
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
    assert str(error.value).startswith(f"{tmp_path}/samples.jsonl: No space left on device (")
    assert "MB free); make room and start the same command again: finished items are kept" in str(error.value)


def test_partial_files_of_a_kill_are_cleared_away(tmp_path: Path) -> None:
    for name in ("samples.jsonl.partial", "results.json.partial"):
        (tmp_path / name).write_text("{")
    Journal(tmp_path, "r").close()
    assert [path.name for path in tmp_path.iterdir()] == ["samples.jsonl"]


def test_a_file_in_the_folders_place_is_named(tmp_path: Path) -> None:
    (tmp_path / "results").write_text("")
    with pytest.raises(UserError, match=rf"^{tmp_path}/results is a file where a folder is wanted; give another -o"):
        Journal(tmp_path / "results" / "Qwen-7B" / "mmlu", "r")
