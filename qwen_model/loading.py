"""Load a checkpoint - first-generation Qwen by our classes, any other causal LM by its class in transformers.

Code that comes with a checkpoint is never run. What is wrong with a checkpoint is one line (`CheckpointError`):
transformers 5 only warns of missing weights, and a truncated shard gives no file name there.
"""

from __future__ import annotations

import contextlib
import json
import re
import struct
import zipfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import torch
import transformers
from transformers import AutoConfig, AutoModelForCausalLM, AutoTokenizer, PreTrainedModel
from transformers.utils import is_accelerate_available
from transformers.utils import logging as transformers_logging

from .configuration import QWenConfig
from .long_context import given_switches
from .modeling import QWenLMHeadModel
from .tokenization import VOCAB_FILES, QWenTokenizer

DTYPES = {
    "bfloat16": torch.bfloat16,
    "bf16": torch.bfloat16,
    "float16": torch.float16,
    "fp16": torch.float16,
    "float32": torch.float32,
    "fp32": torch.float32,
}
TOKENIZER_FILES = ("tokenizer.json", "tokenizer.model", "vocab.json", "vocab.txt", "spiece.model", "tekken.json")
WEIGHT_INDEXES = ("model.safetensors.index.json", "pytorch_model.bin.index.json")
WEIGHT_FILES = ("model.safetensors", "pytorch_model.bin")
# Never fetched from the hub: code, and weights of other frameworks.
NOT_FETCHED = ["*.py", "*.h5", "*.msgpack", "*.onnx", "*.gguf", "*.pth", "original/*"]


class CheckpointError(ValueError):
    """A checkpoint that cannot be used; the message is one line that says what is wrong and where."""

    def __init__(self, message: str) -> None:
        super().__init__(" ".join(message.split()))


@contextlib.contextmanager
def _quiet() -> Iterator[None]:
    """Without transformers' warnings and progress bars."""
    verbosity, bars = transformers_logging.get_verbosity(), transformers_logging.is_progress_bar_enabled()
    transformers_logging.set_verbosity(transformers_logging.CRITICAL)
    transformers_logging.disable_progress_bar()
    try:
        yield
    finally:
        transformers_logging.set_verbosity(verbosity)
        if bars:
            transformers_logging.enable_progress_bar()


def checkpoint_folder(path: str | Path) -> Path:
    """The folder of a checkpoint: `path` itself, or the local copy of a hub id (`owner/name`), fetched if need be.

    Raises:
        CheckpointError: neither a folder nor a model on the hub.
    """
    folder = Path(path).expanduser()
    if folder.is_dir():
        return folder
    if folder.exists():
        raise CheckpointError(f"{path}: a file, not the folder of a checkpoint")
    if not re.fullmatch(r"[\w-][\w.-]*/[\w-][\w.-]*", str(path)):
        raise CheckpointError(f"{path}: no such folder")
    import huggingface_hub

    try:
        return Path(huggingface_hub.snapshot_download(str(path), ignore_patterns=NOT_FETCHED))
    except Exception as error:  # the hub's client raises whatever its HTTP layer does
        reason = (str(error).strip() or type(error).__name__).splitlines()[0]
        raise CheckpointError(f"{path}: no such folder, and not to be had from the hub: {reason}") from None


def _read_json(path: Path) -> dict[str, Any]:
    try:
        content = json.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError:
        raise CheckpointError(f"{path.parent}: no {path.name} in it") from None
    except (OSError, ValueError) as error:
        raise CheckpointError(f"{path}: not readable as JSON: {error}") from None
    if not isinstance(content, dict):
        raise CheckpointError(f"{path}: not a JSON object")
    return content


def _model_type(folder: Path) -> str:
    model_type = _read_json(folder / "config.json").get("model_type")
    if not model_type:
        raise CheckpointError(f"{folder / 'config.json'}: no model_type in it")
    return str(model_type)


