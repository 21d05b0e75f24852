"""Whether two mathematical answers are equal, by math-verify, with a limit an item that nothing gets around.

math-verify's own time limits are signals, which work in a main thread only and stop no C code; a comparison runs in
a worker process under a limit of CPU seconds and memory, and the worker is killed and replaced when it reaches one.
"""

import multiprocessing
from multiprocessing.connection import Connection
from typing import Any

from .errors import UserError

SECONDS = 5  # of CPU time a comparison


class Equivalence:
    """math-verify in a process of its own: `equal(gold, answer)` is True, False, or None when it passed the limit.

    math-verify's own limit is a signal, which works in a main thread only and cannot interrupt a long multiplication.
    Here the kernel ends the worker after `seconds` of CPU time; a busy machine changes no verdict.
    """

    def __init__(self, seconds: int = SECONDS) -> None:
        self.seconds = seconds
        self._worker: Any = None

    def __enter__(self) -> "Equivalence":
        return self

    def __exit__(self, *_: object) -> None:
        self._stop()

    def equal(self, gold: str, answer: str) -> bool | None:
        for _ in range(2):
            if self._worker is None:
                self._start()
            try:
                self._pipe.send((gold, answer))
                if self._pipe.poll(20 * self.seconds):  # generous: the CPU limit ends it long before
                    return self._pipe.recv()
            except (EOFError, OSError):
                pass
            self._stop()
        return None

    def _start(self) -> None:
        context = multiprocessing.get_context("spawn")  # a fork of a process with threads and a GPU may hang
        self._pipe, theirs = context.Pipe()
        self._worker = context.Process(target=_compare_forever, args=(theirs, self.seconds), daemon=True)
        self._worker.start()
        theirs.close()
        try:
            ready = (
                self._pipe.poll(300) and self._pipe.recv() == "ready"
            )  # the imports are not on the first item's account
        except EOFError:
            ready = False
        if not ready:
            self._stop()
            raise UserError("math-verify's worker process did not start; pip install math-verify")

    def _stop(self) -> None:
        if self._worker is not None:
            self._worker.kill()
            self._worker.join()
            self._pipe.close()
            self._worker = None


def _compare_forever(pipe: Connection, seconds: int) -> None:
    """The worker: reads pairs, answers True or False, dies at its limit."""
    import logging
    import resource

    from math_verify import ExprExtractionConfig, LatexExtractionConfig, parse, verify

    logging.disable(logging.CRITICAL)  # what does not parse is unequal, and no news
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    _, hard = resource.getrlimit(resource.RLIMIT_AS)
    resource.setrlimit(resource.RLIMIT_AS, (4 << 30, hard))
    configs = [LatexExtractionConfig(), ExprExtractionConfig()]
    pipe.send("ready")
    while True:
        try:
            gold, answer = pipe.recv()
        except EOFError:
            return
        used = resource.getrusage(resource.RUSAGE_SELF)
        _, hard = resource.getrlimit(resource.RLIMIT_CPU)
        resource.setrlimit(resource.RLIMIT_CPU, (int(used.ru_utime + used.ru_stime) + 1 + seconds, hard))
        try:
            sides = [parse(f"${_bare(text)}$", configs, parsing_timeout=None) for text in (gold, answer)]
            pipe.send(all(sides) and bool(verify(*sides, timeout_seconds=None)))
        except (Exception, RecursionError, MemoryError):
            pipe.send(False)


def _bare(text: str) -> str:
    """A formula without dollars, currency signs and the full stop behind it."""
    return text.strip().replace("\\$", "").replace("$", "").removesuffix(".")
