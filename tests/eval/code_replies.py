"""A task of HumanEval's and one of MBPP's kind, and the ways in which models write their programs down."""

import html
import textwrap
from collections.abc import Callable
from typing import Any

F = "```"
PROBLEM: dict[str, Any] = {
    "task_id": "HumanEval/0",
    "prompt": 'from typing import List\n\n\ndef total(values: List[int], start: int) -> int:\n    """Their sum.\n'
    '    >>> total([1, 2], 3)\n    6\n    """\n',
    "entry_point": "total",
    "canonical_solution": "    for value in values:\n        start += value\n    return start\n",
    "test": "def check(candidate):\n    assert candidate([1, 2], 3) == 6\n    assert candidate([], 0) == 0\n",
}
TASK: dict[str, Any] = {
    "task_id": 11,
    "text": "Write a function to sum numbers.",
    "code": "def total(values, start):\n    return sum(values) + start\n",
    "test_list": ["assert total([1, 2], 3) == 6", "assert total([], 0) == 0", "assert total([5], 0) == 5"],
    "test_setup_code": "",
    "challenge_test_list": [],
}

# Right programs. The first is one function; what the others need stands in several statements.
FUNCTION = "def total(values, start):\n    for value in values:\n        start += value\n\n    return start"
PROGRAMS = {
    "function": FUNCTION,
    "helper": "def add(a, b):\n    return a + b\n\n\ndef total(values, start):\n    for value in values:\n"
    "        start = add(start, value)\n    return start",
    "helper behind": "def total(values, start):\n    return plus(values) + start\n\ndef plus(values):\n"
    "    return sum(values)",
    "lambda": "total = lambda values, start: sum(values) + start",
    "annotated": "from typing import Callable\ntotal: Callable = lambda values, start: sum(values) + start",
    "alias": "def _sum(values, start):\n    return sum(values, start)\n\ntotal = _sum",
    "import": "from builtins import sum as total",
    "decorator": "import functools\n\ndef same(function):\n    @functools.wraps(function)\n    def inner(*args):\n"
    "        return function(*args)\n    return inner\n\n@same\ndef total(values, start):\n"
    "    return sum(values, start)",
    "decorated later": "import functools\n\ndef total(values, start):\n    return sum(values, start)\n\n"
    "total = functools.wraps(total)(total)",
    "callable class": "class Total:\n    def __call__(self, values, start):\n        return sum(values, start)\n\n"
    "total = Total()",
    "class": "class total(int):\n    def __new__(cls, values, start):\n"
    "        return int.__new__(cls, sum(values) + start)",
    "table": "TABLE = []\nfor number in range(5):\n    TABLE.append(number)\nTABLE[0] = 0\n\n"
    "def total(values, start):\n    return sum(values) + start + TABLE[0]",
    "filled": "TABLE = [0] * 3\n\ndef fill():\n    for number in range(3):\n        TABLE[number] = number\n\n"
    "fill()\n\n"
    "def total(values, start):\n    return sum(values) + start + TABLE[2] - 2",
    "global": "CALLS = None\n\ndef reset():\n    global CALLS\n    CALLS = 0\n\nreset()\n\n"
    "def total(values, start):\n    return sum(values) + start + CALLS",
    "attribute": "def total(values, start):\n    return sum(values) + start + total.zero\n\ntotal.zero = 0",
    "fallback": "try:\n    from numbers_of_mine import total\nexcept ImportError:\n    def total(values, start):\n"
    "        return sum(values, start)",
    "condition": "import sys\nif sys.version_info > (3,):\n    plus = sum\nelse:\n    plus = None\n\n"
    "def total(values, start):\n    return plus(values, start)",
    "star": "from operator import *\n\ndef total(values, start):\n    for value in values:\n"
    "        start = add(start, value)\n"
    "    return start",
    "recursion": "import sys\nsys.setrecursionlimit(4000)\n\ndef down(n):\n    return n and down(n - 1)\n\n"
    "def total(values, start):\n    return sum(values) + start + down(2500)",
    "future": '"""Sums."""\n\nfrom __future__ import annotations\n\ndef total(values: Unknown, start) -> Unknown:\n'
    "    return sum(values, start)",
    "fence inside": 'def total(values, start):\n    """Adds.\n\n    ```\n    total([1], 2)\n    ```\n    """\n'
    "    return sum(values, start)",
    "odd text": "LINES = '''\ndef total():\n# no\n'''\n\ndef total(values, start):\n"
    "    s = 'it\\'s \"\"\" ```'  # don't\n"
    "    return sum(values, start) + len(LINES) * 0",
    "one line": "import operator; from functools import reduce; total = lambda v, s: reduce(operator.add, v, s)",
    "async helper": "import asyncio\n\nasync def later(values, start):\n    return sum(values, start)\n\n"
    "def total(values, start):\n    return asyncio.new_event_loop().run_until_complete(later(values, start))",
    "comment": "def total(values, start):\n    for value in values:\n# add it\n        start += value\n"
    "#and out\n    return start",
    "redefined": "def total(values, start):\n    pass\n\n\ndef total(values, start):\n    return sum(values, start)",
}


