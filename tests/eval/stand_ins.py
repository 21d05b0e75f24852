"""Data of our own in the layout of the real ones, for the tests that name a row but do not live by its published text:
the demo's rows, and behind the ids that the recorded replies are to, questions of our own with the same answers."""

import json
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any

from tests.eval import agent_tasks

DEMO = Path(__file__).resolve().parents[2] / "demo/data"
Row = dict[str, Any]


def _read(path: Path) -> list[Row]:
    return [json.loads(line) for line in path.read_text(encoding="utf-8").split("\n") if line]


def _write(path: Path, rows: Iterable[Row]) -> None:
    path.write_text("".join(json.dumps(row) + "\n" for row in rows), encoding="utf-8")


def gsm8k(folder: Path) -> None:
    """test/2 has the answer 70000."""
    rows = _read(DEMO / "gsm8k/test.jsonl")
    steps = "He paid 90,000 + 40,000 = 130,000.\nThe boat brought 200,000 - 130,000 = 70,000.\n#### 70000"
    asked = "Pemo buys a boat for $90,000, spends $40,000 on an engine and sells it for $200,000. What is his profit?"
    rows[2] = {"question": asked, "answer": steps}
    _write(folder / "test.jsonl", rows)


def math(folder: Path) -> None:
    """test/0 has the answer 2, test/4850 the equation of a plane."""

    def row(problem: str, answer: str) -> Row:
        return {"problem": problem, "solution": f"It is $\\boxed{{{answer}}}$.", "level": "Level 2", "type": "Algebra"}

    rows = [row(f"What is ${number} + 1$?", str(number + 1)) for number in range(4851)]
    rows[0] = row("How many real numbers $x$ are there with $x^2 + x = 6$?", "2")
    rows[4850] = row("Which plane is at a right angle to $(5, -7, 11)$ and holds $(2, 2, 0)$?", "5x - 7y + 11z + 4 = 0")
    _write(folder / "test.jsonl", rows)


OPTIONS = "Options:\n(A) 12/23/1937\n(B) 12/25/1937\n(C) 12/25/1938\n(D) 11/25/1937"
BBH = {
    "date_understanding": [(f"Yesterday was 12/24/1937. Which day is today, in MM/DD/YYYY?\n{OPTIONS}", "(B)")],
    "object_counting": [("I have three goats, a lamp, and five hens. How many animals do I have?", "8")],
    "multistep_arithmetic_two": [("(1 + 1) =", "2"), ("(2 - 5) =", "-3"), ("(4 * -10 - (3 + 7)) =", "-50")],
}


def bbh(folder: Path) -> None:
    """Three tasks: date_understanding/0 is (B), object_counting/0 is 8, multistep_arithmetic_two/2 is -50."""
    for part in ("bbh", "cot-prompts"):
        (folder / part).mkdir()
    for task, rows in BBH.items():
        examples = [{"input": asked, "target": target} for asked, target in rows]
        (folder / f"bbh/{task}.json").write_text(json.dumps({"examples": examples}), encoding="utf-8")
        shot = "Q: 1 + 2 is\nA: Let's think step by step.\nThat is 3. So the answer is 3.\n"
        (folder / f"cot-prompts/{task}.txt").write_text(f"No canary.\n-----\nAnswer.\n\n{shot}", encoding="utf-8")


CUT_BOTH = """def remove_Occ(s, ch):
    if ch in s:
        s = s.replace(ch, "", 1)
    before, found, after = s.rpartition(ch)
    return before + after if found else s"""
TREE = """class Node:
    def __init__(self, data):
        self.data, self.left, self.right = data, None, None


def is_tree_balanced(node):
    def height(node):
        return 1 + max(height(node.left), height(node.right)) if node else 0

    if not node:
        return True
    level = abs(height(node.left) - height(node.right)) < 2
    return level and is_tree_balanced(node.left) and is_tree_balanced(node.right)"""
