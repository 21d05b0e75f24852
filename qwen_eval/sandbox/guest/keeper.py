"""The keeper of one Jupyter kernel: starts it isolated, times its cells, ends it, clears up. Runs no code but its own.

It gets three pipes. commands: frames from the harness, first {"files", "cpu"}, then for each cell
{"cell", "code", "seconds", "wall"}, and {} when the cell is over. messages: straight from the kernel to the harness.
report: one frame {"stopped": why, "cell": number} when a cell was interrupted, and {"ended": how} at the end. When the
harness closes `commands`, all ends.
"""

import contextlib
import fcntl
import os
import select
import shutil
import signal
import time
from typing import Any, NamedTuple

from . import channel, notebook, process
from .guards import Plan, isolate_process, new_pid_namespace
from .landlock import PathRules

GRACE = 3.0  # seconds from the interrupt to the kill
PIPE = 1 << 20  # bytes; a cell's code must fit in a pipe, so that nobody waits for a kernel that does not read
F_SETPIPE_SZ = 1031


class Pipes(NamedTuple):
    """What comes with the request for a kernel."""

    commands: int
    messages: int
    report: int


class CellClock:
    """A cell's own time: running or asleep, but not queueing for a processor (see warden.Clock).

    seconds: the limit of the cell's own time; wall: that of wall time, in seconds.
    """

    def __init__(self, kernel: int, cell: int, seconds: float, wall: float) -> None:
        self.kernel, self.cell, self.seconds, self.wall = kernel, cell, seconds, wall
        self.started, self.queued_before = time.monotonic(), self._queued()
        self.interrupted: float | None = None

    def _queued(self) -> float:
        times = process.scheduled(self.kernel)
        return times[1] if times else 0.0

    def is_over(self) -> bool:
        wall = time.monotonic() - self.started
        return wall - (self._queued() - self.queued_before) > self.seconds or wall > self.wall


def keep(pipes: Pipes, plan: Plan, rules: PathRules | None) -> None:
    """The whole of a keeper: one kernel, from its fork to the report."""
    process.become_supervisor()
    job = channel.receive(pipes.commands)
    scratch = process.make_scratch_folder(plan)
    cells, ready = os.pipe(), os.pipe()

    def run_kernel() -> None:
        kept = process.duplicate_high(cells[0], pipes.messages)
        isolate_process(plan, scratch, job["cpu"], rules, job["files"])
        notebook.main(*process.drop_harness_descriptors(ready[1], kept))

    try:
        if plan.namespaces:
            new_pid_namespace()
        kernel = process.fork(run_kernel)
        for descriptor in (cells[0], ready[1], pipes.messages):
            os.close(descriptor)
        if len(channel.read_all(ready[0])) != 1:
            raise RuntimeError("a kernel could not be isolated; nothing was run")
        with contextlib.suppress(OSError):
            fcntl.fcntl(cells[1], F_SETPIPE_SZ, PIPE)
        os.set_blocking(cells[1], False)
        why = _serve(kernel, pipes, cells[1], plan, scratch)
        ended = process.kill_and_reap(kernel)
    finally:
        if not plan.namespaces:
            shutil.rmtree(scratch, ignore_errors=True)
    with contextlib.suppress(OSError):
        channel.send(pipes.report, {"ended": why or ended})


def _serve(kernel: int, pipes: Pipes, cells: int, plan: Plan, scratch: str) -> str:
    """Hand over cells and watch their time until kernel or harness is gone; says why if the kernel is to be killed."""
    clock: CellClock | None = None
    while not os.waitid(os.P_PID, kernel, os.WEXITED | os.WNOHANG | os.WNOWAIT):
        if select.select([pipes.commands], [], [], process.TICK)[0]:
            try:
                command: dict[str, Any] = channel.receive(pipes.commands)
            except channel.ChannelError:
                return "the harness ended it"
            clock = CellClock(kernel, command["cell"], command["seconds"], command["wall"]) if command else None
            if command:
                try:
                    channel.send(cells, command["code"])
                except (OSError, ValueError):
                    return "it took no more code"
        if not plan.namespaces and process.is_overfull(scratch, plan):
            return "it wrote more files than it may"
        if clock and clock.interrupted is None and clock.is_over():
            clock.interrupted = time.monotonic()
            channel.send(pipes.report, {"stopped": "timed out", "cell": clock.cell})
            os.kill(kernel, signal.SIGINT)
        if clock and clock.interrupted is not None and time.monotonic() - clock.interrupted > GRACE:
            return "timed out"
    return ""
