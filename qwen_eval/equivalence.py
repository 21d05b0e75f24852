"""Whether two mathematical answers are equal, by math-verify, with a limit an item that nothing gets around.

math-verify's own time limits are signals, which work in a main thread only and stop no C code; a comparison runs in
a worker process under a limit of CPU seconds and memory, and the worker is killed and replaced when it reaches one.
"""

from multiprocessing.connection import Connection

from qwen_eval.errors import UserError
from qwen_eval.worker import Worker

SECONDS = 5  # of CPU time a comparison


class Equivalence:
    """math-verify in a process of its own: `equal(gold, answer)` is True, False, or None when it passed the limit.

    math-verify's own limit is a signal, which works in a main thread only and cannot interrupt a long multiplication.
    Here the kernel ends the worker after `seconds` of CPU time; a busy machine changes no verdict.
    """

    def __init__(self, seconds: int = SECONDS) -> None:
        self.seconds = seconds
        self._worker: Worker | None = None

    def __enter__(self) -> "Equivalence":
        return self

    def __exit__(self, *_: object) -> None:
        self._stop()

    def equal(self, gold: str, answer: str) -> bool | None:
        for _ in range(2):
            pipe = (self._worker or self._start()).pipe
            try:
                pipe.send((gold, answer))
                if pipe.poll(20 * self.seconds):  # generous: the CPU limit ends it long before
                    return pipe.recv()
            except (EOFError, OSError):
                pass
            self._stop()
        return None

    def _start(self) -> Worker:
        self._worker = worker = Worker(_compare_forever, self.seconds)
        try:
            started = worker.pipe.poll(300) and worker.pipe.recv()  # the imports are not on the first item's account
        except (EOFError, OSError):
            started = "it ended at once"
        if started != "ready":
            self._stop()
            raise UserError(
                f"math-verify's worker process did not start ({started or 'no answer'}); pip install math-verify"
            )
        return worker

    def _stop(self) -> None:
        if self._worker is not None:
            self._worker.stop()
            self._worker = None


def _compare_forever(pipe: Connection, seconds: int) -> None:
    """The worker: reads pairs, answers True or False, dies at its limit."""
    import logging
    import resource

    try:
        from math_verify import ExprExtractionConfig, LatexExtractionConfig, parse, verify
    except ImportError as error:
        pipe.send(str(error))
        return

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
