"""The files of a checkpoint: which of them hold the weights, and what these hold by their headers.

Nothing here builds a model or reads weights, so a folder is examined in a moment, and what is wrong with it is one line
(`CheckpointError`) that says what the folder is in place of what was wanted.
"""

from __future__ import annotations

import codecs
import contextlib
import json
import re
import struct
import tempfile
import zipfile
from collections.abc import Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import torch

# In the order of transformers: a whole file goes before an index, which may be left over from another save.
WEIGHT_FILES = (
    "model.safetensors",
    "model.safetensors.index.json",
    "pytorch_model.bin",
    "pytorch_model.bin.index.json",
)
# Never fetched from the hub: code, and weights of other frameworks.
NOT_FETCHED = ["*.py", "*.h5", "*.msgpack", "*.onnx", "*.gguf", "*.pth", "original/*"]
# Weights that are none of a transformers checkpoint in PyTorch: pattern of the file's name, and what it is.
OTHER_WEIGHTS = {
    "*.gguf": "GGUF, the format of llama.cpp",
    "*.ggml": "GGML, the format of llama.cpp",
    "*.h5": "weights of TensorFlow",
    "*.msgpack": "weights of Flax",
    "*.onnx": "an ONNX graph",
    "*.pth": "weights in their authors' own format",
    "*.nemo": "a NeMo archive",
    "*.distcp": "a distributed checkpoint of PyTorch",
    "*_optim_states.pt": "states of a DeepSpeed training",
}
ADAPTER = "adapter_config.json"
LFS_POINTER = b"version https://git-lfs.github.com/spec/"


class CheckpointError(ValueError):
    """A checkpoint that cannot be used; the message is one line that says what is wrong and where."""

    def __init__(self, message: str) -> None:
        super().__init__(" ".join(message.split()))


class Tensor(NamedTuple):
    """What a file says of a tensor: `dtype` as safetensors writes it ("BF16"; "" where the file does not say)."""

    shape: tuple[int, ...]
    dtype: str


def checkpoint_folder(path: str | Path, files: Sequence[str] | None = None) -> Path:
    """The folder of a checkpoint: `path` itself, or the local copy of a hub id (`owner/name`), fetched if need be. A
    folder of the hub's cache (`models--owner--name`) stands for the snapshot in it.

    files: patterns of those that are fetched (a tokenizer's, without weights); None: all that a model needs.

    Raises:
        CheckpointError: neither a folder nor a model on the hub.
    """
    try:
        folder = Path(path).expanduser()
    except RuntimeError as error:  # `~` of a user without a home
        raise CheckpointError(f"{path}: no such folder ({error})") from None
    if folder.is_dir():
        for name in ("config.json", ADAPTER):
            snapshots = [] if (folder / name).exists() else list(folder.glob(f"snapshots/*/{name}"))
            if len(snapshots) == 1:
                return snapshots[0].parent
        return folder
    if folder.exists():
        raise CheckpointError(f"{path}: a file, not the folder of a checkpoint")
    if not re.fullmatch(r"[\w-][\w.-]*/[\w-][\w.-]*", str(path)):
        raise CheckpointError(f"{path}: no such folder")
    import huggingface_hub

    try:
        return Path(
            huggingface_hub.snapshot_download(
                str(path), allow_patterns=None if files is None else list(files), ignore_patterns=NOT_FETCHED
            )
        )
    except Exception as error:  # the hub's client raises whatever its HTTP layer does
        reason = (str(error).strip() or type(error).__name__).splitlines()[0]
        raise CheckpointError(f"{path}: no such folder, and not to be had from the hub: {reason}") from None


