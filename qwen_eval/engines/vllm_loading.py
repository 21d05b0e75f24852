"""How vLLM is started: the copy that it reads, the settings of its process, what it may use of a CPU's memory."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

from qwen_eval.errors import UserError, one_line

# In this process: an error is raised where it can be told. Threads as this process has them. No reports to anybody.
ENVIRONMENT = {
    "VLLM_ENABLE_V1_MULTIPROCESSING": "0",
    "VLLM_CPU_OMP_THREADS_BIND": "nobind",
    "VLLM_LOGGING_LEVEL": "ERROR",
    "VLLM_NO_USAGE_STATS": "1",
}
# On a CPU: small blocks share more of a prefix (128 tokens is vLLM's default), and keys and values take at most half
# of the free memory.
CPU_BLOCK = 32
CPU_CACHE_BYTES = 8 << 30


def load_engine(
    folder: Path,
    dtype: str,
    length: int | None,
    rows: int | None,
    tensor_parallel_size: int,
    pipeline_parallel_size: int,
) -> tuple[Any, str]:
    """A vllm.LLMEngine with the model of this folder, without a tokenizer, and vLLM's version.

    length: the most tokens of a prompt with its reply; None: what the model's own config says. rows: requests at a time
    at most; None: vLLM's choice.
    Raises UserError, one line, whatever vLLM says.
    """
    for name, value in ENVIRONMENT.items():
        os.environ.setdefault(name, value)
    given: dict[str, Any] = {} if length is None else {"max_model_len": length}
    given |= {} if rows is None else {"max_num_seqs": rows}
    try:
        import vllm
        from vllm.platforms import current_platform

        if current_platform.is_cpu():
            given |= {"block_size": CPU_BLOCK, "enforce_eager": True}  # without a compiler
            given |= {} if "VLLM_CPU_KVCACHE_SPACE" in os.environ else {"kv_cache_memory_bytes": _cache_bytes()}
        settings = vllm.EngineArgs(
            model=str(folder),
            dtype=dtype,
            tensor_parallel_size=tensor_parallel_size,
            pipeline_parallel_size=pipeline_parallel_size,
            enable_prefix_caching=True,
            skip_tokenizer_init=True,
            generation_config="vllm",  # how replies are decoded is said by each request
            use_tqdm_on_load=False,
            seed=0,
            **given,
        )
        return vllm.LLMEngine.from_engine_args(settings), vllm.__version__
    except Exception as error:
        raise UserError(f"vLLM cannot run {folder}: {one_line(error)[:300]}") from error


def _cache_bytes() -> int:
    from qwen_model.devices import host_memory

    return min(CPU_CACHE_BYTES, host_memory() // 2)


def made_export(checkpoint: Path, folder: Path) -> list[str]:
    """Export the checkpoint to `folder` unless it is there already. Returns what the copy does not say, a line each."""
    from qwen_model.checkpoint import CheckpointError
    from qwen_model.export import export
    from qwen_model.export.layout import dropped
    from qwen_model.loading import load_config

    if not folder.exists():
        try:
            export(checkpoint, folder, drop_long_context=True)
        except CheckpointError:
            if not folder.exists():  # else another run was faster
                raise
    return dropped(load_config(checkpoint))
