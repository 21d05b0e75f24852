"""What the workers of test_worker.py run. Nothing heavy is imported here: each worker imports it."""

import os
import signal
import subprocess
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

from qwen_eval.errors import UserError


def commands(word: str) -> Callable[[list[Any]], Any]:
    """Answers [command, argument]."""
    count = 0

    def answer(question: list[Any]) -> Any:
        nonlocal count
        count += 1
        command, argument = question
        if command == "add":
            return argument + word
        if command == "count":
            return count
        if command == "pid":
            return os.getpid()
        if command == "loop":
            while True:
                pass
        if command == "compute":
            until = time.process_time() + argument
            while time.process_time() < until:
                pass
            return "done"
        if command == "eat":
            return len(bytearray(argument))
        if command == "die":
            os.kill(os.getpid(), signal.SIGKILL)
        if command == "die once":  # the first process leaves its number behind
            if not os.path.exists(argument):
                os.kill(os.getpid(), signal.SIGKILL)
            return "alive"
        if command == "attack":
            return attacked(argument)
        raise KeyError(command)

    return answer


def attacked(folder: str) -> list[str]:
    """Which of some attacks on the machine got through."""
    attacks: dict[str, Callable[[], object]] = {
        "read": lambda: Path(folder, "canary").read_text(),
        "write": lambda: Path(folder, "new").write_text("x"),
        "unlink": lambda: Path(folder, "canary").unlink(),
        "start a process": lambda: subprocess.run(["true"]),
        "fork": os.fork,
        "a socket": lambda: __import__("socket").socket(),
        "a signal": lambda: os.kill(os.getppid(), 0),
    }
    through = []
    for name, attack in attacks.items():
        try:
            attack()
        except (OSError, ImportError):
            continue
        through.append(name)
    return through


def missing() -> Callable[[Any], Any]:
    import a_package_that_nobody_has  # type: ignore[import-not-found]

    return a_package_that_nobody_has  # type: ignore[no-any-return]


def complaining() -> Callable[[Any], Any]:
    raise UserError("the part is not installed; pip install it")


def exiting() -> Callable[[Any], Any]:
    os._exit(3)
