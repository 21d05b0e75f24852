"""The process that a script runs in: its standard streams and the signals that end it.

Imports little: what is here must be in force before the heavy imports begin.
"""

from __future__ import annotations

import contextlib
import os
import signal
import sys
import threading
from collections.abc import Iterator, Mapping, Sequence
from types import FrameType
from typing import TYPE_CHECKING, Any

from qwen_eval.places import SCRIPTS

if TYPE_CHECKING:
    from multiprocessing.connection import Connection
    from subprocess import Popen

SIGNALS = [getattr(signal, name) for name in ("SIGINT", "SIGTERM", "SIGHUP") if hasattr(signal, name)]
INTERRUPTED = "interrupted; finished items are kept, the same command goes on from there"


class Interrupted(KeyboardInterrupt):
    """Ctrl-C, or another signal that asks the process to end."""

    def __init__(self, number: int) -> None:
        super().__init__(INTERRUPTED)
        self.number = number


def guard_imports() -> None:
    """While one of our scripts is still importing, a signal ends it with one line: there is nothing to clean up yet."""
    path = getattr(sys.modules.get("__main__"), "__file__", None) or ""
    if os.path.dirname(os.path.abspath(path)) == str(SCRIPTS):
        end_on_signals()


def end_on_signals() -> None:
    """Until `signals_raise`, a signal ends this process at once, with one line."""
    _reopen_closed()
    _handle(_end_now)


def _end_now(number: int, frame: FrameType | None) -> None:
    with contextlib.suppress(OSError):
        os.write(2, f"\n{INTERRUPTED}\n".encode())
    os._exit(128 + number)


def _raise(number: int, frame: FrameType | None) -> None:
    _handle(_end_quietly)  # whoever asks twice does not want to wait for the cleaning up
    raise Interrupted(number)


def _end_quietly(number: int, frame: FrameType | None) -> None:
    os._exit(128 + number)


def _handle(handler: Any) -> None:
    """Set the handler of every signal that ends a script, but for those that are ignored (nohup, a job of a shell)."""
    if threading.current_thread() is threading.main_thread():
        for number in SIGNALS:
            if signal.getsignal(number) is not signal.SIG_IGN:
                signal.signal(number, handler)


@contextlib.contextmanager
def signals_raise() -> Iterator[None]:
    """SIGINT, SIGTERM and SIGHUP raise Interrupted, once; a second one ends the process."""
    before = {number: signal.getsignal(number) for number in SIGNALS}
    _handle(_raise)
    try:
        yield
    finally:
        if threading.current_thread() is threading.main_thread():
            for number, handler in before.items():
                if handler is _end_now:  # of the imports, which are over
                    handler = signal.default_int_handler if number == signal.SIGINT else signal.SIG_DFL
                if handler is not None:  # None: set by someone outside Python
                    signal.signal(number, handler)


@contextlib.contextmanager
def without_ctrl_c(also: Sequence[signal.Signals] = ()) -> Iterator[None]:
    """What is started inside never sees Ctrl-C, which a terminal sends to children too: we end them, in silence. also:
    more signals that it never sees."""
    before = signal.pthread_sigmask(signal.SIG_BLOCK, [signal.SIGINT, *also])
    try:
        yield
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, before)


# `sys` is built in: nothing is looked for before the import path is ours.
_START = (
    "import sys; sys.path[:] = sys.argv[2].split('\\n'); from importlib import import_module; "
    "import_module(sys.argv[3])._main(int(sys.argv[1]))"
)


def start_python(module: str, environment: Mapping[str, str] | None = None) -> tuple[Popen[bytes], Connection]:
    """A new Python process, which calls `_main` of a module of ours with the descriptor of its end of a pipe, and our
    end of it. environment: variables that it has besides ours.

    Why not multiprocessing: its `spawn` is `python -c`, which looks for every module in the user's current directory
    first, so that a file `random.py` there breaks it or is run; and it runs the user's script once more. A fork of a
    process that has threads and a GPU may hang. This process has the import path of the script, without the current
    directory. Signals that ask all processes of a run to end (a job that is cancelled) are for its caller alone.
    """
    import socket
    import subprocess
    from multiprocessing.connection import Connection

    ours, theirs = socket.socketpair()
    path = "\n".join(entry for entry in sys.path if entry)  # "" is the current directory
    with theirs, without_ctrl_c(also=SIGNALS):
        process = subprocess.Popen(
            [sys.executable, "-c", _START, str(theirs.fileno()), path, module],
            stdin=subprocess.DEVNULL,
            pass_fds=[theirs.fileno()],
            env={**os.environ, **(environment or {})},
        )
    return process, Connection(ours.detach())


class Stream:
    """A standard stream whose reader may be gone or whose disk may be full: `problem` says so, nothing is raised.

    What was found is in the output folder already; a terminal that was closed must not end a run or change its status.
    """

    def __init__(self, stream: Any) -> None:
        self.stream = stream
        self.problem: Exception | None = None

    def write(self, text: str) -> int:
        try:
            return int(self.stream.write(text))
        except (OSError, ValueError) as error:  # ValueError: it is closed
            self.problem = error
            return len(text)

    def flush(self) -> None:
        try:
            self.stream.flush()
        except (OSError, ValueError) as error:
            self.problem = error

    def __getattr__(self, name: str) -> Any:
        return getattr(self.stream, name)


@contextlib.contextmanager
def standard_streams() -> Iterator[Stream]:
    """Put safe streams in the place of sys.stdout and sys.stderr; gives the one of standard output.

    They exist even where the shell closed them (`>&-`), and write what their encoding lacks as escapes (a folder's name
    that is not UTF-8 holds such characters).
    """
    _reopen_closed()
    before = sys.stdout, sys.stderr
    for name in ("stdout", "stderr"):
        stream = getattr(sys, name)
        if stream is None:
            stream = open(os.devnull, "w", encoding="utf-8")  # noqa: SIM115 - it stands for one that is never closed
        if hasattr(stream, "reconfigure"):
            stream.reconfigure(errors="backslashreplace")
        setattr(sys, name, Stream(stream))
    ours: tuple[Any, Any] = sys.stdout, sys.stderr
    try:
        yield ours[0]
    finally:
        for stream in ours:
            stream.flush()
            if stream.problem is not None:
                _forget_unwritten(stream.stream)
        sys.stdout, sys.stderr = (was or our.stream for was, our in zip(before, ours, strict=True))


def _forget_unwritten(stream: Any) -> None:
    """What could not be written would be tried again when Python ends, and change the exit status."""
    with contextlib.suppress(OSError, ValueError, AttributeError):
        os.dup2(os.open(os.devnull, os.O_WRONLY), stream.fileno())
        stream.flush()


def _reopen_closed() -> None:
    """A closed descriptor 0, 1 or 2 would become that of the next file opened, into which output would go."""
    for number in range(3):
        try:
            os.fstat(number)
        except OSError:
            os.open(os.devnull, os.O_RDWR)  # takes the lowest number that is free
