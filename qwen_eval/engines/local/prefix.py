"""Which requests share a prefix: found on the token ids of whole prompts, since a text prefix tokenises differently.

A plan is a list of groups; a group's prefix runs once, its members continue from it. One level of sharing is used:
few-shot benchmarks share one long prefix a subject, and a chain of short ones costs more launches than it saves.
"""

from collections.abc import Hashable, Sequence
from typing import NamedTuple

import numpy as np

# Sharing fewer tokens than this costs more (a forward of its own, smaller batches) than it saves.
WORTH_SHARING = 32


class Group(NamedTuple):
    """Requests (by index) whose first `length` tokens are the same; length 0: nothing shared."""

    length: int
    members: list[int]


def plan(prompts: Sequence[np.ndarray], keys: Sequence[Hashable] | None = None) -> list[Group]:
    """Groups that save the most tokens. prompts: int arrays [T]; keys: only equal keys may share (RoPE scaling, say).

    Every member keeps at least one token of its own. Groups come in the order of their first member, the unshared
    requests as one group of length 0 at the end.
    """
    by_key: dict[Hashable, list[int]] = {}
    for index in range(len(prompts)):
        by_key.setdefault(keys[index] if keys is not None else None, []).append(index)
    shared: list[Group] = []
    unshared: list[int] = []
    for members in by_key.values():
        for group in _best_cut(prompts, members):
            if group.length:
                shared.append(Group(group.length, sorted(group.members)))
            else:
                unshared += group.members
    shared.sort(key=lambda group: group.members[0])
    return shared + ([Group(0, sorted(unshared))] if unshared else [])


def common_prefix(a: np.ndarray, b: np.ndarray) -> int:
    """Number of leading tokens that two prompts have in common."""
    n = min(len(a), len(b))
    differ = np.flatnonzero(a[:n] != b[:n])
    return int(differ[0]) if len(differ) else n


class _Node(NamedTuple):
    """A node of the tree of shared prefixes, in a list in post-order: its subtree is the stretch from `first` to it."""

    first: int
    length: int  # tokens that its leaves share
    children: list[int]
    leaf: int = -1  # the request, of a leaf


def _tree(prompts: Sequence[np.ndarray], members: list[int]) -> list[_Node]:
    """In sorted order every shared prefix is a run of neighbours, and the runs form a tree (the LCP-interval tree of a
    suffix array, Abouelhoda et al. 2004); the root, of length 0, comes last."""
    order = sorted(members, key=lambda index: prompts[index].astype(">i4").tobytes())
    nodes: list[_Node] = []
    open_nodes: list[tuple[int, int, list[int]]] = [(0, 0, [])]  # (first, length, children so far)
    for position, index in enumerate(order):
        first = len(nodes)
        nodes.append(_Node(first, len(prompts[index]), [], index))
        shared = 0
        if position + 1 < len(order):
            neighbour = prompts[order[position + 1]]
            own = min(len(prompts[index]), len(neighbour)) - 1  # leave a token to compute
            shared = min(common_prefix(prompts[index], neighbour), own)
        while open_nodes[-1][1] > shared:
            first_node, length, children = open_nodes.pop()
            nodes.append(_Node(first_node, length, [*children, len(nodes) - 1]))
            first = first_node
        if open_nodes[-1][1] == shared:
            open_nodes[-1][2].append(len(nodes) - 1)
        else:
            open_nodes.append((first, shared, [len(nodes) - 1]))
    return [*nodes, _Node(*open_nodes[0])]


def _best_cut(prompts: Sequence[np.ndarray], members: list[int]) -> list[Group]:
    """The one-level grouping that saves the most tokens.

    A leaf joins the nearest open node above it and saves that node's length; opening a node costs its length once. So
    one is opened when that gains more than what its leaves save with the nearest open node above.
    """
    nodes = _tree(prompts, members)
    opened = [float("-inf")] * len(nodes)  # what a subtree saves when its top is opened

    def saved(top: int, above: int) -> float:
        """What the children's subtrees save below an open node of length `above`."""
        values = [0.0] * (top - nodes[top].first)
        for at in range(nodes[top].first, top):
            node = nodes[at]
            apart = above if node.leaf >= 0 else sum(values[child - nodes[top].first] for child in node.children)
            values[at - nodes[top].first] = max(apart, opened[at])
        return sum(values[child - nodes[top].first] for child in nodes[top].children)

    for at, node in enumerate(nodes):
        if node.children and node.length >= WORTH_SHARING:
            opened[at] = saved(at, node.length) - node.length
    unshared = Group(0, [])
    groups, waiting = [unshared], [(len(nodes) - 1, unshared)]
    while waiting:
        at, group = waiting.pop()
        if nodes[at].leaf >= 0:
            group.members.append(nodes[at].leaf)
            continue
        if opened[at] > saved(at, group.length):
            group = Group(nodes[at].length, [])
            groups.append(group)
        waiting += [(child, group) for child in nodes[at].children]
    return [group for group in groups if group.members]


# What a batch costs by itself (weights read, kernels launched), in tokens: less padding than that is not worth another.
BATCH_COST = 512


def batches(lengths: Sequence[int], order: Sequence[int], budget: int, rows: int | None) -> list[list[int]]:
    """Pack requests, longest first, into batches of at most `budget` padded tokens and `rows` rows (at least one row),
    so that the padded tokens and the batches cost the least.

    Longest first: a batch that does not fit in memory shows at the start, and rows of one length lie together.
    """
    order = sorted(order, key=lambda index: -lengths[index])
    sizes = np.array([lengths[index] for index in order], dtype=np.int64)
    best = np.zeros(len(order) + 1, dtype=np.int64)  # the least cost of the first n requests
    begins = np.zeros(len(order) + 1, dtype=np.int64)  # where the last batch of that begins
    for end in range(1, len(order) + 1):
        most = min(end, max(1, budget // max(1, int(sizes[end - 1]))), rows or end)
        starts = np.arange(end - most, end)
        padded = (end - starts) * sizes[starts]
        cost = np.where((padded <= budget) | (starts == end - 1), best[starts] + padded, np.iinfo(np.int64).max)
        at = int(cost.argmin())
        best[end], begins[end] = cost[at] + BATCH_COST, starts[at]
    packed: list[list[int]] = []
    end = len(order)
    while end:
        start = int(begins[end])
        packed.append(order[start:end])
        end = start
    return packed[::-1]
