"""Where data comes from and which items of it are run."""

import shutil
import sys
import tarfile
import types
import zipfile
from collections import Counter
from pathlib import Path

from qwen_eval.benchmarks import multiple_choice as choices
from qwen_eval.data import sources
from qwen_eval.data.items import Hub, Item, choose_subjects, locate, read_csv, read_jsonl, subset
from qwen_eval.errors import UserError

import evaluate_mmlu as mmlu
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

DEMO = Path(__file__).resolve().parents[2] / "demo" / "data" / "mmlu"
HUB = Hub("owner/name", "data.tar")


def pack(kind: str, path: Path, top: str) -> Path:
    """demo/data/mmlu as an archive, its members below `top` (or at the top for "")."""
    files = [(member, f"{top}/{member.relative_to(DEMO)}".lstrip("/")) for member in sorted(DEMO.rglob("*.csv"))]
    if kind == ".zip":
        with zipfile.ZipFile(path, "w") as archive:
            for member, name in files:
                archive.write(member, name)
    else:
        with tarfile.open(path, "w:" + {".tar": "", ".tar.gz": "gz", ".tgz": "gz", ".tar.xz": "xz"}[kind]) as tar:
            for member, name in files:
                tar.add(member, name)
    return path


def everything(folder: Path) -> dict[str, list]:
    return {
        str(path.relative_to(folder)): choices.rows(path, mmlu.COLUMNS, header=False)
        for path in sorted(folder.rglob("*.csv"))
    }


@pytest.mark.parametrize("top", ["", "data"])
@pytest.mark.parametrize("kind", [".zip", ".tar", ".tar.gz", ".tgz", ".tar.xz"])
def test_the_archive_gives_the_same_items_as_the_folder(tmp_path: Path, kind: str, top: str) -> None:
    archive = pack(kind, tmp_path / f"mmlu{kind}", top)
    folder = locate(str(archive), HUB, "test")
    assert everything(folder) == everything(DEMO)
    assert locate(str(archive), HUB, "test") == folder, "unpacked once"


def test_another_archive_of_the_same_name_is_not_taken_for_the_first(tmp_path: Path) -> None:
    first = locate(str(pack(".tar", tmp_path / "data.tar", "")), HUB, "test")
    (tmp_path / "b").mkdir()
    second = locate(str(pack(".tar", tmp_path / "b" / "data.tar", "data")), HUB, "test")
    assert first != second


@pytest.mark.parametrize("kind", [".zip", ".tar", ".tar.gz", ".tar.xz"])
def test_a_cut_or_damaged_archive_is_one_clear_error_and_leaves_nothing(tmp_path: Path, kind: str) -> None:
    whole = pack(kind, tmp_path / f"mmlu{kind}", "data").read_bytes()
    middle = len(whole) // 2
    damaged = whole[: middle - 200] + bytes(400) + whole[middle + 200 :] if kind != ".tar" else b"no tar" * 200
    for number, content in enumerate((whole[:middle], damaged, b"")):
        path = tmp_path / f"x{number}{kind}"
        path.write_bytes(content)
        with pytest.raises(UserError, match=r"not a readable archive|has no 'test'"):
            locate(str(path), HUB, "test")
    assert not list((sources.CACHE / "unpacked").glob("*.partial"))


def test_an_archive_cannot_write_outside_the_cache(tmp_path: Path) -> None:
    (tmp_path / "evil").write_text("x")
    with tarfile.open(tmp_path / "bad.tar", "w") as tar:
        tar.add(tmp_path / "evil", "../../escaped")
    with pytest.raises(UserError, match="not a readable archive"):
        locate(str(tmp_path / "bad.tar"), HUB, "test")


def test_the_folder_above_the_data_will_do(tmp_path: Path) -> None:
    shutil.copytree(DEMO, tmp_path / "data")
    assert locate(str(tmp_path), HUB, "test") == tmp_path / "data"


def test_a_header_may_come_in_any_order_with_more_columns_and_a_byte_order_mark(tmp_path: Path) -> None:
    path = tmp_path / "a.csv"
    path.write_bytes('\ufeffid,answer,question,extra\r\n7,B,"a\nb, ""c""",x\r\n\r\n'.encode())
    (row,) = read_csv(path, ("question", "answer"), header=True)
    assert (row["question"], row["answer"]) == ('a\nb, "c"', "B")


@pytest.mark.parametrize(
    ("content", "said"),
    [
        (b"q,A\nx,y,z\n", "row 0: 3 columns where 2 are wanted"),
        (b"", "no column 'q' .it has: nothing"),
        (b"A,B\n", "no column 'q' .it has: A, B"),
        (b"q,A\n\xff\xfe,x\n", "not a readable UTF-8 CSV"),
        (b'q,A\n"open,x\n', "not a readable UTF-8 CSV"),
    ],
)
def test_a_bad_csv_is_named_with_its_row(tmp_path: Path, content: bytes, said: str) -> None:
    path = tmp_path / "a.csv"
    path.write_bytes(content)
    with pytest.raises(UserError, match=said) as error:
        read_csv(path, ("q", "A"), header=True)
    assert str(path) in str(error.value)


