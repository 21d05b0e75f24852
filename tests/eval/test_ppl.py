"""Perplexity by length: the figures are those of plain forwards, each text is read no more often than it has to be,
runs go on after a kill, and whatever is wrong with a document is one line before the work starts."""

import csv
import json
import math
import os
import shutil
import signal
import subprocess
import sys
import time
from collections import Counter
from pathlib import Path
from typing import Any

import evaluate_ppl
import numpy as np
import pytest
import torch
from ppl_configs import CARDS, configurations, parse_configs, passes, window_note

from harness import documents as documents_module
from harness.engine import local, memory
from harness.engine.prompts import Encoder
from harness.reported import ModelName, find
from qwen_model.loading import load_config, load_model, load_tokenizer
from qwen_model.long_context import LongContext

ROOT = Path(__file__).resolve().parents[2]
TRAINED = 64
LENGTHS = [64, 128, 200, 256]
NAMES = ["none", "dynamic_ntk", "dynamic_ntk + logn", "dynamic_ntk + logn + window_attn"]


def trained_at(folder: Path, length: int) -> Path:
    config = json.loads((folder / "config.json").read_text())
    (folder / "config.json").write_text(json.dumps({**config, "seq_length": length}))
    return folder


@pytest.fixture(scope="module")
def small(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A random Qwen of six layers, said to be trained on 64 tokens: its lower four layers get windows of 64."""
    import build_checkpoint

    return trained_at(build_checkpoint.build(tmp_path_factory.mktemp("m") / "small", hidden=64, layers=6), TRAINED)


@pytest.fixture(scope="module")
def texts(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Five documents in a folder, two of them too short for 256 tokens."""
    folder = tmp_path_factory.mktemp("texts")
    for number, words in enumerate([400, 500, 60, 450, 150]):
        text = " ".join(f"town {i * (number + 3) % 97} lies by the river;" for i in range(words // 6))
        (folder / f"{number}.txt").write_text(text, encoding="utf-8")
    return folder


def samples(folder: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for line in (folder / "samples.jsonl").read_text(encoding="utf-8").splitlines()]


def results(folder: Path) -> dict[str, Any]:
    return json.loads((folder / "results.json").read_text(encoding="utf-8"))


def figures(folder: Path) -> dict[str, float]:
    return {name: score["value"] for name, score in results(folder)["scores"].items()}


def refused(ended, *words: str) -> None:
    assert ended.status == 2, ended
    assert ended.err.count("\n") == 1, ended.err
    assert "; --debug shows where" not in ended.err, f"not foreseen: {ended.err}"
    for word in words:
        assert word in ended.err, ended.err


def flag(lengths: list[int]) -> str:
    return ",".join(map(str, lengths))


# -- the figures -----------------------------------------------------------------------------------


def test_real_texts_in_all_four_configurations(script, small: Path, shared: Path, tmp_path: Path) -> None:
    """The arXiv texts, at 1x to 4x the training length, against one plain forward a document and length."""
    source = shared / "data" / "longtext"
    ended = script("ppl", "-c", small, "-d", source, "--lengths", flag(LENGTHS), "--limit", 3, "-o", tmp_path)
    assert ended.status == 0, ended.err
    found = figures(tmp_path)
    assert list(found) == [f"{name}/seq_{length}" for name in NAMES for length in LENGTHS]

    model, encoder = load_model(small, dtype=torch.float32), Encoder(load_tokenizer(small))
    windows = (64, 64, 64, 64, 128, 128)
    ways = [
        LongContext(False, False),
        LongContext(True, False),
        LongContext(True, True),
        LongContext(True, True, windows),
    ]
    index = [json.loads(line)["file"] for line in (source / "index.jsonl").read_text().splitlines()]
    tokens = encoder.plain([(source / name).read_text(encoding="utf-8") for name in index[:3]])
    with torch.inference_mode():
        for name, way in zip(NAMES, ways, strict=True):
            for length in LENGTHS:
                means = []
                for ids in tokens:
                    window = torch.as_tensor(ids[:length].astype(np.int64))[None]
                    logits = model(window, use_cache=False, long_context=way).logits[0, :-1].double()
                    means.append(torch.nn.functional.cross_entropy(logits, window[0, 1:]).item())
                assert math.log(found[f"{name}/seq_{length}"]) == pytest.approx(np.mean(means), abs=1e-4)
    assert len({round(found[f"{name}/seq_256"]) for name in NAMES}) == 4, "the switches do something beyond S"
    assert len({round(found[f"{name}/seq_64"], 2) for name in NAMES}) == 1, "and nothing up to S"
    assert results(tmp_path)["documents"]["read"] == index[:3]


def test_the_output_folder(script, small: Path, texts: Path, tmp_path: Path) -> None:
    ended = script("ppl", "-c", small, "-d", texts, "--lengths", "64,256", "-o", tmp_path)
    assert ended.status == 0, ended.err
    names = "samples.jsonl results.json table.md table.csv grid.csv plot.png plot.svg".split()
    assert sorted(path.name for path in tmp_path.iterdir()) == sorted(names)
    for row in samples(tmp_path):
        name, document, length = row["id"].split("/")
        assert (row["subject"], document in ("0.txt", "1.txt", "3.txt")) == (name, True)
        assert row["nll"][length]["tokens"] == int(length) - 1
        assert row["prediction"][length] == pytest.approx(math.exp(row["nll"][length]["mean"]))
        assert row["gold"] is None
        worst = max(part["mean"] for part in row["nll"].values())
        assert row["correct"] is (worst < math.log(load_config(small).vocab_size)), "better than an even guess"
    with open(tmp_path / "grid.csv", newline="") as lines:
        table = list(csv.reader(lines))
    assert table[0] == ["", "64", "256"]
    assert [row[0] for row in table[1:]] == ["small", *(f"+ {name}" for name in NAMES[1:])]
    score = results(tmp_path)["scores"]["none/seq_64"]
    assert float(table[1][1]) == pytest.approx(score["value"], abs=0.01)
    assert score["n"] == 3 and score["ci95"][0] <= score["value"] <= score["ci95"][1]
    page = (tmp_path / "table.md").read_text()
    assert page.index("| small |") < page.index("## each figure"), "the table of the cards comes first"
    assert "window_attn: 64 in layers 0-3, 128 in layers 4-5" in page


def test_a_document_is_read_once_where_the_configuration_allows_it(script, small, texts, tmp_path, monkeypatch) -> None:
    given: list[tuple[int, Any]] = []
    real = local.LocalEngine.score

    def counted(self, requests, progress=None):
        given.extend((len(request.tokens), request.long_context) for request in requests)
        return real(self, requests, progress)

    monkeypatch.setattr(local.LocalEngine, "score", counted)
    assert script("ppl", "-c", small, "-d", texts, "--lengths", flag(LENGTHS), "-o", tmp_path).status == 0
    by_way: dict[Any, list[int]] = {}
    for length, way in given:
        by_way.setdefault(way, []).append(length)
    plain, ntk, logn, windows = by_way.values()
    assert plain == [256] * 3, "without NTK one pass serves all lengths"
    assert ntk == logn == [64, 128, 256] * 3, "with it 200 and 256 share theirs (factor 7)"
    assert windows == [64, 256] * 3, "a layer's factor stops at its window: 128, 200 and 256 share theirs"
    given.clear()
    assert script("ppl", "-c", small, "-d", texts, "--lengths", flag(LENGTHS), "-o", tmp_path).status == 0
    assert not given, "a finished run needs no model"


@pytest.mark.parametrize(("length", "total", "stride"), [(8, 30, 3), (8, 30, 8), (8, 8, 4), (8, 9, 1), (5, 23, 5)])
def test_windows_that_move_on_count_every_token_once(length: int, total: int, stride: int) -> None:
    counted = []
    for start, first in evaluate_ppl.windows_of(length, total, stride):
        assert start >= 0 and start + length <= total, "every window is whole"
        counted += range(start + first, start + length)
    assert counted == list(range(1, total))
    assert list(evaluate_ppl.windows_of(length, length, None)) == [(0, 1)]


def test_stride_gives_the_figure_of_separate_windows(script, small: Path, texts: Path, tmp_path: Path) -> None:
    flags = ("--lengths", "128", "--configs", "ntk+logn", "--stride", "100", "--limit", "1", "-o", tmp_path)
    assert script("ppl", "-c", small, "-d", texts, *flags).status == 0
    model, encoder = load_model(small, dtype=torch.float32), Encoder(load_tokenizer(small))
    (tokens,) = encoder.plain([(texts / "0.txt").read_text()])
    total, done, nll = len(tokens), 1, []
    starts = [*range(0, total - 128, 100), total - 128]
    with torch.inference_mode():
        for start in starts:
            window = torch.as_tensor(tokens[start : start + 128].astype(np.int64))[None]
            logits = model(window, long_context=LongContext(True, True)).logits[0, :-1].double()
            losses = torch.nn.functional.cross_entropy(logits, window[0, 1:], reduction="none")
            nll += losses[done - start - 1 :].tolist()
            done = start + 128
    assert len(nll) == total - 1
    assert math.log(figures(tmp_path)["dynamic_ntk + logn/seq_128"]) == pytest.approx(np.mean(nll), abs=1e-4)


def test_the_interval_is_over_documents() -> None:
    records = [{"subject": "none", "nll": {"8": {"mean": mean, "tokens": 7}}} for mean in (1.0, 2.0, 3.0)]
    score = evaluate_ppl.scores(records, ["none"], [8])["none/seq_8"]
    assert score.value == pytest.approx(math.exp(2)) and score.n == 3
    assert score.ci95 is not None and math.e <= score.ci95.low < score.value < score.ci95.high <= math.exp(3) + 1e-9
    assert evaluate_ppl.scores(records[:1], ["none"], [8])["none/seq_8"].ci95 is None, "one document has no interval"
    assert evaluate_ppl.perplexity([(1.0, 10), (2.0, 30)]) == pytest.approx(math.exp(1.75)), (
        "every token counts the same"
    )
    assert json.dumps(evaluate_ppl.perplexity([(1e9, 1)])) != "Infinity"


# -- beside the reported figures -------------------------------------------------------------------


def test_each_configuration_stands_beside_its_own_reported_figure(script, texts, tmp_path: Path) -> None:
    """Qwen-7B trained on 2,048 tokens is v1.0, whose card has all four rows."""
    import build_checkpoint

    folder = build_checkpoint.build(tmp_path / "Qwen-7B", hidden=32, layers=1)
    trained_at(folder, 2048)
    (tmp_path / "long.txt").write_text("town by the river; " * 800)
    ended = script("ppl", "-c", folder, "-d", tmp_path / "long.txt", "--lengths", "64,1024", "-o", tmp_path / "out")
    assert ended.status == 0, ended.err
    scores = results(tmp_path / "out")["scores"]
    for name in NAMES:
        score = scores[f"{name}/seq_1024"]
        assert (score["reported"], score["reported_version"], score["verdict"]) == (4.23, "v1.0", "higher")
        assert scores[f"{name}/seq_64"]["reported"] is None
    page = (tmp_path / "out" / "table.md").read_text()
    assert "|   reported (v1.0) |  | 4.23 |" in page and "|   verdict |  | higher |" in page
    assert "are not published" in page


def test_which_row_of_the_reported_figures() -> None:
    def row(model: str, setting: str, length: int, version: str = "", variant: str = "") -> float | None:
        name = ModelName(model, version, variant)
        found = find(name, "arxiv_ppl", "ppl", None, f"seq_{length}", setting=setting)
        return found and found.value

    assert row("Qwen-7B", "none", 8192) == 3.31, "the newest version"
    assert row("Qwen-7B", "none", 8192, "v1.0") == 469.81
    assert row("Qwen-7B", "dynamic_ntk", 8192, "v1.0") == 3.66
    assert row("Qwen-7B", "dynamic_ntk", 8192) is None, "v1.1 has no such row; v1.0's is of another model"
    assert row("Qwen-7B", NAMES[3], 32768) == 3.17
    assert row("Qwen-14B", NAMES[3], 16384) == 3.42
    assert row("Qwen-7B", "none", 1000) is None
    assert row("Qwen-7B", "none", 8192, variant="Int4") is None


def test_the_demos_figures_have_the_same_columns(tmp_path: Path) -> None:
    path = tmp_path / "reported_numbers.csv"
    path.write_text(
        "table,source,model,version,variant,benchmark,split,shots,metric,unit,value\n"
        "long_context_ppl,demo-card,Qwen-demo,,none,arxiv_ppl,seq_512,,ppl,ppl,5.43\n"
        "long_context_ppl,demo-card,Qwen-demo,,dynamic_ntk,arxiv_ppl,seq_512,,ppl,ppl,5.40\n"
    )
    score = evaluate_ppl.scores([], ["dynamic_ntk"], [512])["dynamic_ntk/seq_512"]
    given = (score.benchmark, score.metric, None, score.split)
    found = find(ModelName("Qwen-demo"), *given, path=path, setting=score.setting)  # type: ignore[arg-type]
    assert found is not None and (found.value, found.decimals, found.source) == (5.40, 2, "demo-card")


def test_the_plot_is_legible_on_white_and_on_a_dark_page(script, small: Path, texts: Path, tmp_path: Path) -> None:
    from PIL import Image

    from harness import plots

    assert script("ppl", "-c", small, "-d", texts, "--lengths", "64,256", "-o", tmp_path).status == 0
    picture = Image.open(tmp_path / "plot.png")
    assert picture.mode == "RGBA" and picture.getpixel((0, 0))[3] == 0, "no background of its own"
    assert picture.width > 800

    def light(colour: str) -> float:  # WCAG 2: relative luminance
        parts = [int(colour[i : i + 2], 16) / 255 for i in (1, 3, 5)]
        r, g, b = (p / 12.92 if p <= 0.04045 else ((p + 0.055) / 1.055) ** 2.4 for p in parts)
        return 0.2126 * r + 0.7152 * g + 0.0722 * b

    for colour, least in [(plots.INK, 4.0), *((style[0], 2.95) for style in plots.STYLES)]:
        for page in ("#ffffff", "#0d1117"):
            high, low = sorted([light(colour), light(page)], reverse=True)
            assert (high + 0.05) / (low + 0.05) >= least, (colour, page)
    assert len({style[1] for style in plots.STYLES}) == len({str(style[2]) for style in plots.STYLES}) == 5


# -- configurations --------------------------------------------------------------------------------


def test_names_of_configurations() -> None:
    assert parse_configs(CARDS) == NAMES
    assert parse_configs("window+ntk, none,none") == ["dynamic_ntk + window_attn", "none"]


def ask(*flags: str) -> Any:
    return evaluate_ppl.flags().parse_args(["-c", "x", *flags])


def test_windows_come_from_the_flag_else_the_maintainers_example(small: Path) -> None:
    config = load_config(small)
    assert configurations(ask(), config)[NAMES[3]] == LongContext(True, True, (64, 64, 64, 64, 128, 128))
    assert configurations(ask("--window-attn", "16,full,16,16,16,16"), config)[NAMES[3]].window_attn[:2] == (16, None)
    config.seq_length = 8192
    assert configurations(ask(), config)[NAMES[3]].window_attn == (2048,) * 4 + (4096,) * 2
    assert list(configurations(ask("--window-attn", "off"), config)) == NAMES[:3]
    assert window_note((2048, 2048, None, 4096)).startswith("window_attn: 2048 in layers 0-1, full in layer 2, 4096 in")


def test_passes_without_per_layer_factors(small: Path) -> None:
    config, windows = load_config(small), (64,) * 6
    assert passes(LENGTHS, LongContext(True, False, windows), config, None) == [LENGTHS]
    assert passes(LENGTHS, LongContext(True, False, windows, ntk_per_layer=False), config, None) == [
        [64],
        [128],
        [200, 256],
    ]
    assert passes(LENGTHS, LongContext(False, True, windows), config, 10) == [[length] for length in LENGTHS]


def test_default_lengths() -> None:
    assert documents_module.default_lengths(512) == [512, 1024, 2048, 4096, 8192]
    assert documents_module.default_lengths(8192) == [1024, 2048, 4096, 8192, 16384, 32768]
    assert documents_module.default_lengths(None)[-1] == 32768


@pytest.fixture(scope="module")
def llama(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A tiny Llama with a byte tokenizer."""
    import transformers
    from tokenizers import Tokenizer, decoders, models, pre_tokenizers

    folder = tmp_path_factory.mktemp("m") / "llama"
    letters = sorted(pre_tokenizers.ByteLevel.alphabet())
    tokenizer = Tokenizer(models.BPE({letter: i for i, letter in enumerate(letters)}, []))
    tokenizer.pre_tokenizer, tokenizer.decoder = pre_tokenizers.ByteLevel(add_prefix_space=False), decoders.ByteLevel()
    transformers.PreTrainedTokenizerFast(tokenizer_object=tokenizer).save_pretrained(folder)
    config = transformers.LlamaConfig(
        vocab_size=256, hidden_size=32, intermediate_size=64, num_hidden_layers=2, num_attention_heads=4
    )
    transformers.LlamaForCausalLM(config).save_pretrained(folder)
    return folder


def test_any_other_model_has_one_row(script, llama: Path, texts: Path, tmp_path: Path) -> None:
    ended = script("ppl", "-c", llama, "-d", texts, "--lengths", "64,200", "-o", tmp_path)
    assert ended.status == 0, ended.err
    assert list(figures(tmp_path)) == ["none/seq_64", "none/seq_200"]
    assert "NTK, LogN and windows are switches of first-generation Qwen; this model is llama" in ended.out
    assert figures(tmp_path)["none/seq_200"] == pytest.approx(256, rel=0.2), "an untrained model guesses"
    refused(script("ppl", "-c", llama, "-d", texts, "--configs", "ntk"), "this model is llama", "leave --configs")


# -- documents -------------------------------------------------------------------------------------


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


@pytest.fixture
def folder(texts: Path, tmp_path: Path) -> Path:
    """A copy to damage."""
    return shutil.copytree(texts, tmp_path / "texts")


def test_a_file_that_is_not_utf_8(script, small: Path, folder: Path) -> None:
    (folder / "latin.txt").write_bytes(b"caf\xe9 " * 100)
    refused(script("ppl", "-c", small, "-d", folder, "--lengths", 64), "latin.txt is not UTF-8: byte 3 is 0xe9")
    (folder / "rows.jsonl").write_bytes(b'{"text": "caf\xe9"}\n')
    refused(script("ppl", "-c", small, "-d", folder / "rows.jsonl", "--lengths", 64), "byte 13 is 0xe9")


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
        (("--lengths", "64", "--stride", "65"), "--stride 65 is longer than the window of 64"),
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


# -- killed and started again ----------------------------------------------------------------------


def test_killed_and_started_again(script, small: Path, texts: Path, tmp_path: Path) -> None:
    flags = ["-c", str(small), "-d", str(texts), "--lengths", flag(LENGTHS)]
    path = tmp_path / "killed" / "samples.jsonl"
    command = [sys.executable, str(ROOT / "eval" / "evaluate_ppl.py"), *flags, "-o", str(tmp_path / "killed")]
    environment = {**os.environ, "OMP_NUM_THREADS": "1"}
    run = subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL, env=environment)
    deadline = time.monotonic() + 120
    while run.poll() is None and time.monotonic() < deadline:
        if path.exists() and path.read_bytes().count(b"\n") >= 4:
            run.send_signal(signal.SIGKILL)
            break
        time.sleep(0.002)
    assert run.wait() == -signal.SIGKILL
    seen = path.read_bytes()
    seen = seen[: seen.rfind(b"\n") + 1]
    with open(path, "ab") as stream:  # and the power went in the middle of a line
        stream.write(b'{"id": "none/0.t')
    for name in ("killed", "undisturbed"):
        assert script("ppl", *flags, "-o", tmp_path / name).status == 0
    assert path.read_bytes().startswith(seen), "what was finished stays as it was"
    assert max(Counter(row["id"] for row in samples(tmp_path / "killed")).values()) == 1, "none twice"
    assert len(samples(tmp_path / "killed")) == 3 * (1 + 3 + 3 + 2)
    for name in ("table.md", "table.csv", "grid.csv", "plot.svg"):
        assert (tmp_path / "killed" / name).read_bytes() == (tmp_path / "undisturbed" / name).read_bytes()
    refused(script("ppl", *flags[:-1], "64,128", "-o", tmp_path / "killed"), "holds a run with another model")
