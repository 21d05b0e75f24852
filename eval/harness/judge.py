"""A vision judge: an OpenAI-compatible endpoint that is shown pictures and a question, and says what it sees.

Every reply is kept in `judge.jsonl` of the output folder, keyed by the judge's model, the question and the pictures'
bytes, so that no picture is paid for twice and everyone can read what the verdict rests on.
"""

from __future__ import annotations

import base64
import hashlib
import json
from collections.abc import Sequence
from pathlib import Path

from .data import read_jsonl
from .engine.openai import complete, connect
from .errors import UserError

KEYS = ("JUDGE_API_KEY", "OPENAI_API_KEY")  # environment variables, the first that is set
MAX_TOKENS = 300


class Judge:
    """`ask` raises UserError when the endpoint gives no reply; what it gave before stays in the folder."""

    def __init__(self, url: str, model: str, folder: Path) -> None:
        self.url, self.model, self.path = url, model, folder / "judge.jsonl"
        self.client = connect(url, KEYS, max_retries=5, timeout=300)
        rows = read_jsonl(self.path, needs=("key", "reply")) if self.path.exists() else []
        self.known: dict[str, str] = {row["key"]: row["reply"] for row in rows}

    def ask(self, question: str, pictures: Sequence[bytes], name: str) -> str:
        """The judge's reply. pictures: PNG files; name: of the item, for whoever reads the file."""
        parts = [self.model, question, *(hashlib.sha256(picture).hexdigest() for picture in pictures)]
        key = hashlib.sha256(json.dumps(parts).encode()).hexdigest()
        if key not in self.known:
            self.known[key] = self._reply(question, pictures)
            row = {"key": key, "id": name, "judge": self.model, "reply": self.known[key]}
            with open(self.path, "a", encoding="utf-8") as lines:
                lines.write(json.dumps(row, ensure_ascii=False) + "\n")
        return self.known[key]

    def _reply(self, question: str, pictures: Sequence[bytes]) -> str:
        shown = [
            {"type": "image_url", "image_url": {"url": f"data:image/png;base64,{base64.b64encode(png).decode()}"}}
            for png in pictures
        ]
        content = [{"type": "text", "text": question}, *shown]
        done = complete(
            self.client,
            self.url,
            model=self.model,
            messages=[{"role": "user", "content": content}],
            max_tokens=MAX_TOKENS,
            temperature=0.0,
        )
        reply = done.choices[0].message.content
        if not reply:
            raise UserError(f"--judge-url {self.url}: the judge's reply is empty; is {self.model!r} a vision model?")
        return reply
