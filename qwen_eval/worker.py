"""A Python process beside the script's own, for work that may have to be killed.

    worker = Worker(serve, limits)            # serve(pipe, limits), a function of a module, runs in the process
    worker.pipe.send(question); answer = worker.pipe.recv()
    worker.stop()

Why not multiprocessing: its `spawn` is `python -c`, which looks for every module in the user's current directory first,
so that a file `random.py` there breaks it or is run; and it runs the user's script once more. A fork of a process that
has threads and a GPU may hang. This process has the import path of the script, without the current directory.
"""

from __future__ import annotations

import contextlib
import importlib
import socket
import subprocess
import sys
from collections.abc import Callable
from multiprocessing.connection import Connection
from typing import Any

from qwen_eval.process import without_ctrl_c

# `sys` is built in: nothing is looked for before the import path is ours.
_START = (
    "import sys; sys.path[:] = sys.argv[2].split('\\n'); from qwen_eval.worker import _main; _main(int(sys.argv[1]))"
)


class Worker:
    """A running process. pipe: the other end is `serve`'s first argument, and ends (EOFError) when the process does."""

    def __init__(self, serve: Callable[..., None], *args: Any) -> None:
        """args: what `serve` gets after the pipe, pickled."""
        ours, theirs = socket.socketpair()
        path = "\n".join(entry for entry in sys.path if entry)  # "" is the current directory
        with theirs, without_ctrl_c():
            self._process = subprocess.Popen(
                [sys.executable, "-c", _START, str(theirs.fileno()), path],
                stdin=subprocess.DEVNULL,
                pass_fds=[theirs.fileno()],
            )
        self.pipe = Connection(ours.detach())
        with contextlib.suppress(OSError):  # gone already: the first read says so
            self.pipe.send((serve.__module__, serve.__qualname__, args))

    @property
    def pid(self) -> int:
        return self._process.pid

    def stop(self) -> None:
        """Kill the process, whatever it does."""
        self._process.kill()
        self._process.wait()
        self.pipe.close()


def _main(descriptor: int) -> None:
    """The worker's side."""
    pipe = Connection(descriptor)
    module, name, args = pipe.recv()
    getattr(importlib.import_module(module), name)(pipe, *args)
