"""What a device allows: its memory bandwidth, measured here, and the bytes that a decoded token must read.

Decoding one reply is bound by memory: each token reads every weight but the embedding table (of which it reads a row)
and the keys and values of all tokens before it. bytes per token / bandwidth is the least time that a token can take.
"""

from __future__ import annotations

import shutil
import subprocess
import time
from typing import Any, NamedTuple

from qwen_eval.errors import one_line

import torch

COPY_BYTES = {"cuda": 2**32, "cpu": 2**29}  # far more than any cache holds
COPIES = 6


class Sizes(NamedTuple):
    """weights: bytes of weights that each decoded token reads; per_token: bytes of keys and values per token."""

    weights: int
    per_token: int

    def read_by(self, context: int, new: int) -> float:
        """Bytes that a decoded token reads, in the mean over `new` tokens behind `context`."""
        return self.weights + self.per_token * (context + new / 2)


def copy_bandwidth(device: torch.device) -> float:
    """Bytes read and written per second by a large copy, the best of a few."""
    source = torch.zeros(COPY_BYTES["cuda" if device.type == "cuda" else "cpu"], dtype=torch.uint8, device=device)
    target = torch.empty_like(source)
    best = float("inf")
    for _ in range(COPIES):
        wait_for(device)
        start = time.perf_counter()
        target.copy_(source)
        wait_for(device)
        best = min(best, time.perf_counter() - start)
    return 2 * source.nbytes / best


def sizes_of(model: Any) -> Sizes:
    """Of a loaded model; packed weights count as they lie in memory."""
    embeddings = model.get_input_embeddings().weight
    tied = model.get_output_embeddings().weight is embeddings
    stored = {tensor.data_ptr(): tensor.nbytes for tensor in (*model.parameters(), *model.buffers())}
    unread = 0 if tied else embeddings.nbytes
    packed = sum(int(module.few_rows.nbytes) for module in model.modules() if getattr(module, "few_rows", None))
    if packed:  # the product's own copies are read, and not what they were made of
        unread += sum(
            tensor.nbytes
            for module in model.modules()
            if getattr(module, "few_rows", None)
            for tensor in module.buffers(recurse=False)
        )
    config = model.config.get_text_config()
    heads = getattr(config, "num_key_value_heads", None) or config.num_attention_heads
    width = getattr(config, "head_dim", None) or config.hidden_size // config.num_attention_heads
    itemsize = 1 if getattr(config, "use_cache_quantization", False) else model.dtype.itemsize
    return Sizes(sum(stored.values()) - unread + packed, 2 * config.num_hidden_layers * heads * width * itemsize)


def wait_for(device: torch.device) -> None:
    if device.type == "cuda":
        torch.cuda.synchronize(device)


def state(device: torch.device) -> str:
    """The GPU's clocks, power and temperature now, as nvidia-smi says them; "" where it is not known."""
    if device.type != "cuda" or not shutil.which("nvidia-smi"):
        return ""
    fields = "clocks.sm,clocks.mem,power.draw,power.limit,temperature.gpu"
    command = ["nvidia-smi", f"--id={device.index or 0}", f"--query-gpu={fields}", "--format=csv,noheader"]
    try:
        said = subprocess.run(command, capture_output=True, text=True, timeout=10, check=True).stdout
    except (OSError, subprocess.SubprocessError) as error:
        return f"nvidia-smi: {one_line(error)[:80]}"
    sm, memory, power, limit, heat = (part.strip() for part in said.strip().splitlines()[0].split(","))
    return f"{sm} (memory {memory}), {power} of {limit}, {heat} C"
