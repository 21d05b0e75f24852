"""`--data-parallel N`: a copy of the model in each of N processes, one per GPU, or N that share the cores of a CPU."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

from qwen_eval.engines.local.placement import resolve_device, too_large
from qwen_eval.engines.processes import ProcessReplica
from qwen_eval.engines.replicated import ReplicatedEngine
from qwen_eval.errors import UserError

AUTO = "auto"
# Rows that are decoded in hardly more time than one: see `pieces.split`.
FULL_BATCH_GPU, FULL_BATCH_CPU = 256, 16


def process_count(wanted: int | str, device: str | None, device_map: str | None) -> int:
    """How many processes `--data-parallel` asks for; "auto": one per visible GPU. UserError where they cannot be."""
    if wanted == 1:
        return 1
    if device_map is not None:
        raise UserError(
            f"--device-map {device_map} spreads one model over the GPUs, --data-parallel gives each GPU a model of "
            "its own; give one of the two"
        )
    if device not in (None, "cuda", "cpu"):
        raise UserError(f"--device {device} is one device, and --data-parallel is for several: leave one of them out")
    on_gpus = resolve_device(device) == "cuda"
    gpus = len(visible_gpus()) if on_gpus else 0
    if wanted == AUTO:
        if not on_gpus:
            raise UserError("--data-parallel auto is one process per GPU, and the device is the CPU; give a number")
        return gpus
    if on_gpus and int(wanted) > gpus:
        raise UserError(
            f"--data-parallel {wanted}: one process per GPU, and {gpus} {'is' if gpus == 1 else 'are'} visible "
            "(CUDA_VISIBLE_DEVICES); give a smaller number, or auto"
        )
    return int(wanted)


def visible_gpus() -> list[str]:
    """What CUDA_VISIBLE_DEVICES says, entry by entry, of the GPUs that this process sees."""
    import torch

    count = torch.cuda.device_count()
    given = os.environ.get("CUDA_VISIBLE_DEVICES")
    named = [str(number) for number in range(count)] if given is None else given.split(",")
    return [name.strip() for name in named[:count]]


def cores() -> int:
    """CPU cores that this process may use."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def parallel_engine(
    count: int, checkpoint: Path, dtype: str, device: str | None, rows: int | None, *how: Any, **switches: Any
) -> ReplicatedEngine:
    """`count` processes with the model of this checkpoint; the other arguments are those of `LocalEngine`."""
    from qwen_model.loading import load_config, load_tokenizer

    load_config(checkpoint)  # first: a model that cannot be run says so, not that its tokenizer is unknown
    tokenizer = load_tokenizer(checkpoint)
    on_gpus = resolve_device(device) == "cuda"
    if on_gpus and too_large(checkpoint):
        raise UserError(
            f"{checkpoint}: the weights are larger than what is free on one GPU, and with --data-parallel each process "
            "needs all of them; --device-map auto spreads one model over the GPUs"
        )
    gpus = visible_gpus() if on_gpus else []
    threads = str(max(1, cores() // count))
    arguments = ((checkpoint, dtype, device, rows, *how), switches, 1 if on_gpus else count)
    replicas = []
    for number in range(count):
        where = f" on GPU {gpus[number]}" if on_gpus else ""
        environment = {"OMP_NUM_THREADS": os.environ.get("OMP_NUM_THREADS", threads)}
        if on_gpus:
            environment["CUDA_VISIBLE_DEVICES"] = gpus[number]
        name = f"process {number + 1}{where}"
        replicas.append(ProcessReplica(name, local_engine, arguments, environment, quiet=number > 0))
    full_batch = FULL_BATCH_GPU if on_gpus else FULL_BATCH_CPU
    return ReplicatedEngine(tokenizer, replicas, min(full_batch, rows or full_batch))


def local_engine(how: tuple[Any, ...], switches: dict[str, Any], sharing_memory: int) -> Any:
    """The engine of one process, a LocalEngine. sharing_memory: see there."""
    from qwen_eval.engines.local.engine import LocalEngine

    engine = LocalEngine(*how, **switches)
    engine.sharing_memory = sharing_memory
    return engine
