"""The weights of a checkpoint in Qwen2's layout, one shard at a time.

A shard is mapped into memory and not read: its tensors are views of the file, and what is written is copied from it by
the system. Only a packed `c_attn`, whose thirds are columns, is copied. So an export needs the memory of one shard at
most, and the pages of a mapped file are the first that a system short of memory takes back.
"""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path

import torch
from safetensors import SafetensorError
from safetensors.torch import save_file

from ..checkpoint import CheckpointError, read_tensors, tensors
from ..configuration import QWenConfig
from ..gptq import GPTQLinear, packing_of
from .layout import as_qwen2, has_no_place, is_unsaid_bias

Named = tuple[str, torch.Tensor]
HEAD = "lm_head.weight"


def shard_size(text: str) -> int:
    """Bytes of "5GB", "500 MB" or a number; powers of 1000.

    Raises:
        ValueError: anything else.
    """
    match = re.fullmatch(r"(\d+(?:\.\d+)?)\s*(K|M|G|T)?B?", text.strip(), re.IGNORECASE)
    size = int(float(match[1]) * 1000 ** " KMGT".index((match[2] or " ").upper())) if match else 0
    if size < 1:
        raise ValueError(f"{text!r} is no size; give one such as 5GB")
    return size


def names_in(path: Path) -> list[str]:
    """The names of the tensors in a weights file."""
    if not (found := list(tensors([path]))):
        raise CheckpointError(
            f"{path}: not readable tensor by tensor (written by torch before 1.6?): load it and save it again"
        )
    return found


def refuse_biases(files: Iterable[Path]) -> None:
    """CheckpointError where a layer that has no bias in Qwen2 has one that is not zero."""
    for path in files:
        for name, values in read_tensors(path, filter(is_unsaid_bias, names_in(path))):
            if values.any():
                raise CheckpointError(f"{path}: {name} is not zero; Qwen2 has no such bias, so there is no export")


def has_head(files: Iterable[Path]) -> bool:
    """Whether the files hold a head: one that config.json calls tied is then the model's all the same."""
    return any(HEAD in names_in(path) for path in files)


def stored_dtype(files: Iterable[Path]) -> str:
    """The name of the dtype of the word embedding, which no quantiser packs."""
    wanted = "transformer.wte.weight"
    for path in files:
        for _, values in read_tensors(path, [wanted]):
            return str(values.dtype).removeprefix("torch.")
    raise CheckpointError(f"no {wanted} in the weights")


def write_weights(
    files: list[Path],
    target: Path,
    config: QWenConfig,
    max_shard_size: int | None = None,
    advance: Callable[[int], object] = lambda _: None,
) -> None:
    """Write the weights of these files into the folder `target`; a shard of the result holds tensors of one file.

    Args:
        max_shard_size: bytes; None: shards of the size that they have. A tensor that is larger has its own shard.
        advance: is told the bytes that have been read.
    """
    shards: list[dict[str, int]] = []
    for path in files:
        for part in _parts(_converted(path, config), max_shard_size):
            shards.append({name: tensor.nbytes for name, tensor in part.items()})
            try:
                save_file(part, target / _partial(len(shards)), metadata={"format": "pt"})
            except SafetensorError as error:  # a full disk, among others
                raise OSError(str(error)) from None
            del part
        advance(path.stat().st_size)
    names = ["model.safetensors"]
    if len(shards) > 1:
        names = [f"model-{number:05}-of-{len(shards):05}.safetensors" for number in range(1, len(shards) + 1)]
        weight_map = {tensor: name for name, shard in zip(names, shards, strict=True) for tensor in shard}
        total = sum(size for shard in shards for size in shard.values())
        index = {"metadata": {"total_size": total}, "weight_map": dict(sorted(weight_map.items()))}
        (target / "model.safetensors.index.json").write_text(json.dumps(index, indent=2) + "\n")
    for number, name in enumerate(names, 1):
        path = (target / _partial(number)).rename(target / name)
        path.chmod(target.stat().st_mode & 0o666)  # safetensors writes for the owner alone


def _partial(number: int) -> str:
    return f"{number}.safetensors"  # how many there will be is known at the end


def _converted(path: Path, config: QWenConfig) -> Iterator[Named]:
    """The tensors of a file in Qwen2's layout, as views of the file where they can be."""
    names = {name for name in names_in(path) if not has_no_place(name)}
    for name, tensor in read_tensors(path, names):
        shared = name == HEAD and config.tie_word_embeddings  # with the embedding, which safetensors refuses
        yield from as_qwen2(name, tensor.clone() if shared else tensor)
        if name.endswith(".qweight") and config.gptq is not None:
            order = f"{name.removesuffix('qweight')}g_idx"
            yield from () if order in names else _order(order, tensor, config)


def _order(name: str, qweight: torch.Tensor, config: QWenConfig) -> Iterator[Named]:
    """The groups that an old checkpoint does not name: in order."""
    packing = packing_of(config.gptq or {})
    layer = GPTQLinear(qweight.shape[0] * packing.per_word, packing.per_word, packing, bias=False)
    return as_qwen2(name, layer.g_idx)


def _parts(named: Iterable[Named], most: int | None) -> Iterator[dict[str, torch.Tensor]]:
    """The tensors in order, as many together as `most` bytes hold."""
    part: dict[str, torch.Tensor] = {}
    size = 0
    for name, tensor in named:
        if part and most is not None and size + tensor.nbytes > most:
            yield part
            part, size = {}, 0
        part[name] = tensor
        size += tensor.nbytes
    if part:
        yield part
