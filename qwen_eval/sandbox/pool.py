"""The harness's side: start the sandbox, hand out checks, collect verdicts.

with Sandbox() as sandbox:
    verdicts = sandbox.check_many([Check(program=..., test=...), ...])
"""

import contextlib
import json
import os
import select
import shutil
import socket
import struct
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import FIRST_COMPLETED, Future, ThreadPoolExecutor, as_completed, wait
from dataclasses import asdict
from pathlib import Path
from typing import Any, TypeVar

from qwen_eval.errors import UserError
from qwen_eval.sandbox import launch, selftest
from qwen_eval.sandbox.guest.guards import Plan
from qwen_eval.sandbox.guest.warden import CHECK, HEADER, TESTER_CPU
from qwen_eval.sandbox.verdict import TIMED_OUT, Check, SandboxBroken, Verdict, judge

LEVELS = ("bubblewrap", "landlock")
FORCE = "QWEN_EVAL_SANDBOX"  # environment variable: the one level to use
MAX_VERDICT = 1 << 16  # bytes
Key = TypeVar("Key")


class Sandbox:
    """A running sandbox. `level`: bubblewrap, landlock or none; `guards`: those that the self-test proved."""

    def __init__(
        self,
        level: str | None = None,
        workers: int | None = None,
        allow_unsandboxed: bool = False,
        without: Sequence[str] = (),
        kernels: launch.Kernels | None = None,
        **sizes: int,
    ) -> None:
        """level: one level only (default: QWEN_EVAL_SANDBOX, else the best there is); workers: checks at a time.

        without: guards to leave out, for tests (the self-test is then skipped); kernels: what Jupyter kernels need
        (see qwen_eval/sandbox/kernel.py), at the bubblewrap level only; sizes: fields of Plan, in bytes.
        Raises UserError when no level is available, unless `allow_unsandboxed`.
        """
        self.workers = workers or os.cpu_count() or 1
        self._lock = threading.Lock()
        self._without, self._sizes, self.kernels = list(without), sizes, kernels
        self._process: subprocess.Popen[bytes] | None = None
        self._folder = ""  # on the host, for the level that has no mount namespace
        asked = level or os.environ.get(FORCE) or None
        if asked not in (None, "none", *LEVELS):
            raise UserError(f"no sandbox level {asked!r}; there are {', '.join(LEVELS)}")
        self.guards: list[str] = []
        reasons = []
        for name in [asked] if asked else LEVELS:
            if kernels is not None and name == "landlock":
                reasons.append("landlock: not enough for a Jupyter kernel")
                continue
            try:
                self._open(name)
                return
            except (SandboxBroken, OSError, ValueError) as error:
                self.close()
                reasons.append(f"{name}: {' '.join(str(error).split())}")
        if not allow_unsandboxed:
            raise UserError(
                f"no sandbox for model-written code ({'; '.join(reasons)}); install bubblewrap "
                "(`apt-get install bubblewrap`, or `python -m qwen_eval.sandbox --install`), or run on "
                "Linux 5.13 or newer with Landlock, or accept the risk with --allow-unsandboxed"
            )
        self._open("none")

    # -- starting and ending -------------------------------------------------------------------------------------------

    def _open(self, level: str) -> None:
        self.level = level
        if not self._inside_bubblewrap:
            self._make_folder()
        self._start()
        if level != "none" and not self._without:
            self.guards = selftest.prove(self)

    def _make_folder(self) -> None:
        """Where candidates get a folder each, and links to the packages that they may import."""
        self._folder = tempfile.mkdtemp(prefix="qwen-sandbox-")
        for name in ("rooms", "packages"):
            os.mkdir(f"{self._folder}/{name}")
        launch.link_packages(Path(self._folder) / "packages")

    def plan(self) -> Plan:
        """The guards and sizes of this sandbox, as its zygote gets them."""
        inside = self._inside_bubblewrap
        return Plan(
            level=self.level,
            readable=["/"] if inside else [*launch.readable(), f"{self._folder}/packages"],
            folder="" if inside else self._folder,
            packages=self._packages(inside),
            warm=list(self.kernels.warm) if self.kernels else [],
            files=launch.FILES if self.kernels and inside else "",
            without=self._without,
            **self._sizes,
        )

    def _packages(self, inside: bool) -> str:
        if self.kernels:
            return os.pathsep.join(launch.installed_inside() if inside else map(str, launch.installed()))
        return f"{launch.INSIDE}/packages" if inside else f"{self._folder}/packages"

    def environment(self) -> dict[str, str]:
        """The variables that a guest finds, beside PATH at the bubblewrap level."""
        return launch.environment(self.kernels, launch.HOME if self._inside_bubblewrap else self._folder)

    @property
    def _inside_bubblewrap(self) -> bool:
        return self.level == "bubblewrap" and "namespaces" not in self._without

    def _start(self) -> None:
        """Start the zygote and wait until it is ready."""
        ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_STREAM)
        command = launch.command(theirs.fileno(), json.dumps(asdict(self.plan())))
        if self._inside_bubblewrap:
            if not launch.bubblewrap_installed():
                raise SandboxBroken("bwrap is not installed")
            command = launch.bubblewrap(command, self.kernels)
        self._messages = tempfile.TemporaryFile()  # noqa: SIM115  (read until the end)
        variables = self.environment()
        if self._inside_bubblewrap:  # to find bwrap
            variables = {**variables, "PATH": os.environ.get("PATH", os.defpath)}
        self._process = subprocess.Popen(
            command,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.DEVNULL,
            stderr=self._messages,
            env=variables,
            cwd=launch.HERE,
            pass_fds=[theirs.fileno()],
            start_new_session=True,
        )
        theirs.close()
        self._control = ours
        ours.settimeout(180 if self.kernels else 30)
        try:
            ready = ours.recv(16)
        except OSError:
            ready = b""
        if ready != b"ready":
            raise SandboxBroken(self.last_message() or "it did not start")
        ours.settimeout(None)

    def last_message(self) -> str:
        """What the zygote or a warden last wrote on standard error; nothing foreign can write there."""
        text = os.pread(self._messages.fileno(), 1 << 16, 0)  # not by seek: the writers share the position
        lines = text.decode(errors="replace").strip().splitlines()
        return lines[-1][:300] if lines else ""

    def close(self) -> None:
        """End the sandbox and everything in it."""
        if self._process is not None:
            with contextlib.suppress(AttributeError, OSError):
                self._control.close()
            try:
                self._process.wait(5)
            except subprocess.TimeoutExpired:
                self._process.kill()
                self._process.wait()
            self._process = None
        if self._folder:
            shutil.rmtree(self._folder, ignore_errors=True)
            self._folder = ""

    def __enter__(self) -> "Sandbox":
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def describe(self) -> dict[str, object]:
        """For results.json: the level of isolation and the guards that were proven at the start of this run."""
        return {"level": self.level, "guards": list(self.guards)}

    # -- checking ------------------------------------------------------------------------------------------------------

    def check(self, check: Check) -> Verdict:
        """The verdict on one program; one that timed out is not tried again."""
        pipes = [os.pipe() for _ in range(4)]
        (_, program), (_, job), (verdict, _), (report, _) = pipes
        theirs = [pipes[0][0], pipes[1][0], pipes[2][1], pipes[3][1]]
        limits = (check.seconds, 10 + 5 * check.seconds)
        self.ask(CHECK, limits, theirs, ours=(program, job, verdict, report))
        _write(program, check.program)
        tests = {"setup": check.setup, "names": check.names, "modules": check.modules, "test": check.test}
        _write(job, tests)
        until = time.monotonic() + limits[1] + TESTER_CPU + 30
        try:
            said, reported = _read(verdict, until), _read(report, until)
            if not reported:
                raise SandboxBroken(f"a check could not be run ({self.last_message()})")
            return judge(said, reported)
        finally:
            os.close(verdict)
            os.close(report)

    def ask(self, kind: bytes, limits: tuple[float, float], theirs: Sequence[int], ours: Sequence[int]) -> None:
        """Have the zygote start something that gets `theirs`, which are closed here; without it `ours` are too."""
        try:
            with self._lock:
                socket.send_fds(self._control, [struct.pack(HEADER, kind, *limits)], theirs)
        except OSError as error:
            for descriptor in ours:
                os.close(descriptor)
            raise SandboxBroken(f"the sandbox is gone ({error})") from error
        finally:
            for descriptor in theirs:
                os.close(descriptor)

    def check_many(
        self, checks: Iterable[Check], progress: Callable[[int, Verdict], None] | None = None
    ) -> list[Verdict]:
        """Verdicts in the order of the checks, `workers` at a time; those that timed out once more, alone.

        progress: called with the index and the verdict as each becomes final.
        """
        found: dict[int, Verdict] = {}
        for index, (verdict,) in self.check_stream((index, [check]) for index, check in enumerate(checks)):
            found[index] = verdict
            if progress:
                progress(index, verdict)
        return [found[index] for index in sorted(found)]

    def check_stream(self, jobs: Iterable[tuple[Key, Sequence[Check]]]) -> Iterator[tuple[Key, list[Verdict]]]:
        """(key, verdicts of its checks) as they become final, while `jobs` is still being read.

        Checks that timed out are tried once more at the end, one at a time, so that a busy machine changes no verdict.
        """
        again: list[tuple[Key, Sequence[Check], list[Verdict]]] = []
        running: dict[Future[list[Verdict]], tuple[Key, Sequence[Check]]] = {}
        failed: BaseException | None = None  # of the source of jobs; what it gave before is not lost
        executor = ThreadPoolExecutor(self.workers)
        try:
            source = iter(jobs)
            while True:
                try:
                    key, checks = next(source)
                except StopIteration:
                    break
                except (Exception, KeyboardInterrupt) as error:
                    failed = error
                    break
                running[executor.submit(self._check_all, checks)] = (key, checks)
                full = len(running) > 2 * self.workers
                for future in wait(running, None if full else 0, FIRST_COMPLETED).done:
                    yield from self._settled(future, *running.pop(future), again)
            stopped = isinstance(failed, KeyboardInterrupt)  # then only what is checked already: it is to end at once
            for future in wait(running, 0).done if stopped else as_completed(list(running)):
                yield from self._settled(future, *running.pop(future), again)
        finally:
            executor.shutdown(wait=not running, cancel_futures=True)
        if failed is not None and stopped:
            raise failed
        for key, checks, verdicts in again:
            pairs = zip(checks, verdicts, strict=True)
            yield key, [self.check(check) if verdict.status == TIMED_OUT else verdict for check, verdict in pairs]
        if failed is not None:
            raise failed

    def _check_all(self, checks: Sequence[Check]) -> list[Verdict]:
        return [self.check(check) for check in checks]

    def _settled(
        self, future: "Future[list[Verdict]]", key: Key, checks: Sequence[Check], again: list[Any]
    ) -> Iterator[tuple[Key, list[Verdict]]]:
        """The result of a job, unless a part of it timed out: that is put on the list of those to try again."""
        verdicts = future.result()
        if any(verdict.status == TIMED_OUT for verdict in verdicts):
            again.append((key, checks, verdicts))
        else:
            yield key, verdicts


def _write(descriptor: int, message: object) -> None:
    """Hand over a message and close; a guest that is already gone is seen in its verdict."""
    with contextlib.suppress(BrokenPipeError), os.fdopen(descriptor, "wb") as stream:
        stream.write(json.dumps(message).encode())


def _read(descriptor: int, until: float) -> bytes:
    """What comes until the end of the pipe; raises SandboxBroken when it does not end in time."""
    data = b""
    while len(data) <= MAX_VERDICT:
        if not select.select([descriptor], [], [], max(0.0, until - time.monotonic()))[0]:
            raise SandboxBroken("a check did not end")
        part = os.read(descriptor, MAX_VERDICT)
        if not part:
            return data
        data += part
    raise SandboxBroken("a verdict is too long")


def warn_unsandboxed(sandbox: Sandbox) -> None:
    """Say on standard error that model-written code runs with the user's own rights."""
    if sandbox.level == "none":
        print("warning: no sandbox: model-written code runs with your rights (--allow-unsandboxed)", file=sys.stderr)
