"""The flags, the same in every script."""

import argparse
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any, NoReturn

from qwen_eval.errors import redacted
from qwen_eval.places import HUBS

ENGINES = ("local", "vllm", "openai")
ATTENTIONS = ("sdpa", "eager", "flash_attention_2")
GPTQ_BACKENDS = ("auto", "reference", "torch", "gptqmodel")
KV_CACHES = ("auto", "int8")
DEVICE_MAPS = ("auto", "balanced", "balanced_low_0", "sequential")
DTYPES = ("auto", "float32", "bfloat16", "float16")


class OneLineParser(argparse.ArgumentParser):
    """argparse, but a wrong flag is one line on standard error and status 2."""

    def error(self, message: str) -> NoReturn:
        print(redacted(f"{self.prog}: error: {message} (--help lists the flags)"), file=sys.stderr)
        sys.exit(2)


def positive(text: str) -> int:
    """A whole number of at least 1."""
    if not text.isdigit() or int(text) < 1:
        raise argparse.ArgumentTypeError(f"{text!r} is not a whole number of at least 1")
    return int(text)


def natural(text: str) -> int:
    """A whole number of at least 0."""
    if not text.isdigit():
        raise argparse.ArgumentTypeError(f"{text!r} is not a whole number of at least 0")
    return int(text)


def fraction(text: str) -> float:
    """A number of at least 0."""
    try:
        value = float(text)
    except ValueError:
        value = -1.0
    if not 0 <= value < float("inf"):
        raise argparse.ArgumentTypeError(f"{text!r} is not a number of at least 0")
    return value


def share(text: str) -> float:
    """A number above 0, at most 1."""
    if not 0 < (value := fraction(text)) <= 1:
        raise argparse.ArgumentTypeError(f"{text!r} is not above 0 and at most 1")
    return value


def above_zero(text: str) -> float:
    """A number above 0."""
    if (value := fraction(text)) == 0:
        raise argparse.ArgumentTypeError(f"{text!r} is not above 0")
    return value


def _penalty(text: str) -> float:
    if (value := fraction(text)) > 2:
        raise argparse.ArgumentTypeError(f"{text!r} is not a number from 0 to 2")
    return value


def length(text: str) -> int:
    """A prompt length in tokens: at least 2, since a cut prompt keeps one token less."""
    if positive(text) < 2:
        raise argparse.ArgumentTypeError(f"{text!r} leaves no token of a prompt; at least 2")
    return int(text)


def _on_off(text: str) -> bool:
    if text not in ("on", "off"):
        raise argparse.ArgumentTypeError(f"{text!r} is neither on nor off")
    return text == "on"


def _window(text: str) -> Any:
    from qwen_model.long_context import parse_window_attn

    try:
        return parse_window_attn(text)
    except ValueError as error:
        raise argparse.ArgumentTypeError(str(error)) from None


def _processes(text: str) -> int | str:
    return text if text == "auto" else positive(text)


def _batch_size(text: str) -> int | None:
    return None if text == "auto" else positive(text)


def _formats(text: str) -> list[str]:
    from qwen_eval.export.formats import format_names

    return format_names(text)


def _subjects(text: str) -> str:
    if not any(name.strip() for name in text.split(",")):
        raise argparse.ArgumentTypeError("names no subject")
    return text


