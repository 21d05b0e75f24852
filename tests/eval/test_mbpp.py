"""MBPP: the prompt, what of a reply is the program, what the tests take from it, the script on given replies."""

import ast
import copy
import gzip
import json
import sys

from qwen_eval.benchmark import Item, Setting, Solution, answered
from qwen_eval.benchmarks import mbpp_plus
from qwen_eval.errors import UserError
from qwen_eval.reporting.samples import unpacked
from qwen_eval.sandbox import LEVELS, Sandbox, Verdict
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


# --- MBPP+ ---


@pytest.fixture(scope="module")
def plus_file(shared):
    return shared / "data/evalplus/MbppPlus.jsonl.gz"


@pytest.fixture(scope="module")
def plus(plus_file):
    return mbpp_plus.read_tasks(plus_file)


@pytest.fixture
def rescore_plus(monkeypatch, tmp_path, plus_file):
    def run(lines, *flags):
        (tmp_path / "replies.jsonl").write_text("\n".join(map(json.dumps, lines)), encoding="utf-8")
        out = tmp_path / "out"
        words = ["--evalplus", plus_file, "--rescore", tmp_path / "replies.jsonl", "-o", out, "--overwrite", *flags]
        monkeypatch.setattr(sys, "argv", ["evaluate_mbpp.py", *map(str, words)])
        assert evaluate_mbpp.main() == 0
        samples = [unpacked(json.loads(line)) for line in (out / "samples.jsonl").read_bytes().splitlines()]
        scores = json.loads((out / "results.json").read_text(encoding="utf-8"))["scores"]
        return scores, {sample["id"]: sample for sample in samples}, (out / "table.md").read_text(encoding="utf-8")

    return run


def solution(row):
    return row["prompt"] + row["canonical_solution"]


def with_contract(row):
    """EvalPlus's solution with the task's contract at the beginning of its function."""
    tree = ast.parse(solution(row))
    function = next(node for node in tree.body if getattr(node, "name", "") == row["entry_point"])
    contract = "def f():" + (row["contract"] or "").rstrip() + "\n"
    asserted = ast.parse(contract).body[0].body if (row["contract"] or "").strip() else []
    function.body = [*asserted, *function.body]
    return ast.unparse(tree)


def test_the_inputs_of_mbpp_plus_are_what_the_tasks_mean(plus):
    assert len(plus) == 378
    assert plus["MBPP/2"]["base_input"][0] == [(3, 4, 5, 6), (5, 7, 4, 10)]
    assert plus["MBPP/63"]["base_input"][0] == [[(3, 5), (1, 7), (10, 3), (1, 2)]]
    assert plus["MBPP/106"]["base_input"][0] == [[5, 6, 7], (9, 10)]
    assert plus["MBPP/252"]["base_input"] == [[complex("1")], [complex("4")], [complex("5")]]
    assert plus["MBPP/580"]["base_input"][0] == [(4, 5, (7, 6, (2, 4)), 6, 8)]
    assert len(plus["MBPP/255"]["plus_input"]) == 109 - mbpp_plus.LARGE_CALLS
    assert plus["MBPP/793"]["plus_input"] == []  # EvalPlus's file has none
    assert all(type(n) is int for (n,) in plus["MBPP/3"]["base_input"])
    assert mbpp_plus.arguments(115, [[[[1, 2], [], {}]]]) == [[[{1, 2}, {}, {}]]]
    assert mbpp_plus.arguments(124, [["0", "1j"]]) == [[0.0, 1j]]
    assert mbpp_plus.arguments(722, [[{"a": [6.2, 70]}, 6.0, 70]]) == [[{"a": (6.2, 70)}, 6.0, 70]]


