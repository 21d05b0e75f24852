"""The servers of one model share the requests of a call: each works at as many at once as it may, on the next open one.

A request that fails on one server for a reason of the server's goes to another. A server that fails GIVE_UP times in a
row, that refuses the key from the beginning, or, beside others, cannot be reached any more, gets no more work; when
none is left, the run ends. A server that worked and is the only one is waited for while it starts again.
"""

from __future__ import annotations

import queue
import sys
import threading
import time
from collections import deque
from collections.abc import Callable, Iterator, Sequence
from typing import Any

from qwen_eval.engines.base import NoReply
from qwen_eval.engines.endpoint import GONE, public_url, refused_key
from qwen_eval.errors import UserError

GIVE_UP = 16  # failures in a row: it is the server then, not the item
PATIENCE = 300.0  # seconds that a server may take to start again
PAUSE = 2.0  # seconds between two looks whether it has


class Server:
    """A server and how it has done so far. failed: its failures since its last reply; works: it gave a reply, or
    refused a single prompt; awaited: it is said to be started again; out: why it gets no more work."""

    def __init__(self, url: str, client: Any) -> None:
        self.url, self.client = url, client
        self.failed: list[NoReply] = []
        self.works, self.awaited, self.out = False, False, ""

    def note(self, answer: Any) -> None:
        """Whether it works, as far as its answers say."""
        self.failed = [*self.failed, answer] if isinstance(answer, NoReply) else []
        self.works = self.works or not self.failed or self.failed[-1].of_item
        self.awaited = self.awaited and bool(self.failed)

    @property
    def refuses_the_key(self) -> bool:
        """Whether it never worked, and says that it wants another key: it is not asked more."""
        return not self.works and bool(self.failed) and self.failed[-1].kind == "HTTP 401"

    def gave_no_reply(self) -> str:
        last = self.failed[-1]
        if self.refuses_the_key:
            return refused_key(self.url, f"{last.kind}: {last.detail}")
        in_a_row = f"failed in a row: {len(self.failed)}"
        return f"{public_url(self.url)} gave no reply ({last.kind}: {last.detail}; {in_a_row})"