def read_json(path: Path) -> dict[str, Any]:
    """The object in a JSON file of a checkpoint; a byte order mark before it is nothing."""
    if not path.exists():
        raise CheckpointError(f"{path.parent}: no {path.name} in it{what_it_is(path.parent)}")
    refuse_pointer(path)
    try:
        content = json.loads(path.read_text(encoding="utf-8-sig"))
    except (OSError, ValueError, RecursionError) as error:
        raise CheckpointError(f"{path}: not readable as JSON: {error}") from None
    if not isinstance(content, dict):
        raise CheckpointError(f"{path}: not a JSON object")
    return content


def model_type(folder: Path) -> str:
    """The `model_type` of a checkpoint's config.json."""
    found = read_json(folder / "config.json").get("model_type")
    if not found:
        raise CheckpointError(f"{folder / 'config.json'}: no model_type in it")
    if not isinstance(found, str):
        raise CheckpointError(f"{folder / 'config.json'}: model_type is {found!r}, not a text")
    return found


@contextlib.contextmanager
def readable(folder: Path) -> Iterator[Path]:
    """The folder, or where libraries cannot read it as it is, one of links to its files.

    That is a path that is not UTF-8 (safetensors refuses it), or a JSON file that begins with a byte order mark, which
    transformers refuses in some files and drops in silence in others: the copy is without it. The settings of an
    adapter are left out: with PEFT installed transformers would look for its base (adapters.py loads adapters).
    """
    left_over = (folder / ADAPTER).is_file()
    marked = [path for path in folder.glob("*.json") if path.is_file() and _begins_with(path, codecs.BOM_UTF8)]
    shown = str(folder.absolute())
    if not marked and not left_over and shown.encode("utf-8", "replace").decode() == shown:
        yield folder
        return
    with tempfile.TemporaryDirectory(prefix="qwen-checkpoint-") as name:
        for path in folder.iterdir():
            if path.name == ADAPTER:
                continue
            if path in marked:
                (Path(name) / path.name).write_bytes(path.read_bytes().removeprefix(codecs.BOM_UTF8))
            else:
                (Path(name) / path.name).symlink_to(path.absolute())
        yield Path(name)


def _begins_with(path: Path, beginning: bytes) -> bool:
    with open(path, "rb") as file:
        return file.read(len(beginning)) == beginning


def refuse_pointer(path: Path) -> None:
    """CheckpointError where a file is a Git LFS pointer: the repository was cloned without its large files."""
    if _begins_with(path, LFS_POINTER):
        raise CheckpointError(
            f"{path}: a Git LFS pointer, not the file itself; run `git lfs pull` there, or download the file"
        )


def what_it_is(folder: Path) -> str:
    """What a folder without a checkpoint's files has instead, as the end of a sentence; "" where nothing is known."""
    if (folder / ADAPTER).is_file():
        base = read_json(folder / ADAPTER).get("base_model_name_or_path")
        return (
            f"; it is a PEFT adapter (LoRA or the like) of {base or 'some model'}, not a whole model: "
            "load it with its base model (--adapter, load_model(base, adapter=...))"
        )
    for pattern, meaning in OTHER_WEIGHTS.items():
        if found := sorted(folder.rglob(pattern)):
            return f"; {found[0].name} is {meaning}: give the checkpoint in transformers' format"
    if parts := sorted(
        path for path in folder.iterdir() if re.search(r"-\d{5}-of-\d{5}\.(safetensors|bin)$", path.name)
    ):
        index = "model.safetensors" if parts[0].suffix == ".safetensors" else "pytorch_model.bin"
        return (
            f"; it has {len(parts)} shards ({parts[0].name}, ...) without their index: download {index}.index.json too"
        )
    if broken := sorted(path for path in folder.iterdir() if path.is_symlink() and not path.exists()):
        return f"; {broken[0].name} is a link to a file that is not there: download the checkpoint again"
    for name, what in (("config.json", "a checkpoint"), (ADAPTER, "a PEFT adapter")):
        if inner := sorted(path.parent for path in folder.glob(f"*/{name}")):
            return f"; {what} is in {inner[-1]}: give that folder"
    return ""


