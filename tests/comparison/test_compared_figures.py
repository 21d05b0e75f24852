"""What is no mark is compared by its values; items that go wrong together are exchanged together."""

import json
from pathlib import Path

from tests.comparison.runs import line, write_run

import pytest


def figure(folder: Path) -> dict:
    return json.loads((folder / "comparison.json").read_text())["figures"][0]


def flips(folder: Path) -> list[dict]:
    return [json.loads(one) for one in (folder / "flips.jsonl").read_text().splitlines()]


@pytest.fixture
def compare(script, tmp_path):
    """Run compare.py; its files go to out/."""
    return lambda *words: script("compare", *words, "-o", tmp_path / "out")


def summaries(folder: Path, values: list[float]) -> Path:
    lines = [line(f"test/{n}", False, prediction="", response="s", rouge_l={"words": v}) for n, v in enumerate(values)]
    return write_run(folder, lines, benchmark="vcsum")


def test_rouge_l_is_compared_by_exchanges_of_its_values(compare, tmp_path):
    before = [30.0 + n % 7 for n in range(26)]
    a = summaries(tmp_path / "a", before)
    b = summaries(tmp_path / "b", [value - 1.5 + n % 2 for n, value in enumerate(before)])
    assert compare(a, b).status == 1
    found = figure(tmp_path / "out")
    assert found["figure"] == "rouge_l" and found["difference"] == pytest.approx(-1.0)
    assert found["test"] == "exchanges of 26 items, drawn" and found["p_loss"] < 0.001
    assert found["ci95"][0] < -1 < found["ci95"][1] < 0
    assert flips(tmp_path / "out")[0]["value_a"] - flips(tmp_path / "out")[0]["value_b"] == pytest.approx(1.5)


def test_a_larger_perplexity_is_a_loss(compare, tmp_path):
    def run(name: str, more: float) -> Path:
        lines = [
            line(f"none/doc{n}/512", True, nll={"512": {"mean": 1 + n / 10 + more, "tokens": 100 + n}})
            for n in range(10)
        ]
        return write_run(tmp_path / name, lines, benchmark="ppl")

    assert compare(run("a", 0), run("b", 0.01)).status == 1
    assert figure(tmp_path / "out")["figure"] == "none/seq_512"
    assert compare(run("a", 0.01), run("b", 0)).status == 0


def test_bleu_is_that_of_the_corpus(compare, tmp_path):
    from sacrebleu.metrics import BLEU

    gold = [f"the cat number {n} sat on the mat in house {n}" for n in range(12)]

    def run(name: str, replies: list[str]) -> Path:
        pairs = enumerate(zip(replies, gold, strict=True))
        lines = [line(f"zh-en/{n}", False, gold=g, prediction=reply) for n, (reply, g) in pairs]
        return write_run(tmp_path / name, lines, benchmark="wmt22")

    worse = [text.replace("cat", "dog").replace("mat", "rug") for text in gold]
    assert compare(run("a", gold), run("b", worse)).status == 1
    found = figure(tmp_path / "out")
    assert found["a"] == pytest.approx(100) and found["b"] == pytest.approx(BLEU().corpus_score(worse, [gold]).score)


@pytest.mark.parametrize(
    ("benchmark", "clusters"),
    [("bbh", 6), ("mmlu", 12)],
)
def test_items_that_go_wrong_together_are_exchanged_together(compare, tmp_path, benchmark: str, clusters: int):
    passage = (
        "This question refers to the following information.\n"
        + "In the year of the Lord 1{0}00 many things came. " * 10
    )

    def run(name: str, worse: int) -> Path:
        lines = [
            line(f"task{group}/{n}", group >= worse, f"Question: {passage.format(group)}{n}?\nAnswer:")
            for group in range(6)
            for n in range(10)
        ]
        if benchmark == "mmlu":
            lines += [line(f"short/{n}", True) for n in range(6)]
        return write_run(tmp_path / name, lines, benchmark=benchmark)

    ended = compare(run("a", 0), run("b", 3))
    found = figure(tmp_path / "out")
    assert (found["lost"], found["clusters"]) == (30, clusters)
    assert found["test"] == f"clusters exchanged, exact ({clusters})"
    assert found["p_loss"] == pytest.approx(1 / 8), "three clusters, not thirty items"
    assert ended.status == 0


def test_several_replies_to_a_question_are_one_cluster(compare, tmp_path):
    lines = [line(f"HumanEval/{n}", True, sample=sample) for n in range(30) for sample in range(4)]
    a, b = (write_run(tmp_path / name, lines, benchmark="humaneval") for name in "ab")
    assert compare(a, b).status == 0
    assert (figure(tmp_path / "out")["items"], figure(tmp_path / "out")["clusters"]) == (120, 30)


def test_samples_without_the_field_of_their_figure_are_one_line(compare, tmp_path):
    a, b = (write_run(tmp_path / name, [line("test/0", False)], benchmark="vcsum") for name in "ab")
    ended = compare(a, b)
    assert ended.status == 2 and ended.err == "error: vcsum: samples.jsonl lacks 'rouge_l', which its figures need\n"
