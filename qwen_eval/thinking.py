"""Replies of chat models that think before they answer: where the think block ends, and what is said of it.

`<think> ... </think> answer`: only what follows the last `</think>` is the answer. The block is kept in the record
(`reasoning`) and no extraction reads it. A reply that never closes its block has no answer.

A Qwen3 writes both tags itself, or none where it is told not to think (`enable_thinking` of its chat template). The
template of a Thinking-2507 ends inside the block, so that its replies have no `<think>`. Who thinks: thinking_runs.py.
"""

from collections.abc import Iterable, Mapping
from typing import Any, NamedTuple

from qwen_eval.reporting.samples import NO_LOGITS

OPEN, CLOSE = "<think>", "</think>"


class Parts(NamedTuple):
    """A reply in parts. reasoning: the text of its think blocks, None where it has none; closed: it has no block that
    it never closes; blocks: how many it opens, that of the prompt included."""

    answer: str
    reasoning: str | None = None
    closed: bool = True
    blocks: int = 0


class Thinking(NamedTuple):
    """How a model that can think is asked.

    on: it thinks; usual: that is what it does without a flag; switch: the template's `enable_thinking`, None: it is not
    told; opened: the prompt ends inside the block, None: that is not known; note: what a reader should know of it.
    """

    on: bool
    usual: bool = True
    switch: bool | None = None
    opened: bool | None = False
    note: str = ""

    @property
    def mode(self) -> str:
        """As the reported figures call it."""
        return "thinking" if self.on else "non-thinking"

    @property
    def suffix(self) -> str:
        """What the usual output folder's name ends in, where the model is not asked in its usual way."""
        return "" if self.usual else f"-{self.mode}"

    def parts(self, text: str, finish: str = "", apart: bool = False) -> Parts:
        """The reply in parts. finish: how it ended, "" where that is not known; apart: its reasoning came beside it."""
        begins = text.lstrip().startswith(OPEN)
        if not (self.on or begins):
            return Parts(text)
        if apart and not text.strip():
            return Parts("", closed=False)
        thought, end, answer = text.rpartition(CLOSE)
        inside = self.opened or (self.opened is None and finish == "length")
        is_open = OPEN in answer or (not end and not apart and inside)
        if not (end or is_open):
            return Parts(text)
        reasoning = (text if is_open else thought).strip().removeprefix(OPEN).strip()
        first_tag_closes = not 0 <= text.find(OPEN) < (text + CLOSE).find(CLOSE)
        blocks = text.count(OPEN) + first_tag_closes
        return Parts("" if is_open else answer.lstrip(), reasoning, not is_open, blocks)


def take_off(thinking: Thinking, known: dict[str, Any], text: str, finish: str = "", apart: bool = False) -> str:
    """The answer in a reply; what else the reply says goes into `known`, the fields of its record. See
    `Thinking.parts`."""
    parts = thinking.parts(text, finish, apart)
    if parts.reasoning is not None:
        earlier = known.get("reasoning")  # of the turns before
        known["reasoning"] = parts.reasoning if not earlier else f"{earlier}\n\n{parts.reasoning}"
    if parts.blocks > 1:
        known["think_blocks"] = max(parts.blocks, known.get("think_blocks", 0))
    if not parts.closed:
        known["think_closed"] = False
    return parts.answer


def kept_of(line: Mapping[str, Any]) -> dict[str, Any]:
    """The same fields of a given reply whose block was taken off already: of a samples.jsonl, or of an endpoint."""
    kinds = {"reasoning": str, "think_closed": bool, "think_blocks": int}
    return {name: line[name] for name, kind in kinds.items() if type(line.get(name)) is kind}


def without_answer(record: Mapping[str, Any]) -> dict[str, Any]:
    """The record of a reply that never closed its block: a protocol may read an answer from nothing (the published
    extraction of a letter gives A), and that is none."""
    none = {name: "" for name in ("prediction", "prediction_robust") if name in record}
    wrong = {name: False for name, value in record.items() if name.startswith("correct") and isinstance(value, bool)}
    return {**record, **none, **wrong}


def notes(thinking: Thinking | None, records: Iterable[Mapping[str, Any]], limit: int | None, given: bool) -> list[str]:
    """What to know of the replies' think blocks. limit: the most new tokens that a reply may have, None where that is
    not known; given: the model is not here (an endpoint, a file of replies), and may think unknown to us."""
    replies = [record for record in records if record.get("choice_logits", NO_LOGITS) == NO_LOGITS]
    have = [record for record in replies if "reasoning" in record]
    found = []
    if have or (thinking is not None and thinking.on and replies):
        empty = sum(not record["reasoning"].strip() for record in have)
        note = f"{len(have)} of {len(replies)} replies have a think block, kept as `reasoning` and not read"
        found.append(note + (f"; {empty} of these are empty" if empty else ""))
    if several := sum(record.get("think_blocks", 0) > 1 for record in replies):
        found.append(f"{several} replies have nested or several think blocks; what follows the last {CLOSE} is read")
    if unclosed := sum(record.get("think_closed") is False for record in replies):
        at_most = "" if limit is None else f", at most {limit:,} new tokens (--max-new-tokens)"
        count = f"{unclosed} of {len(replies)} replies never closed their think block{at_most}"
        found.append(f"{count}: they have no answer and count as wrong")
    texts = [str(record.get("response", "")) for record in replies] if given and thinking is None else []
    if unread := sum(CLOSE in text or text.lstrip().startswith(OPEN) for text in texts):
        found.append(f"{unread} replies hold a think block, which was read as text (--thinking on takes it off)")
    return found
