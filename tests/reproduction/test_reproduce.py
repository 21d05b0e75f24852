"""`reproduce.py TABLE`: one model load, a plan before it starts, the card's own layout at the end, resumable."""

import csv
import json
import shutil
from pathlib import Path

from qwen_eval.engines.local.engine import LocalEngine
from qwen_eval.reproduction.layout import grids, latex
from qwen_eval.reproduction.plan import shown_time
from qwen_eval.reproduction.runs import words_of
from qwen_eval.reproduction.tables import TABLES, script_module

import pytest

ROOT = Path(__file__).resolve().parents[2]


@pytest.fixture
def table(script, tmp_path):
    """Run reproduce.py; its results go to one folder."""

    def run(*words):
        return script("reproduce", *words, "-o", tmp_path / "out")

    return run


@pytest.fixture
def loads(monkeypatch) -> list[Path]:
    """The checkpoints of the models that are loaded, in order."""
    found: list[Path] = []
    init = LocalEngine.__init__

    def counted(self, checkpoint, *args, **flags):
        found.append(checkpoint)
        init(self, checkpoint, *args, **flags)

    monkeypatch.setattr(LocalEngine, "__init__", counted)
    return found


def figures(folder: Path) -> list[dict[str, str]]:
    with open(folder / "table.csv", newline="", encoding="utf-8") as lines:
        return list(csv.DictReader(lines))


def test_a_table_is_made_with_one_loaded_model_and_goes_on_where_it_was_stopped(table, loads, tmp_path):
    ended = table("quantization", "-c", "demo-chat", "--limit", "2")
    assert ended.status == 0, ended.err
    assert len(loads) == 1
    folder = tmp_path / "out/tables/quantization"
    assert {path.name for path in folder.iterdir()} == {"table.md", "table.tex", "table.csv", "table.json"}
    rows = figures(folder)
    assert [row["column"] for row in rows] == ["MMLU", "C-Eval (val)", "GSM8K", "HumanEval"]
    for row, run in zip(rows, ("mmlu", "ceval", "gsm8k", "humaneval"), strict=True):
        results = json.loads((tmp_path / "out/Qwen-demo-Chat" / run / "results.json").read_text())
        score = results["scores"]["pass@1" if run == "humaneval" else "acc"]
        assert float(row["value"]) == score["value"] and row["verdict"] == (score["verdict"] or "")
        assert (float(row["ci95_low"]), float(row["ci95_high"])) == tuple(score["ci95"])
    assert "left to do" in ended.out and ended.out.index("left to do") < ended.out.index("MMLU")

    shutil.rmtree(folder)
    again = table("quantization", "-c", "demo-chat", "--limit", "2")
    assert again.status == 0 and len(loads) == 1, "everything was finished: no model is needed"
    assert figures(folder) == rows


def test_the_plan_says_what_and_how_long_and_stops(table, tmp_path):
    ended = table("base", "-c", "demo", "--plan", "--limit", "1")
    assert ended.status == 0, ended.err
    for run in ("mmlu", "ceval", "gsm8k", "math", "humaneval", "mbpp", "bbh", "cmmlu"):
        assert run in ended.out
    assert "to do: about" in ended.out
    assert not list(tmp_path.glob("out/*/*/results.json"))


def test_missing_data_is_said_of_every_run_before_anything_starts(table, loads, tmp_path, monkeypatch):
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_OFFLINE", True)
    data = tmp_path / "data"
    shutil.copytree(ROOT / "demo/data/gsm8k", data / "gsm8k")
    named = tmp_path / "Qwen-7B-Chat"
    shutil.copytree(ROOT / "demo/checkpoint/chat", named)
    ended = table("quantization", "-c", named, "-d", data)
    assert ended.status == 2 and loads == []
    for run in ("mmlu", "ceval", "humaneval"):
        assert f"cannot start: {run} of " in ended.err
    assert "cannot start: gsm8k" not in ended.err and "3 of 4 runs cannot start" in ended.err
    ended = table("quantization", "-c", named, "-d", data, "--skip-missing", "--limit", "1", "--max-new-tokens", "4")
    assert ended.status == 0, "they were to be left out"
    assert "mmlu of " in (tmp_path / "out/tables/quantization/table.md").read_text(), "and the table says so"
    assert [bool(row["value"]) for row in figures(tmp_path / "out/tables/quantization")] == [False, False, True, False]
    assert "Traceback" not in ended.err


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (("bass", "-c", "demo"), "no table of the cards is called 'bass'; there are base, "),
        (("base",), "no checkpoint: give -c"),
        (("-c", "demo"), "name a table, or give --all"),
        (("base", "--all", "-c", "demo"), "name a table, or give --all"),
        (
            ("base", "-c", "demo-chat"),
            "'base' is of base models, and demo-chat is a chat model (--base ",
        ),
        (("chat", "-c", "demo"), "'chat' is of chat models"),
        (("base", "-c", "nowhere/at-all/there"), "nowhere/at-all/there"),
        (("base", "-c", "demo", "-k", "3"), "-k is not for a whole table"),
        (("base", "-c", "demo", "--baseline=x"), "--baseline=x is not for a whole table"),
        (("base", "-c", "demo", "--judge-url", "x"), "no run of these tables knows --judge-url"),
        (("base", "-c", "demo", "--limit", "0"), "'0' is not a whole number of at least 1"),
        (("base", "-c", "demo", "-d", "no-such-folder"), "no-such-folder is no folder"),
    ],
)
def test_wrong_use_is_one_line(table, words, said):
    ended = table(*words)
    assert ended.status == 2 and said in ended.err
    assert len(ended.err.strip().splitlines()) == 1 and "Traceback" not in ended.err


