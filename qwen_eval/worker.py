"""A function in a process of its own, for work on text that a model wrote: it has limits, and is replaced at one.

    def prepare(word):                        # runs once in the process, before it is isolated: imports, tables
        return lambda question: question + word

    with IsolatedWorker(prepare, "!", name="the example", seconds=5, memory=2 << 30) as worker:
        worker.ask("Hello")                   # "Hello!"

The process has limits of CPU time per question and of memory, and the sandbox's guards as far as the system has them:
it writes no file, starts no process, reaches no network, and reads nothing but `readable`. Questions and answers are
JSON, so a process that was taken over can send back nothing but data.
"""

from __future__ import annotations

import contextlib
import importlib
import json
import os
import signal
import subprocess
import threading
import time
from collections.abc import Callable, Sequence
from multiprocessing.connection import Connection
from typing import Any, NamedTuple

from qwen_eval.errors import UserError
from qwen_eval.process import start_python

START_SECONDS = 300.0  # of wall time until the process is ready: imports on a slow disk
MIN_WALL, WALL = 60.0, 20  # on a busy machine a question may take so many seconds, or so many times its CPU limit
OUT_OF_MEMORY = 75  # exit status
TICK = 0.05  # seconds between two looks at the process's clock
MAX_ANSWER = 8 << 20  # bytes


class OverLimit(Exception):
    """A question took more CPU time or memory than it may, or ended the process, twice."""


class Limits(NamedTuple):
    """seconds: of CPU time per question; memory: bytes of address space; readable: paths that may be read."""

    seconds: float
    memory: int
    readable: tuple[str, ...]


class IsolatedWorker:
    """A worker process, started by the first question or on entering; it answers one question at a time.

    `guards`: the names of those that the process has put up around itself (see `qwen_eval.sandbox.isolate`).
    """

    def __init__(
        self,
        prepare: Callable[..., Callable[[Any], Any]],
        *args: Any,
        name: str,
        seconds: float,
        memory: int,
        readable: Sequence[str] = (),
    ) -> None:
        """prepare: a function of a module; gets `args` (pickled) and returns the function that answers a question.

        name: for messages. seconds: of CPU time per question; memory: bytes of address space.
        readable: paths of files and folders, for what the function imports later.
        """
        self.name, self.guards = name, list[str]()
        self._prepare, self._args = prepare, args
        self._limits = Limits(seconds, memory, tuple(readable))
        self._process: subprocess.Popen[bytes] | None = None
        self._pipe: Connection | None = None
        self._asking, self._closed = threading.Lock(), False

    def __enter__(self) -> IsolatedWorker:
        self._start()
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    @property
    def pid(self) -> int | None:
        """The process's id; None while there is none."""
        return self._process.pid if self._process else None

    def ask(self, question: Any) -> Any:
        """The answer, as JSON's types. Raises OverLimit, and UserError where the process cannot be started.

        A process that ended for no reason of ours (the system was short of memory) is replaced and asked once more.
        """
        with self._asking:
            for _ in range(2):
                pipe = self._pipe or self._start()
                with contextlib.suppress(EOFError, OSError, ValueError):  # ValueError: what came is no JSON
                    pipe.send_bytes(json.dumps(question).encode())
                    if not self._answers_in_time(pipe):
                        self._stop()
                        break
                    reply = json.loads(pipe.recv_bytes(MAX_ANSWER))
                    if "error" in reply:
                        raise RuntimeError(f"{self.name}: {reply['error']}")
                    return reply["answer"]
                if self._ended() in (-signal.SIGPROF, OUT_OF_MEMORY):
                    break
            raise OverLimit(f"{self.name} took more than {self._limits.seconds:g} s or {self._limits.memory >> 20} MiB")

    def _start(self) -> Connection:
        if self._closed:
            raise OverLimit(f"{self.name} was closed")
        self._process, pipe = start_python(__name__)
        self._pipe = pipe
        first: dict[str, Any] = {"error": "it ended at once"}
        with contextlib.suppress(EOFError, OSError, ValueError):
            pipe.send((self._prepare.__module__, self._prepare.__qualname__, self._args, self._limits))
            if not pipe.poll(START_SECONDS):
                first = {"error": f"no answer in {START_SECONDS:g} s"}
            else:
                first = json.loads(pipe.recv_bytes(MAX_ANSWER))
        if "error" in first:
            self._stop()
            raise UserError(f"{self.name}: its process did not start ({first['error']})")
        self.guards = first["guards"]
        return pipe

    def _answers_in_time(self, pipe: Connection) -> bool:
        """Wait until the process has answered or ended; False when it runs over its time.

        CPU time is read from the process's clock. The kernel's own limit (RLIMIT_CPU) counts in ticks, which on a busy
        virtual machine may be far more than the process got.
        """
        used_before = self._cpu_time()
        deadline = time.monotonic() + max(MIN_WALL, WALL * self._limits.seconds)
        while not pipe.poll(TICK):
            if self._cpu_time() - used_before > self._limits.seconds or time.monotonic() > deadline:
                return False
        return True

    def _cpu_time(self) -> float:
        """The process's CPU time in seconds (its clock, see clock_getcpuclockid(3))."""
        try:
            return time.clock_gettime((~(self.pid or 0) << 3) | 2)
        except (OSError, AttributeError):  # gone, or no such clock here: then wall time is the limit
            return 0.0

    def _ended(self) -> int | None:
        """The exit status (Popen's) of a process that closed its pipe, which is then cleared away."""
        assert self._process is not None
        try:
            status: int | None = self._process.wait(5)
        except subprocess.TimeoutExpired:
            status = None
        self._stop()
        return status

    def _stop(self) -> None:
        """Kill the process, whatever it does; the next question starts another."""
        if self._process is not None and self._pipe is not None:
            self._process.kill()
            self._process.wait()
            self._pipe.close()
        self._process = self._pipe = None

    def close(self) -> None:
        """Kill the process for good. Another thread that asks just now gets OverLimit."""
        self._closed = True
        if (process := self._process) is not None:
            process.kill()
        with self._asking:
            self._stop()


# -- the process -------------------------------------------------------------------------------------------------------


def _main(descriptor: int) -> None:
    """Gets ready, says so, answers questions until the other side closes the pipe or a limit ends the process."""
    pipe = Connection(descriptor)
    module, name, args, limits = pipe.recv()
    try:
        answer = getattr(importlib.import_module(module), name)(*args)
    except ImportError as error:
        _send(pipe, {"error": f"{error.name or error} is not installed"})
        return
    except UserError as error:
        _send(pipe, {"error": str(error)})
        return
    from qwen_eval.sandbox import isolate

    _send(pipe, {"guards": isolate(limits.memory, limits.readable)})
    with contextlib.suppress(EOFError, ConnectionError):  # the other side closed the pipe
        while True:
            question = json.loads(pipe.recv_bytes())
            # The other side keeps the time. This ends the process (SIGPROF) if the other side was killed.
            signal.setitimer(signal.ITIMER_PROF, 60 + 4 * limits.seconds)
            try:
                reply = {"answer": answer(question)}
            except MemoryError:
                os._exit(OUT_OF_MEMORY)
            except Exception as error:  # of our own code: it must be seen
                reply = {"error": f"{type(error).__name__}: {error}"}
            _send(pipe, reply)


def _send(pipe: Connection, message: dict[str, Any]) -> None:
    pipe.send_bytes(json.dumps(message).encode())
