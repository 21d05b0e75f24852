"""Log-likelihoods of continuations: how likely each answer is as a whole, in one token or many, after its question.

    requests -> those of one context together (a question and its answers) -> prefix.plan on the contexts
             -> for each group: the shared prefix (the few-shot examples) once, then each context once, its keys and
                values kept, then the continuations behind it, all in batches of a token budget
             -> the head in fp32, only at the positions that predict a continuation's token

The model is given all tokens but the last, as lm-evaluation-harness does, and a first-generation Qwen's NTK factor is
that of this length. The result does not depend on batch size, order or sharing. Models whose keys and values cannot be
shared (a sliding window that the text outgrows, RoPE that follows the length) get each context and continuation whole.
"""

from __future__ import annotations

from bisect import bisect_left
from collections.abc import Hashable, Iterator, Sequence
from typing import Any, NamedTuple

from qwen_eval.engines.base import Likelihood, LogLikelihoodRequest
from qwen_eval.engines.local import attention
from qwen_eval.engines.local.attention import NAME, Contexts
from qwen_eval.engines.local.forward import (
    PrefixSharingRules,
    alphas,
    base_forward,
    device_of,
    forget_lengths,
    hidden_states,
    on_device,
    padded,
)
from qwen_eval.engines.local.grouped import SharedPrefix, run_groups
from qwen_eval.engines.local.prefix import Group, batches, plan
from qwen_eval.engines.local.rows import RowCache
from qwen_eval.engines.local.score import head_logits, head_rows
from qwen_eval.errors import UserError

import numpy as np
import torch


class Question(NamedTuple):
    """A context and the requests (by index) that continue it under one sharing key."""

    context: np.ndarray
    key: Hashable
    members: list[int]


