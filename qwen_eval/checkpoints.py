"""What -c means: an embedded model, a folder, or a hub id."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from qwen_eval.errors import UserError, one_line
from qwen_eval.extras import need
from qwen_eval.places import DEMO, choose_hub, uses_modelscope

# The embedded models, by what -c says.
DEMO_FOLDERS = {"demo": "base", "demo-chat": "chat"}


def use_hub(name: str | None) -> None:
    """Take checkpoints and data from this hub from now on (--hub); None: from that of QWEN_EVAL_HUB.

    Raises:
        UserError: the variable names none.
    """
    try:
        choose_hub(name)
    except ValueError as error:
        raise UserError(str(error)) from None


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
        hint = "; check the name, set HF_ENDPOINT to a mirror, or --hub modelscope" if "hub" in str(error) else ""
        raise UserError(f"{flag} {error}{hint}".lstrip()) from error


def resolve_with_adapter(given: str, adapter: str | None) -> tuple[Path, Path | None]:
    """The folders of the base model and of its adapter (None: there is none), from -c and --adapter.

    Raises:
        UserError: one of them cannot be found.
        CheckpointError: they are not a model and an adapter, or the adapter's base cannot be found.
    """
    from qwen_model.adapters import base_and_adapter
    from qwen_model.loading import CheckpointError

    def base(path: str | Path) -> Path:
        try:
            return resolve_checkpoint(str(path), flag="")
        except UserError as error:
            raise CheckpointError(str(error)) from error

    folder = resolve_checkpoint(given)
    return base_and_adapter(folder, adapter and resolve_checkpoint(adapter, "--adapter"), base)


def _from_modelscope(given: str, flag: str, files: Sequence[str] | None) -> Path:
    need("modelscope")
    try:
        from modelscope import snapshot_download

        return Path(snapshot_download(given, allow_patterns=None if files is None else list(files)))
    except Exception as error:
        raise UserError(
            f"{flag} {given}: not to be had from ModelScope ({one_line(error)[:160]}); check the name".lstrip()
        ) from error
