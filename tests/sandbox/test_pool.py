"""The sandbox as its callers see it: verdicts, time limits, privacy between candidates, levels, cleaning up."""

import os
import subprocess
import sys
import tempfile
import threading
import time
from pathlib import Path

from qwen_eval.sandbox import Check, Sandbox, SandboxBroken, launch
from qwen_eval.sandbox.verdict import TIMED_OUT, Verdict

import pytest

ONE = "assert f(1) == 2"
ROOT = Path(launch.HERE).parent.parent


def check(program, test=ONE, **more):
    return Check(program, test, ("f",), **more)


@pytest.mark.parametrize(
    ("program", "status", "message"),
    [
        ("def f(x): return x + 1", "passed", ""),
        ("def f(x): return x", "failed", "AssertionError"),
        ("def f(x): return y", "failed", "NameError: name 'y' is not defined"),
        ("def f(x) return", "failed", "SyntaxError"),
        ("g = 1", "failed", "NameError: name 'f' is not defined"),
        ("class E(KeyError): pass\ndef f(x): raise E('k')", "failed", "KeyError: "),
        ("def f(x): raise UnicodeDecodeError('utf-8', b'', 0, 1, 'bad')", "failed", "UnicodeDecodeError"),
        ("import os\ndef f(x): os._exit(3)", "failed", "process ended"),
        ("import os\nos.abort()", "failed", ""),
        ("def f(x): return input()", "failed", "OSError"),
        ("def f(x): raise ValueError('two\\nlines')", "failed", "ValueError: two lines"),
    ],
)
def test_verdicts(sandbox, program, status, message):
    verdict = sandbox.check(check(program))
    assert (verdict.status, verdict.passed) == (status, status == "passed")
    if "process ended" in message:
        assert "ended" in verdict.message or "exited with status 3" in verdict.message
    else:
        assert message in verdict.message


def test_what_the_tests_may_do_with_a_stand_in(sandbox):
    program = """
class Node:
    kind = 'tree'
    def __init__(self, value): self.value, self.left = value, None
def f(node): return node.value + (f(node.left) if node.left else 0)
def apply(g, x): return g(x)
def pairs(x, *, twice=False): return [x, x] if twice else [x]
"""
    test = """
root = Node(1); root.left = Node(2); root.left.left = Node(4)
assert f(root) == 7 and root.left.value == 2 and Node.kind == 'tree'
assert apply(f, root) == 7
assert pairs(3, twice=True) == [3, 3]
assert root != 7 and not (root == Node(1)) and root.left is not None
import copy
assert copy.deepcopy(root) is root
try: f(3)
except AttributeError: pass
else: assert False
"""
    assert sandbox.check(Check(program, test, ("Node", "f", "apply", "pairs"))).passed


def test_a_function_as_an_argument_is_refused_in_words(sandbox):
    verdict = sandbox.check(check("def f(g): return g(1)", "assert f(lambda x: x) == 1"))
    assert verdict.status == "failed" and "cannot be sent as plain data" in verdict.message


def test_arguments_go_by_value(sandbox):
    assert sandbox.check(check("def f(x): x.clear()", "a = [1]\nf(a)\nassert a == [1]")).passed


def test_a_module_comes_from_the_tests_own_side(sandbox):
    lie = "class sys:\n    getsizeof = staticmethod(lambda x: 0)\n    __name__ = 'sys'\ndef f(x): return 0"
    test = "assert f(()) == sys.getsizeof(())"
    assert sandbox.check(Check(lie, test, ("f",), modules=("sys",))).status == "failed"
    assert sandbox.check(Check("import sys\nf = sys.getsizeof", test, ("f",), modules=("sys",))).passed
    missing = Check("def f(x): return x.__sizeof__() + 16", test, ("f",), modules=("sys",))
    assert "NameError" in sandbox.check(missing).message


