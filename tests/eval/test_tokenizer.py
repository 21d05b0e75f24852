"""Compression of a tokenizer: texts per language, any reference, counts that a reader can check by hand."""

import csv
import gzip
import json
import shutil
from pathlib import Path

from qwen_eval.benchmarks.compression import texts
from qwen_eval.benchmarks.compression.measure import ratio_interval
from qwen_eval.benchmarks.compression.tokenizers import Tokenizer
from qwen_eval.places import DEMO
from qwen_eval.reporting import plots

import numpy as np
import pytest
from tokenizers import Regex
from tokenizers import Tokenizer as FastTokenizer
from tokenizers.models import WordLevel
from tokenizers.pre_tokenizers import Split

ENGLISH = ["The mill is old.", "Two bridges.", "A river, a town", "Fish & bread", "No one came", "It rains."]
CHINESE = ["小镇有一座桥。", "磨坊很旧", "下雨了", "鱼和面包", "没有人来"]
KNOWN = "abcdefghijklmnopqrstuvwxyz"


@pytest.fixture
def data(tmp_path: Path) -> Path:
    folder = tmp_path / "texts"
    folder.mkdir()
    (folder / "en.txt").write_text("\n\n".join(ENGLISH) + "\n", encoding="utf-8")
    rows = "".join(json.dumps({"text": text, "url": "x"}) + "\n" for text in CHINESE)
    (folder / "zh.jsonl.gz").write_bytes(gzip.compress(rows.encode()))
    (folder / "README.md").write_text("not a text")
    return folder


