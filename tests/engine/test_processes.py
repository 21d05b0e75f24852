"""A replica in a process of its own: what it says arrives; however it or its caller ends, nothing hangs or stays."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from qwen_eval.engines.base import ChoiceRequest
from qwen_eval.engines.processes import ProcessReplica
from qwen_eval.engines.replicated import ReplicatedEngine
from qwen_eval.errors import UserError
from tests.engine import toy_engine
from tests.engine.toy_engine import BREAK, DIE, MEET, REFUSE, SLEEP, TALK

import numpy as np
import pytest

ROOT = Path(__file__).resolve().parents[2]
SECONDS = 60  # for what happens at once on a machine that is not busy


def asked(count: int = 30, **first: int) -> list[ChoiceRequest]:
    """Requests of two tokens. first: the first token of some, as at_3=DIE."""
    given = [first.get(f"at_{number}", number) for number in range(count)]
    return [ChoiceRequest(np.array([token, 5], dtype=np.int32), (1, 2)) for token in given]


@contextmanager
def processes(count: int, make: Callable[..., Any] = toy_engine.adder, meet: Path = ROOT) -> Iterator[ReplicatedEngine]:
    made = [
        ProcessReplica(f"process {number}", make, (), {"TOY": str(number), "MEET": str(meet)}, quiet=number > 1)
        for number in range(1, count + 1)
    ]
    engine = ReplicatedEngine(None, made, full_batch=4)
    engine.pids = [replica.pid for replica in made]  # type: ignore[attr-defined]
    try:
        yield engine
    finally:
        engine.close()


def runs(pid: int) -> bool:
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    except OSError:
        return False


def wait_for(what: Callable[[], bool]) -> None:
    deadline = time.monotonic() + SECONDS
    while not what():
        assert time.monotonic() < deadline, "it does not come"
        time.sleep(0.01)


def test_several_processes_answer_each_request_once(tmp_path: Path) -> None:
    with processes(2, meet=tmp_path) as engine:
        found = dict(engine.choose(asked(60, **{f"at_{number}": MEET for number in range(60)})))
        assert sorted(found) == list(range(60))
        assert {pid for _, pid in found.values()} == set(engine.pids), "both worked"  # type: ignore[attr-defined]
        assert sorted(total for total, _ in dict(engine.choose(asked(3))).values()) == [5.0, 6.0, 7.0]
        assert set(engine.notes()) == {"1 threads", "2 threads"}, "each has an environment of its own"
        assert (engine.embedded, engine.stop_tokens(True)) == (1000, {2})
    assert not any(map(runs, engine.pids))  # type: ignore[attr-defined]


def test_a_killed_process_is_done_without(capfd: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    with processes(2) as engine, pytest.raises(UserError, match=r"^nobody is left to answer: ") as error:
        list(engine.choose(asked(at_7=DIE)))  # whoever gets it dies of it
    assert "process 1" in str(error.value) and "process 2" in str(error.value)
    assert "lost process " in capfd.readouterr().err
    with processes(2, meet=tmp_path) as engine:
        found = engine.choose(asked(60, **{f"at_{number}": MEET for number in range(60)}))
        first = next(found)
        os.kill(engine.pids[1], signal.SIGKILL)  # type: ignore[attr-defined]
        assert sorted(index for index, _ in [first, *found]) == list(range(60))
        assert "process 2 (ended by signal 9, by which" in engine.notes()[-1]
    assert capfd.readouterr().err.count("lost process 2") == 1


def test_errors_in_a_process_are_the_runs_and_it_goes_on() -> None:
    with processes(2) as engine:
        with pytest.raises(UserError, match=r"^the logits are not finite$"):
            list(engine.choose(asked(at_5=REFUSE)))
        with pytest.raises(RuntimeError, match=r"process [12]: KeyError: 'a fault'"):
            list(engine.choose(asked(at_5=BREAK)))
        assert len(list(engine.choose(asked()))) == 30


def test_a_model_that_does_not_load_is_one_line() -> None:
    with pytest.raises(UserError, match=r"^model.safetensors is cut short$"), processes(2, toy_engine.refused):
        pass
    with pytest.raises(UserError, match=r"nobody is left to answer: .*signal 9"), processes(2, toy_engine.killed):
        pass


def test_what_processes_say_never_goes_to_standard_output(capfd: pytest.CaptureFixture[str]) -> None:
    with processes(1) as engine:
        list(engine.choose(asked(1, at_0=TALK)))
    out, err = capfd.readouterr()
    assert out == "" and "said on standard error" in err


def test_closing_does_not_wait_for_what_is_under_way() -> None:
    with processes(2) as engine:
        found = engine.choose(asked(30, at_29=SLEEP))
        next(found)
    assert not any(map(runs, engine.pids))  # type: ignore[attr-defined]


@pytest.mark.parametrize("number", [signal.SIGKILL, signal.SIGINT, signal.SIGTERM, signal.SIGHUP])
def test_no_process_outlives_the_one_that_asks(number: signal.Signals) -> None:
    script = (
        "import sys\n"
        "from tests.engine.test_processes import asked, processes, SLEEP\n"
        "from qwen_eval.errors import run_script\n"
        "def main():\n"
        "    with processes(2) as engine:\n"
        "        print(*engine.pids, flush=True)\n"
        "        list(engine.choose(asked(2, at_0=SLEEP, at_1=SLEEP)))\n"
        "run_script(main)\n"
    )
    parent = subprocess.Popen(
        [sys.executable, "-c", script],
        cwd=ROOT,
        env={**os.environ, "PYTHONPATH": str(ROOT)},  # its processes do not look for tests/ in the current folder
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        start_new_session=True,
    )
    assert parent.stdout is not None
    pids = list(map(int, parent.stdout.readline().split()))
    assert len(pids) == 2 and all(map(runs, pids))
    if number == signal.SIGKILL:
        parent.kill()
    else:
        os.killpg(parent.pid, number)  # a terminal sends it to all of them, and so does a job that is cancelled
    _, err = parent.communicate(timeout=SECONDS)
    wait_for(lambda: not any(map(runs, pids)))
    if number != signal.SIGKILL:
        assert parent.returncode == 128 + number and err.strip().endswith("the same command goes on from there")
        assert "lost" not in err, "its own end is no loss"
