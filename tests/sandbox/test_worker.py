"""The worker process of math-verify and of the agent's interpreter: its limits, its guards, its replacement."""

import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from qwen_eval.errors import UserError
from qwen_eval.worker import IsolatedWorker, OverLimit
from tests.sandbox import worker_bodies

import pytest


def worker_of(body: Any, *args: Any, readable: list[str] | None = None) -> IsolatedWorker:
    return IsolatedWorker(body, *args, name="the part", seconds=1, memory=1 << 30, readable=readable or [])


@pytest.fixture(scope="module")
def worker() -> Iterator[IsolatedWorker]:
    with worker_of(worker_bodies.commands, "!") as opened:
        yield opened


def test_it_answers_and_remembers_what_was_prepared(worker: IsolatedWorker) -> None:
    assert worker.ask(["add", "Hello\ud800\0"]) == "Hello\ud800\0!"
    first = worker.ask(["count", None])
    assert worker.ask(["count", None]) == first + 1, "one process for all questions"


@pytest.mark.parametrize("question", [["loop", None], ["eat", 2 << 30], ["die", None]])
def test_a_question_over_a_limit_costs_itself_only(worker: IsolatedWorker, question: list[Any]) -> None:
    before = worker.ask(["pid", None])
    with pytest.raises(OverLimit, match="the part took more than 1 s or 1024 MiB"):
        worker.ask(question)
    assert worker.ask(["add", "Hello"]) == "Hello!"
    assert worker.ask(["pid", None]) != before


def test_the_time_limit_is_per_question(worker: IsolatedWorker) -> None:
    """Questions that together need more than the limit: the limit starts anew with each."""
    pid = worker.ask(["pid", None])
    for _ in range(6):
        assert worker.ask(["compute", 0.5]) == "done"
    assert worker.ask(["pid", None]) == pid


def test_a_process_that_somebody_else_killed_is_replaced_and_asked_again(tmp_path: Path) -> None:
    mark = tmp_path / "second"
    with worker_of(worker_bodies.commands, "!", readable=["/"]) as worker:
        real = worker._ended

        def ended() -> int | None:
            mark.touch()
            return real()

        worker._ended = ended  # type: ignore[method-assign]
        assert worker.ask(["die once", str(mark)]) == "alive"


def test_it_can_change_nothing_and_reach_nothing(worker: IsolatedWorker, tmp_path: Path) -> None:
    if not {"landlock", "seccomp"} <= set(worker.guards):
        pytest.skip(f"this system has only {worker.guards}")
    (tmp_path / "canary").write_text("secret")
    assert worker.ask(["attack", str(tmp_path)]) == []
    with worker_of(worker_bodies.commands, "!", readable=[str(tmp_path)]) as reader:
        assert reader.ask(["attack", str(tmp_path)]) == ["read"]
    assert [path.name for path in tmp_path.iterdir()] == ["canary"]


@pytest.mark.parametrize(
    ("body", "why"),
    [
        (worker_bodies.missing, "a_package_that_nobody_has is not installed"),
        (worker_bodies.complaining, "the part is not installed; pip install it"),
        (worker_bodies.exiting, "it ended at once"),
    ],
)
def test_one_that_cannot_start_says_why_in_one_line(body: Any, why: str, capfd: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(UserError) as refused, worker_of(body):
        pass
    assert str(refused.value) == f"the part: its process did not start ({why})"
    assert capfd.readouterr().err == ""


def test_an_error_of_our_own_code_is_not_taken_for_a_limit(worker: IsolatedWorker) -> None:
    with pytest.raises(RuntimeError, match="the part: KeyError: 'nonsense'"):
        worker.ask(["nonsense", None])
    assert worker.ask(["add", "Hello"]) == "Hello!"


def test_closing_ends_a_question_of_another_thread() -> None:
    worker = IsolatedWorker(worker_bodies.commands, "!", name="the part", seconds=100, memory=1 << 30)
    ended: list[str] = []

    def ask() -> None:
        try:
            worker.ask(["loop", None])
        except OverLimit as error:
            ended.append(str(error))

    with worker:
        pid = worker.ask(["pid", None])
        thread = threading.Thread(target=ask)
        thread.start()
    thread.join(60)
    assert ended == ["the part was closed"]
    assert worker.pid is None and not Path(f"/proc/{pid}").exists()
