"""The documents of a perplexity run: how they are read, and one line before the work starts for whatever is wrong."""

import json
import shutil
from pathlib import Path
from typing import Any

from qwen_eval.benchmarks.long_context import documents as documents_module
from qwen_eval.engines.local import engine as local
from qwen_eval.engines.local import memory
from qwen_model.loading import load_model

import numpy as np
import pytest
import torch

from .runs import NAMES, refused, results, samples


def test_short_documents_are_counted_and_named(script, small: Path, texts: Path, tmp_path: Path) -> None:
    ended = script("ppl", "-c", small, "-d", texts, "--lengths", "64,256", "--configs", "none", "-o", tmp_path)
    line = next(note for note in results(tmp_path)["notes"] if "shorter" in note)
    assert line.startswith("2 of 5 documents are shorter than 256 tokens and left out: 2.txt (")
    assert "4.txt (" in line and "2.txt (" in " ".join(ended.out.split())
    assert results(tmp_path)["scores"]["none/seq_64"]["n"] == 3, "the same documents at every length"
    assert list(results(tmp_path)["documents"]["too_short"]) == ["2.txt", "4.txt"]


def test_ragged_uses_what_there_is_and_says_how_many(script, small: Path, texts: Path, tmp_path: Path) -> None:
    flags = ("--lengths", "64,256", "--configs", "none", "--ragged", "-o", tmp_path)
    assert script("ppl", "-c", small, "-d", texts, *flags).status == 0
    scores = results(tmp_path)["scores"]
    assert (scores["none/seq_64"]["n"], scores["none/seq_256"]["n"]) == (5, 3)
    assert "| documents | 5 | 3 |" in (tmp_path / "table.md").read_text()
    flags = ("--lengths", "64,9000", "--configs", "none", "--ragged", "--overwrite", "-o", tmp_path)
    ended = script("ppl", "-c", small, "-d", texts, *flags)
    assert ended.status == 0, ended.err
    assert "| documents | 5 | 0 |" in (tmp_path / "table.md").read_text()
    assert results(tmp_path)["scores"]["none/seq_9000"]["value"] is None


def test_limit_and_sample_take_documents_not_readings(script, small: Path, texts: Path, tmp_path: Path) -> None:
    for name, flags in {"limit": ("--limit", 2), "sample": ("--sample", 2)}.items():
        common = ("-c", small, "-d", texts, "--lengths", "64,256", "-o", tmp_path / name)
        ended = script("ppl", *common, *flags)
        assert ended.status == 0 and "subset:" in ended.out
        read = {way: {r["id"].split("/")[1] for r in samples(tmp_path / name) if r["subject"] == way} for way in NAMES}
        assert len(read["none"]) == 2 and len(set(map(frozenset, read.values()))) == 1


