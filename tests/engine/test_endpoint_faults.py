"""Servers that fail in mid-run, several servers that share the work, and what is refused before any work."""

import json
import threading
from collections import Counter
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from .endpoint import Answer, Server, completion, refusal

ITEMS = 30


@pytest.fixture
def sums(tmp_path: Path) -> Path:
    """GSM8K of sums whose answer is their length; the last ten have another, so that a score is not 100."""
    rows = [{"question": f"How long is this? {'x' * i}", "answer": f"#### {18 + i + (i >= 20)}"} for i in range(ITEMS)]
    (tmp_path / "test.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    return tmp_path


@pytest.fixture
def other(server: Server) -> Iterator[Server]:
    one = Server()
    yield one
    one.hang.set()
    if one.alive:
        one.http.shutdown()


@pytest.fixture
def run(script, sums: Path) -> Callable[..., Any]:
    def ask(name: str, *servers: Server, flags: tuple[object, ...] = ()) -> Any:
        urls = [word for one in servers for word in ("--base-url", one.url)]
        where = ("-c", "m", "-d", sums, "-o", sums / name, "--chat", "-b", 4)
        return script("gsm8k", "--engine", "openai", *urls, *where, *flags)

    return ask


def reply(text: str) -> Answer:
    return completion(str(len(text)))


def number(text: str) -> int:
    return len(text) - 18


def outcome(folder: Path) -> tuple[str, dict[str, str]]:
    """The table and each item's prediction; no item twice."""
    lines = [json.loads(line) for line in (folder / "samples.jsonl").read_text().splitlines()]
    assert sorted(line["id"] for line in lines) == sorted(f"test/{i}" for i in range(ITEMS)), "each once"
    return (folder / "table.csv").read_text(), {line["id"]: line["prediction"] for line in lines}


def fails_at_first(fault: Callable[[], Answer], times: int) -> Callable[[str], Answer]:
    """Every third item is met by the fault, so many times."""
    seen: Counter[int] = Counter()

    def answer(text: str) -> Answer:
        seen[number(text)] += 1
        return fault() if number(text) % 3 == 0 and seen[number(text)] <= times else reply(text)

    return answer


def cut() -> Answer:
    raise ConnectionAbortedError


@pytest.mark.parametrize(
    ("fault", "times"),
    [
        (lambda: refusal(429, "slow down"), 3),
        (lambda: refusal(500, "out of memory"), 2),
        (lambda: refusal(503, "loading"), 3),
        (lambda: (200, b'{"choices": [{"index": 0, "mess'), 1),
        (cut, 1),
    ],
    ids=["429", "500", "503", "half a JSON", "cut off"],
)
def test_a_server_that_fails_for_a_while_changes_nothing(run, server: Server, sums: Path, fault, times: int) -> None:
    server.answer = reply
    assert run("calm", server).status == 0
    server.answer = fails_at_first(fault, times)
    asked = len(server.bodies)
    assert run("disturbed", server).status == 0
    assert outcome(sums / "disturbed") == outcome(sums / "calm")
    assert len(server.bodies) - asked == ITEMS + 10 * times, "every fault was met"


def test_a_server_that_hangs_is_asked_again(run, server: Server, sums: Path, monkeypatch) -> None:
    server.answer = reply
    assert run("calm", server).status == 0
    monkeypatch.setattr("qwen_eval.engines.endpoint.TIMEOUT", 2)

    def hang() -> Answer:
        server.hang.wait(120)
        return completion("0")

    server.answer = fails_at_first(hang, 1)
    assert run("disturbed", server).status == 0
    assert outcome(sums / "disturbed") == outcome(sums / "calm")


def test_a_server_that_is_killed_and_started_again_is_waited_for(run, server: Server, sums: Path, monkeypatch) -> None:
    """The client's own tries are over before the server is back."""
    server.answer = reply
    assert run("calm", server).status == 0
    monkeypatch.setattr("qwen_eval.engines.endpoint.TRIES", 0)
    monkeypatch.setattr("qwen_eval.engines.servers.PAUSE", 0.05)
    killed = threading.Event()

    def answer(text: str) -> Answer:
        if len(server.bodies) >= ITEMS + 10 and not killed.is_set():
            killed.set()
            threading.Timer(1, server.start, (server.kill(),)).start()
        return reply(text)

    server.answer = answer
    assert run("disturbed", server).status == 0
    assert killed.is_set()
    assert outcome(sums / "disturbed") == outcome(sums / "calm")
    assert json.loads((sums / "disturbed/results.json").read_text())["requests"]["retried"] > 0


def test_two_servers_share_the_work(run, server: Server, other: Server, sums: Path) -> None:
    both = threading.Barrier(2, timeout=60)
    met = {one: threading.Event() for one in (server, other)}

    def answers(one: Server) -> Callable[[str], Answer]:
        def answer(text: str) -> Answer:
            if not met[one].is_set():  # neither does all before the other begins
                met[one].set()
                both.wait()
            return reply(text)

        return answer

    server.answer, other.answer = answers(server), answers(other)
    assert run("both", server, other).status == 0
    assert len(server.bodies) + len(other.bodies) == ITEMS and server.bodies and other.bodies
    server.answer = reply
    assert run("one", server).status == 0
    assert outcome(sums / "both") == outcome(sums / "one")


def test_when_one_of_two_servers_dies_the_other_finishes(run, server: Server, other: Server, sums, monkeypatch) -> None:
    monkeypatch.setattr("qwen_eval.engines.endpoint.TRIES", 0)
    killed, lock = threading.Event(), threading.Lock()

    def dies(text: str) -> Answer:
        with lock:
            if len(other.bodies) >= 6 and not killed.is_set():
                other.kill()
                killed.set()
        return reply(text)

    def waits(text: str) -> Answer:
        assert killed.wait(60)  # the other is at work when it dies
        return reply(text)

    server.answer, other.answer = waits, dies
    ended = run("both", server, other)
    assert ended.status == 0, ended.err
    assert (
        f"note: {other.url} gave no reply (no connection: " in ended.err
        and f"the work goes on at {server.url}" in ended.err
    )
    assert f"{other.url} gave no reply" in (sums / "both/table.md").read_text().replace("\n", " ")
    server.answer = reply
    assert run("one", server).status == 0
    assert outcome(sums / "both") == outcome(sums / "one")


def test_when_both_servers_die_it_is_one_line_and_finished_items_stay(
    run, server: Server, other: Server, sums: Path, monkeypatch
) -> None:
    monkeypatch.setattr("qwen_eval.engines.endpoint.TRIES", 0)
    bad = refusal(500, "no memory")
    server.answer = lambda text: reply(text) if number(text) < 3 else bad
    other.answer = lambda text: bad
    ended = run("both", server, other)
    assert ended.status == 2
    [line] = [line for line in ended.err.splitlines() if line.startswith("error: ")]
    assert server.url in line and other.url in line and line.endswith("finished items are kept")
    kept = {json.loads(line)["id"] for line in (sums / "both/samples.jsonl").read_text().splitlines()}
    assert kept <= {"test/0", "test/1", "test/2"}
    server.answer = other.answer = reply
    assert run("both", server, other).status == 0
    outcome(sums / "both")


def test_what_one_server_fails_the_other_answers(run, server: Server, other: Server, sums: Path, monkeypatch) -> None:
    monkeypatch.setattr("qwen_eval.engines.endpoint.TRIES", 0)
    server.answer = reply
    other.answer = lambda text: refusal(500, "assertion failed") if number(text) % 2 else reply(text)
    assert run("both", server, other).status == 0
    outcome(sums / "both")
    assert json.loads((sums / "both/results.json").read_text())["requests"]["failed"] == 0


# -- before any work ---------------------------------------------------------------------------------------------------


def test_a_model_that_is_not_served_is_one_line(run, server: Server) -> None:
    server.models = ["Qwen/Qwen-7B-Chat", "lora"]
    ended = run("out", server)
    said = f"error: {server.url} does not serve 'm'; -c takes one of: Qwen/Qwen-7B-Chat, lora"
    assert (ended.status, ended.err.strip()) == (2, said)
    assert not server.bodies
    server.models = ["m"]
    assert run("out", server).status == 0


@pytest.mark.parametrize("status", [401, 403])
def test_a_key_that_is_missing_is_one_line(run, server: Server, status: int) -> None:
    server.model_status = status
    ended = run("out", server)
    said = (
        f"error: {server.url} refuses the key (HTTP {status}: no such key); set OPENAI_API_KEY to a key that it takes"
    )
    assert (ended.status, ended.err.strip()) == (2, said)
    assert not server.bodies


def test_each_of_several_servers_has_to_serve_the_model(run, server: Server, other: Server) -> None:
    server.models, other.models = ["m"], ["n"]
    ended = run("out", server, other)
    assert ended.status == 2 and f"{other.url} does not serve 'm'" in ended.err
    assert not server.bodies
