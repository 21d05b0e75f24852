"""samples.jsonl: every line says what was asked, as the model saw it; a field has one type in all scripts."""

import json
from pathlib import Path
from typing import Any

from qwen_eval.benchmarks import multiple_choice as choices
from qwen_eval.data.items import Item
from qwen_eval.engines.openai import OpenAIEngine
from qwen_eval.errors import UserError
from qwen_eval.reporting.journal import Journal, prompt_sha256
from qwen_eval.reporting.samples import FIELDS, as_text

import evaluate_mmlu
import pytest

ROOT = Path(__file__).resolve().parents[2]
DATA = ROOT / "demo" / "data"


def samples(folder: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for line in (folder / "samples.jsonl").read_text(encoding="utf-8").splitlines()]


@pytest.fixture
def mmlu(demo_checkpoint: Path) -> tuple[object, ...]:
    return ("-c", demo_checkpoint, "-d", DATA / "mmlu", "--subjects", "nutrition", "--limit", 2, "-k", 0)


def rows() -> list[dict[str, Any]]:
    return choices.rows(DATA / "mmlu" / "test" / "nutrition_test.csv", evaluate_mmlu.COLUMNS, header=False)


# -- the prompt ------------------------------------------------------------------------------------


def test_a_base_models_prompt_is_the_text(script, mmlu, tmp_path: Path) -> None:
    ended = script("mmlu", *mmlu, "-o", tmp_path, "--debug")
    for number, line in enumerate(samples(tmp_path)):
        assert line["prompt"] == evaluate_mmlu.base_prompt("nutrition", [], rows()[number])
        assert f"--- nutrition/{number}\n{line['prompt']}\n---\n" in ended.err


def test_a_chat_models_prompt_has_its_chatml_frame(script, mmlu, tmp_path: Path) -> None:
    ended = script("mmlu", *mmlu, "-o", tmp_path, "--chat", "--max-new-tokens", 4, "--debug")
    for number, line in enumerate(samples(tmp_path)):
        asked = evaluate_mmlu.chat_prompt(rows()[number])
        assert line["prompt"] == (
            "<|im_start|>system\nYou are a helpful assistant.<|im_end|>\n"
            f"<|im_start|>user\n{asked}<|im_end|>\n<|im_start|>assistant\n"
        )
        assert line["prompt_sha256"] == prompt_sha256(asked), "the sum is of the benchmark's text"
        assert f"--- nutrition/{number}\n{line['prompt']}\n---\n" in ended.err


def test_a_cut_prompt_shows_what_was_kept(script, mmlu, demo_checkpoint: Path, tmp_path: Path) -> None:
    from qwen_model.loading import load_tokenizer

    script("mmlu", *mmlu, "-o", tmp_path, "--max-seq-len", 30)
    tokenizer = load_tokenizer(demo_checkpoint)
    for number, line in enumerate(samples(tmp_path)):
        whole = evaluate_mmlu.base_prompt("nutrition", [], rows()[number])
        assert line["cut"] is True
        assert whole.endswith(line["prompt"]) and len(line["prompt"]) < len(whole)
        assert line["prompt"] == tokenizer.decode(tokenizer.encode_plain(whole)[-29:])


def test_given_replies_stand_beside_the_benchmarks_text(script, mmlu, tmp_path: Path) -> None:
    (tmp_path / "replies.jsonl").write_text('{"id": "nutrition/1", "response": "B"}\n')
    ended = script("mmlu", "--rescore", tmp_path / "replies.jsonl", *mmlu[2:], "-o", tmp_path / "out", "--debug")
    (line,) = samples(tmp_path / "out")
    assert line["prompt"] == evaluate_mmlu.chat_prompt(rows()[1])
    assert line["prompt"] in ended.err


def test_a_long_document_is_named_with_its_tokens(script, demo_checkpoint: Path, tmp_path: Path) -> None:
    (tmp_path / "texts").mkdir()
    (tmp_path / "texts" / "a.txt").write_text("towns and rivers " * 200)
    flags = ("-c", demo_checkpoint, "-d", tmp_path / "texts", "--lengths", "32,64", "--configs", "none")
    assert script("ppl", *flags, "-o", tmp_path / "one").status == 0
    assert [line["prompt"] for line in samples(tmp_path / "one")] == ["tokens 0 to 64 of a.txt"]
    assert script("ppl", *flags, "-o", tmp_path / "all", "--stride", 30).status == 0
    assert [line["prompt"].split(", ")[1:] for line in samples(tmp_path / "all")] == [
        [f"{length} at a time", "30 apart"] for length in (32, 64)
    ]