def test_a_busy_machine_makes_nobody_slow(boxes):
    """Four burning processes on these cores: a program that needs half its limit in CPU still passes."""
    burners = [subprocess.Popen([sys.executable, "-c", "while True: pass"]) for _ in range(2 * (os.cpu_count() or 1))]
    try:
        program = (
            "import time\ndef f(x):\n    until = time.process_time() + 0.5\n"
            "    while time.process_time() < until: pass\n    return 2"
        )
        verdict = boxes("bubblewrap").check(check(program, seconds=1.0))
    finally:
        for burner in burners:
            burner.kill()
            burner.wait()
    assert verdict.passed and verdict.seconds < 1.0


def test_a_timed_out_check_is_tried_again_alone(boxes, monkeypatch):
    sandbox, calls = boxes("bubblewrap"), []
    real = sandbox.check

    def first_time_out(one):
        calls.append((one.program, threading.active_count()))
        times = sum(program == one.program for program, _ in calls)
        return Verdict(False, TIMED_OUT, "timed out", 9.0) if "slow" in one.program and times == 1 else real(one)

    monkeypatch.setattr(sandbox, "check", first_time_out)
    checks = [check(f"def f(x): return 2  # {word}") for word in ("slow", "a", "b", "c", "slow too", "d")]
    verdicts = dict(sandbox.answers(enumerate(checks)))
    assert [verdict.status for verdict in verdicts.values()] == ["passed"] * 6
    assert sorted(verdicts) == list(range(6)) and list(verdicts)[-2:] == [0, 4]
    assert len(calls) == 8


def test_still_too_slow_is_timed_out(sandbox):
    slow, quick = check("def f(x):\n    while True: pass", seconds=0.2), check("def f(x): return 2")
    assert [v.status for v in sandbox.check_many([slow, quick])] == ["timed out", "passed"]


def test_results_come_while_jobs_are_still_being_read(boxes):
    sandbox, given = boxes("bubblewrap"), []

    def requests():
        for number in range(40):
            given.append(number)
            yield number, check(f"def f(x): return {2 + number % 2}")

    seen_at = {}
    for key, verdict in sandbox.answers(requests()):
        seen_at[key] = len(given)
        assert verdict.passed == (key % 2 == 0)
    assert sorted(seen_at) == list(range(40)) and min(seen_at.values()) < 40


LEAVE = {
    "a file": ("open('left', 'w').close()", "__import__('os').listdir('.')"),
    "a file in the temporary folder": (
        "import os\nfor p in ('/tmp/left-by-one', '/var/tmp/left-by-one', '/dev/shm/left-by-one'):\n"
        "    try: open(p, 'w').close()\n    except OSError: pass",
        "[p for p in ('/tmp', '/var/tmp', '/dev/shm') if __import__('os').path.exists(p + '/left-by-one')]",
    ),
    "a patched module": (
        "import math, json\nmath.left = json.left = 1",
        "[m for m in ('math', 'json') if hasattr(__import__(m), 'left')]",
    ),
    "a patched builtin": ("import builtins\nbuiltins.left = 1", "hasattr(__import__('builtins'), 'left')"),
    "an environment variable": ("import os\nos.environ['LEFT'] = '1'", "'LEFT' in __import__('os').environ"),
    "a limit": (
        "import resource\nresource.setrlimit(resource.RLIMIT_NOFILE, (8, 8))",
        "__import__('resource').getrlimit(__import__('resource').RLIMIT_NOFILE)[0] < 60",
    ),
    "a thread": (
        "import threading, time\nthreading.Thread(target=time.sleep, args=(5,), daemon=True).start()",
        "__import__('threading').active_count() > 1",
    ),
}


@pytest.mark.parametrize("what", LEAVE)
def test_nothing_is_left_for_the_next_candidate(sandbox, what):
    leave, look = LEAVE[what]
    first = sandbox.check(check(f"{leave}\ndef f(x): return 2"))
    assert first.passed, first
    verdict = sandbox.check(
        check(f"seen = {look}\ndef f(x): return 'seen' if seen else 'clean'", "assert f(0) == 'clean'")
    )
    assert verdict.passed, verdict


