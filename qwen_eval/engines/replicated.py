"""One engine over several replicas of a model: each request is answered by whichever of them is free.

The requests of a call are split into pieces (pieces.py), each free replica gets one, and every answer is handed on as
it arrives. What a replica is, and how one is brought: replicas.py.
"""

from __future__ import annotations

import queue
import sys
import weakref
from collections import deque
from collections.abc import Callable, Iterator, Sequence
from typing import TYPE_CHECKING, Any, NamedTuple

from qwen_eval.engines.base import (
    ChoiceRequest,
    Engine,
    GenerateRequest,
    Likelihood,
    LogLikelihoodRequest,
    Reply,
    ScoreRequest,
)
from qwen_eval.engines.encoding import EncodingEngine
from qwen_eval.engines.pieces import split
from qwen_eval.engines.replicas import Answer, Done, Event, Failed, Loaded, Lost, Piece, Replica, Tell
from qwen_eval.errors import UserError

import numpy as np


class _Seat:
    """A replica and what it is doing."""

    def __init__(self, replica: Replica) -> None:
        self.replica = replica
        self.free = self.lost = False
        self.piece: int | None = None
        self.notes: Sequence[str] = ()
        self.answers = 0


class _Open(NamedTuple):
    """A piece that is not answered: the indices of its requests in the call, and those that have no answer yet."""

    indices: list[int]
    missing: set[int]


