"""Runs against an endpoint: what of it is put aside, counted, asked again, kept secret, and how a run ends."""

import json
import signal
import subprocess
import sys
import time
from collections import Counter
from collections.abc import Callable
from pathlib import Path
from typing import Any

from qwen_eval.engines.base import NoReply, Reply
from qwen_eval.engines.decoding import Decoding
from qwen_eval.engines.openai import OpenAIEngine
from qwen_eval.engines.servers import GIVE_UP
from qwen_eval.errors import UserError
from qwen_eval.places import DEMO

import pytest

from .endpoint import Answer, Server, completion, refusal, text_completion

ROOT = Path(__file__).resolve().parents[2]


@pytest.fixture
def sums(tmp_path: Path) -> Path:
    """GSM8K of forty sums whose answer is their length: the server is right as long as it answers."""
    rows = [{"question": f"How long is this? {'x' * i}", "answer": f"#### {18 + i}"} for i in range(40)]
    (tmp_path / "test.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    return tmp_path


@pytest.fixture
def flags(server: Server, sums: Path) -> tuple[object, ...]:
    return ("--engine", "openai", "--base-url", server.url, "-c", "m", "-d", sums, "-o", sums / "out", "--chat")


def ids(folder: Path) -> list[str]:
    return [json.loads(line)["id"] for line in (folder / "samples.jsonl").read_text().splitlines()]


def results(folder: Path) -> dict[str, Any]:
    return json.loads((folder / "results.json").read_text())


def test_examples_of_a_few_shot_chat_go_as_messages_and_what_the_endpoint_leaves_out_is_said(
    script, server: Server, flags, sums: Path
) -> None:
    server.answer = lambda text: completion("\n\nThe answer is 18" if "? \n" in text else "The answer is 18")
    assert script("gsm8k", *flags, "-k", 2, "--limit", 2).status == 0
    for body in server.bodies:
        assert [message["role"] for message in body["messages"]] == ["user", "assistant"] * 2 + ["user"]
        assert body["messages"][1]["content"].endswith("\nThe answer is 4\n")
        assert (body["max_tokens"], body["temperature"]) == (512, 0)
    first, second = (json.loads(line) for line in (sums / "out/samples.jsonl").read_text().splitlines())
    by_id = {line["id"]: line for line in (first, second)}
    assert by_id["test/1"]["prediction"] == "18"
    assert by_id["test/0"]["prediction"] == "", "the reply is read as it came: its first paragraph is empty"
    assert by_id["test/0"]["response"] == "\n\nThe answer is 18"
    assert by_id["test/0"]["prompt"].startswith("user: Question: Angelo")
    assert any("through an endpoint" in note and "is not cut" in note for note in results(sums / "out")["notes"])


def test_a_base_model_goes_on_from_the_text_up_to_the_stops_of_the_protocol(
    script, server: Server, flags, sums: Path
) -> None:
    server.answer = lambda text: text_completion(" It is 18.\nThe answer is 18", "length")
    flags = tuple("--base" if flag == "--chat" else flag for flag in flags)
    assert script("gsm8k", *flags, "-k", 2, "--limit", 2).status == 0
    assert all(path == "/v1/completions" for path in server.paths)
    first, second = (json.loads(line) for line in (sums / "out/samples.jsonl").read_text().splitlines())
    assert sorted(body["prompt"] for body in server.bodies) == sorted([first["prompt"], second["prompt"]])
    assert all("messages" not in body and body["prompt"].count("Question:") == 3 for body in server.bodies)
    assert all((body["max_tokens"], body["temperature"]) == (512, 0) for body in server.bodies)
    assert all("Question:" in body["stop"] for body in server.bodies)
    assert {first["prediction"], second["prediction"]} == {"18"}
    assert {first["finish"], first["new_tokens"]} == {"length", 7}


def next_tokens(**values: float) -> Answer:
    """The likeliest next tokens as servers send them."""
    status, body = text_completion(" A", "length")
    listed = {" " + name: value for name, value in values.items()}
    body["choices"][0]["logprobs"] = {"tokens": [" A"], "token_logprobs": [-1.0], "top_logprobs": [listed]}
    return status, body


@pytest.fixture
def choices(script, server: Server, tmp_path: Path) -> Callable[[], Any]:
    flags = ("--engine", "openai", "--base-url", server.url, "-c", "m", "-d", DEMO / "data" / "mmlu", "-o", tmp_path)
    return lambda: script("mmlu", *flags, "--base", "--limit", 4, "--subjects", "astronomy")


def test_choices_of_a_base_model_are_answered_by_the_likeliest_tokens(choices, server: Server, tmp_path: Path) -> None:
    server.answer = lambda text: next_tokens(A=-3.0, B=-0.5, C=-4.0, D=-2.0, E=-0.1)
    assert choices().status == 0
    lines = [json.loads(line) for line in (tmp_path / "samples.jsonl").read_text().splitlines()]
    assert [line["prediction"] for line in lines] == ["B"] * 4
    assert lines[0]["choice_logits"] == [-3.0, -0.5, -4.0, -2.0]
    assert {body["prompt"] for body in server.bodies} == {line["prompt"] for line in lines}
    assert all((body["max_tokens"], body["logprobs"]) == (1, 20) for body in server.bodies)
    assert any("20 likeliest tokens" in note for note in results(tmp_path)["notes"])


def test_a_choice_that_the_likeliest_tokens_do_not_hold_is_counted_and_not_made_up(
    choices, server: Server, tmp_path: Path
) -> None:
    asked: list[str] = []

    def answer(text: str) -> Answer:
        asked.append(text)
        return next_tokens(A=-1.0, B=-2.0, C=-3.0, **({} if text == asked[0] else {"D": -4.0}))

    server.answer = answer
    ended = choices()
    assert ended.status == 2
    assert "gave no reply to 1 of 4 items, which are in no figure (1 a choice outside the top 20" in ended.err
    assert results(tmp_path)["scores"]["acc"]["n"] == 3


def test_a_server_that_gives_fewer_likeliest_tokens_is_asked_for_those(choices, server: Server) -> None:
    full = next_tokens(A=-1.0, B=-2.0, C=-3.0, D=-4.0)
    server.answer = lambda text: full if server.bodies[-1]["logprobs"] <= 5 else refusal(400, "at most 5")
    assert choices().status == 0
    assert [body["logprobs"] for body in server.bodies] == [20] + [5] * 5


@pytest.mark.parametrize("answer", [text_completion(" A"), refusal(400, "no logprobs here")])
def test_logprobs_that_are_not_offered_are_one_line_before_any_work(choices, server: Server, answer: Answer) -> None:
    server.answer = lambda text: answer
    ended = choices()
    assert ended.status == 2 and len(server.bodies) == 2
    [line] = [line for line in ended.err.splitlines() if line.startswith("error: ")]
    assert line.startswith(f"error: {server.url} offers no logprobs (") and line.endswith("choices want --engine local")


def number(text: str) -> int:
    """Which of the sums this is."""
    return len(text) - 18


def test_items_that_fail_are_put_aside_and_asked_again(script, server: Server, flags, sums: Path) -> None:
    """Three prompts are refused, one is answered without text, one is filtered; then the server is mended."""
    bad = {3: refusal(400, "too long"), 7: refusal(400, "too long"), 11: refusal(400, "too long")}
    bad |= {20: completion(None), 30: completion("18", "content_filter")}
    server.answer = lambda text: bad.get(number(text), completion(str(len(text))))
    ended = script("gsm8k", *flags)
    assert ended.status == 2
    said = "gave no reply to 5 of 40 items, which are in no figure (3 HTTP 400, "
    assert ended.err.splitlines()[-1].startswith(f"error: {server.url} {said}")
    assert said in (sums / "out" / "table.md").read_text().replace("\n", " ")
    found = results(sums / "out")
    assert (found["scores"]["acc"]["n"], found["scores"]["acc"]["value"]) == (35, 100.0)
    assert found["requests"] == {"asked": 40, "retried": 0, "failed": 5}
    assert Counter(line["why"] for line in found["missing"]) == {
        "HTTP 400": 3,
        "no text": 1,
        "finish_reason content_filter": 1,
    }
    assert len(ids(sums / "out")) == 35

    server.bodies.clear()
    server.answer = lambda text: completion(str(len(text)))
    assert script("gsm8k", *flags).status == 0
    assert sorted(number(body["messages"][0]["content"]) for body in server.bodies) == sorted(bad)
    assert sorted(ids(sums / "out")) == sorted(f"test/{i}" for i in range(40))
    found = results(sums / "out")
    assert (found["scores"]["acc"]["n"], found["scores"]["acc"]["value"], found["missing"]) == (40, 100.0, [])


def test_no_reply_at_all_is_one_line(script, server: Server, flags, sums: Path) -> None:
    server.answer = lambda text: refusal(400, "no such parameter")
    ended = script("gsm8k", *flags, "--limit", 4)
    assert ended.status == 2
    assert "gave no reply to any of 4 items (4 HTTP 400; the first: test/" in ended.err.splitlines()[-1]
    assert not (sums / "out" / "results.json").exists()


@pytest.mark.parametrize("status", [400, 401, 404])
def test_an_endpoint_that_refuses_everything_is_not_asked_everything(
    script, server: Server, flags, sums: Path, status: int
) -> None:
    server.answer = lambda text: completion("1") if number(text) < 4 else refusal(status, "not like this")
    ended = script("gsm8k", *flags, "-b", 2)
    assert ended.status == 2
    assert f"{server.url} gave no reply (HTTP {status}: not like this; failed in a row: {GIVE_UP})" in ended.err
    assert ended.err.count("error: ") == 1 and "Traceback" not in ended.err
    # two are under way: one may be refused before the last that is answered, and two when it is given up
    assert len(server.bodies) <= 4 + 1 + GIVE_UP + 2
    assert sorted(ids(sums / "out")) == [f"test/{i}" for i in range(4)], "what arrived is kept"


def test_a_reader_that_is_busy_does_not_let_more_be_asked(server: Server, monkeypatch) -> None:
    """The answers are counted as they come, not as they are read."""
    monkeypatch.setattr("qwen_eval.engines.endpoint.TRIES", 0)
    server.answer = lambda text: refusal(404, "not like this")
    engine = OpenAIEngine(server.url, "m", rows=2)
    prompts = engine.encode([f"question {number}" for number in range(200)])
    answers = engine.generate(engine.generate_requests(prompts, Decoding(), True, ["0"] * 200))
    next(answers)
    deadline = time.monotonic() + 20
    while len(server.bodies) < GIVE_UP and time.monotonic() < deadline:
        time.sleep(0.01)
    time.sleep(0.3)  # what would be asked beyond is asked by now
    with pytest.raises(UserError, match=f"failed in a row: {GIVE_UP}"):
        list(answers)
    assert GIVE_UP <= len(server.bodies) <= GIVE_UP + 1


def test_one_request_that_fails_after_others_worked_is_put_aside(server: Server, monkeypatch) -> None:
    """A benchmark of several rounds asks in several calls; a server may break on one prompt for good."""
    monkeypatch.setattr("qwen_eval.engines.endpoint.TRIES", 0)
    engine = OpenAIEngine(server.url, "m")

    def ask(text: str) -> Reply | NoReply:
        return dict(engine.generate(engine.generate_requests(engine.encode([text]), Decoding(), True, ["0"])))[0]

    server.answer = lambda text: refusal(500, "assertion failed") if text == "bad" else completion("A")
    with pytest.raises(UserError, match="HTTP 500: assertion failed; failed in a row: 1"):
        ask("bad")
    assert isinstance(ask("good"), Reply)
    assert ask("bad") == NoReply("HTTP 500", "assertion failed")


def test_what_is_tried_again_is_counted(script, server: Server, flags, sums: Path) -> None:
    seen: Counter[int] = Counter()

    def answer(text: str) -> Answer:
        seen[number(text)] += 1
        busy = number(text) < 3 and seen[number(text)] == 1
        return refusal(503, "busy") if busy else completion(str(len(text)))

    server.answer = answer
    ended = script("gsm8k", *flags, "--limit", 8)
    assert ended.status == 0
    assert results(sums / "out")["requests"] == {"asked": 8, "retried": 3, "failed": 0}
    assert "8 asked, 3 tried again, 0 failed" in (sums / "out" / "table.md").read_text()


def test_replies_are_saved_before_an_error_is_raised(script, server: Server, flags, sums: Path) -> None:
    """A program that is still being checked when the endpoint goes down gets its line."""
    rows = [
        {
            "task_id": f"T/{i}",
            "prompt": f'def f{i}():\n    """The number {i}."""\n',
            "entry_point": f"f{i}",
            "test": f"def check(f): assert f() == {i}",
        }
        for i in range(30)
    ]
    (sums / "he.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))

    def answer(text: str) -> Answer:
        which = text.split("def f")[1].split("(")[0]
        program = f"```python\ndef f{which}():\n    return {which}\n```"
        return completion(program) if int(which) < 6 else refusal(401, "the key has expired")

    server.answer = answer
    flags = tuple(sums / "he.jsonl" if flag == sums else flag for flag in flags)
    ended = script("humaneval", *flags, "-b", 1)
    assert ended.status == 2 and "the key has expired" in ended.err
    assert sorted(ids(sums / "out")) == [f"T/{i}" for i in range(6)]


# -- secrets -----------------------------------------------------------------------------------------------------------


def test_no_key_or_password_is_written_or_said(script, server: Server, flags, sums: Path, monkeypatch) -> None:
    monkeypatch.setenv("OPENAI_API_KEY", "sk-sesame-open")
    secret = server.url.replace("http://", "http://user:pass%2Fword1@") + "?api_key=querysecret1&version=long-value"
    flags = tuple(secret if flag == server.url else flag for flag in flags)
    bad = refusal(400, "bad key sk-sesame-open for user:pass/word1, querysecret1")
    server.answer = lambda text: bad if number(text) == 2 else completion("1")
    ended = script("gsm8k", *flags, "--limit", 4, "--debug")
    assert ended.status == 2
    assert server.paths[0].startswith("/v1/chat/completions?api_key=querysecret1"), "the server gets what it wants"
    assert server.headers[0]["authorization"].startswith("Basic ")
    texts = [path.read_text() for path in (sums / "out").iterdir()] + [ended.out, ended.err]
    for word in ("sk-sesame-open", "pass%2Fword1", "pass/word1", "querysecret1", "long-value"):
        assert not any(word in text for text in texts), word
    assert results(sums / "out")["manifest"]["base_url"] == server.url
    ended = script("gsm8k", *flags, "--limit", 4, "--nonsense", secret)
    assert ended.status == 2 and "word1" not in ended.err


@pytest.mark.parametrize(
    "url",
    [
        "host:8000/v1",
        "ftp://host/v1",
        "http://",
        "http:///v1",
        "http://host:port/v1",
        "http://[::1/v1",
        "http://h:99999/v1",
    ],
)
def test_an_address_that_is_none_is_one_line(script, flags, url: str) -> None:
    ended = script("gsm8k", *(url if str(flag).startswith("http") else flag for flag in flags))
    assert (ended.status, ended.err.count("\n")) == (2, 1), ended.err
    assert "is no address of an endpoint" in ended.err


@pytest.mark.parametrize(
    ("environment", "said"),
    [
        ({"OPENAI_API_KEY": "sk-s\u00e9same"}, "OPENAI_API_KEY holds a character that no key has"),
        ({"OPENAI_API_KEY": "sk-ses\name"}, "OPENAI_API_KEY holds a character that no key has"),
        ({"http_proxy": "foo://me:password1@host"}, "can be made (Unknown scheme for proxy URL"),
        ({"SSL_CERT_FILE": "/no/such/file"}, "look at HTTP_PROXY, HTTPS_PROXY, ALL_PROXY and SSL_CERT_FILE"),
    ],
)
def test_settings_of_the_environment_that_cannot_be(script, flags, environment, said: str, monkeypatch) -> None:
    for name, value in environment.items():
        monkeypatch.setenv(name, value)
    ended = script("gsm8k", *flags)
    assert (ended.status, ended.err.count("\n")) == (2, 1), ended.err
    assert said in ended.err and "same" not in ended.err and "password1" not in ended.err


def test_a_key_read_from_a_file_with_its_line_end_is_the_key(script, server: Server, flags, monkeypatch) -> None:
    monkeypatch.setenv("OPENAI_API_KEY", "sk-sesame\n")
    assert script("gsm8k", *flags, "--limit", 1).status == 0
    assert server.headers[0]["authorization"] == "Bearer sk-sesame"


# -- ends --------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("ending", [signal.SIGINT, signal.SIGTERM])
def test_ctrl_c_ends_a_run_whose_requests_hang(server: Server, flags, sums: Path, ending: signal.Signals) -> None:
    def answer(text: str) -> Answer:
        if number(text) >= 5:
            server.hang.wait(120)
        return completion("1")

    server.answer = answer
    command = [sys.executable, str(ROOT / "eval" / "evaluate_gsm8k.py"), *map(str, flags)]
    run = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
    samples = sums / "out" / "samples.jsonl"
    until = time.monotonic() + 60
    while time.monotonic() < until and not (samples.exists() and samples.read_text().count("\n") == 5):
        time.sleep(0.05)
    run.send_signal(ending)
    _, err = run.communicate(timeout=60)  # the requests hang for 120 s
    assert run.returncode == 128 + ending
    assert err.splitlines()[-1] == "interrupted; finished items are kept, the same command goes on from there"
    assert "Traceback" not in err
    assert len(ids(sums / "out")) == 5
