"""Load a checkpoint - first-generation Qwen by our classes, any other causal LM by its class in transformers.

Code that comes with a checkpoint is never run. What is wrong with a checkpoint is one line (`CheckpointError`):
transformers 5 only warns of missing weights, and a truncated shard gives no file name there.
"""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import torch
import transformers
from transformers import AutoConfig, AutoModelForCausalLM, AutoTokenizer, PreTrainedModel
from transformers.utils import is_accelerate_available
from transformers.utils import logging as transformers_logging

from . import fit
from .checkpoint import CheckpointError, checkpoint_folder, read_json, readable, refuse_pointer
from .configuration import QWenConfig
from .gptq import packing_of
from .int8_cache import choose_kv_cache
from .long_context import given_switches
from .modeling import QWenLMHeadModel
from .tokenization import VOCAB_FILES, QWenTokenizer

__all__ = [
    "CheckpointError",
    "check_checkpoint",
    "checkpoint_folder",
    "is_chat",
    "load_config",
    "load_model",
    "load_tokenizer",
]

DTYPES = {
    "bfloat16": torch.bfloat16,
    "bf16": torch.bfloat16,
    "float16": torch.float16,
    "fp16": torch.float16,
    "float32": torch.float32,
    "fp32": torch.float32,
}
TOKENIZER_FILES = ("tokenizer.json", "tokenizer.model", "vocab.json", "vocab.txt", "spiece.model", "tekken.json")


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


def _model_type(folder: Path) -> str:
    model_type = read_json(folder / "config.json").get("model_type")
    if not model_type:
        raise CheckpointError(f"{folder / 'config.json'}: no model_type in it")
    if not isinstance(model_type, str):
        raise CheckpointError(f"{folder / 'config.json'}: model_type is {model_type!r}, not a text")
    return model_type


def load_tokenizer(path: str | Path) -> Any:
    """The tokenizer of a checkpoint: QWenTokenizer for first-generation Qwen, else transformers' own.

    Raises:
        CheckpointError: no such folder, or no usable tokenizer in it.
    """
    folder = checkpoint_folder(path)
    cls = _tokenizer_class(folder)
    try:
        with _quiet(), readable(folder) as place:
            return cls.from_pretrained(place, **({} if cls is QWenTokenizer else {"trust_remote_code": False}))
    except Exception as error:
        raise CheckpointError(f"{folder}: the tokenizer does not load: {error}") from error


def _tokenizer_class(folder: Path) -> Any:
    """The class that loads the folder's tokenizer, once its files are there."""
    vocab = folder / VOCAB_FILES["vocab_file"]
    # The tokenizer's file alone is enough; a config.json is asked for only to tell another family.
    alone = not (folder / "config.json").is_file()
    is_qwen = alone and vocab.is_file()
    is_other = alone and not is_qwen and (folder / "tokenizer.json").is_file()
    is_qwen = is_qwen or (not is_other and _model_type(folder) == QWenConfig.model_type)
    files = [vocab] if is_qwen else [folder / name for name in TOKENIZER_FILES]
    there = [file for file in files if file.is_file()]
    if not there:
        said = f"{vocab.name} is missing" if is_qwen else f"none of {', '.join(TOKENIZER_FILES)}"
        raise CheckpointError(f"{folder}: no tokenizer in it ({said})")
    for file in there:
        refuse_pointer(file)
    return QWenTokenizer if is_qwen else AutoTokenizer


def load_config(path: str | Path) -> Any:
    """The configuration of a causal LM.

    Raises:
        CheckpointError: no config.json, an invalid one, or one of a model that transformers has no causal-LM class for.
    """
    folder = checkpoint_folder(path)
    model_type = _model_type(folder)
    if model_type not in transformers.CONFIG_MAPPING:
        raise CheckpointError(
            f"{folder}: transformers {transformers.__version__} has no class for model_type {model_type!r}, "
            "and code from a checkpoint is never run"
        )
    try:
        with _quiet(), readable(folder) as place:
            config = _with_known_dtype(folder, model_type) or AutoConfig.from_pretrained(place, trust_remote_code=False)
    except CheckpointError:
        raise
    except Exception as error:
        raise CheckpointError(f"{folder}: {error}") from error
    config._name_or_path = str(folder)
    if isinstance(config, QWenConfig) and config.gptq is None:
        _add_packing(folder, config)
    if type(config) not in AutoModelForCausalLM._model_mapping:
        raise CheckpointError(f"{folder}: model_type {model_type!r} is not a causal language model")
    return config


def _add_packing(folder: Path, config: QWenConfig) -> None:
    """Take how GPTQ weights are packed from AutoGPTQ's own file, where config.json does not say it."""
    path = folder / "quantize_config.json"
    if path.is_file() and not hasattr(config, "quantization_config"):
        try:
            packing_of(settings := read_json(path))
        except ValueError as error:
            raise CheckpointError(f"{path}: {error}") from None
        config.gptq = {"quant_method": "gptq", **settings}


def _with_known_dtype(folder: Path, model_type: str) -> Any:
    """The configuration of a file whose dtype transformers cannot read (`torch.bfloat16`, `bf16`); else None."""
    content = read_json(folder / "config.json")
    stored = {name: content[name] for name in ("torch_dtype", "dtype") if isinstance(content.get(name), str)}
    plain = {name: text.removeprefix("torch.") for name, text in stored.items()}
    known = {name: DTYPES.get(text) or getattr(torch, text, None) for name, text in plain.items()}
    for name, dtype in known.items():
        if not isinstance(dtype, torch.dtype) or not dtype.is_floating_point:
            raise CheckpointError(
                f"{folder / 'config.json'}: {name} {stored[name]!r} is no floating-point dtype of torch"
            )
    if all(hasattr(torch, text) for text in stored.values()):
        return None
    return transformers.CONFIG_MAPPING[model_type].from_dict({**content, **known})