def load_tokenizer(path: str | Path) -> Any:
    """The tokenizer of a checkpoint: QWenTokenizer for first-generation Qwen, else transformers' own.

    Raises:
        CheckpointError: no such folder, or no usable tokenizer in it.
    """
    folder = checkpoint_folder(path)
    vocab = folder / VOCAB_FILES["vocab_file"]
    # The tokenizer's file alone is enough; a config.json is asked for only to tell another family.
    is_qwen = vocab.is_file() and not (folder / "config.json").is_file()
    is_qwen = is_qwen or _model_type(folder) == QWenConfig.model_type
    if is_qwen and not vocab.is_file():
        raise CheckpointError(f"{folder}: no tokenizer in it ({vocab.name} is missing)")
    if not is_qwen and not any((folder / name).is_file() for name in TOKENIZER_FILES):
        raise CheckpointError(f"{folder}: no tokenizer in it (none of {', '.join(TOKENIZER_FILES)})")
    try:
        with _quiet():
            if is_qwen:
                return QWenTokenizer.from_pretrained(folder)
            return AutoTokenizer.from_pretrained(folder, trust_remote_code=False)
    except Exception as error:
        raise CheckpointError(f"{folder}: the tokenizer does not load: {error}") from error


def load_config(path: str | Path) -> Any:
    """The configuration of a causal LM.

    Raises:
        CheckpointError: no config.json, an invalid one, or one of a model that transformers has no causal-LM class for.
    """
    folder = checkpoint_folder(path)
    model_type = _model_type(folder)
    with _quiet():
        try:
            if model_type == QWenConfig.model_type:
                return QWenConfig.from_pretrained(folder)
            config = AutoConfig.from_pretrained(folder, trust_remote_code=False)
        except Exception as error:
            if model_type not in transformers.CONFIG_MAPPING:
                raise CheckpointError(
                    f"{folder}: transformers {transformers.__version__} has no class for model_type {model_type!r}, "
                    "and code from a checkpoint is never run"
                ) from None
            raise CheckpointError(f"{folder}: {error}") from error
    if type(config) not in AutoModelForCausalLM._model_mapping:
        raise CheckpointError(f"{folder}: model_type {model_type!r} is not a causal language model")
    return config


def _weight_files(folder: Path) -> list[Path]:
    """The files that hold the weights, all of them present."""
    for name in WEIGHT_INDEXES:
        if (folder / name).is_file():
            shards = sorted(set(_read_json(folder / name).get("weight_map", {}).values()))
            missing = [shard for shard in shards if not (folder / shard).is_file()]
            if missing or not shards:
                raise CheckpointError(f"{folder}: missing shard {missing[0] if missing else f'(no weight in {name})'}")
            return [folder / shard for shard in shards]
        single = folder / WEIGHT_FILES[WEIGHT_INDEXES.index(name)]
        if single.is_file():
            return [single]
    raise CheckpointError(f"{folder}: no weights in it (no {' or '.join((*WEIGHT_FILES, *WEIGHT_INDEXES))})")


def _check_weight_file(path: Path) -> None:
    """Find a truncated or corrupt file by its header and length, without reading the weights."""
    size = path.stat().st_size
    if path.suffix != ".safetensors":
        with open(path, "rb") as file:
            # torch has written zip archives since 1.6; a zip's directory is at its end, so a cut shows.
            if size == 0 or (file.read(2) == b"PK" and not zipfile.is_zipfile(path)):
                raise CheckpointError(f"{path}: truncated or corrupt weights file")
        return
    try:
        with open(path, "rb") as file:
            (length,) = struct.unpack("<Q", file.read(8))
            if length > size - 8:
                raise ValueError
            header = json.loads(file.read(length))
        end = max((entry["data_offsets"][1] for name, entry in header.items() if name != "__metadata__"), default=0)
    except (ValueError, struct.error, KeyError, TypeError, AttributeError):
        raise CheckpointError(f"{path}: truncated or corrupt safetensors file (its header is unreadable)") from None
    if 8 + length + end != size:
        raise CheckpointError(
            f"{path}: truncated or corrupt safetensors file ({size:,} bytes, its header says {8 + length + end:,})"
        )


def _check_loaded(folder: Path, info: dict[str, Any]) -> None:
    """Make what transformers only warns of an error."""
    missing, mismatched = sorted(info["missing_keys"]), sorted(info["mismatched_keys"])
    if mismatched:
        shown = ", ".join(f"{name} {tuple(found)} instead of {tuple(want)}" for name, found, want in mismatched[:3])
        raise CheckpointError(f"{folder}: {len(mismatched)} weights of a wrong shape: {shown}")
    if missing:
        more = ", ..." if len(missing) > 3 else ""
        raise CheckpointError(f"{folder}: {len(missing)} weights missing: {', '.join(missing[:3])}{more}")