def test_two_checkpoints_of_one_name_are_refused(table, tmp_path):
    for place in ("a", "b"):
        shutil.copytree(ROOT / "demo/checkpoint/base", tmp_path / place / "Qwen-mine")
    ended = table("base", "-c", tmp_path / "a/Qwen-mine", "-c", tmp_path / "b/Qwen-mine")
    assert ended.status == 2 and "are both called Qwen-mine" in ended.err
    assert len(ended.err.strip().splitlines()) == 1


def test_perplexities_stand_in_rows_by_configuration_and_columns_by_length():
    scores = {
        f"{way}/seq_{length}": {"value": 3.0 + length / 1e5, "ci95": None, "reported": None, "n": 4}
        for way in ("none", "dynamic_ntk")
        for length in (1024, 16384)
    }
    (grid,) = grids(TABLES["long_context_ppl"], {"Qwen-7B": {"ppl": {"scores": scores}}})
    assert list(grid.head) == ["model", "", "1,024", "16,384"]
    assert [list(row) for row in grid.rows] == [
        ["Qwen-7B", "measured", "3.01", "3.16"],
        ["+ dynamic_ntk", "measured", "3.01", "3.16"],
    ]


def test_a_row_per_checkpoint_and_a_dash_where_a_run_is_missing():
    score = {
        "value": 58.25,
        "ci95": [57.4, 59.1],
        "n": 9,
        "reported": 58.2,
        "reported_version": "v1.1",
        "reported_decimals": 1,
    }
    whole = {"mmlu": {"scores": {"acc": {**score, "difference": 0.05, "verdict": "reproduced"}}}}
    (grid,) = grids(TABLES["quantization"], {"A_1": whole, "B": {}})
    assert [row[:3] for row in grid.rows] == [
        ["A_1", "measured", "58.2 (57.4 to 59.1)"],
        ["", "reported", "58.2 (v1.1)"],
        ["", "difference", "+0.05"],
        ["", "verdict", "reproduced"],
        ["B", "measured", "-"],
    ]
    assert "A\\_1" in latex([grid]) and latex([grid]).count("\\\\") == 6


def test_every_table_names_runs_and_figures_that_exist():
    for name, table in TABLES.items():
        for part in table.parts:
            module = script_module(part.script)
            assert part.benchmark().name and module.__doc__, (name, part.name)
            _, unknown = words_of(part, "demo", [])
            assert unknown == []
        cells = [cell for columns in table.columns.values() for cell in columns.values()]
        assert {cell.part for cell in cells} <= {part.name for part in table.parts}


@pytest.mark.parametrize(("seconds", "text"), [(0.2, "1 s"), (75, "75 s"), (600, "10 min"), (12_000, "3 h 20 min")])
def test_times_are_said_in_the_unit_that_fits(seconds, text):
    assert shown_time(seconds) == text


def test_a_later_generation_has_tables_of_its_own(table, tmp_path, monkeypatch):
    """Each cell beside what was reported of that setting; --all is those of the model's generation and kind."""
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_OFFLINE", True)
    named = tmp_path / "Qwen2.5-7B"
    shutil.copytree(ROOT / "demo/checkpoint/base", named)
    data = ROOT / "demo/data"
    words = ("-c", named, "-d", data, "--limit=1", "--max-new-tokens=2", "--skip-missing")
    ended = table("--all", *words)
    assert ended.status == 0, ended.err
    assert [path.name for path in (tmp_path / "out/tables").iterdir()] == ["qwen2.5"]
    rows = {row["column"]: row for row in figures(tmp_path / "out/tables/qwen2.5")}
    reported = {name: row["reported"] for name, row in rows.items() if row["value"]}
    assert reported == {
        "GSM8K 4-shot": "85.4",
        "MATH 4-shot": "49.8",
        "HumanEval 0-shot": "57.9",
        "MBPP 0-shot": "74.9",
    }
    assert "reproduced" not in {row["verdict"] for row in rows.values()}
    page = (tmp_path / "out/tables/qwen2.5/table.md").read_text(encoding="utf-8")
    for line in (
        "| Qwen2.5-7B | GSM8K 4-shot | 85.4 | 4-shot | blog qwen2.5-llm | yes |",
        "| Qwen2.5-7B | GSM8K 4-shot | 85.36 | 4-shot | Qwen3_Technical_Report.pdf Table 6 | yes |",
        "| Qwen2.5-7B | MBPP 0-shot | 74.9 | 0-shot | blog qwen2.5-llm | yes |",
        "| Qwen2.5-7B | MBPP 0-shot | 63.40 | 3-shot | Qwen3_Technical_Report.pdf Table 6 | another setting |",
    ):
        assert line in page, page
    assert "the blogs ask MBPP 0-shot by EvalPlus" in page
    assert {"MMLU 5-shot", "MMLU-Pro 5-shot", "GPQA 5-shot", "ARC-C 25-shot"} <= rows.keys() - reported.keys(), (
        "whose data the demo has not, or not whole"
    )


def test_a_flags_value_is_not_taken_for_a_table(table, tmp_path):
    for words in (("--all", "--limit", "1"), ("--limit", "1", "base"), ("base", "--limit", "1")):
        ended = table(*words, "-c", "demo", "-o", tmp_path, "--plan")
        assert ended.status == 0, ended.err
        assert next(line for line in ended.out.splitlines() if " mmlu " in line).split()[:3] == ["demo", "mmlu", "5"]
    ended = table("base", "nothing", "-c", "demo", "-o", tmp_path, "--plan")
    assert ended.status == 2 and "no table of the cards is called 'nothing'" in ended.err
