"""Decoding speed and memory of a 7B-shaped first-generation Qwen of random weights: bf16, Int8, Int4, on one GPU.

    python bench/gpu_speed.py                                    # 2,048 new tokens, three turns
    python bench/gpu_speed.py --lengths 2048,8192 --repeats 5
    python bench/gpu_speed.py --tiny --device cpu --lengths 32   # does it run at all?

The same measurements as evaluate_speed.py, without a checkpoint: weights are made on the device. Contenders run one
after the other, so that each has the whole memory. `--plain` adds each without compiled kernels between products.
"""

from __future__ import annotations

import argparse
import gc
import statistics
import sys
from typing import Any

from gsm8k_workload import Ids
from workload import SEVEN_B, Shape, build


class Even(Shape):
    """MLP branches that fill groups of 128, as in the published shapes."""

    @property
    def width(self) -> int:
        return round(self.hidden * 2.6875 / 128) * 128


TINY = Even("tiny", 256, 2, 8192, kv_channels=64)
PACKED = {"bf16": 0, "int8": 8, "int4": 4}
GROUP = 128


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--kinds", default="bf16,int8,int4", help="by comma")
    parser.add_argument("--ways", default="engine", help="engine, sdpa, eager, by comma")
    parser.add_argument("--lengths", default="2048", help="new tokens, by comma")
    parser.add_argument("--encode", type=int, default=2048, help="tokens of the prompt that is read")
    parser.add_argument("--repeats", type=int, default=3)
    parser.add_argument("--device", default="cuda")
    parser.add_argument("--plain", action="store_true", help="also without compiled kernels")
    parser.add_argument("--tiny", action="store_true", help="a tiny model instead of the 7B shape")
    args = parser.parse_args()

    import torch

    if args.device.startswith("cuda") and not torch.cuda.is_available():
        print("error: no CUDA device here; --tiny --device cpu shows that the script runs", file=sys.stderr)
        return 2
    shape = TINY if args.tiny else SEVEN_B
    print(f"{shape.name}, batch 1, torch {torch.__version__}", flush=True)
    for kind in args.kinds.split(","):
        for way in args.ways.split(","):
            for fuse in (True, False) if args.plain and way == "engine" else (True,):
                try:
                    _contender(shape, kind, way, fuse, args)
                except Exception as error:  # the next contender may run
                    print(f"{kind}, {way}: {type(error).__name__}: {str(error).splitlines()[0]}", flush=True)
                gc.collect()
                if args.device.startswith("cuda"):
                    torch.cuda.empty_cache()
    return 0


def _contender(shape: Shape, kind: str, way: str, fuse: bool, args: argparse.Namespace) -> None:
    """Measure one and print its lines."""
    from qwen_eval.benchmarks.speed.measure import ENGINE, Measured
    from qwen_eval.engines.local.engine import LocalEngine
    from qwen_model import decoding

    decoding.can_fuse = lambda: fuse and _triton()  # type: ignore[attr-defined]
    model = model_of(shape, PACKED[kind], args.device)
    engine = LocalEngine.of(model, Ids(model.config.vocab_size))
    if way != ENGINE:
        model.config._attn_implementation = way
    measured = Measured(engine, way)
    measured.warm_up()
    about = measured.about()
    name = f"{kind}, {way}" + ("" if fuse else ", nothing compiled")
    backend = f", {about.backend}" if about.backend else ""
    print(
        f"{name}: {about.device}{backend}; a token reads {about.sizes.weights / 1e9:.2f} GB of weights; a copy runs at "
        f"{about.bandwidth / 1e9:.0f} GB/s; {about.state}",
        flush=True,
    )
    for tokens in map(int, args.lengths.split(",")):
        turns = [measured.generate(tokens) for _ in range(args.repeats)]
        rate = tokens / statistics.median(turn.seconds for turn in turns)
        limit = about.bandwidth / about.sizes.read_by(1, tokens)
        each = ", ".join(f"{tokens / turn.seconds:.1f}" for turn in turns)
        print(
            f"{name}: {tokens} new tokens: {rate:.1f} tokens/s, {rate / limit:.0%} of the {limit:.1f} that bandwidth "
            f"allows (turns: {each}); peak {turns[-1].peak / 1e9:.2f} GB",
            flush=True,
        )
    turns = [measured.encode(args.encode) for _ in range(args.repeats)]
    rate = args.encode / statistics.median(turn.seconds for turn in turns)
    print(f"{name}: {args.encode} tokens read: {rate:.0f} tokens/s; peak {turns[-1].peak / 1e9:.2f} GB", flush=True)


def model_of(shape: Shape, bits: int, device: str) -> Any:
    """A model of random weights; bits: of packed layers, 0 for none."""
    from qwen_model.gptq import PACKED as LAYERS
    from qwen_model.gptq import GPTQLinear, packing_of
    from qwen_model.gptq_backends import use_backend

    import torch

    model = build(shape, device=device, dtype="bfloat16")
    if not bits:
        return model
    packing = packing_of({"bits": bits, "group_size": GROUP})
    zeros = {4: 0x77777777, 8: 0x7F7F7F7F}[bits]
    for block in model.transformer.h:
        for name in LAYERS:
            linear = block.get_submodule(name)
            packed = GPTQLinear(linear.in_features, linear.out_features, packing, linear.bias is not None).to(device)
            packed.qweight.random_(-(2**31), 2**31)
            packed.qzeros.fill_(zeros)
            packed.scales = torch.full_like(packed.scales, 0.02 / 2 ** (bits - 2)).half()
            if linear.bias is not None:
                packed.bias = torch.nn.Parameter(linear.bias.detach(), requires_grad=False)
            parent, _, last = name.rpartition(".")
            setattr(block.get_submodule(parent), last, packed)
    device_type = torch.device(device).type
    use_backend(model, "torch" if bits == 4 or device_type == "cuda" else "reference")
    return model.eval()


def _triton() -> bool:
    from qwen_model.fused import can_fuse

    return can_fuse()


if __name__ == "__main__":
    sys.exit(main())
