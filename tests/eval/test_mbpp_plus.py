"""MBPP+: EvalPlus's inputs, prompts and judgements, the script on given replies, every solution of its file."""

import ast
import copy
import gzip
import json
import sys

from qwen_eval.benchmark import Solution
from qwen_eval.benchmarks import mbpp_plus
from qwen_eval.errors import UserError
from qwen_eval.reporting.samples import unpacked
from qwen_eval.sandbox import LEVELS, Sandbox

import evaluate_mbpp
import pytest


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
    assert len(plus["MBPP/255"]["plus_input"]) == 104 and plus["MBPP/255"]["too_large"] == 5
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
    assert "5 inputs of MBPP/255 are left out" in table
    assert len(mbpp_plus.version_notes({"MBPP/2": plus["MBPP/2"]})) == 1  # nothing is left out of this one


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
