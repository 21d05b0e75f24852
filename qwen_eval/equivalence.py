"""Whether two mathematical answers are equal, by math-verify, with a limit per comparison that nothing gets around.

math-verify's own limit is a signal, which works in a main thread only and cannot interrupt a long multiplication. Here
comparisons run in worker processes (qwen_eval/worker.py), and one is ended after `seconds` of CPU time; a busy machine
changes no verdict.
"""

import contextlib
import os
import threading
from collections.abc import Callable, Iterator
from typing import NamedTuple

from qwen_eval.extras import need
from qwen_eval.worker import IsolatedWorker, OverLimit

SECONDS = 5  # of CPU time per comparison
MEMORY = 4 << 30  # bytes of address space
MOST_WORKERS = 4  # processes; each needs about 150 MB and two seconds to start


class Equivalent(NamedTuple):
    """Answer: whether two formulas (LaTeX or plain) are equal; None where the comparison passed its limit."""

    gold: str
    answer: str


class Equivalence:
    """The service that answers an `Equivalent`: math-verify in processes of its own, which start when they are needed.

    The verdict on (gold, answer) is True, False, or None when the comparison passed the limit.
    """

    def __init__(self, seconds: float = SECONDS, workers: int | None = None) -> None:
        """seconds: of CPU time per comparison; workers: comparisons at a time (default: one per core, at most 4)."""
        self.seconds = seconds
        self.workers = workers or min(os.cpu_count() or 1, MOST_WORKERS)
        self._processes = [
            IsolatedWorker(_comparer, name="math-verify", seconds=seconds, memory=MEMORY, readable=["/"])
            for _ in range(self.workers)
        ]
        self._idle = list(self._processes)  # the last one is taken next: one after the other needs one process
        self._changed = threading.Condition()

    def __enter__(self) -> "Equivalence":
        return self

    def __exit__(self, *_: object) -> None:
        for worker in self._processes:
            worker.close()

    def equal(self, gold: str, answer: str) -> bool | None:
        """Whether two formulas (LaTeX or plain) are equal; None where that took too long or too much memory.

        Raises UserError where math-verify cannot be started. May be called from several threads.
        """
        with self._idle_worker() as worker:
            try:
                return bool(worker.ask([gold, answer]))
            except OverLimit:
                return None

    def answer(self, request: tuple[str, str]) -> bool | None:
        """`equal` for (gold, answer), as the runner asks."""
        return self.equal(*request)

    def processes(self) -> list[int]:
        """The ids of the worker processes that run."""
        return [worker.pid for worker in self._processes if worker.pid is not None]

    @contextlib.contextmanager
    def _idle_worker(self) -> Iterator[IsolatedWorker]:
        with self._changed:
            self._changed.wait_for(lambda: bool(self._idle))
            worker = self._idle.pop()
        try:
            yield worker
        finally:
            with self._changed:
                self._idle.append(worker)
                self._changed.notify()


# -- the worker process ------------------------------------------------------------------------------------------------


def _comparer() -> Callable[[tuple[str, str]], bool]:
    """Gets ready; returns the function that compares a pair."""
    import logging

    need("math")
    from math_verify import ExprExtractionConfig, LatexExtractionConfig, parse, verify

    logging.disable(logging.CRITICAL)  # what cannot be parsed is unequal, and nobody needs a message
    configs = [LatexExtractionConfig(), ExprExtractionConfig()]

    def equal(pair: tuple[str, str]) -> bool:
        try:
            sides = [parse(f"${_bare(text)}$", configs, parsing_timeout=None) for text in pair]
            return all(sides) and bool(verify(*sides, timeout_seconds=None))
        except (Exception, RecursionError, MemoryError):
            return False

    return equal


def _bare(text: str) -> str:
    """A formula without dollars, currency signs and the full stop behind it."""
    return text.strip().replace("\\$", "").replace("$", "").removesuffix(".")
