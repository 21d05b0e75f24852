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


def refusal(status: int, message: str) -> Answer:
    return status, {"error": {"message": message, "type": "invalid_request_error"}}


class Server:
    """Answers with the length of the last message; keeps what it was sent.

    answer: what it says instead, given the last message; it may also wait there as long as `hang` is not set.
    """

    def __init__(self) -> None:
        self.bodies: list[dict[str, Any]] = []
        self.headers: list[dict[str, str]] = []
        self.paths: list[str] = []
        self.hang = threading.Event()
        self.answer: Callable[[str], Answer] = lambda text: completion(str(len(text)), "length")
        outer = self

        class Handler(BaseHTTPRequestHandler):
            def do_POST(self) -> None:
                body = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
                outer.bodies.append(body)
                outer.headers.append({name.lower(): value for name, value in self.headers.items()})
                outer.paths.append(self.path)
                status, said = outer.answer(body["messages"][-1]["content"])
                data = said if isinstance(said, bytes) else json.dumps(said).encode()
                self.send_response(status)
                self.send_header("Content-Type", "application/json")
                self.send_header("Content-Length", str(len(data)))
                if status == 503:
                    self.send_header("Retry-After", "0.05")
                self.end_headers()
                self.wfile.write(data)

            def log_message(self, *_: Any) -> None:
                pass

        class Listener(ThreadingHTTPServer):
            request_queue_size = 128  # with the default of 5, connections made at once are reset, and tried again

        self.http = Listener(("127.0.0.1", 0), Handler)
        self.url = f"http://127.0.0.1:{self.http.server_port}/v1"
        threading.Thread(target=self.http.serve_forever, daemon=True).start()
