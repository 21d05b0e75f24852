"""The openai engine: what goes to an endpoint, and how it fails."""

import json
from pathlib import Path

from qwen_eval.engines.base import NoReply, Reply
from qwen_eval.engines.decoding import Decoding
from qwen_eval.engines.openai import OpenAIEngine
from qwen_eval.errors import UserError
from qwen_eval.judge import Judge, Question

import pytest

from .endpoint import Answer, Server, completion, refusal


def test_replies_come_with_their_index_and_settings_arrive(server: Server) -> None:
    engine = OpenAIEngine(server.url, "m", rows=3)
    prompts = ["a" * length for length in range(1, 9)]
    decoding = Decoding(max_new_tokens=5, repetition_penalty=1.1, stop=("Observation:",))
    requests = engine.generate_requests(engine.encode(prompts, True), decoding, True, ["ff"] * 8)
    replies = dict(engine.generate(requests))
    assert {index: reply.text for index, reply in replies.items()} == {n: str(n + 1) for n in range(8)}
    assert replies[0].finish == "length" and replies[0].tokens == 7
    body = server.bodies[0]
    assert (body["max_tokens"], body["temperature"], body["stop"]) == (5, 0, ["Observation:"])
    assert body["repetition_penalty"] == 1.1 and "seed" not in body and "continue_final_message" not in body


