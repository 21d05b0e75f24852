"""MATH: the Minerva prompt, the two readings, the normalisation, and equivalence on over 200 pairs with a limit."""

import json
import sys
import threading
import time
from fractions import Fraction

from qwen_eval.benchmark import Item, Setting, answered
from qwen_eval.errors import UserError
from qwen_eval.extraction.formulas import read_formula

import evaluate_math
import pytest
from evaluate_math import MATH, Equivalence, Equivalent, compare, extract, last_boxed, normalise, prompt


def equal(gold, answer, equivalence):
    """The robust verdict, by the formula checker where the texts do not decide."""
    found = compare(gold, answer)
    return equivalence.answer(found) if isinstance(found, Equivalent) else found


def score(reply, solution, equivalence):
    """The record of a reply."""
    item = Item("test/0", "algebra", gold=solution, row={"problem": "p", "level": "Level 1", "solution": solution})
    evaluation = MATH().evaluate(item, Setting())
    next(evaluation)
    try:
        request = evaluation.send(reply)
        evaluation.send(equivalence.answer(request))
    except StopIteration as finished:
        return finished.value
    raise AssertionError("more than a reply and a verdict was asked for")


@pytest.fixture(scope="module")
def equivalence():
    with Equivalence(seconds=1) as worker:
        yield worker


def test_prompt_ends_where_the_solution_begins():
    examples = [
        {"problem": "1+1?", "solution": "$\\boxed{2}$\nFinal Answer: The final answer is $2$. I hope it is correct."}
    ]
    assert prompt("2+2?", examples) == (
        "Problem:\n1+1?\n\nSolution:\n$\\boxed{2}$\nFinal Answer: The final answer is $2$. I hope it is correct.\n\n"
        "Problem:\n2+2?\n\nSolution:\n"
    )


@pytest.mark.parametrize(
    ("reply", "protocol", "robust"),
    [
        (
            "so\nFinal Answer: The final answer is $\\frac{1}{2}$. I hope it is correct.",
            "$\\frac{1}{2}$",
            "\\frac{1}{2}",
        ),
        ("Final Answer: The final answer is $3.5$. I hope it is correct.", "$3.5$", "3.5"),
        ("Final Answer: The final answer is $7$", None, "7"),  # cut off: the protocol wants the whole sentence
        ("we get \\boxed{\\frac{1}{\\sqrt{2}}} and stop", "\\frac{1}{\\sqrt{2}}", "\\frac{1}{\\sqrt{2}}"),
        ("first \\boxed{1}, then \\boxed{2}", "2", "2"),
        ("The answer is \\boxed{5}.", "5", "5"),
        ("The answer is: 12.", None, "12"),
        ("thus $x = 4$ is it", None, "x = 4"),
        ("\\boxed 9$", "9", "9"),
        ("an open \\boxed{1 + {2}", None, "2"),
        ("", None, None),
    ],
)
def test_extraction(reply, protocol, robust):
    assert extract(reply) == protocol
    assert read_formula(reply) == robust


@pytest.mark.parametrize(
    ("answer", "normal"),
    [
        ("x = 5", "5"),
        ("\\frac12", "\\frac{1}{2}"),
        ("\\sqrt2", "\\sqrt{2}"),
        ("1,000,000", "1000000"),
        ("(1,2)", "(1,2)"),
        ("12\\text{ cm}", "12"),
        ("90^\\circ", "90"),
        ("\\$18.90", "18.90"),
        ("\\text{east}", "east"),
        ("it is $\\frac{3}{4}$ in all", "\\frac{3}{4}"),
        ("\\boxed{7}", "7"),
        ("x \\text{ and } y", "x,y"),
        ("5 \\text{ and } 6", "56"),  # the rule for 100,000 takes the comma of a pair too
        ("\\mbox{even}", "even"),
        ("10\\%", "10\\%"),
    ],
)
def test_minerva_normalisation(answer, normal):
    assert normalise(answer) == normal