def quoted(text: str, mark: str = "> ") -> str:
    return "".join(f"{mark}{line}\n" for line in text.split("\n"))


def session(code: str) -> str:
    lines = [("... " if line[:1] in ("", " ", "#") else ">>> ") + line for line in code.split("\n")]
    return "\n".join([*lines, ">>> total([1], 2)", "3"])


FRAMES: dict[str, Callable[[str], str]] = {
    "plain": lambda c: f"Here is it:\n\n{F}python\n{c}\n{F}\n\nIt adds. That's all.",
    "no language": lambda c: f"{F}\n{c}\n{F}",
    "python3": lambda c: f"{F}Python3  \n{c}\n{F}  \n",
    "space before the word": lambda c: f"{F} python\n{c}\n{F}",
    "attributes": lambda c: f"{F}python {{.numberLines startFrom=1}}\n{c}\n{F}",
    "attributes only": lambda c: f"{F}{{.python}}\n{c}\n{F}",
    "title": lambda c: f'{F}python title="total = 1.py" hl_lines="1 2"\n{c}\n{F}',
    "braces": lambda c: f"{F}py{{1,3-5}}\n{c}\n{F}",
    "tildes": lambda c: f"~~~python\n{c}\n~~~\nDone.",
    "longer fence": lambda c: f"{F}``python\n{c}\n{F}``\nDone.",
    "closed at the end of a line": lambda c: f"So:\n{F}python\n{c}{F}\nDone, isn't it?",
    "closed with text": lambda c: f"{F}python\n{c}\n{F} This adds.",
    "never closed": lambda c: f"So:\n{F}python\n{c}",
    "never closed, prose": lambda c: f"{F}python\n{c}\n\nThis is all that's needed.",
    "never opened": lambda c: f"{c}\n{F}\nThis is all that's needed.",
    "closed by the next": lambda c: f"{F}python\n{c}\n{F}python\nprint(total())\n{F}",
    "opened behind text": lambda c: f"The program: {F}python\n{c}\n{F}",
    "opened behind quoted words": lambda c: f"The function `total`: {F}python\n{c}\n{F}",
    "code on the fence's line": lambda c: f"{F}{c}\n{F}",
    "code behind the word": lambda c: f"{F}python {c}\n{F}",
    "in a list": lambda c: "1. Think.\n2. So:\n\n" + textwrap.indent(f"{F}python\n{c}\n{F}", "   ") + "\n3. Done.",
    "behind a bullet": lambda c: "- " + textwrap.indent(f"{F}python\n{c}\n{F}", "  ")[2:] + "\n- Done.",
    "in a list, code at the margin": lambda c: f"1. So:\n   {F}python\n{c}\n   {F}",
    "tabs before": lambda c: textwrap.indent(f"{F}python\n{c}\n{F}", "\t"),
    "quoted": lambda c: quoted(f"So:\n\n{F}python\n{c}\n{F}") + "\nDone.",
    "quoted twice": lambda c: quoted(f"{F}\n{c}\n{F}", "> > "),
    "quoted without spaces": lambda c: quoted(f"{F}\n{c}\n{F}", ">"),
    "quoted without a fence": lambda c: quoted(c),
    "session": lambda c: f"{F}\n{session(c)}\n{F}",
    "no fence": lambda c: f"Here is the function:\n\n{c}\n\nHope it helps.",
    "nothing but code": lambda c: c,
    "headings": lambda c: f"### Response:\n{c}\n\n### Explanation:\nIt isn't hard.",
    "indented": lambda c: "So:\n\n" + textwrap.indent(c, "    ") + "\n\nThis works, doesn't it?",
    "all indented": lambda c: textwrap.indent(c, "  "),
    "a blank before": lambda c: " " + c,
    "code tag": lambda c: f"<code>{c}</code>",
    "pre and code tags": lambda c: f'Sure.\n<pre><code class="python">\n{c}\n</code></pre>\nDone.',
    "PYTHON tag": lambda c: f"[PYTHON]\n{c}\n[/PYTHON]\n[TESTS]\nno\n[/TESTS]",
    "answer tag": lambda c: f"<answer>\n{F}python\n{c}\n{F}\n</answer>",
    "LaTeX": lambda c: f"\\begin{{lstlisting}}[language=Python]\n{c}\n\\end{{lstlisting}}",
    "BEGIN": lambda c: f"[BEGIN]\n{c}\n",
    "BEGIN on the line": lambda c: f"[BEGIN] {c}\n",
    "BEGIN around a fence": lambda c: f"[BEGIN]\n{F}python\n{c}\n{F}\n",
    "BEGIN in a fence": lambda c: f"{F}python\n[BEGIN]\n{c}\n{F}",
    "the word alone": lambda c: f"python\n{c}",
    "copied from a page": lambda c: f"python\nCopy code\n{c}\n",
    "thoughts": lambda c: (
        f"<think>\nMaybe\n{F}python\ndef total(values, start):\n    return 0\n{F}\n</think>\n{F}\n{c}\n{F}"
    ),
    "thoughts begun in the prompt": lambda c: f"def total(v, s):\n    return 0\nNo.\n</think>\n\n{F}\n{c}\n{F}",
    "only thoughts": lambda c: f"<think>\n{F}python\n{c}\n{F}\n</think>\n",
    "turns": lambda c: f"<|im_start|>assistant\n{F}python\n{c}\n{F}<|im_end|>\n<|im_start|>user\n",
    "end of a sequence": lambda c: f"{c}</s>def total(): pass",
    "installation first": lambda c: f"{F}bash\npip install numpy\n{F}\n{F}python\n{c}\n{F}",
    "stub first": lambda c: f'{F}\ndef total(values, start):\n    """Todo"""\n    ...\n{F}\n{F}\n{c}\n{F}',
    "usage behind": lambda c: f"{F}python\n{c}\n{F}\nUsage:\n{F}python\nprint(total(1))\n{F}\nOutput:\n{F}\n1\n{F}",
    "another behind": lambda c: f"{F}\n{c}\n{F}\nOr:\n{F}\ndef total(values, start):\n    return start\n{F}",
    "typographic quotes": lambda c: f"Here’s the “code”:\n\n{c}\n\nThat’s “it”.",
    "thoughts of other makers": lambda c: (
        f"<|begin_of_thought|>\n{F}\ndef total(v, s):\n    return 0\n{F}\n"
        f"<|end_of_thought|>\n\n<|begin_of_solution|>\n{F}\n{c}\n{F}\n<|end_of_solution|>"
    ),
    "channels": lambda c: (
        f"<|channel|>analysis<|message|>\n{F}\ndef total(v, s):\n    return 0\n{F}\n<|end|>"
        f"<|start|>assistant<|channel|>final<|message|>{F}python\n{c}\n{F}"
    ),
    "broken first": lambda c: (
        f"{F}\ndef total(values, start):\n    x = 0\n    if x\n    return 0\n{F}\nAgain:\n{F}\n{c}\n{F}"
    ),
    "echo of the prompt": lambda c: f"Write a Python function `total(values, start)`:\n{PROBLEM['prompt']}\n\n{c}",
    "cells": lambda c: f"{F}\n!pip install numpy\n%matplotlib inline\n\n{c}\n{F}",
    "quotation marks for fences": lambda c: f"'''python\n{c}\n'''\nDone.",
    "numbered lines": lambda c: "".join(f"{n:3} {line}\n" for n, line in enumerate(c.split("\n"), 1)),
    "escaped for a page": lambda c: f"<pre><code>\n{html.escape(c)}\n</code></pre>",
    "escaped line ends": lambda c: f"{F}python\n{c}\n{F}".replace("\n", "\\n").replace('"', '\\"'),
    "a byte order mark inside": lambda c: f"{F}\n\ufeff{c}\n{F}",
    "no-break spaces": lambda c: f"{F}\n{c}\n{F}".replace("    ", "\u00a0\u00a0\u00a0\u00a0"),
    "two backticks": lambda c: f"The function:\n``\n{c}\n``",
    "line separators": lambda c: f"So:\n{F}python\n{c}\n{F}".replace("\n", "\u2028"),
}