@pytest.mark.parametrize(
    ("content", "said"),
    [('{"id": 1}\n{"id"\n', "line 2 is not JSON"), ("[1]\n", "line 1 is no object"), ("{}\n", "line 1 has no 'id'")],
)
def test_a_bad_jsonl_is_named_with_its_line(tmp_path: Path, content: str, said: str) -> None:
    path = tmp_path / "a.jsonl"
    path.write_text(content)
    with pytest.raises(UserError, match=said):
        read_jsonl(path, needs=("id",))


def test_jsonl_lines_end_at_newlines_only(tmp_path: Path) -> None:
    path = tmp_path / "a.jsonl"
    path.write_text('{"id": "a\u2028b\x85c"}\r\n\n{"id": "d"}', encoding="utf-8")
    assert [row["id"] for row in read_jsonl(path, needs=("id",))] == ["a\u2028b\x85c", "d"]


def test_subjects_in_the_order_of_the_benchmark_and_a_hint_for_a_typo() -> None:
    names = ["astronomy", "nutrition", "virology"]
    assert choose_subjects(names, None) == names
    assert choose_subjects(names, " virology,astronomy,virology ,") == ["astronomy", "virology"]
    with pytest.raises(UserError, match="unknown subject 'nutritoin' in --subjects; did you mean 'nutrition'"):
        choose_subjects(names, "virology,nutritoin")
    with pytest.raises(UserError, match="there are 3, such as 'astronomy'"):
        choose_subjects(names, "xyz")


def items(sizes: dict[str, int]) -> list[Item]:
    return [Item(f"{name}/{i}", name, "") for name, size in sizes.items() for i in range(size)]


def counts(chosen: list[Item]) -> dict[str, int]:
    return dict(Counter(item.subject for item in chosen))


def test_limit_is_the_first_of_each_subject() -> None:
    chosen = subset(items({"a": 5, "b": 1, "c": 3}), 2, None, 0)
    assert [item.id for item in chosen] == ["a/0", "a/1", "b/0", "c/0", "c/1"]


@settings(max_examples=100)
@given(st.lists(st.integers(1, 40), min_size=1, max_size=8), st.integers(1, 200), st.integers(0, 9))
def test_sample_is_exact_stratified_and_seeded(sizes: list[int], total: int, seed: int) -> None:
    named = {f"s{i}": size for i, size in enumerate(sizes)}
    everything = items(named)
    chosen = subset(everything, None, total, seed)
    assert len(chosen) == min(total, len(everything))
    assert chosen == [item for item in everything if item in chosen], "in the order of the data"
    for name, size in named.items():
        assert abs(counts(chosen).get(name, 0) - len(chosen) * size / len(everything)) < 1
    assert chosen == subset(everything, None, total, seed)


def test_another_seed_draws_others() -> None:
    everything = items({"a": 100, "b": 100})
    assert subset(everything, None, 20, 1) != subset(everything, None, 20, 2)


def test_limit_and_sample_together() -> None:
    chosen = subset(items({"a": 50, "b": 50}), 10, 4, 0)
    assert counts(chosen) == {"a": 2, "b": 2}
    assert all(int(item.id.split("/")[1]) < 10 for item in chosen)


def test_no_items() -> None:
    with pytest.raises(UserError, match="empty"):
        subset([], None, None, 0)


@pytest.mark.parametrize("hub", ["", "modelscope"])
def test_a_hub_that_gives_nothing_names_what_helps_there(monkeypatch, hub):
    def fails(*words, **flags):
        raise OSError("no network")

    monkeypatch.setenv("QWEN_EVAL_HUB", hub)
    monkeypatch.setattr(sources, "need", lambda *extras: None)
    module = types.ModuleType("modelscope.hub.snapshot_download")
    monkeypatch.setattr(module, "dataset_snapshot_download", fails, raising=False)
    for name in ("modelscope", "modelscope.hub"):
        monkeypatch.setitem(sys.modules, name, types.ModuleType(name))
    monkeypatch.setitem(sys.modules, module.__name__, module)
    monkeypatch.setattr("huggingface_hub.hf_hub_download", fails)
    with pytest.raises(UserError) as error:
        locate(None, HUB, ["test"])
    place = "ModelScope" if hub else "the Hugging Face hub"
    assert f"could not be fetched from {place} (no network); give the official data with -d" in str(error.value)
    assert ("HF_ENDPOINT" in str(error.value)) == (not hub)