CHAIN = """class Pair:
    def __init__(self, a, b):
        self.a, self.b = a, b


def max_chain_length(pairs, count):
    length, end = 0, float("-inf")
    for pair in sorted(pairs[:count], key=lambda pair: pair.b):
        if pair.a > end:
            length, end = length + 1, pair.b
    return length"""
# By number: the task, the reference, the tests, what stands before them. The recorded replies are to 11; the others are
# special by their tests: a built-in's name (126), classes (367, 601), a module (596), a call of a built-in (912).
MBPP = {
    11: (
        "Write a function that takes the first and the last of a letter out of a text.",
        CUT_BOTH,
        [
            'assert remove_Occ("banana", "a") == "bnan"',
            'assert remove_Occ("noon", "o") == "nn"',
            'assert remove_Occ("cat", "a") == "ct"',
            'assert remove_Occ("dog", "x") == "dog"',
        ],
        "",
    ),
    126: (
        "Write a function to add two numbers.",
        "def sum(a, b):\n    return a + b",
        ["assert sum(6, 0) == 6", "assert sum(100, -7) == 93", "assert sum(2, 1) == 3"],
        "",
    ),
    367: (
        "Write a function that says whether a tree is balanced.",
        TREE,
        ["assert is_tree_balanced(flat)", "assert not is_tree_balanced(deep)", "assert is_tree_balanced(None)"],
        "flat, deep = Node(1), Node(1)\nflat.left, flat.right = Node(2), Node(3)\n"
        "deep.left = Node(2)\ndeep.left.left = Node(3)",
    ),
    596: (
        "Write a function to get the bytes that a tuple takes.",
        "import sys\n\n\ndef tuple_size(value):\n    return sys.getsizeof(value)",
        [f"assert tuple_size({value}) == sys.getsizeof({value})" for value in ("(1, 2)", "()", "('a', ('b',))")],
        "",
    ),
    601: (
        "Write a function to find how many of the first pairs can follow each other.",
        CHAIN,
        [
            "assert max_chain_length([Pair(1, 2), Pair(2, 3), Pair(4, 6)], 3) == 2",
            "assert max_chain_length([Pair(7, 9), Pair(1, 3), Pair(4, 5)], 3) == 3",
            "assert max_chain_length([Pair(1, 9), Pair(2, 8)], 2) == 1",
        ],
        "",
    ),
    912: (
        "Write a function to count the ways in which n + m brackets open and n - m close, never too early.",
        "from math import comb\n\n\ndef lobb_num(n, m):\n    return (2 * m + 1) * comb(2 * n, m + n) / (m + n + 1)",
        ["assert int(lobb_num(3, 1)) == 9", "assert int(lobb_num(2, 0)) == 2", "assert int(lobb_num(2, 2)) == 1"],
        "",
    ),
}


def mbpp(folder: Path) -> None:
    """The demo's tasks and those of MBPP, with the line ends of the published file."""
    rows = {row["task_id"]: row for row in _read(DEMO / "mbpp/mbpp.jsonl")}
    for number, (text, code, tests, before) in MBPP.items():
        rows[number] = {"task_id": number, "text": text, "code": code, "test_list": tests, "test_setup_code": before}
    for row in rows.values():
        row |= {name: row[name].replace("\n", "\r\n") for name in ("code", "test_setup_code")}
    _write(folder / "mbpp.jsonl", rows.values())


WRITERS: dict[str, Callable[[Path], None]] = {write.__name__: write for write in (gsm8k, math, bbh, mbpp)}
WRITERS["hf_agent"] = agent_tasks.write


def write(benchmark: str, folder: Path) -> Path:
    """The stand-in of a benchmark's data in a folder of its own below `folder`, or the demo's as it is."""
    place = folder / benchmark
    if benchmark in WRITERS:
        place.mkdir(parents=True)
        WRITERS[benchmark](place)
        return place
    return DEMO / benchmark
