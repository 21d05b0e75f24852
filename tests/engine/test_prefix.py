"""The plan of shared prefixes: what a group promises, and that no better one-level plan exists."""

import itertools
from collections import Counter

from qwen_eval.engines.local import prefix
from qwen_eval.engines.local.prefix import BATCH_COST, Group, batches, common_prefix, plan

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

LINES = st.lists(st.lists(st.integers(0, 2), min_size=1, max_size=9), min_size=1, max_size=30)


@pytest.fixture(autouse=True)
def _share_everything(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(prefix, "WORTH_SHARING", 1)


def arrays(lines: list[list[int]]) -> list[np.ndarray]:
    return [np.asarray(line, dtype=np.int32) for line in lines]


def saved(groups: list[Group]) -> int:
    return sum(group.length * (len(group.members) - 1) for group in groups)


def check_promises(prompts: list[np.ndarray], groups: list[Group]) -> None:
    assert Counter(index for group in groups for index in group.members) == Counter(range(len(prompts)))
    for group in groups:
        first = prompts[group.members[0]]
        for index in group.members:
            assert len(prompts[index]) > group.length, "a member keeps a token of its own"
            assert (prompts[index][: group.length] == first[: group.length]).all()


@settings(max_examples=150)
@given(LINES)
def test_every_request_once_and_members_share_what_the_group_says(lines: list[list[int]]) -> None:
    prompts = arrays(lines)
    check_promises(prompts, plan(prompts))


def best_by_brute_force(prompts: list[np.ndarray]) -> int:
    """The most tokens any partition into groups saves."""
    everyone = frozenset(range(len(prompts)))

    def gain(group: tuple[int, ...]) -> int:
        if len(group) == 1:
            return 0
        length = min(len(prompts[index]) for index in group) - 1
        for index in group[1:]:
            length = min(length, common_prefix(prompts[group[0]], prompts[index]))
        return length * (len(group) - 1)

    known: dict[frozenset[int], int] = {frozenset(): 0}

    def best(left: frozenset[int]) -> int:
        if left not in known:
            first, *rest = sorted(left)
            known[left] = max(
                gain((first, *(rest[i] for i in range(len(rest)) if mask >> i & 1)))
                + best(frozenset(rest[i] for i in range(len(rest)) if not mask >> i & 1))
                for mask in range(1 << len(rest))
            )
        return known[left]

    return best(everyone)


@settings(max_examples=400)
@given(st.lists(st.lists(st.integers(0, 1), min_size=1, max_size=6), min_size=1, max_size=7))
def test_no_grouping_saves_more(lines: list[list[int]]) -> None:
    prompts = arrays(lines)
    assert saved(plan(prompts)) == best_by_brute_force(prompts)


@settings(max_examples=60)
@given(LINES, st.randoms(use_true_random=False))
def test_only_equal_keys_share(lines: list[list[int]], rng) -> None:
    prompts = arrays(lines)
    keys = [rng.choice("xyz") for _ in prompts]
    groups = plan(prompts, keys)
    check_promises(prompts, groups)
    for group in groups:
        assert not group.length or len({keys[index] for index in group.members}) == 1


@settings(max_examples=60)
@given(LINES, st.randoms(use_true_random=False))
def test_the_order_of_the_requests_changes_nothing_that_is_saved(lines: list[list[int]], rng) -> None:
    shuffled = rng.sample(lines, len(lines))
    assert saved(plan(arrays(lines))) == saved(plan(arrays(shuffled)))


def test_a_few_tokens_are_not_worth_a_forward_of_their_own(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(prefix, "WORTH_SHARING", 5)
    four, five = [1, 2, 3, 4], [1, 2, 3, 4, 5]
    assert [group.length for group in plan(arrays([[*four, 7], [*four, 8]]))] == [0]
    assert [group.length for group in plan(arrays([[*five, 7], [*five, 8]]))] == [5]


def test_equal_prompts_leave_one_token() -> None:
    assert plan(arrays([[1, 2, 3]] * 3)) == [Group(2, [0, 1, 2])]


def test_token_ids_above_two_bytes_sort_rightly() -> None:
    assert plan(arrays([[70000, 1, 5], [4, 4, 4], [70000, 1, 6]])) == [Group(2, [0, 2]), Group(0, [1])]


def test_nothing_to_plan() -> None:
    assert plan([]) == []


def test_large_plans_are_quick() -> None:
    rng = np.random.default_rng(0)
    shots = [rng.integers(0, 150_000, 700) for _ in range(20)]
    prompts = [np.concatenate([shots[i % 20], rng.integers(0, 150_000, 80)]).astype(np.int32) for i in range(4000)]
    groups = plan(prompts)
    assert [(group.length, len(group.members)) for group in groups] == [(700, 200)] * 20


@settings(max_examples=150)
@given(
    st.lists(st.integers(1, 50), min_size=1, max_size=40), st.integers(1, 120), st.one_of(st.none(), st.integers(1, 8))
)
def test_batches_keep_to_the_budget_and_to_the_rows(lengths: list[int], budget: int, rows: int | None) -> None:
    packed = batches(lengths, range(len(lengths)), budget, rows)
    assert Counter(index for batch in packed for index in batch) == Counter(range(len(lengths)))
    for batch in packed:
        assert len(batch) == 1 or len(batch) * max(lengths[index] for index in batch) <= budget
        assert rows is None or len(batch) <= rows
    longest = [max(lengths[index] for index in batch) for batch in packed]
    assert longest == sorted(longest, reverse=True), "longest first"


@settings(max_examples=60)
@given(st.lists(st.integers(1, 4000), min_size=1, max_size=9), st.integers(1, 20_000))
def test_batches_cost_the_least(lengths: list[int], budget: int) -> None:
    """Of all ways to cut the sorted requests."""
    order = sorted(lengths, reverse=True)

    def cost(parts: list[list[int]]) -> float:
        fits = all(len(part) == 1 or len(part) * part[0] <= budget for part in parts)
        return sum(len(part) * part[0] + BATCH_COST for part in parts) if fits else float("inf")

    every = []
    for cuts in range(2 ** (len(order) - 1)):
        places = [0, *(i + 1 for i in range(len(order) - 1) if cuts >> i & 1), len(order)]
        every.append(cost([order[a:b] for a, b in itertools.pairwise(places)]))
    found = [[lengths[index] for index in batch] for batch in batches(lengths, range(len(lengths)), budget, None)]
    assert cost(found) == min(every)
