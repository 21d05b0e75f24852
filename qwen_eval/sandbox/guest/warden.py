"""The zygote and the wardens: who starts guests, times them and clears up after them. Runs no code but its own.

The zygote is a clean interpreter with the common modules loaded. For every check it receives four descriptors and
forks a warden; the warden forks the tester, then (in a new PID namespace where there is one) the candidate, watches the
candidate's clock, and ends when the tester has. Program and tests travel through the descriptors straight to the guest
that needs them: neither is ever in the memory of the zygote, so no later candidate can find them there.
"""

import contextlib
import fcntl
import importlib
import json
import os
import select
import shutil
import signal
import socket
import struct
import sys
import time
from collections.abc import Callable
from functools import partial
from typing import Any, NamedTuple, NoReturn

from . import candidate, channel, tester
from .guards import (
    OWN_ROOM,
    PR_SET_CHILD_SUBREAPER,
    PR_SET_DUMPABLE,
    Plan,
    die_with_parent,
    fence,
    new_pid_namespace,
    prctl,
    shut_in,
)
from .landlock import Fence

# What a candidate commonly imports: loaded once, shared by all.
_WARM = """__future__ array bisect cmath collections copy ctypes datetime decimal fractions functools hashlib heapq
itertools json math numbers operator queue random re statistics string textwrap time typing unicodedata"""

HEADER = ">cdd"  # on the control socket: what is asked for, its limits
CHECK, KERNEL = b"c", b"k"
MOST_DESCRIPTORS = 1 << 16  # not the limit of open files: that was just lowered below what is open
TICK = 0.02  # seconds between two looks at the candidate's clock
TESTER_CPU = 60  # seconds; the tests themselves are the benchmark's, this only bounds an absurd value they are given


class Limits(NamedTuple):
    """Of one check, in seconds. `own`: the candidate's time, running or asleep; `wall`: at most, on a busy machine."""

    own: float
    wall: float


class Pipes(NamedTuple):
    """What comes with a check: the program, the job for the tester, and where verdict and the warden's report go."""

    program: int
    job: int
    verdict: int
    report: int


def serve(control: socket.socket, plan: Plan, around: Fence | None) -> None:
    """Fork a warden for every check that is asked for, until the other side closes the socket."""
    signal.signal(signal.SIGCHLD, signal.SIG_IGN)  # the wardens are nobody's zombies
    while True:
        data, descriptors, _, _ = socket.recv_fds(control, struct.calcsize(HEADER), 4)
        if not data:  # closed, or the harness was killed and cannot clear up
            if plan.folder:
                shutil.rmtree(plan.folder, ignore_errors=True)
            os._exit(0)
        kind, *numbers = struct.unpack(HEADER, data)
        if os.fork() == 0:
            control.close()
            if kind == KERNEL:
                from . import keeper

                become(partial(keeper.keep, keeper.Pipes(*descriptors), plan, around))
            become(partial(_warden, Pipes(*descriptors), Limits(*numbers), plan, around))
        for descriptor in descriptors:
            os.close(descriptor)


def become(body: Callable[[], Any]) -> NoReturn:
    """Run `body` as the whole of a forked process."""
    try:
        body()
    except BaseException as error:
        with contextlib.suppress(Exception):  # standard error is the harness's, for what should never happen
            os.write(2, f"sandbox: {type(error).__name__}: {error}\n".encode())
        os._exit(70)
    os._exit(0)


def _warden(pipes: Pipes, limits: Limits, plan: Plan, around: Fence | None) -> None:
    signal.signal(signal.SIGCHLD, signal.SIG_DFL)
    os.setsid()
    die_with_parent()
    prctl(PR_SET_CHILD_SUBREAPER, 1)
    room = make_room(plan)
    requests, replies, alive, shut = os.pipe(), os.pipe(), os.pipe(), os.pipe()

    def test() -> None:
        kept = aside(pipes.job, requests[1], replies[0], pipes.verdict, alive[1])
        shut_in(plan, "", TESTER_CPU, around)
        *fds, _ = leave(shut[1], kept)
        tester.main(*fds)

    def run() -> None:
        kept = aside(pipes.program, requests[0], replies[1])
        shut_in(plan, room, int(limits.own) + 2, around)
        candidate.main(*leave(shut[1], kept))

    try:
        trusted = fork(test)  # before the namespace: the candidate is alone in its own
        if plan.namespaces:
            new_pid_namespace()
        untrusted = fork(run)
        for descriptor in (*requests, *replies, alive[1], shut[1], *pipes[:3]):
            os.close(descriptor)
        if len(channel.read_all(shut[0])) != 2:
            _clear(untrusted, trusted)
            raise RuntimeError("a guest could not be shut in; nothing was run")
        clock = Clock(untrusted, trusted)
        overrun = _watch(clock, alive[0], limits, plan, room)
        seconds = clock.own()
        ended = _clear(untrusted, trusted)
    finally:
        if not plan.namespaces:
            shutil.rmtree(room, ignore_errors=True)
    channel.write_all(pipes.report, json.dumps({"why": overrun or ended, "seconds": round(seconds, 4)}).encode())


def make_room(plan: Plan) -> str:
    """The candidate's folder: its own tmpfs in a mount namespace, else a new folder on the host."""
    if plan.namespaces:
        return OWN_ROOM
    room = os.path.join(plan.folder, "rooms", str(os.getpid()))
    os.mkdir(room, 0o700)
    return room


