"""Batches of prompts behind a shared prefix, in the memory that there is: what choose.py and loglikelihood.py share.

groups (prefix.plan) -> for each group: run the shared prefix once, keep its keys and values
                     -> the members, longest first, packed by a token budget -> their answers
"""

from __future__ import annotations

from collections.abc import Callable, Hashable, Iterator, Sequence
from typing import Any, NamedTuple, TypeVar

from qwen_eval.engines.local.attention import Pair
from qwen_eval.engines.local.forward import PrefixSharingRules, free_memory, out_of_memory, run_prefix
from qwen_eval.engines.local.prefix import Group, batches
from qwen_eval.errors import UserError, one_line

import numpy as np

MIN_TOKENS = 64  # a forward of fewer tokens is not what fills the memory
Answer = TypeVar("Answer")


class SharedPrefix(NamedTuple):
    """The first `length` tokens of a group's prompts: `pairs`, keys and values of each layer (None: length 0), computed
    with the NTK factor `alpha` of a first-generation Qwen (None: another model, or length 0)."""

    length: int
    pairs: list[Pair] | None
    alpha: float | None


def run_groups(
    engine: Any,
    rules: PrefixSharingRules,
    prompts: Sequence[np.ndarray],
    keys: Sequence[Hashable],
    groups: Sequence[Group],
    run_batch: Callable[[list[int], SharedPrefix], Sequence[Answer]],
    most_tokens: float = float("inf"),
) -> Iterator[tuple[int, Answer]]:
    """Yields (index of the prompt, its answer), group by group. Out of memory halves the engine's token budget, and
    what has no answer yet runs again.

    Args:
        prompts: token ids, int [T] each; keys: their `PrefixSharingRules.sharing_key`.
        groups: what `prefix.plan` made of them.
        run_batch: gives the answers of these prompts (indices), whose first tokens are in the shared prefix.
        most_tokens: padded tokens per batch at most, where the engine's budget is larger.

    Raises:
        UserError: one prompt at a time is too much for the memory.
    """
    for group in groups:
        lengths = {index: len(prompts[index]) - group.length for index in group.members}
        # Prompts that share a prefix have the same key, which is their NTK factor.
        alpha: Any = keys[group.members[0]] if group.length else None
        prefix = None
        waiting = list(group.members)
        while waiting:
            try:
                if prefix is None:
                    first = prompts[waiting[0]][: group.length]
                    pairs = run_prefix(engine.model, first, alpha) if group.length else None
                    prefix = SharedPrefix(group.length, pairs, alpha)
                rows = 1 if not group.length and rules.one_by_one else engine.rows
                budget = int(min(engine.token_budget, most_tokens))
                for batch in batches(lengths, waiting, budget, rows):  # type: ignore[arg-type]
                    answers = run_batch(batch, prefix)
                    done = set(batch)
                    waiting = [index for index in waiting if index not in done]
                    yield from zip(batch, answers, strict=True)
            except (RuntimeError, MemoryError) as error:
                if not out_of_memory(error):
                    raise
                if engine.token_budget <= MIN_TOKENS:
                    raise UserError(
                        f"out of memory with one prompt at a time ({one_line(error)[:120]}); "
                        f"try --dtype bfloat16, a lower --max-seq-len, or a device with more memory"
                    ) from error
                engine.token_budget //= 2
                prefix = None  # its memory is needed for the retry's own start
            else:
                break
            free_memory()