def test_an_endpoints_prompt_is_what_is_sent() -> None:
    engine = OpenAIEngine("http://localhost:1/v1", "m")
    (alone,) = engine.encode(["Who?"])
    assert engine.prompt_text(alone) == "user: Who?"
    (begun,) = engine.encode(["Who?"], assistant_prefill=["Let me"])
    assert engine.prompt_text(begun) == "user: Who?\nassistant: Let me"


@pytest.mark.parametrize("chat", [True, False])
def test_other_models_prompts_are_those_of_their_own_template(chat: bool) -> None:
    from qwen_eval.engines.local.prompts import Encoder

    from tokenizers import Tokenizer, models, pre_tokenizers
    from transformers import PreTrainedTokenizerFast

    words = {word: number for number, word in enumerate(["<s>", "<u>", "</u>", "who", "is", "it"])}
    raw = Tokenizer(models.WordLevel(words, unk_token="it"))
    raw.pre_tokenizer = pre_tokenizers.Whitespace()
    special = {"bos_token": "<s>", "additional_special_tokens": ["<u>", "</u>"]}
    tokenizer = PreTrainedTokenizerFast(tokenizer_object=raw, **special)
    tokenizer.chat_template = "<s><u>{{ messages[0]['content'] }}</u>"
    encoder = Encoder(tokenizer)
    (ids,) = encoder.chat(["who is it"]) if chat else encoder.plain(["who is it"])
    assert encoder.text(ids) == ("<s> <u> who is it </u>" if chat else "who is it")


# -- the types -------------------------------------------------------------------------------------

FEW = ("--limit", 2)
RUNS: dict[str, tuple[object, ...]] = {
    "mmlu": ("-c", "demo", "--subjects", "nutrition", "-k", 0),
    "ceval": ("-c", "demo", "--subjects", "plant_protection", "-k", 0, "--split", "test"),
    "cmmlu": ("-c", "demo-chat", "--subjects", "agronomy"),
    "gsm8k": ("-c", "demo", "-k", 0),
    "gsm8k chat": ("-c", "demo-chat",),
    "math": ("-c", "demo", "-k", 0),
    "bbh": ("-c", "demo", "--subjects", "boolean_expressions"),
    "wmt22": ("-c", "demo", "-k", 0),
    "vcsum": ("-c", "demo-chat",),
    "humaneval": ("-c", "demo",),
    "mbpp": ("-c", "demo", "-k", 0),
    "ppl": ("-c", "demo", "--lengths", "64,128", "--configs", "none,ntk"),
    "ppl needle": ("-c", "demo-chat", "--needle", "--lengths", 300, "--depths", "0,50"),
    "plugin": ("-c", "demo-chat",),
    "code_interpreter": ("-c", "demo-chat",),
}  # fmt: skip
SHORT = ("--max-new-tokens", 8)


