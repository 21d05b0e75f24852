"""A checkpoint that the tables of speed and memory measure, and how it is loaded in its own process."""

from __future__ import annotations

from pathlib import Path
from typing import NamedTuple

from qwen_eval.benchmarks.speed.measure import ENGINE, Measured
from qwen_eval.engines.local.engine import LocalEngine
from qwen_model.checkpoint import CheckpointError

import torch


class Contender(NamedTuple):
    """A checkpoint and how it is run. name: as the table shows it; way: `engine` or an attention kernel; gptq_backend:
    the first of these that can run it."""

    name: str
    checkpoint: Path
    way: str
    dtype: str
    device: str | None
    gptq_backend: tuple[str, ...]
    threads: int | None


def load(contender: Contender) -> Measured:
    """The contender, loaded."""
    if contender.threads is not None:
        torch.set_num_threads(contender.threads)
    attention = None if contender.way == ENGINE else contender.way
    where = (contender.checkpoint, contender.dtype, contender.device)
    *first, last = contender.gptq_backend
    for backend in first:
        try:
            engine = LocalEngine(*where, attn_implementation=attention, gptq_backend=backend)
            return Measured(engine, contender.way)
        except CheckpointError:  # packed in a way that this backend does not run
            continue
    return Measured(LocalEngine(*where, attn_implementation=attention, gptq_backend=last), contender.way)
