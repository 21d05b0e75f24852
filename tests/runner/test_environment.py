"""What lies around a run changes nothing: modules in the user's current directory, Python's -OO, a closed stdout."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

from qwen_eval.equivalence import Equivalence

import pytest

ROOT = Path(__file__).resolve().parents[2]
# Modules that Python's own, or ours, would import; among them those that a process imports first.
FOREIGN = """abc code codecs collections copyreg encodings enum functools heapq io json math multiprocessing numbers os
pickle queue random re reprlib select selectors signal site socket struct subprocess tempfile threading types warnings
weakref qwen_eval errors qwen_model math_verify sympy numpy smolagents torch transformers""".split()


@pytest.fixture
def littered(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The current directory, full of modules that say so when they are imported."""
    for name in FOREIGN:
        (tmp_path / f"{name}.py").write_text(
            f"open({str(tmp_path / 'imported')!r}, 'a').write('{name} ')\nraise SystemExit('a foreign {name}.py ran')\n"
        )
    monkeypatch.chdir(tmp_path)
    return tmp_path


def evaluate(
    benchmark: str, *flags: object, redirected: str = "", **variables: str
) -> subprocess.CompletedProcess[str]:
    """`python eval/evaluate_{benchmark}.py {flags} {redirected}` in the current directory."""
    command = [sys.executable, ROOT / "eval" / f"evaluate_{benchmark}.py", *flags]
    return subprocess.run(
        ["sh", "-c", f'exec "$@" {redirected}', "sh", *map(str, command)],
        capture_output=True,
        encoding="utf-8",
        env={**os.environ, **variables},
    )


@pytest.fixture
def rescored(tmp_path: Path) -> tuple[object, ...]:
    """Flags with which evaluate_math.py has one reply to score, by its worker."""
    data = ROOT / "demo" / "data" / "math"
    row = json.loads((data / "test.jsonl").read_text(encoding="utf-8").split("\n")[0])
    (tmp_path / "replies.jsonl").write_text(json.dumps({"id": "test/0", "response": row["solution"]}))
    return ("-d", data, "--rescore", tmp_path / "replies.jsonl", "-o", tmp_path / "out", "--limit", 1)


def test_a_worker_imports_nothing_of_the_current_directory(littered: Path) -> None:
    with Equivalence() as equivalence:
        assert equivalence.equal("1/2", "0.5") is True
    assert not (littered / "imported").exists()


def test_the_agent_interpreter_imports_nothing_of_the_current_directory(littered: Path) -> None:
    from qwen_eval.benchmarks.hf_agent.interpreter import Interpreter
    from qwen_eval.benchmarks.hf_agent.tasks import Tool

    with Interpreter([Tool("translator", "", ("text",), {}, "translated {text}", None)]) as interpreter:
        assert interpreter.run([({"text": "hallo"}, "translator(text)")]) == ("translated hallo", "done")
    assert not (littered / "imported").exists()


def test_kernels_import_nothing_of_the_current_directory(littered: Path) -> None:
    from qwen_eval.sandbox import Kernels

    with Kernels(allow_unsandboxed=True) as kernels, kernels.open() as kernel:
        result = kernel.run("import random, json, numbers, statistics\nrandom.__file__")
    assert result.error == "" and str(littered) not in result.outputs[0].text
    assert not (littered / "imported").exists()


def lines(folder: Path) -> int:
    return len((folder / "out" / "samples.jsonl").read_text(encoding="utf-8").splitlines())


def test_a_script_runs_among_modules_of_the_user_and_without_docstrings(littered: Path, rescored) -> None:
    ended = evaluate("math", *rescored, PYTHONOPTIMIZE="2")
    assert (ended.returncode, ended.stderr, lines(littered)) == (0, "", 1)
    assert "written to" in ended.stdout
    assert not (littered / "imported").exists()


@pytest.mark.parametrize("redirected", [">&-", "<&- >&-", ">&- 2>&-", "2>&-"])
def test_a_closed_standard_stream_is_no_error(rescored, tmp_path: Path, redirected: str) -> None:
    ended = evaluate("math", *rescored, redirected=redirected)
    assert (ended.returncode, ended.stderr, lines(tmp_path)) == (0, "", 1)


def test_an_error_reaches_standard_error_when_standard_output_is_closed() -> None:
    ended = evaluate("math", "-d", "nowhere", "--rescore", "nothing.jsonl", redirected=">&-")
    assert (ended.returncode, ended.stdout, ended.stderr.count("\n")) == (2, "", 1)


@pytest.mark.parametrize("flag", ["--help", "--limit=x"])
def test_flags_are_read_without_docstrings(flag: str) -> None:
    ended = evaluate("gsm8k", flag, PYTHONOPTIMIZE="2")
    assert ended.returncode == (0 if flag == "--help" else 2) and "Traceback" not in ended.stderr