HALVES = [Fraction(n, d) for n in (1, 3, 7, 9, 11) for d in (2, 4, 5, 8)]
EQUAL = [
    *((f"\\frac{{{f.numerator}}}{{{f.denominator}}}", f"{f.numerator}/{f.denominator}") for f in HALVES),
    *((f"\\dfrac{{{f.numerator}}}{{{f.denominator}}}", str(float(f))) for f in HALVES),
    *(
        (f"-\\frac{{{f.numerator}}}{{{f.denominator}}}", f"\\frac{{-{f.numerator}}}{{{f.denominator}}}")
        for f in HALVES[:10]
    ),
    *((str(n), f"{n}.0") for n in (2, 13, 144, 1000)),
    *((f"{n:,}", str(n)) for n in (1234, 20800, 1234567)),
    *((f"{n}\\sqrt{{2}}", f"\\sqrt{{{2 * n * n}}}") for n in range(2, 8)),
    *((f"x^2 + {n}x", f"x(x + {n})") for n in range(1, 7)),
    *((f"({n}, {n + 1})", f"\\left({n},{n + 1}\\right)") for n in range(1, 5)),
    *((f"[{n},{n + 3})", f"\\left[{n}, {n + 3}\\right)") for n in range(1, 4)),
    ("\\{1,2,3\\}", "\\{3, 2, 1\\}"),
    ("2^{10}", "1024"),
    ("\\frac{\\sqrt{2}}{2}", "\\frac{1}{\\sqrt{2}}"),
    ("\\pi", "\\pi"),
    ("2\\pi r", "2 r \\pi"),
    ("\\frac{\\pi}{4}", "\\pi/4"),
    ("10\\%", "10\\%"),
    ("5", "x = 5"),
    ("y = 2x + 3", "y=3+2x"),
    ("(x+1)(x-1)", "x^2-1"),
    ("3!", "6"),
    ("\\sin(\\pi/6)", "\\frac12"),
    ("4\\sqrt{3}", "4 \\sqrt{3}"),
    ("\\frac{3}{4}", "$\\frac{3}{4}$."),
    ("1 + 2i", "2i + 1"),
    ("-\\infty", "-\\infty"),
    ("(-\\infty, 2)\\cup(3,\\infty)", "(-\\infty,2) \\cup (3, \\infty)"),
    ("\\begin{pmatrix} 1 & 2 \\\\ 3 & 4 \\end{pmatrix}", "\\begin{pmatrix}1&2\\\\3&4\\end{pmatrix}"),
    ("e^{2}", "e \\cdot e"),
    ("\\log_2 8", "3"),
]
UNEQUAL = [
    *((f"\\frac{{{f.numerator}}}{{{f.denominator}}}", f"{f.denominator}/{f.numerator}") for f in HALVES),
    *((f"\\frac{{{f.numerator}}}{{{f.denominator}}}", f"-{f.numerator}/{f.denominator}") for f in HALVES),
    *((str(n), str(n + 1)) for n in range(0, 300, 20)),
    *((f"\\frac{{{f.numerator}}}{{{f.denominator}}}", str(float(f) + 0.01)) for f in HALVES),
    *((f"{n}\\sqrt{{2}}", f"\\sqrt{{{2 * n}}}") for n in range(2, 8)),
    *((f"x^2 + {n}x", f"x^2 - {n}x") for n in range(1, 6)),
    *((f"({n}, {n + 1})", f"({n + 1}, {n})") for n in range(1, 6)),
    *((f"[{n},{n + 3})", f"({n}, {n + 3}]") for n in range(1, 4)),
    ("\\{1,2,3\\}", "\\{1,2\\}"),
    ("\\sqrt{2}", "\\sqrt{3}"),
    ("2^{10}", "2^{11}"),
    ("\\pi", "3.14"),
    ("1 + 2i", "1 - 2i"),
    ("10\\sqrt{5}", "5\\sqrt{10}"),
    ("(-\\infty, 2)", "(-\\infty, 3)"),
    ("y = 2x + 3", "y = 3x + 2"),
    ("\\begin{pmatrix} 1 & 2 \\end{pmatrix}", "\\begin{pmatrix} 2 & 1 \\end{pmatrix}"),
]
UNPARSABLE = [
    ("3", broken)
    for broken in (
        "", " ", "\\frac{}{", "\\frac{1}{", "}}}}", "{{{{", "((((", "\\", "$$", "\\begin{pmatrix}", "\\text{none}",
        "\\sqrt{", "=", "\\left(", "no solution", "\\undefined{x}{y}", "\x00", "\ud800", "[" * 2000,
        "\\frac" * 500, "解なし", "???",
    )
]  # fmt: skip


