"""A cluster of Ray: joined by its address, asked how many replicas of a model it holds and where."""

from __future__ import annotations

import os
import signal
import socket
from collections.abc import Sequence
from typing import Any, NamedTuple

from qwen_eval.errors import UserError, one_line

AUTO = "auto"
CONNECT_SECONDS = 5.0
# No reports to anybody; GPUs are left alone where an actor asks for none; pages of a lost node's log are not shown.
ENVIRONMENT = {
    "RAY_USAGE_STATS_ENABLED": "0",
    "RAY_ACCEL_ENV_VAR_OVERRIDE_ON_ZERO": "0",
    "RAY_DEDUP_LOGS_SKIP_REGEX": ".",
}


class Node(NamedTuple):
    """What one node has in all."""

    cpus: int
    gpus: int


class Places(NamedTuple):
    """Where replicas go: how many, and what each takes of its node; beside: how many may share one node's memory."""

    copies: int
    cpus: int
    gpus: int
    beside: int = 1


def join(address: str) -> list[Node]:
    """Join the cluster, once per process; its living nodes. address: HOST:PORT of its head, or `auto`: RAY_ADDRESS, or
    the one that was started on this machine. UserError where there is none."""
    for name, value in ENVIRONMENT.items():  # Ray reads them as it is imported
        os.environ.setdefault(name, value)
    import ray

    if not ray.is_initialized():
        _check_reachable(address)
        handlers = {number: signal.getsignal(number) for number in (signal.SIGINT, signal.SIGTERM)}
        try:
            ray.init(address=address, log_to_driver=False, logging_level="error", configure_logging=False)
        except Exception as error:  # ConnectionError, RuntimeError, ValueError, by what is wrong
            raise UserError(
                f"--ray {address}: no cluster answers ({one_line(error)[:150]}); `ray start --head` on one node and "
                "`ray start --address=HOST:6379` on each other one make it"
            ) from error
        finally:
            for number, handler in handlers.items():  # Ray puts its own there
                signal.signal(number, handler)
    return [
        Node(int(node["Resources"].get("CPU", 0)), int(node["Resources"].get("GPU", 0)))
        for node in ray.nodes()
        if node["Alive"]
    ]


def _check_reachable(address: str) -> None:
    """UserError at once where nothing listens there; Ray would wait for a minute, and end the process."""
    given = os.environ.get("RAY_ADDRESS", AUTO) if address == AUTO else address
    if given in (AUTO, "local"):
        return
    host, _, port = given.rpartition(":")
    if not host or not port.isdigit():
        raise UserError(f"--ray {given}: give HOST:PORT of the cluster's head, such as 10.0.0.1:6379, or auto")
    if "://" in given:
        raise UserError(f"--ray {given}: run this on a node of the cluster, with HOST:PORT of its head, or auto")
    try:
        socket.create_connection((host, int(port)), CONNECT_SECONDS).close()
    except (OSError, OverflowError) as error:
        raise UserError(f"--ray {given}: nothing answers there ({one_line(error)}); is the head running?") from error


def places(nodes: Sequence[Node], wanted: int | str, gpus: int) -> Places:
    """Where `wanted` replicas fit; AUTO: as many as there is room for, on a cluster without GPUs one per node.

    gpus: that one replica takes, which are on one node; 0: it runs on CPUs, and takes an even part of their cores.
    UserError where the nodes have too few.
    """
    if gpus:
        room = sum(node.gpus // gpus for node in nodes)
        count = room if wanted == AUTO else int(wanted)
        if not 0 < count <= room:
            has = ", ".join(str(node.gpus) for node in nodes)
            raise UserError(
                f"--data-parallel {wanted} with --ray: each copy of the model takes {gpus} of one node's GPUs, and the "
                f"nodes have {has}: room for {room}"
            )
        return Places(count, 0, gpus)
    count = sum(node.cpus > 0 for node in nodes) if wanted == AUTO else int(wanted)
    cpus = max((node.cpus for node in nodes), default=0)
    while cpus and sum(node.cpus // cpus for node in nodes) < count:
        cpus -= 1
    if not cpus:
        has = ", ".join(str(node.cpus) for node in nodes)
        raise UserError(f"--data-parallel {wanted} with --ray: each copy takes a core, and the nodes have {has}")
    return Places(count, cpus, 0, min(count, max(node.cpus // cpus for node in nodes)))


def check_free(wanted: Places) -> None:
    """UserError where not one replica can start now: Ray would wait for ever, without a word."""
    import ray

    free: dict[str, Any] = ray.available_resources()
    kind, each = ("GPU", wanted.gpus) if wanted.gpus else ("CPU", wanted.cpus)
    if free.get(kind, 0) < each:
        raise UserError(
            f"--ray: other work has the cluster's {kind}s: {free.get(kind, 0):g} are free, and a copy of the model "
            f"takes {each}; `ray status` shows it"
        )