def test_a_turn_that_is_begun_is_asked_to_go_on_and_a_temperature_has_its_seed(
    server: Server, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("OPENAI_API_KEY", "sesame")
    engine = OpenAIEngine(server.url, "m")
    decoding = Decoding(temperature=0.5, top_p=0.9, top_k=20)
    messages = engine.encode(["q", "r"], True, True, ["Thought:", ""])
    assert dict(engine.generate(engine.generate_requests(messages, decoding, True, ["1f", "20"])))[0].text == "8"
    body = next(body for body in server.bodies if len(body["messages"]) == 2)
    assert body["messages"][1] == {"role": "assistant", "content": "Thought:"}
    assert body["continue_final_message"] is True and body["add_generation_prompt"] is False
    assert (body["seed"], body["top_p"], body["top_k"]) == (31, 0.9, 20)
    assert server.headers[0]["authorization"] == "Bearer sesame"


def test_examples_are_messages_before_the_one_asked(server: Server) -> None:
    engine = OpenAIEngine(server.url, "m")
    shown = (("1 + 1?", "2\n"), ("2 + 2?", "4\n"))
    (found,) = engine.encode(["3 + 3?"], True, True, ["It"], [shown])
    roles = ["user", "assistant", "user", "assistant", "user", "assistant"]
    assert [message["role"] for message in found] == roles
    assert [message["content"] for message in found] == ["1 + 1?", "2\n", "2 + 2?", "4\n", "3 + 3?", "It"]
    assert engine.last_tokens(found, 1) == found, "how many tokens a prompt has, only the server knows"


@pytest.mark.parametrize("raw", [b"<html>", b"{}", b'{"choices": []}'])
def test_what_is_no_completion_is_one_line(server: Server, raw: bytes) -> None:
    server.answer = lambda text: (200, raw)
    engine = OpenAIEngine(server.url, "m")
    requests = engine.generate_requests(engine.encode(["q"], True), Decoding(), True, ["0"])
    with pytest.raises(UserError, match=r"^http://127.0.0.1:\d+/v1 ") as error:
        list(engine.generate(requests))
    assert "\n" not in str(error.value)


def test_it_gives_no_logits(server: Server) -> None:
    with pytest.raises(UserError, match="--engine local"):
        OpenAIEngine(server.url, "m").candidate_ids(["Answer:"], [" A"])
    with pytest.raises(UserError, match="--engine local"):
        OpenAIEngine(server.url, "m").continuation_ids("Answer:", [" one"])
    with pytest.raises(UserError, match="--engine local"):
        OpenAIEngine(server.url, "m").loglikelihood([])


def test_a_chat_benchmark_of_texts_runs_through_it(script, server: Server, tmp_path: Path) -> None:
    from qwen_eval.places import DEMO

    flags = ("--engine", "openai", "--base-url", server.url, "-c", "m", "-d", DEMO / "data" / "mmlu", "-o", tmp_path)
    ended = script("mmlu", *flags, "--limit", 1, "--subjects", "astronomy")
    assert ended.status == 0 and len(server.bodies) == 1
    assert [message["role"] for message in server.bodies[0]["messages"]] == ["user"]


# -- what an endpoint may send ---------------------------------------------------------------------------------------


def one_answer(server: Server, answer: Answer) -> Reply | NoReply:
    server.answer = lambda text: answer
    engine = OpenAIEngine(server.url, "m")
    return dict(engine.generate(engine.generate_requests(engine.encode(["q"]), Decoding(), True, ["0"])))[0]


TEXT = {"type": "text", "text": "the answer"}
THOUGHT = {"type": "thinking", "thinking": [{"type": "text", "text": "hm"}]}


@pytest.mark.parametrize(
    ("answer", "expected"),
    [
        (completion("A"), ("A", "stop", "")),
        (completion("A", "length"), ("A", "length", "")),
        (completion("", "stop"), ("", "stop", "")),
        (completion("A", reasoning_content="hm"), ("A", "stop", "hm")),
        (completion("A", reasoning="hm"), ("A", "stop", "hm")),
        (completion([TEXT, {"type": "text", "text": " is 7"}]), ("the answer is 7", "stop", "")),
        (completion([THOUGHT, TEXT]), ("the answer", "stop", "hm")),
    ],
)
def test_replies_in_every_form_are_read(server: Server, answer: Answer, expected: tuple[str, str, str]) -> None:
    reply = one_answer(server, answer)
    assert isinstance(reply, Reply)
    assert (reply.text, reply.finish, reply.reasoning) == expected


@pytest.mark.parametrize(
    ("answer", "kind"),
    [
        (completion(None), "no text"),
        (completion("", "length"), "no text"),
        (completion([]), "no text"),
        (completion([THOUGHT]), "reasoning without an answer"),
        (completion(None, "length", reasoning_content="hm"), "reasoning without an answer"),
        (completion("A", "content_filter"), "finish_reason content_filter"),
        (completion(None, "tool_calls", tool_calls=[]), "finish_reason tool_calls"),
        (completion("A", None), "finish_reason None"),
        (completion(None, refusal="I will not"), "refusal"),
        (refusal(400, "too long"), "HTTP 400"),
    ],
)
def test_what_is_no_reply_has_a_name_and_is_no_empty_text(server: Server, answer: Answer, kind: str) -> None:
    reply = one_answer(server, answer)
    assert isinstance(reply, NoReply)
    assert reply.kind == kind


# -- a judge -----------------------------------------------------------------------------------------------------------


def test_a_judge_is_asked_once_though_a_kill_left_half_a_line(server: Server, tmp_path: Path) -> None:
    server.answer = lambda text: completion("right")
    for _ in range(2):
        assert Judge(server.url, "m", tmp_path).ask("Is it?", [b"png"], "a/0") == "right"
    with open(tmp_path / "judge.jsonl", "ab") as lines:
        lines.write(b'{"key": "12')
    judge = Judge(server.url, "m", tmp_path)
    assert judge.ask("Is it?", [b"png"], "a/0") == judge.ask("And this?", [b"png"], "a/1") == "right"
    assert len(server.bodies) == 2
    assert [json.loads(line)["id"] for line in (tmp_path / "judge.jsonl").read_text().splitlines()] == ["a/0", "a/1"]


def test_a_judge_answers_many_questions_and_is_paid_once_for_the_same(server: Server, tmp_path: Path) -> None:
    server.answer = lambda text: completion(f"I see {text}")
    judge = Judge(server.url, "m", tmp_path, workers=4)
    questions = ((number, Question(f"Is it {number % 5}?", (b"png",), f"a/{number}")) for number in range(20))
    replies = dict(judge.answers(questions))
    assert sorted(replies) == list(range(20)) and len(set(replies.values())) == 5
    assert all(f"Is it {number % 5}?" in reply for number, reply in replies.items())
    lines = [json.loads(line) for line in (tmp_path / "judge.jsonl").read_text().splitlines()]
    assert len(server.bodies) == len({line["key"] for line in lines}) == len(lines) == 5


def test_what_a_judge_said_before_its_endpoint_failed_is_kept(server: Server, tmp_path: Path) -> None:
    server.answer = lambda text: completion(None) if "Is it 3?" in str(text) else completion("right")
    judge = Judge(server.url, "m", tmp_path, workers=1)
    with pytest.raises(UserError, match="the judge gave no text"):
        list(judge.answers((number, Question(f"Is it {number}?", (b"png",), "")) for number in range(6)))
    assert len((tmp_path / "judge.jsonl").read_text().splitlines()) >= 3


@pytest.mark.parametrize("answer", [completion(None), completion(""), completion("right", "content_filter")])
def test_a_judge_without_a_text_gives_no_verdict(server: Server, tmp_path: Path, answer: Answer) -> None:
    server.answer = lambda text: answer
    with pytest.raises(UserError, match="the judge gave no text"):
        Judge(server.url, "m", tmp_path).ask("Is it?", [b"png"], "a/0")
    assert not (tmp_path / "judge.jsonl").exists()