def test_the_prompts_of_mbpp_plus_are_those_of_evalplus(plus):
    task = (
        '"""\nWrite a function to find the shared elements from the given two lists.\n'
        'assert set(similar_elements((3, 4, 5, 6),(5, 7, 4, 10))) == set((4, 5))\n"""'
    )
    assert mbpp_plus.request(plus["MBPP/2"], chat=False).prompt == task + "\n"
    asked = mbpp_plus.request(plus["MBPP/2"], chat=True)
    assert asked.prompt == (
        "Please provide a self-contained Python script that solves the following problem in a markdown code block:\n"
        f"```\n{task}\n```\n"
    )
    assert asked.assistant_prefill.endswith("passes corresponding tests:\n```python\n")


def test_what_of_an_mbpp_plus_reply_is_the_program(plus):
    row = plus["MBPP/3"]
    code = "def is_not_prime(n):\n\treturn n < 2"
    begun = row["prompt"].strip() + "\n"
    assert mbpp_plus.read_programs(row, code + "\nassert x", chat=False)[0] == begun + code.replace("\t", "    ")
    assert mbpp_plus.read_programs(row, code + '\n"""\nNext', chat=False)[0] == begun + code.replace("\t", "    ")
    assert mbpp_plus.read_programs(row, f"{code}\n```\nIt works.", chat=True)[0] == code.replace("\t", "    ")
    assert mbpp_plus.read_programs(row, f"Sure.\n```python\n{code}\n```\n", chat=True)[1].startswith("def is_not")
    assert mbpp_plus.read_programs(row, Solution("x = 1"), chat=True) == ("x = 1", "x = 1")


@pytest.mark.parametrize(
    ("number", "body", "base", "more"),
    [
        (2, "def similar_elements(a, b): return list(set(a) & set(b)) * 2", True, True),  # sets are compared
        (2, "def similar_elements(a, b): return [x for x in a if x in b] if a else None", True, False),
        (56, "def check(n): return n == 2 * int(str(n)[::-1]) - 1", True, True),  # a task that is called `check`
    ],
)
def test_results_are_compared_as_evalplus_compares_them(plus, number, body, base, more):
    row = plus[f"MBPP/{number}"]
    with Sandbox(workers=1, without=["nothing"]) as sandbox:
        found = [sandbox.check(mbpp_plus.check(row, body, kind)).passed for kind in ("base_input", "plus_input")]
    assert found == [base, more]


@pytest.mark.parametrize(
    ("name", "right", "wrong"),
    [
        ("are_equivalent", "return 'anything'", "raise ValueError"),  # EvalPlus takes every result
        ("sum_div", "return 0", "return 1"),
        ("surface_Area", "return round(a * a + 2 * a * ((a / 2) ** 2 + b * b) ** 0.5)", "return 1"),
        ("digit_distance_nums", "return abs(a - b)", "return 0"),
        ("text_match_three", "return object()", "return None"),
        ("check_str", "return True", "return False"),
        ("Diff", "return [22, 22]", "return [21]"),
    ],
)
def test_tasks_that_evalplus_judges_otherwise(name, right, wrong):
    row = {"entry_point": name, "prompt": "", "canonical_solution": f"def {name}(a, b): return [22]"}
    row["base_input"] = [[3, 4]]
    with Sandbox(workers=1, without=["nothing"]) as sandbox:
        for body, passes in ((right, True), (wrong, False)):
            verdict = sandbox.check(mbpp_plus.check(row, f"def {name}(a, b): {body}", "base_input"))
            assert verdict.passed is passes, verdict


def test_floats_are_right_within_the_tolerance_and_infinity_is_only_equal_to_itself():
    row = {"entry_point": "half", "prompt": "", "canonical_solution": "def half(n): return n / 2", "atol": 0}
    row["base_input"] = [[1.0], [3]]
    with Sandbox(workers=1, without=["nothing"]) as sandbox:

        def passes(body, **more):
            return sandbox.check(mbpp_plus.check(row | more, f"def half(n): return {body}", "base_input")).passed

        assert passes("n / 2 + 1e-9") and not passes("n / 2 + 1e-3") and passes("n / 2 + 1e-3", atol=1e-2)
        infinite = {"base_input": [[float("inf")], [1.0]]}
        assert passes("n / 2", **infinite) and not passes("min(n / 2, 9.0)", **infinite)


