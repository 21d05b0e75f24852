"""Contenders, each in a process of its own, that take turns: all meet the same noise, and their memories are apart."""

from __future__ import annotations

import multiprocessing as mp
import traceback
from pathlib import Path
from typing import Any, NamedTuple

from qwen_eval.errors import UserError, one_line


class Contender(NamedTuple):
    """A checkpoint and how it is run. name: as the table shows it; way: `engine` or an attention kernel."""

    name: str
    checkpoint: Path
    way: str
    dtype: str
    device: str | None
    gptq_backend: str
    threads: int | None


class Process:
    """A contender that is loaded in a process of its own."""

    def __init__(self, contender: Contender) -> None:
        self.contender = contender
        context = mp.get_context("spawn")
        self.pipe, theirs = context.Pipe()
        self.process = context.Process(target=_serve, args=(theirs, contender), daemon=True)
        self.process.start()
        theirs.close()

    def call(self, what: str, *arguments: Any) -> Any:
        """What a method of measure.Measured returns. UserError where it fails, or the process ends."""
        try:
            self.pipe.send((what, arguments))
            good, value = self.pipe.recv()
        except (EOFError, OSError):
            raise UserError(f"{self.contender.name}: its process ended (out of memory?)") from None
        if not good:
            raise UserError(f"{self.contender.name}: {value}")
        return value

    def stop(self) -> None:
        self.pipe.close()
        self.process.join(10)
        if self.process.is_alive():
            self.process.kill()


def _serve(pipe: Any, contender: Contender) -> None:
    """Answer calls until the other end is closed."""
    measured: Any = None
    while True:
        try:
            what, arguments = pipe.recv()
        except (EOFError, OSError, KeyboardInterrupt):
            return
        try:
            if measured is None:
                measured = _load(contender)
            pipe.send((True, getattr(measured, what)(*arguments)))
        except Exception as error:
            traceback.clear_frames(error.__traceback__)
            pipe.send((False, one_line(error)))


def _load(contender: Contender) -> Any:
    from qwen_eval.benchmarks.speed.measure import ENGINE, Measured
    from qwen_eval.engines.local.engine import LocalEngine

    import torch

    if contender.threads is not None:
        torch.set_num_threads(contender.threads)
    attention = None if contender.way == ENGINE else contender.way
    how: dict[str, Any] = {"attn_implementation": attention, "gptq_backend": contender.gptq_backend}
    engine = LocalEngine(contender.checkpoint, contender.dtype, contender.device, **how)
    return Measured(engine, contender.way)