def loglikelihood(engine: Any, requests: Sequence[LogLikelihoodRequest]) -> Iterator[tuple[int, Likelihood]]:
    """Yields (index, likelihood of its continuation), question by question. Out of memory halves the token budget.

    Raises:
        UserError: a likelihood is not a finite number, or one question does not fit in memory.
        ValueError: an empty context or continuation.
    """
    rules = PrefixSharingRules(engine.model)
    questions = _questions(rules, requests)
    together = [index for index, one in enumerate(questions) if rules.rows_together(one.key)]
    keys = [one.key for one in questions]
    groups = [
        Group(group.length, [together[place] for place in group.members])
        for group in plan([questions[index].context for index in together], [keys[index] for index in together])
    ]
    if len(together) < len(questions):
        groups.append(Group(0, [index for index, one in enumerate(questions) if not rules.rows_together(one.key)]))
    # What is run: of a question that is not run behind a context of its own, the continuation too.
    texts = [
        one.context if rules.rows_together(one.key) else given_tokens(requests[one.members[0]]) for one in questions
    ]

    def run_batch(batch: list[int], prefix: SharedPrefix) -> list[list[tuple[int, Likelihood]]]:
        chosen = [questions[index] for index in batch]
        whole = not rules.rows_together(chosen[0].key)
        run = _Batch(engine, rules, requests, chosen, prefix)
        return run.whole_rows() if whole else run.behind_contexts()

    # The contexts' keys and values stay until their continuations are done.
    most = max(1, engine.slot_tokens // 2) if together else float("inf")
    for _, found in run_groups(engine, rules, texts, keys, groups, run_batch, most):
        yield from found


def given_tokens(request: LogLikelihoodRequest) -> np.ndarray:
    """The tokens that the model is given: int32 [T], all but the last, which is only predicted."""
    return np.concatenate([request.tokens, np.asarray(request.continuation[:-1], dtype=np.int32)])


def _questions(rules: PrefixSharingRules, requests: Sequence[LogLikelihoodRequest]) -> list[Question]:
    found: dict[tuple[bytes, Hashable], Question] = {}
    for index, request in enumerate(requests):
        if not len(request.tokens) or not request.continuation:
            raise ValueError(f"request {index} has an empty context or continuation")
        length = len(request.tokens) + len(request.continuation) - 1
        key = rules.sharing_key(length, length)
        context = request.tokens.astype(np.int32)
        found.setdefault((context.tobytes(), key), Question(context, key, [])).members.append(index)
    return list(found.values())


class _Batch:
    """Questions that run together behind one shared prefix."""

    def __init__(
        self,
        engine: Any,
        rules: PrefixSharingRules,
        requests: Sequence[LogLikelihoodRequest],
        questions: list[Question],
        prefix: SharedPrefix,
    ) -> None:
        self.engine, self.model, self.rules, self.requests = engine, engine.model, rules, requests
        self.questions, self.prefix = questions, prefix
        self.device = device_of(engine.model)
        self.sums: dict[int, list[tuple[float, bool]]] = {}  # of each request, the parts of its likelihood

    def whole_rows(self) -> list[list[tuple[int, Likelihood]]]:
        """Each request as a row of its own, with the model's own attention."""
        if self.rules.one_by_one:
            forget_lengths(self.model)
        members = [index for question in self.questions for index in question.members]
        rows = [given_tokens(self.requests[index]) for index in members]
        ids, last = padded(rows, self.device)
        inputs: dict[str, Any] = {"input_ids": ids, "use_cache": False}
        if self.rules.qwen:
            inputs.update(alphas(self.model, [self.rules.alpha(len(row)) for row in rows]))
        else:
            inputs["attention_mask"] = (torch.arange(ids.shape[1], device=self.device)[None] <= last[:, None]).long()
        hidden = base_forward(self.model, None, **inputs).last_hidden_state
        self._read(hidden, members, [len(self.requests[index].tokens) - 1 for index in members], 0)
        return self._results()

    def behind_contexts(self) -> list[list[tuple[int, Likelihood]]]:
        """The contexts, which predict the first token of each continuation, then the continuations' other tokens."""
        own = [question.context[self.prefix.length :] for question in self.questions]
        ids, last = padded(own, self.device)
        layers = self.model.config.get_text_config().num_hidden_layers
        cache = RowCache(layers, len(own), ids.shape[1])
        cache.enter([len(row) for row in own])
        positions = torch.arange(self.prefix.length, self.prefix.length + ids.shape[1], device=self.device)
        inputs = {
            "input_ids": ids,
            "position_ids": positions[None].expand(len(own), -1),
            **alphas(self.model, [question.key for question in self.questions]),  # type: ignore[misc]
        }
        with attention.running(attention.Rows(self.prefix.pairs)):
            hidden = hidden_states(self.model, self.rules, last, NAME, cache=cache, use_cache=True, **inputs)
        firsts = [(index, row) for row, question in enumerate(self.questions) for index in question.members]
        self._add(hidden, [(index, row, self.requests[index].continuation[0]) for index, row in firsts])
        self._continue(cache, last + 1, [pair for pair in firsts if len(self.requests[pair[0]].continuation) > 1])
        return self._results()

    def _continue(self, cache: RowCache, lengths: torch.Tensor, rows: list[tuple[int, int]]) -> None:
        """Run the continuations of these (request, question in the batch) behind the contexts in the cache."""
        pairs: list[Any] = [(layer.keys, layer.values) for layer in cache.layers]  # type: ignore[union-attr]
        sizes = [len(self.requests[index].continuation) - 1 for index, _ in rows]
        for batch in batches(sizes, range(len(rows)), self.engine.token_budget, self.engine.rows):
            chosen = [rows[place] for place in batch]
            taken: dict[int, int] = {}  # of each context's places
            slots = []
            for _, question in chosen:
                slots.append(taken.setdefault(question, 0))
                taken[question] += 1
            width = max(taken.values())
            place = [question * width + slot for (_, question), slot in zip(chosen, slots, strict=True)]
            contexts = Contexts(pairs, lengths, on_device(place, self.device), width)
            ids, _ = padded([np.asarray(self.requests[index].continuation[:-1]) for index, _ in chosen], self.device)
            starts = on_device([len(self.questions[question].context) for _, question in chosen], self.device)
            inputs = {
                "input_ids": ids,
                "position_ids": starts[:, None] + torch.arange(ids.shape[1], device=self.device)[None],
                **alphas(self.model, [self.questions[question].key for _, question in chosen]),  # type: ignore[misc]
            }
            with attention.running(attention.Rows(self.prefix.pairs, contexts=contexts)):
                hidden = base_forward(self.model, NAME, use_cache=False, **inputs).last_hidden_state
            self._read(hidden, [index for index, _ in chosen], [0] * len(chosen), 1)

    def _read(self, hidden: torch.Tensor, members: list[int], columns: list[int], first: int) -> None:
        """Take in the continuations' tokens from the `first`th on: row b of hidden [B, T, h] predicts them from its
        column `columns[b]` on."""
        wanted: list[tuple[int, int, int]] = []
        rows, places = [], []
        for row, (index, column) in enumerate(zip(members, columns, strict=True)):
            for step, token in enumerate(self.requests[index].continuation[first:]):
                wanted.append((index, len(wanted), token))
                rows.append(row)
                places.append(column + step)
        where = on_device([rows, places], hidden.device)
        self._add(hidden[where[0], where[1]], wanted)

    @torch.inference_mode()
    def _add(self, hidden: torch.Tensor, wanted: list[tuple[int, int, int]]) -> None:
        """Take in tokens: (request, the row of hidden [n, h] that predicts it, its id), in the order of the rows."""
        of_row = [row for _, row, _ in wanted]
        step = head_rows(self.model)
        for start in range(0, len(hidden), step):
            logits = head_logits(self.model, hidden[start : start + step])
            part = wanted[bisect_left(of_row, start) : bisect_left(of_row, start + step)]
            rows, tokens = on_device([[row - start, token] for _, row, token in part], logits.device).unbind(1)
            likely = logits[rows, tokens] - logits.logsumexp(dim=-1)[rows]
            greedy = logits.argmax(dim=-1)[rows] == tokens
            found: list[list[float]] = torch.stack([likely, greedy.float()], dim=1).tolist()
            for (index, _, _), (value, best) in zip(part, found, strict=True):
                self.sums.setdefault(index, []).append((value, bool(best)))

    def _results(self) -> list[list[tuple[int, Likelihood]]]:
        return [[(index, total(self.sums[index])) for index in question.members] for question in self.questions]


def total(parts: list[tuple[float, bool]]) -> Likelihood:
    """The likelihood of a whole continuation from its tokens'. The sum is fp32, of values added in fp64."""
    value = float(np.float32(sum(value for value, _ in parts)))
    if not np.isfinite(value):
        raise UserError("the model's logits are not finite numbers; try --dtype float32 or bfloat16")
    return Likelihood(value, all(greedy for _, greedy in parts))
