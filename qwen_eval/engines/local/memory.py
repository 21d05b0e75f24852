"""Whether a text of some length fits in memory, known before the work starts.

An estimate from config.json, the weights' headers and the free memory; what is in it is in `Need`.
"""

from __future__ import annotations

import json
import struct
from collections.abc import Sequence
from pathlib import Path
from typing import Any, NamedTuple

from qwen_eval.engines.local.engine import CPU_TOKENS
from qwen_eval.engines.local.parallel import process_count
from qwen_eval.engines.local.placement import free_bytes, resolve_device, resolve_dtype
from qwen_eval.engines.local.score import LOGITS_BYTES, MAX_CHUNK, chunk_tokens
from qwen_eval.errors import UserError

SLACK = 256 << 20  # what allocators keep of freed blocks; measured by bench/bench_ppl_memory.py
ITEMSIZE = {"float32": 4, "bfloat16": 2, "float16": 2}


class Need(NamedTuple):
    """Bytes. `work`: activations and mask of one chunk, logits, some slack."""

    weights: int
    cache: int
    work: int

    @property
    def total(self) -> int:
        return sum(self)


def need(
    checkpoint: Path,
    dtype: str,
    length: int,
    windows: Sequence[int | None] | None = None,
    whole: bool = False,
    budget: int = CPU_TOKENS,
) -> Need:
    """What reading a text of `length` tokens takes.

    windows: of each layer, where it has some; whole: all in one forward, which needs no mask, in place of the scoring
    engine's chunks; budget: the engine's limit of tokens per forward.
    """
    from qwen_model.loading import load_config

    config = load_config(checkpoint).get_text_config()
    size = ITEMSIZE[dtype]
    layers = config.num_hidden_layers
    heads = getattr(config, "num_attention_heads", None) or 0  # a state-space model holds a state of fixed size
    width = getattr(config, "head_dim", None) or config.hidden_size // max(1, heads)
    heads = getattr(config, "num_key_value_heads", None) or heads
    inner = getattr(config, "intermediate_size", None) or 4 * config.hidden_size
    chunk = length if whole else min(length, chunk_tokens(length, budget))
    windows = windows or _own_windows(config) or [None] * layers
    held = [length if window is None else min(length, window + chunk) for window in windows]
    a_token = 2 * heads * width * size
    cache = a_token * (sum(held) + 2 * max(held))  # a layer's old and new tensors stand side by side as it grows
    mask = 0 if whole else chunk * length * (1 + size)
    work = chunk * size * (12 * config.hidden_size + 4 * inner) + mask + SLACK
    work += 2 * min(LOGITS_BYTES, 4 * chunk * config.vocab_size) + (
        LOGITS_BYTES if size < 4 else 0
    )  # a part of the head
    return Need(_weights(checkpoint, size), cache, work)


def _own_windows(config: Any) -> list[int | None] | None:
    """The sliding windows of other models than first-generation Qwen, one per layer."""
    types = getattr(config, "layer_types", None)
    return types and [config.sliding_window if kind == "sliding_attention" else None for kind in types]


def check(
    checkpoint: Path,
    args: Any,
    lengths: Sequence[int],
    windows: Sequence[int | None] | None = None,
    whole: bool = False,
) -> None:
    """UserError when the longest of `lengths` does not fit. whole: the text goes through the model in one forward."""
    dtype, device = resolve_dtype(checkpoint, args.dtype, args.device), resolve_device(args.device)
    processes = process_count(args.data_parallel, args.device, args.device_map)
    # of several processes each has one GPU, or its part of the host's memory
    free = free_bytes("cuda:0") if device == "cuda" and processes > 1 else free_bytes(device) // processes

    def needed(length: int) -> Need:
        return need(checkpoint, dtype, length, windows, whole, CPU_TOKENS if device == "cpu" else MAX_CHUNK)

    longest = needed(max(lengths))
    if longest.total <= free:
        return
    fits = [length for length in lengths if needed(length).total <= free]
    hint = f"--lengths up to {max(fits)} fit" if fits else "no length fits"
    raise UserError(
        f"{max(lengths):,} tokens need about {_gb(longest.total)} GB (weights {_gb(longest.weights)}, keys and values "
        f"{_gb(longest.cache)}, work {_gb(longest.work)} in {dtype}) and {_gb(free)} GB are free on {device}: "
        f"{hint}; or try --dtype bfloat16, or a device with more memory"
    )


def _gb(size: int) -> str:
    return f"{size / 1e9:.1f}"


def _weights(checkpoint: Path, size: int) -> int:
    """Bytes of the weights in memory: floats of another width are converted as they load."""
    files = sorted(checkpoint.glob("*.safetensors"))
    if not files:
        return sum(path.stat().st_size for path in checkpoint.glob("*.bin")) * size // 2
    total = 0
    for path in files:
        with open(path, "rb") as stream:
            header = json.loads(stream.read(struct.unpack("<Q", stream.read(8))[0]))
        for name, tensor in header.items():
            if name != "__metadata__":
                start, end = tensor["data_offsets"]
                stored = {"F32": 4, "BF16": 2, "F16": 2}.get(tensor["dtype"])
                total += (end - start) if stored is None else (end - start) // stored * size
    return total
