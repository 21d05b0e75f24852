"""The zygote seen from outside: start it at one level, ask it for a check or a kernel, end it.

Every program goes through here; nothing here runs one. What the zygote does inside: `guest/warden.py`.
"""

import contextlib
import json
import os
import select
import shutil
import socket
import struct
import subprocess
import tempfile
import threading
import time
from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path

from qwen_eval.sandbox import launch
from qwen_eval.sandbox.guest.channel import CHECK, HEADER, TESTER_CPU
from qwen_eval.sandbox.guest.guards import Plan
from qwen_eval.sandbox.verdict import Check, SandboxBroken, Verdict, verdict_of

MAX_VERDICT = 1 << 16  # bytes
START_SECONDS, KERNEL_START_SECONDS = 30, 180


class Zygote:
    """A running zygote and all that it starts. Methods may be called from several threads."""

    def __init__(
        self, level: str, without: Sequence[str] = (), kernels: launch.KernelSetup | None = None, **sizes: int
    ) -> None:
        """level: bubblewrap, landlock or none; without: guards to leave out, for tests; kernels: what Jupyter kernels
        need; sizes: fields of Plan, in bytes. Raises SandboxBroken or OSError when it does not start."""
        self.level, self.without, self.kernels, self._sizes = level, list(without), kernels, sizes
        self.folder = ""  # on the host, for the levels that have no mount namespace
        self.process: subprocess.Popen[bytes] | None = None
        self._control, control = socket.socketpair(socket.AF_UNIX, socket.SOCK_STREAM)
        self._messages = tempfile.TemporaryFile()  # noqa: SIM115  (read until the end)
        self._sending = threading.Lock()
        try:
            with control:
                self._start(control)
        except BaseException:
            self.close()
            raise

    @property
    def inside_bubblewrap(self) -> bool:
        return self.level == "bubblewrap" and "namespaces" not in self.without

    def _start(self, control: socket.socket) -> None:
        """Start the process and wait until it is ready. control: its end of the control socket."""
        if not self.inside_bubblewrap:
            self._make_folder()
        command = launch.command(control.fileno(), json.dumps(asdict(self.plan())))
        variables = self.environment()
        if self.inside_bubblewrap:
            if not launch.bubblewrap_installed():
                raise SandboxBroken("bwrap is not installed")
            command = launch.bubblewrap(command, self.kernels)
            variables = {**variables, "PATH": os.environ.get("PATH", os.defpath)}  # to find bwrap
        self.process = subprocess.Popen(
            command,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.DEVNULL,
            stderr=self._messages,
            env=variables,
            cwd=launch.HERE,
            pass_fds=[control.fileno()],
            start_new_session=True,
        )
        control.close()  # else its end would not be seen
        self._control.settimeout(KERNEL_START_SECONDS if self.kernels else START_SECONDS)
        try:
            ready = self._control.recv(16)
        except OSError:
            ready = b""
        if ready != b"ready":
            raise SandboxBroken(self.last_message() or "it did not start")
        self._control.settimeout(None)

    def _make_folder(self) -> None:
        """On the host: a scratch folder for each candidate, and links to the packages that candidates may import."""
        self.folder = tempfile.mkdtemp(prefix="qwen-sandbox-")
        for name in ("scratch", "packages"):
            os.mkdir(f"{self.folder}/{name}")
        launch.link_packages(Path(self.folder) / "packages")

    def plan(self) -> Plan:
        """The guards and sizes, as the zygote gets them."""
        inside = self.inside_bubblewrap
        return Plan(
            level=self.level,
            readable=["/"] if inside else [*launch.readable(), f"{self.folder}/packages"],
            folder="" if inside else self.folder,
            packages=self._packages(),
            warm=list(self.kernels.warm) if self.kernels else [],
            files=launch.FILES if self.kernels and inside else "",
            without=self.without,
            **self._sizes,
        )

    def _packages(self) -> str:
        if self.kernels:
            folders = launch.installed_inside() if self.inside_bubblewrap else map(str, launch.installed())
            return os.pathsep.join(folders)
        return f"{launch.INSIDE if self.inside_bubblewrap else self.folder}/packages"

    def environment(self) -> dict[str, str]:
        """The variables that a guest finds, beside PATH at the bubblewrap level."""
        return launch.environment(self.kernels, launch.HOME if self.inside_bubblewrap else self.folder)

    def last_message(self) -> str:
        """What the zygote or a warden last wrote on standard error; untrusted code cannot write there."""
        text = os.pread(self._messages.fileno(), 1 << 16, 0)  # not by seek: the writers share the position
        lines = text.decode(errors="replace").strip().splitlines()
        return lines[-1][:300] if lines else ""

    def ask(self, kind: bytes, limits: tuple[float, float], theirs: Sequence[int], ours: Sequence[int]) -> None:
        """Have the zygote start what `kind` says (guest/channel.py).

        limits: of the program, in seconds: its own time, and wall time. theirs: the descriptors that go along, closed
        here in any case; ours: the other ends, closed here only when SandboxBroken is raised, because it is gone.
        """
        try:
            with self._sending:
                socket.send_fds(self._control, [struct.pack(HEADER, kind, *limits)], theirs)
        except OSError as error:
            for descriptor in ours:
                os.close(descriptor)
            raise SandboxBroken(f"the sandbox is gone ({error})") from error
        finally:
            for descriptor in theirs:
                os.close(descriptor)

    def check(self, check: Check) -> Verdict:
        """The verdict on one program. Raises SandboxBroken when the sandbox itself fails."""
        pipes = [os.pipe() for _ in range(4)]
        (_, program), (_, job), (verdict, _), (report, _) = pipes
        theirs = [pipes[0][0], pipes[1][0], pipes[2][1], pipes[3][1]]
        limits = (check.seconds, 10 + 5 * check.seconds)
        self.ask(CHECK, limits, theirs, ours=(program, job, verdict, report))
        _write(program, check.program)
        _write(job, {"setup": check.setup, "names": check.names, "modules": check.modules, "test": check.test})
        deadline = time.monotonic() + limits[1] + TESTER_CPU + 30
        try:
            outcome, report_text = _read(verdict, deadline), _read(report, deadline)
            if not report_text:
                raise SandboxBroken(f"a check could not be run ({self.last_message()})")
            return verdict_of(outcome, report_text)
        finally:
            os.close(verdict)
            os.close(report)

    def close(self) -> None:
        """End the zygote and everything that it started."""
        self._control.close()
        if self.process is not None:
            try:
                self.process.wait(5)
            except subprocess.TimeoutExpired:
                self.process.kill()
                self.process.wait()
            self.process = None
        self._messages.close()
        if self.folder:
            shutil.rmtree(self.folder, ignore_errors=True)
            self.folder = ""


def _write(descriptor: int, message: object) -> None:
    """Hand over a message and close; a guest that is already gone is seen in its verdict."""
    with contextlib.suppress(BrokenPipeError), os.fdopen(descriptor, "wb") as stream:
        stream.write(json.dumps(message).encode())


def _read(descriptor: int, deadline: float) -> bytes:
    """What comes until the end of the pipe; raises SandboxBroken when it does not end before `deadline`."""
    data = b""
    while len(data) <= MAX_VERDICT:
        if not select.select([descriptor], [], [], max(0.0, deadline - time.monotonic()))[0]:
            raise SandboxBroken("a check did not end")
        part = os.read(descriptor, MAX_VERDICT)
        if not part:
            return data
        data += part
    raise SandboxBroken("a verdict is too long")
