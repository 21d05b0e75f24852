"""PEFT adapters (LoRA, DoRA, QLoRA): whose they are, whether they fit, and how a model gets their weights.

PEFT does the work. Float layers are merged with their adapter, so the model runs as fast as without one. A GPTQ layer
keeps its packed weights, which a merge would round again, and gets the adapter beside them: y = base(x) + s * B(A(x)).
What comes out is the base model's own class, without PEFT's layers around it.

LoRA: Hu et al. 2021, arXiv 2106.09685; DoRA: Liu et al. 2024, arXiv 2402.09353; QLoRA: Dettmers et al. 2023,
arXiv 2305.14314.
"""

from __future__ import annotations

import contextlib
import re
import warnings
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import torch

from .checkpoint import (
    ADAPTER,
    WEIGHT_FILES,
    CheckpointError,
    Tensor,
    check_whole,
    checkpoint_folder,
    read_json,
    read_tensors,
    tensors,
)
from .configuration import QWenConfig
from .fit import on_meta, refuse_misshaped, some
from .gptq import PACKED, GPTQLinear

FILES = ("adapter_model.safetensors", "adapter_model.bin")
#: what a run depends on, for its identity
IDENTITY = (ADAPTER, "generation_config.json", *FILES)
SUPPORTED = "LORA is supported (LoRA, DoRA, rsLoRA, QLoRA)"
_LAYER = re.compile(r"\.(?:h|layers|blocks|layer|block)\.(\d+)\.")


def is_adapter(folder: Path) -> bool:
    """Whether a folder is a PEFT adapter, and not a whole model that has an adapter's settings left over in it."""
    return (folder / ADAPTER).is_file() and not any((folder / name).exists() for name in WEIGHT_FILES)


def base_and_adapter(
    path: str | Path, adapter: str | Path | None = None, fetch: Callable[[str | Path], Path] = checkpoint_folder
) -> tuple[Path, Path | None]:
    """The folders of the base model and of the adapter, if there is one: `path` may itself be an adapter.

    fetch: gives the folder of a path or hub id.

    Raises:
        CheckpointError: the adapter is none, it has no base that can be found, or there are two of them.
    """
    folder = fetch(path)
    if adapter is None:
        return (_base_of(folder, fetch), folder) if is_adapter(folder) else (folder, None)
    found = fetch(adapter)
    if not (found / ADAPTER).is_file():
        raise CheckpointError(f"{found}: not a PEFT adapter: no {ADAPTER} in it")
    if is_adapter(folder):
        raise CheckpointError(f"{found}: an adapter on an adapter: {folder} is one, too; merge that into its base")
    return folder, found


def _base_of(folder: Path, fetch: Callable[[str | Path], Path]) -> Path:
    """The base model of an adapter: a path (from here, or from the adapter's folder), or a hub id."""
    settings = _settings(folder)
    named = settings.get("base_model_name_or_path")
    what = f"{folder}: {_called(settings)}"
    if not named or not isinstance(named, str):
        raise CheckpointError(f"{what}: it does not say of which; give the base model, and this with --adapter")
    beside = folder / named
    try:
        base = beside if not Path(named).is_dir() and beside.is_dir() else fetch(named)
    except CheckpointError as error:
        raise CheckpointError(
            f"{what}: its base model cannot be found ({error}); give that, and this with --adapter"
        ) from error
    if is_adapter(base):
        raise CheckpointError(f"{folder}: an adapter on an adapter: its base model {base} is one; merge that first")
    return base


def _called(settings: dict[str, Any]) -> str:
    return f"a PEFT adapter (LoRA or the like) of {settings.get('base_model_name_or_path') or 'some model'}"


def _settings(folder: Path) -> dict[str, Any]:
    """adapter_config.json. CheckpointError for another kind than LoRA, or what is no causal language model's."""
    settings = read_json(folder / ADAPTER)
    kind, task = settings.get("peft_type"), settings.get("task_type")
    if str(kind).upper() != "LORA":
        raise CheckpointError(f"{folder}: {_called(settings)}: its peft_type is {kind!r}, and only {SUPPORTED}")
    if task not in (None, "CAUSAL_LM"):
        raise CheckpointError(f"{folder}: {_called(settings)}: trained for {task}, not as a causal language model")
    return {**settings, "peft_type": "LORA"}


def weights_file(folder: Path) -> Path:
    """The file of an adapter's weights, whole by its length. CheckpointError where there is none."""
    for name in FILES:
        if (folder / name).is_file():
            check_whole(folder / name)
            return folder / name
    said = _called(read_json(folder / ADAPTER))
    raise CheckpointError(f"{folder}: {said} without its weights: no {' or '.join(FILES)} in it")


def _tensors(folder: Path) -> dict[str, Tensor]:
    file = weights_file(folder)
    if not (found := tensors([file])):
        raise CheckpointError(f"{file}: no tensors in it that can be read")
    return found


# -- does it fit? ------------------------------------------------------------------------------------------------------


def examine(adapter: Path, folder: Path, config: Any) -> None:
    """Compare an adapter with the base model in `folder`, by names and shapes alone.

    Raises:
        CheckpointError: it is of another kind or another model, or a part of it is missing.
    """
    settings, found = _settings(adapter), _tensors(adapter)
    for name in ("use_dora", "use_qalora"):
        if settings.get(name) and beside_packed(adapter, config):
            raise CheckpointError(
                f"{adapter}: {name} on packed layers is not supported; train LoRA, or on the float checkpoint"
            )
    with torch.device("meta"):
        model = _wrapped(adapter, {**settings, "init_lora_weights": True}, on_meta(config))
        _compare(adapter, folder, {name: tensor.shape for name, tensor in found.items()}, model)
        _without_layers_of_peft(adapter, model)  # what cannot be merged is known before the model is loaded


