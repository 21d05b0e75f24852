"""A replica of a model in a process of its own on this machine (see replicas.py).

    ProcessReplica("process 2 on GPU 1", make, (arguments,), {"CUDA_VISIBLE_DEVICES": "1"})

`make`, a function of a module, makes the engine in that process. The process ends with ours, however ours ends: it sees
that the pipe is closed.
"""

from __future__ import annotations

import contextlib
import os
import pickle
import queue
import subprocess
import sys
import threading
from collections.abc import Callable, Mapping
from importlib import import_module
from multiprocessing.connection import Connection
from typing import TYPE_CHECKING, Any

from qwen_eval.engines.encoding import EncodingEngine
from qwen_eval.engines.replicas import Lost, Piece, Replica, Tell, answers, failed, loaded
from qwen_eval.process import start_python

END_SECONDS = 10.0  # that a process may take to end once it has closed its pipe


class ProcessReplica:
    """See the top of this file. name: for messages."""

    def __init__(
        self,
        name: str,
        make: Callable[..., EncodingEngine],
        arguments: tuple[Any, ...],
        environment: Mapping[str, str],
        quiet: bool = False,
    ) -> None:
        """arguments: of `make`; they can be pickled. environment: variables that the process has besides ours. quiet:
        what the engine writes to standard error is not shown: another replica writes the same."""
        self.name = name
        self._first = (make.__module__, make.__qualname__, arguments, quiet)
        self._environment = environment
        self._process: subprocess.Popen[bytes] | None = None
        self._pipe: Connection | None = None
        self._stopped = False

    @property
    def pid(self) -> int | None:
        """The process's id; None while there is none."""
        return self._process.pid if self._process else None

    def start(self, tell: Tell) -> None:
        """See `Replica`."""
        self._process, self._pipe = start_python(__name__, self._environment)
        self._send(self._first)
        threading.Thread(target=self._listen, args=(self._process, self._pipe, tell), daemon=True).start()

    def submit(self, piece: Piece) -> None:
        """See `Replica`."""
        self._send(piece)

    def stop(self) -> None:
        """See `Replica`."""
        self._stopped = True
        if self._process is not None:
            self._process.kill()
            self._process.wait()

    def _send(self, message: Any) -> None:
        assert self._pipe is not None
        with contextlib.suppress(OSError):  # it is gone, which `_listen` tells
            self._pipe.send(message)

    def _listen(self, process: subprocess.Popen[bytes], pipe: Connection, tell: Tell) -> None:
        """Hand on what the process says, until it ends."""
        with contextlib.suppress(EOFError, OSError, pickle.UnpicklingError), pipe:
            while True:
                event = pipe.recv()
                if self._stopped:
                    break
                tell(event)
        try:
            status = process.wait(END_SECONDS)
        except subprocess.TimeoutExpired:
            process.kill()
            status = process.wait()
        if not self._stopped:
            tell(Lost(_why(status)))


def _why(status: int) -> str:
    """status: Popen's."""
    if status == -9:
        return "ended by signal 9, by which a system ends a process when memory runs out"
    return f"ended by signal {-status}" if status < 0 else f"ended with status {status}"


# -- the process -------------------------------------------------------------------------------------------------------


def _main(descriptor: int) -> None:
    """Makes the engine and answers pieces until the other side closes the pipe."""
    pipe = Connection(descriptor)
    module, name, arguments, quiet = pipe.recv()
    sys.stdout = sys.stderr  # a table may be on its way through the other one
    if quiet:
        sys.stderr = sys.stdout = open(os.devnull, "w", encoding="utf-8")  # noqa: SIM115 - for the life of the process
    pieces: queue.SimpleQueue[Piece] = queue.SimpleQueue()
    threading.Thread(target=_read, args=(pipe, pieces), daemon=True).start()
    with contextlib.suppress(OSError):  # the other side is gone
        try:
            engine = getattr(import_module(module), name)(*arguments)
            event: Any = loaded(engine)
        except Exception as error:
            event = failed(error)
        pipe.send(event)
        while True:
            for event in answers(engine, pieces.get()):
                pipe.send(event)


def _read(pipe: Connection, pieces: queue.SimpleQueue[Piece]) -> None:
    """Take pieces in, also while one is being answered. The process ends with the one that asks."""
    with contextlib.suppress(EOFError, OSError):
        while True:
            pieces.put(pipe.recv())
    os._exit(0)


if TYPE_CHECKING:
    _: type[Replica] = ProcessReplica