# What stands behind a program at its own level.
TAILS = {
    "nothing": "",
    "prose": "\n\nHuman: next",
    "missing package": "\n\nimport pytest_of_mine\n",
    "missing module": "\n\nfrom mymodule import z\n",
    "missing stars": "\n\nfrom mymodule import *\n",
    "input": "\n\nx = int(input())\n",
    "input and use": "\n\nn = input()\nprint(total([int(n)], 0))\n",
    "loop with input": "\n\nfor i in range(3):\n    n = int(input())\n",
    "failing assertion": "\n\nassert total([1], 1) == 3\n",
    "failing example": "\n\nprint(total())\n",
    "main": "\n\nif __name__ == '__main__':\n    import sys\n    main(sys.argv)\n",
    "main called": "\n\ndef main():\n    print(1 / 0)\n\nmain()\n",
    "unit tests": "\n\nimport unittest\n\nclass Test(unittest.TestCase):\n    def test(self):\n        total()\n\n"
    "unittest.main()\n",
    "check": "\n\ndef check(candidate):\n    assert candidate() == 1\n\ncheck(total)\n",
    "exit": "\n\nimport sys\nsys.exit()\n",
    "raise": "\n\nraise SystemExit\n",
    "a bare call": "\n\ntotal(1)\n",
    "a result": "\n\nresult = total()\n",
    "a result of the same name": "\n\ntotal = total([1], 2)\nprint(total)\n",
    "comment": "\n# that is all\n",
    "open bracket": "\n\nprint(",
    "open text": '\n\n"""\nIt is',
    "list": "\n\n1. It adds.\n2. It returns.\n",
    "session": "\n\n>>> total([1], 2)\n3\n",
    "shell": "\n\n$ python total.py\n",
    "return": "\n\nreturn 5\n",
    "await": "\n\nawait total()\n",
    "file": "\n\nwith open('numbers.txt') as lines:\n    text = lines.read()\n",
    "decorated": "\n\n@app.route('/')\ndef index():\n    pass\n",
    "class": "\n\nclass Unused(Missing):\n    total = total()\n",
    "heading": "\n\n### Instruction:\nNext.",
    "closing tag": "\n</code>\n",
    "next task": "\n\nYou are an expert Python programmer, and here is your task:\n[BEGIN]\ndef other():\n    pass\n",
}
ENDLESS = {
    "endless": "\n\nwhile True:\n    pass\n",
    "menu": "\n\nwhile True:\n    choice = 1\n    total([choice], 1)\n",
}