@pytest.fixture(scope="module")
def folders(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    """Every script on two of the demo's own samples."""
    import importlib
    import sys

    from qwen_eval.errors import run_script

    found = {}
    for name, flags in RUNS.items():
        benchmark, out = name.split()[0], tmp_path_factory.mktemp(name.replace(" ", "-"))
        more = () if name == "ppl" else SHORT
        with pytest.MonkeyPatch.context() as patch:
            argv = [f"evaluate_{benchmark}.py", *map(str, (*flags, *more, "-o", out))]
            patch.setattr(sys, "argv", argv if name == "ppl needle" else [*argv, *map(str, FEW)])
            with pytest.raises(SystemExit) as ended:
                run_script(importlib.import_module(f"evaluate_{benchmark}").main)
        assert not ended.value.code, name
        found[name] = out
    return found


def test_every_line_has_every_field_with_its_type(folders: dict[str, Path]) -> None:
    for name, folder in folders.items():
        for line in samples(folder):
            assert list(line) == list(FIELDS), name
            assert {field: type(value) for field, value in line.items()} == {f: type(v) for f, v in FIELDS.items()}
            assert line["choice_logits"] and {type(one) for one in line["choice_logits"]} == {float}
            assert isinstance(json.loads(line["details"]), dict) and line["prompt"]
            chosen = name in ("mmlu", "ceval")
            assert (len(line["choice_logits"]) == 4) == chosen and (not chosen or line["response"] == "")


def test_folders_of_all_benchmarks_load_together_with_datasets(folders: dict[str, Path], tmp_path: Path) -> None:
    import datasets

    files = [str(folder / "samples.jsonl") for folder in folders.values()]
    lines = sum(len(samples(folder)) for folder in folders.values())
    for order in (files, files[::-1], files[3:] + files[:3]):
        table = datasets.load_dataset("json", data_files=order, split="train", cache_dir=str(tmp_path / "cache"))
        assert len(table) == lines
        kinds = {name: feature.dtype for name, feature in table.features.items() if name != "choice_logits"}
        wanted = {str: "string", int: "int64", bool: "bool"}
        assert kinds == {name: wanted[type(value)] for name, value in FIELDS.items() if name != "choice_logits"}
        assert table.features["choice_logits"].feature.dtype == "float64"
        assert None not in table["prediction"]


def test_folders_of_all_benchmarks_load_together_with_pandas(folders: dict[str, Path]) -> None:
    import pandas

    tables = [pandas.read_json(folder / "samples.jsonl", lines=True, dtype=False) for folder in folders.values()]
    table = pandas.concat(tables, ignore_index=True)
    assert not table.isna().any().any() and len({tuple(one.columns) for one in tables}) == 1
    assert table["correct"].dtype == bool and table["new_tokens"].dtype.kind == "i"
    assert all(isinstance(text, str) for text in table["prediction"])


@pytest.mark.parametrize("name", ["mmlu", "gsm8k", "gsm8k chat", "humaneval", "math", "plugin", "vcsum"])
def test_a_runs_own_samples_scored_again_give_its_figures(
    folders: dict[str, Path], script, tmp_path: Path, name
) -> None:
    flags = ["--rescore", folders[name] / "samples.jsonl", *RUNS[name], "-o", tmp_path]
    assert script(name.split()[0], *flags).status == 0
    ran, again = (json.loads((f / "results.json").read_text())["scores"] for f in (folders[name], tmp_path))
    assert {key: score["value"] for key, score in again.items()} == {key: score["value"] for key, score in ran.items()}


@pytest.mark.parametrize(
    ("fields", "named"),
    [
        ({"correct": "false"}, "'correct' is 'false', not true or false"),
        ({"correct": None}, "'correct' is None"),
        ({"correct": True, "response": 3}, "'response' is 3, not a text"),
        ({"correct": True, "new_tokens": 1.5}, "'new_tokens' is 1.5, not a whole number"),
        ({"correct": True, "sample": True}, "'sample' is True"),
        ({"correct": True, "cut": 1}, "'cut' is 1, not true or false"),
        ({}, "has no 'correct'"),
    ],
)
def test_a_field_of_another_type_is_never_written(tmp_path: Path, fields: dict[str, Any], named: str) -> None:
    journal = Journal(tmp_path, "r")
    with pytest.raises(TypeError, match=named):
        journal.append(Item("s/0", "s", "p"), fields)
    assert (tmp_path / "samples.jsonl").read_bytes() == b""
    journal.close()


@pytest.mark.parametrize(
    ("damage", "named"),
    [({"correct": "false"}, "'correct'"), ({"sample": "1"}, "'sample'"), ({"details": "[]"}, "'details'")],
)
def test_a_field_of_another_type_is_never_read(tmp_path: Path, damage: dict[str, Any], named: str) -> None:
    journal = Journal(tmp_path, "r")
    journal.append(Item("s/0", "s", "p"), {"correct": True})
    journal.close()
    (line,) = samples(tmp_path)
    (tmp_path / "samples.jsonl").write_text(json.dumps(line | damage) + "\n")
    with pytest.raises(UserError, match=f"line 1 is damaged .*{named}"):
        Journal(tmp_path, "r")


@pytest.mark.parametrize(
    ("value", "text"),
    [
        ("18", "18"),
        (18, "18"),
        (18.0, "18"),
        (0.5, "0.5"),
        (1e300, "1e+300"),
        (["a", "ü"], '["a", "ü"]'),
        (True, "true"),
    ],
)
def test_what_was_read_is_a_text(value: Any, text: str) -> None:
    assert as_text(value) == text


def test_details_come_back_as_they_were(tmp_path: Path) -> None:
    cells = [{"code": "print('\u2028 ü')", "error": None}]
    journal = Journal(tmp_path, "r")
    written = journal.append(Item("s/0", "s", "p"), {"correct": True, "cells": cells, "level": "5"})
    journal.close()
    again = Journal(tmp_path, "r")
    assert again.records[("s/0", 0)] == written and written["cells"] == cells and written["level"] == "5"
    again.close()
