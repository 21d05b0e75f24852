"""What a guest does to itself before the first line of its code: namespaces, limits, capabilities, Landlock, seccomp.

Each guard has a name; `Plan.without` leaves some out. That is for the tests, which show that each attack in the
battery succeeds once its guard is gone; nothing else sets it.
"""

import contextlib
import ctypes
import os
import resource
import signal
from collections.abc import Mapping
from dataclasses import dataclass, field

from . import landlock, seccomp

PR_SET_PDEATHSIG, PR_SET_DUMPABLE, PR_SET_CHILD_SUBREAPER, PR_SET_NO_NEW_PRIVS = 1, 4, 36, 38
CLONE_NEWNS, CLONE_NEWPID = 0x00020000, 0x20000000
MS_RDONLY, MS_NOSUID, MS_NODEV, MS_NOEXEC, MS_REMOUNT, MS_BIND, MNT_DETACH = 1, 2, 4, 8, 32, 4096, 2
OWN_SCRATCH = "/tmp"  # where a guest's private tmpfs lies in its own mount namespace


@dataclass
class Plan:
    """How guests are isolated. level: bubblewrap, landlock or none; readable: paths of files and folders; sizes in
    bytes; without: guards to leave out."""

    level: str
    readable: list[str]
    folder: str  # on the host, "" in a mount namespace: `scratch` in it has a folder for each candidate
    memory: int = 2 << 30
    file_size: int = 16 << 20
    scratch_size: int = 64 << 20
    scratch_files: int = 1000
    open_files: int = 64
    packages: str = ""  # folders, separated as in PATH
    warm: list[str] = field(default_factory=list)  # modules that the zygote imports beyond the common ones
    files: str = ""  # in a mount namespace: the folder of every guest's input files, which no guest sees whole
    without: list[str] = field(default_factory=list)

    def has(self, guard: str) -> bool:
        """Whether this guard is to be put up."""
        return self.level != "none" and guard not in self.without

    @property
    def namespaces(self) -> bool:
        """Whether each guest gets namespaces of its own."""
        return self.level == "bubblewrap" and self.has("namespaces")


class GuardFailed(Exception):
    """A guard could not be put up; the guest must not run."""


_C = ctypes.CDLL(None, use_errno=True)


def prctl(option: int, value: int) -> None:
    """prctl(2) with one argument; a system without it (macOS) has only the level `none`, where nothing is proven."""
    call = getattr(_C, "prctl", None)
    if call is not None:
        call(option, value, 0, 0, 0)


def _require(result: int, what: str) -> None:
    if result != 0:
        raise GuardFailed(f"{what}: {os.strerror(ctypes.get_errno())}")


def die_with_parent() -> None:
    """This process is killed when its parent ends, and no process of the same user may look into it."""
    prctl(PR_SET_PDEATHSIG, signal.SIGKILL)
    prctl(PR_SET_DUMPABLE, 0)


def new_pid_namespace() -> None:
    """The next child is process 1 of a namespace that dies with it."""
    _require(_C.unshare(CLONE_NEWPID), "a PID namespace")


def mount_private_scratch(plan: Plan) -> None:
    """Mount an empty tmpfs, which no other process sees and the kernel drops at the end; /proc goes away."""
    _require(_C.unshare(CLONE_NEWNS), "a mount namespace")
    options = f"size={plan.scratch_size},nr_inodes={plan.scratch_files},mode=0700".encode()
    _require(_C.mount(b"tmpfs", OWN_SCRATCH.encode(), b"tmpfs", MS_NOSUID | MS_NODEV | MS_NOEXEC, options), "a tmpfs")
    _require(_C.umount2(b"/proc", MNT_DETACH), "unmounting /proc")
    os.chdir(OWN_SCRATCH)


