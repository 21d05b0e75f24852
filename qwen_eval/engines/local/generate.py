"""Generation by continuous batching: rows that finish leave, waiting ones enter, and a shared prefix is run once.

    requests -> prefix.plan -> for each group: run the shared prefix once, keep its keys and values
             -> rows enter in batches (their own tokens only) -> one token per step for all rows in flight
             -> a row ends at a stop token, a stop string or its length, and makes room

Decoding attends to the prefix and to a row's own slot and merges the two, so the prefix is never copied (attention.py).
A reply depends on its request alone: positions, NTK factors, penalties and random numbers are the row's own.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Iterator, Sequence
from typing import Any

from qwen_eval.engines.base import GenerateRequest, Reply
from qwen_eval.engines.local import attention, sampling
from qwen_eval.engines.local.attention import NAME
from qwen_eval.engines.local.forward import (
    PrefixSharingRules,
    alphas,
    base_forward,
    device_of,
    free_memory,
    hidden_states,
    on_device,
    out_of_memory,
    padded,
    run_prefix,
    scaled,
)
from qwen_eval.engines.local.graphs import Graphs, usable
from qwen_eval.engines.local.penalties import Penalties
from qwen_eval.engines.local.prefix import Group, batches, plan
from qwen_eval.engines.local.rows import GROWTH, RowCache
from qwen_eval.engines.local.single import Pick, Row, generate_single
from qwen_eval.engines.local.stops import StopChecker
from qwen_eval.errors import UserError, one_line
from qwen_model.decoding import DecodingStep, decoding_step
from qwen_model.devices import host_memory

import torch

TYPICAL_REPLY = 256  # tokens a row is expected to grow by, when memory is shared out; slots grow as needed
MIN_TOKENS = 256  # a prefill of fewer tokens is not what fills the memory


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
    rows = min(engine.flight_rows, len(requests))
    decoding = decoding_step(engine.model, rows, lambda: host_memory() / engine.sharing_memory)
    for group in plan(prompts, keys):
        together, single = group.members, []
        if not group.length:
            together = [index for index in group.members if rules.rows_together(keys[index])]
            single = [index for index in group.members if not rules.rows_together(keys[index])]
        if together:
            yield from ContinuousBatch(engine, rules, requests, Group(group.length, together), pick, decoding).replies()
        for index in single:
            yield index, generate_single(engine, requests[index], pick)


class ContinuousBatch:
    """One group of requests from their shared prefix to their replies. decoding: None, where the model's forward runs
    the steps."""

    def __init__(
        self,
        engine: Any,
        rules: PrefixSharingRules,
        requests: Sequence[GenerateRequest],
        group: Group,
        pick: Pick,
        decoding: DecodingStep | None,
    ) -> None:
        self.engine, self.model, self.rules, self.group, self.pick = engine, engine.model, rules, group, pick
        # The longest first: the end of a group, with few rows in flight, is then the shortest.
        order = sorted(group.members, key=lambda index: -len(requests[index].tokens))
        checkers = {stop: StopChecker(engine.tokenizer, stop) for stop in {requests[index].stop for index in order}}
        self.waiting = deque(Row(i, requests[i], group.length, checkers[requests[i].stop]) for i in order)
        self.active: list[Row] = []
        self.alpha = rules.alpha(len(requests[order[0]].tokens)) if group.length else None
        self.penalties = Penalties([requests[index] for index in order])
        self.prefix: list[attention.Pair] | None = None
        self.cache: RowCache | None = None
        self.graphs: Graphs | None = None
        #: whether steps may be replayed: they are the same but for the rows' numbers
        self.device_graphs = usable(self.model) and len({rules.alpha(len(requests[i].tokens)) for i in order}) == 1
        self.decoding = decoding

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
                self.active, self.cache, self.graphs, self.prefix = [], None, None, None
                self.penalties.forget()
                free_memory()

    def _make_room(self, error: BaseException) -> None:
        """Halve what did not fit: the tokens of a prefill, as far as that helps, else the rows in flight."""
        if self.entering and self.engine.token_budget > MIN_TOKENS:
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
        longest = max(row.request.max_new_tokens for row in self.waiting)
        self.cache = RowCache(layers, self.slots, width + (min(longest, TYPICAL_REPLY) if self.device_graphs else 0))
        self.graphs = Graphs(self.model, self.cache) if self.device_graphs else None
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
        budget = self.engine.token_budget // (3 if device_of(self.model).type == "cuda" else 1)  # slots take the rest
        for batch in batches(lengths, range(len(rows)), budget, None):
            order += batch
            entering = [rows[place] for place in batch]
            device = device_of(self.model)
            ids, last = padded([row.own for row in entering], device)
            self.cache.enter([len(row.own) for row in entering])
            positions = torch.arange(self.group.length, self.group.length + ids.shape[1], device=device)
            inputs = {
                "input_ids": ids,
                "position_ids": positions[None].expand(len(entering), -1),
                **self._alphas(entering),
            }
            with attention.running(attention.Rows(self.prefix)):
                hidden = hidden_states(self.model, self.rules, last, NAME, cache=self.cache, use_cache=True, **inputs)
            first_of += self._next_tokens(hidden, entering, start + len(order) - len(batch))
        self.entering = False
        self.active[start:] = [rows[place] for place in order]  # the order of their slots
        yield from self._take(start, first_of)

    def _step(self) -> Iterator[tuple[int, Reply]]:
        """One more token for every row in flight."""
        assert self.cache is not None
        self._outgrow()
        lengths = self.cache.lengths
        # All that the device has to be given for this step goes in one copy, while it has nothing to do.
        inputs_of_rows = [[row.generated_ids[-1], length] for row, length in zip(self.active, lengths, strict=True)]
        self.cache.step()
        alphas = self._alphas(self.active)
        if self.graphs is not None:
            ids, hidden = self.graphs.run(inputs_of_rows, lambda given: self._decode(given, alphas, True))
        else:
            given = on_device(inputs_of_rows, device_of(self.model))
            ids, hidden = given[:, 0], self._decode(given, alphas)
        yield from self._take(0, self._next_tokens(hidden, self.active, 0, ids))

    def _outgrow(self) -> None:
        """Where a step outgrows the slots, longer ones take their place: fewer, if memory holds no more, and the rows
        with the shortest replies so far wait again."""
        assert self.cache is not None
        capacity = self.cache.capacity_of_next_step()
        if capacity == self.cache.capacity:
            return
        fitting = max(1, self.engine.slot_tokens // capacity)
        while len(self.active) > fitting:
            slot = min(range(len(self.active)), key=lambda place: len(self.active[place].generated_ids))
            row = self.active[slot]
            self._drop(slot)
            self.waiting.appendleft(Row(row.index, row.request, self.group.length, row.stop_checker))
        self.slots = self.cache.slots = min(self.slots, fitting)

    def _decode(self, given: torch.Tensor, alphas: dict[str, Any], whole: bool = False) -> torch.Tensor:
        """Hidden states [B, h] of the first B slots after one more token each. given: int64 [B, 2], the token and its
        place in the slot; whole: see RowCache.write_at."""
        assert self.cache is not None
        ids, places = given.unbind(dim=1)
        self.cache.write_at(places, whole)
        rows = attention.Rows(self.prefix, (places + 1).int())
        if self.decoding is not None:
            return self._by_weights(ids, places + self.group.length, alphas["ntk_alpha"], rows)
        inputs = {"input_ids": ids[:, None], "position_ids": (places + self.group.length)[:, None], **alphas}
        with attention.running(rows):
            out = base_forward(self.model, NAME, cache=self.cache, use_cache=True, **inputs)
        hidden: torch.Tensor = out.last_hidden_state
        return hidden[:, -1]

    @torch.inference_mode()
    def _by_weights(
        self, ids: torch.Tensor, positions: torch.Tensor, alpha: torch.Tensor, rows: attention.Rows
    ) -> torch.Tensor:
        """`_decode` of a first-generation Qwen, without the calls of its modules."""
        cache, decoding = self.cache, self.decoding
        assert cache is not None and decoding is not None

        def attend(layer: int, query: torch.Tensor, key: torch.Tensor, value: torch.Tensor) -> torch.Tensor:
            keys, values = cache.update(key, value, layer)
            out = attention.attend_rows(rows, layer, query, keys, values, query.shape[-1] ** -0.5, rows.lengths)
            return out.reshape(len(out), -1)

        return decoding(ids, positions, alpha, self.model.long_context, attend)

    def _alphas(self, rows: Sequence[Row]) -> dict[str, Any]:
        """NTK factors of the prompts' lengths, frozen for the whole reply as the published model does."""
        if not self.rules.qwen:
            return {}
        if self.group.length:  # one factor for all that share
            return alphas(self.model, [self.alpha])
        return alphas(self.model, [self.rules.alpha(len(row.request.tokens)) for row in rows])

    # -- tokens --------------------------------------------------------------------------------------------------------

    @torch.inference_mode()
    def _next_tokens(
        self, hidden: torch.Tensor, rows: Sequence[Row], slot: int, ids: torch.Tensor | None = None
    ) -> list[int]:
        """The next token of rows in slots `slot`, `slot + 1` ...; hidden [B, h]; ids: their latest tokens, int64 [B],
        None when they enter."""
        head = self.decoding.head if self.decoding is not None else self.model.get_output_embeddings()
        logits = scaled(self.model, head(hidden)).float()
        logits = self.penalties.apply(logits, rows, slot, self.slots, ids)
        steps = [len(row.generated_ids) for row in rows]
        return self.pick(logits, [row.request for row in rows], steps)

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
        self.penalties.move(last, slot)