def test_mbpp_plus_scores_base_and_plus_and_names_its_set(rescore_plus, plus):
    only_base = "def similar_elements(a, b): return [x for x in a if x in b] if a else None"
    lines = [
        {"task_id": "Mbpp/2", "solution": only_base},
        {"task_id": "Mbpp/3", "solution": solution(plus["MBPP/3"])},
        {"task_id": "Mbpp/4", "solution": "def wrong(): pass"},
    ]
    scores, samples, table = rescore_plus(lines)
    assert scores["pass@1"]["value"] == pytest.approx(200 / 3)
    assert scores["pass@1_plus"]["value"] == pytest.approx(100 / 3)
    assert [samples[f"MBPP/{n}"]["correct_plus"] for n in (2, 3, 4)] == [False, True, False]
    assert "the file has 378 tasks: v0.2.0 of MBPP+" in table and "shares of 399" in table


def test_wrong_use_of_mbpp_plus_is_one_line(rescore_plus, tmp_path):
    lines = [{"task_id": "Mbpp/3", "solution": "x"}]
    with pytest.raises(UserError, match="leave -d out"):
        rescore_plus(lines, "-d", tmp_path)
    with pytest.raises(UserError, match="-k 3: EvalPlus asks without examples"):
        rescore_plus(lines, "-k", "3")
    row = dict.fromkeys(("task_id", "prompt", "entry_point", "canonical_solution"), "HumanEval/0")
    other = tmp_path / "HumanEvalPlus.jsonl.gz"
    other.write_bytes(gzip.compress(json.dumps({**row, "base_input": [], "plus_input": []}).encode()))
    with pytest.raises(UserError, match="'HumanEval/0' is no task of MBPP"):
        rescore_plus(lines, "--evalplus", other)
    broken = {**row, "task_id": "Mbpp/2", "base_input": [[1]], "plus_input": []}
    other.write_bytes(gzip.compress(json.dumps(broken).encode()))
    with pytest.raises(UserError, match="the inputs of Mbpp/2 are not those of MBPP"):
        rescore_plus(lines, "--evalplus", other)


def test_a_model_is_asked_mbpp_plus(script, demo_checkpoint, plus_file, tmp_path):
    flags = ["--evalplus", plus_file, "-c", demo_checkpoint, "-o", tmp_path / "out", "--max-new-tokens", "8"]
    ended = script("mbpp", *flags, "--limit", "2", "--base")
    assert ended.status == 0, ended.err
    samples = [json.loads(line) for line in (tmp_path / "out/samples.jsonl").read_text().splitlines()]
    assert {sample["id"] for sample in samples} == {"MBPP/2", "MBPP/3"}
    ended = script("mbpp", *flags[:4], "-o", tmp_path / "chat", "--max-new-tokens", "8", "--limit", "1", "--chat")
    assert ended.status == 0, ended.err


@pytest.mark.heavy
@pytest.mark.timeout(1200)
@pytest.mark.parametrize("level", LEVELS)
def test_every_solution_of_mbpp_plus_passes_its_own_tests(plus, level):
    with Sandbox(level=level) as sandbox:
        for kind in ("base_input", "plus_input"):
            found = sandbox.check_many(mbpp_plus.check(row, solution(row), kind) for row in plus.values())
            assert {name: one.message for name, one in zip(plus, found, strict=True) if not one.passed} == {}


@pytest.mark.heavy
def test_the_converted_inputs_of_mbpp_plus_keep_their_contracts(plus):
    broken = set()
    for name, row in plus.items():
        if name == "MBPP/599":  # half a minute for numbers, which are not converted
            continue
        found = {}
        exec(with_contract(row), found)
        for call in (*row["base_input"], *row["plus_input"]):
            try:
                found[row["entry_point"]](*copy.deepcopy(call))
            except AssertionError:
                broken.add(name)
    assert broken == {"MBPP/267", "MBPP/734"}  # in EvalPlus's file too
