"""The Qwen tokenizer: byte-level BPE on tiktoken, read from a checkpoint's `qwen.tiktoken`.

The file holds a line `base64(token bytes) SPACE rank` a token; the rank is merge priority and id. The special
tokens follow the ranks: <|endoftext|>, <|im_start|>, <|im_end|>, <|extra_0|> ... <|extra_204|> (151643 ... 151850
in the published file). Text is NFC-normalised and, by default, special forms in it become special tokens; nothing
is added. Source: the published qwen.tiktoken and QwenLM/Qwen's tokenization note (split pattern, special tokens).
Quirks (Q11 ...) are listed in docs/quirks.md.
"""

from __future__ import annotations

import base64
import os
import unicodedata
from collections.abc import Collection, Iterable
from typing import Any, Literal

import tiktoken
from transformers import AddedToken, BatchEncoding, PreTrainedTokenizer

from .vocabulary import CHAT_TEMPLATE, ENDOFTEXT, IM_END, IM_START, SPECIAL_TOKENS, SPLIT_PATTERN, read_ranks

VOCAB_FILES = {"vocab_file": "qwen.tiktoken"}
AllowedSpecial = Collection[str] | Literal["all"]


class QWenTokenizer(PreTrainedTokenizer):
    """A Qwen tokenizer; `.tokenizer` is the raw tiktoken object.

    Tokens are `bytes` (regular) or `str` (special). eos and pad are <|endoftext|> (the published tokenizer left them
    unset, and programs that train or serve need both); neither is ever added to a text. bos and unk are unset. All four
    may be set to special tokens of the vocabulary only (the published batches: `pad_token="<|extra_0|>"`,
    `padding_side="left"`). `apply_chat_template` writes ChatML unless the checkpoint brings a template.

    Args:
        vocab_file: `qwen.tiktoken`, or any file of contiguous ranks from 0: the special ids follow the ranks.
        errors: how invalid UTF-8 decodes: "replace" (default), "ignore" or "strict".
        extra_vocab_file: further `base64 rank` lines; those whose token or id is taken are skipped.

    Raises:
        ValueError: a malformed vocabulary file, or a special token that the vocabulary has not.
    """

    vocab_files_names = VOCAB_FILES
    model_input_names = ["input_ids", "token_type_ids", "attention_mask"]  # noqa: RUF012 - as in the base class

    def __init__(
        self,
        vocab_file: str | os.PathLike[str] | None,
        errors: str = "replace",
        extra_vocab_file: str | os.PathLike[str] | None = None,
        **kwargs: Any,
    ) -> None:
        if vocab_file is None:  # from_pretrained on a folder without it
            raise ValueError("the checkpoint has no qwen.tiktoken")
        self.errors = errors
        self.mergeable_ranks = read_ranks(vocab_file)
        # The first id without a rank, and not their number: a saved file may hold extra ranks above the special ids.
        taken = set(self.mergeable_ranks.values())
        start = next(i for i in range(len(taken) + 1) if i not in taken)
        self.special_tokens = {token: start + i for i, token in enumerate(SPECIAL_TOKENS)}
        if taken & set(self.special_tokens.values()):
            raise ValueError(f"{vocab_file}: ranks have a gap at {start}, where the special ids would start")
        taken.update(self.special_tokens.values())
        if extra_vocab_file is not None:
            for token, rank in read_ranks(extra_vocab_file).items():
                if token not in self.mergeable_ranks and rank not in taken:
                    self.mergeable_ranks[token] = rank
                    taken.add(rank)
        self.tokenizer = tiktoken.Encoding(
            "Qwen",
            pat_str=SPLIT_PATTERN,
            mergeable_ranks=self.mergeable_ranks,
            special_tokens=self.special_tokens,
        )
        self.decoder: dict[int, bytes | str] = {rank: token for token, rank in self.mergeable_ranks.items()}
        self.decoder.update({rank: token for token, rank in self.special_tokens.items()})
        self.eod_id = self.special_tokens[ENDOFTEXT]
        self.im_start_id = self.special_tokens[IM_START]
        self.im_end_id = self.special_tokens[IM_END]
        self._check_added(kwargs.pop("added_tokens_decoder", None) or {})
        kwargs.setdefault("special_tokens_pattern", "none")  # no BOS, no EOS, ever
        for name, value in (("eos_token", ENDOFTEXT), ("pad_token", ENDOFTEXT), ("chat_template", CHAT_TEMPLATE)):
            if kwargs.get(name) is None:
                kwargs[name] = value
        super().__init__(errors=errors, **kwargs)  # type: ignore[no-untyped-call]

    # ---- vocabulary

    @property
    def vocab_size(self) -> int:
        """Number of ids, the special ones included (151851); the model's embedding is padded beyond it."""
        return self.tokenizer.n_vocab

    def __len__(self) -> int:
        return self.vocab_size

    def get_vocab(self) -> dict[bytes | str, int]:  # type: ignore[override]
        """Every token and its id: bytes for regular tokens, str for special ones."""
        return {token: index for index, token in self.decoder.items()}

    @property  # type: ignore[misc]
    def added_tokens_decoder(self) -> dict[int, AddedToken]:
        """Always empty: the special tokens belong to the vocabulary, none can be added."""
        return {}

    def get_added_vocab(self) -> dict[str, int]:
        return {}

    def _check_added(self, added: dict[int, AddedToken]) -> None:
        for index, token in added.items():
            if self.special_tokens.get(str(token)) != index:
                raise ValueError(f"tokenizer_config.json: the Qwen vocabulary has no special token {token!s} = {index}")

    def _add_tokens(self, new_tokens: Iterable[str | AddedToken], special_tokens: bool = False) -> int:
        for token in new_tokens:
            self._check_special(token)
        return 0

    def _check_special(self, token: str | AddedToken) -> None:
        if str(token) not in self.special_tokens:
            raise ValueError(f"{str(token)!r} is not a special token of the Qwen vocabulary, and none can be added")

    def __setattr__(self, key: str, value: Any) -> None:
        if key in self.SPECIAL_TOKENS_ATTRIBUTES and value is not None:
            self._check_special(value)
        super().__setattr__(key, value)  # type: ignore[no-untyped-call]

    def convert_tokens_to_ids(self, tokens: Any) -> Any:
        """Id of a token (bytes, or str for a special one), None where there is none; a list gives a list."""
        if isinstance(tokens, (str, bytes)):
            special = self.special_tokens.get(tokens) if isinstance(tokens, str) else None
            key = tokens.encode("utf-8", "surrogatepass") if isinstance(tokens, str) else tokens
            return self.mergeable_ranks.get(key) if special is None else special
        return [self.convert_tokens_to_ids(token) for token in tokens]

    def convert_ids_to_tokens(self, ids: Any, skip_special_tokens: bool = False) -> Any:
        """Token of an id: bytes, or str for a special one; a list gives a list.

        Raises:
            KeyError: an id without a token.
        """
        if isinstance(ids, int):
            return self.decoder[ids]
        return [self.decoder[int(i)] for i in ids if not (skip_special_tokens and int(i) >= self.eod_id)]

    # What the base class and generation look up one token with.
    def _convert_token_to_id(self, token: bytes | str) -> int | None:
        found: int | None = self.convert_tokens_to_ids(token)
        return found

    def _convert_id_to_token(self, index: int) -> bytes | str:  # type: ignore[override]
        return self.decoder[int(index)]

    def convert_tokens_to_string(self, tokens: Iterable[bytes | str]) -> str:
        joined = b"".join(token.encode("utf-8") if isinstance(token, str) else token for token in tokens)
        return joined.decode("utf-8", errors=self.errors)

    # ---- encoding

    def _ids(
        self,
        text: str,
        allowed_special: AllowedSpecial = "all",
        disallowed_special: AllowedSpecial = (),
        split_special_tokens: bool = False,
        **_: Any,
    ) -> list[int]:
        allowed: Any = set() if split_special_tokens and allowed_special == "all" else allowed_special
        allowed = allowed if allowed == "all" else set(allowed)
        refused: Any = disallowed_special if disallowed_special == "all" else tuple(disallowed_special)
        text = unicodedata.normalize("NFC", text)
        return self.tokenizer.encode(text, allowed_special=allowed, disallowed_special=refused)

    def encode_plain(self, text: str) -> list[int]:
        """Ids by raw tiktoken, as base prompts are encoded: no NFC, special forms as ordinary text (quirk Q11)."""
        return self.tokenizer.encode_ordinary(text)

    def tokenize(self, text: str, **kwargs: Any) -> list[bytes | str]:  # type: ignore[override]
        """Tokens of `text`: bytes, or str for special ones. Options as in `encode`."""
        return [self.decoder[i] for i in self._ids(text, **kwargs)]

    def encode(self, text: Any, text_pair: Any = None, add_special_tokens: bool = True, **kwargs: Any) -> list[int]:
        """Ids of `text`: NFC, then BPE; nothing is added whatever `add_special_tokens` says.

        Args:
            allowed_special: "all" (default), or the special forms that become special tokens, the rest being text.
            disallowed_special: special forms whose occurrence is an error; default none.

        Raises:
            ValueError: a disallowed special form occurs in the text.
        """
        plain = not kwargs.keys() - {"allowed_special", "disallowed_special"}
        if isinstance(text, str) and text_pair is None and plain:
            return self._ids(text, split_special_tokens=self.split_special_tokens, **kwargs)
        ids: list[int] = super().encode(text, text_pair, add_special_tokens, **kwargs)
        return ids

    def _any_ids(self, text: Any, is_split_into_words: bool, options: dict[str, Any]) -> list[int]:
        if isinstance(text, str):
            return self._ids(text, **options)
        if is_split_into_words:
            return [i for word in text for i in self._ids(word, **options)]
        if all(isinstance(item, int) for item in text):
            return list(text)
        ids: list[int] = self.convert_tokens_to_ids(list(text))
        return ids

    def _encode_plus(  # type: ignore[override]
        self,
        text: Any,
        text_pair: Any = None,
        is_split_into_words: bool = False,
        padding_strategy: Any = "do_not_pad",
        truncation_strategy: Any = "do_not_truncate",
        return_tensors: Any = None,
        **kwargs: Any,
    ) -> BatchEncoding:
        # Text goes to ids in one tiktoken call, past the base class's trie and its token-by-token conversion.
        if kwargs.get("return_offsets_mapping"):
            raise NotImplementedError("the Qwen tokenizer has no offsets: its tokens are bytes, not characters")
        names = ("allowed_special", "disallowed_special", "split_special_tokens")
        options = {name: kwargs.pop(name) for name in names if name in kwargs}
        is_batch = isinstance(text, (list, tuple)) and (not text or not isinstance(text[0], int))
        if is_split_into_words:
            is_batch = bool(text) and isinstance(text[0], (list, tuple))
        rows = list(text) if is_batch else [text]
        pairs = [None] * len(rows) if text_pair is None else list(text_pair) if is_batch else [text_pair]
        if len(pairs) != len(rows):
            raise ValueError(f"{len(rows)} texts but {len(pairs)} second texts")
        pad_options = {name: kwargs.pop(name, None) for name in ("pad_to_multiple_of", "padding_side")}
        outputs: dict[str, list[Any]] = {}
        for row, pair in zip(rows, pairs, strict=True):
            if pair is None and isinstance(row, (list, tuple)) and row and isinstance(row[0], str) and is_batch:
                row, pair = (row[0], row[1]) if len(row) == 2 and not is_split_into_words else (row, None)
            ids = self._any_ids(row, is_split_into_words, options)
            pair_ids = None if pair is None else self._any_ids(pair, is_split_into_words, options)
            item = self.prepare_for_model(
                ids,
                pair_ids,
                padding=False,
                truncation=truncation_strategy,
                **(kwargs | {"return_attention_mask": False}),
            )
            for key, value in item.items():
                outputs.setdefault(key, []).append(value)
        if not rows:
            return BatchEncoding({"input_ids": [], "attention_mask": []}, tensor_type=return_tensors)
        padded = self.pad(
            outputs,
            padding=padding_strategy,
            max_length=kwargs.get("max_length"),
            return_attention_mask=kwargs.get("return_attention_mask"),
            **pad_options,
        )
        data = dict(padded) if is_batch or return_tensors is not None else {k: v[0] for k, v in padded.items()}
        return BatchEncoding(data, tensor_type=return_tensors)

    # ---- decoding

    def _decode(
        self,
        token_ids: int | list[int],
        skip_special_tokens: bool = False,
        clean_up_tokenization_spaces: bool | None = None,
        errors: str | None = None,
        unknown_ids: Literal["drop", "raise"] = "drop",
        **kwargs: Any,
    ) -> str:
        """Text of `token_ids`; see `decode`. `clean_up_tokenization_spaces` is ignored, as published.

        Ids above the vocabulary have a row in the model's padded embedding but no token: they are dropped, or with
        `unknown_ids="raise"` a KeyError as in the published tokenizer (quirk Q12). `skip_special_tokens` drops
        every id from <|endoftext|> on.
        """
        ids = [token_ids] if isinstance(token_ids, int) else token_ids
        if skip_special_tokens:
            ids = [i for i in ids if i < self.eod_id]
        elif unknown_ids == "drop" and ids and max(ids) > self.eod_id:
            ids = [i for i in ids if i < 0 or i in self.decoder]
        return self.tokenizer.decode_bytes(ids).decode("utf-8", errors=errors or self.errors)

    def save_vocabulary(self, save_directory: str, filename_prefix: str | None = None) -> tuple[str]:
        """Write `qwen.tiktoken`, byte for byte the file that was read (plus extra tokens, if any)."""
        prefix = filename_prefix + "-" if filename_prefix else ""
        path = os.path.join(save_directory, prefix + VOCAB_FILES["vocab_file"])
        with open(path, "wb") as file:
            for token, rank in self.mergeable_ranks.items():
                file.write(base64.b64encode(token) + b" " + str(rank).encode() + b"\n")
        return (path,)
