"""A vision judge: an OpenAI-compatible endpoint that gets pictures and a question, and replies with a text.

Every reply is kept in `judge.jsonl` of the output folder under a key made of the judge's model, the question and the
pictures' bytes. So no picture is paid for twice, and everyone can read what a verdict is based on.
"""

from __future__ import annotations

import base64
import hashlib
import json
import threading
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path
from typing import NamedTuple

from qwen_eval.data.items import read_jsonl
from qwen_eval.engines.base import NoReply
from qwen_eval.engines.endpoint import complete, connect, public_url
from qwen_eval.errors import UserError, disk_error
from qwen_eval.reporting.journal import append_whole, drop_cut_line, line_of
from qwen_eval.service import Key, answered

KEYS = ("JUDGE_API_KEY", "OPENAI_API_KEY")  # environment variables, the first that is set
MAX_TOKENS = 300
WORKERS = 8  # questions at a time


class Question(NamedTuple):
    """What a judge is asked. text: the question; pictures: PNG files; item: the item's name, for whoever reads
    `judge.jsonl`."""

    text: str
    pictures: tuple[bytes, ...]
    item: str


class Judge:
    """A judge at an endpoint. What it has replied stays in the folder, whatever happens later."""

    def __init__(self, url: str, model: str, folder: Path, workers: int = WORKERS) -> None:
        """url: of an OpenAI-compatible endpoint; folder: of the run; workers: questions at a time.

        Raises UserError for an address or a `judge.jsonl` that cannot be used.
        """
        self.url, self.model, self.path, self.workers = url, model, folder / "judge.jsonl", workers
        self.client = connect(url, KEYS, timeout=300)
        drop_cut_line(self.path)
        rows = read_jsonl(self.path, needs=("key", "reply")) if self.path.exists() else []
        self.known: dict[str, str] = {row["key"]: row["reply"] for row in rows}
        self._writing = threading.Lock()
        self._asking: dict[str, threading.Lock] = {}  # by key: the same question is not paid for twice

    def __enter__(self) -> Judge:
        return self

    def __exit__(self, *_: object) -> None:
        self.client.close()

    def ask(self, question: str, pictures: Sequence[bytes], name: str) -> str:
        """`answer`, for one question in parts."""
        return self.answer(Question(question, tuple(pictures), name))

    def answers(self, requests: Iterable[tuple[Key, Question]]) -> Iterator[tuple[Key, str]]:
        """(key, reply) for every (key, question), several at a time: see qwen_eval/service.py. Raises as `ask` does."""
        return answered(self.answer, requests, self.workers)

    def answer(self, question: Question) -> str:
        """The reply to one question. Raises UserError when the endpoint gives no text."""
        parts = [self.model, question.text, *(hashlib.sha256(picture).hexdigest() for picture in question.pictures)]
        key = hashlib.sha256(json.dumps(parts).encode()).hexdigest()
        with self._writing:
            asking = self._asking.setdefault(key, threading.Lock())
        with asking:
            if key not in self.known:
                reply = self._reply(question.text, question.pictures)
                row = {"key": key, "id": question.item, "judge": self.model, "reply": reply}
                with self._writing, disk_error(self.path), open(self.path, "ab", buffering=0) as lines:
                    append_whole(lines, line_of(row))
                self.known[key] = reply
        return self.known[key]

    def _reply(self, question: str, pictures: Sequence[bytes]) -> str:
        shown = [
            {"type": "image_url", "image_url": {"url": f"data:image/png;base64,{base64.b64encode(png).decode()}"}}
            for png in pictures
        ]
        content = [{"type": "text", "text": question}, *shown]
        answer = complete(
            self.client,
            self.url,
            model=self.model,
            messages=[{"role": "user", "content": content}],
            max_tokens=MAX_TOKENS,
            temperature=0.0,
        )
        if isinstance(answer, NoReply) or not answer.text.strip():
            why = f"{answer.kind}: {answer.detail}" if isinstance(answer, NoReply) else "an empty reply"
            raise UserError(
                f"--judge-url {public_url(self.url)}: the judge gave no text ({why}); is {self.model!r} a vision model?"
            )
        return answer.text
