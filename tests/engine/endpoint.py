"""An OpenAI-compatible endpoint for tests, and the answers that such servers send."""

import json
import threading
from collections.abc import Callable
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

Answer = tuple[int, Any]  # status, and the body: a JSON object or bytes


def completion(content: Any = "7", finish: str | None = "stop", **message: Any) -> Answer:
    """A chat completion as servers send it."""
    choice = {"index": 0, "finish_reason": finish, "message": {"role": "assistant", "content": content, **message}}
    usage = {"completion_tokens": 7, "prompt_tokens": 1, "total_tokens": 8}
    return 200, {
        "id": "1",
        "object": "chat.completion",
        "created": 1,
        "model": "m",
        "choices": [choice],
        "usage": usage,
    }


def text_completion(text: str, finish: str = "stop") -> Answer:
    """A completion of /completions as servers send it."""
    choice = {"index": 0, "finish_reason": finish, "text": text, "logprobs": None}
    usage = {"completion_tokens": 7, "prompt_tokens": 1, "total_tokens": 8}
    named = {"id": "1", "object": "text_completion", "created": 1, "model": "m"}
    return 200, {**named, "choices": [choice], "usage": usage}


def refusal(status: int, message: str) -> Answer:
    return status, {"error": {"message": message, "type": "invalid_request_error"}}


class Server:
    """Answers with the length of the last message; keeps what it was sent.

    answer: what it says instead, given the last message or the prompt; it may also wait there as long as `hang` is not
    set, or raise ConnectionAbortedError. models: the names that it lists (None: it has no list); program: what it says
    it is. completions: what it answers at /v1/completions, given the body. beside: what it answers at paths of its own,
    outside of /v1, by the path and given the body; 404 at others.
    """

    def __init__(self) -> None:
        self.bodies: list[dict[str, Any]] = []
        self.headers: list[dict[str, str]] = []
        self.paths: list[str] = []
        self.hang = threading.Event()
        self.models: list[str] | None = None
        self.model_status = 200
        self.program = "me"
        self.completions: Callable[[dict[str, Any]], Answer] | None = None
        self.beside: dict[str, Callable[[dict[str, Any]], Answer]] = {}
        self.answer: Callable[[str], Answer] = lambda text: completion(str(len(text)), "length")
        outer = self

        class Handler(BaseHTTPRequestHandler):
            def do_GET(self) -> None:
                if outer.model_status != 200:
                    self.send(*refusal(outer.model_status, "no such key"))
                elif outer.models is None:
                    self.send(*refusal(404, "no list"))
                else:
                    self.send(
                        200,
                        {"object": "list", "data": [{"id": name, "owned_by": outer.program} for name in outer.models]},
                    )

            def do_POST(self) -> None:
                body = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
                if not self.path.startswith("/v1/"):
                    own = outer.beside.get(self.path.strip("/"))
                    self.send(*(refusal(404, "Not Found") if own is None else own(body)))
                    return
                outer.bodies.append(body)
                outer.headers.append({name.lower(): value for name, value in self.headers.items()})
                outer.paths.append(self.path)
                if outer.completions is not None and self.path.endswith("/v1/completions"):
                    said = outer.completions(body)
                else:
                    said = outer.answer(body["messages"][-1]["content"] if "messages" in body else body["prompt"])
                if outer.alive:
                    self.send(*said)

            def send(self, status: int, said: Any) -> None:
                data = said if isinstance(said, bytes) else json.dumps(said).encode()
                self.send_response(status)
                self.send_header("Content-Type", "application/json")
                self.send_header("Content-Length", str(len(data)))
                if status in (429, 503):
                    self.send_header("Retry-After", "0.05")
                self.end_headers()
                self.wfile.write(data)

            def log_message(self, *_: Any) -> None:
                pass

        class Listener(ThreadingHTTPServer):
            request_queue_size = 128  # with the default of 5, connections made at once are reset, and tried again

            def handle_error(self, *_: Any) -> None:
                pass

        self._listener = lambda port: Listener(("127.0.0.1", port), Handler)
        self.start(0)
        self.url = f"http://127.0.0.1:{self.http.server_port}/v1"

    def start(self, port: int) -> None:
        self.http = self._listener(port)
        self.alive = True
        threading.Thread(target=self.http.serve_forever, args=(0.05,), daemon=True).start()

    def kill(self) -> int:
        """No connection is taken and none that is open is answered any more; returns the port."""
        self.alive = False
        self.http.shutdown()
        self.http.server_close()
        return self.http.server_port