def test_a_jsonl_file_and_a_single_text(script, small: Path, texts: Path, tmp_path: Path) -> None:
    rows = [{"content" if i else "text": (texts / f"{i}.txt").read_text()} for i in range(2)]
    (tmp_path / "two.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    flags = ("--lengths", "64", "--configs", "none", "--overwrite", "-o", tmp_path / "out")
    assert script("ppl", "-c", small, "-d", tmp_path / "two.jsonl", *flags).status == 0
    assert [row["id"] for row in samples(tmp_path / "out")] == ["none/0/64", "none/1/64"]
    assert script("ppl", "-c", small, "-d", texts / "0.txt", *flags).status == 0
    assert [row["id"] for row in samples(tmp_path / "out")] == ["none/0.txt/64"]


def test_a_hub_data_set_is_read_as_far_as_needed(monkeypatch: pytest.MonkeyPatch, small: Path) -> None:
    import datasets

    asked, taken = [], []

    def rows():
        for number in range(1000):
            taken.append(number)
            yield {"id": number, "body": "word " * (5 if number % 2 else 200)}

    def load(*words: Any, **more: Any) -> Any:
        asked.append((words, more))
        return rows()

    monkeypatch.setattr(datasets, "load_dataset", load)
    monkeypatch.setattr(datasets, "get_dataset_split_names", lambda name, config: ["train", "validation"])
    chosen = documents_module.choose_documents(small, "owner/papers:latex#body", least=100, limit=3)
    assert [document.name for document in chosen.drawn] == ["0", "2", "4"] and list(chosen.short) == ["1", "3"]
    assert len(taken) < 10
    assert asked == [(("owner/papers", "latex"), {"split": "train", "streaming": True})]
    next(documents_module.read_documents("owner/papers::test#body"))
    assert asked[1] == (("owner/papers", None), {"split": "test", "streaming": True})


def test_text_is_taken_as_it_is(tmp_path: Path) -> None:
    (tmp_path / "sub").mkdir()
    (tmp_path / "b.md").write_bytes("\ufeffone\r\ntwo\n".encode())
    (tmp_path / "sub" / "a.tex").write_bytes(b"three")
    (tmp_path / ".hidden").write_bytes(b"\xff")
    (tmp_path / "meta.jsonl").write_text("{}\n")
    found = list(documents_module.read_documents(str(tmp_path)))
    assert found == [("b.md", "one\r\ntwo\n"), ("sub/a.tex", "three")]
    (tmp_path / "index.jsonl").write_text('{"file": "sub/a.tex"}\n')
    assert list(documents_module.read_documents(str(tmp_path))) == [("sub/a.tex", "three")]


# -- what a user can get wrong ---------------------------------------------------------------------


def test_a_file_that_is_not_utf_8(script, small: Path, folder: Path) -> None:
    (folder / "latin.txt").write_bytes(b"caf\xe9 " * 100)
    refused(script("ppl", "-c", small, "-d", folder, "--lengths", 64), "latin.txt is not UTF-8: byte 3 is 0xe9")
    (folder / "rows.jsonl").write_bytes(b'{"text": "caf\xe9"}\n')
    refused(script("ppl", "-c", small, "-d", folder / "rows.jsonl", "--lengths", 64), "byte 13 is 0xe9")


def test_a_pointer_of_git_lfs_is_no_document(script, small: Path, folder: Path) -> None:
    (folder / "paper.txt").write_text("version https://git-lfs.github.com/spec/v1\noid sha256:00\nsize 7\n")
    refused(script("ppl", "-c", small, "-d", folder, "--lengths", 64), "paper.txt is a Git LFS pointer")


@pytest.mark.parametrize("content", ["", " \n\t\n"])
def test_an_empty_file(script, small: Path, folder: Path, content: str) -> None:
    (folder / "nothing.txt").write_text(content)
    refused(script("ppl", "-c", small, "-d", folder, "--lengths", 64), "nothing.txt is empty", "leave it out")


def test_an_empty_folder_and_an_empty_jsonl(script, small: Path, tmp_path: Path) -> None:
    (tmp_path / "none").mkdir()
    refused(script("ppl", "-c", small, "-d", tmp_path / "none", "--lengths", 64), "has no file in it")
    (tmp_path / "none.jsonl").write_text("\n")
    refused(script("ppl", "-c", small, "-d", tmp_path / "none.jsonl", "--lengths", 64), "is empty: no document")


@pytest.mark.parametrize(
    ("row", "said"),
    [
        ('{"body": "x"}', "row 1 has no field 'text' or 'content' (it has: body)"),
        ('{"text": 3}', "row 1: 'text' is no text"),
        ('{"text": ""}', "row 1 is empty"),
        ("[1]", "line 2 is no object"),
        ("{", "line 2 is not JSON"),
    ],
)
def test_a_bad_row(script, small: Path, tmp_path: Path, row: str, said: str) -> None:
    (tmp_path / "rows.jsonl").write_text('{"text": "fine"}\n' + row + "\n")
    refused(script("ppl", "-c", small, "-d", tmp_path / "rows.jsonl", "--lengths", 64), said)


def test_all_documents_too_short(script, small: Path, texts: Path) -> None:
    ended = script("ppl", "-c", small, "-d", texts, "--lengths", "64,9000")
    refused(ended, "none of the 5 documents has 9,000 tokens: the longest, 1.txt, has", "give --lengths up to that")


def test_a_listed_file_that_is_missing_or_listed_twice(script, small: Path, folder: Path) -> None:
    (folder / "index.jsonl").write_text('{"file": "gone.tex"}\n')
    refused(script("ppl", "-c", small, "-d", folder, "--lengths", 64), "gone.tex cannot be read (No such file")
    (folder / "index.jsonl").write_text('{"file": "0.txt"}\n' * 2)
    refused(script("ppl", "-c", small, "-d", folder, "--lengths", 64), "lists '0.txt' twice")


def test_a_length_that_memory_does_not_allow(script, small: Path, texts: Path, tmp_path: Path, monkeypatch) -> None:
    monkeypatch.setattr(memory, "free_bytes", lambda device: 900_000_000)
    ended = script("ppl", "-c", small, "-d", texts, "--lengths", "64,256,1000000", "-o", tmp_path / "out")
    refused(ended, "1,000,000 tokens need about", "0.9 GB are free on cpu", "--lengths up to 256 fit")
    assert not (tmp_path / "out").exists(), "said before anything is touched"
    monkeypatch.setattr(memory, "free_bytes", lambda device: 1000)
    refused(script("ppl", "-c", small, "-d", texts, "--lengths", "64"), "no length fits")


def test_the_estimate_grows_with_the_length_and_shrinks_with_windows(small: Path) -> None:
    short, long = (memory.need(small, "float32", length) for length in (8192, 32768))
    assert short.cache * 3.9 < long.cache < short.cache * 4.1
    assert long.work < short.work + 100e6, "one chunk's work does not grow with the length"
    parameters = sum(p.numel() for p in load_model(small, dtype=torch.float32).parameters())
    assert short.weights == 4 * parameters, "stored in 16 bits, held in 32"
    assert memory.need(small, "bfloat16", 8192).weights == 2 * parameters
    assert memory.need(small, "float32", 32768, (64,) * 6).cache < long.cache / 3


@pytest.mark.parametrize(
    ("family", "settings", "held"),
    [
        ("Llama", {"num_key_value_heads": 2}, 2 * 1000 * 2 * 8 * 2 * 4),
        ("Gemma2", {"num_key_value_heads": 2, "head_dim": 8, "sliding_window": 100}, None),
        ("Mamba", {}, 0),
    ],
)
def test_the_estimate_knows_other_models(
    tmp_path: Path, family: str, settings: dict[str, Any], held: int | None
) -> None:
    import transformers

    common = {"vocab_size": 256, "hidden_size": 32, "num_hidden_layers": 2}
    if family != "Mamba":
        common |= {"num_attention_heads": 4, "intermediate_size": 64}
    getattr(transformers, f"{family}Config")(**common, **settings).save_pretrained(tmp_path)
    cache = memory.need(tmp_path, "float32", 1000).cache
    if held is not None:  # keys and values of both layers, and two layers more while they grow
        assert cache == 2 * held
    else:
        assert memory.need(tmp_path, "float32", 10_000).cache < 10 * cache, "every other layer has a window"


@pytest.mark.parametrize(
    ("flags", "said"),
    [
        (("--lengths", "64,x"), "--lengths: '64,x' is not a list of lengths"),
        (("--lengths", "1"), "of at least 2 tokens"),
        (("--configs", "ntk+magic"), "'magic' is no part of a configuration"),
        (("--configs", "ntk", "--use-dynamic-ntk", "on"), "name them with --configs"),
        (("--lengths", "64", "--stride", "64"), "--stride 64 is not shorter than the window of 64"),
        (("--lengths", "64", "--configs", "window", "--window-attn", "off"), "leaves no layer a window"),
        (("--window-attn", "16,16"), "2 windows for the 6 layers"),
        (("--rescore", "x.jsonl"), "--rescore has no use here"),
        (("--subjects", "none"), "--subjects has no use here"),
        (("-d", "owner"), "no such file or folder: owner (-d takes a folder of text files"),
        (("-d", "/no/where"), "no such file or folder: /no/where"),
    ],
)
def test_flags(script, small: Path, texts: Path, flags: tuple[str, ...], said: str) -> None:
    refused(script("ppl", "-c", small, "-d", texts, *flags), said)


def test_no_documents_given(script, small: Path) -> None:
    refused(script("ppl", "-c", small), "no -d given; it takes a folder of text files, a JSONL file, or a hub data set")


def test_a_checkpoint_without_a_training_length(script, small: Path, texts: Path, tmp_path: Path) -> None:
    broken = shutil.copytree(small, tmp_path / "m")
    config = json.loads((broken / "config.json").read_text())
    del config["seq_length"]
    (broken / "config.json").write_text(json.dumps(config))
    refused(script("ppl", "-c", broken, "-d", texts, "--lengths", 64), "seq_length is missing")


def test_log_likelihoods_that_are_no_numbers(script, small: Path, texts: Path, tmp_path: Path, monkeypatch) -> None:
    def broken(self, requests, progress=None):
        for index, request in enumerate(requests):
            yield index, np.full(len(request.tokens) - 1, np.nan, dtype=np.float32)

    monkeypatch.setattr(local.LocalEngine, "score", broken)
    ended = script("ppl", "-c", small, "-d", texts, "--lengths", 64, "-o", tmp_path)
    assert ended.status == 2 and "0.txt: the model's log-likelihoods are not finite numbers" in ended.err