class Sharing:
    """The requests of one call, by number. ask: the answer of a server to one; an error is its answer, never raised.
    count: is told what became of each: "asked", "retried" (by another server, or once more), "failed"."""

    def __init__(
        self, servers: Sequence[Server], total: int, ask: Callable[[Server, int], Any], count: Callable[[str], None]
    ) -> None:
        self.servers, self.total, self.ask, self.count = [one for one in servers if not one.out], total, ask, count
        self.open = deque(range(total))
        self.failed_at: dict[int, dict[Server, NoReply]] = {}
        self.left, self.over = total, False
        self.changed = threading.Condition(threading.RLock())
        #: number, answer, and why the run ends with this one, if it does
        self.arrived: queue.SimpleQueue[tuple[int, Any, UserError | None]] = queue.SimpleQueue()

    def answers(self, at_a_time: int) -> Iterator[tuple[int, Any]]:
        """(number, answer) as they come. Raises UserError where no server is left, or none ever worked; the replies
        that are there are given first. at_a_time: requests in flight at one server."""
        # Daemons, not an executor's threads: Python would wait for those at its end, and a request may hang for hours.
        for server in self.servers:
            for _ in range(min(at_a_time, self.total)):
                threading.Thread(target=self._work, args=(server,), daemon=True).start()
        try:
            for left in range(self.total - 1, -1, -1):
                number, answer, ended = self.arrived.get()
                if isinstance(answer, Exception):
                    raise answer
                yield number, answer
                if ended is None and left == 0 and not any(server.works for server in self.servers):
                    ended = self._none_left()
                if ended is not None:
                    yield from self._replies()
                    raise ended
        finally:
            with self.changed:
                self._end()

    def _work(self, server: Server) -> None:
        while (number := self._take(server)) is not None:
            if number not in self.failed_at:
                self.count("asked")
            answer = self.ask(server, number)
            if self._is_gone(answer) and self._is_alone(server) and server.works and not server.failed:
                answer = self._wait_for(server, number, answer)
            with self.changed:  # an endpoint that fails is given up here: the reader may be busy for long
                if not self.over:
                    self._settle(server, number, answer)

    def _take(self, server: Server) -> int | None:
        """The next request that this server has not failed; waits while one may come back from another. None: the work
        is done, or this server's part in it."""
        with self.changed:
            while not (self.over or server.out or not self.left):
                for place, number in enumerate(self.open):
                    if server not in self.failed_at.get(number, {}):
                        del self.open[place]
                        return number
                self.changed.wait()
        return None

    def _settle(self, server: Server, number: int, answer: Any) -> None:
        if isinstance(answer, Exception):
            self.arrived.put((number, answer, None))
            self._end()
            return
        server.note(answer)
        if isinstance(answer, NoReply) and not answer.of_item:
            self.failed_at.setdefault(number, {})[server] = answer
        gone = self._is_gone(answer) and not self._is_alone(server)
        if gone or server.refuses_the_key or len(server.failed) >= GIVE_UP:
            self._leave(server)
        if isinstance(answer, NoReply) and not answer.of_item and self._can_go_on(number):
            self.count("retried")
            self.open.appendleft(number)
        else:
            self._give(number, answer)
        for stuck in [number for number in self.failed_at if number in self.open and not self._can_go_on(number)]:
            self.open.remove(stuck)
            self._give(stuck, next(iter(self.failed_at[stuck].values())))
        self.changed.notify_all()

    def _give(self, number: int, answer: Any) -> None:
        if isinstance(answer, NoReply):
            self.count("failed")
        self.left -= 1
        none_left = all(server.out for server in self.servers)
        self.arrived.put((number, answer, self._none_left() if none_left else None))
        if none_left:
            self._end()

    def _leave(self, server: Server) -> None:
        others = [public_url(one.url) for one in self.servers if not one.out and one is not server]
        if not server.out and others:
            print(f"note: {server.gave_no_reply()}; the work goes on at {', '.join(others)}", file=sys.stderr)
        server.out = server.out or server.gave_no_reply()

    def _can_go_on(self, number: int) -> bool:
        """Whether a server is left that has not failed this request."""
        return any(not server.out and server not in self.failed_at.get(number, {}) for server in self.servers)

    def _is_alone(self, server: Server) -> bool:
        return all(one.out or one is server for one in self.servers)

    def _is_gone(self, answer: Any) -> bool:
        return isinstance(answer, NoReply) and answer.kind == GONE

    def _wait_for(self, server: Server, number: int, answer: Any) -> Any:
        """The answer after a server has started again; how it fails, where it does not within PATIENCE."""
        until = time.monotonic() + PATIENCE
        with self.changed:
            if not server.awaited:
                print(
                    f"note: no connection to {public_url(server.url)}; waiting for it to start again", file=sys.stderr
                )
            server.awaited = True
        while self._is_gone(answer) and time.monotonic() < until:
            with self.changed:
                if self.changed.wait_for(lambda: self.over, PAUSE):
                    return answer
            self.count("retried")
            answer = self.ask(server, number)
        return answer

    def _end(self) -> None:
        self.over = True
        self.changed.notify_all()

    def _none_left(self) -> UserError:
        said = "; ".join(server.out or server.gave_no_reply() for server in self.servers if server.out or server.failed)
        return UserError(f"{said}; finished items are kept")

    def _replies(self) -> Iterator[tuple[int, Any]]:
        """The replies that are there already, without waiting."""
        while True:
            try:
                number, answer, _ = self.arrived.get_nowait()
            except queue.Empty:
                return
            if not isinstance(answer, NoReply | Exception):
                yield number, answer