def check_checkpoint(path: str | Path) -> None:
    """Examine a checkpoint by its configuration and its files' headers, in a moment and without its weights: what is
    certain to fail is known before anything else is fetched or loaded.

    Raises:
        CheckpointError: anything wrong with it.
    """
    folder = checkpoint_folder(path)
    config = load_config(folder)
    with _quiet():
        fit.examine(folder, config)
    _check_generation(folder)
    ids = load_tokenizer(folder).vocab_size
    embedded = getattr(config.get_text_config(), "vocab_size", None)
    if isinstance(embedded, int) and ids > embedded:
        raise CheckpointError(
            f"{folder}: the tokenizer has {ids:,} ids, the model (vocab_size) {embedded:,}: they do not belong together"
        )


def _check_loaded(folder: Path, config: Any, info: dict[str, Any]) -> None:
    """Make what transformers only warns of an error."""
    missing, unexpected = set(info["missing_keys"]), set(info["unexpected_keys"])
    if getattr(config, "gptq", None) is not None:  # `fit.examine` has looked at these
        missing = {name for name in missing if not name.endswith(".g_idx")}
        unexpected = {name for name in unexpected if not name.endswith(".bias")}
    fit.refuse_misshaped(folder, sorted(info["mismatched_keys"]))
    fit.refuse_missing(folder, missing)
    wanted_layers = getattr(config.get_text_config(), "num_hidden_layers", None)
    fit.refuse_unused(folder, unexpected, wanted_layers)


def _dtype(dtype: str | torch.dtype, config: Any, device: torch.device | str | None) -> Any:
    if isinstance(dtype, torch.dtype):
        return dtype
    if dtype == "auto":
        return config.select_dtype(device) if isinstance(config, QWenConfig) else "auto"
    if dtype not in DTYPES:
        raise ValueError(f"dtype must be auto, {', '.join(DTYPES)} or a torch.dtype, not {dtype!r}")
    return DTYPES[dtype]


def _check_generation(folder: Path) -> None:
    """Refuse a generation_config.json whose fields would end or format replies in another way than it means to."""
    path = folder / "generation_config.json"
    content = read_json(path) if path.is_file() else {}
    if (chat_format := content.get("chat_format")) not in (None, "raw", "chatml"):
        raise CheckpointError(f"{path}: chat_format is {chat_format!r}, not 'raw' or 'chatml'")
    for name in ("eos_token_id", "pad_token_id"):
        ids = content.get(name)
        for one in ids if isinstance(ids, list) and name == "eos_token_id" else [ids]:
            if one is not None and (type(one) is not int or one < 0):
                raise CheckpointError(f"{path}: {name} is {ids!r}, not a token's id")


def load_model(
    path: str | Path,
    dtype: str | torch.dtype = "auto",
    device: str | torch.device | None = None,
    attn_implementation: str | None = None,
    device_map: Any = None,
    use_dynamic_ntk: bool | None = None,
    use_logn_attn: bool | None = None,
    window_attn: Any = None,
    kv_cache: str = "auto",
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
        kv_cache: "int8" is the published cache in 8 bits of first-generation Qwen, "auto" as the checkpoint has it.

    Raises:
        CheckpointError: anything wrong with the checkpoint, or switches that do not fit it.
        ValueError: an unknown dtype.
    """
    folder = checkpoint_folder(path)
    config = load_config(folder)
    is_qwen = isinstance(config, QWenConfig)
    try:
        choose_kv_cache(config, kv_cache)
        switches = given_switches(config, use_dynamic_ntk, use_logn_attn, window_attn)
    except ValueError as error:
        raise CheckpointError(f"{folder}: {error}") from None
    if device_map is None:
        device = device or ("cuda" if torch.cuda.is_available() else "cpu")
    try:
        torch_dtype = _dtype(dtype, config, device)
    except ValueError as error:
        raise (error if dtype != "auto" else CheckpointError(f"{folder}: {error}")) from None
    with _quiet():
        quantised = fit.examine(folder, config)
    options: dict[str, Any] = {"dtype": torch_dtype, "attn_implementation": attn_implementation}
    options["device_map"] = device_map
    if device_map is None and str(device) != "cpu" and is_accelerate_available():
        options["device_map"] = {"": device}  # straight to the device, without a copy in the host's memory
    cls: Any = QWenLMHeadModel if is_qwen else AutoModelForCausalLM
    try:
        with _quiet(), readable(folder) as place:
            model, info = cls.from_pretrained(
                place,
                config=config,
                output_loading_info=True,
                ignore_mismatched_sizes=True,  # collected, and refused below with their names
                **({} if is_qwen else {"trust_remote_code": False}),
                **{name: value for name, value in options.items() if value is not None},
            )
    except torch.OutOfMemoryError:
        raise
    except Exception as error:
        how = f"a checkpoint quantised with {quantised}, and transformers" if quantised else "the model"
        raise CheckpointError(f"{folder}: {how} does not load{' it here' if quantised else ''}: {error}") from error
    _check_loaded(folder, config, info)
    model.config._name_or_path = str(folder)
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
        return generation.is_file() and read_json(generation).get("chat_format") == "chatml"
    if (folder / "chat_template.jinja").is_file() or (folder / "chat_template.json").is_file():
        return True
    tokenizer_config = folder / "tokenizer_config.json"
    return tokenizer_config.is_file() and bool(read_json(tokenizer_config).get("chat_template"))
