"""--protocol: a model is asked as its family's figures were made, and what no source states stands below the table."""

import csv
import json
import re
import shutil
import sys
from pathlib import Path
from typing import Any

from qwen_eval.benchmark import Item, Setting, answered
from qwen_eval.protocols import BASE_SHOTS, BOXED, LATER, default_for, families_of, family_of, way
from qwen_eval.reporting.reported import LATER as LATER_FIGURES
from qwen_eval.runner import parse_flags

import pytest

ROOT = Path(__file__).resolve().parents[2]
sys.path.append(str(ROOT / "eval"))

import evaluate_gsm8k  # noqa: E402
import evaluate_math  # noqa: E402


@pytest.mark.parametrize(
    ("names", "family"),
    [
        (("Qwen-7B-Chat",), "qwen"),
        (("Qwen-1.8B",), "qwen"),
        (("Qwen1.5-32B-Chat",), "qwen1.5"),
        (("Qwen2-0.5B",), "qwen2"),
        (("qwen2.5-7b-instruct",), "qwen2.5"),  # as an endpoint calls it
        (("Qwen3-4B-Instruct-2507",), "qwen3"),
        (("Qwen2.5-7B", "my-model"), "qwen2.5"),  # --reported-as stands before its own name
        (("my-Qwen2.5-7B",), ""),
        (("QwenX-7B",), ""),
    ],
)
def test_the_family_is_known_by_the_name(names: tuple[str, ...], family: str) -> None:
    assert family_of(names, None) == family


@pytest.mark.parametrize(
    ("kind", "family"), [("qwen", "qwen"), ("qwen2", ""), ("qwen3", "qwen3"), ("qwen3_moe", "qwen3"), ("llama", "")]
)
def test_without_a_name_the_config_says_it_where_it_can(kind: str, family: str, tmp_path: Path) -> None:
    (tmp_path / "config.json").write_text(json.dumps({"model_type": kind}))
    assert family_of(("tuned",), tmp_path) == family
    assert family_of(("Qwen2-7B",), tmp_path) == "qwen2"


def test_a_model_is_asked_by_the_first_generations_protocol_where_its_family_has_none() -> None:
    assert default_for("gsm8k", "qwen2.5") == "qwen2.5"
    assert default_for("cmmlu", "qwen3") == default_for("gsm8k", "") == default_for("vcsum", "qwen3") == "qwen"


def test_every_stated_number_of_examples_is_the_familys_default() -> None:
    """But for figures of another source, whose command says -k, and for EvalPlus's."""
    with open(LATER_FIGURES, newline="", encoding="utf-8") as lines:
        rows = list(csv.DictReader(lines))
    stated: dict[tuple[str, str], set[int]] = {}
    for row in rows:
        if row["table"] == "base" and row["shots"] and row["benchmark"] in BASE_SHOTS:
            family = family_of((row["model"],), None)
            stated.setdefault((row["benchmark"], family), set()).add(int(row["shots"]))
    assert len(stated) > 40
    for (benchmark, family), shots in stated.items():
        found = way(benchmark, family, chat=False)
        assert found is not None, (benchmark, family)
        if (benchmark, family) not in (("mbpp", "qwen1.5"), ("mbpp", "qwen2")):
            assert found.shots in shots, (benchmark, family)
    for benchmark in BASE_SHOTS:
        for family in LATER:
            for chat in (False, True):
                found = way(benchmark, family, chat)
                assert found is None or found.ours, "something is always ours"


@pytest.mark.parametrize(
    ("benchmark", "family", "chat", "shots"),
    [
        ("gsm8k", "qwen2.5", False, 4),
        ("gsm8k", "qwen2.5", True, 0),
        ("mmlu", "qwen2", True, 5),  # OpenCompass, as a maintainer says
        ("ceval", "qwen3", True, 0),
        ("math", "qwen2", True, 0),
        ("mbpp", "qwen3", False, 3),
    ],
)
def test_settings_by_family_and_kind(benchmark: str, family: str, chat: bool, shots: int) -> None:
    found = way(benchmark, family, chat)
    assert found is not None and found.shots == shots


def test_qwen3s_chain_of_thought_is_stated_and_the_others_is_ours() -> None:
    stated, ours = way("bbh", "qwen3", False), way("bbh", "qwen2.5", False)
    assert stated is not None and "with a chain of thought" in stated.stated and "thought" not in stated.ours
    assert ours is not None and "thought" not in ours.stated and "a chain of thought" in ours.ours


def test_a_protocol_that_a_benchmark_has_not_is_one_line_with_those_it_has(
    capsys: pytest.CaptureFixture[str],
) -> None:
    with pytest.raises(SystemExit) as ended:
        parse_flags(evaluate_gsm8k.GSM8K(), "", ["-c", "no/such", "--protocol", "qwen4"])
    said = capsys.readouterr().err
    assert ended.value.code == 2 and said.count("\n") == 1
    assert all(family in said for family in ("qwen4", *families_of("gsm8k")))
    assert "qwen3" not in families_of("arc_challenge") and "qwen" not in families_of("mmlu_pro")


def test_a_chat_model_of_a_later_family_boxes_its_answer_and_the_box_is_read() -> None:
    flags = parse_flags(evaluate_gsm8k.GSM8K(), "", [])
    later = Setting(chat=True, flags=flags, protocol="qwen2.5")
    row = {"question": "How many?", "answer": "So 20,800.\n#### 20,800"}
    item = Item("test/0", "test", gold=row["answer"], row=row)
    evaluation = evaluate_gsm8k.GSM8K().evaluate(item, later)
    assert next(evaluation).prompt == f"How many?{BOXED}"
    reply = "So it is \\boxed{20,800}, and not the 3 that one might think of."
    assert answered(evaluate_gsm8k.GSM8K().evaluate(item, later), reply)["correct"]
    assert answered(evaluate_gsm8k.GSM8K().evaluate(item, later), "It is 20,800.")["correct"]
    first = Setting(chat=True, flags=flags)
    assert next(evaluate_gsm8k.GSM8K().evaluate(item, first)).prompt == "How many?"
    assert not answered(evaluate_gsm8k.GSM8K().evaluate(item, first), reply)["correct"]