def _dtype(dtype: str | torch.dtype, config: Any, device: torch.device | str | None) -> Any:
    if isinstance(dtype, torch.dtype):
        return dtype
    if dtype == "auto":
        return config.select_dtype(device) if isinstance(config, QWenConfig) else "auto"
    if dtype not in DTYPES:
        raise ValueError(f"dtype must be auto, {', '.join(DTYPES)} or a torch.dtype, not {dtype!r}")
    return DTYPES[dtype]


def load_model(
    path: str | Path,
    dtype: str | torch.dtype = "auto",
    device: str | torch.device | None = None,
    attn_implementation: str | None = None,
    device_map: Any = None,
    use_dynamic_ntk: bool | None = None,
    use_logn_attn: bool | None = None,
    window_attn: Any = None,
) -> Any:
    """A causal LM (a PreTrainedModel with `generate`) in evaluation mode.

    Args:
        path: folder or hub id.
        dtype: "auto" is `QWenConfig.select_dtype` for first-generation Qwen, the checkpoint's dtype for others.
        device: default CUDA if there is one, else the CPU; not with `device_map`.
        attn_implementation: "sdpa", "eager", "flash_attention_2", "flex_attention" or a registered name; default
            transformers' choice.
        device_map: accelerate's, such as "auto".
        use_dynamic_ntk, use_logn_attn, window_attn: long-context switches of first-generation Qwen, see
            `long_context.resolve`; None as the checkpoint has them.

    Raises:
        CheckpointError: anything wrong with the checkpoint, or switches that do not fit it.
        ValueError: an unknown dtype.
    """
    folder = checkpoint_folder(path)
    config = load_config(folder)
    is_qwen = isinstance(config, QWenConfig)
    if is_qwen and (getattr(config, "quantization_config", None) or (folder / "quantize_config.json").is_file()):
        raise CheckpointError(f"{folder}: a quantised checkpoint; GPTQ is not supported yet")
    try:
        switches = given_switches(config, use_dynamic_ntk, use_logn_attn, window_attn)
    except ValueError as error:
        raise CheckpointError(f"{folder}: {error}") from None
    if device_map is None:
        device = device or ("cuda" if torch.cuda.is_available() else "cpu")
    torch_dtype = _dtype(dtype, config, device)
    for file in _weight_files(folder):
        _check_weight_file(file)
    options: dict[str, Any] = {"dtype": torch_dtype, "attn_implementation": attn_implementation}
    options["device_map"] = device_map
    if device_map is None and str(device) != "cpu" and is_accelerate_available():
        options["device_map"] = {"": device}  # straight to the device, without a copy in the host's memory
    cls: Any = QWenLMHeadModel if is_qwen else AutoModelForCausalLM
    try:
        with _quiet():
            model, info = cls.from_pretrained(
                folder,
                config=config,
                output_loading_info=True,
                ignore_mismatched_sizes=True,  # collected, and refused below with their names
                **({} if is_qwen else {"trust_remote_code": False}),
                **{name: value for name, value in options.items() if value is not None},
            )
    except torch.OutOfMemoryError:
        raise
    except Exception as error:
        raise CheckpointError(f"{folder}: the model does not load: {error}") from error
    _check_loaded(folder, info)
    if switches is not None:
        model.long_context = switches
    if device_map is None:
        model = model.to(device)
    return model.eval()


def is_chat(path_or_model: str | Path | PreTrainedModel) -> bool:
    """Whether a checkpoint is a chat model.

    First-generation Qwen: generation_config.json says chat_format "chatml". Others: the tokenizer has a chat template.
    """
    if isinstance(path_or_model, PreTrainedModel):
        if path_or_model.config.model_type == QWenConfig.model_type:
            return getattr(path_or_model.generation_config, "chat_format", None) == "chatml"
        path_or_model = path_or_model.config._name_or_path
    folder = checkpoint_folder(path_or_model)
    if _model_type(folder) == QWenConfig.model_type:
        generation = folder / "generation_config.json"
        return generation.is_file() and _read_json(generation).get("chat_format") == "chatml"
    if (folder / "chat_template.jinja").is_file() or (folder / "chat_template.json").is_file():
        return True
    tokenizer_config = folder / "tokenizer_config.json"
    return tokenizer_config.is_file() and bool(_read_json(tokenizer_config).get("chat_template"))
