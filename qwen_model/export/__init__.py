"""A first-generation Qwen checkpoint in the layout of Qwen2, for programs that do not know Qwen's own.

    python -m qwen_model.export Qwen/Qwen-7B-Chat qwen-7b-chat --drop-long-context

transformers, vLLM, SGLang and llama.cpp load the result without any code of ours: the same weights, float or packed
(GPTQ Int4, Int8), bit by bit, a fast tokenizer that gives the same ids, and the settings of replies. docs/serving.md
says how. Source of the layout: transformers' Qwen2ForCausalLM, whose computation is the same up to the training length.
"""

from __future__ import annotations

import json
import os
import shutil
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from ..checkpoint import CheckpointError, checkpoint_folder, model_type, read_json, readable, weight_files
from ..configuration import QWenConfig
from ..loading import check_checkpoint, is_chat, load_config, load_tokenizer
from ..tokenization import QWenTokenizer
from .layout import dropped, qwen2_config, refuse_unsayable
from .tokenizer import write_tokenizer
from .weights import has_head, refuse_biases, stored_dtype, write_weights

__all__ = ["export"]

#: how replies are sampled. A limit of their length is not copied: vLLM would cut every reply there.
SAMPLING = ("do_sample", "temperature", "top_p", "top_k", "repetition_penalty")
LICENCES = ("LICENSE*", "NOTICE*", "License*", "Notice*")


def export(
    checkpoint: str | Path,
    out: str | Path,
    drop_long_context: bool = False,
    max_shard_size: int | None = None,
) -> list[str]:
    """Write a first-generation Qwen checkpoint to the folder `out` in Qwen2's layout: the whole of it or nothing.

    Args:
        checkpoint: folder or hub id; float, or packed with GPTQ.
        out: a folder that does not exist, or is empty.
        drop_long_context: export a checkpoint that has dynamic NTK, LogN or windows switched on without them.
        max_shard_size: bytes of a weights file; None: as the checkpoint's own.

    Returns:
        What of the checkpoint's settings the copy does not say: a line each.

    Raises:
        CheckpointError: no such checkpoint, anything wrong with it, something that Qwen2's layout cannot say, a folder
            that is not empty, a disk that is full.
    """
    target = Path(out).expanduser()
    _refuse_used(target)
    folder = checkpoint_folder(checkpoint)
    if (found := model_type(folder)) != QWenConfig.model_type:
        raise CheckpointError(
            f"{folder}: its model_type is {found!r}, not 'qwen': only first-generation Qwen needs an export"
        )
    check_checkpoint(folder)
    config: QWenConfig = load_config(folder)
    refuse_unsayable(str(folder), config, drop_long_context)
    with readable(folder) as place:
        files = weight_files(place)
        refuse_biases(files)
        needed = sum(file.stat().st_size for file in files)
        with _made_whole(target, needed) as unfinished:
            _write_settings(folder, place, unfinished, config, files)
            with _progress(needed) as bar:
                write_weights(files, unfinished, config, max_shard_size, bar.update)
    return dropped(config)


def _write_settings(folder: Path, place: Path, target: Path, config: QWenConfig, files: list[Path]) -> None:
    """Everything but the weights: tokenizer, config.json, generation_config.json, the licence."""
    chat = is_chat(folder)
    tokenizer: QWenTokenizer = load_tokenizer(folder)
    write_tokenizer(tokenizer, place, target, chat, config.training_length())
    ends = [tokenizer.im_end_id, tokenizer.eod_id] if chat else [tokenizer.eod_id]
    own = folder / "generation_config.json"
    published = read_json(own) if own.is_file() else {}
    generation = {
        "eos_token_id": ends if chat else ends[0],
        "pad_token_id": tokenizer.eod_id,
        **{name: published[name] for name in SAMPLING if published.get(name) is not None},
    }
    settings = qwen2_config(config, stored_dtype(files), not has_head(files), eos=ends[0], bos=tokenizer.eod_id)
    for name, content in (("config.json", settings), ("generation_config.json", generation)):
        (target / name).write_text(json.dumps(content, indent=2) + "\n")
    for path in {path for pattern in LICENCES for path in folder.glob(pattern) if path.is_file()}:
        shutil.copyfile(path, target / path.name)


def _refuse_used(target: Path) -> None:
    if target.exists() and not target.is_dir():
        raise CheckpointError(f"{target}: a file; give a folder that does not exist yet")
    if target.is_dir() and any(target.iterdir()):
        raise CheckpointError(f"{target}: not empty; give a folder that does not exist yet, or remove this one")


@contextmanager
def _made_whole(target: Path, needed: int) -> Iterator[Path]:
    """A folder beside `target` that takes its place when all is written, and is removed when anything goes wrong."""
    unfinished = target.absolute().parent / f"{target.absolute().name}.partial-{os.getpid()}"
    try:
        unfinished.parent.mkdir(parents=True, exist_ok=True)
        if (free := shutil.disk_usage(unfinished.parent).free) < needed:
            raise CheckpointError(
                f"{target}: {needed / 1e9:,.1f} GB are needed and {free / 1e9:,.1f} GB free; make room, or give another"
            )
        unfinished.mkdir()
        yield unfinished
        unfinished.replace(target)
    except (OSError, ValueError) as error:
        if isinstance(error, CheckpointError):
            raise
        raise CheckpointError(f"{target}: not exported: {error}") from error
    finally:
        shutil.rmtree(unfinished, ignore_errors=True)


def _progress(size: int) -> Any:
    from tqdm import tqdm

    interval = 0.3 if sys.stderr.isatty() else 10
    return tqdm(desc="export", total=size, unit="B", unit_scale=True, mininterval=interval)
