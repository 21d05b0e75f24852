"""Whether the weights of a checkpoint are those of the model that its config.json describes.

By names, shapes and dtypes alone, so before anything is loaded: transformers only warns where tensors are missing or
have no place in the model, and gives such a model random weights, or leaves a part of the trained ones out.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

import torch
from transformers import AutoModelForCausalLM

from .checkpoint import ADAPTER, CheckpointError, Tensor, read_json, read_tensors, tensors, weight_files
from .configuration import QWenConfig
from .gptq import packing_of
from .modeling import QWenLMHeadModel


def examine(folder: Path, config: Any) -> str | None:
    """Refuse what cannot be run; how the checkpoint is quantised, where transformers may know how to run that."""
    files = weight_files(folder)
    found = tensors(files)
    if (folder / ADAPTER).is_file() and any(folder.glob("adapter_model.*")):
        raise CheckpointError(f"{folder}: a whole model and a PEFT adapter in one folder; move one of them out of it")
    content = read_json(folder / "config.json")
    if quantised := quantised_with(folder, content, found):
        method, known = quantised
        is_qwen = isinstance(config, QWenConfig)
        if is_qwen and method == "GPTQ" and config.gptq is None:
            raise CheckpointError(
                f"{folder}: packed GPTQ weights, but neither config.json nor quantize_config.json says how"
            )
        if not (is_qwen and method == "GPTQ"):
            if is_qwen or not known:
                raise CheckpointError(
                    f"{folder}: a quantised checkpoint; {method} is not supported yet: give the float checkpoint"
                )
            return method
        if not any(name.endswith(".qweight") for name in found):
            raise CheckpointError(
                f"{folder}: its configuration says GPTQ, but no weight in the files is packed (qweight)"
            )
        found = without_empty_biases(folder, files, found, config)
    if found:
        _compare(folder, config, found)
    return None


def _compare(folder: Path, config: Any, found: Mapping[str, Tensor]) -> None:
    """Compare the files' tensors with the model that config.json describes, before it takes any memory.

    First-generation Qwen by every name and shape; another family, whose names transformers may convert, by its number
    of layers and by the shapes under equal names.
    """
    wanted_layers = getattr(config.get_text_config(), "num_hidden_layers", None)
    there = layers(found)
    if isinstance(wanted_layers, int) and 0 < there < wanted_layers:
        raise CheckpointError(
            f"{folder}: weights missing: config.json says {wanted_layers:,} layers (num_hidden_layers), "
            f"the files have {there}"
        )
    is_qwen = isinstance(config, QWenConfig)
    try:
        model = on_meta(config)
    except Exception as error:
        if is_qwen:
            raise CheckpointError(f"{folder}: {error}") from error
        return  # loading says what is wrong
    wanted = {name: tuple(tensor.shape) for name, tensor in model.state_dict().items()}
    wrong = [
        (name, found[name].shape, shape)
        for name, shape in wanted.items()
        if name in found and found[name].shape != shape and not HARMLESS.search(name)
    ]
    if is_qwen and config.gptq is not None:
        refuse_other_packing(folder, found, config)
    refuse_misshaped(folder, wrong)
    if is_qwen:
        tied = {"lm_head.weight"} if config.tie_word_embeddings else set()
        missing = wanted.keys() - found.keys() - tied
        missing = {name for name in missing if not name.endswith(".g_idx")}  # which may be left out
        if not wanted.keys() & found.keys():  # all under other names: these say why
            refuse_unused(folder, found.keys() - wanted.keys(), wanted_layers)
        refuse_missing(folder, missing)
        refuse_unused(folder, found.keys() - wanted.keys(), wanted_layers)


def on_meta(config: Any) -> Any:
    """The model of a configuration, without memory for its weights."""
    with torch.device("meta"):
        is_qwen = isinstance(config, QWenConfig)
        return QWenLMHeadModel(config) if is_qwen else AutoModelForCausalLM.from_config(config)


def check_loaded(folder: Path, config: Any, info: dict[str, Any]) -> None:
    """Make what transformers only warns of an error."""
    missing, unexpected = set(info["missing_keys"]), set(info["unexpected_keys"])
    if getattr(config, "gptq", None) is not None:  # `examine` has looked at these
        missing = {name for name in missing if not name.endswith(".g_idx")}
        unexpected = {name for name in unexpected if not name.endswith(".bias")}
    refuse_misshaped(folder, sorted(info["mismatched_keys"]))
    refuse_missing(folder, missing)
    wanted_layers = getattr(config.get_text_config(), "num_hidden_layers", None)
    refuse_unused(folder, unexpected, wanted_layers)


def refuse_misshaped(folder: Path | str, wrong: list[tuple[str, Any, Any]]) -> None:
    if wrong:
        shown = ", ".join(f"{name} {tuple(found)} instead of {tuple(want)}" for name, found, want in wrong[:3])
        raise CheckpointError(f"{folder}: {len(wrong)} weights of a wrong shape: {shown}")


def refuse_missing(folder: Path, names: Any) -> None:
    if names:
        raise CheckpointError(f"{folder}: {len(names)} weights missing: {some(names)}")


# -- quantised weights -------------------------------------------------------------------------------------------------

QUANTISED = {
    "gptq": "GPTQ",
    "awq": "AWQ",
    "bitsandbytes": "bitsandbytes",
    "fp8": "FP8",
    "compressed-tensors": "llm-compressor",
}


def quantised_with(folder: Path, config: Mapping[str, Any], found: Mapping[str, Tensor]) -> tuple[str, bool] | None:
    """How a checkpoint is quantised, and whether its config.json says so; None where it is not."""
    if settings := config.get("quantization_config"):
        method = str(settings.get("quant_method", "")).lower() if isinstance(settings, dict) else ""
        if not method and isinstance(settings, dict) and any(key.startswith("load_in_") for key in settings):
            method = "bitsandbytes"
        return QUANTISED.get(method, method or "an unknown method"), True
    if any(".quant_state." in name or name.endswith((".SCB", ".absmax")) for name in found):
        return "bitsandbytes", False
    if packed := [name for name in found if name.endswith(".qweight")]:
        stem = packed[0].removesuffix("qweight")
        # GPTQ packs the input's dimension and AWQ the output's: with AWQ `scales` are wider than the packed weights.
        scales = found.get(f"{stem}scales")
        wider = scales is not None and scales.shape[-1] > found[packed[0]].shape[-1]
        return ("AWQ" if wider and f"{stem}g_idx" not in found else "GPTQ"), False
    for name, method in (("quantize_config.json", "GPTQ"), ("quant_config.json", "AWQ")):
        if (folder / name).is_file():
            return method, False
    if any(tensor.dtype.startswith("F8") for tensor in found.values()):
        return "FP8", False
    return None


def refuse_other_packing(folder: Path, found: Mapping[str, Tensor], config: QWenConfig) -> None:
    """CheckpointError where the packed weights have other bits than config.json says, or lack their scales."""
    packing = packing_of(config.gptq or {})
    for name, tensor in found.items():
        if name.endswith("h.0.attn.c_attn.qweight") and tensor.shape[0]:
            bits = 32 * tensor.shape[0] / config.hidden_size
            if bits != packing.bits:
                raise CheckpointError(
                    f"{folder}: the weights are packed with {bits:g} bits, config.json says {packing.bits}"
                )
    stems = {name.removesuffix("qweight") for name in found if name.endswith(".qweight")}
    for part in ("scales", "qzeros"):
        if lacking := sorted(stem for stem in stems if f"{stem}{part}" not in found):
            raise CheckpointError(f"{folder}: {len(lacking)} packed layers without {part}: {some(lacking)}")


def without_empty_biases(
    folder: Path, files: Iterable[Path], found: Mapping[str, Tensor], config: QWenConfig
) -> dict[str, Tensor]:
    """The tensors less the biases that AutoGPTQ writes for layers without one: all of them zero, or CheckpointError."""
    written = {name for name in found if re.search(r"\.(?:attn\.c_proj|mlp\.(?:w1|w2|c_proj))\.bias$", name)}
    if not config.no_bias or not written:
        return dict(found)
    for path in files:
        for name, values in read_tensors(path, written):
            if values.any():
                raise CheckpointError(
                    f"{folder}: {name} is not zero, and config.json says that there is none (no_bias)"
                )
    return {name: tensor for name, tensor in found.items() if name not in written}


# -- tensors that do not fit -------------------------------------------------------------------------------------------

# What some checkpoints carry and no causal LM of transformers needs: tables that are computed, causal masks, the
# pictures' and sounds' towers of a multimodal model that is read as its language model, multi-token prediction.
HARMLESS = re.compile(
    r"(?:^|\.)(?:rotary_emb\.inv_freq|(?:attn|attention)\.(?:masked_)?bias|position_ids"
    r"|rotary_emb\.(?:cos|sin)_cached)$"
    r"|(?:^|\.)(?:visual|vision_tower|vision_model|audio_tower|multi_modal_projector|mtp)\."
)
_LAYER = re.compile(r"^(?:\w+\.)*?(?:h|layers|blocks|layer|block)\.(\d+)\.")


def layers(names: Iterable[str]) -> int:
    """The number of layers by the highest index in the tensors' names; 0 where no name has one."""
    found = (_LAYER.match(name) for name in names if not HARMLESS.search(name))
    return max((int(match[1]) + 1 for match in found if match), default=0)


