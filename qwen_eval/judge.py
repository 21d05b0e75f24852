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

from qwen_eval.data.items import read_jsonl
from qwen_eval.engines.base import NoReply
from qwen_eval.engines.endpoint import complete, connect, public_url
from qwen_eval.errors import UserError, disk_error
from qwen_eval.reporting.journal import append_whole, drop_cut_line, line_of

KEYS = ("JUDGE_API_KEY", "OPENAI_API_KEY")  # environment variables, the first that is set
MAX_TOKENS = 300


class Judge:
    """`ask` raises UserError when the endpoint gives no reply; what it gave before stays in the folder."""

    def __init__(self, url: str, model: str, folder: Path) -> None:
        self.url, self.model, self.path = url, model, folder / "judge.jsonl"
        self.client = connect(url, KEYS, timeout=300)
        drop_cut_line(self.path)
        rows = read_jsonl(self.path, needs=("key", "reply")) if self.path.exists() else []
        self.known: dict[str, str] = {row["key"]: row["reply"] for row in rows}

    def ask(self, question: str, pictures: Sequence[bytes], name: str) -> str:
        """The judge's reply. pictures: PNG files; name: of the item, for whoever reads the file."""
        parts = [self.model, question, *(hashlib.sha256(picture).hexdigest() for picture in pictures)]
        key = hashlib.sha256(json.dumps(parts).encode()).hexdigest()
        if key not in self.known:
            self.known[key] = self._reply(question, pictures)
            row = {"key": key, "id": name, "judge": self.model, "reply": self.known[key]}
            with disk_error(self.path), open(self.path, "ab", buffering=0) as lines:
                append_whole(lines, line_of(row))
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
