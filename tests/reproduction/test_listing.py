"""`qwen-eval list --reported NAME`: every figure once, under a command that exists."""

import csv
import shlex
import subprocess
import sys

from qwen_eval.errors import UserError
from qwen_eval.reporting.reported import CARDS, card_figures
from qwen_eval.reproduction.listing import command, listing
from qwen_eval.reproduction.tables import PARTS, TABLES, script_module

import pytest


def test_every_figure_of_every_model_is_listed_with_its_source() -> None:
    for path in CARDS:
        with open(path, newline="", encoding="utf-8") as lines:
            rows = list(csv.DictReader(lines))
        for model in {row["model"] for row in rows}:
            shown = listing(model)
            for row in rows:
                if row["model"] == model:
                    figure = f"    {row['benchmark']} {row['metric']}  {row['value']} {row['unit']}".rstrip()
                    assert any(line.startswith(figure) and line.endswith(row["source"]) for line in shown.splitlines())


def test_every_command_is_one_that_its_script_takes(monkeypatch: pytest.MonkeyPatch) -> None:
    parsers = {part.script: part.flag_parser() for part in PARTS}
    commands = {command(row, "") for row in card_figures()}
    assert len(commands) > 100
    for one in commands:
        if one.startswith("#"):
            assert one.endswith(("no script here", "no flag here chooses the mode"))
            continue
        program, script, *flags = shlex.split(one)
        assert program == "qwen-eval"
        if script == "speed":
            monkeypatch.setattr(sys, "argv", [one, *flags])
            script_module("speed").parse()
        else:
            parsers[script].parse_args(flags)


def test_one_model_as_it_is_printed() -> None:
    shown = listing("Qwen/Qwen2.5-7B")
    assert shown.splitlines()[0] == "Qwen/Qwen2.5-7B: 21 reported figures, each below the command that measures it"
    assert (
        "qwen-eval gsm8k -c Qwen/Qwen2.5-7B -k 4\n"
        "    gsm8k acc  85.4 %  (4-shot)  QwenLM/qwenlm.github.io:content/blog/qwen2.5-llm/index.md\n"
        "    gsm8k acc  85.36 %  (4-shot)  QwenLM/Qwen3:Qwen3_Technical_Report.pdf Table 6\n"
    ) in shown
    assert "qwen-eval mbpp --evalplus MbppPlus.jsonl.gz -c Qwen/Qwen2.5-7B\n" in shown
    assert "qwen-eval gpqa -c Qwen/Qwen2.5-7B -k 5\n" in shown


def test_names_of_checkpoints() -> None:
    assert "qwen-eval mmlu -c Qwen/Qwen2-7B-Instruct-AWQ\n" in listing("Qwen2-7B-Instruct-AWQ")
    assert "-c Qwen/Qwen-1_8B-Chat-Int4 -k 0\n" in listing("Qwen-1.8B-Chat-Int4")
    old = listing("Qwen-7B@v1.0")
    assert "-c Qwen/Qwen-7B" not in old and "-c FOLDER --reported-as Qwen-7B@v1.0 -k 5\n" in old
    assert "-c FOLDER --reported-as LLaMA2-7B" in listing("LLaMA2-7B")
    of_both = listing("Qwen3-8B")
    assert "qwen-eval ceval -c Qwen/Qwen3-8B --thinking on\n    ceval acc" in of_both
    assert "qwen-eval ceval -c Qwen/Qwen3-8B --thinking off\n    ceval acc" in of_both
    assert "--thinking" not in listing("Qwen3-4B-Thinking-2507"), "it has no other way"


@pytest.mark.parametrize(
    ("name", "said"),
    [
        ("Qwen2.5-8B", "of a model 'Qwen2.5-8B' (list --reported); did you mean 'Qwen2.5-7B'?"),
        ("Qwen2.5-7B-AWQ", "of Qwen2.5-7B-AWQ; `qwen-eval list --reported Qwen2.5-7B` has those of Qwen2.5-7B"),
    ],
)
def test_a_model_without_figures_is_one_line(name: str, said: str) -> None:
    with pytest.raises(UserError) as caught:
        listing(name)
    assert said in str(caught.value) and "\n" not in str(caught.value)


def test_by_the_command() -> None:
    def start(*words: str) -> subprocess.CompletedProcess[str]:
        return subprocess.run([sys.executable, "-m", "qwen_eval", *words], capture_output=True, text=True, check=False)

    models = start("list", "--reported")
    assert models.returncode == 0 and "Qwen2.5-7B  21 figures" in models.stdout.splitlines()
    assert start("list", "--reported", "Qwen2.5-7B").stdout == listing("Qwen2.5-7B") + "\n"
    for words in (("list", "--reprted"), ("list", "--reported", "a", "b")):
        ended = start(*words)
        assert (
            ended.returncode == 2 and len(ended.stderr.strip().splitlines()) == 1 and "--reported MODEL" in ended.stderr
        )


def test_the_columns_of_the_later_tables_are_figures_of_their_models() -> None:
    """Every column is of a benchmark that some model of the generation has a figure for, in that setting."""
    names = {part.name: part.benchmark().name for part in PARTS}
    shown = {"acc_norm": "acc", "mc2": "acc"}  # which of a benchmark's two scores a card's figure stands beside
    for table in TABLES.values():
        if not table.generation:
            continue
        rows = [row for row in card_figures() if row["model"].startswith(f"{table.generation}-")]
        kinds = [row for row in rows if row["table"] == ("chat" if table.chat else "base")]
        assert {part.name for part in table.parts} == {cell.part for cell in table.columns[""].values()}
        for title, cell in table.columns[""].items():
            shots = title.partition("-shot")[0].rpartition(" ")[2] if "-shot" in title else ""
            metric = shown.get(cell.score, cell.score)
            same = [row for row in kinds if (row["benchmark"], row["metric"]) == (names[cell.part], metric)]
            assert any(shots in ("", row["shots"]) for row in same), (table.name, title)
