"""samples.jsonl: one line an item, written as it finishes, read back when a run goes on.

A line counts as finished when it was made by the same run (`run`, a digest of weights, tokenizer, dtype and protocol)
from the same prompt (`prompt_sha256`). A last line cut by a crash is dropped; any other damage stops the run.
"""

import fcntl
import hashlib
import json
import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from .data import Item
from .errors import UserError


def prompt_sha256(prompt: str) -> str:
    return hashlib.sha256(prompt.encode("utf-8", "surrogatepass")).hexdigest()


class Journal:
    """Append-only record of finished items in `folder`/samples.jsonl. One process at a time (a file lock)."""

    def __init__(self, folder: Path, run: str, fresh: bool = False) -> None:
        """run: the digest that a line must carry to count; fresh: start from nothing.

        Raises UserError when the folder is in use, holds another run's lines, or a line in the middle is damaged.
        """
        self.path = folder / "samples.jsonl"
        self.run = run
        folder.mkdir(parents=True, exist_ok=True)
        self._file = open(self.path, "a+b", buffering=0)  # noqa: SIM115 - open for the life of the run
        try:
            fcntl.flock(self._file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError as error:
            raise UserError(f"{folder} is in use by another run; give another -o or wait for it") from error
        if fresh:
            self._file.truncate(0)
        self.records = self._read()

    def _read(self) -> dict[tuple[str, int], dict[str, Any]]:
        self._file.seek(0)
        data = self._file.read()
        whole = data.rfind(b"\n") + 1
        lines = data[:whole].split(b"\n")[:-1]
        if whole < len(data):  # a kill in the middle of a write: the item runs again
            self._file.truncate(whole)
        records = {}
        for number, line in enumerate(lines, start=1):
            try:
                record = json.loads(line)
                key = (record["id"], record.get("sample", 0))
                other = record["run"] != self.run
            except (ValueError, KeyError, TypeError) as error:
                raise UserError(
                    f"{self.path} line {number} is damaged; delete that line, or use --overwrite"
                ) from error
            if other:
                raise UserError(
                    f"{self.path.parent} holds a run with another model, dtype or prompt setting; "
                    f"give another -o, or --overwrite to drop it"
                )
            records[key] = record
        return records

    def finished(self, item: Item) -> bool:
        record = self.records.get(item.key)
        return record is not None and record["prompt_sha256"] == prompt_sha256(item.prompt + item.begun)

    def append(self, item: Item, fields: dict[str, Any]) -> dict[str, Any]:
        """Write one finished item; the line is on its way to the disk when this returns.

        fields: `prompt`, as the model saw it, stands for the benchmark's text, which the item has and the sum is of.
        """
        text = item.prompt + item.begun
        named = {"id": item.id, "subject": item.subject, "prompt": text, "prompt_sha256": prompt_sha256(text)}
        record = {**named, **fields}
        if item.sample:
            record["sample"] = item.sample
        record["run"] = self.run
        line = json.dumps(record, ensure_ascii=False).encode("utf-8", "backslashreplace") + b"\n"
        self._file.write(line)
        self.records[item.key] = record
        return record

    def amend(self, changes: Mapping[tuple[str, int], Mapping[str, Any]]) -> None:
        """Add fields to finished lines, by item key: what was found out later. The file is replaced as a whole."""
        if not changes:
            return
        for key, fields in changes.items():
            self.records[key] = {**self.records[key], **fields}
        partial = self.path.with_name(f"{self.path.name}.partial")
        file = open(partial, "w+b", buffering=0)  # noqa: SIM115 - as above
        fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        for record in self.records.values():
            file.write(json.dumps(record, ensure_ascii=False).encode("utf-8", "backslashreplace") + b"\n")
        os.fsync(file.fileno())
        os.replace(partial, self.path)
        self._file.close()
        self._file = file
        self._file.seek(0, os.SEEK_END)

    def close(self) -> None:
        self._file.close()