def _compare(adapter: Path, folder: Path, found: dict[str, tuple[int, ...]], model: Any) -> None:
    """CheckpointError unless the file's tensors are those that PEFT would save of this model."""
    from peft import get_peft_model_state_dict

    with _without_warnings():
        saved = get_peft_model_state_dict(model, save_embedding_layers=False)
    wanted = {name: tuple(tensor.shape) for name, tensor in saved.items()}
    known = {name: tuple(tensor.shape) for name, tensor in model.state_dict().items()} | wanted
    what = f"{adapter}: an adapter for another model than {folder}"
    if unknown := found.keys() - known.keys():
        there, own = _layers(list(found)), _layers(list(known))
        why = f"the adapter has {there} layers, the model {own}" if there > own else some(unknown)
        raise CheckpointError(f"{what}: {len(unknown)} tensors have no place in it ({why})")
    if resized := [name for name, shape in found.items() if _is_resized(name, shape, known[name])]:
        name = sorted(resized)[0]
        raise CheckpointError(
            f"{adapter}: trained with {found[name][0]:,} embeddings, the model has {known[name][0]:,} ({name}): merge "
            "it into its base (merge_and_unload), save model and tokenizer, and give that folder"
        )
    wrong = [(name, shape, known[name]) for name, shape in found.items() if shape != known[name]]
    refuse_misshaped(what, wrong)
    if missing := wanted.keys() - found.keys():
        raise CheckpointError(
            f"{what}, or not all of one: {len(missing)} tensors that {ADAPTER} asks for are missing: {some(missing)}"
        )


def _is_resized(name: str, found: tuple[int, ...], wanted: tuple[int, ...]) -> bool:
    """Whether an embedding or head has other rows than the model, and rows alone."""
    return "lora_" not in name and len(found) == len(wanted) == 2 and found[0] != wanted[0] and found[1] == wanted[1]


def _layers(names: list[str]) -> int:
    return max((int(match[1]) + 1 for match in map(_LAYER.search, names) if match), default=0)


def beside_packed(adapter: Path, config: Any) -> bool:
    """Whether an adapter stays beside the weights of quantised layers, and is not merged into all of them."""
    if not isinstance(config, QWenConfig):
        return getattr(config, "quantization_config", None) is not None
    names = _tensors(adapter) if config.gptq is not None else {}
    return any(f".{layer}.lora_" in name for name in names for layer in PACKED)


def is_untrained(adapter: Path) -> bool:
    """Whether an adapter changes nothing: nothing but LoRA weights, and all of lora_B still zero."""
    file, names = weights_file(adapter), _tensors(adapter)
    if any(not re.search(r"\.lora_[AB]\.weight$", name) for name in names):
        return False
    return not any(values.any() for _, values in read_tensors(file, [name for name in names if ".lora_B." in name]))


# -- onto the model ----------------------------------------------------------------------------------------------------


def apply(model: Any, adapter: Path) -> Any:
    """Give a loaded base model the weights of an adapter; returns the model, of the same class as before.

    Raises:
        CheckpointError: PEFT is not installed, or cannot read the adapter.
    """
    wrapped = _wrapped(adapter, _settings(adapter), model)
    from peft import set_peft_model_state_dict

    from .packed_lora import AdaptedLinear

    weights = dict(read_tensors(weights_file(adapter), _tensors(adapter)))
    if broken := sorted(name for name, values in weights.items() if not values.isfinite().all()):
        raise CheckpointError(f"{adapter}: {len(broken)} tensors have values that are no numbers: {some(broken)}")
    with _without_warnings():
        set_peft_model_state_dict(wrapped, weights)
    plain = _without_layers_of_peft(adapter, wrapped)
    for module in plain.modules():
        if isinstance(module, AdaptedLinear):
            module.cast(plain.dtype)
    return plain


def _without_layers_of_peft(adapter: Path, wrapped: Any) -> Any:
    """The base model with the adapter merged into it, or beside packed weights. PEFT's layers stay where transformers
    runs the quantised layers of another family."""
    model = wrapped.get_base_model()
    if not isinstance(model.config, QWenConfig) and beside_packed(adapter, model.config):
        return model
    try:
        with _without_warnings():
            return wrapped.merge_and_unload()
    except torch.OutOfMemoryError:
        raise
    except Exception as error:
        raise CheckpointError(f"{adapter}: the adapter cannot be merged into the model: {error}") from error


@contextlib.contextmanager
def _without_warnings() -> Iterator[None]:
    """Without PEFT's warnings: what they say that matters is an error here."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        yield


def _wrapped(adapter: Path, settings: dict[str, Any], model: Any) -> Any:
    """The model with PEFT's layers, as the settings say."""
    try:
        from peft import LoraConfig, PeftModel
        from peft import __version__ as peft_version
    except ImportError as error:
        raise CheckpointError(
            f"{adapter}: adapters want the package peft ({error}); pip install 'qwen-eval[adapters]'"
        ) from error
    from .packed_lora import PackedLora

    known = {name: value for name, value in settings.items() if name in LoraConfig.__dataclass_fields__}
    if newer := [f"{name} ({settings[name]})" for name in settings.keys() - known.keys() if settings[name]]:
        raise CheckpointError(
            f"{adapter / ADAPTER}: {', '.join(sorted(newer))}: peft {peft_version} does not know it; take a newer one"
        )
    try:
        with _without_warnings():
            config = LoraConfig(**known | {"inference_mode": True})
            config._register_custom_module({GPTQLinear: PackedLora})
            return PeftModel(model, config)
    except torch.OutOfMemoryError:
        raise
    except Exception as error:
        raise CheckpointError(f"{adapter}: an adapter for another model: {error}") from error
