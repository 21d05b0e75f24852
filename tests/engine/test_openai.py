"""The openai engine: what goes to an endpoint, and how it fails."""

import json
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

import pytest

from harness.decoding import Decoding
from harness.engine.openai import OpenAIEngine
from harness.errors import UserError


class Server:
    """Answers with the length of the last message; keeps what it was sent. `raw`: what it says instead."""

    def __init__(self) -> None:
        self.bodies: list[dict[str, Any]] = []
        self.keys: list[str | None] = []
        self.raw: bytes | None = None
        outer = self

        class Handler(BaseHTTPRequestHandler):
            def do_POST(self) -> None:
                body = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
                outer.bodies.append(body)
                outer.keys.append(self.headers["Authorization"])
                text = str(len(body["messages"][-1]["content"]))
                choice = {"index": 0, "finish_reason": "length", "message": {"role": "assistant", "content": text}}
                said = {"id": "1", "object": "chat.completion", "created": 1, "model": "m", "choices": [choice]}
                said["usage"] = {"completion_tokens": 7, "prompt_tokens": 1, "total_tokens": 8}
                data = json.dumps(said).encode() if outer.raw is None else outer.raw
                self.send_response(200)
                self.send_header("Content-Type", "application/json")
                self.send_header("Content-Length", str(len(data)))
                self.end_headers()
                self.wfile.write(data)

            def log_message(self, *_: Any) -> None:
                pass

        self.http = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self.url = f"http://127.0.0.1:{self.http.server_port}/v1"
        threading.Thread(target=self.http.serve_forever, daemon=True).start()


@pytest.fixture
def server(monkeypatch: pytest.MonkeyPatch) -> Iterator[Server]:
    monkeypatch.delenv("OPENAI_API_KEY", raising=False)
    one = Server()
    yield one
    one.http.shutdown()


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
    assert server.keys[0] == "Bearer sesame"


@pytest.mark.parametrize("raw", [b"<html>", b"{}", b'{"choices": []}'])
def test_what_is_no_completion_is_one_line(server: Server, raw: bytes) -> None:
    server.raw = raw
    engine = OpenAIEngine(server.url, "m")
    requests = engine.generate_requests(engine.encode(["q"], True), Decoding(), True, ["0"])
    with pytest.raises(UserError, match=r"^http://127.0.0.1:\d+/v1 ") as error:
        list(engine.generate(requests))
    assert "\n" not in str(error.value)


def test_it_gives_no_logits(server: Server) -> None:
    with pytest.raises(UserError, match="--engine local"):
        OpenAIEngine(server.url, "m").single_tokens(["A"])


def test_a_chat_benchmark_of_texts_runs_through_it(script, server: Server, tmp_path) -> None:
    from harness.run import DEMO

    flags = ("--engine", "openai", "--base-url", server.url, "-c", "m", "-d", DEMO / "data" / "mmlu", "-o", tmp_path)
    ended = script("mmlu", *flags, "--limit", 1, "--subjects", "astronomy")
    assert ended.status == 0 and len(server.bodies) == 1
    assert [message["role"] for message in server.bodies[0]["messages"]] == ["user"]
