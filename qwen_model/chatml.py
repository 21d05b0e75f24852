"""ChatML: the prompt of a Qwen-Chat model, and the text of its reply.

The prompt is put together from token ids piece by piece, so that special forms in a user's text stay plain text.
Source: OpenAI's ChatML as used by QwenLM/Qwen's `chat()` (its `make_context` and `decode_tokens`), the protocol of
every chat benchmark of the model cards. Quirks (Q15 ...) are listed in docs/quirks.md.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

from .tokenization import QWenTokenizer
from .vocabulary import ENDOFTEXT, IM_END, IM_START

DEFAULT_SYSTEM = "You are a helpful assistant."
DEFAULT_WINDOW = 6144


class Reply(NamedTuple):
    """A reply's text and what ended it: "<|im_end|>", "<|im_start|>", "<|endoftext|>" (strict only) or "length"."""

    text: str
    end: str


def _check_format(chat_format: str) -> None:
    if chat_format not in ("chatml", "raw"):
        raise ValueError(f"chat_format must be 'chatml' or 'raw', not {chat_format!r}")


def _message(tokenizer: QWenTokenizer, role: str, content: str) -> tuple[str, list[int]]:
    """`<|im_start|>role\\ncontent<|im_end|>` as text and ids; the newline is a token of its own."""
    ids = [tokenizer.im_start_id]
    for piece in (role, "\n", content):
        ids += tokenizer.encode(piece, allowed_special=set())
    return f"{IM_START}{role}\n{content}{IM_END}", [*ids, tokenizer.im_end_id]


def earlier_turn(tokenizer: QWenTokenizer, query: str, response: str) -> tuple[str, list[int]]:
    """A user's turn and the assistant's answer, each behind a newline, as they stand before the turn that is asked: the
    text and the token ids."""
    newline = tokenizer.encode("\n")
    query_text, query_ids = _message(tokenizer, "user", query)
    response_text, response_ids = _message(tokenizer, "assistant", response)
    return f"\n{query_text}\n{response_text}", newline + query_ids + newline + response_ids


def make_context(
    tokenizer: QWenTokenizer,
    query: str,
    history: Sequence[Sequence[str]] | None = None,
    system: str | None = DEFAULT_SYSTEM,
    max_window_size: int = DEFAULT_WINDOW,
    chat_format: str = "chatml",
) -> tuple[str, list[int]]:
    """The prompt for `query` after `history` ((query, response) turns, oldest first): its text and its token ids.

    Turns are kept from the newest back while system + turns stay below `max_window_size` tokens; query and reply do
    not count (quirk Q15). system None: no system turn, so that the prompt begins with the newline before a user's turn,
    as in the few-shot prompts of the model cards. "raw": the query alone, its special forms being special tokens.

    Raises:
        ValueError: an unknown chat_format.
    """
    _check_format(chat_format)
    if chat_format == "raw":
        return query, tokenizer.encode(query)
    newline = tokenizer.encode("\n")
    system_text, system_ids = ("", []) if system is None else _message(tokenizer, "system", system)
    turns_text = ""
    turns_ids: list[int] = []
    for turn_query, turn_response in reversed(history or []):
        turn_text, turn_ids = earlier_turn(tokenizer, turn_query, turn_response)
        if len(system_ids) + len(turn_ids) + len(turns_ids) >= max_window_size:
            break
        turns_text = turn_text + turns_text
        turns_ids = turn_ids + turns_ids
    query_text, query_ids = _message(tokenizer, "user", query)
    opening = [tokenizer.im_start_id, *tokenizer.encode("assistant"), *newline]
    text = f"{system_text}{turns_text}\n{query_text}\n{IM_START}assistant\n"
    return text, system_ids + turns_ids + newline + query_ids + newline + opening


def stop_ids(tokenizer: QWenTokenizer, chat_format: str = "chatml") -> list[int]:
    """Single ids at which a reply ends."""
    _check_format(chat_format)
    return [tokenizer.im_end_id, tokenizer.im_start_id] if chat_format == "chatml" else [tokenizer.eod_id]


def get_stop_words_ids(chat_format: str, tokenizer: QWenTokenizer) -> list[list[int]]:
    """The published stop sequences; raw also stops on "Human:"."""
    _check_format(chat_format)
    if chat_format == "raw":
        return [tokenizer.encode("Human:"), [tokenizer.eod_id]]
    return [[tokenizer.im_end_id], [tokenizer.im_start_id]]


def decode_reply(
    tokenizer: QWenTokenizer,
    generated: Sequence[int],
    chat_format: str = "chatml",
    strict: bool = False,
    strip: bool = True,
    errors: str = "replace",
) -> Reply:
    """The reply in `generated`, the ids after the prompt.

    Protocol (default), as published: ids before the first <|im_end|> or <|im_start|>; where neither was
    generated, all but the last id (quirk Q17). "raw": everything, with <|endoftext|> removed (Q20).
    strict: ids before the first of these tokens and <|endoftext|>, or all of them.
    Whitespace at both ends goes in both (Q19), unless `strip` is false. Only generated ids are decoded, so a prompt
    that is not NFC does not shift the cut (Q18).

    Raises:
        ValueError: an unknown chat_format.
    """
    _check_format(chat_format)
    ids = [int(i) for i in generated]
    ends = {tokenizer.im_end_id: IM_END, tokenizer.im_start_id: IM_START} if chat_format == "chatml" else {}
    if strict:
        ends[tokenizer.eod_id] = ENDOFTEXT
    stop = next((i for i, token in enumerate(ids) if token in ends), None)
    end = "length" if stop is None else ends[ids[stop]]
    if stop is not None:
        ids = ids[:stop]
    elif chat_format == "chatml" and not strict:
        ids = ids[:-1]
    text = str(tokenizer.decode(ids, errors=errors))
    if chat_format == "raw" and not strict:
        text = text.replace(ENDOFTEXT, "")
    return Reply(text.strip() if strip else text, end)
