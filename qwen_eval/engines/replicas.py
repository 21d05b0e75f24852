"""What a replica of a model is: an engine that runs elsewhere, in another process of this machine (processes.py) or on
another node, and answers a part of the requests. `replicated.ReplicatedEngine` is one engine over several of them.

To bring a new kind, write a class with the three methods of the protocol `Replica`:

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

from collections.abc import Callable, Iterator, Sequence
from typing import Any, NamedTuple, Protocol

from qwen_eval.engines.base import Engine
from qwen_eval.engines.encoding import EncodingEngine
from qwen_eval.errors import UserError, one_line


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
    """See the top of this file. name: for messages, such as "process 2 on GPU 1"."""

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