def weight_files(folder: Path) -> list[Path]:
    """The files that hold the weights, all of them present, whole by their length, and no pointers.

    Raises:
        CheckpointError: no weights, a missing shard, a truncated or corrupt file.
    """
    found = next((folder / name for name in WEIGHT_FILES if (folder / name).is_file()), None)
    if found is None:
        said, names = what_it_is(folder), ", ".join(WEIGHT_FILES)
        raise CheckpointError(f"{folder}: no weights in it{said or f' (none of {names})'}")
    files = [found]
    if found.suffix == ".json":
        weight_map = read_json(found).get("weight_map")
        if not isinstance(weight_map, dict) or not all(isinstance(name, str) for name in weight_map.values()):
            raise CheckpointError(f"{found}: its weight_map is no object of file names")
        files = [folder / shard for shard in sorted(set(weight_map.values()))]
        missing = [file.name for file in files if not file.is_file()]
        if missing or not files:
            raise CheckpointError(
                f"{folder}: missing shard {missing[0] if missing else f'(no weight in {found.name})'}"
            )
    for file in files:
        check_whole(file)
    return files


def check_whole(path: Path) -> None:
    """Find a truncated or corrupt file by its header and length, without reading the weights."""
    size = path.stat().st_size
    refuse_pointer(path)
    if path.suffix != ".safetensors":
        with open(path, "rb") as file:
            # torch has written zip archives since 1.6; a zip's directory is at its end, so a cut shows.
            if size == 0 or (file.read(2) == b"PK" and not zipfile.is_zipfile(path)):
                raise CheckpointError(f"{path}: truncated or corrupt weights file")
        return
    try:
        header, length = _safetensors_header(path)
        end = max((entry["data_offsets"][1] for entry in header.values()), default=0)
    except (ValueError, struct.error, KeyError, TypeError, AttributeError, IndexError):
        raise CheckpointError(f"{path}: truncated or corrupt safetensors file (its header is unreadable)") from None
    if 8 + length + end != size:
        raise CheckpointError(
            f"{path}: truncated or corrupt safetensors file ({size:,} bytes, its header says {8 + length + end:,})"
        )


def _safetensors_header(path: Path) -> tuple[dict[str, Any], int]:
    """The tensors' entries by name, and the header's length in bytes."""
    with open(path, "rb") as file:
        (length,) = struct.unpack("<Q", file.read(8))
        if length > path.stat().st_size - 8:
            raise ValueError
        header = json.loads(file.read(length))
    return {name: entry for name, entry in header.items() if name != "__metadata__"}, length


def tensors(files: Iterable[Path]) -> dict[str, Tensor]:
    """Every tensor of these files by name, from their headers; those of a file whose header cannot be read alone (torch
    before 1.6) are left out."""
    found: dict[str, Tensor] = {}
    for path in files:
        if path.suffix == ".safetensors":
            header, _ = _safetensors_header(path)
            found |= {name: Tensor(tuple(entry["shape"]), entry["dtype"]) for name, entry in header.items()}
            continue
        try:
            content = torch.load(path, map_location="meta", mmap=True, weights_only=True)
        except Exception:  # an old form, or a fault that loading names
            continue
        if isinstance(content, Mapping):
            found |= {name: Tensor(tuple(t.shape), "") for name, t in content.items() if isinstance(t, torch.Tensor)}
    return found


def read_tensors(path: Path, names: Iterable[str]) -> Iterator[tuple[str, torch.Tensor]]:
    """Those of these tensors that a weights file has, read one by one."""
    wanted = set(names)
    if path.suffix == ".safetensors":
        from safetensors import safe_open

        with safe_open(path, framework="pt") as file:
            for name in sorted(wanted.intersection(file.keys())):
                yield name, file.get_tensor(name)
        return
    content = torch.load(path, map_location="cpu", mmap=True, weights_only=True)
    for name in sorted(wanted.intersection(content)):
        yield name, content[name]
