"""What the Qwen tokenizer is made of: the split pattern, the special tokens, the vocabulary file, the chat template.

Source: the published qwen.tiktoken and QwenLM/Qwen's tokenization note.
"""

from __future__ import annotations

import base64
import binascii
import os

SPLIT_PATTERN = (  # cl100k's, with digits one by one
    r"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}| ?[^\s\p{L}\p{N}]+[\r\n]*"
    r"|\s*[\r\n]+|\s+(?!\S)|\s+"
)
ENDOFTEXT, IM_START, IM_END = "<|endoftext|>", "<|im_start|>", "<|im_end|>"
SPECIAL_TOKENS = (ENDOFTEXT, IM_START, IM_END, *(f"<|extra_{i}|>" for i in range(205)))

# ChatML as `chatml.make_context` writes it, for `apply_chat_template`. Each message ends in a newline, so that a chat
# that goes on keeps its beginning, token for token.
CHAT_TEMPLATE = (
    "{% if messages[0]['role'] != 'system' %}"
    "{{ '<|im_start|>system\\nYou are a helpful assistant.<|im_end|>\\n' }}"
    "{% endif %}"
    "{% for message in messages %}"
    "{{ '<|im_start|>' + message['role'] + '\\n' + message['content'] + '<|im_end|>\\n' }}"
    "{% endfor %}"
    "{% if add_generation_prompt %}{{ '<|im_start|>assistant\\n' }}{% endif %}"
)


def read_ranks(path: str | os.PathLike[str]) -> dict[bytes, int]:
    """Token bytes -> rank of a `.tiktoken` file, in the order of the file.

    Raises:
        ValueError: a line is not `base64 rank`, or there is no line.
    """
    ranks: dict[bytes, int] = {}
    with open(path, "rb") as file:
        for number, line in enumerate(file, 1):
            if not line.strip():
                continue
            try:
                token, rank = line.split()
                ranks[base64.b64decode(token, validate=True)] = int(rank)
            except (ValueError, binascii.Error):
                raise ValueError(f"{path}, line {number}: not 'base64 rank': {line[:60]!r}") from None
    if not ranks:
        raise ValueError(f"{path}: no tokens in it")
    return ranks
