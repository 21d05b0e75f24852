"""Install bubblewrap where it may be: as root, or through a sudo that asks for no password."""

import os
import shutil
import subprocess

from qwen_eval.errors import UserError, one_line

STEPS = (["apt-get", "update", "-q"], ["apt-get", "install", "-q", "-y", "bubblewrap"])


def install() -> str:
    """Install bubblewrap with apt-get unless it is there; says in one line what happened. Raises UserError."""
    if shutil.which("bwrap"):
        return "bubblewrap is already installed"
    if not shutil.which("apt-get"):
        raise UserError("no apt-get here; install bubblewrap with this system's package manager")
    for step in STEPS:
        _run([*_privilege(), *step])
    if not shutil.which("bwrap"):
        raise UserError("apt-get installed bubblewrap, but bwrap is not on the PATH")
    return "bubblewrap is installed"


def _privilege() -> list[str]:
    """What goes before a command that needs root."""
    if os.geteuid() == 0:
        return []
    if shutil.which("sudo") and subprocess.run(["sudo", "-n", "true"], capture_output=True).returncode == 0:
        return ["sudo", "-n"]
    raise UserError(
        "bubblewrap is not installed and this user may not install it; ask for `apt-get install bubblewrap`"
    )


def _run(command: list[str]) -> None:
    try:
        done = subprocess.run(command, capture_output=True, text=True, timeout=600)
    except (OSError, subprocess.TimeoutExpired) as error:
        raise UserError(f"{' '.join(command)}: {one_line(error)}") from error
    if done.returncode:
        last = (done.stderr or done.stdout).strip().splitlines()[-1:]
        raise UserError(f"{' '.join(command)} failed: {' '.join(last)}")
