"""The needle in a haystack: prompts of the length asked for, the needle at its depth, the number in the reply."""

import json
import shutil
from pathlib import Path
from typing import Any

import qwen_eval.benchmarks.long_context.needle as needle
from qwen_eval.benchmarks.long_context.documents import Tokens, choose_documents
from qwen_eval.benchmarks.long_context.needle import CHINESE, ENGLISH, Cell, found, hide, language, question
from qwen_eval.engines.local import engine as local
from qwen_eval.engines.local import memory
from qwen_eval.engines.local.prompts import Encoder
from qwen_eval.reporting import plots
from qwen_model.loading import load_tokenizer

import pytest

ENGLISH_TEXT = "".join(f"The {i}th town has {i % 7} bridges, and a mill. " for i in range(900))
CHINESE_TEXT = "".join(f"第{i}座小镇有{i % 7}座桥，还有一座磨坊。" for i in range(900))


@pytest.fixture(scope="module")
def chat(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A random chat model trained on 256 tokens."""
    import build_checkpoint

    folder = build_checkpoint.build(tmp_path_factory.mktemp("m") / "chat", chat=True, hidden=32, layers=2)
    config = json.loads((folder / "config.json").read_text())
    (folder / "config.json").write_text(json.dumps({**config, "seq_length": 256}))
    return folder


@pytest.fixture(scope="module")
def texts(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("texts")
    (folder / "a.txt").write_text(ENGLISH_TEXT, encoding="utf-8")
    (folder / "b.txt").write_text(CHINESE_TEXT, encoding="utf-8")
    return folder


@pytest.fixture
def ask(script, chat: Path, texts: Path, tmp_path: Path):
    """ask(*flags): a quick grid of 2 x 2 with these flags on top."""
    common = ("-c", chat, "-d", texts, "--needle", "--lengths", "300,600", "--depths", "0,50", "--max-new-tokens", 8)
    return lambda *flags: script("ppl", *common, "-o", tmp_path / "out", *flags)


def samples(folder: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for line in (folder / "samples.jsonl").read_text(encoding="utf-8").splitlines()]


def results(folder: Path) -> dict[str, Any]:
    return json.loads((folder / "results.json").read_text(encoding="utf-8"))


def refused(ended, *words: str) -> None:
    assert ended.status == 2, ended
    assert ended.err.count("\n") == 1, ended.err
    assert "; --debug shows where" not in ended.err, f"not foreseen: {ended.err}"
    assert all(word in ended.err for word in words), ended.err


# -- prompts ---------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", ["a.txt", "b.txt"])
def test_a_prompt_has_the_length_asked_for_and_the_needle_at_its_depth(chat: Path, texts: Path, name: str) -> None:
    encoder = Encoder(load_tokenizer(chat))
    documents = [document for document in choose_documents(chat, str(texts)).drawn if document.name == name]
    told = {"a.txt": ENGLISH, "b.txt": CHINESE}[name]
    for length in (300, 700, 2000):
        for depth in (0.0, 25.0, 50.0, 100.0):
            item = question(documents, encoder, Cell(length, depth), 0, seed=1)
            tokens = len(encoder.chat([item.prompt])[0])
            assert length - 40 < tokens <= length
            assert item.prompt.count(item.gold) == 1, "the number stands in the needle alone"
            begin, end = (part.strip() for part in told.frame.split("{text}"))
            before = item.prompt.index(item.gold) - len(begin)
            text = len(item.prompt) - len(begin) - len(end) - len(told.question)
            assert before / text == pytest.approx(depth / 100, abs=0.15 if length == 300 else 0.08)
            place = next(place for place in told.places if place in item.prompt)
            assert told.needle.format(place=place, code=item.gold).strip() in item.prompt
            assert item.prompt.endswith(told.question.format(place=place))
            assert item.id == f"seq_{length}/depth_{depth:g}/0" and item.subject == f"seq_{length}"


def test_the_needle_stands_between_sentences() -> None:
    text = "One. Two and three. Four!"
    assert hide(text, "<N>", 50, ENGLISH.end) == "One. <N>Two and three. Four!"
    assert hide(text, "<N>", 0, ENGLISH.end) == "<N>" + text
    assert hide(text, "<N>", 100, ENGLISH.end) == text + "<N>"
    assert hide("甲。乙和丙。丁！", "<N>", 50, CHINESE.end) == "甲。<N>乙和丙。丁！"
    assert hide("without an end", "<N>", 50, ENGLISH.end) == "without<N> an end"


def test_the_language_is_that_of_the_text() -> None:
    assert language(ENGLISH_TEXT) is ENGLISH and language(CHINESE_TEXT) is CHINESE
    assert language("Qwen-7B 是一个语言模型，支持长文本。") is CHINESE
    assert language("The word 通义 means Qwen, the language model of the report.") is ENGLISH


def test_questions_depend_on_the_seed_and_the_cell_alone(chat: Path, texts: Path) -> None:
    encoder, documents = Encoder(load_tokenizer(chat)), choose_documents(chat, str(texts)).drawn

    def made(length: int = 400, depth: float = 50, number: int = 0, seed: int = 1) -> Any:
        return question(documents, encoder, Cell(length, depth), number, seed)

    assert made() == made()
    codes = {made().gold, made(length=500).gold, made(depth=60).gold, made(number=1).gold, made(seed=2).gold}
    assert len(codes) == 5
    heads = {made(depth=depth).prompt[:100] for depth in (20, 50, 100)}
    assert len(heads) == 1, "the text is the same at every depth: its beginning is run once"


def test_documents_follow_one_another_until_the_length_is_reached() -> None:
    import numpy as np

    class Letters:
        def plain(self, prompts: list[str]) -> list[Any]:
            return [np.array([0], dtype=np.int32) for _ in prompts]

    documents = [Tokens(str(i), "", np.full(5, i, dtype=np.int32)) for i in (1, 2, 3)]
    assert needle.haystack(documents, Letters(), 13).tolist() == [1, 1, 1, 1, 1, 0, 2, 2, 2, 2, 2, 0, 3]  # type: ignore[arg-type]


# -- replies ---------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("reply", "right"),
    [
        ("4829153", True),
        ("The code is 4829153.", True),
        ("门禁码是4829153。", True),
        ("4,829,153", True),
        ("4 829 153", True),
        ("**4829153**", True),
        ("14829153", False),
        ("48291530", False),
        ("4829154", False),
        ("I do not know.", False),
        ("", False),
    ],
)
def test_the_number_in_the_reply(reply: str, right: bool) -> None:
    assert found(reply, "4829153") is right


# -- the script ------------------------------------------------------------------------------------


def test_a_model_that_finds_some(ask, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """With replies that hold the number at depth 50 only: the grid, the breakdowns, the lines, the heat map."""
    real = local.LocalEngine.generate

    def knows(self, requests):
        for index, reply in real(self, requests):
            text = self.tokenizer.decode(requests[index].tokens.tolist())
            numbers = [word for word in needle.re.findall(r"\d{7}", text)]
            at = text.index(numbers[0]) / len(text)
            yield index, reply._replace(text=f"It is {numbers[0]}." if at > 0.45 else "no idea")

    monkeypatch.setattr(local.LocalEngine, "generate", knows)
    drawn: list[Any] = []
    monkeypatch.setattr(plots, "heat_map", lambda *given: drawn.append(given))
    ended = ask("--needles", 2)
    assert ended.status == 0, ended.err
    out = tmp_path / "out"
    assert len(samples(out)) == 8
    for row in samples(out):
        assert row["correct"] is ("depth_50" in row["id"])
        assert row["prediction"] == (row["gold"] if row["correct"] else "")
        assert row["finish"] in ("stop", "length")
    assert (out / "grid.csv").read_text() == ",300,600\n0 %,0,0\n50 %,100,100\n"
    assert results(out)["scores"]["acc"]["value"] == 50
    assert drawn[0][1:4] == ([[0.0, 0.0], [100.0, 100.0]], ["300", "600"], ["0", "50"])
    assert "depth_50,100.0" in (out / "table.csv").read_text()


def test_a_run_goes_on_and_draws_the_heat_map(ask, tmp_path: Path) -> None:
    from PIL import Image

    assert ask().status == 0
    out = tmp_path / "out"
    whole = (out / "samples.jsonl").read_bytes()
    assert {"plot.png", "plot.svg", "grid.csv", "table.csv"} <= {path.name for path in out.iterdir()}
    assert Image.open(out / "plot.png").mode == "RGBA"
    pages = [(out / name).read_bytes() for name in ("table.md", "grid.csv", "plot.svg")]
    lines = whole.splitlines(keepends=True)
    (out / "samples.jsonl").write_bytes(b"".join(lines[:2]) + lines[2][:20])
    assert ask().status == 0
    assert sorted((out / "samples.jsonl").read_bytes().splitlines()) == sorted(whole.splitlines())
    assert pages == [(out / name).read_bytes() for name in ("table.md", "grid.csv", "plot.svg")]


def test_the_switches_and_limit_work_here_too(ask, tmp_path: Path) -> None:
    ended = ask("--window-attn", "64", "--use-logn-attn", "off", "--limit", 1)
    assert ended.status == 0, ended.err
    assert results(tmp_path / "out")["manifest"]["settings"]["long_context"]["window_attn"] == [64, 64]
    assert (tmp_path / "out" / "grid.csv").read_text() == ",300,600\n0 %,0,0\n50 %,-,-\n"


@pytest.mark.parametrize(
    ("flags", "said"),
    [
        (("--base",), "asks in a chat turn: leave out --base, or ask a base checkpoint with --chat"),
        (("--depths", "0,101"), "--depths: '0,101' is not a list of depths in percent"),
        (("--depths", "x"), "'x' is not a list of depths"),
        (("--lengths", "60"), "leaves no room for a text"),
        (("--lengths", "300,900000"), "tokens in all, fewer than the length 900,000"),
        (("--needles", "0"), "--needles: '0' is not"),
    ],
)
def test_wrong_use(ask, flags: tuple[str, ...], said: str) -> None:
    refused(ask(*flags), said)


def test_a_length_that_memory_does_not_allow(ask, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(memory, "free_bytes", lambda device: 800_000_000)
    refused(ask("--lengths", "300,9000000"), "9,000,000 tokens need about", "--lengths up to 300 fit")


def test_a_broken_document_is_named(ask, texts: Path, tmp_path: Path) -> None:
    folder = shutil.copytree(texts, tmp_path / "texts")
    (folder / "c.txt").write_bytes(b"\xfe\xff")
    refused(ask("-d", folder), "c.txt is not UTF-8: byte 0 is 0xfe")
