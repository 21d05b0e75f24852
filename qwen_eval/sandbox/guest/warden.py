"""The zygote and the wardens: who starts guests, times them and clears up after them. Runs no code but its own.

The zygote is a clean interpreter with the common modules loaded. For every check it receives four descriptors and
forks a warden. The warden forks the tester, then (in a new PID namespace where there is one) the candidate, watches the
candidate's clock, and ends when the tester has ended. Program and tests travel through the descriptors straight to the
guest that needs them: neither is ever in the memory of the zygote, so no later candidate can find them there.
"""

import contextlib
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
from functools import partial
from typing import NamedTuple

from . import candidate, channel, keeper, process, tester
from .channel import HEADER, KERNEL, TESTER_CPU
from .guards import PR_SET_DUMPABLE, Plan, isolate_process, landlock_rules, new_pid_namespace, prctl
from .landlock import PathRules

# What a candidate commonly imports: loaded once, shared by all.
_WARM = """__future__ array bisect cmath collections copy ctypes datetime decimal fractions functools hashlib heapq
itertools json math numbers operator queue random re statistics string textwrap time typing unicodedata"""


class Limits(NamedTuple):
    """Of one check, in seconds. program: the candidate's own time, running or asleep; wall: at most, on a busy
    machine."""

    program: float
    wall: float


class Pipes(NamedTuple):
    """What comes with a check: the program, the job for the tester, and where verdict and the warden's report go."""

    program: int
    job: int
    verdict: int
    report: int


def serve(control: socket.socket, plan: Plan, rules: PathRules | None) -> None:
    """Fork a warden or a keeper for everything that is asked for, until the other side closes the socket."""
    signal.signal(signal.SIGCHLD, signal.SIG_IGN)  # the zygote does not wait for the wardens
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
                process.run_and_exit(partial(keeper.keep, keeper.Pipes(*descriptors), plan, rules))
            process.run_and_exit(partial(run_check, Pipes(*descriptors), Limits(*numbers), plan, rules))
        for descriptor in descriptors:
            os.close(descriptor)


def run_check(pipes: Pipes, limits: Limits, plan: Plan, rules: PathRules | None) -> None:
    """The whole of a warden: one check, from the fork of its guests to the report."""
    process.become_supervisor()
    scratch = process.make_scratch_folder(plan)
    requests, replies, alive, ready = os.pipe(), os.pipe(), os.pipe(), os.pipe()

    def run_tests() -> None:
        kept = process.duplicate_high(pipes.job, requests[1], replies[0], pipes.verdict, alive[1])
        isolate_process(plan, "", TESTER_CPU, rules)
        *descriptors, _ = process.drop_harness_descriptors(ready[1], kept)
        tester.main(*descriptors)

    def run_program() -> None:
        kept = process.duplicate_high(pipes.program, requests[0], replies[1])
        isolate_process(plan, scratch, int(limits.program) + 2, rules)
        candidate.main(*process.drop_harness_descriptors(ready[1], kept))

    try:
        trusted = process.fork(run_tests)  # before the namespace: the candidate is alone in its own
        if plan.namespaces:
            new_pid_namespace()
        untrusted = process.fork(run_program)
        for descriptor in (*requests, *replies, alive[1], ready[1], *pipes[:3]):
            os.close(descriptor)
        if len(channel.read_all(ready[0])) != 2:
            process.kill_and_reap(untrusted, trusted)
            raise RuntimeError("a guest could not be isolated; nothing was run")
        clock = Clock(untrusted, trusted)
        stopped = _watch(clock, alive[0], limits, plan, scratch)
        seconds = clock.program()
        ended = process.kill_and_reap(untrusted, trusted)
    finally:
        if not plan.namespaces:
            shutil.rmtree(scratch, ignore_errors=True)
    channel.write_all(pipes.report, json.dumps({"why": stopped or ended, "seconds": round(seconds, 4)}).encode())


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

    def program(self) -> float:
        try:
            cpu = time.clock_gettime((~self.untrusted << 3) | 2)  # the process's CPU clock, all threads
        except OSError:
            cpu = 0.0
        queued, tests = process.scheduled(self.untrusted), process.scheduled(self.trusted)
        if queued is None or tests is None:
            return cpu
        return max(cpu, self.wall() - queued[1] - sum(tests))


def _watch(clock: Clock, alive: int, limits: Limits, plan: Plan, scratch: str) -> str:
    """Wait for the tester's end. A candidate over a limit is killed, which ends its tests; says which limit it was."""
    why = ""
    while not select.select([alive], [], [], process.TICK)[0]:
        if not why:
            if plan.has("time") and (clock.program() > limits.program or clock.wall() > limits.wall):
                why = "timed out"
            elif not plan.namespaces and plan.has("file-size") and process.is_overfull(scratch, plan):
                why = "wrote more files than it may"
            if why:
                os.kill(clock.untrusted, signal.SIGKILL)
        if clock.wall() > limits.wall + TESTER_CPU:
            os.kill(clock.trusted, signal.SIGKILL)
    return why


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
    rules = landlock_rules(plan)
    control.sendall(b"ready")
    serve(control, plan, rules)
