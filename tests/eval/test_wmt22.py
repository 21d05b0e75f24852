"""WMT22: prompts, lines, and the organisers' BLEU and chrF of the submitted systems through the script."""

import json
import sys
import tarfile
from collections import defaultdict

from qwen_eval.errors import UserError

import evaluate_wmt22
import pytest
from evaluate_wmt22 import bleu, chrf, parallel, prompt, read_lines, translation

NAMES = {"bleu-A": "bleu_{}", "bleu-B": "bleu_{}_reference_b", "bleu-all": "bleu_{}_both_references"}
NAMES |= {"chrf-A": "chrf_{}", "chrf-B": "chrf_{}_reference_b"}


@pytest.fixture
def rescore(monkeypatch, tmp_path):
    """Run the script on replies by pair; returns results.json."""

    def run(data, replies, *flags):
        lines = [
            json.dumps({"id": f"{pair}/{number}", "response": reply})
            for pair, found in replies.items()
            for number, reply in enumerate(found)
        ]
        (tmp_path / "replies.jsonl").write_text("\n".join(lines), encoding="utf-8")
        out = tmp_path / "out"
        words = ["-d", data, "--rescore", tmp_path / "replies.jsonl", "-o", out, "--overwrite", *flags]
        monkeypatch.setattr(sys, "argv", ["evaluate_wmt22.py", *map(str, words)])
        assert evaluate_wmt22.main() == 0
        return json.loads((out / "results.json").read_text(encoding="utf-8"))

    return run


@pytest.fixture(scope="module")
def systems(shared):
    """Per system and pair: its lines, and the organisers' scores by metric."""
    lines, scores = defaultdict(dict), defaultdict(dict)
    with tarfile.open(shared / "published_outputs/wmt22_systems/outputs.tar.xz") as tar:
        for member in tar:
            if not member.isfile():
                continue
            text = tar.extractfile(member).read().decode("utf-8")
            if member.name.endswith(".tsv"):
                for row in (line.split("\t") for line in text.split("\n") if line):
                    scores[row[1]][(row[0], row[4])] = row[5]
            else:
                _, pair, _, name, _ = member.name.rsplit("/", 1)[1].split(".")
                lines[name][pair] = text.removesuffix("\n").split("\n")
    return lines, scores


def check(name, systems, shared, rescore):
    lines, scores = systems
    results = rescore(shared / "data/wmt22", lines[name], "--subjects", ",".join(lines[name]))
    for pair in lines[name]:
        for metric, figure in NAMES.items():
            value = results["scores"][figure.format(pair)]["value"]
            assert value == pytest.approx(float(scores[name][(pair, metric)]), abs=1e-6), (name, pair, metric)
    return results


def test_one_system_both_ways_has_the_published_scores(systems, shared, rescore):
    results = check("Online-W", systems, shared, rescore)
    assert results["scores"]["bleu_zh-en"]["value"] == pytest.approx(23.961170254077192, abs=1e-6)
    low, high = results["scores"]["bleu_zh-en"]["ci95"]
    assert low < 23.96 < high < low + 3
    assert any("tok:zh" in note for note in results["notes"]) and any("tok:13a" in note for note in results["notes"])


@pytest.mark.heavy
@pytest.mark.timeout(1800)
def test_all_25_systems_have_the_published_scores(systems, shared, rescore, monkeypatch):
    monkeypatch.setattr(evaluate_wmt22, "DRAWS", 0)  # the intervals take half of the time
    assert sum(len(pairs) for pairs in systems[0].values()) == 25
    for name in systems[0]:
        check(name, systems, shared, rescore)


def test_prompt():
    assert prompt("en-zh", [("One.", "一。")], "Two.") == "English: One.\nChinese: 一。\n\nEnglish: Two.\nChinese:"
    assert prompt("zh-en", [], "二。") == "Chinese: 二。\nEnglish:"


def test_lines_are_split_at_newline_only(tmp_path):
    (tmp_path / "text").write_bytes("a\u2028b\r\nc\x0bd\n\ne\n".encode())
    assert read_lines(tmp_path / "text") == ["a\u2028b\r", "c\x0bd", "", "e"]
    (tmp_path / "bad").write_bytes(b"\xff\n")
    with pytest.raises(UserError, match="not UTF-8"):
        read_lines(tmp_path / "bad")


def test_the_published_pairs_have_their_sizes(shared):
    for pair, count in (("en-zh", 2037), ("zh-en", 1875)):
        assert len(parallel(shared / "data/wmt22", "generaltest2022", pair)) == count


def test_what_of_a_reply_is_the_translation():
    assert translation(" 你好。\n\nEnglish: next", chat=False) == "你好。"
    assert translation("你好。\n再见。", chat=True) == "你好。 再见。"
    assert translation("<|endoftext|>", chat=False) == ""
    assert translation("\n你好。", chat=False) == ""  # as a model that stops at a line break


def test_a_perfect_and_an_empty_translation():
    same = ["The cat sat on the mat.", "It rains again today."]
    assert bleu("zh-en", same, [same])[0].value == pytest.approx(100)
    assert chrf(same, [same])[0].value == pytest.approx(100)
    assert bleu("zh-en", ["", ""], [same])[0].value == 0
    assert bleu("zh-en", same[:1], [same[:1]], draws=100)[0].ci95 == pytest.approx((100, 100))


def test_examples_come_from_the_file_or_from_wmt21(data_of, tmp_path):
    data = data_of("wmt22")
    own = tmp_path / "shots.jsonl"
    own.write_text('{"pair": "en-zh", "source": "One.", "reference": "一。"}\n', encoding="utf-8")
    assert evaluate_wmt22.read_examples(own, data, "en-zh", 1) == [("One.", "一。")]
    first = evaluate_wmt22.read_examples(None, data, "zh-en", 5)
    assert first == parallel(data.parent / "wmt21", "newstest2021", "zh-en")[:5]
    with pytest.raises(UserError, match="there are 1 examples of en-zh"):
        evaluate_wmt22.read_examples(own, data, "en-zh", 5)
    with pytest.raises(UserError, match="give --shots-file"):
        evaluate_wmt22.read_examples(None, tmp_path / "data", "en-zh", 5)


def test_an_uneven_pair_of_files_is_an_error(tmp_path):
    for part, text in (("sources/t.zh-en.src.zh", "一\n二\n"), ("references/t.zh-en.ref.A.en", "One\n")):
        (tmp_path / part).parent.mkdir()
        (tmp_path / part).write_text(text, encoding="utf-8")
    with pytest.raises(UserError, match="2 source and 1 reference"):
        parallel(tmp_path, "t", "zh-en")
