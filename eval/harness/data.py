"""Where benchmark data comes from, and how rows are read and chosen.

`-d` takes the official folder, the official archive (.zip, .tar, .tar.gz), or a hub id; without it the benchmark's own
hub id is used. Every source ends as a folder in the official layout, so a script has one way of reading.
Mirrors: HF_ENDPOINT is honoured by huggingface_hub; `QWEN_EVAL_HUB=modelscope` takes ModelScope instead.
"""

import csv
import gzip
import hashlib
import json
import lzma
import os
import random
import shutil
import tarfile
import zipfile
import zlib
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, NamedTuple

from .errors import UserError, one_line

CACHE = Path(os.environ.get("QWEN_EVAL_CACHE", "~/.cache/qwen-eval")).expanduser()
ARCHIVES = (".zip", ".tar", ".tar.gz", ".tgz", ".tar.xz")


@dataclass(frozen=True)
class Item:
    """One question: `id` as in the contract (`nutrition/17`), the prompt text, the gold answer, and the raw row."""

    id: str
    subject: str
    prompt: str
    gold: Any = None
    row: Any = field(default=None, compare=False)
    sample: int = 0  # which of several replies to the same question (pass@k)
    begun: str = ""  # what of a chat model's turn is there already: its reply goes on from it

    @property
    def key(self) -> tuple[str, int]:
        return (self.id, self.sample)


class Hub(NamedTuple):
    """Where a benchmark lives on the hub: the data set's id and the official archive or file in it."""

    repo: str
    file: str


def locate(given: str | None, hub: Hub, holds: str, file_ok: bool = False) -> Path:
    """The folder that has `holds` (a file or folder name) in it, from `-d` or from the hub.

    With `file_ok` a file given by `-d` is itself the answer. Raises UserError when there is neither.
    """
    if given and (path := Path(given).expanduser()).exists():
        if path.is_file() and path.name.endswith(ARCHIVES):
            return _holding(_unpacked(path), holds, str(path))
        if path.is_file():
            if file_ok:
                return path
            raise UserError(f"{path} is a file; -d wants the folder that holds {holds}, or its archive")
        return _holding(path, holds, str(path))
    if given and (given.count("/") != 1 or given.startswith((".", "/", "~"))):
        raise UserError(f"no such file or folder: {given}")
    source = Hub(given, hub.file) if given else hub
    fetched = _from_hub(source, given is not None)
    if not fetched.name.endswith(ARCHIVES):
        return fetched if file_ok else fetched.parent
    return _holding(_unpacked(fetched), holds, source.repo)


def _holding(folder: Path, holds: str, shown: str) -> Path:
    """`folder` itself or the one below it (the official MMLU archive has a top folder `data`) that has `holds`."""
    for candidate in (folder, *sorted(child for child in folder.iterdir() if child.is_dir())):
        if (candidate / holds).exists():
            return candidate
    raise UserError(f"{shown} has no {holds!r} in it; -d wants the official folder (see eval/EVALUATION.md)")


def _unpacked(archive: Path) -> Path:
    """A folder with the archive's members, in the cache, keyed by the archive's content; unpacked once."""
    digest = file_sha256(archive)[:16]
    target = CACHE / "unpacked" / f"{archive.name.split('.')[0]}-{digest}"
    if target.exists():
        return target
    partial = target.with_name(f"{target.name}.{os.getpid()}.partial")
    try:
        if archive.name.endswith(".zip"):
            with zipfile.ZipFile(archive) as members:
                members.extractall(partial)
        else:
            with tarfile.open(archive) as tar:
                tar.extractall(partial, filter="data")
                while tar.fileobj and tar.fileobj.read(1 << 22):  # to the end of the stream, where its checksum is
                    pass
    except (zipfile.BadZipFile, tarfile.TarError, EOFError, zlib.error, lzma.LZMAError, gzip.BadGzipFile) as error:
        shutil.rmtree(partial, ignore_errors=True)
        raise UserError(f"{archive} is not a readable archive ({one_line(error)}); download it again") from error
    try:
        partial.rename(target)
    except OSError:  # another process was first
        shutil.rmtree(partial, ignore_errors=True)
    return target


def _from_hub(hub: Hub, asked: bool) -> Path:
    place = "ModelScope" if uses_modelscope() else "the Hugging Face hub"
    try:
        if uses_modelscope():
            from modelscope.hub.api import HubApi  # noqa: F401  (says which extra is missing)
            from modelscope.hub.snapshot_download import dataset_snapshot_download

            return Path(dataset_snapshot_download(hub.repo, allow_patterns=[hub.file])) / hub.file
        from huggingface_hub import hf_hub_download

        return Path(hf_hub_download(hub.repo, hub.file, repo_type="dataset"))
    except ImportError as error:
        raise UserError(f"{error.name} is not installed; pip install -e '.[modelscope]'") from error
    except Exception as error:
        what = f"no folder or file {hub.repo!r}, and it" if asked else f"no -d given, and {hub.repo}"
        raise UserError(
            f"{what} could not be fetched from {place} ({one_line(error)[:160]}); "
            f"give the official data with -d, or set HF_ENDPOINT to a mirror"
        ) from error


