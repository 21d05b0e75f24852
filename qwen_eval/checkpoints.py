"""What -c means: an embedded model, a folder, or a hub id."""

from __future__ import annotations

from pathlib import Path

from qwen_eval.errors import UserError, one_line
from qwen_eval.extras import need
from qwen_eval.places import DEMO, uses_modelscope

# The embedded models, by what -c says.
DEMO_FOLDERS = {"demo": "base", "demo-chat": "chat"}


def resolve_checkpoint(given: str) -> Path:
    """The folder of a checkpoint: `demo`, `demo-chat`, a folder, or a hub id (HF_ENDPOINT and ModelScope honoured).

    Raises:
        UserError: there is none.
    """
    if given in DEMO_FOLDERS:
        return DEMO / "checkpoint" / DEMO_FOLDERS[given]
    from qwen_model.loading import CheckpointError, checkpoint_folder

    if uses_modelscope() and not Path(given).expanduser().exists():
        return _from_modelscope(given)
    try:
        return checkpoint_folder(given)
    except CheckpointError as error:
        hint = (
            "; check the name, set HF_ENDPOINT to a mirror, or QWEN_EVAL_HUB=modelscope" if "hub" in str(error) else ""
        )
        raise UserError(f"-c {error}{hint}") from error


def _from_modelscope(given: str) -> Path:
    need("modelscope")
    try:
        from modelscope import snapshot_download

        return Path(snapshot_download(given))
    except Exception as error:
        raise UserError(
            f"-c {given}: not to be had from ModelScope ({one_line(error)[:160]}); check the name"
        ) from error
