"""Peak memory of scoring a long text, 32,768 tokens against 8,192, for a random first-generation Qwen of 100 M weights.

    python bench/bench_ppl_memory.py                           # four configurations, two lengths: an hour on two cores
    python bench/bench_ppl_memory.py --shape thin --configs none       # Qwen's vocabulary of 151,936, two layers
    python bench/bench_ppl_memory.py --one-forward             # beside it: a plain forward that has all logits at once

Each text is scored in a process of its own. "over weights" is the peak of the process's resident memory above what it
held once the weights were made and one short text was scored; the last column is the estimate that evaluate_ppl.py
refuses a length by. Exit status 1 when memory grows faster than the text.
"""

import argparse
import json
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

import machine

ROOT = Path(__file__).resolve().parent.parent
sys.path.insert(0, str(ROOT / "eval"))
# MLP in Qwen's proportion. 100M: 85 M in the layers, 16 M in the two embeddings; few layers, since attention to 32,768
# tokens costs by layers x width, and weights count by its square. thin: 14 M and 2 x 117 M.
SHAPES = {
    "100M": {
        "hidden_size": 1536,
        "num_attention_heads": 12,
        "kv_channels": 128,
        "intermediate_size": 8256,
        "num_hidden_layers": 3,
        "vocab_size": 5120,
    },
    "thin": {
        "hidden_size": 768,
        "num_attention_heads": 12,
        "kv_channels": 64,
        "intermediate_size": 4096,
        "num_hidden_layers": 2,
        "vocab_size": 151_936,
    },
}
TRAINED = 2048
CONFIGS = {
    "none": (False, False, False),
    "dynamic_ntk": (True, False, False),
    "dynamic_ntk + logn": (True, True, False),
    "dynamic_ntk + logn + window_attn": (True, True, True),
}


def config(shape: str) -> dict[str, Any]:
    return {"model_type": "qwen", "seq_length": TRAINED, "fp32": True, **SHAPES[shape]}


def resident(peak: bool) -> int:
    """Bytes of this process in memory: now, or at most since the last reset."""
    field = "VmHWM:" if peak else "VmRSS:"
    lines = Path("/proc/self/status").read_text().splitlines()
    return 1024 * int(next(line for line in lines if line.startswith(field)).split()[1])


def measure(shape: str, name: str, length: int, whole: bool) -> dict[str, Any]:
    """Runs in a process of its own: seconds, and bytes over what the weights take."""
    from qwen_eval.engines.base import ScoreRequest
    from qwen_eval.engines.local.engine import LocalEngine
    from qwen_model import QWenConfig, QWenLMHeadModel
    from qwen_model.long_context import resolve

    import numpy as np
    import torch

    torch.manual_seed(0)
    settings = QWenConfig(**config(shape))
    model = QWenLMHeadModel(settings)
    engine, switches = LocalEngine.of(model), resolve(settings, *CONFIGS[name])
    tokens = np.random.default_rng(0).integers(0, settings.vocab_size, length).astype(np.int32)
    list(engine.score([ScoreRequest(tokens[:64], switches)]))
    Path("/proc/self/clear_refs").write_text("5")  # the peak from here on
    before, started = resident(peak=False), time.time()
    if whole:
        with torch.inference_mode():
            ids = torch.as_tensor(tokens.astype(np.int64))[None]
            model(ids, labels=ids, use_cache=False, long_context=switches)
    else:
        ((_, found),) = engine.score([ScoreRequest(tokens, switches)])
        assert np.isfinite(found).all()
    return {"seconds": time.time() - started, "over": resident(peak=True) - before}


def estimate(shape: str, name: str, length: int) -> int:
    """What evaluate_ppl.py expects over the weights."""
    from qwen_eval.engines.local import memory
    from qwen_model import QWenConfig
    from qwen_model.long_context import resolve

    with tempfile.TemporaryDirectory() as folder:
        (Path(folder) / "config.json").write_text(json.dumps(config(shape)))
        windows = resolve(QWenConfig(**config(shape)), *CONFIGS[name]).window_attn
        found = memory.need(Path(folder), "float32", length, windows)
    return found.cache + found.work


def main() -> int:
    flags = argparse.ArgumentParser(description=(__doc__ or "").split("\n\n")[0])
    flags.add_argument("--shape", choices=SHAPES, default="100M")
    flags.add_argument("--lengths", default="8192,32768")
    flags.add_argument("--configs", default=",".join(CONFIGS))
    flags.add_argument("--one-forward", action="store_true", help="also a plain forward at the first length")
    flags.add_argument("--child", nargs=4, metavar="X", help=argparse.SUPPRESS)
    args = flags.parse_args()
    if args.child:
        shape, name, length, whole = args.child
        print(json.dumps(measure(shape, name, int(length), whole == "whole")))
        return 0

    def child(name: str, length: int, whole: bool = False) -> dict[str, Any]:
        words = ["--child", args.shape, name, str(length), "whole" if whole else "chunks"]
        made = subprocess.run([sys.executable, __file__, *words], stdout=subprocess.PIPE, text=True, check=True)
        measured: dict[str, Any] = json.loads(made.stdout.splitlines()[-1])
        return measured

    lengths = [int(word) for word in args.lengths.split(",")]
    print(f"{args.shape}: {SHAPES[args.shape]}, fp32, trained at {TRAINED}; {machine.processor()}, {machine.load()}")
    print(f"{machine.versions()}\n")
    print(f"{'configuration':34} {'tokens':>7} {'seconds':>8} {'tokens/s':>9} {'MB over weights':>16} {'estimate':>9}")
    steep = False
    for name in args.configs.split(","):
        peaks = []
        for length in lengths:
            found = child(name, length)
            peaks.append(found["over"])
            rate, guess = length / found["seconds"], estimate(args.shape, name, length) / 1e6
            print(
                f"{name:34} {length:7} {found['seconds']:8.1f} {rate:9.0f} {found['over'] / 1e6:16.0f} {guess:9.0f}",
                flush=True,
            )
        growth, allowed = peaks[-1] / peaks[0], lengths[-1] / lengths[0]
        steep |= growth > allowed
        print(f"{'':34} {growth:.2f} times the memory for {allowed:.0f} times the text")
    if args.one_forward:
        found = child("none", lengths[0], whole=True)
        label, over = "plain forward, all logits", found["over"] / 1e6
        print(f"{label:34} {lengths[0]:7} {found['seconds']:8.1f} {'':9} {over:16.0f}")
    return int(steep)


if __name__ == "__main__":
    sys.exit(main())