def some(names: Iterable[str]) -> str:
    """The first three of these names."""
    listed = sorted(names)
    return ", ".join(listed[:3]) + (", ..." if len(listed) > 3 else "")


def refuse_unused(folder: Path, names: Iterable[str], wanted_layers: int | None) -> None:
    """CheckpointError where tensors of the files have no place in the model: figures would be another model's."""
    unused = sorted(name for name in names if not HARMLESS.search(name))
    if unused:
        count = f"{len(unused)} tensor{'s' * (len(unused) > 1)} that the model does not use"
        raise CheckpointError(f"{folder}: {count}: {some(unused)} ({_why_unused(unused, wanted_layers)})")


def _why_unused(names: list[str], wanted_layers: int | None) -> str:
    def every(prefix: str) -> bool:
        return all(name.startswith(prefix) for name in names)

    if any("lora_" in name for name in names):
        return "LoRA weights that were never merged: merge_and_unload() and save again"
    if any(".base_layer." in name for name in names) or every("base_model."):
        return "saved with PEFT's layers around the model: merge_and_unload() and save again"
    for prefix, wrapper in (("module.", "DataParallel"), ("_orig_mod.", "torch.compile"), ("_fsdp_wrapped", "FSDP")):
        if every(prefix):
            return f"saved through {wrapper}: save the model inside it"
    beyond = [match for match in map(_LAYER.match, names) if match]
    if wanted_layers is not None and len(beyond) == len(names) and all(int(m[1]) >= wanted_layers for m in beyond):
        return f"config.json says {wanted_layers} layers (num_hidden_layers), the files have {layers(names)}"
    if all(re.match(r"(?:v_head|score|classifier|value_head|reward_head)\b", name) for name in names):
        return "the head of a reward or value model, not of a language model"
    if all(re.match(r"(?:lm_head|embed_out|output)\.bias$", name) for name in names):
        return "a bias of the head: this architecture has none, so its replies would be another model's"
    if all(name.endswith(".bias") for name in names):
        return "biases where config.json says that there are none"
    return "they are of another architecture or of another config.json"
