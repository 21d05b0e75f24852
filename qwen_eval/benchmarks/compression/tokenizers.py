"""Tokenizers that are compared: a checkpoint's, any of transformers, or `bytes`, with a token for each byte of UTF-8.

Text is ordinary text: nothing is added to it, and nothing in it becomes a control token. Qwen normalises it (NFC), as
it does for a model.
"""

from __future__ import annotations

import json
import os
import unicodedata
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from qwen_eval.checkpoints import DEMO_FOLDERS, resolve_checkpoint
from qwen_eval.errors import UserError, one_line
from qwen_eval.reporting.manifest import TOKENIZER, files_sha256
from qwen_eval.reporting.reported import parse_model_name

#: What is fetched of a checkpoint on the hub: no weights.
FILES = (*TOKENIZER, "config.json", "special_tokens_map.json", "added_tokens.json", "*.model", "tekken.json")
BYTES = "bytes"
PROBE = "Straße 42, naïve  café\n\t你好，世界！ ภาษาไทย עברית  e\u0301 ﬁ"  # that differ in ids where tokenizers do


class Tokenizer:
    """name: as tables show it; folder: its files, None for `bytes`; unknown_id: of the token for what it has no token
    for, None where there is none."""

    def __init__(self, given: str, flag: str) -> None:
        """given: a folder, a hub id, `demo`, `demo-chat` or `bytes`; flag: what errors name."""
        self.folder: Path | None = None
        self.name = BYTES
        self.unknown_id: int | None = None
        if given == BYTES:
            return
        from qwen_model.loading import CheckpointError, load_tokenizer

        self.folder = resolve_checkpoint(given, flag, FILES)
        try:
            self._tokenizer: Any = load_tokenizer(self.folder)
        except CheckpointError as error:
            raise UserError(f"{flag} {one_line(error)}") from error
        self._qwen = hasattr(self._tokenizer, "encode_plain")
        self.unknown_id = None if self._qwen else _unknown_id(self._tokenizer)
        own = parse_model_name(given)
        named = {"base": "Qwen-demo", "chat": "Qwen-demo-Chat"}.get(DEMO_FOLDERS.get(given, ""))
        self.name = named or own.model + (f"-{own.variant}" if own.variant else "")

    @property
    def sha256(self) -> str | None:
        """Of its files."""
        return None if self.folder is None else files_sha256(self.folder, (*TOKENIZER, "*.model"))

    def encode(self, texts: Sequence[str]) -> list[Sequence[int]]:
        """The ids of each text; all cores work on them where the tokenizer can."""
        if self.folder is None:
            return [text.encode() for text in texts]
        if self._qwen:
            normal = [unicodedata.normalize("NFC", text) for text in texts]
            found: list[Sequence[int]] = self._tokenizer.tokenizer.encode_ordinary_batch(normal, num_threads=_threads())
            return found
        how = {"add_special_tokens": False, "split_special_tokens": True, "verbose": False}
        return list(self._tokenizer(list(texts), **how)["input_ids"])

    def decode(self, ids: Sequence[Sequence[int]]) -> list[str]:
        """The text of each list of ids."""
        if self.folder is None:
            return [bytes(one).decode() for one in ids]
        if self._qwen:
            return list(self._tokenizer.tokenizer.decode_batch(ids, num_threads=_threads()))
        return [str(self._tokenizer.decode(one, clean_up_tokenization_spaces=False)) for one in ids]

    def same_as(self, other: Tokenizer) -> bool:
        """Whether both are one tokenizer: the same vocabulary, the same ids."""
        if self.folder is None or other.folder is None:
            return self.folder is other.folder
        if self.folder.resolve() == other.folder.resolve():
            return True
        same_words = self._tokenizer.get_vocab() == other._tokenizer.get_vocab()
        return same_words and list(self.encode([PROBE])[0]) == list(other.encode([PROBE])[0])


def _unknown_id(tokenizer: Any) -> int | None:
    """Of the token for what has none: as the settings say, else (a tokenizer.json alone) as the model in it says."""
    if tokenizer.unk_token_id is not None:
        return int(tokenizer.unk_token_id)
    if (backend := getattr(tokenizer, "backend_tokenizer", None)) is None:
        return None
    model = json.loads(backend.to_str())["model"]
    found: int | None = model.get("unk_id")
    return found if found is not None or not model.get("unk_token") else backend.token_to_id(model["unk_token"])


def _threads() -> int:
    return os.cpu_count() or 1