def place_files(plan: Plan, files: Mapping[str, str]) -> None:
    """Put a guest's input files (name -> where it lies) into the working folder, and hide all others.

    In a mount namespace they are read-only mounts; without one there are only links, with the user's rights.
    """
    for name, source in files.items():
        if not plan.namespaces:
            os.symlink(source, name)
            continue
        os.close(os.open(name, os.O_CREAT | os.O_EXCL, 0o400))
        for flags in (MS_BIND, MS_BIND | MS_REMOUNT | MS_RDONLY | MS_NOSUID | MS_NODEV):
            _require(_C.mount(source.encode(), os.path.abspath(name).encode(), None, flags, None), f"mounting {name}")
    if plan.namespaces and plan.files:
        _require(_C.mount(b"tmpfs", plan.files.encode(), b"tmpfs", MS_RDONLY, b"size=4k"), "hiding other files")


def set_limits(plan: Plan, cpu_seconds: int) -> None:
    """rlimits, soft and hard. The CPU limit is the last resort: the warden's clock comes first."""
    wanted = {"RLIMIT_CORE": 0}
    if plan.has("memory"):
        wanted["RLIMIT_AS"] = plan.memory
    if plan.has("cpu"):
        wanted["RLIMIT_CPU"] = cpu_seconds
    if plan.has("file-size"):
        wanted["RLIMIT_FSIZE"] = plan.file_size
        wanted["RLIMIT_NOFILE"] = plan.open_files
        wanted["RLIMIT_MSGQUEUE"] = 0
    for name, limit in wanted.items():
        if (number := getattr(resource, name, None)) is not None:
            hard = resource.getrlimit(number)[1]
            limit = limit if hard == resource.RLIM_INFINITY else min(limit, hard)
            with contextlib.suppress(ValueError, OSError) if plan.level == "none" else contextlib.nullcontext():
                resource.setrlimit(number, (limit, limit))


def drop_capabilities() -> None:
    """Give up every capability: root without them cannot raise a limit, mount, or read past a file's mode."""
    header = (ctypes.c_uint32 * 2)(0x20080522, 0)  # _LINUX_CAPABILITY_VERSION_3, this thread
    _require(_C.capset(ctypes.byref(header), ctypes.byref((ctypes.c_uint32 * 6)())), "dropping capabilities")


def landlock_rules(plan: Plan) -> landlock.PathRules | None:
    """Landlock: read the system's Python, write the scratch folder, nothing else. None where it is not needed or not
    there.

    Behind a mount namespace it is a second barrier. Without one it is the only barrier: then GuardFailed is raised
    where the kernel has no Landlock.
    """
    if not plan.has("landlock"):
        return None
    devices = [("/dev/null", landlock.READ_FILE | landlock.WRITE_FILE), ("/dev/urandom", landlock.READ_FILE)]
    try:
        return landlock.PathRules([*((path, landlock.READ) for path in plan.readable), *devices])
    except landlock.LandlockUnavailable as error:
        if plan.namespaces:
            return None
        raise GuardFailed(f"Landlock: {error}") from error


def isolate_process(
    plan: Plan, scratch: str, cpu_seconds: int, rules: landlock.PathRules | None, files: Mapping[str, str] | None = None
) -> None:
    """Put up every guard of the plan around the calling process. scratch: a folder that it may write, or "".

    rules: from `landlock_rules`. files: what lies in the scratch folder from the start, read-only: name -> where it is
    now. Raises GuardFailed, OSError or SeccompUnavailable; the caller must then end without running anything.
    """
    if plan.namespaces and scratch:
        mount_private_scratch(plan)
    elif scratch:
        os.chdir(scratch)
    if files is not None:
        place_files(plan, files)
    rights = landlock.ANY_FILE if plan.namespaces else landlock.PLAIN_FILES
    ruleset = rules.ruleset(scratch, rights) if rules is not None else None
    set_limits(plan, cpu_seconds)
    if plan.level == "none":
        return
    if plan.has("capabilities"):
        drop_capabilities()
    prctl(PR_SET_NO_NEW_PRIVS, 1)
    if ruleset is not None:
        landlock.restrict(ruleset)
    if plan.has("seccomp"):
        seccomp.install(notebook=plan.namespaces and bool(plan.files))
