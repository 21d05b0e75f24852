"""Load a checkpoint - first-generation Qwen by our classes, any other causal LM by its class in transformers.

Code that comes with a checkpoint is never run. What is wrong with a checkpoint is one line (`CheckpointError`):
transformers 5 only warns of missing weights, and a truncated shard gives no file name there.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import torch
import transformers
from transformers import AutoConfig, AutoModelForCausalLM, AutoTokenizer, GenerationConfig
from transformers.utils import is_accelerate_available

from . import adapters, fit
from .chat_format import check_generation, generation_folder, is_chat
from .checkpoint import CheckpointError, checkpoint_folder, model_type, read_json, readable, refuse_pointer
from .configuration import QWenConfig
from .gptq import packing_of
from .gptq_backends import use_backend
from .int8_cache import choose_kv_cache
from .long_context import given_switches
from .modeling import QWenLMHeadModel
from .quiet import quiet
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


def load_tokenizer(path: str | Path) -> Any:
    """The tokenizer of a checkpoint: QWenTokenizer for first-generation Qwen, else transformers' own. Of an adapter it
    is that of its base.

    Raises:
        CheckpointError: no such folder, or no usable tokenizer in it.
    """
    folder, _ = adapters.base_and_adapter(path)
    cls = _tokenizer_class(folder)
    try:
        with quiet(), readable(folder) as place:
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
    is_qwen = is_qwen or (not is_other and model_type(folder) == QWenConfig.model_type)
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
    kind = model_type(folder)
    if kind not in transformers.CONFIG_MAPPING:
        raise CheckpointError(
            f"{folder}: transformers {transformers.__version__} has no class for model_type {kind!r}, "
            "and code from a checkpoint is never run"
        )
    try:
        with quiet(), readable(folder) as place:
            config = _with_known_dtype(folder, kind) or AutoConfig.from_pretrained(place, trust_remote_code=False)
    except CheckpointError:
        raise
    except Exception as error:
        raise CheckpointError(f"{folder}: {error}") from error
    config._name_or_path = str(folder)
    if isinstance(config, QWenConfig) and config.gptq is None:
        _add_packing(folder, config)
    if type(config) not in AutoModelForCausalLM._model_mapping:
        raise CheckpointError(f"{folder}: model_type {kind!r} is not a causal language model")
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


def _with_known_dtype(folder: Path, kind: str) -> Any:
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
    return transformers.CONFIG_MAPPING[kind].from_dict({**content, **known})


def check_checkpoint(path: str | Path, adapter: str | Path | None = None) -> None:
    """Examine a checkpoint by its configuration and its files' headers, in a moment and without its weights: what is
    certain to fail is known before anything else is fetched or loaded. adapter: the PEFT adapter that is to go on it.

    Raises:
        CheckpointError: anything wrong with one of them, or they do not belong together.
    """
    folder, on_it = adapters.base_and_adapter(path, adapter) if adapter else (checkpoint_folder(path), None)
    config = load_config(folder)
    with quiet():
        fit.examine(folder, config)
        if on_it is not None:
            adapters.examine(on_it, folder, config)
    check_generation(folder)
    tokenizer = load_tokenizer(folder)
    if on_it is not None:
        check_generation(on_it)
        _check_adapters_tokenizer(on_it, folder, tokenizer)
    ids = tokenizer.vocab_size
    embedded = getattr(config.get_text_config(), "vocab_size", None)
    if isinstance(embedded, int) and ids > embedded:
        raise CheckpointError(
            f"{folder}: the tokenizer has {ids:,} ids, the model (vocab_size) {embedded:,}: they do not belong together"
        )


def _check_adapters_tokenizer(adapter: Path, folder: Path, tokenizer: Any) -> None:
    """Refuse an adapter that was trained with other tokens than its base has, whose tokenizer is in use."""
    vocab = VOCAB_FILES["vocab_file"]
    if isinstance(tokenizer, QWenTokenizer):
        same = not (adapter / vocab).is_file() or (adapter / vocab).read_bytes() == (folder / vocab).read_bytes()
    elif any((adapter / name).is_file() for name in TOKENIZER_FILES):
        try:
            with quiet(), readable(adapter) as place:
                own = AutoTokenizer.from_pretrained(place, trust_remote_code=False)
        except Exception as error:
            raise CheckpointError(f"{adapter}: the adapter's tokenizer does not load: {error}") from error
        same = own.get_vocab() == tokenizer.get_vocab()
    else:
        same = True
    if not same:
        raise CheckpointError(
            f"{adapter}: the tokenizer beside the adapter has other tokens than that of {folder}: merge the adapter "
            "into its base (merge_and_unload), save model and tokenizer, and give that folder"
        )


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
    kv_cache: str = "auto",
    adapter: str | Path | None = None,
    gptq_backend: str = "reference",
) -> Any:
    """A causal LM (a PreTrainedModel with `generate`) in evaluation mode.

    Args:
        path: folder or hub id; of a PEFT adapter, too, which then says what its base model is.
        dtype: "auto" is `QWenConfig.select_dtype` for first-generation Qwen, the checkpoint's dtype for others.
        device: default CUDA if there is one, else the CPU; not with `device_map`.
        attn_implementation: "sdpa", "eager", "flash_attention_2", "flex_attention" or a registered name; default
            transformers' choice.
        device_map: accelerate's, such as "auto".
        use_dynamic_ntk, use_logn_attn, window_attn: long-context switches of first-generation Qwen, see
            `long_context.resolve`; None as the checkpoint has them.
        kv_cache: "int8" is the published cache in 8 bits of first-generation Qwen, "auto" as the checkpoint has it.
        adapter: folder or hub id of a PEFT adapter that goes on the model (adapters.py).
        gptq_backend: how the packed layers of first-generation Qwen run (gptq_backends.py); the model's attribute
            `gptq_backend` says what it came to, None without such layers.

    Raises:
        CheckpointError: anything wrong with the checkpoint or adapter, or switches that do not fit it.
        ValueError: an unknown dtype.
    """
    folder, on_it = adapters.base_and_adapter(path, adapter)
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
    with quiet():
        quantised = fit.examine(folder, config)
        if on_it is not None:
            adapters.examine(on_it, folder, config)
    options: dict[str, Any] = {"dtype": torch_dtype, "attn_implementation": attn_implementation}
    options["device_map"] = device_map
    if device_map is None and str(device) != "cpu" and is_accelerate_available():
        options["device_map"] = {"": device}  # straight to the device, without a copy in the host's memory
    cls: Any = QWenLMHeadModel if is_qwen else AutoModelForCausalLM
    try:
        with quiet(), readable(folder) as place:
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
    fit.check_loaded(folder, config, info)
    if on_it is not None:
        model = _with_adapter(model, folder, on_it)
    model.config._name_or_path = str(folder)
    if switches is not None:
        model.long_context = switches
    if device_map is None:
        model = model.to(device)
    try:
        use_backend(model, gptq_backend)
    except ValueError as error:
        raise CheckpointError(f"{folder}: {error}") from None
    return model.eval()


def _with_adapter(model: Any, folder: Path, adapter: Path) -> Any:
    """The model with an adapter's weights, and its settings of generation where it has such."""
    with quiet():
        model = adapters.apply(model, adapter)
    if (place := generation_folder(folder, adapter)) != folder:
        check_generation(place)
        model.generation_config = GenerationConfig.from_pretrained(place)
    return model