def fork(body: Callable[[], None]) -> int:
    child = os.fork()
    if child == 0:
        become(body)
    return child


def aside(*kept: int) -> list[int]:
    """Copies of the descriptors that a guest keeps, out of the way of 0 to 15; the first one leads nowhere."""
    null = os.open(os.devnull, os.O_RDWR)
    return [fcntl.fcntl(descriptor, fcntl.F_DUPFD, 16) for descriptor in (null, *kept)]


def leave(done: int, kept: list[int]) -> list[int]:
    """Let go of everything that is the harness's, and say that every guard is up: from here on foreign code runs.

    Only what was put aside stays, as 3, 4, ...; standard input, output and error lead nowhere.
    """
    os.write(done, b".")
    null, *wanted = kept
    for standard in (0, 1, 2):
        os.dup2(null, standard)
    low = [os.dup2(descriptor, 3 + index) for index, descriptor in enumerate(wanted)]
    os.closerange(3 + len(low), MOST_DESCRIPTORS)
    return low


class Clock:
    """A candidate's own time in seconds: running or asleep, but not queueing for a processor or waiting for the tests.

    So a sleeping candidate is as slow as one that computes, and a busy machine makes nobody slow. Where the kernel
    does not tell how long a process queued (schedstat), it is the CPU time alone.
    """

    def __init__(self, untrusted: int, trusted: int) -> None:
        self.untrusted, self.trusted = untrusted, trusted
        self.started = time.monotonic()

    def wall(self) -> float:
        return time.monotonic() - self.started

    def own(self) -> float:
        try:
            cpu = time.clock_gettime((~self.untrusted << 3) | 2)  # the process's CPU clock, all threads
        except OSError:
            cpu = 0.0
        queued, tests = scheduled(self.untrusted), scheduled(self.trusted)
        if queued is None or tests is None:
            return cpu
        return max(cpu, self.wall() - queued[1] - sum(tests))


def scheduled(process: int) -> tuple[float, float] | None:
    """Seconds that a process ran, and that it was ready but waited for a processor."""
    try:
        with open(f"/proc/{process}/schedstat", "rb") as stream:
            ran, queued, _ = stream.read().split()
    except (OSError, ValueError):
        return None
    return int(ran) / 1e9, int(queued) / 1e9


def _watch(clock: Clock, alive: int, limits: Limits, plan: Plan, room: str) -> str:
    """Wait for the tester's end. A candidate over a limit is killed, which ends its tests; says which limit it was."""
    why = ""
    while not select.select([alive], [], [], TICK)[0]:
        if not why:
            if plan.has("time") and (clock.own() > limits.own or clock.wall() > limits.wall):
                why = "timed out"
            elif not plan.namespaces and plan.has("file-size") and overfull(room, plan):
                why = "wrote more files than it may"
            if why:
                os.kill(clock.untrusted, signal.SIGKILL)
        if clock.wall() > limits.wall + TESTER_CPU:
            os.kill(clock.trusted, signal.SIGKILL)
    return why


def overfull(room: str, plan: Plan) -> bool:
    """Whether a room on the host's disk holds more than it may; in a tmpfs the kernel sees to it."""
    files = size = 0
    with contextlib.suppress(OSError), os.scandir(room) as entries:
        for entry in entries:
            files += 1
            size += entry.stat(follow_symlinks=False).st_blocks * 512
    return files > plan.room_files or size > plan.room_size


def _clear(untrusted: int, trusted: int) -> str:
    """Kill and reap both guests and whatever they left behind; says how the candidate had ended."""
    gone, status = os.waitpid(untrusted, os.WNOHANG)
    for process in (untrusted, trusted):
        if process != gone:
            os.kill(process, signal.SIGKILL)
            os.waitpid(process, 0)
    while orphans := children():
        for process in orphans:
            os.kill(process, signal.SIGKILL)
            os.waitpid(process, 0)
    return exit_of(status) if gone else ""


def exit_of(status: int) -> str:
    """How a process ended by itself, from its wait status."""
    if os.WIFSIGNALED(status):
        number = os.WTERMSIG(status)
        return "timed out" if number == signal.SIGXCPU else f"crashed ({signal.Signals(number).name})"
    return f"exited with status {os.WEXITSTATUS(status)}"


def children() -> list[int]:
    """Processes below this one: those of a dead child are here too, because a warden is a subreaper."""
    try:
        with open(f"/proc/self/task/{os.getpid()}/children") as stream:
            return [int(number) for number in stream.read().split()]
    except OSError:
        return []


def main() -> None:
    """The zygote. Arguments: the descriptor of the control socket, the plan as JSON."""
    control = socket.socket(fileno=int(sys.argv[1]))
    plan = Plan(**json.loads(sys.argv[2]))
    sys.path += plan.packages.split(os.pathsep) if plan.packages else []
    sys.argv = [""]
    for name in [*_WARM.split(), *plan.warm]:
        with contextlib.suppress(ImportError):
            importlib.import_module(name)
    prctl(PR_SET_DUMPABLE, 0)
    if sys.path and sys.path[0] not in ("", *plan.packages.split(os.pathsep)):
        del sys.path[0]  # the folder of this package: what a candidate imports comes from the standard library
    around = fence(plan)
    control.sendall(b"ready")
    serve(control, plan, around)
