"""The published data of every benchmark, where they lie beside the checkout, are recognised as the official set, in
whatever layout they come."""

import json
import shutil
from pathlib import Path

from qwen_eval.benchmark import Setting
from qwen_eval.data import fingerprints
from qwen_eval.runner import parse_flags
from tests.data.official_sets import compared, hub_tables, mmlu

import evaluate_bbh
import evaluate_math
import evaluate_wmt22
import fingerprint_data
import pyarrow
import pyarrow.parquet
import pytest


def test_all_fingerprints_together_are_small() -> None:
    files = sorted(fingerprints.FOLDER.glob("*.json"))
    assert {path.stem for path in files} == set(fingerprint_data.SETS)
    assert sum(path.stat().st_size for path in files) < 700_000


@pytest.mark.parametrize("name", fingerprint_data.SETS)
def test_the_published_data_are_recognised(name: str, shared) -> None:
    source = fingerprint_data.SETS[name]
    benchmark = source.benchmark()
    data = shared / f"data/{source.folder}"
    words = source.words(data)
    setting = Setting(flags=parse_flags(benchmark, "", words))
    found = compared(benchmark, data, *words, shots=source.shots and 3)
    expected = 378 if name == "mbpp_plus" else benchmark.official_items or benchmark.official(setting)
    assert found.official and not found.reordered and found.departures == [] and found.items == expected
    assert found.note == f"data: the official {source.title}, {expected:,} items"


def test_the_files_are_what_the_published_data_give(shared, monkeypatch: pytest.MonkeyPatch) -> None:
    data = (shared / "data/mmlu").parent
    monkeypatch.setattr("sys.argv", ["fingerprint_data.py", str(data), "--check"])
    assert fingerprint_data.main() == 0


def test_the_published_mmlu_is_recognised_in_the_hubs_tables_and_in_an_archive(shared, tmp_path: Path) -> None:
    data = shared / "data/mmlu"
    hub_tables(data, tmp_path / "hub")
    shutil.make_archive(str(tmp_path / "data"), "tar", data.parent, "mmlu")
    for place in (tmp_path / "hub", tmp_path / "data.tar"):
        found = mmlu(place)
        assert found.note == "data: the official MMLU test set, 14,042 items" and found.departures == []


def test_maths_tables_by_subject_are_the_same_items_in_another_order(shared, tmp_path: Path) -> None:
    rows = [json.loads(line) for line in (shared / "data/math/test.jsonl").read_text(encoding="utf-8").splitlines()]
    for subject in evaluate_math.SUBJECTS:
        some = [row for row in rows if evaluate_math.subject_of(row) == subject]
        path = tmp_path / subject / "test-00000-of-00001.parquet"
        path.parent.mkdir()
        pyarrow.parquet.write_table(pyarrow.Table.from_pylist(some), path)
    note = compared(evaluate_math.MATH(), tmp_path, shots=4).note
    assert note == "data: the official MATH test set, 5,000 items (the same items in another order)"
    note = compared(evaluate_math.MATH(), tmp_path, "--subjects", "geometry", shots=4).note
    assert note == "data: geometry of the official MATH test set, 479 items (the same items in another order)"


def test_math_500_is_a_part_of_math(shared) -> None:
    found = compared(evaluate_math.MATH(), shared / "data/math/math500.jsonl", shots=4)
    assert (len(found.missing), found.added, found.changed) == (4500, [], [])
    assert found.note.startswith("data: not the official MATH test set: missing: 4,500 items, such as test/")


def test_bbhs_prompts_are_compared_with_a_chain_of_thought_and_without(shared, tmp_path: Path) -> None:
    data = shutil.copytree(shared / "data/bbh", tmp_path / "bbh")
    path = data / "cot-prompts/navigate.txt"
    path.write_text(path.read_text(encoding="utf-8").replace("the answer is No.", "the answer is Yes.", 1))
    for flags in ((), ("--no-cot",)):
        assert compared(evaluate_bbh.BBH(), shared / "data/bbh", *flags).departures == []
        found = compared(evaluate_bbh.BBH(), data, *flags)
        assert found.official and found.departures == ["other few-shot examples"] and "of navigate" in found.note


def test_wmts_examples_and_references_are_compared_by_direction(shared, tmp_path: Path) -> None:
    for name in ("wmt21", "wmt22"):
        shutil.copytree(shared / f"data/{name}", tmp_path / name)
    for path, line in (
        ("wmt21/references/newstest2021.zh-en.ref.A.en", 1),
        ("wmt22/references/generaltest2022.en-zh.ref.A.zh", 9),
    ):
        lines = (tmp_path / path).read_text(encoding="utf-8").split("\n")
        lines[line] += "!"
        (tmp_path / path).write_text("\n".join(lines), encoding="utf-8")
    benchmark = evaluate_wmt22.WMT22()
    assert compared(benchmark, tmp_path / "wmt22").note == (
        "data: not the official WMT22 general test set: changed: en-zh/9 (the answer); "
        "other few-shot examples: example 2 of 5 of zh-en (the answer)"
    )
    found = compared(benchmark, tmp_path / "wmt22", "--subjects", "en-zh")
    assert found.departures == [] and not found.official


@pytest.mark.parametrize("name", ["hf_agent_run", "hf_agent_chat"])
def test_the_agents_prompt_and_tools_are_compared_as_well(name: str, shared, tmp_path: Path) -> None:
    data = shutil.copytree(shared / "data/hf_agent", tmp_path / "hf_agent")
    path = data / f"{name.rpartition('_')[2]}_prompt_template.txt"
    path.write_text(f"Please.\n{path.read_text(encoding='utf-8')}", encoding="utf-8")
    found = compared(fingerprint_data.SETS[name].benchmark(), data)
    assert found.official and found.departures == ["other prompt with its tools"]
