"""More than a thousand varied, non-hostile solutions of HumanEval: right, wrong, slow, crashing, printing, odd."""

import random
import re
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

Row = dict[str, Any]


def printing(body: str) -> str:
    return "    print('x' * 10000)\n    import sys; sys.stderr.write('noise')\n" + body


def own_recursion(body: str) -> str:
    return "    import sys; sys.setrecursionlimit(5000)\n" + body


def wrapped(body: str) -> str:
    """The same answer as a subclass of its type, as an instance of a namedtuple's base, and the like."""
    inner = "".join("    " + line + "\n" for line in body.splitlines())
    return (
        "    def inner():\n" + inner + "    answer = inner()\n"
        "    if type(answer) in (int, float, str, list, tuple, dict):\n"
        "        return type('Mine', (type(answer),), {})(answer)\n    return answer\n"
    )


def threaded(body: str) -> str:
    inner = "".join("    " + line + "\n" for line in body.splitlines())
    return (
        "    import threading\n    def inner():\n" + inner + "    answers = []\n"
        "    thread = threading.Thread(target=lambda: answers.append(inner()))\n"
        "    thread.start(); thread.join()\n    return answers[0]\n"
    )


def main_block(body: str) -> str:
    return body + "\nif __name__ == '__main__':\n    raise SystemExit('never')\n"


def off_by_one(body: str) -> str:
    return re.sub(r"\b1\b", "2", body)


def other_comparison(body: str) -> str:
    return body.replace("<", ">=") if "<" in body else body.replace("==", "!=")


def crashing(body: str) -> str:
    return "    raise ValueError('no')\n" + body


def nothing(body: str) -> str:
    return "    return None\n" + body


def half(body: str) -> str:
    return body[: len(body) // 2]


def tabs(body: str) -> str:
    return body.replace("    ", "\t")


def leaves(body: str) -> str:
    return body + "\nimport sys\nsys.exit(0)\n"


def generator(body: str) -> str:
    inner = "".join("    " + line + "\n" for line in body.splitlines())
    return (
        "    def inner():\n"
        + inner
        + "    answer = inner()\n    return iter(answer) if type(answer) is list else answer\n"
    )


def deep(body: str) -> str:
    return "    def down(n): return down(n + 1)\n    down(0)\n" + body


def caught(body: str) -> str:
    return "    try:\n        {}['x']\n    except KeyError:\n        pass\n" + body


def keeps_files(body: str) -> str:
    return "    with open('scratch', 'w') as stream:\n        stream.write('x')\n" + body


RIGHT_OR_WRONG = (
    printing,
    own_recursion,
    wrapped,
    main_block,
    off_by_one,
    other_comparison,
    crashing,
    nothing,
    half,
    tabs,
    leaves,
    generator,
    deep,
    caught,
    threaded,
    keeps_files,
)
SLOW = ("    while True:\n        pass\n", "    import time; time.sleep(20)\n")


def variants(rows: Sequence[Row], samples: Mapping[str, Mapping[str, str]]) -> Iterator[tuple[Row, str]]:
    """(problem, completion), problem by problem: the canonical one, six changed ones, and three of a real model."""
    draw = random.Random(11)
    for number, row in enumerate(rows):
        body = row["canonical_solution"]
        yield row, body
        for change in draw.sample(RIGHT_OR_WRONG, 6):
            yield row, change(body)
        for completions in samples.values():
            yield row, completions[row["task_id"]]
        if number % 40 == 0:
            for slow in SLOW:
                yield row, slow + body
