"""samples.jsonl says what was asked: the prompt of every line is what the model saw."""

import json
from pathlib import Path
from typing import Any

import evaluate_mmlu
import pytest

from harness import choices
from harness.engine.openai import OpenAIEngine
from harness.journal import prompt_sha256

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
    (begun,) = engine.encode(["Who?"], begun=["Let me"])
    assert engine.prompt_text(begun) == "user: Who?\nassistant: Let me"


@pytest.mark.parametrize("chat", [True, False])
def test_other_models_prompts_are_those_of_their_own_template(chat: bool) -> None:
    from tokenizers import Tokenizer, models, pre_tokenizers
    from transformers import PreTrainedTokenizerFast

    from harness.engine.prompts import Encoder

    words = {word: number for number, word in enumerate(["<s>", "<u>", "</u>", "who", "is", "it"])}
    raw = Tokenizer(models.WordLevel(words, unk_token="it"))
    raw.pre_tokenizer = pre_tokenizers.Whitespace()
    special = {"bos_token": "<s>", "additional_special_tokens": ["<u>", "</u>"]}
    tokenizer = PreTrainedTokenizerFast(tokenizer_object=raw, **special)
    tokenizer.chat_template = "<s><u>{{ messages[0]['content'] }}</u>"
    encoder = Encoder(tokenizer)
    (ids,) = encoder.chat(["who is it"]) if chat else encoder.plain(["who is it"])
    assert encoder.text(ids) == ("<s> <u> who is it </u>" if chat else "who is it")