def parser(
    doc: str | None, *, shots: int | None = None, chat_shots: int | None = None, max_seq_len: int | None = None
) -> OneLineParser:
    """The common flags. doc: the script's docstring, its first paragraph is the description.

    shots, chat_shots: the protocol's number of examples for base and chat models; None where the flag has no sense.
    max_seq_len: the protocol's limit of a prompt in tokens; None where it has none.
    """
    flags = OneLineParser(
        description=(doc or "").strip().split("\n\n")[0],  # python -OO has no docstrings
        formatter_class=argparse.RawDescriptionHelpFormatter,
        allow_abbrev=False,
    )
    add = flags.add_argument
    flags.set_defaults(protocol_max_seq_len=max_seq_len)
    add("-c", "--checkpoint-path", metavar="CHECKPOINT", help="hub id, folder, `demo` or `demo-chat`")
    add("--adapter", metavar="ADAPTER", help="a PEFT adapter (LoRA) on -c: hub id or folder; -c ADAPTER finds its base")
    add("-d", "--eval-data-path", "--eval_data_path", metavar="DATA", help="official folder or archive, or a hub id")
    if shots is not None:
        chat = "" if chat_shots is None or chat_shots == shots else f"; {chat_shots} for chat"
        add("-k", "--num-fewshot", type=natural, help=f"examples in the prompt (default: {shots}{chat})")
    mode = flags.add_mutually_exclusive_group()
    mode.add_argument(
        "--chat", action="store_true", default=None, help="ask as a chat model (default: from the checkpoint)"
    )
    mode.add_argument("--base", action="store_false", dest="chat", help="ask as a base model")
    add(
        "--thinking",
        type=_on_off,
        metavar="on|off",
        help="ask a chat model that can think (Qwen3) with thinking, or without (default: the model's own)",
    )
    add("-b", "--batch-size", type=_batch_size, metavar="N|auto", help="rows in flight at most (default: auto)")
    limit = "none" if max_seq_len is None else max_seq_len
    add(
        "--max-seq-len",
        type=length,
        default=max_seq_len,
        metavar="N",
        help=f"longest prompt in tokens (default: {limit})",
    )
    add("--subjects", type=_subjects, metavar="A,B", help="only these subjects")
    add("--limit", type=positive, metavar="N", help="the first N items of each subject")
    add("--sample", type=positive, metavar="N", help="N items drawn over all subjects by their share")
    add("-s", "--seed", type=natural, default=1234, help="seed of every draw (default: 1234)")
    add("--max-new-tokens", type=positive, metavar="N", help="longest reply (default: the checkpoint's, 512)")
    add("--repetition-penalty", type=above_zero, metavar="X", help="default: the protocol's, or the checkpoint's")
    add(
        "--temperature",
        type=fraction,
        metavar="X",
        help="sample replies (default: 0, greedy, as reported; of a Qwen3 chat model its card's)",
    )
    add(
        "--samples",
        "--num-samples",
        dest="num_samples",
        type=positive,
        metavar="N",
        help="replies per question, each by a seed of its own (default: 1; GPQA of a Qwen3 chat model: 10)",
    )
    add("--top-p", type=share, metavar="X", help="with --temperature: the share of the mass to draw from")
    add(
        "--presence-penalty",
        type=_penalty,
        metavar="X",
        help="what a token the reply has loses (default: 0, or the card's)",
    )
    add("--use-dynamic-ntk", type=_on_off, metavar="on|off", help="dynamic NTK (default: from the checkpoint)")
    add("--use-logn-attn", type=_on_off, metavar="on|off", help="LogN attention (default: from the checkpoint)")
    add(
        "--window-attn",
        type=_window,
        metavar="SPEC",
        help="window attention: off, on, a first window (2048), or one a layer (512,1024,full) (default: off)",
    )
    add(
        "--kv-cache",
        choices=KV_CACHES,
        default="auto",
        help="int8: keys and values in 8 bits, first-generation Qwen's published way (default: from the checkpoint)",
    )
    add(
        "--gptq-backend",
        choices=GPTQ_BACKENDS,
        default="auto",
        help="how packed Int4 and Int8 layers run (default: auto, unpacked once where memory holds them)",
    )
    add("--engine", choices=ENGINES, default="local", help="what runs the model (default: local; openai: --base-url)")
    add("--tensor-parallel-size", type=positive, default=1, metavar="N", help="--engine vllm: GPUs per layer")
    add("--pipeline-parallel-size", type=positive, default=1, metavar="N", help="--engine vllm: groups of layers")
    add(
        "--base-url",
        metavar="URL",
        action="append",
        help="--engine openai: an OpenAI-compatible endpoint, such as http://host:8000/v1; several, each "
        "with a flag of its own, share the work",
    )
    add(
        "--tokenizer",
        metavar="CHECKPOINT",
        help="--engine openai --base: whose tokenizer makes the prompts' token ids (default: that of -c, if it is a "
        "folder; without one prompts go as text)",
    )
    add("--dtype", choices=DTYPES, default="auto", help="default: from the checkpoint; float32 on a CPU")
    add(
        "--attn-implementation",
        choices=ATTENTIONS,
        help="the attention function of the model (default: transformers' choice for it); behind a shared prefix and "
        "for replies in batches, the engine's own attention takes its place",
    )
    add_hub(flags)
    add("--device", help="cuda, cuda:1, cpu, mps ... (default: cuda if there is one)")
    add(
        "--device-map",
        choices=DEVICE_MAPS,
        help="one model over all visible GPUs, as accelerate places it (default: auto where one GPU is too small)",
    )
    add(
        "--data-parallel",
        type=_processes,
        default=1,
        metavar="N|auto",
        help="N processes, each with the model on a GPU of its own, share the work; auto: all GPUs (default: 1)",
    )
    add(
        "--ray",
        metavar="auto|HOST:PORT",
        help="copies of the model on the nodes of this Ray cluster share the work, as many as fit or as "
        "--data-parallel says",
    )
    add("-o", "--output-dir", type=Path, metavar="DIR", help="default: results/{model}/{benchmark}")
    add("--overwrite", action="store_true", help="drop what the output folder has and run everything again")
    add("--rescore", type=Path, metavar="FILE", help="score the replies of this JSONL file, no model")
    add("--baseline", type=Path, metavar="DIR", help="paired comparison with the run in this output folder")
    add(
        "--band",
        type=fraction,
        metavar="X",
        help="`reproduced` within X points of the reported figure (default: 1, or 2 items)",
    )
    add("--reported-as", metavar="NAME", help="the model of the cards to compare with, such as Qwen-7B or Qwen-7B@v1.0")
    add("--reported", type=Path, metavar="FILE", help="another card: CSV, model card (model-index) or .eval_results")
    add("--export", type=_formats, metavar="A,B", help="also write eee, lm-eval, inspect, eval-results, or all of them")
    add("--push-to-hub", metavar="REPO", help="open a pull request with the figure in a model's repository (off)")
    add("--debug", action="store_true", help="show tracebacks, and three prompts as they go in")
    return flags


def add_hub(flags: argparse.ArgumentParser) -> None:
    """`--hub`, which `checkpoints.use_hub` puts in force."""
    told = "where checkpoints and data come from (default: QWEN_EVAL_HUB, else huggingface)"
    flags.add_argument("--hub", choices=HUBS, help=told)


def add_data_version(flags: argparse.ArgumentParser, versions: Sequence[str]) -> None:
    """`--data-version`, for a benchmark whose reported figures are of several versions of its data."""
    told = "which version of the data -d is (default: by the files' names); reported figures are of one version"
    flags.add_argument("--data-version", choices=versions, help=told)


def add_protocol(flags: argparse.ArgumentParser, families: Sequence[str]) -> None:
    """`--protocol`, for a benchmark that several families of models were asked in their own ways."""
    told = "ask as this family's figures were made (default: the model's family; unknown: as the script's page says)"
    flags.add_argument("--protocol", choices=families, help=told)


def long_context_flags(args: argparse.Namespace) -> dict[str, Any]:
    """The long-context flags as keywords of `qwen_model.loading.load_model`; None where one is not given."""
    return {name: getattr(args, name) for name in ("use_dynamic_ntk", "use_logn_attn", "window_attn")}
