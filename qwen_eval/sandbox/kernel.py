"""Jupyter kernels inside the sandbox, for model-written code that runs cell by cell.

    with Kernels(warm=("pandas",), files=[path]) as kernels, kernels.open([path]) as kernel:
        result = kernel.run("print(1)\n2 + 2")
        result.outputs    [Output("stdout", "1\n"), Output("execute_result", "4")]
        result.error      "" (or "ZeroDivisionError", "timed out", "the kernel exited with status 1" ...)

Every kernel is an ipykernel in a process of its own, forked from one that has imported `warm` already, behind the
guards of a HumanEval candidate (sandbox/README.md): no network, no other program, nothing to write but a tmpfs, which
is its working folder and has its input files in it, mounted read-only. A kernel that dies, hangs, floods its output or
asks for input costs its own cell. Pictures of matplotlib and IPython's display come as PNG.
"""

from __future__ import annotations

import base64
import binascii
import contextlib
import json
import os
import re
import select
import struct
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any, NamedTuple

from qwen_eval.errors import UserError
from qwen_eval.sandbox.guest.channel import KERNEL, MAX_FRAME
from qwen_eval.sandbox.launch import KernelSetup
from qwen_eval.sandbox.pool import Sandbox
from qwen_eval.sandbox.verdict import SandboxBroken
from qwen_eval.sandbox.zygote import Zygote

ALWAYS_WARM = ("ipykernel.inprocess", "matplotlib_inline.backend_inline", "IPython.core.completer")
MEMORY = 4 << 30  # bytes of address space: scientific packages map much that they never touch
OPEN_FILES = 256
CELL_SECONDS = 30.0  # of a cell's own time
MARGIN = 15.0  # seconds that a kernel may take beyond a cell's limits before it is given up
MAX_MESSAGES = 64 << 20  # bytes that one cell may send
MAX_CODE = 500_000  # bytes of a cell
ESCAPES = re.compile(r"\x1b\[[0-?]*[ -/]*[@-~]")
PNG = b"\x89PNG\r\n\x1a\n"


class Output(NamedTuple):
    """One output of a cell. kind: stdout, stderr, execute_result, display_data, error (a traceback) or picture; png:
    the file of a picture; dropped: how many more characters the text had, too many to keep."""

    kind: str
    text: str = ""
    png: bytes = b""
    dropped: int = 0


class Result(NamedTuple):
    """What a cell gave. error: "" when it ran to its end, else the exception's name, or what happened to the kernel."""

    outputs: list[Output]
    error: str
    message: str = ""  # the exception's own


class KernelGone(Exception):
    """The kernel ended, or sent something that is no message; the text says which."""


class Kernels:
    """Starts kernels. Raises UserError where there is no bubblewrap, unless `allow_unsandboxed`."""

    def __init__(
        self, warm: Sequence[str] = (), files: Sequence[Path] = (), allow_unsandboxed: bool = False, **sizes: int
    ) -> None:
        """warm: modules that kernels start with (those that are not installed are passed over); files: every file that
        any kernel will be given; sizes: fields of sandbox.guest.guards.Plan, in bytes."""
        self._setup = KernelSetup((*ALWAYS_WARM, *warm), tuple(dict.fromkeys(files)))
        limits: dict[str, Any] = {"memory": MEMORY, "open_files": OPEN_FILES, **sizes}
        self.sandbox = Sandbox(workers=1, allow_unsandboxed=allow_unsandboxed, kernels=self._setup, **limits)

    def open(self, files: Sequence[Path] = (), cpu_seconds: int = 600) -> Kernel:
        """A new kernel with these files in its working folder; cpu_seconds: all that its cells may use together."""
        inside = self.sandbox.level == "bubblewrap"
        placed = {path.name: self._setup.file(path) if inside else str(path.resolve()) for path in files}
        if len(placed) < len(files):
            raise UserError(f"two input files have one name: {', '.join(path.name for path in files)}")
        (its_commands, commands), (messages, its_messages), (report, its_report) = os.pipe(), os.pipe(), os.pipe()
        zygote = self.sandbox.zygote
        zygote.ask(KERNEL, (0.0, 0.0), (its_commands, its_messages, its_report), (commands, messages, report))
        return Kernel(zygote, commands, messages, report, {"files": placed, "cpu": cpu_seconds})

    def close(self) -> None:
        self.sandbox.close()

    def __enter__(self) -> Kernels:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()


