"""The system calls that a guest may make: a list of what is allowed, everything else fails with EPERM.

Assembled by hand and installed through prctl, so that no library is needed where the sandbox runs. What is left out is
the point: no new process and no other program (fork, execve; threads remain), no socket but a pair, no signal but to
oneself, no ptrace or reading of another process's memory, no namespaces, mounts, keys, bpf, io_uring, shared memory,
memory files.
"""

import ctypes
import os
import platform
import struct

ALLOW, KILL, ERRNO = 0x7FFF0000, 0x80000000, 0x00050000
EPERM, ENOSYS = 1, 38
LOAD, AND, JUMP_EQUAL, JUMP_ANY, RETURN = 0x20, 0x54, 0x15, 0x45, 0x06
NUMBER, ARCHITECTURE, ARGUMENTS = 0, 4, 16  # offsets in struct seccomp_data

CLONE_THREAD = 0x10000
O_TMPFILE_BIT = 0o20000000  # a file without a name would not be seen by the size watch
AUDIT_ARCH = {"x86_64": 0xC000003E, "aarch64": 0xC00000B7}

# name: number on (x86_64, aarch64); None where the architecture has no such call.
_FILES = {
    "read": (0, 63), "write": (1, 64), "readv": (19, 65), "writev": (20, 66), "pread64": (17, 67), "pwrite64": (18, 68),
    "lseek": (8, 62), "close": (3, 57), "close_range": (436, 436), "dup": (32, 23), "dup2": (33, None),
    "dup3": (292, 24), "pipe": (22, None), "pipe2": (293, 59), "fstat": (5, 80), "newfstatat": (262, 79),
    "stat": (4, None), "lstat": (6, None), "statx": (332, 291), "statfs": (137, 43), "fstatfs": (138, 44),
    "access": (21, None), "faccessat": (269, 48), "faccessat2": (439, 439),
    "readlink": (89, None), "readlinkat": (267, 78),
    "getdents64": (217, 61), "getcwd": (79, 17), "chdir": (80, 49), "fchdir": (81, 50), "mkdir": (83, None),
    "mkdirat": (258, 34), "rmdir": (84, None), "unlink": (87, None), "unlinkat": (263, 35), "rename": (82, None),
    "renameat": (264, 38), "renameat2": (316, 276), "link": (86, None), "linkat": (265, 37), "symlink": (88, None),
    "symlinkat": (266, 36), "truncate": (76, 45), "ftruncate": (77, 46), "fallocate": (285, 47), "fsync": (74, 82),
    "fdatasync": (75, 83), "flock": (73, 32), "utimensat": (280, 88), "umask": (95, 166), "sendfile": (40, 71),
}  # fmt: skip
_MEMORY_AND_THREADS = {
    "mmap": (9, 222), "munmap": (11, 215), "mprotect": (10, 226), "mremap": (25, 216), "madvise": (28, 233),
    "msync": (26, 227), "mincore": (27, 232), "brk": (12, 214), "futex": (202, 98), "futex_waitv": (449, 449),
    "set_robust_list": (273, 99), "get_robust_list": (274, 100), "set_tid_address": (218, 96), "rseq": (334, 293),
    "membarrier": (324, 283), "sched_yield": (24, 124), "sched_getaffinity": (204, 123), "sched_getparam": (143, 121),
    "sched_getscheduler": (145, 120), "sched_get_priority_max": (146, 125), "sched_get_priority_min": (147, 126),
    "getcpu": (309, 168), "exit": (60, 93), "exit_group": (231, 94), "wait4": (61, 260), "waitid": (247, 95),
}  # fmt: skip
_SIGNALS_AND_TIME = {
    "rt_sigaction": (13, 134), "rt_sigprocmask": (14, 135), "rt_sigreturn": (15, 139), "rt_sigsuspend": (130, 133),
    "rt_sigpending": (127, 136), "rt_sigtimedwait": (128, 137), "sigaltstack": (131, 132),
    "restart_syscall": (219, 128), "pause": (34, None), "alarm": (37, None), "setitimer": (38, 103),
    "getitimer": (36, 102), "clock_gettime": (228, 113),
    "clock_getres": (229, 114), "clock_nanosleep": (230, 115), "nanosleep": (35, 101), "gettimeofday": (96, 169),
    "time": (201, None), "times": (100, 153), "getrusage": (98, 165), "poll": (7, None), "ppoll": (271, 73),
    "select": (23, None), "pselect6": (270, 72), "epoll_create1": (291, 20), "epoll_create": (213, None),
    "epoll_ctl": (233, 21), "epoll_wait": (232, None), "epoll_pwait": (281, 22), "eventfd2": (290, 19),
}  # fmt: skip
_ABOUT_ONESELF = {
    "getpid": (39, 172), "gettid": (186, 178), "getppid": (110, 173), "getpgrp": (111, None), "getpgid": (121, 155),
    "getsid": (124, 156), "getuid": (102, 174), "geteuid": (107, 175), "getgid": (104, 176), "getegid": (108, 177),
    "getresuid": (118, 148), "getresgid": (120, 150), "getgroups": (115, 158), "capget": (125, 90), "uname": (63, 160),
    "sysinfo": (99, 179), "getrlimit": (97, 163), "setrlimit": (160, 164), "getrandom": (318, 278),
    "recvfrom": (45, 207), "getsockname": (51, 204), "getpeername": (52, 205), "getsockopt": (55, 209),
    "shutdown": (48, 210),
}  # fmt: skip
# A Jupyter kernel's too, in its own namespaces, where no file and no process but its own is in reach: modes, which
# Landlock does not guard, and the scheduling policy, which ZeroMQ sets for its threads (to what it is).
NOTEBOOK = {
    "chmod": (90, None), "fchmod": (91, 52), "fchmodat": (268, 53), "fchmodat2": (452, 452),
    "sched_setscheduler": (144, 119),
}  # fmt: skip
ALLOWED = {**_FILES, **_MEMORY_AND_THREADS, **_SIGNALS_AND_TIME, **_ABOUT_ONESELF}

