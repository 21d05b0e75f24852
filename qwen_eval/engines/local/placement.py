"""Where a local model goes and how it computes: device, dtype, attention, long-context switches, free memory.

All of it is asked before the weights are loaded.
"""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

from qwen_eval.errors import UserError, one_line


def resolve_device(device: str | None) -> str:
    import torch

    chosen = device or ("cuda" if torch.cuda.is_available() else "cpu")
    try:
        torch.empty(0, device=chosen)
    except (RuntimeError, AssertionError) as error:
        raise UserError(f"--device {chosen} cannot be used here ({one_line(error)[:120]})") from error
    return chosen


def resolve_dtype(checkpoint: Path, dtype: str, device: str | None) -> str:
    """`auto`: float32 on a CPU, else the checkpoint's dtype, else bfloat16 (float16 where the GPU has no bfloat16)."""
    if dtype != "auto":
        return dtype
    import torch

    if resolve_device(device) == "cpu":
        return "float32"
    from qwen_model.loading import load_config

    config = load_config(checkpoint)
    if flags := [name for name in ("bf16", "fp16", "fp32") if getattr(config, name, False) is True]:
        if len(flags) > 1:
            raise UserError(f"{checkpoint / 'config.json'}: {' and '.join(flags)} are both true; give --dtype")
        return {"bf16": "bfloat16", "fp16": "float16", "fp32": "float32"}[flags[0]]
    stored = str(getattr(config, "dtype", None) or "").removeprefix("torch.")
    if stored in ("float16", "bfloat16") and getattr(config, "model_type", "") != "qwen":
        return stored
    return "bfloat16" if not torch.cuda.is_available() or torch.cuda.is_bf16_supported() else "float16"


def check_attention(checkpoint: Path, implementation: str | None, dtype: str, device: str | None) -> None:
    """UserError where `--attn-implementation` names what cannot run here. Without it, transformers would load another
    kernel from the hub in its place, or fail in the middle of the run."""
    if implementation != "flash_attention_2":
        return
    flag = f"--attn-implementation {implementation}"
    try:
        import flash_attn  # noqa: F401
    except ImportError as error:
        raise UserError(
            f"{flag}: flash-attn cannot be imported here ({one_line(error)[:120]}); pip install flash-attn, or leave "
            "the flag out"
        ) from error
    if not resolve_device(device).startswith("cuda"):
        raise UserError(f"{flag} wants a GPU, and the device is {resolve_device(device)}; leave the flag out")
    if (chosen := resolve_dtype(checkpoint, dtype, device)) == "float32":
        raise UserError(f"{flag} computes in 16 bits, and the dtype is {chosen}; add --dtype bfloat16")


def check_gptq_backend(checkpoint: Path, backend: str, dtype: str, device: str | None) -> None:
    """UserError where `--gptq-backend` is certain not to run this checkpoint."""
    from qwen_model.gptq_backends import check_backend
    from qwen_model.loading import load_config

    try:
        check_backend(
            load_config(checkpoint), backend, resolve_dtype(checkpoint, dtype, device), resolve_device(device)
        )
    except ValueError as error:
        raise UserError(f"-c {checkpoint}: --gptq-backend {backend}: {error}") from error


def resolve_long_context(checkpoint: Path, **flags: Any) -> dict[str, Any]:
    """The setting `long_context`: the switches that the model runs with where flags give one. Nothing otherwise, so
    that the output folder of a run without them stays what it was."""
    if all(value is None for value in flags.values()):
        return {}
    from qwen_model.loading import load_config
    from qwen_model.long_context import given_switches

    config = load_config(checkpoint)
    try:
        return {"long_context": given_switches(config, **flags)._asdict()}  # type: ignore[union-attr]
    except ValueError as error:
        raise UserError(f"-c {checkpoint}: {error}") from error


def resolve_kv_cache(checkpoint: Path, flag: str) -> dict[str, str]:
    """The setting `kv_cache` where keys and values are in 8 bits, by the flag or the checkpoint; nothing otherwise."""
    from qwen_model.int8_cache import choose_kv_cache
    from qwen_model.loading import load_config

    config = load_config(checkpoint)
    try:
        choose_kv_cache(config, flag)
    except ValueError as error:
        raise UserError(f"-c {checkpoint}: --kv-cache {flag}: {error}") from error
    is_int8 = config.model_type == "qwen" and config.use_cache_quantization
    return {"kv_cache": "int8"} if is_int8 else {}


def free_bytes(device: str) -> int:
    """Bytes free where a model would go: "cuda" is all GPUs together, as it is spread over them when it has to be."""
    from qwen_model.devices import free_memory

    import torch

    if device == "cuda":
        return sum(torch.cuda.mem_get_info(index)[0] for index in range(torch.cuda.device_count()))
    return free_memory(torch.device(device))


def too_large(checkpoint: Path) -> bool:
    import torch

    size = sum(os.path.getsize(path) for pattern in ("*.safetensors", "*.bin") for path in checkpoint.glob(pattern))
    return size * 1.1 > torch.cuda.mem_get_info(0)[0]
