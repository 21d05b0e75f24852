"""Items to which an endpoint gave no reply. They are kept apart, so that they never count as wrong answers."""

from collections import Counter
from collections.abc import Iterable, Mapping
from typing import Any

from qwen_eval.data.items import Item
from qwen_eval.engines.base import NoReply
from qwen_eval.reporting.samples import NO_LOGITS


class Missing:
    """The items of a run without a reply, and why. They are in no figure; the same command asks them again.

    asked: who gave no reply, the endpoint's address.
    """

    def __init__(self, asked: str) -> None:
        self.asked = asked
        self.why: dict[tuple[str, int], NoReply] = {}

    def __len__(self) -> int:
        return len(self.why)

    def __contains__(self, item: Item) -> bool:
        return item.key in self.why

    def add(self, item: Item, why: NoReply) -> None:
        self.why[item.key] = why

    @property
    def summary(self) -> str:
        """`3 HTTP 400, 1 finish_reason content_filter; the first: test/7, HTTP 400, prompt too long`."""
        kinds = Counter(why.kind for why in self.why.values())
        (name, _), first = next(iter(self.why.items()))
        counts = ", ".join(f"{count} {kind}" for kind, count in kinds.most_common())
        return f"{counts}; the first: {name}, {first.kind}, {first.detail}"

    def notes(self, answered: int) -> list[str]:
        """The note under the table; none where every item has its reply. answered: how many have one."""
        if not self.why:
            return []
        return [
            f"{self.asked} gave no reply to {len(self)} of {answered + len(self)} items, which are in no figure "
            f"({self.summary}); the same command asks them again"
        ]

    def as_json(self) -> list[dict[str, Any]]:
        """For results.json."""
        return [
            {"id": name, "sample": sample, "why": why.kind, "detail": why.detail}
            for (name, sample), why in self.why.items()
        ]


def endpoint_notes(requests: Mapping[str, int] | None, records: Iterable[Mapping[str, Any]]) -> list[str]:
    """What else a reader should know of replies that came from an endpoint. requests: of this start."""
    if requests is None:
        return []
    notes = [
        f"requests of this start: {requests['asked']} asked, {requests['retried']} tried again, "
        f"{requests['failed']} failed"
    ]
    texts = [record for record in records if record.get("choice_logits", NO_LOGITS) == NO_LOGITS]
    if empty := sum(not str(record.get("response", "")).strip() for record in texts):
        notes.append(f"empty replies, read as they are: {empty}")
    return notes
