"""Where the files of a benchmark are: what `-d` names, or what the hub has.

`-d` takes a folder, an archive, a file, or a hub id. A folder may be the official one, one above it (up to three
levels), a hub repository as it was downloaded, or one that holds the official archive. Every source ends as a folder
in a layout that the benchmark knows, so that a script has one way of reading.
Mirrors: HF_ENDPOINT is honoured by huggingface_hub; `QWEN_EVAL_HUB=modelscope` takes ModelScope instead.
"""

import contextlib
import fnmatch
import gzip
import hashlib
import lzma
import os
import shutil
import tarfile
import tempfile
import zipfile
import zlib
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import NamedTuple

from qwen_eval.data.readers import refuse_pointer
from qwen_eval.errors import UserError, one_line
from qwen_eval.extras import need
from qwen_eval.places import DEMO, uses_modelscope

from filelock import FileLock

ARCHIVES = (".zip", ".tar", ".tar.gz", ".tgz", ".tar.xz", ".tar.bz2")
NOT_UNPACKED = (".7z", ".rar", ".tar.zst")
DEPTH = 3  # levels below the folder that -d names
MOST_FOLDERS = 2000  # looked into, so that `-d /` ends


class Hub(NamedTuple):
    """Where a benchmark is on the hub: the id of the data set, and the official archive or file in it."""

    repo: str
    file: str


def cache_folder() -> Path:
    """QWEN_EVAL_CACHE, else ~/.cache/qwen-eval, else (in a container without a home) a temporary folder."""
    try:
        folder = Path(os.environ.get("QWEN_EVAL_CACHE") or "~/.cache/qwen-eval").expanduser().absolute()
    except RuntimeError:  # a user without a home
        folder = Path("/nowhere")
    there = next(path for path in (folder, *folder.parents) if path.exists())
    if "QWEN_EVAL_CACHE" in os.environ or (there != Path("/") and os.access(there, os.W_OK)):
        return folder
    return Path(tempfile.gettempdir()) / f"qwen-eval-{os.getuid()}"


CACHE = cache_folder()


def given_path(text: str) -> Path:
    """A path as the user wrote it, `~` resolved; UserError for a user without a home."""
    try:
        return Path(text).expanduser()
    except RuntimeError as error:
        raise UserError(f"{text}: {one_line(error)}; give the whole path") from error


def locate(given: str | None, hub: Hub, holds: str | Sequence[str], file_ok: bool = False) -> Path:
    """The folder that has `holds` in it, from `-d` or from the hub.

    holds: names or patterns (`test/*_test.csv`) that are looked for in turn; the first one is what an error names.
    With `file_ok` a file given by `-d` is itself the answer. Raises UserError when there is neither.
    """
    patterns = [holds] if isinstance(holds, str) else list(holds)
    if given and (path := given_path(given)).exists():
        if path.is_dir():
            return _holding(path, patterns, str(path), hub.file)
        if _is_archive(path):
            return _holding(_unpacked(path), patterns, str(path))
        if path.name.endswith(NOT_UNPACKED):
            raise UserError(f"{path} is an archive that cannot be read here; unpack it, and give the folder")
        if file_ok:
            return path
        raise UserError(f"{path} is a file; -d wants the folder that holds {_first_name(patterns)}, or its archive")
    if given and (given.count("/") != 1 or given.startswith((".", "/", "~"))):
        if given_path(given).parent == DEMO / "data":
            raise UserError(f"the demo has no samples of {given_path(given).name}; -d names the data")
        raise UserError(f"no such file or folder: {given}")
    source = Hub(given, hub.file) if given else hub
    fetched = _from_hub(source, given is not None)
    if not fetched.name.endswith(ARCHIVES):
        return fetched if file_ok else fetched.parent
    return _holding(_unpacked(fetched), patterns, source.repo)


def locate_files(given: str | None, hub: Hub, patterns: Sequence[str], file_ok: bool = True) -> list[Path]:
    """The files of one table (several where it was split): the file that `-d` names, else those in its folder, archive
    or hub repository that fit the first pattern with any. file_ok False: a file that `-d` names is refused."""
    file_ok = file_ok or not given or not given_path(given).exists()  # what is fetched from the hub is a file
    place = locate(given, hub, patterns, file_ok)
    return find(place, patterns) if place.is_dir() else [place]


def find(folder: Path, patterns: Sequence[str]) -> list[Path]:
    """What in `folder` fits the first of the patterns that anything fits, in order; hidden names do not count."""
    for pattern in patterns:
        found = [path for path in sorted(folder.glob(pattern)) if not _hidden(path)]
        if found:
            return found
    return []


def tables(config: str, split: str) -> tuple[str, ...]:
    """The patterns of one split of a data set of the hub, as the hub, its conversions and `save_to_disk` lay it out.
    config: the folder of the configuration, "" for none."""
    top = f"{config}/" if config else ""
    forms = [f"{top}{split}-*.parquet", f"{top}{split}/*.parquet", f"{top}*-{split}.parquet", f"{top}{split}.parquet"]
    return (*forms, *([] if config else [f"data/{split}-*.parquet"]), f"{top}{split}/data-*.arrow")


def _first_name(patterns: Sequence[str]) -> str:
    return patterns[0].split("/")[0]


def _hidden(path: Path) -> bool:
    """`.git`, `.cache`, and `__MACOSX` with its `._name` files."""
    return path.name.startswith((".", "__"))


