"""The token by which a prompt goes on with a choice, by whatever makes the tokens: a tokenizer here, or a server."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Sequence

from qwen_eval.errors import UserError

import numpy as np


class CandidateTokens(ABC):
    """What finds the ids of choices, from the ids of prompts alone."""

    @abstractmethod
    def plain(self, prompts: Sequence[str], raw: bool = False) -> list[np.ndarray]:
        """Token ids (int32 [T]) of each text that a base model goes on from."""

    @abstractmethod
    def chat(self, prompts: Sequence[str], assistant_prefill: Sequence[str] | None = None) -> list[np.ndarray]:
        """Token ids (int32 [T]) of each user turn, with the begin of the assistant's."""

    def candidate_ids(
        self, prompts: Sequence[str], candidates: Sequence[str], chat: bool = False
    ) -> list[tuple[int, ...]]:
        """For each prompt the token by which it goes on with each candidate: what prompt + candidate has behind the
        prompt's own tokens. Never the candidate encoded alone: SentencePiece puts a blank before it (`▁A`).

        Prompts whose last lines are the same go on alike, so each such line costs a few prompts' encoding.
        Raises UserError where a candidate is not one token.
        """
        by_line: dict[str, tuple[int, ...]] = {}
        found = []
        for prompt in prompts:
            line = prompt[prompt.rstrip().rfind("\n") + 1 :]
            if line not in by_line:
                by_line[line] = self._added(prompt, candidates, chat)
            found.append(by_line[line])
        return found

    def _added(self, prompt: str, candidates: Sequence[str], chat: bool) -> tuple[int, ...]:
        if chat:
            start, *longer = self.chat([prompt] * (len(candidates) + 1), ["", *candidates])
        else:
            start, *longer = self.plain([prompt, *(prompt + text for text in candidates)])
        found = []
        for text, ids in zip(candidates, longer, strict=True):
            before = start
            if not np.array_equal(ids[: len(start)], start):
                # The tokenizer has a token for the prompt's end and the candidate together. The prompt's tokens are
                # what the model has seen, so it goes on with the candidate as it stands where nothing can join it.
                before, ids = self.plain(["\n", f"\n{text}"])
            if len(ids) != len(before) + 1 or not np.array_equal(ids[:-1], before):
                line = prompt.rstrip().rpartition("\n")[2]
                raise UserError(
                    f"this tokenizer has no token of its own for the answer {text!r} behind {line[-40:]!r}; "
                    f"choices need one token each (--chat asks for a reply in place of logits)"
                )
            found.append(int(ids[-1]))
        return tuple(found)
