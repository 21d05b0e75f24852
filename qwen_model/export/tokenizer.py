"""The tokenizer as a file that every program reads: tokenizer.json, made from qwen.tiktoken.

Equal to QWenTokenizer, id by id, in both directions:

* Ranks become merges by transformers' TikTokenConverter. It lists every way of splitting a token in two; that is the
  same BPE, for two neighbours can only be the two parts that the ranks themselves make of their token. A piece that is
  a token is taken whole first, as by tiktoken (`ignore_merges`).
* The split pattern is Qwen's own, digits one by one.
* NFC comes before special forms are looked for (`normalized=True`): with U+0338 behind it, <|im_end|> is text, for NFC
  makes `>` another character.

What is different, and cannot be helped here (tests/qwen_model/test_export_tokenizer.py holds it to just this):

* The NFC of the package `tokenizers` knows the marks of Unicode 9, Python's knows later ones: where such a mark stands
  beside another mark, the order may differ. Lone surrogates are no text for it.
* AutoTokenizer builds its Qwen2Tokenizer from vocabulary and merges alone. It takes no piece whole, so a vocabulary
  that needs that is refused, and finds the end and padding tokens before NFC: there <|im_end|> stays what it is.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from tokenizers import AddedToken, Tokenizer, normalizers
from transformers.convert_slow_tokenizer import TikTokenConverter

from ..checkpoint import CheckpointError
from ..tokenization import VOCAB_FILES, QWenTokenizer
from ..vocabulary import ENDOFTEXT, IM_END, SPLIT_PATTERN, read_ranks


class _Converter(TikTokenConverter):
    """It reads the file with our reader: tiktoken's wants the package blobfile in its older releases."""

    @staticmethod
    def load_tiktoken_bpe(tiktoken_url: str) -> dict[bytes, int]:
        return read_ranks(tiktoken_url)


def fast_tokenizer(slow: QWenTokenizer, vocab_file: Path) -> Tokenizer:
    """The tokenizer of the package `tokenizers` that encodes and decodes as `slow`, read from the same file.

    Raises:
        CheckpointError: a vocabulary that a tokenizer.json cannot hold.
    """
    fast = _Converter(vocab_file=str(vocab_file), pattern=SPLIT_PATTERN).converted()  # type: ignore[no-untyped-call]
    fast.normalizer = normalizers.NFC()
    special = sorted(slow.special_tokens, key=slow.special_tokens.__getitem__)
    fast.add_special_tokens([AddedToken(token, normalized=True, special=True) for token in special])
    same_ids = all(fast.token_to_id(token) == number for token, number in slow.special_tokens.items())
    if fast.get_vocab_size() != slow.vocab_size or not same_ids:
        raise CheckpointError(f"{vocab_file}: tokens above the special ones have no place in a tokenizer.json")
    if whole := _never_merged(fast):
        raise CheckpointError(
            f"{vocab_file}: {len(whole)} tokens that no merges make ({fast.id_to_token(whole[0])!r}, ...): "
            "transformers' Qwen2 tokenizer would split them"
        )
    return fast


def _never_merged(fast: Tokenizer) -> list[int]:
    """Tokens that are found as whole pieces only."""
    fast.model.ignore_merges = False
    vocabulary = fast.get_vocab(with_added_tokens=False)
    found = [number for token, number in vocabulary.items() if [t.id for t in fast.model.tokenize(token)] != [number]]
    fast.model.ignore_merges = True
    return found


def write_tokenizer(slow: QWenTokenizer, folder: Path, target: Path, chat: bool, max_length: int) -> None:
    """Write tokenizer.json and tokenizer_config.json into `target`. folder: where `slow` comes from. max_length: of the
    model, in tokens. A chat model gets its ChatML template and ends replies with <|im_end|>."""
    fast_tokenizer(slow, folder / VOCAB_FILES["vocab_file"]).save(str(target / "tokenizer.json"), pretty=False)
    settings: dict[str, Any] = {
        "tokenizer_class": "PreTrainedTokenizerFast",  # tokenizer.json as it is, in every release of transformers
        "model_input_names": ["input_ids", "attention_mask"],
        "model_max_length": max_length,
        "clean_up_tokenization_spaces": False,
        "eos_token": IM_END if chat else ENDOFTEXT,
        "pad_token": ENDOFTEXT,
    }
    if chat:
        settings["chat_template"] = slow.chat_template
    (target / "tokenizer_config.json").write_text(json.dumps(settings, indent=2, ensure_ascii=False) + "\n")
