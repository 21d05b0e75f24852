"""The proof at the start of a run: each guard is attacked by a program that would notice if it were open.

A probe is a program with a function `attack()` that returns "through" if it got what it wanted. The self-test runs all
of them as candidates; a level at which one gets through is not used. The names of those that held go into results.json.
"""

import os
import socket
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import NamedTuple

from qwen_eval.sandbox.verdict import Check, SandboxBroken
from qwen_eval.sandbox.zygote import Zygote

SUCCESS = "assert attack() == 'through'"  # the test of every probe: passing it is bad


class Probe(NamedTuple):
    """guard: what is proven; program: the attack, `{canary}` and the like filled in; seconds: its time limit.

    level: where the guard exists, "" for everywhere.
    """

    guard: str
    program: str
    seconds: float = 3.0
    level: str = ""


_REFUSED = """
def refused(attempt):
    try:
        attempt()
    except (OSError, MemoryError, ValueError):
        return True
    return False
"""

PROBES = (
    Probe("verdict", "class Any:\n def __eq__(self, other): return True\ndef attack(): return Any()"),
    Probe(
        "network",
        _REFUSED + "import socket\n"
        "def attack():\n"
        " places = [(socket.AF_INET, ('127.0.0.1', {port}))]\n"
        " places += [(socket.AF_UNIX, at) for at in ({unix!r}, {abstract!r})]\n"
        " tries = [lambda f=f, a=a: socket.socket(f).connect(a) for f, a in places]\n"
        " tries.append(lambda: socket.socket(socket.AF_INET, socket.SOCK_DGRAM).sendto(b'x', ('127.0.0.1', {port})))\n"
        " return 'blocked' if all(map(refused, tries)) else 'through'",
    ),
    Probe(
        "reading files",
        _REFUSED + "def attack(): return 'blocked' if refused(lambda: open({canary!r}).read()) else 'through'",
    ),
    Probe(
        "writing files",
        _REFUSED + "import os\n"
        "def attack():\n"
        " places = [{canary!r}, {folder!r} + '/new', '/var/tmp/new', '/dev/shm/new', '/new', '/etc/new']\n"
        " tries = [lambda place=place: open(place, 'a').close() for place in places]\n"
        " tries += [lambda: os.mkdir({folder!r} + '/made'), lambda: os.unlink({canary!r}),\n"
        "           lambda: os.rename({canary!r}, {folder!r} + '/moved')]\n"
        " return 'blocked' if all(map(refused, tries)) else 'through'",
    ),
    Probe(
        "processes",
        _REFUSED + "import os, subprocess\n"
        "def child():\n if os.fork() == 0: os._exit(0)\n"
        "def attack():\n"
        " tries = [child, lambda: subprocess.run(['/bin/true']), lambda: os.posix_spawn('/bin/true', ['true'], {{}}),\n"
        "          lambda: os.execv('/bin/true', ['true'])]\n"
        " return 'blocked' if all(map(refused, tries)) and os.system('exit 0') != 0 else 'through'",
    ),
    Probe(
        "signals",
        _REFUSED + "import os\n"
        "def attack():\n"
        " targets = [{pid}, os.getppid() or {pid}, -1]\n"
        " return 'blocked' if all(refused(lambda p=p: os.kill(p, 0)) for p in targets) else 'through'",
    ),
    Probe(
        "other processes' memory",
        "import ctypes\n"
        "def attack():\n"
        " libc = ctypes.CDLL(None)\n"
        " traced = libc.ptrace(0, 0, 0, 0)\n"
        " class Part(ctypes.Structure): _fields_ = [('base', ctypes.c_void_p), ('size', ctypes.c_size_t)]\n"
        " byte = ctypes.create_string_buffer(1)\n"
        " part = Part(ctypes.addressof(byte), 1)\n"
        " import os\n"
        " read = libc.process_vm_readv(os.getpid(), ctypes.byref(part), 1, ctypes.byref(part), 1, 0)\n"
        " return 'blocked' if traced == -1 and read == -1 else 'through'",
    ),
    Probe(
        "system calls",
        "import ctypes, errno, os\n"
        "def attack():\n"
        " libc = ctypes.CDLL(None, use_errno=True)\n"
        " def denied(name, *args):\n"
        "  call = getattr(libc, name, None)\n"
        "  return call is None or (call(*args) == -1 and ctypes.get_errno() == errno.EPERM)\n"
        " calls = [('unshare', 0), ('memfd_create', b'x', 0), ('setns', 0, 0), ('shmget', 0, 4096, 0o1600),\n"
        "          ('userfaultfd', 0), ('inotify_init1', 0), ('sethostname', b'x', 1), ('setpriority', 0, 0, 0)]\n"
        " io_uring = libc.syscall(425, 1, 0) == -1 and ctypes.get_errno() == errno.EPERM\n"
        " return 'blocked' if io_uring and all(denied(*call) for call in calls) else 'through'",
    ),
    Probe(
        "privileges",
        "import ctypes\n"
        "def attack():\n"
        " header, sets = (ctypes.c_uint32 * 2)(0x20080522, 0), (ctypes.c_uint32 * 6)()\n"
        " failed = ctypes.CDLL(None).capget(ctypes.byref(header), ctypes.byref(sets))\n"
        " return 'through' if failed or any(sets) else 'blocked'",
    ),
    Probe(
        "memory",
        _REFUSED
        + "import mmap\ndef attack(): return 'blocked' if refused(lambda: mmap.mmap(-1, {memory})) else 'through'",
    ),
    Probe(
        "file size",
        _REFUSED + "def attack():\n"
        " stream = open('file', 'wb')\n"
        " return 'blocked' if refused(lambda: stream.truncate({file_size} + 1)) else 'through'",
    ),
    Probe("time", "def attack():\n while True: pass", 0.2),
    Probe("time asleep", "import time\ndef attack():\n time.sleep(1)\n return 'through'", 0.2),
    Probe(
        "environment", "import os\ndef attack(): return 'blocked' if set(os.environ) <= {variables!r} else 'through'"
    ),
    Probe(
        "descriptors",
        "import os\n"
        "def is_open(number):\n"
        " try: os.fstat(number)\n"
        " except OSError: return False\n"
        " return True\n"
        "def attack(): return 'through' if any(map(is_open, [3, *range(6, 2000)])) else 'blocked'",
    ),
    Probe(
        "own namespaces",
        "import os\n"
        "def attack():\n"
        " alone = os.getpid() == 1 and not os.path.exists('/proc/self') and os.uname().nodename == 'sandbox'\n"
        " return 'blocked' if alone and not os.path.exists({canary!r}) else 'through'",
        level="bubblewrap",
    ),
    Probe("privacy", "import os\nopen('left', 'w').close()\ndef attack(): return 'blocked'"),
    Probe(
        "privacy",
        "import os\ndef attack(): return 'through' if os.path.exists('left') or os.listdir('.') else 'blocked'",
    ),
)


