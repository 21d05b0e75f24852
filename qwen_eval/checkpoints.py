"""What -c means: an embedded model, a folder, or a hub id."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from qwen_eval.errors import UserError, one_line
from qwen_eval.extras import need
from qwen_eval.places import DEMO, uses_modelscope

# The embedded models, by what -c says.
DEMO_FOLDERS = {"demo": "base", "demo-chat": "chat"}


def resolve_checkpoint(given: str, flag: str = "-c", files: Sequence[str] | None = None) -> Path:
    """The folder of a checkpoint: `demo`, `demo-chat`, a folder, or a hub id (HF_ENDPOINT and ModelScope honoured).

    flag: what errors name. files: patterns of those that are fetched of a hub id; None: all that a model needs.

    Raises:
        UserError: there is none.
    """
    if given in DEMO_FOLDERS:
        return DEMO / "checkpoint" / DEMO_FOLDERS[given]
    from qwen_model.loading import CheckpointError, checkpoint_folder

    if uses_modelscope() and not Path(given).expanduser().exists():
        return _from_modelscope(given, flag, files)
    try:
        return checkpoint_folder(given, files)
    except CheckpointError as error:
        hint = (
            "; check the name, set HF_ENDPOINT to a mirror, or QWEN_EVAL_HUB=modelscope" if "hub" in str(error) else ""
        )
        raise UserError(f"{flag} {error}{hint}") from error


def _from_modelscope(given: str, flag: str, files: Sequence[str] | None) -> Path:
    need("modelscope")
    try:
        from modelscope import snapshot_download

        return Path(snapshot_download(given, allow_patterns=None if files is None else list(files)))
    except Exception as error:
        raise UserError(
            f"{flag} {given}: not to be had from ModelScope ({one_line(error)[:160]}); check the name"
        ) from error
