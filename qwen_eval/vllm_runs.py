"""What --engine vllm takes of a run's flags, and where its copy of a first-generation Qwen stays."""

import argparse
from importlib.util import find_spec
from pathlib import Path

from qwen_eval.cli import long_context_flags
from qwen_eval.data import sources
from qwen_eval.errors import UserError
from qwen_eval.reporting.manifest import TOKENIZER, WEIGHTS, digest, files_sha256


def check_flags(args: argparse.Namespace) -> None:
    """UserError where vLLM is not installed, or a flag has no sense with it."""
    if find_spec("vllm") is None:
        raise UserError(
            "vllm is not installed here; it wants an environment of its own: sh bench/setup_vllm.sh makes .venv-vllm "
            "with it and this project, for CPUs (for GPUs: docs/serving.md)"
        )
    if any(value is not None for value in long_context_flags(args).values()):
        raise UserError("--use-dynamic-ntk, --use-logn-attn and --window-attn want the local engine; vLLM has none")
    own_choice = {
        "--kv-cache": args.kv_cache != "auto",
        "--gptq-backend": args.gptq_backend != "auto",
        "--attn-implementation": args.attn_implementation is not None,
    }
    for flag, given in own_choice.items():
        if given:
            raise UserError(f"{flag} wants the local engine; vLLM chooses its own")
    if args.device_map is not None:
        raise UserError("--device-map wants the local engine; --tensor-parallel-size N spreads a model in vLLM")
    if args.data_parallel != 1 and args.ray is None:
        raise UserError(
            "--data-parallel with --engine vllm wants a cluster: --ray auto, after `ray start --head`; or "
            "--tensor-parallel-size N, one model over N GPUs"
        )
    if args.device is not None:
        raise UserError("--device wants the local engine; CUDA_VISIBLE_DEVICES says which GPUs vLLM may use")
    if args.adapter is not None:
        raise UserError("--adapter wants the local engine; or merge it into its model and give -c that")


def check_checkpoint(checkpoint: Path, dtype: str = "auto") -> None:
    """UserError where vLLM would compute something else than this checkpoint says, or cannot in this --dtype."""
    from qwen_eval.engines.local.placement import resolve_dtype
    from qwen_model.export.layout import refuse_unsayable
    from qwen_model.loading import load_config
    from qwen_model.long_context import resolve

    config = load_config(checkpoint)
    if config.model_type != "qwen":
        return
    if config.gptq is not None and resolve_dtype(checkpoint, dtype, None) == "float32":  # what `auto` is on a CPU
        raise UserError(f"{checkpoint} has packed weights, which vLLM does not run in float32; add --dtype float16")
    refuse_unsayable(str(checkpoint), config, drop_long_context=True)
    if resolve(config).window_attn is not None:  # it acts within the training length, NTK and LogN do not
        raise UserError(f"{checkpoint}: window attention is on in config.json; use --engine local, vLLM has none")


def export_folder(checkpoint: Path) -> Path | None:
    """Where the copy of a first-generation Qwen in Qwen2's layout belongs, by the contents of its files and the code
    that makes the copy; None for a model that needs none."""
    from qwen_model import export
    from qwen_model.loading import load_config

    if load_config(checkpoint).model_type != "qwen":
        return None
    settings = ("config.json", "generation_config.json")
    contents = [files_sha256(checkpoint, names) for names in (WEIGHTS, settings, TOKENIZER)]
    code = files_sha256(Path(str(export.__file__)).parent, ("*.py",))
    return sources.CACHE / "exported" / f"{checkpoint.name}-{digest([*contents, code])}"
