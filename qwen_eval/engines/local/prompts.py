"""Prompt text to token ids. Text of the data never becomes a control token; only our own chat frame has them.

First-generation Qwen's base prompts are encoded as the published scripts did: multiple choice through the tokenizer
(NFC), generation through raw tiktoken (no NFC).
"""

from __future__ import annotations

import os
import unicodedata
from collections.abc import Sequence
from typing import Any

from qwen_eval.engines.base import Turns
from qwen_eval.engines.candidates import CandidateTokens
from qwen_eval.errors import UserError, one_line

import numpy as np

SYSTEM = "You are a helpful assistant."
PLACEHOLDER = "\u2042content\u2042"
CUT = "\u2042cut\u2042"


def _closing_tokens(tokenizer: Any) -> int:
    bare, framed = (tokenizer("a", add_special_tokens=special)["input_ids"] for special in (False, True))
    before = next((i for i in range(len(framed)) if framed[i : i + len(bare)] == bare), 0)
    return max(0, len(framed) - before - len(bare))


class Encoder(CandidateTokens):
    """The two ways a prompt goes in, for a first-generation Qwen tokenizer or any other of transformers."""

    def __init__(self, tokenizer: Any, enable_thinking: bool | None = None) -> None:
        """enable_thinking: what a chat template that knows this word is told; None: nothing."""
        self.tokenizer = tokenizer
        self.enable_thinking = enable_thinking
        self.qwen = hasattr(tokenizer, "encode_plain")
        if not self.qwen:  # `all_special_tokens` lists the named ones only: not Llama 3's <|start_header_id|>
            added = list(tokenizer.added_tokens_decoder.values())
            self.special = {token.content for token in added if token.special} | set(tokenizer.all_special_tokens)
            template = str(getattr(tokenizer, "chat_template", None) or "")
            #: parts of the chat frame that are not marked special, such as Qwen3's <think>
            self.markup = {token.content for token in added if token.content in template} - self.special
            #: how many special tokens the tokenizer puts behind a text, such as BERT's [SEP]: a prompt goes on
            self.closing = _closing_tokens(tokenizer)

    def plain(self, prompts: Sequence[str], raw: bool = False) -> list[np.ndarray]:
        """A base model's prompt: ordinary text (other tokenizers add what they add by default, such as a BOS).

        raw: first-generation Qwen only, leave out the NFC normalisation.
        """
        if self.qwen:
            texts = prompts if raw else [unicodedata.normalize("NFC", text) for text in prompts]
            lists = self.tokenizer.tokenizer.encode_ordinary_batch(list(texts), num_threads=os.cpu_count() or 1)
        else:
            lists = [self.tokenizer(text, split_special_tokens=self._hostile(text))["input_ids"] for text in prompts]
            lists = [ids[: len(ids) - self.closing] for ids in lists]
        if not all(map(len, lists)):
            raise UserError("a prompt is empty: a base model needs a text to go on from (look for an empty question)")
        return [np.asarray(ids, dtype=np.int32) for ids in lists]

    def chat(
        self,
        prompts: Sequence[str],
        assistant_prefill: Sequence[str] | None = None,
        examples: Sequence[Turns] | None = None,
    ) -> list[np.ndarray]:
        """A user turn, with the default system text for Qwen, else in the tokenizer's chat template.

        assistant_prefill: the assistant's turn so far, one text per prompt, which the reply goes on from. examples: for
        each prompt the turns before it; behind them a Qwen has no system turn.
        """
        turns = [()] * len(prompts) if examples is None else examples
        frame = self._chatml if self.qwen else self._templated
        lists = frame(prompts, turns)
        if assistant_prefill is not None:
            lists = [ids + self._inside(text) for ids, text in zip(lists, assistant_prefill, strict=True)]
        return [np.asarray(ids, dtype=np.int32) for ids in lists]

    def _chatml(self, prompts: Sequence[str], examples: Sequence[Turns]) -> list[list[int]]:
        from qwen_model.chatml import earlier_turn, make_context

        known: dict[Turns, list[int]] = {}  # all questions of a subject have the same examples
        lists = []
        for text, turns in zip(prompts, examples, strict=True):
            if turns not in known:
                known[turns] = [i for asked, answer in turns for i in earlier_turn(self.tokenizer, asked, answer)[1]]
            system = None if turns else SYSTEM
            lists.append(known[turns] + make_context(self.tokenizer, text, system=system)[1])
        return lists

    def text(self, tokens: Sequence[int]) -> str:
        """What a model sees in these token ids, special tokens written out. Where a cut parts a character: U+FFFD."""
        keep: dict[str, Any] = {} if self.qwen else {"clean_up_tokenization_spaces": False}
        return str(self.tokenizer.decode([int(i) for i in tokens], skip_special_tokens=False, **keep))

    def _hostile(self, text: str) -> bool:
        """Whether text of the data spells a special token."""
        return any(form in text for form in self.special)

    def _templated(self, prompts: Sequence[str], examples: Sequence[Turns]) -> list[list[int]]:
        if not getattr(self.tokenizer, "chat_template", None):
            raise UserError("this checkpoint's tokenizer has no chat template; add --base to ask it as a base model")
        return [
            self._dialogue([*(part for turn in turns for part in turn), text])
            for text, turns in zip(prompts, examples, strict=True)
        ]

    def _dialogue(self, texts: Sequence[str]) -> list[int]:
        """Turns of user and assistant, the user's first and last, in the chat template."""
        if not any(self._hostile(text) or any(form in text for form in self.markup) for text in texts):
            return list(self.tokenizer(self.rendered(texts), add_special_tokens=False)["input_ids"])
        parts = self.rendered([PLACEHOLDER] * len(texts)).split(PLACEHOLDER)
        if len(parts) != len(texts) + 1:
            raise UserError(f"this checkpoint's chat template shows {len(parts) - 1} of {len(texts)} turns")
        first, *frame = [list(self.tokenizer(part, add_special_tokens=False)["input_ids"]) for part in parts]
        return first + [i for text, behind in zip(texts, frame, strict=True) for i in self._inside(text) + behind]

    def rendered(self, texts: Sequence[str]) -> str:
        """The chat template's text of turns of user and assistant, the user's first and last."""
        from jinja2.exceptions import TemplateError

        turns = [{"role": ("user", "assistant")[number % 2], "content": text} for number, text in enumerate(texts)]
        words = {} if self.enable_thinking is None else {"enable_thinking": self.enable_thinking}
        try:
            return str(self.tokenizer.apply_chat_template(turns, tokenize=False, add_generation_prompt=True, **words))
        except TemplateError as error:
            raise UserError(f"this checkpoint's chat template fails: {one_line(error)}") from error

    def _inside(self, text: str) -> list[int]:
        """Text inside of a chat turn, whatever it spells."""
        if self.qwen:
            return list(self.tokenizer.encode(text, allowed_special=set()))
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

    def continuation_ids(
        self, context: str, continuations: Sequence[str], chat: bool = False
    ) -> list[tuple[np.ndarray, tuple[int, ...]]]:
        """For each continuation the ids of the context, int32 [T], and its own ids behind them.

        As lm-evaluation-harness does it: blanks at the context's end go to the continuation, whose ids are those of
        both together, less as many as the context has. A BOS comes first where the tokenizer adds one; an empty
        context is the BOS, or without one the end-of-text token. chat: the context is a user turn, the continuation
        begins the reply.
        Raises UserError where a continuation has no token of its own.
        """
        if chat:
            (start,) = self.chat([context])
            found = [tuple(self._inside(text)) for text in continuations]
        else:
            kept = context.rstrip()
            moved = context[len(kept) :]
            if kept:
                start, *longer = self.plain([kept, *(kept + moved + text for text in continuations)])
            else:
                start = np.asarray([self._first_id()], dtype=np.int32)
                longer = [np.asarray([*start, *self._bare(moved + text)], dtype=np.int32) for text in continuations]
            found = [tuple(ids[len(start) :].tolist()) for ids in longer]
        for text, own in zip(continuations, found, strict=True):
            if not own:
                raise UserError(f"the answer {text!r} has no token of its own behind {context[-40:]!r}")
        return [(start, own) for own in found]

    def _first_id(self) -> int:
        """What stands before a text without a context."""
        if self.qwen:
            return int(self.tokenizer.eod_id)
        first = self.tokenizer.bos_token_id
        if first is None:
            first = self.tokenizer.eos_token_id
        if first is None:
            raise UserError("this tokenizer has no token to begin a text with: an empty context cannot be asked")
        return int(first)

    def _bare(self, text: str) -> list[int]:
        """Ordinary text without what the tokenizer puts around it."""
        if self.qwen:
            return list(self.plain([text])[0])
        return list(
            self.tokenizer(text, add_special_tokens=False, split_special_tokens=self._hostile(text))["input_ids"]
        )
