"""Whether a checkpoint is a chat model, and the generation_config.json that says so: its own, or an adapter's."""

from __future__ import annotations

from pathlib import Path

from transformers import PreTrainedModel

from .checkpoint import CheckpointError, checkpoint_folder, model_type, read_json
from .configuration import QWenConfig


def check_generation(folder: Path) -> None:
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


def generation_folder(folder: Path, adapter: Path | None) -> Path:
    """The folder whose generation_config.json is in force: an adapter's where it says chat_format, else the base's."""
    path = adapter / "generation_config.json" if adapter is not None else None
    has_own = path is not None and path.is_file() and read_json(path).get("chat_format") is not None
    return adapter if has_own and adapter is not None else folder


def is_chat(path_or_model: str | Path | PreTrainedModel, adapter: Path | None = None) -> bool:
    """Whether a checkpoint is a chat model; adapter: the folder of the one that is on it.

    First-generation Qwen: generation_config.json says chat_format "chatml". Others: the tokenizer has a chat template.
    An adapter that says chat_format decides in their place.
    """
    if isinstance(path_or_model, PreTrainedModel):
        if path_or_model.config.model_type == QWenConfig.model_type:
            return getattr(path_or_model.generation_config, "chat_format", None) == "chatml"
        path_or_model = path_or_model.config._name_or_path
    folder = checkpoint_folder(path_or_model)
    decides = generation_folder(folder, adapter)
    if decides != folder or model_type(folder) == QWenConfig.model_type:
        generation = decides / "generation_config.json"
        return generation.is_file() and read_json(generation).get("chat_format") == "chatml"
    if (folder / "chat_template.jinja").is_file() or (folder / "chat_template.json").is_file():
        return True
    tokenizer_config = folder / "tokenizer_config.json"
    return tokenizer_config.is_file() and bool(read_json(tokenizer_config).get("chat_template"))