@pytest.fixture(scope="module")
def letters(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A tokenizer of transformers with a token for each small letter: a folder with `tokenizer.json` alone."""
    folder = tmp_path_factory.mktemp("t") / "letters"
    folder.mkdir()
    vocabulary = {letter: number for number, letter in enumerate(["<unk>", *KNOWN])}
    tokenizer = FastTokenizer(WordLevel(vocabulary, unk_token="<unk>"))
    tokenizer.pre_tokenizer = Split(Regex("."), "isolated")
    tokenizer.save(str(folder / "tokenizer.json"))
    return folder


@pytest.fixture
def run(script, data: Path, tmp_path: Path):
    return lambda *flags: script("tokenizer", "-c", "demo", "-d", data, "-o", tmp_path / "out", *flags)


def rows(folder: Path) -> dict[tuple[str, str], dict[str, str]]:
    with open(folder / "table.csv", newline="", encoding="utf-8") as lines:
        return {(row["language"], row["tokenizer"]): row for row in csv.DictReader(lines)}


def test_the_counts_are_those_of_the_tokenizers_themselves(run, tmp_path: Path) -> None:
    ended = run("--against", "bytes")
    assert ended.status == 0, ended.err
    found, own = rows(tmp_path / "out"), Tokenizer("demo", "-c")
    for language, documents in (("en", ENGLISH), ("zh", CHINESE), ("all", ENGLISH + CHINESE)):
        row = found[language, "Qwen-demo"]
        tokens = sum(len(one) for one in own.encode(documents))
        size, characters = sum(len(text.encode()) for text in documents), sum(map(len, documents))
        assert (int(row["tokens"]), int(row["bytes"]), int(row["documents"])) == (tokens, size, len(documents))
        assert int(found[language, "bytes"]["tokens"]) == size
        assert float(row["compression"]) == float(row["bytes_per_token"]) == size / tokens
        assert (
            float(row["tokens_per_byte"]) == tokens / size and float(row["tokens_per_character"]) == tokens / characters
        )
        assert int(row["exact_documents"]) == len(documents) and row["unknown_tokens"] == "0"
    low, high = (float(found["en", "Qwen-demo"][name]) for name in ("ci95_low", "ci95_high"))
    assert low < float(found["en", "Qwen-demo"]["compression"]) < high
    assert found["all", "Qwen-demo"]["ci95_low"] == "", "languages are no sample"


def test_what_a_reference_cannot_write_is_counted_and_said(run, letters: Path, tmp_path: Path) -> None:
    ended = run("--against", letters, "--against", "bytes", "--languages", "zh,en", "--limit", "3")
    assert ended.status == 0, ended.err
    found = rows(tmp_path / "out")
    text = "".join(ENGLISH[:3])
    assert int(found["en", "letters"]["tokens"]) == len(text), "a token for each character"
    assert int(found["en", "letters"]["unknown_tokens"]) == sum(letter not in KNOWN for letter in text)
    assert found["zh", "letters"]["unknown_tokens"] == found["zh", "letters"]["tokens"]
    assert found["zh", "letters"]["exact_documents"] == "0" and "letters: " in ended.out
    assert "unknown tokens" in ended.out and "3 of 6 documents" not in ended.out
    assert list(dict.fromkeys(language for language, _ in found)) == ["zh", "en", "all"], "in the order that was asked"
    assert float(found["en", "bytes"]["compression"]) == 1.0, "English in bytes and in letters is the same"
    table = json.loads((tmp_path / "out/table.json").read_text())
    assert table["base"] == "letters" and len(table["figures"]) == 9
    assert set(table["manifest"]["tokenizers_sha256"]) == {"Qwen-demo", "letters", "bytes"}
    assert len(table["manifest"]["data"]["en"]["en.txt"]) == 64


def test_text_is_text_and_what_nfc_changes_is_no_exact_round_trip(script, tmp_path: Path) -> None:
    (tmp_path / "texts").mkdir()
    (tmp_path / "texts/xx.txt").write_text("<|endoftext|>\ncafe\u0301\n", encoding="utf-8")
    ended = script("tokenizer", "-c", "demo", "-d", tmp_path / "texts", "--against", "bytes", "-o", tmp_path / "out")
    assert ended.status == 0, ended.err
    row = rows(tmp_path / "out")["xx", "Qwen-demo"]
    assert int(row["tokens"]) > 5, "the form of a control token is ordinary text"
    assert row["exact_documents"] == "1" and "1 of 2 documents are not the same when decoded" in ended.out
    assert ("all", "Qwen-demo") not in rows(tmp_path / "out"), "of one language there is no sum"


def test_the_tokenizer_alone_is_enough_and_the_demo_brings_texts(script, tmp_path: Path) -> None:
    alone = tmp_path / "mine"
    alone.mkdir()
    shutil.copy(DEMO / "checkpoint/base/qwen.tiktoken", alone)
    (tmp_path / "en.txt").write_bytes(texts.DEMO_FILES["en"].read_bytes())
    assert script("tokenizer", "-c", "demo", "-o", tmp_path / "by-name").status == 0
    ended = script("tokenizer", "-c", alone, "-d", tmp_path, "--against", "bytes", "-o", tmp_path / "by-folder")
    assert ended.status == 0, ended.err
    own, demo = rows(tmp_path / "by-folder")["en", "mine"], rows(tmp_path / "by-name")["en", "Qwen-demo"]
    assert {**own, "tokenizer": ""} == {**demo, "tokenizer": ""}


def test_the_chart_has_a_bar_per_language_and_tokenizer(run, letters: Path, monkeypatch, tmp_path: Path) -> None:
    drawn = {}
    real = plots.bars

    def kept(stem, series, *words):
        drawn.update(series)
        real(stem, series, *words)

    monkeypatch.setattr(plots, "bars", kept)
    assert run("--against", "bytes", "--against", letters).status == 0
    found = rows(tmp_path / "out")
    assert {name: list(bars) for name, bars in drawn.items()} == {"Qwen-demo": ["en", "zh"], "letters": ["en", "zh"]}
    assert drawn["letters"]["zh"] == float(found["zh", "letters"]["compression"])
    for form in ("png", "svg"):
        assert (tmp_path / f"out/plot.{form}").stat().st_size > 5000


def test_without_data_the_files_are_those_of_mc4(monkeypatch, tmp_path: Path) -> None:
    asked = []

    def fetched(hub, given):
        asked.append(hub)
        (tmp_path / Path(hub.file).name).write_bytes(gzip.compress(b'{"text": "a"}\n'))
        return tmp_path / Path(hub.file).name

    monkeypatch.setattr("qwen_eval.data.sources._from_hub", fetched)
    files = texts.language_files(None, ("he", "en"))
    assert [hub.repo for hub in asked] == ["allenai/c4"] * 2
    assert asked[0].file == "multilingual/c4-iw-validation.tfrecord-00000-of-00001.json.gz"
    assert asked[1].file == "multilingual/c4-en-validation.tfrecord-00000-of-00128.json.gz"
    assert {language: list(texts.documents(paths)) for language, paths in files.items()} == {"he": ["a"], "en": ["a"]}
    assert texts.language_files(str(tmp_path), ()) == {one: files[one] for one in ("en", "he")}, "known by their names"


def test_the_interval_is_that_of_a_bootstrap() -> None:
    drawn = np.random.default_rng(0)
    own = drawn.integers(50, 500, 400)
    base = (own * drawn.normal(1.3, 0.2, 400)).astype(int)
    picks = drawn.integers(0, 400, (2000, 400))
    wanted = np.quantile(base[picks].sum(1) / own[picks].sum(1), [0.025, 0.975])
    assert ratio_interval(base.tolist(), own.tolist()) == pytest.approx(wanted, abs=0.004)
    assert ratio_interval([3, 4, 5, 6], [1, 2, 3, 4]) is None


@pytest.mark.parametrize(
    ("flags", "said"),
    [
        (("--languages", "en,fi"), "has no text in 'fi' (--languages); there are en, zh"),
        (("--languages", ","), "names no language"),
        (("--against", "demo-chat"), "--against demo-chat is the same tokenizer as Qwen-demo"),
        (("--against", "bytes", "--against", "bytes"), "--against bytes is the same tokenizer as bytes"),
        (("--against", "no/such-tokenizer"), "--against no/such-tokenizer: no such folder, and not to be had"),
        (("--against", "nowhere"), "--against nowhere: no such folder"),
        (("--limit", "0"), "'0' is not a whole number of at least 1"),
        (("-d", "nowhere"), "no such file or folder: nowhere"),
        (("-c", "nowhere"), "-c nowhere: no such folder"),
    ],
)
def test_wrong_use_is_one_line(run, monkeypatch, tmp_path: Path, flags, said) -> None:
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_OFFLINE", True)
    flags = flags if "--against" in flags else ("--against", "bytes", *flags)
    refused(run(*flags), said)
    assert not (tmp_path / "out").exists()


def refused(ended, said: str) -> None:
    assert ended.status == 2 and said in ended.err, ended
    assert len(ended.err.strip().splitlines()) == 1 and "--debug shows where" not in ended.err


@pytest.mark.parametrize(
    ("name", "content", "said"),
    [
        ("fr.txt", b"", "fr.txt has no text in it"),
        ("fr.txt", b"  \n\n", "fr.txt has no text in it"),
        ("fr.txt", "é".encode("latin-1"), "fr.txt is not UTF-8 (line 1: byte 0xe9)"),
        ("fr.jsonl", b'{"text": "a"}\n{"body": "b"}\n', "fr.jsonl line 2 has no 'text'"),
        ("fr.jsonl", b'{"text": 3}\n', "fr.jsonl line 1: 'text' is 3, not a text"),
        ("fr.txt.gz", b"\x1f\x8b", "fr.txt.gz is not a readable gzip file"),
    ],
)
def test_a_file_that_cannot_be_read_is_named_before_any_work(run, data, tmp_path, name, content, said) -> None:
    (data / name).write_bytes(content)
    refused(run("--against", "bytes"), said)
    assert not (tmp_path / "out").exists()


def test_a_reference_that_cannot_be_fetched_is_one_line(script, data: Path, monkeypatch, tmp_path: Path) -> None:
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_OFFLINE", True)
    shutil.copytree(DEMO / "checkpoint/base", tmp_path / "mine")
    ended = script("tokenizer", "-c", tmp_path / "mine", "-d", data, "-o", tmp_path / "out")
    refused(ended, "--against FacebookAI/xlm-roberta-base: no such folder, and not to be had from the hub")


def test_a_folder_without_texts_is_named(script, tmp_path: Path) -> None:
    (tmp_path / "empty").mkdir()
    refused(script("tokenizer", "-c", "demo", "-d", tmp_path / "empty"), "has no '*.txt' in it")