# What goes on from the prompt.
BODY = "    for value in values:\n        start += value\n\n    return start"
BODIES = {
    "as it is": BODY,
    "at the margin": textwrap.dedent(BODY),
    "first line at the margin": BODY.lstrip(),
    "deeper": textwrap.indent(BODY, "  "),
    "tabs": BODY.replace("    ", "\t"),
    "fenced": f"{F}python\n{BODY}\n{F}",
    "fenced, at the margin": f"The body:\n{F}\n{textwrap.dedent(BODY)}\n{F}\nDone.",
    "behind prose": f"The body of the function isn't long:\n\n{BODY}",
    "comments at the margin": "    for value in values:\n# add\n        start += value\n# done\n    return start",
    "a function inside": "    def plus(a, b):\n        return a + b\n\n    for v in values:\n"
    "        start = plus(v, start)\n\n"
    "    return start",
    "helper behind": "    return plus(values) + start\n\n\ndef plus(values):\n    return sum(values)",
    "import behind": "    return reduce(lambda a, b: a + b, values, start)\n\n\nfrom functools import reduce",
    "written again": "    return sum(values) + start\n\n\ndef total(values, start):\n    return None",
    "a generator inside": "    return sum(v for v in values) + start<|endoftext|>def x",
}

# The function, and what it needs, in several places.
REPLIES = {
    "helper in a block before": f"First:\n{F}\ndef plus(v):\n    return sum(v)\n{F}\nThen:\n{F}\n"
    f"def total(values, start):\n    return plus(values) + start\n{F}",
    "helper in a block behind": f"{F}\ndef total(values, start):\n    return plus(values) + start\n{F}\nwith\n{F}\n"
    f"def plus(v):\n    return sum(v)\n{F}",
    "import in a block of its own": f"{F}\nimport operator\nfrom functools import reduce as fold\n{F}\nand\n{F}\n"
    f"def total(values, start):\n    return fold(operator.add, values, start)\n{F}",
    "decorator in another block": f"{F}\ndef total(values, start):\n    return sum(values, start)\n{F}\n"
    f"{F}\ndef unused():\n    pass\n{F}",
    "a constant between": f"{F}\ndef total(values, start):\n    return sum(values) + start * ONE\n{F}\n"
    f"Of course\n\nONE = 1\n",
    "helper twice": f"{F}\ndef plus(v):\n    return sum(v)\n\ndef total(v, s):\n    return plus(v) + s\n{F}\n"
    f"{F}\ndef plus(v):\n    return 0\n{F}",
    "a method": f"{F}\nclass Solution:\n    def total(self, values, start):\n"
    f"        return self.plus(values) + start\n\n"
    f"    def plus(self, values):\n        return sum(values)\n{F}",
    "a static method": "class Solution:\n    @staticmethod\n    def total(values, start):\n"
    "        return sum(values) + start",
    "helpers without fences": "First:\n\ndef plus(v):\n    return sum(v)\n\nThen:\n\ndef total(values, start):\n"
    "    return plus(values) + start\n\nIt's done.",
    "junk inside a block": f"{F}\nimport operator\n$ python\ndef total(v, s):\n    return operator.add(sum(v), s)\n{F}",
    "in a sentence": "Sure! def total(values, start): return sum(values) + start",
    "an inline block": f"Use {F}total = lambda v, s: sum(v) + s{F} here.",
    "an inline block with a word": f"{F}python total = lambda v, s: sum(v) + s{F}",
    "two futures": f"{F}\nfrom __future__ import annotations\nimport sys\n{F}\n{F}\nfrom __future__ import division\n"
    f"def total(v: X, s):\n    return sum(v) + s\n{F}",
}