def test_a_chat_model_of_a_later_family_gets_a_problem_of_math_without_examples() -> None:
    problem = {"problem": "1 + 1?", "level": "Level 1", "solution": "\\boxed{2}", "type": "Algebra"}
    item = Item("test/0", "algebra", gold=problem["solution"], row=problem)
    later = Setting(chat=True, protocol="qwen2")
    assert next(evaluate_math.MATH().evaluate(item, later)).prompt == f"1 + 1?{BOXED}"
    assert answered(evaluate_math.MATH().evaluate(item, later), "Problem: easy. \\boxed{2}")["correct"]
    assert next(evaluate_math.MATH().evaluate(item, Setting(chat=True))).prompt.startswith("Problem:\n1 + 1?")


# -- whole runs --------------------------------------------------------------------------------------------------------


@pytest.fixture
def gsm8k(script: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Any:
    """Run GSM8K on two samples of the demo's model under this name; the folder and results.json."""
    monkeypatch.chdir(tmp_path)

    def run(name: str, *flags: object, data: bool = True) -> tuple[Path, dict[str, Any]]:
        if not (tmp_path / name).exists():
            shutil.copytree(ROOT / "demo/checkpoint/base", tmp_path / name)
        given = ("-d", ROOT / "demo/data/gsm8k") if data else ()
        ended = script("gsm8k", "-c", tmp_path / name, *given, "--max-new-tokens", 2, *flags)
        assert ended.status == 0, ended.err
        folder = tmp_path / re.findall(r"written to (\S+)", ended.out)[-1]
        return folder, json.loads((folder / "results.json").read_text())

    return run


def test_a_run_says_what_is_stated_and_what_is_ours_and_is_never_reproduced(gsm8k: Any, as_official: Any) -> None:
    as_official("gsm8k", ROOT / "demo/data/gsm8k")
    folder, results = gsm8k("Qwen2.5-7B", "--band", 100)
    assert folder.name == "gsm8k" and results["manifest"]["settings"]["protocol"] == "qwen2.5"
    assert results["manifest"]["settings"]["num_fewshot"] == 4 and results["scores"]["acc"]["reported"] == 85.4
    assert results["scores"]["acc"]["verdict"] != "reproduced"
    (note,) = [note for note in results["notes"] if note.startswith("protocol qwen2.5: ")]
    assert "stated: 4-shot (blog qwen2.5-llm); ours: " in note and note in (folder / "table.md").read_text()


def test_another_protocol_is_another_run_in_another_folder(gsm8k: Any, script: Any, tmp_path: Path) -> None:
    own, _ = gsm8k("Qwen2.5-7B", "--limit", 2)
    other, results = gsm8k("Qwen2.5-7B", "--limit", 2, "--protocol", "qwen")
    assert (own.name, other.name) == ("gsm8k", "gsm8k-qwen")
    assert "protocol" not in results["manifest"]["settings"] and results["manifest"]["settings"]["num_fewshot"] == 8
    flags = ("-c", tmp_path / "Qwen2.5-7B", "-d", ROOT / "demo/data/gsm8k", "--limit", 2, "--max-new-tokens", 2)
    refused = script("gsm8k", *flags, "--protocol", "qwen3", "-o", own)
    assert refused.status == 2 and "holds a run with another model" in refused.err


def test_another_familys_protocol_is_a_departure(gsm8k: Any) -> None:
    _, results = gsm8k("Qwen-7B", "--limit", 2, "--protocol", "qwen2.5", "-k", 8)
    assert results["scores"]["acc"]["reported"] == 51.7 and "--protocol" in results["manifest"]["departures"]


def test_a_model_without_a_family_is_asked_as_before(gsm8k: Any, tmp_path: Path) -> None:
    _, results = gsm8k("tuned", "--limit", 2)
    assert "protocol" not in results["manifest"]["settings"] and results["manifest"]["settings"]["num_fewshot"] == 8
    assert not any(note.startswith("protocol qwen") for note in results["notes"])
    _, named = gsm8k("tuned", "--limit", 2, "--reported-as", "Qwen2.5-7B", "-o", tmp_path / "named")
    assert named["manifest"]["settings"]["protocol"] == "qwen2.5"


def test_the_page_has_the_numbers_of_examples_that_are_in_force() -> None:
    """EVALUATION.md's table, of the scripts' own classes."""
    from qwen_eval.reproduction.tables import PARTS

    made = {part.made_by: part.benchmark() for part in PARTS if part.script not in ("plugin", "ppl")}
    classes = {"MMLU-Pro": "MMLUPro", "C-Eval": "CEval"}
    page = (ROOT / "eval/EVALUATION.md").read_text(encoding="utf-8")
    head, *rows = re.search(r"^\| Benchmark \| `qwen`.*?(?=\n\n)", page, re.M | re.S)[0].splitlines()  # type: ignore[index]
    families = re.findall(r"`(.+?)`", head)
    assert families == ["qwen", *LATER] and len(rows) == 15
    for row in rows[1:]:
        title, *cells = [cell.strip() for cell in row.strip("|").split("|")]
        name, _, kind = title.partition(", ")
        benchmark = made[classes.get(name, name)]
        if benchmark.shots is None:
            continue  # BBH and HumanEval have one number
        usual = [str(benchmark.usual_shots(family, kind == "chat")) for family in families]
        assert usual == cells, title
