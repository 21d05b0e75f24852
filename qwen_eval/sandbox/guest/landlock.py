"""Landlock: which files a process may touch, decided by the process itself, without any privilege (Linux 5.13).

Only the three system calls, through ctypes: nothing to install where the sandbox runs.
"""

import ctypes
import os
import stat
import struct

CREATE_RULESET, ADD_RULE, RESTRICT_SELF = 444, 445, 446  # the same numbers on every architecture
EXECUTE, WRITE_FILE, READ_FILE, READ_DIR = 1, 2, 4, 8
REMOVE_DIR, REMOVE_FILE, MAKE_DIR, MAKE_REG, MAKE_SYM = 1 << 4, 1 << 5, 1 << 7, 1 << 8, 1 << 12
REFER, TRUNCATE, IOCTL_DEV = 1 << 13, 1 << 14, 1 << 15
_RIGHTS_BY_ABI = {1: (1 << 13) - 1, 2: (1 << 14) - 1, 3: (1 << 15) - 1, 4: (1 << 15) - 1, 5: (1 << 16) - 1}
NO_TCP = 0b11  # bind and connect (ABI 4)
OWN_SCOPE = 0b11  # abstract UNIX sockets and signals stay inside (ABI 6)

READ = READ_FILE | READ_DIR
# In a scratch folder that the kernel drops: anything. In one on the host's disk: plain files only, none of which can be
# unlinked while it is open, so that what is written can always be counted and removed.
ANY_FILE = READ | WRITE_FILE | TRUNCATE | REMOVE_FILE | REMOVE_DIR | MAKE_DIR | MAKE_REG | MAKE_SYM | REFER
PLAIN_FILES = READ | WRITE_FILE | TRUNCATE | MAKE_REG


class LandlockUnavailable(Exception):
    """This kernel has no Landlock, or it is switched off."""


_libc = ctypes.CDLL(None, use_errno=True)


def _call(*args: object) -> int:
    result = _libc.syscall(*args)
    if result < 0:
        raise LandlockUnavailable(os.strerror(ctypes.get_errno()))
    return int(result)


def abi() -> int:
    """The kernel's version of the interface, 1 or more. Raises LandlockUnavailable."""
    return _call(CREATE_RULESET, None, ctypes.c_size_t(0), ctypes.c_uint32(1))


class PathRules:
    """The paths that every guest may read, opened once; `ruleset` adds the one folder that a guest may write.

    Raises LandlockUnavailable when the kernel has no Landlock; a path that is not there is passed over.
    """

    def __init__(self, paths: list[tuple[str, int]]) -> None:
        self.version = abi()
        self.handled = _RIGHTS_BY_ABI[min(self.version, 5)]
        self.opened = [rule for path, rights in paths if (rule := self._open(path, rights))]

    def ruleset(self, scratch: str, scratch_rights: int) -> int:
        """A descriptor for `restrict`. scratch: a folder, or "" for none."""
        attributes = struct.pack("=Q", self.handled)
        if self.version >= 4:
            attributes += struct.pack("=Q", NO_TCP)
        if self.version >= 6:
            attributes += struct.pack("=Q", OWN_SCOPE)
        ruleset = _call(CREATE_RULESET, attributes, ctypes.c_size_t(len(attributes)), ctypes.c_uint32(0))
        for opened in self.opened:
            _call(ADD_RULE, ruleset, 1, opened, ctypes.c_uint32(0))
        if scratch and (rule := self._open(scratch, scratch_rights)):
            _call(ADD_RULE, ruleset, 1, rule, ctypes.c_uint32(0))
        return ruleset

    def _open(self, path: str, rights: int) -> bytes | None:
        """The kernel's struct for a rule: the rights, and an open descriptor of the path."""
        try:
            descriptor = os.open(path, os.O_PATH | os.O_CLOEXEC)
        except OSError:
            return None
        if not stat.S_ISDIR(os.fstat(descriptor).st_mode):
            rights &= EXECUTE | WRITE_FILE | READ_FILE | TRUNCATE | IOCTL_DEV
        return struct.pack("=Qi", rights & self.handled, descriptor)


def restrict(ruleset: int) -> None:
    """From now on this process may open only what the ruleset names. Needs no_new_privs."""
    _call(RESTRICT_SELF, ruleset, ctypes.c_uint32(0))
    os.close(ruleset)
