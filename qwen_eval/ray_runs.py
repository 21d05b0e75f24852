"""What --ray takes of a run's flags: how many copies of the model, where, in which dtype."""

import argparse
from pathlib import Path
from typing import NamedTuple

from qwen_eval.engines import ray_cluster
from qwen_eval.errors import UserError
from qwen_eval.extras import need


class RayRun(NamedTuple):
    """device: of each copy of a local engine; dtype: that of the run."""

    places: ray_cluster.Places
    device: str
    dtype: str


def check_flags(args: argparse.Namespace) -> None:
    """UserError where Ray is not installed, or a flag has no sense with it."""
    if args.engine == "openai":
        raise UserError("--ray wants a model that runs here; several --base-url share the work of served ones")
    need("cluster")
    if args.device_map is not None:
        raise UserError("--device-map spreads one model over this machine's GPUs, --ray makes copies; give one of them")
    if args.device not in (None, "cpu", "cuda"):
        raise UserError(f"--device {args.device} is one device, and --ray is for several: leave it out")


def plan(args: argparse.Namespace, checkpoint: Path) -> RayRun:
    """Join the cluster and find out where the copies go. UserError where they do not fit."""
    from qwen_eval.engines.local.placement import resolve_dtype

    nodes = ray_cluster.join(args.ray)
    on_gpus = args.device != "cpu" and any(node.gpus for node in nodes)
    if args.device == "cuda" and not on_gpus:
        raise UserError("--device cuda: no node of the cluster has a GPU")
    each = args.tensor_parallel_size * args.pipeline_parallel_size if on_gpus else 0
    wanted = ray_cluster.AUTO if args.data_parallel == 1 else args.data_parallel
    places = ray_cluster.places(nodes, wanted, each)
    ray_cluster.check_free(places)
    device = "cuda" if on_gpus else "cpu"
    try:
        dtype = resolve_dtype(checkpoint, args.dtype, device)
    except UserError:
        raise UserError("this machine has no GPU to say which --dtype the nodes' GPUs have; give --dtype") from None
    return RayRun(places, device, dtype)