def _holding(folder: Path, patterns: Sequence[str], shown: str, archive: str = "") -> Path:
    """The folder at or below `folder` in which something fits, the nearest first; else that of an archive in there."""
    below = list(_folders(folder))
    for candidate in below:
        if find(candidate, patterns):
            return candidate
    for packed in _archives(below, archive):
        if _may_hold(packed, patterns):
            return _holding(_unpacked(packed), patterns, str(packed))
    raise UserError(
        f"{shown} has no {_first_name(patterns)!r} in it; -d wants the official folder (see eval/EVALUATION.md)"
    )


def _folders(top: Path) -> Iterator[Path]:
    """`top` and the folders below it, level by level."""
    level, count = [top], 0
    for _ in range(DEPTH + 1):
        deeper: list[Path] = []
        for folder in level:
            if (count := count + 1) > MOST_FOLDERS:
                return
            yield folder
            with contextlib.suppress(OSError):  # one that may not be read
                deeper += sorted(child for child in folder.iterdir() if child.is_dir() and not _hidden(child))
        level = deeper


def _archives(folders: Sequence[Path], first: str) -> list[Path]:
    """The archives in these folders, the one of this name before all others."""
    found = []
    for folder in folders:
        with contextlib.suppress(OSError):
            found += [path for path in sorted(folder.iterdir()) if path.name.endswith(ARCHIVES) and not _hidden(path)]
    return sorted(found, key=lambda path: path.name != Path(first).name)


def _is_archive(path: Path) -> bool:
    if path.name.endswith(ARCHIVES):
        return True
    return not path.suffix and (zipfile.is_zipfile(path) or tarfile.is_tarfile(path))


def _may_hold(archive: Path, patterns: Sequence[str]) -> bool:
    """Whether a member's name fits, so that only what is wanted is unpacked; True where its list is unreadable, for the
    error of unpacking says why."""
    refuse_pointer(archive, archive.read_bytes()[:100] if archive.stat().st_size < 1000 else b"")
    try:
        if archive.name.endswith(".zip"):
            with zipfile.ZipFile(archive) as members:
                names = members.namelist()
        else:
            with tarfile.open(archive) as tar:
                names = tar.getnames()
    except (OSError, EOFError, zipfile.BadZipFile, tarfile.TarError, zlib.error, lzma.LZMAError):
        return True
    ends = [pattern if part == "" else f"{pattern}/*" for pattern in patterns for part in ("", "/*")]
    return any(fnmatch.fnmatchcase(f"/{name}", f"*/{end}") for name in names for end in ends)


def _unpacked(archive: Path) -> Path:
    """A folder with the archive's members, in the cache, keyed by the archive's content; unpacked once."""
    with open(archive, "rb") as stream:
        refuse_pointer(archive, stream.read(100))
    digest = file_sha256(archive)[:16]
    target = CACHE / "unpacked" / f"{archive.name.split('.')[0]}-{digest}"
    if target.exists() and not any(target.parent.glob("*.partial")):
        return target
    target.parent.mkdir(parents=True, exist_ok=True)
    with FileLock(target.parent / ".lock"):  # whoever was unpacking is done by now
        for stale in target.parent.glob("*.partial"):  # of a process that was killed: no other one is unpacking
            shutil.rmtree(stale, ignore_errors=True)
        if target.exists():
            return target
        partial = target.with_name(f"{target.name}.partial")
        try:
            _unpack(archive, partial)
            partial.rename(target)
        except BaseException:
            shutil.rmtree(partial, ignore_errors=True)
            raise
    return target


def _unpack(archive: Path, folder: Path) -> None:
    try:
        if zipfile.is_zipfile(archive) and not archive.name.endswith((".tar", ".tar.gz", ".tgz", ".tar.xz")):
            with zipfile.ZipFile(archive) as members:
                members.extractall(folder)
        elif archive.name.endswith(".zip"):
            raise zipfile.BadZipFile("File is not a zip file")
        else:
            with tarfile.open(archive) as tar:
                tar.extractall(folder, filter="data")
                while tar.fileobj and tar.fileobj.read(1 << 22):  # to the end of the stream, where its checksum is
                    pass
    except (zipfile.BadZipFile, tarfile.TarError, EOFError, zlib.error, lzma.LZMAError, gzip.BadGzipFile) as error:
        raise UserError(f"{archive} is not a readable archive ({one_line(error)}); download it again") from error
    except (RuntimeError, NotImplementedError) as error:  # a password; a way of packing that zipfile lacks
        raise UserError(
            f"{archive} cannot be unpacked here ({one_line(error)}); unpack it, and give -d the folder"
        ) from error
    folder.mkdir(exist_ok=True)  # an empty archive


def _from_hub(hub: Hub, asked: bool) -> Path:
    place = "ModelScope" if uses_modelscope() else "the Hugging Face hub"
    if uses_modelscope():
        need("modelscope")
    try:
        if uses_modelscope():
            from modelscope.hub.snapshot_download import dataset_snapshot_download

            return Path(dataset_snapshot_download(hub.repo, allow_patterns=[hub.file])) / hub.file
        from huggingface_hub import hf_hub_download

        return Path(hf_hub_download(hub.repo, hub.file, repo_type="dataset"))
    except Exception as error:
        what = f"no folder or file {hub.repo!r}, and it" if asked else f"no -d given, and {hub.repo}"
        raise UserError(
            f"{what} could not be fetched from {place} ({one_line(error)[:160]}); "
            f"give the official data with -d{'' if uses_modelscope() else ', or set HF_ENDPOINT to a mirror'}"
        ) from error


def file_sha256(path: Path) -> str:
    with open(path, "rb") as stream:
        digest = hashlib.sha256()
        while block := stream.read(1 << 22):
            digest.update(block)
    return digest.hexdigest()
