"""Prompt text to token ids. Text of the data never becomes a control token; only our own chat frame has them.

First-generation Qwen's base prompts are encoded as the published scripts did: multiple choice through the tokenizer
(NFC), generation through raw tiktoken (no NFC).
"""

from __future__ import annotations

import os
import unicodedata
from collections.abc import Sequence
from typing import Any

import numpy as np

from ..errors import UserError

SYSTEM = "You are a helpful assistant."
PLACEHOLDER = "\u2042content\u2042"
CUT = "\u2042cut\u2042"


class Encoder:
    """The two ways a prompt goes in, for a first-generation Qwen tokenizer or any other of transformers."""

    def __init__(self, tokenizer: Any) -> None:
        self.tokenizer = tokenizer
        self.qwen = hasattr(tokenizer, "encode_plain")
        if not self.qwen:  # `all_special_tokens` lists the named ones only: not Llama 3's <|start_header_id|>
            added = list(tokenizer.added_tokens_decoder.values())
            self.special = {token.content for token in added if token.special} | set(tokenizer.all_special_tokens)
            template = str(getattr(tokenizer, "chat_template", None) or "")
            #: parts of the chat frame that are not marked special, such as Qwen3's <think>
            self.markup = {token.content for token in added if token.content in template} - self.special

    def plain(self, prompts: Sequence[str], raw: bool = False) -> list[np.ndarray]:
        """A base model's prompt: ordinary text (other tokenizers add what they add by default, such as a BOS).

        raw: first-generation Qwen only, leave out the NFC normalisation.
        """
        if self.qwen:
            texts = prompts if raw else [unicodedata.normalize("NFC", text) for text in prompts]
            lists = self.tokenizer.tokenizer.encode_ordinary_batch(list(texts), num_threads=os.cpu_count() or 1)
        else:
            lists = [self.tokenizer(text, split_special_tokens=self._hostile(text))["input_ids"] for text in prompts]
        if not all(map(len, lists)):
            raise UserError("a prompt is empty: a base model needs a text to go on from (look for an empty question)")
        return [np.asarray(ids, dtype=np.int32) for ids in lists]

    def chat(self, prompts: Sequence[str], begun: Sequence[str] | None = None) -> list[np.ndarray]:
        """One user turn, with the default system text for Qwen, else in the tokenizer's chat template.

        begun: the assistant's turn so far, one text a prompt, which the reply goes on from.
        """
        if self.qwen:
            from qwen_model.chatml import make_context

            lists = [make_context(self.tokenizer, text, system=SYSTEM)[1] for text in prompts]
        else:
            lists = [self._templated(text) for text in prompts]
        if begun is not None:
            lists = [ids + self._inside(text) for ids, text in zip(lists, begun, strict=True)]
        return [np.asarray(ids, dtype=np.int32) for ids in lists]

    def text(self, tokens: Sequence[int]) -> str:
        """What a model sees in these token ids, special tokens written out. Where a cut parts a character: U+FFFD."""
        keep: dict[str, Any] = {} if self.qwen else {"clean_up_tokenization_spaces": False}
        return str(self.tokenizer.decode([int(i) for i in tokens], skip_special_tokens=False, **keep))

    def _hostile(self, text: str) -> bool:
        """Whether text of the data spells a special token."""
        return any(form in text for form in self.special)

    def _templated(self, text: str) -> list[int]:
        if not getattr(self.tokenizer, "chat_template", None):
            raise UserError("this checkpoint's tokenizer has no chat template; add --base to ask it as a base model")

        def render(content: str) -> str:
            turn = [{"role": "user", "content": content}]
            return self.tokenizer.apply_chat_template(turn, tokenize=False, add_generation_prompt=True)

        if not self._hostile(text) and not any(form in text for form in self.markup):
            return self.tokenizer(render(text), add_special_tokens=False)["input_ids"]
        before, _, after = render(PLACEHOLDER).partition(PLACEHOLDER)
        frame = [self.tokenizer(part, add_special_tokens=False)["input_ids"] for part in (before, after)]
        return frame[0] + self._inside(text) + frame[1]

    def _inside(self, text: str) -> list[int]:
        """Text inside of a chat turn, whatever it spells."""
        if self.qwen:
            return self.tokenizer.encode(text, allowed_special=set())
        for form in self.markup:  # `split_special_tokens` leaves these whole: cut the text inside of them
            text = text.replace(form, form[0] + CUT + form[1:])
        ids: list[int] = []
        for piece in text.split(CUT):
            ids += self.tokenizer(piece, add_special_tokens=False, split_special_tokens=True)["input_ids"]
        return ids

    def stop_tokens(self, model: Any, chat: bool) -> frozenset[int]:
        """What ends a reply: `<|endoftext|>`, and for a chat model the tokens of the chat frame; for other models the
        eos tokens of their generation settings, for a chat the tokenizer's too (some settings name the base's only)."""
        if self.qwen:
            own = {self.tokenizer.eod_id}
            return frozenset(own | {self.tokenizer.im_start_id, self.tokenizer.im_end_id} if chat else own)
        found = model.generation_config.eos_token_id
        ends = {found} if isinstance(found, int) else set(found or [])
        if (chat or not ends) and self.tokenizer.eos_token_id is not None:
            ends.add(self.tokenizer.eos_token_id)
        return frozenset(ends)

    def single_tokens(self, texts: Sequence[str]) -> tuple[int, ...]:
        found = []
        for text in texts:
            ids = (
                self.tokenizer.encode_plain(text)
                if self.qwen
                else self.tokenizer(text, add_special_tokens=False)["input_ids"]
            )
            if len(ids) != 1:
                raise UserError(
                    f"this tokenizer splits the answer {text!r} into {len(ids)} tokens; choices need one each"
                )
            found.append(int(ids[0]))
        return tuple(found)