def test_equivalence_on_at_least_200_pairs(equivalence):
    assert len({*EQUAL, *UNEQUAL, *UNPARSABLE}) >= 200
    said = {pair: equivalence.equal(*pair) for pair in EQUAL + UNEQUAL + UNPARSABLE}
    assert [pair for pair in EQUAL if said[pair] is not True] == []
    assert [pair for pair in UNEQUAL if said[pair] is not False] == []
    assert [pair for pair in UNPARSABLE if said[pair] not in (False, None)] == []


def test_an_endless_comparison_ends_and_the_next_one_works(equivalence):
    start = time.monotonic()
    assert equivalence.equal("3", "9^{9^{9^9}}") is None
    assert time.monotonic() - start < 60
    assert equivalence.equal("1/2", "0.5") is True


def test_the_limit_works_in_a_thread():
    found = []

    def compare():
        with Equivalence(seconds=1) as worker:
            found.extend([worker.equal("2", "2^{100000000000}"), worker.equal("2", "\\frac{4}{2}")])

    thread = threading.Thread(target=compare)
    thread.start()
    thread.join(120)
    assert found == [None, True]


def test_score_holds_both_verdicts(equivalence):
    solution = "Hence $\\boxed{\\frac{1}{2}}$."
    exact = score("Final Answer: The final answer is $\\frac12$. I hope it is correct.", solution, equivalence)
    assert (exact["prediction"], exact["gold"], exact["correct"], exact["correct_robust"]) == (
        "\\frac{1}{2}",
        "\\frac{1}{2}",
        True,
        True,
    )
    decimal = score("Final Answer: The final answer is $0.5$. I hope it is correct.", solution, equivalence)
    assert (decimal["correct"], decimal["correct_robust"]) == (False, True)
    nothing = score("", solution, equivalence)
    assert (nothing["prediction"], nothing["correct"], nothing["correct_robust"]) == (None, False, False)


@pytest.mark.parametrize(
    ("gold", "answer", "same"),
    [
        ("y = 2", "x = 2", False),
        ("y = 2", "2", True),
        ("2", "y = 2", True),
        ("5x - 7y + 11z + 4 = 0", "x + y + z = 0", False),
        ("5x - 7y + 11z + 4 = 0", "0", False),
        ("5x - 7y + 11z + 4 = 0", "10x - 14y + 22z + 8 = 0", True),
        ("y = 2x + 3", "2x + 3", True),
        ("y = 2x + 3", "y = 3", False),
        ("\\$5", "5 cents", False),
        ("\\$5", "500\\text{ cents}", True),
        ("\\$5", "5\\text{ dollars}", True),
        ("\\$5", "5", True),
        ("5.4 \\text{ cents}", "\\$5.4", False),
        ("5.4 \\text{ cents}", "\\$0.054", True),
        ("12\\text{ cm}", "12\\text{ inches}", False),
        ("12\\text{ cm}", "12 centimeters", True),
        ("12", "12\\text{ ways}", True),
        ("\\frac{1}{2}", "0.5", True),
        ("\\text{even}", "even", True),
        ("\\text{(C)}", "C", True),
    ],
)
def test_equations_and_units_are_compared_as_such(gold, answer, same, equivalence):
    assert equal(gold, answer, equivalence) is same


