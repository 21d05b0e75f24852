"""How replies are decoded: the checkpoint's generation_config.json, then the protocol, then the user's flags.

Decoding is greedy unless the protocol or the user gives a temperature: the first generation's figures are (the sampling
settings that its published files carry are for chatting). Chat models of Qwen3 are sampled: card_sampling.py.
"""

import argparse
import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any, NamedTuple

from qwen_eval.errors import UserError

#: Flags that win over everything else.
FLAGS = ("max_new_tokens", "repetition_penalty", "temperature", "top_p", "presence_penalty")
MAX_NEW_TOKENS = 512  # the published generation_config.json of every first-generation Qwen


class Decoding(NamedTuple):
    """Settings of one run's replies. `stop`: strings that end a reply and do not belong to it."""

    max_new_tokens: int = MAX_NEW_TOKENS
    repetition_penalty: float = 1.0
    temperature: float = 0.0  # 0: greedy
    top_p: float = 1.0
    top_k: int = 0  # 0: off
    stop: tuple[str, ...] = ()
    presence_penalty: float = 0.0

    def as_json(self) -> dict[str, Any]:
        """For a run's identity; without a presence penalty as it was before there was one."""
        found = self._asdict()
        return found if self.presence_penalty else {name: found[name] for name in found if name != "presence_penalty"}


def resolve(checkpoint: Path | None, protocol: Mapping[str, Any], args: argparse.Namespace) -> Decoding:
    """The settings in force. protocol: what the benchmark fixes; a flag of the user's wins over it."""
    path = checkpoint / "generation_config.json" if checkpoint else None
    found = {**(_stored(path) if path is not None and path.exists() else {}), **protocol}
    if getattr(args, "temperature", None) == 0:  # greedy, over a protocol that samples
        found.pop("presence_penalty", None)
    for name in FLAGS:
        if (given := getattr(args, name, None)) is not None:
            found[name] = given
    if any(not text for text in found.get("stop", ())):
        raise UserError("a stop string is empty; it would end every reply at once")
    settings = Decoding(**{**found, "stop": tuple(found.get("stop", ()))})
    if settings.temperature == 0:
        if getattr(args, "top_p", None) is not None:
            raise UserError("--top-p does nothing to greedy replies; add --temperature")
        settings = settings._replace(top_p=1.0, top_k=0)
    return settings


def stored_sampling(checkpoint: Path) -> dict[str, Any]:
    """How a checkpoint's generation_config.json samples (temperature, top_p, top_k); nothing where it is greedy."""
    path = checkpoint / "generation_config.json"
    stored = _read(path) if path.exists() else {}
    if stored.get("do_sample") is not True:
        return {}
    usual = {"temperature": 1.0, "top_p": 1.0, "top_k": 50}  # transformers', of what is not there
    found = {name: stored[name] if stored.get(name) is not None else value for name, value in usual.items()}
    temperature, top_p, top_k = found.values()
    if type(temperature) not in (int, float) or not 0 < temperature < float("inf"):
        raise UserError(f"{path}: temperature is {temperature!r}, not a number above 0")
    if type(top_p) not in (int, float) or not 0 < top_p <= 1:
        raise UserError(f"{path}: top_p is {top_p!r}, not above 0 and at most 1")
    if type(top_k) is not int or top_k < 0:
        raise UserError(f"{path}: top_k is {top_k!r}, not a whole number of at least 0")
    return found


def _read(path: Path) -> dict[str, Any]:
    try:
        stored = json.loads(path.read_text(encoding="utf-8-sig"))
    except ValueError as error:
        raise UserError(f"{path} is not JSON; restore it from the published checkpoint") from error
    if not isinstance(stored, dict):
        raise UserError(f"{path} holds no JSON object; restore it from the published checkpoint")
    return stored


def _stored(path: Path) -> dict[str, Any]:
    """What a checkpoint's generation_config.json says of the length and the penalty."""
    stored = _read(path)
    found = {name: stored[name] for name in ("max_new_tokens", "repetition_penalty") if stored.get(name) is not None}
    length, penalty = found.get("max_new_tokens", 1), found.get("repetition_penalty", 1.0)
    if type(length) is not int or length < 1:
        raise UserError(f"{path}: max_new_tokens is {length!r}, not a whole number of at least 1")
    if type(penalty) not in (int, float) or not 0 < penalty < float("inf"):
        raise UserError(f"{path}: repetition_penalty is {penalty!r}, not a number above 0")
    return found
