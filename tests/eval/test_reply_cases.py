"""Replies that people's models gave and other scorers misread, by `--rescore` on the real data, or where that is not
here on rows of our own with the same ids and answers."""

import json
from pathlib import Path

from qwen_eval.extraction.choice_replies import robust_letter_en, robust_letter_zh

import pytest

CASES = Path(__file__).resolve().parents[1] / "cases" / "replies.jsonl"
LINES = CASES.read_text(encoding="utf-8").split("\n")
ROWS = [row for row in map(json.loads, filter(None, LINES)) if row["script"] not in ("humaneval", "mbpp")]
LETTERS = [row for row in ROWS if row["script"].startswith("choice_")]
SCRIPTS = ("gsm8k", "math", "bbh")
# Of the same kinds, ours: script, flags, id, reply, the robust verdict.
CHAT, BASE, DATES = ("--chat",), ("--base",), ("--subjects", "date_understanding")
OBJECTS, SUMS = ("--subjects", "object_counting"), ("--subjects", "multistep_arithmetic_two")
OWN = [
    ("gsm8k", CHAT, "test/2", "＄７０，０００", True),
    ("gsm8k", CHAT, "test/2", "His profit is **$70,000**. (He spent $130,000.)", True),
    ("gsm8k", CHAT, "test/2", "答案是 70\u2009000 美元，其中成本130000。", True),
    ("gsm8k", CHAT, "test/2", "The answer is 7,000. It is not 70,000.", False),
    ("gsm8k", (*BASE, "--cut-replies"), "test/2", "70000.\rQuestion: Next\rThe answer is 5", True),
    ("gsm8k", (*BASE, "--cut-replies"), "test/2", "\ufeffThe answer is 70000\r\n\r\nIt is 5", True),
    ("gsm8k", BASE, "test/2", "The profit is 70000.\n\nQuestion: Next\nThe answer is 5", True),
    ("gsm8k", BASE, "test/2", "1.\n\n2.\n\n#### 70000\n\n", True),
    ("math", (), "test/4850", "\\boxed{10x - 14y + 22z + 8 = 0}", True),
    ("math", (), "test/4850", "The plane is $5x - 7y + 11z + 4 = 1$.", False),
    ("math", (), "test/0", "The answer is **2**, since $x^2+x-6=(x+3)(x-2)$.", True),
    ("math", (), "test/0", "因此答案是 2。验证：x=-3 或 x=2。\r\n", True),
    ("bbh", DATES, "date_understanding/0", "The answer is **B**, 12/25/1937.", True),
    ("bbh", DATES, "date_understanding/0", "The answer is 12/25/1937.\r\nQ: next\r\nThe answer is (A).", True),
    ("bbh", SUMS, "multistep_arithmetic_two/2", "= -50.\n\nSo the answer is $\\boxed{-50}$.", True),
    ("bbh", OBJECTS, "object_counting/0", "I count 3 + 5 objects. The answer is **8**, not 9.", True),
]


@pytest.fixture
def rescored(script, data_of, tmp_path):
    """rescored("gsm8k", flags, {id: reply, ...}) gives the lines of samples.jsonl by id."""

    def run(benchmark, flags, replies):
        lines = [json.dumps({"id": name, "response": reply}) for name, reply in replies.items()]
        (tmp_path / "replies.jsonl").write_text("\n".join(lines), encoding="utf-8")
        given = ("-d", data_of(benchmark), "--rescore", tmp_path / "replies.jsonl", "-o", tmp_path / "out")
        ended = script(benchmark, *given, "--overwrite", *flags)
        assert ended.status == 0, ended.err
        samples = (tmp_path / "out/samples.jsonl").read_text(encoding="utf-8").split("\n")
        return {line["id"]: line for line in map(json.loads, filter(None, samples))}

    return run


@pytest.mark.parametrize("row", [row for row in ROWS if row["script"] in SCRIPTS], ids=lambda row: row["response"][:30])
def test_given_cases(rescored, row):
    (line,) = rescored(row["script"], row["args"], {row["id"]: row["response"]}).values()
    assert line["correct_robust"] is row["robust"], line


@pytest.mark.parametrize(("benchmark", "flags", "name", "reply", "right"), OWN)
def test_fresh_cases_of_the_same_kinds(rescored, benchmark, flags, name, reply, right):
    (line,) = rescored(benchmark, flags, {name: reply}).values()
    assert line["correct_robust"] is right, line


@pytest.mark.parametrize("row", LETTERS, ids=lambda row: row["response"][:30])
def test_given_letters(row):
    read = robust_letter_zh if row["script"] == "choice_zh" else robust_letter_en
    assert read(row["row"], row["response"]) == row["robust"]


def test_the_whole_of_a_base_reply_is_read(rescored, data_of):
    """Worked solutions with blank lines between their steps: the robust extraction sees as much as the protocol."""
    rows = (data_of("gsm8k") / "test.jsonl").read_text(encoding="utf-8").split("\n")[:50]
    solutions = [json.loads(row)["answer"].replace("\n", "\n\n") for row in rows]
    lines = rescored("gsm8k", BASE, {f"test/{number}": text for number, text in enumerate(solutions)})
    assert all(line["correct_robust"] for line in lines.values())
