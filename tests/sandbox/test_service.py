"""What sandbox, formula checker and judge share: many requests at once, answers as they get ready."""

import threading
import time
from collections.abc import Iterator

from qwen_eval.equivalence import Equivalence
from qwen_eval.sandbox import Check, Sandbox
from qwen_eval.service import RUN_AHEAD, answered

import pytest


def test_answers_come_with_their_keys_while_requests_are_still_read() -> None:
    read: list[int] = []

    def requests() -> Iterator[tuple[str, int]]:
        for number in range(50):
            read.append(number)
            yield f"item {number}", number

    ahead = []
    for done, (key, answer) in enumerate(answered(lambda number: number * 2, requests(), workers=3)):
        assert key == f"item {answer // 2}"
        ahead.append(len(read) - done)
    assert len(ahead) == 50 and max(ahead) <= RUN_AHEAD * 3 + 2


def test_several_are_worked_on_at_a_time_but_no_more_than_asked_for() -> None:
    barrier, lock, running, most = threading.Barrier(3, timeout=60), threading.Lock(), 0, 0

    def ask(number: int) -> int:
        nonlocal running, most
        with lock:
            running += 1
            most = max(most, running)
        barrier.wait()  # goes on only when three are here
        with lock:
            running -= 1
        return number

    assert sorted(key for key, _ in answered(ask, ((n, n) for n in range(12)), workers=3)) == list(range(12))
    assert most == 3


def test_a_slow_answer_does_not_hold_up_the_others() -> None:
    released = threading.Event()

    def ask(name: str) -> str:
        if name == "slow":
            assert released.wait(60)
        return name

    found = []
    for key, _ in answered(ask, ((name, name) for name in ("slow", "a", "b", "c")), workers=2):
        found.append(key)
        if len(found) == 3:
            released.set()
    assert found == ["a", "b", "c", "slow"]


def test_an_unsettled_answer_is_asked_for_once_more_at_the_end_alone() -> None:
    calls: list[tuple[str, bool]] = []

    def ask(name: str) -> str:
        calls.append((name, threading.current_thread() is threading.main_thread()))
        return "late" if "slow" in name and sum(call == name for call, _ in calls) == 1 else "fine"

    names = ("slow", "a", "slow too", "b")
    found = list(answered(ask, ((name, name) for name in names), 2, unsettled=lambda answer: answer == "late"))
    assert sorted(name for name, _ in found[2:]) == ["slow", "slow too"]
    assert {answer for _, answer in found} == {"fine"}
    assert sorted(name for name, alone in calls if alone) == ["slow", "slow too"]


def test_an_error_of_one_request_reaches_the_caller() -> None:
    def ask(number: int) -> float:
        return 1 / number

    with pytest.raises(ZeroDivisionError):
        list(answered(ask, ((n, n) for n in (1, 2, 0, 3)), workers=2))


def test_a_caller_that_stops_leaves_no_threads() -> None:
    before = set(threading.enumerate())  # threads of earlier tests may end meanwhile
    stream = answered(lambda number: number, ((n, n) for n in range(1000)), workers=4)
    next(stream)
    stream.close()
    deadline = time.monotonic() + 30
    while set(threading.enumerate()) - before and time.monotonic() < deadline:
        time.sleep(0.01)
    assert not set(threading.enumerate()) - before


# -- a source of requests that fails or is stopped ---------------------------------------------------------------------


class Slow:
    """Answers at once; `slow` waits for `let_go`."""

    def __init__(self) -> None:
        self.let_go, self.done = threading.Event(), threading.Semaphore(0)

    def ask(self, name: str) -> str:
        if name == "slow":
            self.let_go.wait(60)
        self.done.release()
        return name

    def then(self, error: BaseException, names: list[str]) -> Iterator[tuple[str, str]]:
        for name in names:
            yield name, name
        for _ in range(names.count("quick")):
            self.done.acquire()
        time.sleep(0.3)  # from the end of the work to its answer
        raise error


def test_what_was_asked_before_the_source_failed_is_delivered() -> None:
    slow, found = Slow(), []
    with pytest.raises(ValueError, match="the endpoint is down"):
        for key, _ in answered(slow.ask, slow.then(ValueError("the endpoint is down"), ["quick"] * 4), 2):
            found.append(key)
    assert found == ["quick"] * 4


def test_ctrl_c_delivers_what_is_ready_and_waits_for_nothing() -> None:
    slow, found = Slow(), []
    try:
        with pytest.raises(KeyboardInterrupt):
            for key, _ in answered(slow.ask, slow.then(KeyboardInterrupt(), ["slow", "quick", "quick"]), 2):
                found.append(key)
        assert found == ["quick"] * 2
        assert not slow.let_go.is_set()
    finally:
        slow.let_go.set()


# -- the services themselves -------------------------------------------------------------------------------------------


def test_the_formula_checker_answers_many_at_once() -> None:
    pairs = {"half": ("1/2", "0.5"), "other": ("1", "2"), "endless": ("3", "9^{9^{9^9}}"), "root": ("\\sqrt{4}", "2")}
    with Equivalence(seconds=1, workers=2) as equivalence:
        found = dict(answered(equivalence.answer, pairs.items(), equivalence.workers))
        assert found == {"half": True, "other": False, "endless": None, "root": True}


def test_comparisons_one_after_the_other_need_one_process() -> None:
    with Equivalence(workers=3) as equivalence:
        assert equivalence.processes() == []
        assert equivalence.answer(("1/2", "0.5")) is equivalence.equal("2", "\\sqrt{4}") is True
        assert len(equivalence.processes()) == 1
    assert equivalence.processes() == []


def test_the_sandbox_answers_single_checks_with_their_keys() -> None:
    programs = {"right": "def f(x): return 2", "wrong": "def f(x): return 3", "no program": "def f(x) return"}
    with Sandbox("landlock", workers=2, without=["nothing"]) as sandbox:
        requests = ((name, Check(program, "assert f(1) == 2", ("f",))) for name, program in programs.items())
        assert {key: verdict.status for key, verdict in sandbox.answers(requests)} == {
            "right": "passed",
            "wrong": "failed",
            "no program": "failed",
        }
