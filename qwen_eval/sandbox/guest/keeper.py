"""The keeper of one Jupyter kernel: starts it shut in, times its cells, ends it, clears up. Runs no code but its own.

It gets three pipes. commands: frames from the harness, first {"files", "cpu"}, then {"cell", "code", "own", "wall"} for
a cell and {} when it is over; messages: straight from the kernel to the harness; report: one frame {"stopped": why,
"cell": number} when a cell was interrupted, and {"ended": how} at the end. When the harness closes commands, all ends.
"""

import contextlib
import fcntl
import os
import select
import shutil
import signal
import time
from typing import Any, NamedTuple

from . import channel, notebook
from .guards import PR_SET_CHILD_SUBREAPER, Plan, die_with_parent, new_pid_namespace, prctl, shut_in
from .landlock import Fence
from .warden import aside, children, exit_of, fork, leave, make_room, overfull, scheduled

TICK = 0.02  # seconds between two looks at the clock
GRACE = 3.0  # seconds from the interrupt to the kill
PIPE = 1 << 20  # bytes; a cell's code must fit in a pipe, so that nobody waits for a kernel that does not read
F_SETPIPE_SZ = 1031


class Pipes(NamedTuple):
    """What comes with the request for a kernel."""

    commands: int
    messages: int
    report: int


class CellClock:
    """A cell's own time in seconds: running or asleep, but not queueing for a processor (see warden.Clock)."""

    def __init__(self, process: int, cell: int, own: float, wall: float) -> None:
        self.process, self.cell, self.limits, self.begun = process, cell, (own, wall), time.monotonic()
        self.queued = self._queued()
        self.interrupted: float | None = None

    def _queued(self) -> float:
        found = scheduled(self.process)
        return found[1] if found else 0.0

    def over(self) -> bool:
        wall = time.monotonic() - self.begun
        return wall - (self._queued() - self.queued) > self.limits[0] or wall > self.limits[1]


def keep(pipes: Pipes, plan: Plan, around: Fence | None) -> None:
    signal.signal(signal.SIGCHLD, signal.SIG_DFL)
    os.setsid()
    die_with_parent()
    prctl(PR_SET_CHILD_SUBREAPER, 1)
    job = channel.receive(pipes.commands)
    room = make_room(plan)
    cells, shut = os.pipe(), os.pipe()

    def run() -> None:
        kept = aside(cells[0], pipes.messages)
        shut_in(plan, room, job["cpu"], around, job["files"])
        notebook.main(*leave(shut[1], kept))

    try:
        if plan.namespaces:
            new_pid_namespace()
        kernel = fork(run)
        for descriptor in (cells[0], shut[1], pipes.messages):
            os.close(descriptor)
        if len(channel.read_all(shut[0])) != 1:
            raise RuntimeError("a kernel could not be shut in; nothing was run")
        with contextlib.suppress(OSError):
            fcntl.fcntl(cells[1], F_SETPIPE_SZ, PIPE)
        os.set_blocking(cells[1], False)
        why = _serve(kernel, pipes, cells[1], plan, room)
        ended = _end(kernel)
    finally:
        if not plan.namespaces:
            shutil.rmtree(room, ignore_errors=True)
    with contextlib.suppress(OSError):
        channel.send(pipes.report, {"ended": why or ended})


def _serve(kernel: int, pipes: Pipes, cells: int, plan: Plan, room: str) -> str:
    """Hand over cells and watch their time until kernel or harness is gone; says why if the kernel is to be killed."""
    clock: CellClock | None = None
    while not os.waitid(os.P_PID, kernel, os.WEXITED | os.WNOHANG | os.WNOWAIT):
        if select.select([pipes.commands], [], [], TICK)[0]:
            try:
                command: dict[str, Any] = channel.receive(pipes.commands)
            except channel.ChannelError:
                return "the harness ended it"
            clock = CellClock(kernel, command["cell"], command["own"], command["wall"]) if command else None
            if command:
                try:
                    channel.send(cells, command["code"])
                except (OSError, ValueError):
                    return "it took no more code"
        if not plan.namespaces and overfull(room, plan):
            return "it wrote more files than it may"
        if clock and clock.interrupted is None and clock.over():
            clock.interrupted = time.monotonic()
            channel.send(pipes.report, {"stopped": "timed out", "cell": clock.cell})
            os.kill(kernel, signal.SIGINT)
        if clock and clock.interrupted is not None and time.monotonic() - clock.interrupted > GRACE:
            return "timed out"
    return ""


def _end(kernel: int) -> str:
    """Kill and reap the kernel and whatever it left behind; says how it had ended by itself."""
    gone, status = os.waitpid(kernel, os.WNOHANG)
    if not gone:
        os.kill(kernel, signal.SIGKILL)
        os.waitpid(kernel, 0)
    while orphans := children():
        for process in orphans:
            os.kill(process, signal.SIGKILL)
            os.waitpid(process, 0)
    return exit_of(status) if gone else ""