class Kernel:
    """One running kernel. `run` is for one thread at a time."""

    def __init__(self, zygote: Zygote, commands: int, messages: int, report: int, job: dict[str, Any]) -> None:
        """Use `Kernels.open`. commands, messages, report: pipes to the kernel and its keeper (guest/keeper.py)."""
        self._zygote, self._commands, self._messages, self._report = zygote, commands, messages, report
        self._started, self._cell, self._stopped, self._bytes_read, self.gone = False, 0, "", 0, ""
        self._send(job)

    def run(self, code: str, seconds: float = CELL_SECONDS) -> Result:
        """Run one cell. seconds: its own time, running or asleep; on a busy machine it may take five times that."""
        if self.gone:
            return Result([], self.gone)
        if len(code.encode("utf-8", "replace")) > MAX_CODE:
            return Result([], f"the code is longer than {MAX_CODE} bytes")
        wall = 10 + 5 * seconds
        outputs: list[Output] = []
        error = message = ""
        self._cell, self._stopped, self._bytes_read = self._cell + 1, "", 0
        try:
            if not self._started:
                self._wait_for_start()
            code = code.encode("utf-8", "replace").decode()
            self._send({"cell": self._cell, "code": code, "seconds": seconds, "wall": wall})
            deadline = time.monotonic() + wall + MARGIN
            while True:
                match self._receive(deadline):
                    case ["text", str(kind), str(text), int(dropped)]:
                        _add(outputs, Output(kind, ESCAPES.sub("", text), dropped=dropped))
                    case ["picture", str(picture)]:
                        outputs.append(_picture(picture))
                    case ["failed", str(error), str(message)]:
                        pass
                    case ["done", flooded]:
                        if flooded:
                            self._stopped = "it put out too much"
                        break
                    case _:
                        raise KernelGone("the kernel sent what is no message")
            self._send({})
        except KernelGone as gone:
            self.gone = str(gone)
            self.close()
            return Result(outputs, "timed out" if "timed out" in self.gone else self.gone)
        self._stopped = self._stopped or self._reported("stopped")
        if self._stopped:  # the traceback is that of our interrupt
            return Result([output for output in outputs if output.kind != "error"], self._stopped)
        return Result(outputs, error, message)

    def _wait_for_start(self) -> None:
        self._bytes_read = 0
        match self._receive(time.monotonic() + 120):
            case ["ready"]:
                self._started = True
            case ["broken", why]:
                raise SandboxBroken(f"no Jupyter kernel starts in the sandbox: {why}")
            case _:
                raise KernelGone("the kernel did not start")

    def _send(self, command: dict[str, Any]) -> None:
        data = json.dumps(command).encode()
        with contextlib.suppress(BrokenPipeError):  # the report will say why
            os.write(self._commands, struct.pack(">I", len(data)) + data)

    def _receive(self, deadline: float) -> Any:
        """The next message. Raises KernelGone at the end of the pipe, past `deadline`, and on a flood."""
        (length,) = struct.unpack(">I", self._exactly(4, deadline))
        self._bytes_read += length
        if length > MAX_FRAME or self._bytes_read > MAX_MESSAGES:
            raise KernelGone("the kernel put out too much")
        try:
            return json.loads(self._exactly(length, deadline))
        except (ValueError, RecursionError) as error:
            raise KernelGone("the kernel sent what is no message") from error

    def _exactly(self, count: int, deadline: float) -> bytes:
        data = b""
        while len(data) < count:
            if not select.select([self._messages], [], [], max(0.0, deadline - time.monotonic()))[0]:
                raise KernelGone("timed out")
            part = os.read(self._messages, min(count - len(data), 1 << 20))
            if not part:
                raise KernelGone(f"the kernel {self._reported('ended', wait=10)}")
            data += part
        return data

    def _reported(self, key: str, wait: float = 0.0) -> str:
        """What the keeper has reported under `key`, "" for nothing. Raises SandboxBroken if it failed itself."""
        deadline = time.monotonic() + wait
        while select.select([self._report], [], [], max(0.0, deadline - time.monotonic()))[0]:
            header = os.read(self._report, 4)
            if not header:
                break
            report = json.loads(os.read(self._report, struct.unpack(">I", header)[0]))
            if key in report and report.get("cell", self._cell) == self._cell:
                return str(report[key])
        if wait:
            raise SandboxBroken(f"a kernel could not be run ({self._zygote.last_message()})")
        return ""

    def close(self) -> None:
        """End the kernel; its keeper clears up."""
        for descriptor in (self._commands, self._messages, self._report):
            if descriptor >= 0:
                os.close(descriptor)
        self._commands = self._messages = self._report = -1
        self.gone = self.gone or "closed"

    def __enter__(self) -> Kernel:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()


def _add(outputs: list[Output], new: Output) -> None:
    """Add an output. A stream comes in pieces, cut at random times: they are put together again."""
    last = outputs[-1] if outputs else None
    if last and last.kind == new.kind in ("stdout", "stderr"):
        outputs[-1] = last._replace(text=last.text + new.text, dropped=last.dropped + new.dropped)
    else:
        outputs.append(new)


def _picture(text: str) -> Output:
    """A PNG from the kernel, which may send anything as one. Raises KernelGone for what is no PNG."""
    try:
        png = base64.b64decode(text, validate=False)
    except (binascii.Error, ValueError):
        png = b""
    if not png.startswith(PNG):
        raise KernelGone("the kernel sent a picture that is none")
    return Output("picture", png=png)
