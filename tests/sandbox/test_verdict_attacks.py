"""The hostile battery against the verdict: wrong solutions that try to be counted as right.

Each is first judged the usual way, program and tests in one interpreter (inside the sandbox, where it can do no harm):
there it must be counted as right. Then by the sandbox, which must count it as wrong.
"""

from qwen_eval.sandbox import Check

import pytest

TEST = """
import math

def helper(x):
    return x + 1

def check(candidate):
    assert candidate(41) == 42
    assert candidate(1) == helper(1)
    assert abs(candidate(2) - 3) < 1e-6
    assert math.fabs(candidate(3) - 4) < 1e-6
    assert [candidate(4)] == [5] and {candidate(5): 0} == {6: 0}
    assert sorted([candidate(7), 8]) == [8, 8] and len(str(candidate(8))) == 1
"""

# As the usual checker ends: a list in the caller's frame gets the verdict if nothing is raised.
IN_ONE_PROCESS = """
def judged(program, test):
    result = []
    def execute():
        try:
            exec(program + test + "\\ncheck(solve)", {})
            result.append("passed")
        except BaseException as error:
            result.append("failed")
    execute()
    return result[0] if result else "nothing"
"""
EQUAL = """
class Equal%s:
    def _true(self, *other): return True
    __eq__ = __lt__ = __le__ = __gt__ = __ge__ = __contains__ = _true
    def __ne__(self, other): return False
    def _self(self, *other): return self
    __sub__ = __rsub__ = __add__ = __abs__ = __pos__ = _self
    def __float__(self): return 0.0
    def __hash__(self): return hash(6)
    def __str__(self): return "9"
    __repr__ = __str__
"""

