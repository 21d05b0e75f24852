"""Whether the model of a run thinks before it answers: by its chat template and --thinking, before any work."""

from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any, NamedTuple

from qwen_eval.errors import UserError
from qwen_eval.rescore import Replies
from qwen_eval.thinking import CLOSE, OPEN, Thinking

#: Where a checkpoint keeps its chat template.
TEMPLATE_FILES = ("chat_template.jinja", "chat_template.json", "tokenizer_config.json")


class Frames(NamedTuple):
    """What a chat template puts around a question: as it is, with `enable_thinking` true, and false."""

    usual: str
    on: str
    off: str


def settle(given: bool | None, chat: bool, model: str, folder: Path | None, replies: Replies | None) -> Thinking | None:
    """How the model of a run thinks; None: it does not, or nobody says so.

    given: --thinking; folder: with the tokenizer, None where it is not here (an endpoint's, or that of given replies);
    replies: those of --rescore. Raises UserError where --thinking has no sense.
    """
    flag = f"--thinking {'on' if given else 'off'}"
    if not chat:
        if given is not None:
            raise UserError(f"{flag} is for chat models, and {model} is asked as a base model")
        return None
    if folder is not None:
        return _of_template(folder, given, model)
    if given is None:
        return None
    if replies is not None:
        note = f"the replies are read as those of a model that was asked with {flag}"
        return Thinking(given, opened=_closes_only(replies.by_key.values()), note=note)
    return Thinking(given, usual=False, switch=given, opened=None, note=f"{model} was asked with {flag}")


def _closes_only(lines: Iterable[Mapping[str, Any]]) -> bool | None:
    """Whether a prompt opened the blocks of these replies: some close one, and none opens one. None: no reply tells."""
    texts = [str(line.get("response", "")) for line in lines]
    if any(text.lstrip().startswith(OPEN) for text in texts):
        return False
    return True if any(CLOSE in text and OPEN not in text.partition(CLOSE)[0] for text in texts) else None


def _of_template(folder: Path, given: bool | None, model: str) -> Thinking | None:
    """How the chat template of this tokenizer lets its model think."""
    frames = _frames(folder)
    if frames is None or (frames.on == frames.off and not _opens(frames.usual)):
        if given is not None:
            raise UserError(f"--thinking: {model} does not think: its chat template knows no `enable_thinking`")
        return None
    if frames.on == frames.off:
        if given is False:
            raise UserError(f"--thinking off: {model} always thinks: its chat template begins the think block itself")
        return Thinking(True, opened=True, note=f"{model} always thinks before it answers, as its chat template has it")
    by_default = frames.usual != frames.off
    if given is None:
        does, other = ("thinks", "off") if by_default else ("does not think", "on")
        note = f"{model} {does} before it answers, its default (--thinking {other} changes that)"
        return Thinking(by_default, opened=_opens(frames.usual), note=note)
    note = f"{model} was asked with --thinking {'on' if given else 'off'}"
    return Thinking(given, given == by_default, given, _opens(frames.on if given else frames.off), note)


def _frames(folder: Path) -> Frames | None:
    """None where the chat template has no think block."""
    from qwen_eval.engines.local.prompts import Encoder
    from qwen_model.loading import load_tokenizer

    files = [folder / name for name in TEMPLATE_FILES]
    if not any("think" in file.read_text("utf-8", errors="replace") for file in files if file.is_file()):
        return None  # seen without the tokenizer, which takes a second to load
    tokenizer = load_tokenizer(folder)
    template = str(getattr(tokenizer, "chat_template", None) or "")
    if not (OPEN in template or CLOSE in template):
        return None
    return Frames(*(Encoder(tokenizer, enable).rendered(["question"]) for enable in (None, True, False)))


def _opens(frame: str) -> bool:
    """Whether a prompt ends inside a think block."""
    return frame.rstrip().endswith(OPEN)
