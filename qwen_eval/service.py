"""Many requests at once to the services beside the model: the sandbox, the formula checker, the judge of pictures.

Inside a run the runner asks them (qwen_eval/runner.py). Elsewhere the sandbox and the judge have one method for many:

    for key, answer in service.answers((item.key, request) for ...):
        ...

A key is the caller's own and comes back with its answer. Requests are read while earlier ones are being worked on, and
never far ahead: a source that waits for a model's replies gives its first programs to the sandbox while the model
still writes the others. Answers come in the order in which they are ready.
"""

import contextlib
import queue
import threading
from collections.abc import Callable, Iterable, Iterator
from typing import TypeVar

Key = TypeVar("Key")
Request = TypeVar("Request")
Answer = TypeVar("Answer")

RUN_AHEAD = 2  # requests read per worker that are not answered yet


def answered(
    ask: Callable[[Request], Answer],
    requests: Iterable[tuple[Key, Request]],
    workers: int,
    unsettled: Callable[[Answer], bool] = lambda answer: False,
) -> Iterator[tuple[Key, Answer]]:
    """`ask(request)` for every (key, request), in `workers` threads; yields (key, answer) as answers get ready.

    requests: is read in the caller's thread, at most RUN_AHEAD per worker beyond what is answered.
    unsettled: whether a busy machine may have caused an answer; such a request is asked once more at the end, alone.

    An exception of `ask` is raised here. When `requests` itself raises, the answers to what was read before it come
    first; after a KeyboardInterrupt only those that are ready, because the program is to end at once.
    """
    asked: queue.SimpleQueue[tuple[Key, Request] | None] = queue.SimpleQueue()
    ready: queue.SimpleQueue[tuple[Key, Request, Answer | None, Exception | None]] = queue.SimpleQueue()
    again: list[tuple[Key, Request]] = []
    waiting = threads = 0
    source, failure = iter(requests), None

    def work() -> None:
        while (pair := asked.get()) is not None:
            key, request = pair
            try:
                ready.put((key, request, ask(request), None))
            except Exception as error:
                ready.put((key, request, None, error))

    def next_ready() -> Iterator[tuple[Key, Answer]]:
        """Wait for the next answer; yields it, or notes its request for the second time."""
        key, request, answer, error = ready.get()
        if error is not None:
            raise error
        if unsettled(answer):  # type: ignore[arg-type]  # there is an answer where there is no error
            again.append((key, request))
        else:
            yield key, answer  # type: ignore[misc]

    try:
        while True:
            try:
                pair = next(source)
            except StopIteration:
                break
            except (Exception, KeyboardInterrupt) as error:
                failure = error
                break
            if threads < min(workers, waiting + 1):
                # Daemons, not an executor's threads: Python would wait for those at its end.
                threading.Thread(target=work, daemon=True).start()
                threads += 1
            asked.put(pair)
            waiting += 1
            while waiting > RUN_AHEAD * workers or not ready.empty():
                waiting -= 1
                yield from next_ready()
        interrupted = isinstance(failure, KeyboardInterrupt)
        while waiting and not (interrupted and ready.empty()):
            waiting -= 1
            yield from next_ready()
    finally:
        with contextlib.suppress(queue.Empty):
            while True:
                asked.get_nowait()
        for _ in range(threads):
            asked.put(None)
    if not interrupted:
        for key, request in again:
            yield key, ask(request)
    if failure is not None:
        raise failure
