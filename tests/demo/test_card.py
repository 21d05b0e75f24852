"""The card and what guards it: figures that a whole run of the demo reproduces to the digit, and breaks that show."""

from __future__ import annotations

import csv
import json
from itertools import pairwise
from pathlib import Path
from typing import Any

import card
import evaluate_bbh
import evaluate_mbpp
import evaluate_mmlu
import pytest
import run as demo

SIZE = 8_000_000  # bytes, both checkpoints together


def figures(folder: Path) -> dict[str, dict[str, Any]]:
    scores = json.loads((folder / "results.json").read_text(encoding="utf-8"))["scores"]
    return {name: score for name, score in scores.items() if "row" in score}


def exact(score: dict[str, Any]) -> bool:
    return f"{score['value']:.2f}" == f"{score['reported']:.2f}"


def test_every_run_of_the_demo_has_figures_on_the_card() -> None:
    with open(card.CSV, newline="", encoding="utf-8") as lines:
        rows = list(csv.DictReader(lines))
    assert {row["table"] for row in rows} == {job.name for job in demo.JOBS}
    assert {row["model"] for row in rows} == {"Qwen-demo", "Qwen-demo-Chat"}
    readme = card.README.read_text(encoding="utf-8")
    assert all(row["value"] in readme for row in rows)


def test_the_cards_figures_are_written_as_they_stand_there() -> None:
    with open(card.CSV, newline="", encoding="utf-8") as lines:
        rows = list(csv.DictReader(lines))
    figures = [
        a_figure(
            job=row["table"],
            model=row["model"],
            key={name: int(row[name]) if name == "shots" and row[name] else row[name] or None for name in card.KEY},
            value=float(row["value"]),
        )
        for row in rows
    ]
    assert card.as_csv(figures) == card.CSV.read_text(encoding="utf-8")


def test_the_checkpoints_are_small_and_in_the_published_format() -> None:
    for name in ("base", "chat"):
        files = {path.name for path in (card.HERE / "checkpoint" / name).iterdir()}
        published = {"config.json", "generation_config.json", "tokenizer_config.json", "qwen.tiktoken"}
        assert files == published | {"model.safetensors"}
    assert sum(path.stat().st_size for path in (card.HERE / "checkpoint").rglob("*")) < SIZE


@pytest.mark.parametrize(
    ("benchmark", "flags"),
    [("mmlu", ("-c", "demo", "--subjects", "astronomy,business_ethics,nutrition,world_religions"))],
)
def test_figures_do_not_depend_on_the_batch(script, tmp_path: Path, benchmark: str, flags: tuple[str, ...]) -> None:
    found = []
    for size in ("1", "auto"):
        assert script(benchmark, *flags, "-b", size, "-o", tmp_path / size).status == 0
        found.append({name: score["value"] for name, score in figures(tmp_path / size).items()})
    assert found[0] == found[1]


def a_figure(**changes: Any) -> card.Figure:
    key = {"benchmark": "bbh", "split": "", "shots": 3, "metric": "acc", "variant": None}
    one = card.Figure("bbh", "Qwen-demo", "acc", key, 55.0, (42.5, 66.9), 60, 55.0, "reproduced")
    return one._replace(**changes)


def test_a_figure_that_moved_or_is_gone_is_named(capsys: pytest.CaptureFixture[str]) -> None:
    assert card.show([a_figure()], ["bbh"]) == []
    assert card.show([a_figure(value=56.67)], ["bbh"]) == ["moved: bbh acc 56.67, card 55.0"]
    other = a_figure(key={**a_figure().key, "metric": "acc_other"})
    assert card.show([other], ["bbh"]) == ["gone: bbh bbh 3 acc, which the card has"]
    assert card.show([], ["mbpp"]) == ["gone: mbpp mbpp 3 pass@1, which the card has"]
    assert "gone: bbh" in capsys.readouterr().out


@pytest.mark.parametrize("flags", [["--only", "mmmlu"], ["--only", "mmlu", "--write-card"]])
def test_wrong_use_runs_nothing_and_leaves_the_card(flags, monkeypatch, capsys: pytest.CaptureFixture[str]) -> None:
    before = card.CSV.read_bytes(), card.README.read_bytes()
    monkeypatch.setattr("sys.argv", ["run.py", *flags])
    with pytest.raises(SystemExit) as ended:
        demo.main()
    assert ended.value.code == 2 and flags[-1].removeprefix("--") in capsys.readouterr().err
    assert (card.CSV.read_bytes(), card.README.read_bytes()) == before


# -- deliberate breaks: each must show ---------------------------------------------------------------------------------


def bbh(script, folder: Path) -> dict[str, Any]:
    assert script("bbh", "-c", "demo", "-o", folder).status == 0
    (score,) = figures(folder).values()
    return score


def test_unbroken_the_figure_is_the_cards(script, tmp_path: Path) -> None:
    score = bbh(script, tmp_path)
    assert exact(score) and (score["verdict"], score["difference_items"]) == ("reproduced", pytest.approx(0, abs=0.01))


def test_a_changed_character_of_the_prompt_shows(script, monkeypatch, tmp_path: Path) -> None:
    whole = evaluate_mmlu.example
    monkeypatch.setattr(
        evaluate_mmlu, "example", lambda *given, **more: whole(*given, **more).replace("Answer:", "Answer")
    )
    assert script("mmlu", "-c", "demo", "-o", tmp_path).status == 0
    (score,) = figures(tmp_path).values()
    assert not exact(score) and score["verdict"] == "lower"


def test_shots_shifted_by_one_show(script, monkeypatch, tmp_path: Path) -> None:
    """Each task of the prompt has the tests of the one before."""
    whole = evaluate_mbpp.prompt

    def shifted(row: dict[str, Any], shots: list[dict[str, Any]]) -> str:
        tasks = [*shots, row]
        moved = [{**task, "test_list": before["test_list"]} for before, task in pairwise([row, *tasks])]
        return whole(moved[-1], moved[:-1])

    monkeypatch.setattr(evaluate_mbpp, "prompt", shifted)
    assert script("mbpp", "-c", "demo", "-o", tmp_path).status == 0
    (score,) = figures(tmp_path).values()
    assert not exact(score) and score["verdict"] == "lower"


def test_another_stop_shows(script, monkeypatch, tmp_path: Path) -> None:
    monkeypatch.setattr(evaluate_bbh, "STOPS", (*evaluate_bbh.STOPS, " So "))
    score = bbh(script, tmp_path)
    assert not exact(score) and score["verdict"] == "lower"