class ReplicatedEngine(EncodingEngine):
    """An engine whose requests are answered by replicas of one model. Prompts are encoded here.

    replicas: all are started at once; an answer is asked of any of them as soon as it is loaded. full_batch: see
    `pieces.split`. A replica that is lost gives back the requests that it has not answered; those go to the others.
    """

    def __init__(self, tokenizer: Any, replicas: Sequence[Replica], full_batch: int) -> None:
        """Returns when the first replica is loaded. Raises UserError where none can be."""
        self.tokenizer, self.full_batch = tokenizer, full_batch
        self._seats = [_Seat(replica) for replica in replicas]
        self._events: queue.SimpleQueue[tuple[int, Event]] = queue.SimpleQueue()
        self._loaded: Loaded | None = None
        self._pieces = 0
        self._lost: list[str] = []
        # Also when this engine is forgotten without close(), and when Python ends.
        self._stop = weakref.finalize(self, _stop_all, replicas)
        try:
            for number, replica in enumerate(replicas):
                replica.start(_teller(self._events, number))
            while self._loaded is None:
                self._check_somebody_is_left()
                self._take_in(*self._events.get())
        except BaseException:
            self.close()
            raise

    @property
    def embedded(self) -> int:
        """See `EncodingEngine.embedded`."""
        assert self._loaded is not None
        return self._loaded.embedded

    def stop_tokens(self, chat: bool) -> frozenset[int]:
        """See `EncodingEngine.stop_tokens`."""
        assert self._loaded is not None
        return self._loaded.stop_tokens[chat]

    def choose(self, requests: Sequence[ChoiceRequest]) -> Iterator[tuple[int, list[float]]]:
        """See `Engine.choose`."""
        return self._answered("choose", requests)

    def loglikelihood(self, requests: Sequence[LogLikelihoodRequest]) -> Iterator[tuple[int, Likelihood]]:
        """See `Engine.loglikelihood`."""
        return self._answered("loglikelihood", requests)

    def generate(self, requests: Sequence[GenerateRequest]) -> Iterator[tuple[int, Reply]]:
        """See `Engine.generate`."""
        return self._answered("generate", requests)

    def score(
        self, requests: Sequence[ScoreRequest], progress: Callable[[int], Any] | None = None
    ) -> Iterator[tuple[int, np.ndarray]]:
        """See `Engine.score`. `progress` is told of a request when all of it is done."""
        for index, answer in self._answered("score", requests):
            if progress is not None:
                progress(len(requests[index].tokens) - 1)
            yield index, answer

    def notes(self) -> list[str]:
        """See `Engine.notes`: those of the replicas, each once, and which of them were lost."""
        found = list(dict.fromkeys(note for seat in self._seats for note in seat.notes))
        return found + [f"lost on the way: {name}; its requests went to the others" for name in self._lost]

    @property
    def shares(self) -> dict[str, int]:
        """How many answers each replica has given, by its name."""
        return {seat.replica.name: seat.answers for seat in self._seats}

    def close(self) -> None:
        """End all replicas and give their memory back."""
        self._stop()

    def _answered(self, kind: str, requests: Sequence[Any]) -> Iterator[tuple[int, Any]]:
        """(index, answer) as the answers come from the replicas."""
        living = sum(not seat.lost for seat in self._seats)
        waiting = deque(split(kind, requests, max(1, living), self.full_batch))
        under_way: dict[int | None, _Open] = {}
        while waiting or under_way:
            self._check_somebody_is_left()
            for seat in self._seats:
                if waiting and seat.free:
                    self._submit(seat, kind, requests, waiting.popleft(), under_way)
            number, event = self._events.get()
            if isinstance(event, Answer):
                self._seats[number].answers += 1
                if (piece := under_way.get(event.piece)) is not None:  # else of a call that nobody waits for any more
                    index = piece.indices[event.place]
                    piece.missing.discard(index)
                    yield index, event.answer
                continue
            ended = under_way.pop(self._seats[number].piece, None)
            self._take_in(number, event)
            if ended is not None and (left := self._left(number, event, ended)):
                waiting.appendleft(left)

    def _left(self, number: int, event: Event, piece: _Open) -> list[int]:
        """What of a piece that has ended somebody else has to answer. Raises the error that it ended with."""
        if isinstance(event, Failed):
            raise self._error(number, event)
        if isinstance(event, Done) and piece.missing:
            name = self._seats[number].replica.name
            raise RuntimeError(f"{name} left {len(piece.missing)} of {len(piece.indices)} requests unanswered")
        return [index for index in piece.indices if index in piece.missing]

    def _submit(
        self, seat: _Seat, kind: str, requests: Sequence[Any], indices: list[int], under_way: dict[int | None, _Open]
    ) -> None:
        self._pieces += 1
        seat.free, seat.piece = False, self._pieces
        under_way[self._pieces] = _Open(indices, set(indices))
        seat.replica.submit(Piece(self._pieces, kind, [requests[index] for index in indices]))

    def _take_in(self, number: int, event: Event) -> None:
        """Note what became of a replica. Raises the error of one whose model does not load."""
        seat = self._seats[number]
        at_work, seat.piece = seat.piece is not None, None
        if isinstance(event, Loaded):
            seat.free, self._loaded = True, self._loaded or event
        elif isinstance(event, Done):
            seat.free, seat.notes = True, event.notes
        elif isinstance(event, Failed):
            seat.free = at_work
            if not at_work:
                raise self._error(number, event)
        elif isinstance(event, Lost):
            seat.lost, seat.free = True, False
            self._lost.append(f"{seat.replica.name} ({event.why})")
            left = sum(not one.lost for one in self._seats)
            if left:
                others = "the other takes" if left == 1 else f"the other {left} take"
                print(f"lost {self._lost[-1]}; {others} over its requests", file=sys.stderr)

    def _error(self, number: int, event: Failed) -> Exception:
        if event.mendable:
            return UserError(event.message)
        return RuntimeError(f"{self._seats[number].replica.name}: {event.message}")

    def _check_somebody_is_left(self) -> None:
        if all(seat.lost for seat in self._seats):
            raise UserError(
                f"nobody is left to answer: {', '.join(self._lost)}; finished items are kept, the same command goes on "
                "from there"
            )


def _teller(events: queue.SimpleQueue[tuple[int, Event]], number: int) -> Tell:
    """What a replica calls. It holds no engine, which could not be forgotten else."""
    return lambda event: events.put((number, event))


def _stop_all(replicas: Sequence[Replica]) -> None:
    for replica in replicas:
        replica.stop()


if TYPE_CHECKING:

    def _is_an_engine(engine: ReplicatedEngine) -> Engine[np.ndarray, GenerateRequest]:
        return engine
