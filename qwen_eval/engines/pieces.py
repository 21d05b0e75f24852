"""The requests of one call, in pieces that several replicas of a model answer at the same time.

Requests that share a long prefix stay in one piece, since each piece runs its prefix once. Pieces are of about the same
work; which replica gets which is not planned: one that is quick takes more of them.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from qwen_eval.engines.local.prefix import Group, plan

import numpy as np

# A replica that is quicker than another by less than this part of its work has nothing to take over.
PIECES_PER_REPLICA = 8
TYPICAL_REPLY = 256  # tokens of a reply, which costs at least as much as so many of a prompt


def split(kind: str, requests: Sequence[Any], replicas: int, full_batch: int) -> list[list[int]]:
    """Pieces of the requests, by index, the most work first. kind: the engine's method that answers them.

    full_batch: rows that one replica decodes in hardly more time than one row. A piece of `generate` has no fewer while
    there are pieces for all: thin batches would take each as long as a full one.
    """
    if not requests:
        return []
    each = PIECES_PER_REPLICA
    if kind == "generate":
        each = max(1, min(each, len(requests) // (replicas * full_batch)))
    # Documents that are scored share nothing: their keys and values are those of one length.
    everything = [Group(0, list(range(len(requests))))]
    groups = everything if kind == "score" else plan([request.tokens for request in requests])
    return _packed(groups, [_work(kind, request) for request in requests], min(len(requests), replicas * each))


def _work(kind: str, request: Any) -> int:
    """What a request costs by itself, in tokens."""
    own = len(request.tokens)
    if kind == "generate":
        own += min(request.max_new_tokens, TYPICAL_REPLY)
    elif kind == "loglikelihood":
        own += len(request.continuation)
    return own


def _packed(groups: Sequence[Group], work: Sequence[int], count: int) -> list[list[int]]:
    """About `count` pieces. work: of each request, its shared prefix included."""
    own = {group.members[0]: [work[index] - group.length for index in group.members] for group in groups}
    share = sum(group.length + sum(own[group.members[0]]) for group in groups) / count
    found: list[tuple[int, list[int]]] = []
    spent, piece = 0, list[int]()
    for group in groups:
        costs = own[group.members[0]]
        parts = round((group.length + sum(costs)) / share)
        if group.length:  # each part runs the prefix, which is to be the smaller half of its work
            parts = min(parts, sum(costs) // group.length)
        for start, end in _cuts(costs, max(1, parts)):
            cost = group.length + sum(costs[start:end])
            if piece and spent + cost / 2 > share:
                found.append((spent, piece))
                spent, piece = 0, []
            spent, piece = spent + cost, piece + group.members[start:end]
    found.append((spent, piece))
    return [members for _, members in sorted(found, key=lambda one: -one[0])]


def _cuts(costs: Sequence[int], parts: int) -> list[tuple[int, int]]:
    """Where to cut a list into at most so many parts of the same cost: (first, last + 1) of each."""
    sums = np.cumsum(costs)
    ends = [*np.searchsorted(sums, sums[-1] * np.arange(1, parts) / parts, side="left") + 1, len(costs)]
    return [(int(start), int(end)) for start, end in zip([0, *ends], ends, strict=False) if end > start]