def uses_modelscope() -> bool:
    return os.environ.get("QWEN_EVAL_HUB", "").lower() == "modelscope"


def read_csv(path: Path, columns: Sequence[str], header: bool) -> list[dict[str, str]]:
    """Rows of an official CSV as text, nothing taken for a missing value (`None`, `NA`, `nan` are answers).

    columns: the names wanted; with `header` they are looked up in the first line, else they are its fields in order.
    Raises UserError naming file and row for a missing file, a missing column or a short row.
    """
    if not path.exists():
        raise UserError(f"missing file {path}; -d wants the complete official data (or name what is there: --subjects)")
    try:
        with open(path, newline="", encoding="utf-8-sig") as lines:
            table = [row for row in csv.reader(lines, strict=True) if row]
    except (UnicodeDecodeError, csv.Error) as error:
        raise UserError(f"{path} is not a readable UTF-8 CSV ({one_line(error)})") from error
    if header:
        names, table = (table[0], table[1:]) if table else ([], [])
        if missing := [name for name in columns if name not in names]:
            raise UserError(f"{path} has no column {missing[0]!r} (it has: {', '.join(names) or 'nothing'})")
    else:
        names = list(columns)
    for number, row in enumerate(table):
        if len(row) != len(names):
            raise UserError(
                f"{path} row {number}: {len(row)} columns where {len(names)} are wanted ({', '.join(names)})"
            )
    return [dict(zip(names, row, strict=True)) for row in table]


def read_jsonl(path: Path, needs: Sequence[str]) -> list[dict[str, Any]]:
    """Rows of a JSONL file; UserError naming file and line when one is no object or lacks a field of `needs`."""
    if not path.exists():
        raise UserError(f"missing file {path}")
    rows = []
    try:
        text = path.read_text(encoding="utf-8")
    except UnicodeDecodeError as error:
        raise UserError(f"{path} is not UTF-8 ({one_line(error)})") from error
    for number, line in enumerate(text.split("\n"), start=1):
        if not line.strip():
            continue
        try:
            row = json.loads(line)
        except json.JSONDecodeError as error:
            raise UserError(f"{path} line {number} is not JSON ({error.msg})") from error
        if not isinstance(row, dict) or (missing := [name for name in needs if name not in row]):
            raise UserError(
                f"{path} line {number} " + ("is no object" if not isinstance(row, dict) else f"has no {missing[0]!r}")
            )
        rows.append(row)
    return rows


def choose_subjects(known: Iterable[str], asked: str | None) -> list[str]:
    """The subjects of `--subjects a,b`, in the benchmark's order; UserError for one that it does not have."""
    names = list(known)
    if not asked:
        return names
    wanted = [name.strip() for name in asked.split(",") if name.strip()]
    if unknown := [name for name in wanted if name not in names]:
        import difflib

        near = difflib.get_close_matches(unknown[0], names, n=1)
        hint = f"did you mean {near[0]!r}?" if near else f"there are {len(names)}, such as {names[0]!r}"
        raise UserError(f"unknown subject {unknown[0]!r} in --subjects; {hint}")
    return [name for name in names if name in wanted]


def subset(items: Sequence[Item], limit: int | None, sample: int | None, seed: int) -> list[Item]:
    """`--limit N`: the first N items of each subject; `--sample N`: N items in all, by share of subject, seeded."""
    if not items:
        raise UserError("the data set is empty: no item to run")
    by_subject: dict[str, list[Item]] = {}
    for item in items:
        by_subject.setdefault(item.subject, []).append(item)
    if limit is not None:
        by_subject = {name: group[:limit] for name, group in by_subject.items()}
    if sample is not None:
        by_subject = _stratified(by_subject, sample, seed)
    kept = {item.key for group in by_subject.values() for item in group}
    return [item for item in items if item.key in kept]


def _stratified(groups: dict[str, list[Item]], total: int, seed: int) -> dict[str, list[Item]]:
    """Largest-remainder shares of `total`, drawn without replacement, one seeded stream a subject."""
    count = sum(map(len, groups.values()))
    total = min(total, count)
    exact = {name: total * len(group) / count for name, group in groups.items()}
    shares = {name: int(value) for name, value in exact.items()}
    by_remainder = sorted(groups, key=lambda name: (shares[name] - exact[name], name))
    for name in by_remainder[: total - sum(shares.values())]:
        shares[name] += 1
    return {name: random.Random(f"{seed}/{name}").sample(group, shares[name]) for name, group in groups.items()}


def file_sha256(path: Path) -> str:
    with open(path, "rb") as stream:
        digest = hashlib.sha256()
        while block := stream.read(1 << 22):
            digest.update(block)
    return digest.hexdigest()


def items_sha256(items: Iterable[Item]) -> str:
    """One digest of what was asked: ids, prompts and gold answers, in order."""
    digest = hashlib.sha256()
    for item in items:
        digest.update(json.dumps([item.id, item.prompt, item.gold], ensure_ascii=False, default=str).encode())
    return digest.hexdigest()
