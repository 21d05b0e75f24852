"""Where a reply ends by a stop string, across token borders and the byte-level pieces of a character."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from qwen_eval.errors import UserError


def earliest(text: str, stops: Sequence[str]) -> int | None:
    """Where the first stop string in `text` begins; None without one."""
    places = [place for stop in stops if (place := text.find(stop)) >= 0]
    return min(places) if places else None


class StopChecker:
    """Decides after each token whether a reply has ended by a stop string, looking only at the last few tokens.

    A token has at least one byte of text (or none), so the tail that can hold a stop string is bounded by the longest
    string's bytes; decoding starts a little earlier, since a tail may begin inside a character.
    """

    def __init__(self, tokenizer: Any, stops: Sequence[str]) -> None:
        if not all(stops):
            raise UserError("a stop string is empty; it would end every reply at once")
        self.tokenizer, self.stops = tokenizer, tuple(stops)
        self.tail = max((len(stop.encode()) for stop in self.stops), default=0) + 8
        self._last = {stop[-1] for stop in self.stops}
        self._may_complete: dict[int, bool] = {}

    def ended(self, tokens: Sequence[int]) -> bool:
        if not self.stops or not self._completes_one(tokens[-1]):
            return False
        return earliest(self.text(tokens[-self.tail :]), self.stops) is not None

    def _completes_one(self, token: int) -> bool:
        """Whether a stop string may end within this token: it has the last character of one, or a part of a character.
        A space alone may be lost at the beginning of a text."""
        found = self._may_complete.get(token)
        if found is None:
            text = self.text([token])
            found = not text or "\ufffd" in text or " " in self._last or any(last in text for last in self._last)
            self._may_complete[token] = found
        return found

    def text(self, tokens: Sequence[int]) -> str:
        """The text of generated tokens; special tokens show as they are, as in the published scripts."""
        return str(self.tokenizer.decode(list(tokens), skip_special_tokens=False))

    def reply(self, tokens: Sequence[int]) -> str:
        """The text before the first stop string."""
        text = self.text(tokens)
        end = earliest(text, self.stops)
        return text if end is None else text[:end]