ATTACKS = {
    "equals everything": EQUAL % "" + "def solve(x): return Equal()",
    "equals everything, an int": EQUAL % "(int)" + "def solve(x): return Equal(6)",
    "equals everything, a float": EQUAL % "(float)" + "def solve(x): return Equal(7)",
    "equals everything, a str": EQUAL % "(str)" + "def solve(x): return Equal('7')",
    "equals everything, a list": EQUAL % "(list)" + "def solve(x): return Equal()",
    "equals everything, a tuple": EQUAL % "(tuple)" + "def solve(x): return Equal()",
    "equals everything by its metaclass": (
        "class Meta(type):\n"
        "    __eq__ = __lt__ = __gt__ = __instancecheck__ = lambda self, *other: True\n"
        "    __sub__ = __abs__ = lambda self, *other: self\n"
        "    __float__ = lambda self: 0.0\n"
        "    __hash__ = lambda self: hash(6)\n"
        "    __repr__ = __str__ = lambda self: '9'\n"
        "class Equal(metaclass=Meta): pass\n"
        "def solve(x): return Equal\n"
    ),
    "the caller's frame": (
        "import sys\n"
        "def solve(x):\n"
        "    frame = sys._getframe()\n"
        "    while frame:\n"
        "        if type(frame.f_locals.get('result')) is list: frame.f_locals['result'].append('passed')\n"
        "        frame = frame.f_back\n"
    ),
    "lists found by the collector": (
        "import gc, sys\n"
        "def solve(x):\n"
        "    for thing in gc.get_objects():\n"
        "        if type(thing) is dict and 'result' in thing and type(thing['result']) is list:\n"
        "            thing['result'].append('passed')\n"
        "    for cell in (c for c in gc.get_objects() if type(c).__name__ == 'cell'):\n"
        "        try:\n"
        "            if cell.cell_contents == []: cell.cell_contents.append('passed')\n"
        "        except ValueError: pass\n"
    ),
}
# Those that only need their effect on a test's helpers; judged below by tests that use nothing but the helper.
ABS, FABS, HELPER, NEVER = (
    "def check(candidate):\n    assert abs(candidate(2) - 3) < 1e-6\n",
    "import math\ndef check(candidate):\n    assert math.fabs(candidate(3) - 4) < 1e-6\n",
    "def check(candidate):\n    got = candidate(3)\n    assert poly([1, 2], got) == 7\n",
    "def check(candidate):\n    assert candidate(1) == 2\n",
)
PATCHES = {
    "builtins.abs": ("import builtins\nbuiltins.abs = lambda x: 0\ndef solve(x): return 0\n", ABS),
    "a global abs": ("abs = lambda x: 0\ndef solve(x): return 0\n", ABS),
    "math.fabs": ("import math\nmath.fabs = lambda x: 0\ndef solve(x): return 0\n", FABS),
    "sys.modules": (
        "import sys, types\nsys.modules['math'] = types.SimpleNamespace(fabs=lambda x: 0)\ndef solve(x): return 0\n",
        FABS,
    ),
    "the import function": (
        "import builtins, types\nreal = builtins.__import__\n"
        "fake = types.SimpleNamespace(fabs=lambda x: 0)\n"
        "builtins.__import__ = lambda name, *a: fake if name == 'math' else real(name, *a)\n"
        "def solve(x): return 0\n",
        FABS,
    ),
    "the prompt's helper": ("def poly(xs, x): return 7\ndef solve(x): return 0\n", HELPER),
    "the helper in the caller's globals": (
        "import sys\ndef solve(x):\n    sys._getframe(1).f_globals['poly'] = lambda xs, x: 7\n    return 0\n",
        HELPER,
    ),
    "a trace function": (
        "import sys\n"
        "def tracer(frame, event, arg):\n"
        "    if frame.f_code.co_name == 'check': frame.f_lineno = frame.f_lineno\n"
        "    return tracer\n"
        "class Two:\n"
        "    def __eq__(self, other): return True\n"
        "def solve(x):\n    sys.settrace(tracer)\n    return Two()\n",
        NEVER,
    ),
}
GIVES_UP = {
    "os._exit(0)": "import os\ndef solve(x): os._exit(0)",
    "os._exit(0) at once": "import os\nos._exit(0)\ndef solve(x): return 0",
    "sys.exit(0)": "import sys\ndef solve(x): sys.exit(0)",
    "raise SystemExit at once": "raise SystemExit(0)",
    "atexit": "import atexit, os, sys\natexit.register(lambda: os._exit(0))\ndef solve(x): raise KeyboardInterrupt",
    "a signal handler": "import os, signal\nsignal.signal(signal.SIGALRM, lambda *a: os._exit(0))\n"
    "def solve(x):\n    signal.setitimer(signal.ITIMER_REAL, 0.01)\n    while True: pass",
    "a generator exit": "def solve(x): raise GeneratorExit",
    "stop iteration": "def solve(x): raise StopIteration(42)",
    "an exception that is everything": "class E(Exception):\n"
    "    __eq__ = lambda s, o: True\ndef solve(x): raise E('passed')",
    "a crash": "import ctypes\ndef solve(x): ctypes.string_at(0)",
    "kill itself": "import os, signal\ndef solve(x): os.kill(os.getpid(), signal.SIGKILL); return 0",
    "prints a verdict": 'def solve(x): print(\'["passed", ""]\', flush=True)',
    "an endless generator": "def solve(x):\n    while True: yield x",
    "an endless object": "class D:\n    def __getattr__(self, n): return D()\n"
    "    def __iter__(self):\n        while True: yield 1\n"
    "def solve(x): return D()",
    "a list in itself": "def solve(x):\n    a = []\n    a.append(a)\n    return a",
    "a very deep list": "def solve(x):\n    a = []\n    for _ in range(10**5): a = [a]\n    return a",
    "a very long result": "def solve(x): return 'x' * (40 << 20)",
    "a very long integer": "def solve(x): return 1 << 10**7",
    "pickle's hook": "class P:\n    def __reduce__(self): return (print, ('passed',))\n"
    "    __reduce_ex__ = lambda s, p: (int, (42,))\n    __getstate__ = lambda s: 42\ndef solve(x): return P()",
    "json's hook": 'import json\njson.dumps = lambda *a, **k: \'["passed",""]\'\n'
    "json.JSONEncoder.encode = json.dumps\ndef solve(x): return 0",
    "an iterator of surprises": "class L(list):\n"
    "    def __iter__(self): return iter([42])\n    __getitem__ = lambda s, i: 42\n"
    "def solve(x): return L([0])",
    "a length that lies": "class S(str):\n    __len__ = lambda s: 1\n"
    "    __str__ = lambda s: '42'\ndef solve(x): return S('0')",
    "not a number": "def solve(x): return float('nan')",
    "a nameless type": "Int = type('int', (int,), {'__eq__': lambda s, o: True, '__hash__': int.__hash__})\n"
    "def solve(x): return Int(0)",
    "no function at all": "x = 1",
    "an infinite recursion": "def solve(x): return solve(x)",
    "half a program": "def solve(x:\n",
    "a null byte": "def solve(x): return 0\n\0",
    "closed descriptors": "import os\ndef solve(x):\n    os.closerange(0, 100)\n    return 42",
    "a thread that answers": "import threading, os\n"
    "def flood():\n    while True:\n"
    "        try: os.write(5, b'\\0\\0\\0\\x0b[\"value\",0]')\n        except OSError: return\n"
    "threading.Thread(target=flood, daemon=True).start()\ndef solve(x): return 0",
}
# Written to the reply pipe: values at most, never a verdict.
FORGED = {
    "a verdict as a frame": b'["passed",""]',
    "not JSON": b"passed",
    "an object": b'["value",{"passed":true}]',
    "an unknown tag": b'["value",["pickle","cos\\nsystem\\n"]]',
    "a wrong reference": b'["value",["ref",["x"]]]',
    "a set of lists": b'["value",["s",[["l",[]]]]]',
    "an exception that is none": b'["raised","print","x"]',
    "an exception that ends the tests": b'["raised","SystemExit","0"]',
    "deep brackets": b"[" * 100_000,
    "half a frame": None,
}


