"""Perplexity by length: the figures are those of plain forwards, each text is read no more often than it has to be,
and a killed run goes on."""

import csv
import json
import math
import os
import signal
import subprocess
import sys
import time
from collections import Counter
from pathlib import Path
from typing import Any

from qwen_eval.engines.local import engine as local
from qwen_eval.engines.local.prompts import Encoder
from qwen_eval.reporting.reported import Figure, ModelName, card_figures, find, read_figures
from qwen_model.loading import load_config, load_model, load_tokenizer
from qwen_model.long_context import LongContext

import evaluate_ppl
import numpy as np
import pytest
import torch

from .runs import LENGTHS, NAMES, figures, flag, refused, results, samples, trained_at

ROOT = Path(__file__).resolve().parents[2]


# -- the figures -----------------------------------------------------------------------------------


def test_real_texts_in_all_four_configurations(script, small: Path, shared: Path, tmp_path: Path) -> None:
    """The arXiv texts, at 1x to 4x the training length, against one plain forward a document and length."""
    source = shared / "data/longtext"
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
        longest = str(max(map(int, row["nll"])))
        assert float(row["prediction"]) == pytest.approx(math.exp(row["nll"][longest]["mean"]))
        assert row["gold"] == ""
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
        assert (score["reported"], score["reported_version"], score["verdict"]) == (4.23, "v1.0", "too few items")
        assert scores[f"{name}/seq_64"]["reported"] is None
    page = (tmp_path / "out" / "table.md").read_text()
    assert "|   reported (v1.0) |  | 4.23 |" in page and "|   verdict |  | too few items |" in page
    assert "are not published" in page


def test_which_row_of_the_reported_figures() -> None:
    def row(model: str, setting: str, length: int, version: str = "", variant: str = "") -> float | None:
        name = ModelName(model, version, variant)
        found = find(card_figures(), name, Figure("arxiv_ppl", "ppl", None, f"seq_{length}", setting))
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
    figure = Figure(str(score.benchmark), score.metric, None, str(score.split), score.setting)
    found = find(read_figures(path), ModelName("Qwen-demo"), figure)
    assert found is not None and (found.value, found.decimals, found.source) == (5.40, 2, "demo-card")


def test_the_plot_is_legible_on_white_and_on_a_dark_page(script, small: Path, texts: Path, tmp_path: Path) -> None:
    from qwen_eval.reporting import plots

    from PIL import Image

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
