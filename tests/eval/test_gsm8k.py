"""GSM8K: prompts, the published vectors through the script, and OpenAI's 5,276 verdicts."""

import argparse
import json
import lzma
import sys

from qwen_eval.benchmark import Item, Setting, answered
from qwen_eval.errors import UserError
from qwen_eval.extraction.numbers import read_number

import evaluate_gsm8k
import pytest
from evaluate_gsm8k import EXAMPLES, GSM8K, prompt, read_base, read_chat, truncate

LAST = "Question: How many?\nLet's think step by step\n"


@pytest.fixture
def rescore(monkeypatch, tmp_path):
    """Run the script on given replies: the exit status, results.json, and the lines of samples.jsonl."""

    def run(data, replies, *flags):
        lines = [json.dumps({"id": f"test/{number}", "response": reply}) for number, reply in enumerate(replies)]
        (tmp_path / "replies.jsonl").write_text("\n".join(lines), encoding="utf-8")
        out = tmp_path / "out"
        words = ["-d", data, "--rescore", tmp_path / "replies.jsonl", "-o", out, "--overwrite", *flags]
        monkeypatch.setattr(sys, "argv", ["evaluate_gsm8k.py", *map(str, words)])
        status = evaluate_gsm8k.main()
        samples = [json.loads(line) for line in (out / "samples.jsonl").read_text(encoding="utf-8").split("\n") if line]
        return status, json.loads((out / "results.json").read_text(encoding="utf-8")), samples

    return run


@pytest.fixture
def rows(tmp_path):
    """Write a test.jsonl of these answers; returns its folder."""

    def write(answers):
        (tmp_path / "data").mkdir(exist_ok=True)
        lines = [json.dumps({"question": "How many?", "answer": answer}) for answer in answers]
        (tmp_path / "data" / "test.jsonl").write_text("\n".join(lines), encoding="utf-8")
        return tmp_path / "data"

    return write


def test_base_prompt_is_the_published_text_then_the_question():
    text = EXAMPLES.read_text(encoding="utf-8")
    assert text.count("Question: ") == 8
    assert prompt("How many?", 8, chat=False) == text + "\n" + LAST
    assert prompt("How many?", 8, chat=True) == text + "\n" + LAST
    first = prompt("How many?", 1, chat=False)
    assert first == text.split("\n\n")[0] + "\n\n" + LAST and first.count("The answer is") == 1
    assert prompt("How many?", 0, chat=False) == LAST
    assert prompt("How many?", 0, chat=True) == "How many?"
    with pytest.raises(UserError, match="has 8 examples"):
        prompt("How many?", 9, chat=False)


def test_the_prompt_is_the_one_beside_the_data(shared):
    assert EXAMPLES.read_bytes() == (shared / "data/gsm8k/gsm8k_prompt.txt").read_bytes()


def test_truncation_vectors(shared):
    for line in (shared / "goldens/base_truncation.jsonl").read_text(encoding="utf-8").splitlines():
        vector = json.loads(line)
        assert truncate(vector["text"]) == vector["gsm8k"]


@pytest.mark.parametrize(
    ("reply", "base", "chat", "robust"),
    [
        ("The answer is 20,800", 800, "20800", 20800.0),
        ("The answer is 1,083.", "[invalid]", "1083.", 1083.0),  # 083 is no number to Python
        ("The answer is 7.00", 0, "7.00", 7.0),
        ("The answer is -3", 3, "-3", -3.0),
        ("The answer is 007", "[invalid]", "007", 7.0),
        ("5 or \u0663", "[invalid]", "5", 5.0),  # an Arabic-Indic three is a digit to \d but not to Python
        ("10-3", 3, "-3", 3.0),
        ("-$5", 5, "5", -5.0),
        ("1,2,3", 3, "3", 3.0),
        ("the answer is .5", 5, ".5", 0.5),
        ("9" * 5000, "[invalid]", "9" * 5000, float("inf")),
        ("", "[invalid]", None, None),
    ],
)
def test_readings(reply, base, chat, robust):
    assert (read_base(reply), read_chat(reply), read_number(reply)) == (base, chat, robust)


