"""VCSUM: reading both forms of the data, the cut in the middle, Rouge-L over words and characters."""

import json
import sys

from qwen_eval.errors import UserError

import evaluate_vcsum
import pytest
from evaluate_vcsum import middle_cut, prompt, read_test, shorten, summary_rouge_l


def test_the_published_meetings(shared):
    rows = read_test(str(shared / "data/vcsum"))
    assert len(rows) == 26
    assert rows[0]["context"].startswith("说话人1：我休息一下，") and rows[0]["context"].count("\n") == 43
    assert rows[0]["summary"].startswith("defi未来")


def test_official_and_longbench_rows(tmp_path):
    meeting = {"id": "7", "context": [["好。", "开始。"], ["请。"]], "speaker": [1, "2"]}
    (tmp_path / "overall_context_test.txt").write_text(json.dumps(meeting), encoding="utf-8")
    (tmp_path / "long_test.txt").write_text(json.dumps({"id": "7", "summary": "好"}), encoding="utf-8")
    assert read_test(str(tmp_path)) == [{"context": "说话人1：好。开始。\n说话人2：请。", "summary": "好"}]
    (tmp_path / "long").mkdir()
    (tmp_path / "long/vcsum.jsonl").write_text(json.dumps({"context": "会议", "answers": ["总结"]}), encoding="utf-8")
    for given in (tmp_path / "long", tmp_path / "long/vcsum.jsonl"):
        assert read_test(str(given)) == [{"context": "会议", "summary": "总结"}]


def test_a_meeting_without_a_summary_is_an_error(tmp_path):
    meeting = {"id": "7", "context": [["好。"]], "speaker": [1]}
    (tmp_path / "overall_context_test.txt").write_text(json.dumps(meeting), encoding="utf-8")
    (tmp_path / "long_test.txt").write_text(json.dumps({"id": "8", "summary": "好"}), encoding="utf-8")
    with pytest.raises(UserError, match="no summary of meeting '7'"):
        read_test(str(tmp_path))


@pytest.mark.parametrize(
    ("limit", "kept"),
    [(10, [0, 1, 2, 3, 4, 5, 6, 7]), (8, [0, 1, 2, 3, 4, 5, 6, 7]), (5, [0, 1, 5, 6, 7]), (4, [0, 1, 6, 7]), (1, [7])],
)
def test_the_middle_is_cut(limit, kept):
    assert middle_cut(range(8), limit) == kept


def test_a_long_meeting_fits_and_keeps_both_ends(shared):
    from qwen_model import QWenTokenizer

    tokenizer = QWenTokenizer(str(shared / "data/tokenizer/qwen.tiktoken"))
    context = read_test(str(shared / "data/vcsum"))[0]["context"]

    def count(text):
        return len(tokenizer.encode_plain(text))

    assert shorten(context, tokenizer, 100_000) == context
    for limit in (500, 501, 502, 503):  # at some of these the cut parts a character's bytes
        short = shorten(context, tokenizer, limit)
        assert limit - 8 <= count(prompt(short)) <= limit + 8
        assert context.startswith(short[:150]) and context.endswith(short[-150:])
        assert "\ufffd" not in short


def test_rouge_l():
    assert summary_rouge_l("今天开会", "今天开会") == {"words": 100.0, "characters": 100.0}
    assert summary_rouge_l("", "今天开会") == {"words": 0.0, "characters": 0.0}
    assert summary_rouge_l("今天 开会\n", "今天开会") == {"words": 100.0, "characters": 100.0}
    # characters: 今天 of 今天开会 in order: P = 2/3, R = 2/4; words: 今天 of 今天|开会: P = 1/2, R = 1/2
    half = summary_rouge_l("今天好", "今天开会")
    assert half["characters"] == pytest.approx(100 * 2 * (2 / 3) * (1 / 2) / (2 / 3 + 1 / 2))
    assert half["words"] == pytest.approx(50)


def test_the_script_scores_given_summaries(data_of, monkeypatch, tmp_path):
    rows = read_test(str(data_of("vcsum")))
    share = 100 * (len(rows) - 1) / len(rows)
    replies = [
        {"id": f"test/{number}", "response": row["summary"] if number else ""} for number, row in enumerate(rows)
    ]
    (tmp_path / "replies.jsonl").write_text("\n".join(map(json.dumps, replies)), encoding="utf-8")
    words = ["-d", data_of("vcsum"), "--rescore", tmp_path / "replies.jsonl", "-o", tmp_path / "out"]
    monkeypatch.setattr(sys, "argv", ["evaluate_vcsum.py", *map(str, words)])
    assert evaluate_vcsum.main() == 0
    scores = json.loads((tmp_path / "out/results.json").read_text(encoding="utf-8"))["scores"]
    assert scores["rouge_l"]["value"] == pytest.approx(share)
    assert scores["rouge_l_characters"]["value"] == pytest.approx(share)
    lines = (tmp_path / "out/samples.jsonl").read_text(encoding="utf-8").split("\n")
    assert [json.loads(line)["correct"] for line in lines if line] == [False] + [True] * (len(rows) - 1)


def test_too_short_a_limit_is_an_error(data_of, monkeypatch, tmp_path):
    (tmp_path / "replies.jsonl").write_text('{"id": "test/0", "response": ""}', encoding="utf-8")
    words = ["-d", data_of("vcsum"), "--rescore", tmp_path / "replies.jsonl", "--max-seq-len", 500]
    monkeypatch.setattr(sys, "argv", ["evaluate_vcsum.py", *map(str, words)])
    with pytest.raises(UserError, match="leaves no room"):
        evaluate_vcsum.main()