@contextmanager
def surroundings(zygote: Zygote) -> Iterator[dict[str, object]]:
    """What the probes try to reach: a file, sockets, a process of the harness. Yields the fields of their programs."""
    plan = zygote.plan()
    with (
        tempfile.TemporaryDirectory(prefix="canary-") as folder,
        socket.socket() as tcp,
        socket.socket(socket.AF_UNIX) as unix,
    ):
        canary = Path(folder) / "canary"
        canary.write_text("secret")
        tcp.bind(("127.0.0.1", 0))
        tcp.listen()
        unix.bind(f"{folder}/socket")
        unix.listen()
        with socket.socket(socket.AF_UNIX) as abstract:
            name = f"\0canary-{os.getpid()}-{Path(folder).name}"
            abstract.bind(name)
            abstract.listen()
            yield {
                "canary": str(canary),
                "folder": folder,
                "port": tcp.getsockname()[1],
                "unix": f"{folder}/socket",
                "abstract": name,
                "pid": os.getpid(),
                "memory": plan.memory,
                "file_size": plan.file_size,
                "variables": {*zygote.environment(), "PATH", "PWD", "LC_CTYPE"},
            }


def run_probes(zygote: Zygote) -> dict[str, bool]:
    """Guard -> whether it stopped all of its probes."""
    held: dict[str, bool] = {}
    with surroundings(zygote) as fields:
        for probe in PROBES:
            if probe.level not in ("", zygote.level):
                continue
            program = probe.program.format(**fields) if "{" in probe.program else probe.program
            verdict = zygote.check(Check(program, SUCCESS, names=("attack",), seconds=probe.seconds))
            got_through = verdict.passed or (
                probe.guard != "verdict" and not _expected(probe, verdict.status, verdict.message)
            )
            held[probe.guard] = held.get(probe.guard, True) and not got_through
    return held


def _expected(probe: Probe, status: str, message: str) -> bool:
    """Whether a probe failed as an attack that was stopped does, and not by an accident that proves nothing."""
    if probe.guard.startswith("time"):
        return status == "timed out"
    return message == "AssertionError"  # attack() ran and did not say "through"


def prove(zygote: Zygote) -> list[str]:
    """The guards that held. Raises SandboxBroken naming those that did not."""
    held = run_probes(zygote)
    if not_held := [guard for guard, ok in held.items() if not ok]:
        raise SandboxBroken(f"the self-test got through: {', '.join(not_held)}")
    return list(held)
