"""One engine over several replicas of a model: each request is answered by whichever replica is free.

A `Replica` is a handle of an engine that runs elsewhere: in another process of this machine (processes.py), on another
node. To bring a new kind, write a class with the three methods of the protocol `Replica`:

    start(tell)      begin to load the model; return at once
    submit(piece)    begin to answer a piece; return at once. Comes after `Loaded`, and the next one after `Done`
    stop()           end it, whatever it does; nothing is told from here on

None of them raises an error where the replica is gone: that is told.

What happens is told by calling `tell`, from any thread, in this order:

    Loaded                     once: the model is there
    Answer, Answer ... Done    of each piece that was submitted: every answer as soon as it is there, then Done
    Failed                     the engine raised an error, at loading or in a piece: the run ends with it
    Lost                       the replica is gone (killed, out of memory, its node is away): the others go on

On the other side, `loaded(engine)` and `answers(engine, piece)` make these events of any engine that sees tokens.

Answers depend on their request alone (the rule of every engine), so the number of replicas, their speed, and a replica
that is lost in the middle change no answer. tests/engine/test_replicas.py tests this with replicas without a process.
"""

from __future__ import annotations

import queue
import sys
import weakref
from collections import deque
from collections.abc import Callable, Iterator, Sequence
from typing import TYPE_CHECKING, Any, NamedTuple, Protocol

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
from qwen_eval.errors import UserError, one_line

import numpy as np


class Piece(NamedTuple):
    """Requests that one replica answers together. number: never given twice; kind: the engine's method that answers
    them (`choose`, `loglikelihood`, `generate`, `score`). It can be pickled."""

    number: int
    kind: str
    requests: Sequence[Any]


class Loaded(NamedTuple):
    """The model is there. embedded: see `EncodingEngine.embedded`; stop_tokens: of a base model and of a chat."""

    embedded: int
    stop_tokens: tuple[frozenset[int], frozenset[int]]


class Answer(NamedTuple):
    """The answer to request number `place` of a piece."""

    piece: int
    place: int
    answer: Any


class Done(NamedTuple):
    """A piece is answered as a whole. notes: the engine's by now, see `Engine.notes`."""

    piece: int
    notes: Sequence[str]


class Failed(NamedTuple):
    """An error of the engine's, one line. mendable: it is for the user (UserError), else a fault of the program;
    piece: at which it was raised, None: at loading."""

    message: str
    mendable: bool
    piece: int | None = None


class Lost(NamedTuple):
    """The replica is gone. why: such as "ended by signal 9"."""

    why: str


Event = Loaded | Answer | Done | Failed | Lost
Tell = Callable[[Event], None]


class Replica(Protocol):
    """See the top of this file. name: for messages, such as "process 2 (GPU 1)"."""

    @property
    def name(self) -> str: ...

    def start(self, tell: Tell) -> None: ...

    def submit(self, piece: Piece) -> None: ...

    def stop(self) -> None: ...


# -- on the side of the model ------------------------------------------------------------------------------------------


def loaded(engine: EncodingEngine) -> Loaded:
    """What a replica tells of its engine once it is loaded."""
    return Loaded(engine.embedded, (engine.stop_tokens(False), engine.stop_tokens(True)))


def answers(engine: Engine[Any, Any], piece: Piece) -> Iterator[Event]:
    """What a replica tells of a piece: its answers as they come, then Done; Failed where the engine raises an error."""
    try:
        for place, answer in getattr(engine, piece.kind)(piece.requests):
            yield Answer(piece.number, place, answer)
        yield Done(piece.number, engine.notes())
    except Exception as error:
        yield failed(error, piece.number)


def failed(error: Exception, piece: int | None = None) -> Failed:
    """An engine's error, as its replica tells it. piece: see `Failed`."""
    if isinstance(error, UserError) or type(error).__name__ == "CheckpointError":
        return Failed(one_line(error), True, piece)
    return Failed(f"{type(error).__name__}: {one_line(error)}", False, piece)


# -- the engine --------------------------------------------------------------------------------------------------------


class _Seat:
    """A replica and what it is doing."""

    def __init__(self, replica: Replica) -> None:
        self.replica = replica
        self.free = self.lost = False
        self.piece: int | None = None
        self.notes: Sequence[str] = ()


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