def forging(frame):
    data = b"\0\0\0\x50half" if frame is None else len(frame).to_bytes(4, "big") + frame
    return f"import os\ndef solve(x):\n    os.write(5, {data!r})\n    os._exit(0)\n"


def sandboxed(program, test, setup=""):
    return Check(program, f"{test}\ncheck(solve)", ("solve",), setup)


def usual(program, test):
    return Check(IN_ONE_PROCESS, f"assert judged({program + chr(10)!r}, {test!r}) == 'passed'", ("judged",))


@pytest.mark.parametrize("name", ATTACKS)
def test_wrong_but_equal(sandbox, name):
    assert sandbox.check(usual(ATTACKS[name], NEVER)).passed, "the attack is real"
    for test in (TEST, NEVER, ABS):
        verdict = sandbox.check(sandboxed(ATTACKS[name], test))
        assert verdict.status == "failed", name


@pytest.mark.parametrize("name", PATCHES)
def test_patches_do_not_reach_the_tests(sandbox, name):
    program, test = PATCHES[name]
    helper = "def poly(xs, x): return xs[0] + xs[1] * x\n"
    assert sandbox.check(usual(helper + program, test)).passed, "the attack is real"
    assert sandbox.check(sandboxed(program, test, helper)).status == "failed"


@pytest.mark.parametrize("name", GIVES_UP)
def test_giving_up_is_failing(sandbox, name):
    verdict = sandbox.check(Check(GIVES_UP[name], f"{NEVER}\ncheck(solve)", ("solve",), seconds=1.0))
    assert not verdict.passed and verdict.message and "\n" not in verdict.message


@pytest.mark.parametrize("name", FORGED)
def test_forged_frames(sandbox, name):
    assert sandbox.check(sandboxed(forging(FORGED[name]), NEVER)).status == "failed"


def test_a_forged_value_is_worth_what_returning_it_would_be(sandbox):
    frame = b'["value",2]'
    assert sandbox.check(sandboxed(forging(frame), NEVER)).passed


def test_the_right_solution_passes(sandbox):
    assert sandbox.check(sandboxed("def solve(x): return x + 1", TEST)).passed
    assert sandbox.check(usual("def solve(x): return x + 1", TEST)).passed
    assert not sandbox.check(usual("def solve(x): return x", TEST)).passed
