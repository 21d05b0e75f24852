"""Contenders, each in a process of its own, that take turns: all meet the same noise, and their memories are apart."""

from __future__ import annotations

import multiprocessing as mp
import resource
import sys
import traceback
from collections.abc import Callable
from pathlib import Path
from typing import Any, NamedTuple

from qwen_eval.errors import UserError, one_line


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


def peak_memory() -> int:
    """Most bytes that this process has held at once."""
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * (1 if sys.platform == "darwin" else 1024)


class Process:
    """An object in a process of its own, whose methods are called from here. make(*arguments), called there, makes it
    before the first call."""

    def __init__(self, name: str, make: Callable[..., Any], *arguments: Any) -> None:
        self.name = name
        context = mp.get_context("spawn")
        self.pipe, theirs = context.Pipe()
        self.process = context.Process(target=_serve, args=(theirs, make, arguments), daemon=True)
        self.process.start()
        theirs.close()

    def call(self, what: str, *arguments: Any) -> Any:
        """What a method returns. UserError where it fails, or the process ends."""
        try:
            self.pipe.send((what, arguments))
            good, value = self.pipe.recv()
        except (EOFError, OSError):
            raise UserError(f"{self.name}: its process ended (out of memory?)") from None
        if not good:
            raise UserError(f"{self.name}: {value}")
        return value

    def stop(self) -> None:
        self.pipe.close()
        self.process.join(10)
        if self.process.is_alive():
            self.process.kill()


def _serve(pipe: Any, make: Callable[..., Any], given: tuple[Any, ...]) -> None:
    """Answer calls until the other end is closed."""
    made: Any = None
    while True:
        try:
            what, arguments = pipe.recv()
        except (EOFError, OSError, KeyboardInterrupt):
            return
        try:
            if made is None:
                made = make(*given)
            pipe.send((True, getattr(made, what)(*arguments)))
        except Exception as error:
            traceback.clear_frames(error.__traceback__)
            pipe.send((False, one_line(error)))


def load(contender: Contender) -> Any:
    """The contender, loaded: a measure.Measured."""
    from qwen_eval.benchmarks.speed.measure import ENGINE, Measured
    from qwen_eval.engines.local.engine import LocalEngine
    from qwen_model.checkpoint import CheckpointError

    import torch

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