def test_the_next_candidate_does_not_find_the_programs_before_it(sandbox):
    marker = "mark" + "er_of_the_first"
    assert sandbox.check(check(f"{marker} = 'secret answer'\ndef f(x): return 2")).passed
    look = (
        "import gc\nwanted = ' '.join(['secret', 'answer'])\n"
        "def f(x): return any(wanted == t and t is not wanted for o in gc.get_objects() for t in gc.get_referents(o))"
    )
    assert sandbox.check(check(look, "assert f(0) is False")).passed


def test_output_goes_nowhere(sandbox, capfd):
    """A gigabyte of output costs the candidate its time and nobody any memory."""
    program = (
        "import os, sys\nblock = 'x' * (1 << 20)\ndef f(x):\n"
        "    for _ in range(1024): sys.stdout.write(block)\n    os.write(2, b'noise')\n    return 2"
    )
    verdict = sandbox.check(check(program, seconds=10.0))
    assert verdict.passed
    assert capfd.readouterr() == ("", "")


def test_nothing_stays_behind(level):
    sandbox = Sandbox(level, workers=1)
    process, folder = sandbox.zygote.process, sandbox.zygote.folder
    assert bool(folder) == (level == "landlock")
    assert sandbox.check(
        check("import threading, time\nthreading.Thread(target=time.sleep, args=(60,)).start()\ndef f(x): return 2")
    ).passed
    children = Path(f"/proc/self/task/{process.pid}/children")
    sandbox.close()
    assert process.poll() is not None and not (folder and Path(folder).exists()) and not children.exists()
    assert (
        "m guest"
        not in subprocess.run(["ps", "-o", "args=", "--ppid", str(process.pid)], capture_output=True, text=True).stdout
    )


def test_the_sandbox_ends_with_the_harness(level, tmp_path):
    """Killed without a chance to clean up: no process of the sandbox is left."""
    code = (
        "import sys, time; from qwen_eval.sandbox import Sandbox\n"
        f"s = Sandbox({level!r}, workers=1)\nprint(s.zygote.process.pid, flush=True)\ntime.sleep(60)"
    )
    env = {**os.environ, "TMPDIR": str(tmp_path)}
    with subprocess.Popen(
        [sys.executable, "-c", code], stdout=subprocess.PIPE, text=True, cwd=ROOT, env=env
    ) as harness:
        line = harness.stdout.readline()
        if not line:
            pytest.skip(f"no {level} here")
        harness.kill()
    until = time.monotonic() + 5
    while Path(f"/proc/{int(line)}").exists() and time.monotonic() < until:
        if "State:\tZ" in Path(f"/proc/{int(line)}/status").read_text():
            break
        time.sleep(0.05)
    status = Path(f"/proc/{int(line)}/status")
    assert not status.exists() or "State:\tZ" in status.read_text()
    assert not list(tmp_path.iterdir()), "its folder is gone too"


def test_a_dead_sandbox_says_so():
    sandbox = Sandbox("landlock", workers=1, without=["nothing"])
    sandbox.zygote.process.kill()
    sandbox.zygote.process.wait()
    with pytest.raises(SandboxBroken):
        sandbox.check(check("def f(x): return 2"))
        sandbox.check(check("def f(x): return 2"))
    sandbox.close()


def test_packages_may_lie_where_the_candidates_rooms_are(monkeypatch):
    with tempfile.TemporaryDirectory(dir="/tmp") as folder:
        package = Path(folder, "numpy")
        package.mkdir()
        (package / "__init__.py").write_text("value = 2\n")
        monkeypatch.setattr(launch, "packages", lambda: {"numpy": package})
        with Sandbox() as sandbox:
            verdict = sandbox.check(check("import numpy\ndef f(x): return numpy.value"))
    assert verdict.passed, verdict.message
