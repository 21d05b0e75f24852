"""MBPP: the prompt, what of a reply is the program, what the tests take from it, the script on given replies."""

import json
import sys

from qwen_eval.benchmark import Item, Setting, Solution, answered
from qwen_eval.errors import UserError
from qwen_eval.sandbox import Sandbox, Verdict
from tests.eval import stand_ins

import evaluate_mbpp
import pytest
from evaluate_mbpp import MBPP, check, cut, program_robust, prompt, read_tasks


@pytest.fixture(scope="module")
def rows(data_of):
    return read_tasks(str(data_of("mbpp")))


@pytest.fixture
def rescore(monkeypatch, tmp_path, data_of):
    def run(replies, *flags):
        path, out = tmp_path / "replies.jsonl", tmp_path / "out"
        lines = [{"id": f"MBPP/{number}", "response": reply} for number, reply in replies.items()]
        path.write_text("\n".join(map(json.dumps, lines)), encoding="utf-8")
        words = ["-d", data_of("mbpp"), "--rescore", path, "-o", out, "--overwrite", *flags]
        monkeypatch.setattr(sys, "argv", ["evaluate_mbpp.py", *map(str, words)])
        status = evaluate_mbpp.main()
        samples = [json.loads(line) for line in (out / "samples.jsonl").read_text(encoding="utf-8").split("\n") if line]
        return status, json.loads((out / "results.json").read_text(encoding="utf-8")), samples

    return run


SHOT = {"text": "Write a function to add one.", "code": "def more(n):\r\n  return n + 1 "}
SHOT["test_list"] = ["assert more(1) == 2", "assert more(-1) == 0", "assert more(0) == 1"]
ASKED = """You are an expert Python programmer, and here is your task: Write a function to add one. \
Your code should pass these tests:

assert more(1) == 2
assert more(-1) == 0
assert more(0) == 1
[BEGIN]
"""


def test_prompt(rows):
    assert prompt(SHOT, []) == ASKED
    assert prompt(SHOT, [SHOT, SHOT]) == (ASKED + "def more(n):\n  return n + 1 \n[DONE]\n\n\n") * 2 + ASKED
    text = prompt(rows[11], [rows[number] for number in (2, 3, 4)])
    begin = "You are an expert Python programmer, and here is your task: "
    assert text.count(begin) == 4 and text.count("[BEGIN]\n") == 4 and text.count("\n[DONE]\n\n\n") == 3
    first = f"{rows[2]['text']} Your code should pass these tests:\n\n{rows[2]['test_list'][0]}\n"
    assert text.startswith(begin + first)
    assert text.endswith(rows[11]["test_list"][-1] + "\n[BEGIN]\n") and "\r" not in text


@pytest.mark.parametrize(
    ("reply", "protocol", "robust"),
    [
        ("def f():\n  return 1\n[DONE]\n\n\nYou are", "def f():\n  return 1\n", "def f():\n  return 1\n"),
        ("f = 1<|endoftext|>y", "f = 1", "f = 1\n"),
        ("```python\nf = 1\n```\nIt is one.", "```python\nf = 1\n```\nIt is one.", "f = 1\n"),
        ("f = 1\nThis sets f.", "f = 1\nThis sets f.", "f = 1\n"),
        ("no program\n", "no program\n", "no program"),
        ("[BEGIN]\nf = 1", "[BEGIN]\nf = 1", "f = 1\n"),
        ("[DONE]\n[BEGIN]\nf = 1\n[DONE]", "", "f = 1\n"),
    ],
)
def test_what_of_a_reply_is_the_program(reply, protocol, robust):
    assert cut(reply) == protocol
    assert program_robust(reply, {"f"}) == robust


def test_what_the_tests_take_from_a_program(rows):
    assert check(rows[126], "").names == ("sum",)
    assert check(rows[912], "").names == ("lobb_num",)  # its tests call int(), which no program may answer for
    assert check(rows[601], "").names == ("Pair", "max_chain_length")
    assert (check(rows[596], "").names, check(rows[596], "").modules) == (("tuple_size",), ("sys",))
    assert check(rows[367], "").names == ("Node", "is_tree_balanced")
    assert all(check(row, "").names for row in rows.values())
    with pytest.raises(UserError, match="MBPP/11: the tests call nothing"):
        check({**rows[11], "code": "x = 1"}, "")


def test_an_item_is_scored_from_a_list_of_answers(rows):
    def record(reply, *verdicts):
        item = Item("MBPP/11", "test", gold="passed", row=rows[11])
        return answered(MBPP().evaluate(item, Setting()), reply, *verdicts)

    def marks(record):
        return record["prediction"], record["correct"], record["correct_robust"]

    passed, failed = Verdict(True, "passed", "", 0.1), Verdict(False, "failed", "AssertionError: no", 0.1)
    code = "def remove_Occ(s, ch):\n    return s"
    right = record(f"{code}\n[DONE]", passed)
    assert marks(right) == ("passed", True, True) and right["response"] == f"{code}\n[DONE]"
    fenced = record(f"```python\n{code}\n```", failed, passed)  # another program by the robust extraction
    assert marks(fenced) == ("failed", False, True) and fenced["message"] == "AssertionError: no"
    assert marks(record(code, failed)) == ("failed", False, False)  # the same program: asked once
    assert marks(record(Solution(f"```python\n{code}\n```"), failed)) == ("failed", False, False)


