"""Generation by continuous batching: rows that finish leave, waiting ones enter, and a shared prefix is run once.

    requests -> prefix.plan -> for each group: run the shared prefix once, keep its keys and values
             -> rows enter in batches (their own tokens only) -> one token a step for all rows in flight
             -> a row ends at a stop token, a stop string or its length, and makes room

Decoding attends to the prefix and to a row's own slot and merges the two, so the prefix is never copied (attention.py).
A reply depends on its request alone: positions, NTK factors, penalties and random numbers are the row's own.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterator, Sequence
from typing import Any

from qwen_eval.engines.base import GenerateRequest, Reply
from qwen_eval.engines.local import attention, sampling
from qwen_eval.engines.local.attention import NAME, Pair
from qwen_eval.engines.local.forward import (
    PrefixSharingRules,
    alphas,
    base_forward,
    cache_keyword,
    device_of,
    forget_lengths,
    free_memory,
    hidden_states,
    last_logits,
    new_cache,
    on_device,
    out_of_memory,
    padded,
    run_prefix,
    scaled,
)
from qwen_eval.engines.local.prefix import Group, batches, plan
from qwen_eval.engines.local.rows import GROWTH, RowCache
from qwen_eval.engines.local.score import chunk_tokens, in_pieces
from qwen_eval.engines.local.stops import StopChecker
from qwen_eval.errors import UserError, one_line

import numpy as np
import torch

TYPICAL_REPLY = 256  # tokens a row is expected to grow by, when memory is shared out; slots grow as needed
LEAST_TOKENS = 256  # a prefill of fewer tokens is not what fills the memory


Pick = Callable[[torch.Tensor, Sequence[GenerateRequest], Sequence[int]], list[int]]


def generate(
    engine: Any, requests: Sequence[GenerateRequest], pick: Pick = sampling.pick
) -> Iterator[tuple[int, Reply]]:
    """Yields (index, reply) as replies end. Out of memory halves the rows in flight; unfinished rows start again.

    pick: chooses the next tokens from logits, as `sampling.pick` does.
    """
    rules = PrefixSharingRules(engine.model)
    prompts = [request.tokens for request in requests]
    keys = [
        rules.sharing_key(len(request.tokens) + request.max_new_tokens, len(request.tokens)) for request in requests
    ]
    for group in plan(prompts, keys):
        together, single = group.members, []
        if not group.length:
            together = [index for index in group.members if rules.rows_together(keys[index])]
            single = [index for index in group.members if not rules.rows_together(keys[index])]
        if together:
            yield from ContinuousBatch(engine, rules, requests, Group(group.length, together), pick).replies()
        for index in single:
            yield index, generate_single(engine, requests[index], pick)


class Row:
    """A request being answered: its own prompt tokens behind the prefix, and what was generated so far."""

    def __init__(self, index: int, request: GenerateRequest, shared: int, stop_checker: StopChecker) -> None:
        self.index, self.request, self.stop_checker = index, request, stop_checker
        self.own = request.tokens[shared:]
        if not len(self.own):
            raise ValueError("an empty prompt")  # the CPU kernel would divide by its length
        self.generated_ids: list[int] = []

    def take(self, token: int) -> Reply | None:
        """Give the row its next token; its reply when that ends it."""
        ended = token in self.request.stop_tokens
        if not ended:
            self.generated_ids.append(token)
            ended = self.stop_checker.ended(self.generated_ids)
        if not ended and len(self.generated_ids) < self.request.max_new_tokens:
            return None
        text = self.stop_checker.reply(self.generated_ids)
        return Reply(text, len(self.generated_ids), "stop" if ended else "length")


@torch.inference_mode()
def generate_single(engine: Any, request: GenerateRequest, pick: Pick = sampling.pick) -> Reply:
    """One request by itself with transformers' own cache and attention: for models whose attention is no plain causal
    one (a sliding window that the text outgrows, soft capping) or whose RoPE looks at the whole batch."""
    model = engine.model
    forget_lengths(model)
    row = Row(0, request, 0, StopChecker(engine.tokenizer, request.stop))
    cache = new_cache(model)
    ids = past = on_device(request.tokens.astype(np.int64), device_of(model))[None]
    chunks = prefill_chunks(engine, ids)
    for chunk in chunks:
        inputs = alphas(model, [model.ntk_alpha(ids.shape[1])]) if hasattr(model, "ntk_alpha") else {}
        base_forward(model, None, input_ids=chunk, cache=cache, use_cache=True, **inputs)
    ids = ids[:, sum(chunk.shape[1] for chunk in chunks) :]
    while True:
        logits = last_logits(model, input_ids=ids, use_cache=True, **{cache_keyword(model): cache})
        token = next_token(logits, row, past, pick)
        if (reply := row.take(token)) is not None:
            return reply
        ids = on_device([[token]], ids.device)
        past = torch.cat([past, ids], dim=1)


def next_token(logits: torch.Tensor, row: Row, past: torch.Tensor, pick: Pick = sampling.pick) -> int:
    """The next token of one row. logits fp32 [1, V]; past: its prompt and reply so far, int64 [1, T]."""
    if row.request.repetition_penalty != 1.0:
        seen = torch.zeros_like(logits, dtype=torch.bool).scatter_(1, past.to(logits.device), True)
        penalty = on_device([row.request.repetition_penalty], logits.device)
        logits = sampling.penalise(logits, seen, penalty)
    return pick(logits, [row.request], [len(row.generated_ids)])[0]


def prefill_chunks(engine: Any, ids: torch.Tensor) -> Sequence[torch.Tensor]:
    """What of a prompt [1, T] goes in before its last chunk: given whole, its mask would be T x T."""
    if not in_pieces(engine.model.config):
        return ()
    split = ids.split(chunk_tokens(ids.shape[1], engine.token_budget), dim=1)
    return split[:-1]


class ContinuousBatch:
    """One group of requests from their shared prefix to their replies."""

    def __init__(
        self, engine: Any, rules: PrefixSharingRules, requests: Sequence[GenerateRequest], group: Group, pick: Pick
    ) -> None:
        self.engine, self.model, self.rules, self.group, self.pick = engine, engine.model, rules, group, pick
        # The longest first: the end of a group, with few rows in flight, is then the shortest.
        order = sorted(group.members, key=lambda index: -len(requests[index].tokens))
        checkers = {stop: StopChecker(engine.tokenizer, stop) for stop in {requests[index].stop for index in order}}
        self.waiting = deque(Row(i, requests[i], group.length, checkers[requests[i].stop]) for i in order)
        self.active: list[Row] = []
        self.alpha = rules.alpha(len(requests[order[0]].tokens)) if group.length else None
        self.penalised = any(requests[index].repetition_penalty != 1.0 for index in order)
        self.prefix: list[Pair] | None = None
        self.cache: RowCache | None = None
        self.seen: torch.Tensor | None = None  # bool [slots, V]: the tokens that a repetition penalty counts

    def replies(self) -> Iterator[tuple[int, Reply]]:
        while self.waiting or self.active:
            try:
                yield from self._until_memory_runs_out()
            except (RuntimeError, MemoryError) as error:
                if not out_of_memory(error):
                    raise
                self._make_room(error)
                failed = True
            else:
                failed = False
            if failed:
                again = [Row(row.index, row.request, self.group.length, row.stop_checker) for row in self.active]
                self.waiting.extendleft(reversed(again))
                self.active, self.cache, self.prefix, self.seen = [], None, None, None
                free_memory()

    def _make_room(self, error: BaseException) -> None:
        """Halve what did not fit: the tokens of a prefill, as far as that helps, else the rows in flight."""
        if self.entering and self.engine.token_budget > LEAST_TOKENS:
            self.engine.token_budget //= 2
        elif self.slots > 1:
            self.engine.flight_rows = self.slots // 2
        else:
            raise UserError(
                f"out of memory with one reply at a time ({one_line(error)[:120]}); "
                f"try --dtype bfloat16, a lower --max-new-tokens, or a device with more memory"
            ) from error

    def _until_memory_runs_out(self) -> Iterator[tuple[int, Reply]]:
        request = self.waiting[0].request
        width = max(len(row.own) for row in self.waiting) + GROWTH
        fitting = self.engine.slot_tokens // (width + TYPICAL_REPLY)
        self.slots = max(1, min(len(self.waiting), self.engine.flight_rows, fitting))
        self.entering = False
        if self.group.length:
            self.prefix = run_prefix(self.model, request.tokens[: self.group.length], self.alpha)
        layers = self.model.config.get_text_config().num_hidden_layers
        self.cache = RowCache(layers, self.slots, width)
        while self.waiting or self.active:
            free = self.slots - len(self.active)
            # Entering in lots of an eighth keeps prefills efficient without leaving slots empty for long.
            if self.waiting and (free >= max(1, self.slots // 8) or free >= len(self.waiting)):
                yield from self._enter([self.waiting.popleft() for _ in range(min(free, len(self.waiting)))])
            if self.active:
                yield from self._step()

    # -- one forward ---------------------------------------------------------------------------------------------------

    def _enter(self, rows: list[Row]) -> Iterator[tuple[int, Reply]]:
        """Prefill the own tokens of new rows, in batches of the token budget, and take their first token."""
        assert self.cache is not None
        lengths = [len(row.own) for row in rows]
        first_of: list[int] = []
        start = len(self.active)
        self.active += rows  # from here on they are in flight: running out of memory starts them again
        order: list[int] = []
        self.entering = True
        for batch in batches(lengths, range(len(rows)), self.engine.token_budget, None):
            order += batch
            lot = [rows[place] for place in batch]
            device = device_of(self.model)
            ids, last = padded([row.own for row in lot], device)
            self.cache.enter([len(row.own) for row in lot])
            positions = torch.arange(self.group.length, self.group.length + ids.shape[1], device=device)
            inputs = {"input_ids": ids, "position_ids": positions[None].expand(len(lot), -1), **self._alphas(lot)}
            with attention.running(attention.Rows(self.prefix)):
                hidden = hidden_states(self.model, self.rules, last, NAME, cache=self.cache, use_cache=True, **inputs)
            first_of += self._next_tokens(hidden, lot, start + len(order) - len(batch))
        self.entering = False
        self.active[start:] = [rows[place] for place in order]  # the order of their slots
        yield from self._take(start, first_of)

    def _step(self) -> Iterator[tuple[int, Reply]]:
        """One more token for every row in flight."""
        assert self.cache is not None
        lengths = self.cache.lengths
        # All that the device has to be told of this step goes in one copy, while it has nothing to do.
        told = [[row.generated_ids[-1], length] for row, length in zip(self.active, lengths, strict=True)]
        ids, places = on_device(told, device_of(self.model)).unbind(dim=1)
        self.cache.step(places)
        inputs = {
            "input_ids": ids[:, None],
            "position_ids": (places + self.group.length)[:, None],
            **self._alphas(self.active),
        }
        with attention.running(attention.Rows(self.prefix, places + 1)):
            hidden = base_forward(self.model, NAME, cache=self.cache, use_cache=True, **inputs).last_hidden_state
        yield from self._take(0, self._next_tokens(hidden[:, -1], self.active, 0, ids))

    def _alphas(self, rows: Sequence[Row]) -> dict[str, Any]:
        """NTK factors of the prompts' lengths, frozen for the whole reply as the published model does."""
        if not self.rules.qwen:
            return {}
        return alphas(self.model, [self.rules.alpha(len(row.request.tokens)) for row in rows])

    # -- tokens --------------------------------------------------------------------------------------------------------

    @torch.inference_mode()
    def _next_tokens(
        self, hidden: torch.Tensor, rows: Sequence[Row], slot: int, ids: torch.Tensor | None = None
    ) -> list[int]:
        """The next token of rows in slots `slot`, `slot + 1` ...; hidden [B, h]; ids: their latest tokens, int64 [B],
        None when they enter."""
        logits = scaled(self.model, self.model.get_output_embeddings()(hidden)).float()
        if self.penalised:
            logits = self._penalise(logits, rows, slot, ids)
        steps = [len(row.generated_ids) for row in rows]
        return self.pick(logits, [row.request for row in rows], steps)

    def _penalise(self, logits: torch.Tensor, rows: Sequence[Row], slot: int, ids: torch.Tensor | None) -> torch.Tensor:
        """A repetition penalty counts the prompt's tokens too, those of the shared prefix included."""
        device = logits.device
        if self.seen is None:
            self.seen = torch.zeros(self.slots, logits.shape[1], dtype=torch.bool, device=device)
        seen = self.seen[slot : slot + len(rows)]
        if ids is not None:
            seen.scatter_(1, ids.to(device)[:, None], True)
        else:
            seen.zero_()
            for place, row in enumerate(rows):
                seen[place].index_fill_(0, on_device(row.request.tokens.astype(np.int64), device), True)
        penalties = on_device([row.request.repetition_penalty for row in rows], device)
        return sampling.penalise(logits, seen, penalties)

    def _take(self, start: int, tokens: list[int]) -> Iterator[tuple[int, Reply]]:
        """Give rows from slot `start` on their next token; those that end leave. Replies are yielded only when the
        slots are in order again, so that whoever stops reading here loses nothing."""
        ended: list[tuple[int, Reply]] = []
        for slot in reversed(range(start, start + len(tokens))):
            row, token = self.active[slot], tokens[slot - start]
            if (reply := row.take(token)) is not None:
                ended.append((row.index, reply))
                self._drop(slot)
        yield from reversed(ended)

    @torch.inference_mode()
    def _drop(self, slot: int) -> None:
        assert self.cache is not None
        last = len(self.active) - 1
        self.cache.drop(slot)
        self.active[slot] = self.active[last]
        self.active.pop()
        if self.seen is not None:
            self.seen[slot] = self.seen[last]
