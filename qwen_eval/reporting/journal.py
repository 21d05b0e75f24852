"""samples.jsonl: one line per item, written as it finishes, read back when a run goes on.

A line counts as finished when it comes from the same run (`run`: a digest of weights, tokenizer, dtype and protocol)
and the same item (`item_sha256`: a digest of prompt, choices, gold answer and tests). Other lines stay until there is a
new answer. A last line that a crash has cut is dropped; any other damage stops the run.
"""

import errno
import fcntl
import hashlib
import json
import os
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any, BinaryIO

from qwen_eval.data.items import Item, item_sha256
from qwen_eval.errors import UserError, disk_error, one_line
from qwen_eval.reporting.samples import flat_record, packed, unpacked

Key = tuple[str, int]


def prompt_sha256(prompt: str) -> str:
    return hashlib.sha256(prompt.encode("utf-8", "surrogatepass")).hexdigest()


class Journal:
    """The finished items in `folder`/samples.jsonl. One process at a time (a file lock)."""

    def __init__(self, folder: Path, run: str, fresh: bool = False) -> None:
        """run: the digest that a line must have to count. fresh: start from nothing, but keep the old file until one
        item is finished.

        Raises UserError when the folder cannot be used, is in use, holds another run's lines, or a line in the middle
        is damaged.
        """
        self.path = folder / "samples.jsonl"
        self.run = run
        self.fresh = fresh  # the file on the disk is still that of an earlier run
        self._repeated = False  # an item has two lines in the file, of which the last counts
        make_folder(folder)
        self._file = _locked(self.path)
        for partial in folder.glob("*.partial"):  # left by a kill: we have the lock, so nobody is writing them
            partial.unlink(missing_ok=True)
        self.records: dict[Key, dict[str, Any]] = {} if fresh else self._read()
        if self._repeated:
            self._replace(self.records.values())

    def _read(self) -> dict[Key, dict[str, Any]]:
        drop_cut_line(self.path)  # its item runs again
        self._file.seek(0)
        lines = self._file.read().split(b"\n")[:-1]
        records: dict[Key, dict[str, Any]] = {}
        for number, line in enumerate(lines, start=1):
            try:
                given = json.loads(line)
                if given["run"] != self.run:
                    raise UserError(
                        f"{self.path.parent} holds a run with another model, dtype or prompt setting, or of an earlier "
                        f"version; give another -o, or --overwrite to drop it"
                    )
                record = unpacked(given)
                key = (record["id"], record["sample"])
            except (ValueError, KeyError, TypeError) as error:
                raise UserError(
                    f"{self.path} line {number} is damaged ({one_line(error)}); delete that line, or use --overwrite"
                ) from error
            self._repeated = self._repeated or key in records
            records[key] = record
        return records

    def finished(self, item: Item) -> bool:
        record = self.records.get(item.key)
        return record is not None and record.get("item_sha256") == item_sha256(item)

    def append(self, item: Item, fields: Mapping[str, Any]) -> dict[str, Any]:
        """Write one finished item and return its record; a kill from here on does not lose it.

        fields: what the line says besides id, subject and sums. `prompt` may be there in the form that the model saw;
        the sum is always that of the text in the item.
        """
        text = item.prompt + item.assistant_prefill
        named = {"id": item.id, "subject": item.subject, "sample": item.sample, "prompt": text, **fields}
        sums = {"prompt_sha256": prompt_sha256(text), "item_sha256": item_sha256(item), "run": self.run}
        record = flat_record({**named, **sums})
        if self.fresh:
            self._replace([record])
            self.fresh = False
        else:
            self._write(self._file, line_of(packed(record)))
        self._repeated = self._repeated or item.key in self.records
        self.records[item.key] = record
        return record

    def amend(self, changes: Mapping[Key, Mapping[str, Any]]) -> None:
        """Add what was found out later to finished lines, by item key. The file is replaced as a whole."""
        if changes:
            self.records |= {key: {**self.records[key], **fields} for key, fields in changes.items()}
            self._replace(self.records.values())

    def close(self) -> None:
        """End the run; from here on every item has one line, also where it was answered twice."""
        if self._repeated:
            self._replace(self.records.values())
        self._file.close()

    def _replace(self, records: Iterable[Mapping[str, Any]]) -> None:
        """Replace the file by these lines, all at once: a kill leaves the old file or the new one."""
        partial = self.path.with_name(f"{self.path.name}.partial")
        with disk_error(self.path):
            file = open(partial, "w+b", buffering=0)  # noqa: SIM115 - open for the life of the run
        fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        self._write(file, b"".join(line_of(packed(record)) for record in records))
        os.fsync(file.fileno())
        os.replace(partial, self.path)
        self._file.close()
        self._file = file
        self._repeated = False

    def _write(self, file: BinaryIO, data: bytes) -> None:
        with disk_error(self.path):
            append_whole(file, data)


def line_of(record: Mapping[str, Any]) -> bytes:
    """A record as a line of a JSONL file; half of a surrogate pair, which UTF-8 cannot hold, as an escape."""
    return json.dumps(record, ensure_ascii=False).encode("utf-8", "backslashreplace") + b"\n"


def append_whole(file: BinaryIO, data: bytes) -> None:
    """Append the data to an unbuffered file, all of it or nothing: a nearly full disk writes a part without an error.

    jsonlines' writer cannot do that, and Python's buffered files cannot either. Raises OSError when the disk is full.
    """
    end = file.seek(0, os.SEEK_END)
    rest = memoryview(data)
    try:
        while rest:
            if not (written := file.write(rest)):
                raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
            rest = rest[written:]
    except OSError:
        file.truncate(end)
        raise


def drop_cut_line(path: Path) -> None:
    """Drop a last line without a line end, which a kill in the middle of a write has left."""
    if path.exists():
        with open(path, "r+b") as file:
            data = file.read()
            file.truncate(data.rfind(b"\n") + 1)


def _locked(path: Path) -> BinaryIO:
    """The file, open for reading and appending, and locked. UserError where another process has it.

    The lock is on the file itself. One of the package filelock would be a second file, which stays in the folder: users
    would find it beside their results, copy it with them, and an output folder would no longer hold the results alone.
    """
    while True:
        with disk_error(path):
            file: BinaryIO = open(path, "a+b", buffering=0)  # noqa: SIM115 - open for the life of the run
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
            if os.path.samestat(os.fstat(file.fileno()), os.stat(path)):
                return file
        except FileNotFoundError:
            pass
        except BlockingIOError as error:
            file.close()
            raise UserError(f"{path.parent} is in use by another run; give another -o or wait for it") from error
        file.close()  # another run has just replaced the file: what was opened is the old one


def make_folder(folder: Path) -> None:
    """Make the output folder. Raises UserError where something else is in its place."""
    with disk_error(folder):
        for place in (folder, *folder.parents):
            if place.exists() and not place.is_dir():
                raise UserError(f"{place} is a file where a folder is wanted; give another -o, or move the file away")
        folder.mkdir(parents=True, exist_ok=True)