def test_the_sanitized_tasks_are_data_too(shared, rows, rescore, tmp_path):
    sanitized = read_tasks(str(shared / "data/mbpp/sanitized-mbpp.json"))
    assert len(sanitized) == 427 and sum(number in evaluate_mbpp.TEST_IDS for number in sanitized) == 257
    text = prompt(sanitized[11], [sanitized[number] for number in (2, 3, 4)])
    assert "your task: Write a function to find the shared elements from the given two lists." in text
    with_imports = next(row for row in sanitized.values() if row["test_imports"])
    assert check(with_imports, "").test.startswith("\n".join(with_imports["test_imports"]))
    (tmp_path / "data").mkdir()
    (tmp_path / "data/sanitized-mbpp.json").write_bytes((shared / "data/mbpp/sanitized-mbpp.json").read_bytes())
    numbers = [number for number in sanitized if number in evaluate_mbpp.TEST_IDS][:12]
    _, _, samples = rescore({n: sanitized[n]["code"] for n in numbers}, "-d", tmp_path / "data")
    assert [sample["correct"] for sample in samples] == [True] * 12


def test_programs_of_evalplus_count_and_other_tasks_are_left_out(rescore, rows, tmp_path):
    def programs(solution):
        lines = [{"task_id": f"Mbpp/{number}", "solution": solution(rows[number])} for number in (2, 11, 601)]
        (tmp_path / "plus.jsonl").write_text("\n".join(map(json.dumps, lines)), encoding="utf-8")
        return rescore({}, "--rescore", tmp_path / "plus.jsonl")

    _, _, samples = programs(lambda row: row["code"])
    assert [(s["id"], s["correct"], s["correct_robust"]) for s in samples] == [("MBPP/11", True, True)]
    assert "2 replies to tasks outside 11 to 510 left out" in (tmp_path / "out/table.md").read_text()
    _, _, samples = programs(lambda row: f"```python\n{row['code']}\n```")  # a program, whatever it looks like
    assert [(s["correct"], s["correct_robust"]) for s in samples] == [(False, False)]


def test_a_sanitized_task_with_a_broken_field_is_named(tmp_path):
    row = {"task_id": 2, "prompt": "p", "code": "c", "test_imports": "import math", "test_list": ["assert 1"]}
    (tmp_path / "sanitized-mbpp.json").write_text(json.dumps([row]))
    with pytest.raises(UserError, match="row 0: 'test_imports' is \"import math\", not a list of texts"):
        read_tasks(str(tmp_path))


def test_references_and_empty_programs(rescore, rows):
    numbers = range(11, 41)
    status, results, samples = rescore({n: rows[n]["code"] + "\n[DONE]\n\n\nYou are" for n in numbers})
    assert status == 0 and results["scores"]["pass@1"]["value"] == 100 and results["scores"]["pass@1"]["n"] == 30
    assert {sample["id"] for sample in samples} == {f"MBPP/{n}" for n in numbers}
    assert len(results["sandbox"]["guards"]) >= 16
    _, results, _ = rescore({n: "pass" for n in numbers})
    assert results["scores"]["pass@1"]["value"] == 0


def test_a_fenced_reply_is_read_by_the_robust_reading_only(rescore, rows):
    _, results, samples = rescore({11: f"```python\n{rows[11]['code']}\n```"})
    assert (samples[0]["correct"], samples[0]["correct_robust"]) == (False, True)
    assert results["scores"]["pass@1_robust"]["value"] == 100


def test_a_program_that_overrides_a_builtin_does_not_answer_for_the_tests(rescore):
    lie = "class E:\n    __eq__ = lambda s, o: True\nint = lambda x: E()\ndef lobb_num(n, m): return 0\n"
    _, _, samples = rescore({126: "def sum(a, b): return 6 if a < 100 and a > 5 else 93"})
    assert not samples[0]["correct"]
    row = {
        "task_id": 912,
        "code": "def lobb_num(n, m): pass",
        "test_setup_code": "",
        "test_list": ["assert int(lobb_num(5, 3)) == 35"],
    }
    with Sandbox(workers=1, without=["nothing"]) as sandbox:
        assert not sandbox.check(check(row, lie)).passed
        assert sandbox.check(check(row, "def lobb_num(n, m): return 35.0")).passed


def test_the_tasks_that_stand_in_for_published_ones_are_sound(tmp_path):
    tasks = read_tasks(str(stand_ins.write("mbpp", tmp_path)))
    chosen = [tasks[number] for number in stand_ins.MBPP]
    with Sandbox(workers=1, without=["nothing"]) as sandbox:
        assert all(verdict.passed for verdict in sandbox.check_many(check(row, row["code"]) for row in chosen))
        assert not any(verdict.passed for verdict in sandbox.check_many(check(row, "pass") for row in chosen))


def test_wrong_use_is_one_line(rescore, script, tmp_path, demo_checkpoint):
    with pytest.raises(UserError, match="-k 4"):
        rescore({11: "x"}, "-k", "4")
    (tmp_path / "mbpp.jsonl").write_text('{"task_id": 11}\n')
    ended = script("mbpp", "-d", tmp_path, "-c", demo_checkpoint, "-o", tmp_path / "o")
    assert ended.status == 2 and "line 1 has no 'text'" in ended.err


def test_a_model_is_asked(script, demo_checkpoint, data_of, tmp_path):
    flags = [
        "-c",
        demo_checkpoint,
        "-d",
        data_of("mbpp"),
        "-o",
        tmp_path / "out",
        "--max-new-tokens",
        "8",
        "--limit",
        "2",
    ]
    ended = script("mbpp", *flags, "--base")
    assert ended.status == 0, ended.err
    assert (tmp_path / "out/samples.jsonl").read_text().count("\n") == 2
