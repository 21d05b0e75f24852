"""A local HTTP server that plays a mirror of the Hugging Face hub: what HF_ENDPOINT may point to."""

import hashlib
import json
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from threading import Thread
from urllib.parse import unquote, urlsplit

COMMIT = hashlib.sha1(b"the only commit").hexdigest()


class Mirror(ThreadingHTTPServer):
    """models, datasets: folder of each repository by its id; asked: `GET /path` of all requests, in order."""

    def __init__(self, models: dict[str, Path], datasets: dict[str, Path]) -> None:
        super().__init__(("127.0.0.1", 0), _Handler)
        self.repositories = {**models, **{f"datasets/{name}": folder for name, folder in datasets.items()}}
        self.asked: list[str] = []

    @property
    def address(self) -> str:
        return f"http://127.0.0.1:{self.server_port}"


class _Handler(BaseHTTPRequestHandler):
    server: Mirror

    def do_GET(self) -> None:
        self.server.asked.append(f"{self.command} {self.path}")
        parts = unquote(urlsplit(self.path).path).strip("/").split("/")
        api = parts[0] == "api"
        parts = parts[1:] if api else parts
        if api and parts[0] == "models":
            parts = parts[1:]
        length = 3 if parts[0] == "datasets" else 2
        folder = self.server.repositories.get("/".join(parts[:length]))
        what, _, *rest = parts[length:] or ["", ""]
        if folder is None:
            self.answer(404, b"{}", {"X-Error-Code": "RepoNotFound"})
        elif what == "resolve" and (path := folder.joinpath(*rest)).is_file():
            self.answer(200, path.read_bytes())
        elif api and what == "tree":
            files = [path for path in sorted(folder.rglob("*")) if path.is_file()]
            rows = [
                {"type": "file", "path": str(path.relative_to(folder)), "size": path.stat().st_size, "oid": COMMIT}
                for path in files
            ]
            self.answer(200, json.dumps(rows).encode())
        elif api and what == "revision":
            self.answer(200, json.dumps({"id": "/".join(parts[:length]), "sha": COMMIT, "siblings": []}).encode())
        else:
            self.answer(404, b"{}", {"X-Error-Code": "EntryNotFound"})

    do_HEAD = do_GET

    def answer(self, status: int, content: bytes, headers: dict[str, str] | None = None) -> None:
        self.send_response(status)
        found = {"X-Repo-Commit": COMMIT, "ETag": f'"{hashlib.sha256(content).hexdigest()}"', **(headers or {})}
        for name, value in {**found, "Content-Length": str(len(content))}.items():
            self.send_header(name, value)
        self.end_headers()
        if self.command == "GET":
            self.wfile.write(content)

    def log_message(self, *words: object) -> None:
        pass


@contextmanager
def mirror(models: dict[str, Path], datasets: dict[str, Path]) -> Iterator[Mirror]:
    with Mirror(models, datasets) as server:
        thread = Thread(target=server.serve_forever, daemon=True)
        thread.start()
        try:
            yield server
        finally:
            server.shutdown()
            thread.join()
