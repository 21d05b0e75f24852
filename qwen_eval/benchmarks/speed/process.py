"""An object in a process of its own: its memory is apart from every other's."""

from __future__ import annotations

import multiprocessing as mp
import resource
import sys
import traceback
from collections.abc import Callable
from typing import Any

from qwen_eval.errors import UserError, one_line


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
