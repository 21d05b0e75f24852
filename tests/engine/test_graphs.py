"""Recorded decoding steps where nothing can be recorded: a replay is the same work on the same fixed tensors."""

import gc
import weakref
from collections.abc import Callable
from typing import Any

from qwen_eval.engines.local import generate, graphs, rows
from qwen_eval.engines.local.engine import LocalEngine
from qwen_model.decoding import DecodingStep

import pytest
import torch

from .models import qwen
from .test_generate import Spell, asked


class Replayed:
    """What a CUDA graph is: the work is fixed when it is recorded, and the tensors that it reads and writes are."""

    def __init__(self, decode: Callable[[torch.Tensor], torch.Tensor], fixed: torch.Tensor) -> None:
        self.decode, self.fixed = decode, fixed
        self.hidden = decode(fixed).clone()

    @torch.inference_mode()
    def replay(self) -> None:
        self.hidden.copy_(self.decode(self.fixed))


@pytest.fixture
def recorded(monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """The sizes that were recorded."""
    sizes = []

    def record(self: Any, given: torch.Tensor, decode: Any) -> Any:
        sizes.append(len(given))
        assert self.recorded or self.pool is None, "a pool whose graphs are all gone takes no new one"
        self.pool = object()
        fixed = given.clone()
        replayed = Replayed(decode, fixed)
        return replayed, fixed, replayed.hidden

    monkeypatch.setattr(generate, "usable", lambda model: hasattr(model, "ntk_alpha"))
    monkeypatch.setattr(graphs, "WORTH_RECORDING", 1)
    monkeypatch.setattr(graphs.Graphs, "_record", record)
    return sizes


@pytest.mark.parametrize("flight", [1, 5, 16, None])
def test_replies_are_those_of_unrecorded_steps(recorded: list[int], monkeypatch: Any, flight: int | None) -> None:
    requests = asked(new=70)
    got = dict(LocalEngine.of(qwen(), Spell(), rows=flight).generate(requests))
    assert recorded and len(set(recorded)) <= graphs.SIZES + 1
    monkeypatch.setattr(generate, "usable", lambda model: False)
    assert got == dict(LocalEngine.of(qwen(), Spell(), rows=flight).generate(requests))


def test_slots_that_grow_and_memory_that_runs_out_begin_again(recorded: list[int], monkeypatch: Any) -> None:
    monkeypatch.setattr(generate, "TYPICAL_REPLY", 1)
    monkeypatch.setattr(generate, "GROWTH", 1)
    requests = asked(new=90)
    want = dict(LocalEngine.of(qwen(), Spell(), rows=6).generate(requests))
    before, calls = len(recorded), [0]
    plain = DecodingStep.__call__

    def failing(*given: Any, **named: Any) -> Any:
        calls[0] += 1
        if calls[0] == 30:
            raise torch.OutOfMemoryError("CUDA out of memory")
        return plain(*given, **named)

    monkeypatch.setattr(DecodingStep, "__call__", failing)
    assert dict(LocalEngine.of(qwen(), Spell(), rows=6).generate(requests)) == want
    assert calls[0] > 30 and before > 3


@pytest.mark.parametrize("replayed", [True, False])
def test_slots_that_grow_beyond_memory_become_fewer(recorded: list[int], monkeypatch: Any, replayed: bool) -> None:
    monkeypatch.setattr(generate, "TYPICAL_REPLY", 1)
    if not replayed:
        monkeypatch.setattr(generate, "usable", lambda model: False)
    requests = asked(new=150)
    want = dict(LocalEngine.of(qwen(), Spell(), rows=12).generate(requests))
    engine, taken = LocalEngine.of(qwen(), Spell(), rows=12), []
    engine.slot_tokens = 1500
    fit = rows._Layer.fit
    monkeypatch.setattr(
        rows._Layer, "fit", lambda self: taken.append(self.owner.slots * self.owner.capacity) or fit(self)
    )
    assert dict(engine.generate(requests)) == want
    assert taken and max(taken) <= 1500 and engine.flight_rows == 12


def test_slots_go_with_the_last_who_uses_them(monkeypatch: Any) -> None:
    made = []
    cache = generate.RowCache
    monkeypatch.setattr(generate, "RowCache", lambda *given: made.append(weakref.ref(one := cache(*given))) or one)
    gc.disable()
    try:
        list(LocalEngine.of(qwen(), Spell()).generate(asked(count=8, new=4)))
        assert made and all(one() is None for one in made)
    finally:
        gc.enable()


def test_only_first_generation_qwen_on_one_gpu_is_recorded() -> None:
    assert not graphs.usable(qwen())
    assert not graphs.usable(torch.nn.Linear(2, 2))