# Calls whose arguments decide: number, the argument looked at, the values it may have.
_BY_VALUE = {
    "prctl": ((157, 167), 0, (15, 16)),  # the thread's name
    "ioctl": (
        (16, 29),
        1,
        (0x5401, 0x5421, 0x541B, 0x5450, 0x5451),
    ),  # is it a terminal, non-blocking, bytes ready, close-on-exec
    "fcntl": ((72, 25), 1, (0, 1, 2, 3, 4, 5, 6, 7, 1030)),  # duplicate, flags, locks; not whom to signal
    "prlimit64": ((302, 261), 0, (0,)),  # one's own limits
    "socketpair": ((53, 199), 0, (1,)),  # AF_UNIX: both ends are one's own (asyncio wants one)
}
_OPENS = {(2, None): 1, (257, 56): 2}  # open and openat: which argument has the flags
_CLONE, _CLONE3, _SENDTO, _KILL, _TGKILL = (56, 220), (435, 435), (44, 206), (62, 129), (234, 131)

_Instruction = tuple[int, int, int, int]


class SeccompUnavailable(Exception):
    """This kernel or machine cannot filter system calls."""


def program(machine: str, own_pid: int, notebook: bool = False) -> bytes:
    """The BPF program for an architecture. own_pid: the only process that the guest may signal; notebook: allow
    NOTEBOOK too."""
    if machine not in AUDIT_ARCH:
        raise SeccompUnavailable(f"no list of system calls for {machine}")
    column = list(AUDIT_ARCH).index(machine)
    code: list[_Instruction] = [
        (LOAD, 0, 0, ARCHITECTURE),
        (JUMP_EQUAL, 1, 0, AUDIT_ARCH[machine]),  # another architecture's numbers mean other calls
        (RETURN, 0, 0, KILL),
        (LOAD, 0, 0, NUMBER),
    ]
    for numbers in {**ALLOWED, **(NOTEBOOK if notebook else {})}.values():
        code += _when(numbers[column], [(RETURN, 0, 0, ALLOW)])
    for numbers, argument, values in _BY_VALUE.values():
        code += _when(numbers[column], _if_low_word(argument, values))
    for numbers, argument in _OPENS.items():
        flags_checked: list[_Instruction] = [(LOAD, 0, 0, ARGUMENTS + 8 * argument), (JUMP_ANY, 0, 1, O_TMPFILE_BIT)]
        code += _when(numbers[column], [*flags_checked, (RETURN, 0, 0, ERRNO | EPERM), (RETURN, 0, 0, ALLOW)])
    threads_only: list[_Instruction] = [(LOAD, 0, 0, ARGUMENTS), (JUMP_ANY, 0, 1, CLONE_THREAD)]
    code += _when(_CLONE[column], [*threads_only, (RETURN, 0, 0, ALLOW), (RETURN, 0, 0, ERRNO | EPERM)])
    # clone3 hides its flags in memory where a filter cannot look; without it the C library uses clone.
    code += _when(_CLONE3[column], [(RETURN, 0, 0, ERRNO | ENOSYS)])
    code += _when(_SENDTO[column], _if_no_address(4))
    for numbers in (_KILL, _TGKILL):
        code += _when(numbers[column], _if_low_word(0, (own_pid,)))
    code.append((RETURN, 0, 0, ERRNO | EPERM))
    return b"".join(struct.pack("=HBBI", *instruction) for instruction in code)


def _when(number: int | None, body: list[_Instruction]) -> list[_Instruction]:
    """`body`, which ends in a return, for this system call; the accumulator holds the number before and after."""
    return [] if number is None else [(JUMP_EQUAL, 0, len(body), number), *body]


def _if_low_word(argument: int, values: tuple[int, ...]) -> list[_Instruction]:
    """Allow if the argument is one of the values. These are 32-bit arguments: the kernel reads no more of them."""
    code: list[_Instruction] = [(LOAD, 0, 0, ARGUMENTS + 8 * argument)]
    for value in values:
        code += [(JUMP_EQUAL, 0, 1, value), (RETURN, 0, 0, ALLOW)]
    return [*code, (RETURN, 0, 0, ERRNO | EPERM)]


def _if_no_address(argument: int) -> list[_Instruction]:
    """Allow if a pointer argument is null, both halves of it."""
    low, high = ARGUMENTS + 8 * argument, ARGUMENTS + 8 * argument + 4
    return [
        (LOAD, 0, 0, low), (JUMP_EQUAL, 0, 3, 0), (LOAD, 0, 0, high), (JUMP_EQUAL, 0, 1, 0),
        (RETURN, 0, 0, ALLOW), (RETURN, 0, 0, ERRNO | EPERM),
    ]  # fmt: skip


class _Program(ctypes.Structure):
    _fields_ = [("length", ctypes.c_ushort), ("filter", ctypes.c_char_p)]


def install(notebook: bool = False) -> None:
    """Filter the calling thread's system calls from now on. Needs no_new_privs. Raises SeccompUnavailable."""
    code = program(platform.machine(), os.getpid(), notebook)
    libc = ctypes.CDLL(None, use_errno=True)
    described = _Program(len(code) // 8, code)
    if libc.prctl(22, 2, ctypes.byref(described), 0, 0) != 0:  # PR_SET_SECCOMP, SECCOMP_MODE_FILTER
        raise SeccompUnavailable(os.strerror(ctypes.get_errno()))
