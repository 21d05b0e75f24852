"""How much faster two copies of a model answer than one: processes of this machine, or two nodes of a Ray cluster.

    python bench/bench_replicas.py                  # --data-parallel 2 against 1
    python bench/bench_replicas.py --ray            # the same on two nodes with a core each, both on this machine

Each copy has one thread. Both engines are loaded and warm before they take turns; the ratio is of their median times,
and the answers are compared. The model is the demo's, the prompts are random token ids without a shared prefix, so what
is measured is how the work is shared, sent and put together.
"""

from __future__ import annotations

import argparse
import os
import statistics
import subprocess
import sys
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from qwen_eval.engines.base import GenerateRequest
from qwen_eval.engines.local.parallel import local_engine, parallel_engine
from qwen_eval.engines.ray_cluster import Places, join
from qwen_eval.engines.ray_replicas import ray_engine

import numpy as np
from machine import load, processor, versions

CHECKPOINT = Path(__file__).resolve().parents[1] / "demo/checkpoint/base"
HOW = ("float32", "cpu", 16)  # dtype, device, rows in flight
PROMPT, NEW = 192, 48
PORT = 6390


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--ray", action="store_true", help="two nodes of a Ray cluster, started here")
    parser.add_argument("--requests", type=int, default=256)
    parser.add_argument("--repeats", type=int, default=5)
    args = parser.parse_args()
    os.environ["OMP_NUM_THREADS"] = "1"
    print(f"{processor()}, {os.cpu_count()} cores, {load()}; {versions()}")
    if args.ray:
        started("--head", f"--port={PORT}", "--node-ip-address=127.0.0.1", "--include-dashboard=false")
        started(f"--address=127.0.0.1:{PORT}", "--node-ip-address=127.0.0.2")
    try:
        return measure(args)
    finally:
        if args.ray:
            subprocess.run([sys.executable, "-m", "ray.scripts.scripts", "stop", "--force"], capture_output=True)


def started(*words: str) -> None:
    """Start a node with two cores, of which each copy takes one: both engines are loaded at a time."""
    node = ("--num-cpus=2", "--object-store-memory=100000000", "--disable-usage-stats")
    command = [sys.executable, "-m", "ray.scripts.scripts", "start", *words, *node]
    subprocess.run(command, check=True, capture_output=True)


def engine_of(copies: int, ray: bool) -> Any:
    if not ray:
        return parallel_engine(copies, CHECKPOINT, *HOW)
    join(f"127.0.0.1:{PORT}")
    return ray_engine(Places(copies, 1, 0), CHECKPOINT, HOW[2], local_engine, ((CHECKPOINT, *HOW), {}, 3))


def measure(args: argparse.Namespace) -> int:
    rng = np.random.default_rng(0)
    requests = [GenerateRequest(rng.integers(10, 200, PROMPT).astype(np.int32), NEW) for _ in range(args.requests)]
    engines = {copies: engine_of(copies, args.ray) for copies in (1, 2)}
    answers = {copies: dict(engine.generate(requests)) for copies, engine in engines.items()}  # warm
    spent: dict[int, list[float]] = {1: [], 2: []}
    for _ in range(args.repeats):
        for copies, engine in engines.items():
            spent[copies].append(seconds(engine, requests))
    one, two = (statistics.median(spent[copies]) for copies in (1, 2))
    same = sum(answers[1][index].text == answers[2][index].text for index in answers[1])
    print(f"{args.requests} replies of {NEW} tokens behind {PROMPT}: one copy {one:.2f} s, two {two:.2f} s")
    print(f"two copies are {one / two:.2f} times as fast; {same} of {len(requests)} replies are the same")
    print(f"answers by copy: {engines[2].shares}")
    for engine in engines.values():
        engine.close()
    return 0 if same == len(requests) else 1


def seconds(engine: Any, requests: Sequence[GenerateRequest]) -> float:
    begun = time.perf_counter()
    for _ in engine.generate(requests):
        pass
    return time.perf_counter() - begun


if __name__ == "__main__":
    sys.exit(main())
