"""What the warden of a check and the keeper of a kernel share: fork a guest, leave it only what it needs, clear up."""

import contextlib
import fcntl
import os
import signal
from collections.abc import Callable
from typing import Any, NoReturn

from .guards import OWN_SCRATCH, PR_SET_CHILD_SUBREAPER, Plan, die_with_parent, prctl

TICK = 0.02  # seconds between two looks at a guest's clock
MOST_DESCRIPTORS = 1 << 16  # not the limit of open files: that was just lowered below what is open


def become_supervisor() -> None:
    """Make the calling process, a fork of the zygote, one that can wait for its guests and for what they leave."""
    signal.signal(signal.SIGCHLD, signal.SIG_DFL)
    os.setsid()
    die_with_parent()
    prctl(PR_SET_CHILD_SUBREAPER, 1)


def run_and_exit(body: Callable[[], Any]) -> NoReturn:
    """Run `body` as the whole of a forked process."""
    try:
        body()
    except BaseException as error:
        with contextlib.suppress(Exception):  # standard error is the harness's, for what should never happen
            os.write(2, f"sandbox: {type(error).__name__}: {error}\n".encode())
        os._exit(70)
    os._exit(0)


def fork(body: Callable[[], None]) -> int:
    """The process id of a child that runs `body` and ends with its parent."""
    child = os.fork()
    if child == 0:

        def run() -> None:
            die_with_parent()
            body()

        run_and_exit(run)
    return child


def make_scratch_folder(plan: Plan) -> str:
    """The guest's folder: its own tmpfs in a mount namespace, else a new folder on the host."""
    if plan.namespaces:
        return OWN_SCRATCH
    folder = os.path.join(plan.folder, "scratch", str(os.getpid()))
    os.mkdir(folder, 0o700)
    return folder


def duplicate_high(*descriptors: int) -> list[int]:
    """Copies of the descriptors that a guest keeps, all above 15; the first one leads nowhere (/dev/null)."""
    null = os.open(os.devnull, os.O_RDWR)
    return [fcntl.fcntl(descriptor, fcntl.F_DUPFD, 16) for descriptor in (null, *descriptors)]


def drop_harness_descriptors(ready: int, kept: list[int]) -> list[int]:
    """Close everything that is the harness's, and say that every guard is up: from here on untrusted code runs.

    ready: a pipe that gets one byte. kept: from `duplicate_high`; only these stay open, as 3, 4, ..., which are
    returned. Standard input, output and error lead nowhere.
    """
    os.write(ready, b".")
    null, *wanted = kept
    for standard in (0, 1, 2):
        os.dup2(null, standard)
    low = [os.dup2(descriptor, 3 + index) for index, descriptor in enumerate(wanted)]
    os.closerange(3 + len(low), MOST_DESCRIPTORS)
    return low


def scheduled(process: int) -> tuple[float, float] | None:
    """Seconds that a process ran, and that it was ready but waited for a processor. None where the kernel keeps no
    such count."""
    try:
        with open(f"/proc/{process}/schedstat", "rb") as stream:
            ran, queued, _ = stream.read().split()
    except (OSError, ValueError):
        return None
    return int(ran) / 1e9, int(queued) / 1e9


def is_overfull(folder: str, plan: Plan) -> bool:
    """Whether a scratch folder on the host's disk holds more than it may; in a tmpfs the kernel sees to it."""
    files = size = 0
    with contextlib.suppress(OSError), os.scandir(folder) as entries:
        for entry in entries:
            files += 1
            size += entry.stat(follow_symlinks=False).st_blocks * 512
    return files > plan.scratch_files or size > plan.scratch_size


def kill_and_reap(untrusted: int, *others: int) -> str:
    """End guests and whatever they left behind; says how the untrusted one had ended, "" if it had not."""
    gone, status = os.waitpid(untrusted, os.WNOHANG)
    for process in (untrusted, *others):
        if process != gone:
            os.kill(process, signal.SIGKILL)
            os.waitpid(process, 0)
    while orphans := children():
        for process in orphans:
            os.kill(process, signal.SIGKILL)
            os.waitpid(process, 0)
    return exit_of(status) if gone else ""


def exit_of(status: int) -> str:
    """How a process ended by itself, in words, from its wait status."""
    if os.WIFSIGNALED(status):
        number = os.WTERMSIG(status)
        return "timed out" if number == signal.SIGXCPU else f"crashed ({signal.Signals(number).name})"
    return f"exited with status {os.WEXITSTATUS(status)}"


def children() -> list[int]:
    """Processes below this one: those of a dead child are here too, because a supervisor is a subreaper."""
    try:
        with open(f"/proc/self/task/{os.getpid()}/children") as stream:
            return [int(number) for number in stream.read().split()]
    except OSError:
        return []