def test_an_item_is_scored_from_a_list_of_answers():
    row = {"question": "How many?", "answer": "It is so.\n#### 1,000"}
    item = Item("test/0", "test", gold=row["answer"], row=row)

    def marks(reply, chat=False, cut=False):
        setting = Setting(chat=chat, flags=argparse.Namespace(cut_replies=cut))
        record = answered(GSM8K().evaluate(item, setting), reply)
        return tuple(record[name] for name in ("response", "prediction", "correct", "correct_robust"))

    assert marks("So 1000") == ("So 1000", 1000, True, True)
    assert marks("So 1,000") == ("So 1,000", 0, False, True)  # the last run of digits is 000
    assert marks("So 1,000", chat=True) == ("So 1,000", "1000", True, True)
    assert marks("So 7.", chat=True) == ("So 7.", "7.", False, False)
    assert marks("So 1000<|endoftext|>2") == ("So 1000", 1000, True, True)
    assert marks("So 1000\n\nQuestion: 5?") == ("So 1000\n\nQuestion: 5?", 5, False, True)
    assert marks("So 1000\n\nQuestion: 5?", cut=True) == ("So 1000", 1000, True, True)


@pytest.mark.parametrize("mode", ["base", "chat"])
def test_published_vectors_through_the_script(shared, rescore, rows, mode):
    lines = (shared / "goldens/gsm8k.jsonl").read_text(encoding="utf-8").splitlines()
    vectors = [json.loads(line) for line in lines]
    assert len(vectors) == 100
    status, results, samples = rescore(
        rows(v["answer"] for v in vectors), [v["completion"] for v in vectors], f"--{mode}"
    )
    assert status == 0
    read = [v[f"{mode}_extracted"] for v in vectors]
    assert [s["prediction"] for s in samples] == ["" if value is None else str(value) for value in read]
    assert [s["correct"] for s in samples] == [v[f"{mode}_correct"] for v in vectors]
    assert results["scores"]["acc"]["value"] == sum(v[f"{mode}_correct"] for v in vectors)


def test_replies_that_go_on_are_cut_when_asked(rescore, rows, tmp_path):
    data = rows(["#### 4"] * 3)
    replies = ["It is 4\n\nQuestion: 5?", "4<|endoftext|>\n\n5", "It is 4"]
    _, results, samples = rescore(data, replies, "--base")
    assert [s["correct"] for s in samples] == [False, True, True]
    assert [s["correct_robust"] for s in samples] == [True, True, True]
    assert any("1 replies go on" in note for note in results["notes"])
    _, results, samples = rescore(data, replies, "--base", "--cut-replies")
    assert [s["correct"] for s in samples] == [True, True, True]
    assert [s["response"] for s in samples] == ["It is 4", "4", "It is 4"]
    _, _, samples = rescore(data, replies, "--chat")  # a chat model may well write blank lines
    assert samples[0]["response"] == replies[0]


def test_disagreements_are_listed(rescore, rows, tmp_path):
    _, results, _ = rescore(rows(["#### 1,000", "#### 2"]), ["It is 1,000", "It is 2"], "--base")
    assert (results["scores"]["acc"]["value"], results["scores"]["acc_robust"]["value"]) == (50.0, 100.0)
    assert (tmp_path / "out/disagreements.txt").read_text() == "test/0\n"


@pytest.mark.parametrize(
    ("model", "right"),
    [("6b_finetuning", 286), ("6b_verification", 515), ("175b_finetuning", 458), ("175b_verification", 742)],
)
def test_openai_verdicts_through_the_script(shared, rescore, model, right):
    with lzma.open(
        shared / "published_outputs/gsm8k_openai/example_model_solutions.jsonl.xz", "rt", encoding="utf-8"
    ) as file:
        published = [json.loads(line)[model] for line in file]
    _, results, samples = rescore(shared / "data/gsm8k", [row["solution"] for row in published], "--base")
    assert [s["correct_robust"] for s in samples] == [row["is_correct"] for row in published]
    assert results["scores"]["acc_robust"]["value"] == pytest.approx(100 * right / 1319)


def test_a_row_without_an_answer_is_an_error(rescore, rows):
    with pytest.raises(UserError, match=r"line 2: 'answer' is .one., not a text that ends in"):
        rescore(rows(["#### 1", "one"]), ["1", "1"], "--base")