def test_every_reference_has_an_answer_that_equals_itself(shared):
    lines = (shared / "data/math/test.jsonl").read_text(encoding="utf-8").split("\n")
    answers = [last_boxed(json.loads(line)["solution"]) for line in lines if line]
    assert len(answers) == 5000
    assert [a for a in answers if not a or not normalise(a)] == []
    lines = (shared / "data/math/math500.jsonl").read_text(encoding="utf-8").split("\n")
    rows = [json.loads(line) for line in lines if line]
    assert [row["unique_id"] for row in rows if last_boxed(row["solution"]) != row["answer"]] == []


@pytest.fixture
def rescore(monkeypatch, tmp_path):
    """Run the script on replies by id; returns results.json and table.csv."""

    def run(data, replies, *flags):
        lines = [json.dumps({"id": name, "response": reply}) for name, reply in replies.items()]
        (tmp_path / "replies.jsonl").write_text("\n".join(lines), encoding="utf-8")
        out = tmp_path / "out"
        words = ["-d", data, "--rescore", tmp_path / "replies.jsonl", "-o", out, "--overwrite", *flags]
        monkeypatch.setattr(sys, "argv", ["evaluate_math.py", *map(str, words)])
        assert evaluate_math.main() == 0
        table = (out / "table.csv").read_text(encoding="utf-8")
        return json.loads((out / "results.json").read_text(encoding="utf-8")), table

    return run


def test_the_reference_solutions_score_full_marks_through_the_script(shared, rescore):
    lines = (shared / "data/math/test.jsonl").read_text(encoding="utf-8").split("\n")
    rows = [json.loads(line) for line in lines if line]
    results, table = rescore(shared / "data/math", {f"test/{n}": row["solution"] for n, row in enumerate(rows)})
    assert (results["scores"]["acc"]["value"], results["scores"]["acc_robust"]["value"]) == (100, 100)
    assert results["scores"]["acc"]["n"] == 5000
    assert "by subject,counting_and_probability,100.0," in table and "by level,5,100.0," in table


def test_the_official_tree_of_files(rescore, tmp_path):
    for subject, number, answer in (("algebra", 2, "5"), ("algebra", 10, "\\frac{1}{2}"), ("geometry", 1, "\\pi")):
        file = tmp_path / "MATH" / "test" / subject / f"{number}.json"
        file.parent.mkdir(parents=True, exist_ok=True)
        row = {"problem": "?", "level": "Level 2", "type": subject.title(), "solution": f"It is $\\boxed{{{answer}}}$."}
        file.write_text(json.dumps(row), encoding="utf-8")
    replies = {
        "algebra/2": "\\boxed{5}",
        "algebra/10": "\\boxed{0.5}",
        "geometry/1": "\\boxed{3.14}\n\nProblem:\n\\boxed{\\pi}",
    }
    results, table = rescore(tmp_path / "MATH", replies, "-k", "0")
    assert results["scores"]["acc"]["value"] == pytest.approx(100 / 3)
    assert results["scores"]["acc_robust"]["value"] == pytest.approx(200 / 3)
    assert (tmp_path / "out/disagreements.txt").read_text() == "algebra/10\n"
    assert "by subject,geometry,0.0," in table
    with pytest.raises(UserError, match="no worked examples"):
        rescore(tmp_path / "MATH", replies, "--shots-file", str(tmp_path / "none.json"))


def test_an_item_is_scored_from_a_list_of_answers():
    row = {"problem": "2+2?", "level": "Level 3", "solution": "It is \\boxed{4}."}
    item = Item("test/0", "algebra", gold=row["solution"], row=row)

    def record(*answers):
        return answered(MATH().evaluate(item, Setting()), *answers)

    right = record("Final Answer: The final answer is $4$. I hope it is correct.")  # the same text: nobody is asked
    assert (right["prediction"], right["correct"], right["correct_robust"], right["level"]) == ("4", True, True, "3")
    other = record("Final Answer: The final answer is $8/2$. I hope it is correct.", True)
    assert (other["correct"], other["correct_robust"]) == (False, True)
    late = record("Final Answer: The final answer is $9^{9^9}$. I hope it is correct.", None)
    assert (late["correct_robust"], late["timed_out"]) == (False, True)
