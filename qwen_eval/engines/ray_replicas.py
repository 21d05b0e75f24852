"""A replica of a model as an actor of Ray, on whichever node has room (see replicas.py).

Not `ray.data.llm`: it answers batch by batch, and takes texts. We need every answer as it comes, since a finished item
is never lost; token ids, so that prompts are those of the local engine; and log-probabilities of chosen tokens.

A node has the project installed (or finds it at the same path), and the checkpoint at the same path.
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

from qwen_eval.engines.encoding import EncodingEngine
from qwen_eval.engines.local.parallel import FULL_BATCH_CPU, FULL_BATCH_GPU
from qwen_eval.engines.ray_cluster import Places
from qwen_eval.engines.replicas import Failed, Lost, Piece, Replica, Tell, answers, failed, loaded
from qwen_eval.engines.replicated import ReplicatedEngine


class Placed(NamedTuple):
    """Where Ray has put an actor. node: its address and the beginning of Ray's id of it."""

    node: str


class _Actor:
    """The engine on its node. Each method is a generator of events."""

    engine: Any

    def load(self, make: Callable[..., EncodingEngine], arguments: tuple[Any, ...], checkpoint: Path) -> Iterator[Any]:
        import ray

        node = f"{ray.util.get_node_ip_address()}, node {ray.get_runtime_context().get_node_id()[:6]}"
        yield Placed(node)
        if not checkpoint.exists():
            yield Failed(f"{checkpoint} is not there on {node}; every node needs the model at the same path", True)
            return
        try:
            self.engine = make(*arguments)
            yield loaded(self.engine)
        except Exception as error:
            yield failed(error)

    def answer(self, piece: Piece) -> Iterator[Any]:
        yield from answers(self.engine, piece)


class RayReplica:
    """See the top of this file. name: for messages; of its node once it is there."""

    def __init__(
        self,
        number: int,
        places: Places,
        make: Callable[..., EncodingEngine],
        arguments: tuple[Any, ...],
        checkpoint: Path,
    ) -> None:
        """make, a function of a module, makes the engine on the node, of `arguments`."""
        self.name = f"copy {number} of the model"
        self._number, self._places = number, places
        self._made_of = (make, arguments, checkpoint)
        self._actor: Any = None
        self._tell: Tell | None = None
        self._stopped = False

    def start(self, tell: Tell) -> None:
        """See `Replica`."""
        import ray

        self._tell = tell
        resources = {"num_cpus": self._places.cpus, "num_gpus": self._places.gpus}
        self._actor = ray.remote(_Actor).options(scheduling_strategy="SPREAD", **resources).remote()
        self._follow(self._actor.load, *self._made_of)

    def submit(self, piece: Piece) -> None:
        """See `Replica`."""
        self._follow(self._actor.answer, piece)

    def stop(self) -> None:
        """See `Replica`."""
        import ray

        self._stopped = True
        if self._actor is not None and ray.is_initialized():
            ray.kill(self._actor)

    def _follow(self, method: Any, *arguments: Any) -> None:
        events = method.options(num_returns="streaming").remote(*arguments)
        threading.Thread(target=self._listen, args=(events,), daemon=True).start()

    def _listen(self, events: Any) -> None:
        """Hand on what the actor says of one call."""
        import ray

        assert self._tell is not None
        try:
            for reference in events:
                event = ray.get(reference)
                if self._stopped:
                    return
                if isinstance(event, Placed):
                    self.name = f"copy {self._number} of the model ({event.node})"
                else:
                    self._tell(event)
        except ray.exceptions.RayError as error:
            if not self._stopped:
                self._tell(Lost(f"it does not answer any more: Ray's {type(error).__name__}"))


def ray_engine(
    places: Places, checkpoint: Path, rows: int | None, make: Callable[..., EncodingEngine], arguments: tuple[Any, ...]
) -> ReplicatedEngine:
    """One engine over copies of the model on the nodes. make, arguments: see `RayReplica`."""
    from qwen_model.loading import load_config, load_tokenizer

    load_config(checkpoint)  # first: a model that cannot be run says so, not that its tokenizer is unknown
    replicas = [RayReplica(number + 1, places, make, arguments, checkpoint) for number in range(places.copies)]
    full_batch = FULL_BATCH_GPU if places.gpus else FULL_BATCH_CPU
    return ReplicatedEngine(load_tokenizer(checkpoint), replicas, min(full_batch, rows or full_batch))


if TYPE_CHECKING:
    _: type[Replica] = RayReplica
