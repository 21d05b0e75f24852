"""What --engine openai takes of a run's flags, and where the served model's tokenizer is."""

import argparse
from pathlib import Path

from qwen_eval.checkpoints import resolve_checkpoint
from qwen_eval.cli import long_context_flags
from qwen_eval.errors import UserError
from qwen_eval.reporting.manifest import TOKENIZER


def check_flags(args: argparse.Namespace) -> str:
    """The addresses without secrets. UserError for one that is none, and for flags that have no sense with a server."""
    from qwen_eval.engines.endpoint import check_url, public_url

    if not args.base_url or not args.checkpoint_path:
        raise UserError("--engine openai wants --base-url URL, and -c the model's name there")
    for url in args.base_url:
        check_url(url)
    if any(value is not None for value in long_context_flags(args).values()):
        raise UserError("--use-dynamic-ntk, --use-logn-attn and --window-attn want the local engine")
    if args.kv_cache != "auto":
        raise UserError("--kv-cache wants the local engine; a server chooses its own")
    if args.gptq_backend != "auto":
        raise UserError("--gptq-backend wants the local engine; a server chooses its own")
    if args.attn_implementation is not None:
        raise UserError("--attn-implementation wants the local engine; a server chooses its own")
    if args.data_parallel != 1:
        raise UserError("--data-parallel wants a model that runs here; several --base-url share the work")
    if args.device_map is not None:
        raise UserError("--device-map wants the local engine; a server places its model itself")
    return ", ".join(sorted(map(public_url, args.base_url)))


def tokenizer_folder(args: argparse.Namespace) -> Path | None:
    """The folder of the served model's tokenizer: that of --tokenizer, or of -c, which `vllm serve FOLDER` makes the
    model's name. None where -c is no such folder. UserError where --tokenizer has none."""
    if args.tokenizer is None:
        folder = Path(args.checkpoint_path).expanduser()
        return folder if _has_tokenizer(folder) else None
    found = resolve_checkpoint(args.tokenizer, "--tokenizer", (*TOKENIZER, "*.json"))
    if not _has_tokenizer(found):
        raise UserError(f"--tokenizer {args.tokenizer}: no tokenizer is there")
    return found


def _has_tokenizer(folder: Path) -> bool:
    return any(next(folder.glob(name), None) is not None for name in TOKENIZER)
