"""presence_penalty, as vLLM defines it: what the reply has already loses it, once; what the prompt has does not."""

from typing import Any

from qwen_eval.engines.base import GenerateRequest, Reply
from qwen_eval.engines.decoding import Decoding
from qwen_eval.engines.local.engine import LocalEngine
from qwen_eval.engines.local.sampling import penalise_presence
from qwen_eval.engines.openai import OpenAIEngine

import numpy as np
import pytest
import torch
from transformers import LogitsProcessor, LogitsProcessorList

from .endpoint import Server
from .models import GQA, VOCAB, other, qwen
from .test_generate import ENDS, Spell


class Presence(LogitsProcessor):
    """By the definition, token by token."""

    def __init__(self, prompt: int, amount: float) -> None:
        self.prompt, self.amount = prompt, amount

    def __call__(self, input_ids: torch.Tensor, scores: torch.Tensor) -> torch.Tensor:  # type: ignore[override]
        for row, ids in enumerate(input_ids[:, self.prompt :].tolist()):
            for token in set(ids):
                scores[row, token] -= self.amount
        return scores


def by_transformers(model: Any, request: GenerateRequest) -> Reply:
    ids = torch.as_tensor(request.tokens.astype(np.int64))[None]
    out = model.generate(
        ids,
        attention_mask=torch.ones_like(ids),
        max_new_tokens=request.max_new_tokens,
        do_sample=False,
        repetition_penalty=request.repetition_penalty,
        logits_processor=LogitsProcessorList([Presence(ids.shape[1], request.presence_penalty)]),
        eos_token_id=sorted(request.stop_tokens),
        pad_token_id=0,
    )
    said = out[0, ids.shape[1] :].tolist()
    stopped = said[-1] in request.stop_tokens
    said = said[:-1] if stopped else said
    return Reply(Spell().decode(said), len(said), "stop" if stopped else "length")


def asked(count: int) -> list[GenerateRequest]:
    """Rows with and without either penalty, half of them behind a shared prefix, which end at different times."""
    rng = np.random.default_rng(4)
    head = rng.integers(6, VOCAB, 40)
    return [
        GenerateRequest(
            np.concatenate([head[: 40 * (n % 2)], rng.integers(6, VOCAB, 3 + n)]).astype(np.int32),
            6 + n % 12,
            ENDS if n % 4 else frozenset([VOCAB - 1]),
            repetition_penalty=1.2 if n % 5 == 0 else 1.0,
            presence_penalty=(0.0, 0.05, 1.5)[n % 3],
        )
        for n in range(count)
    ]


@pytest.mark.parametrize("model", [qwen, lambda: other("Qwen3", **GQA, head_dim=8)])
def test_greedy_replies_are_those_of_the_definition_in_any_company(model: Any) -> None:
    model, requests = model(), asked(24)
    wanted = [by_transformers(model, request) for request in requests]
    plain = LocalEngine.of(model, Spell(), rows=24)
    without = dict(plain.generate([request._replace(presence_penalty=0.0) for request in requests]))
    assert sum(without[n] != reply for n, reply in enumerate(wanted)) > 5, "it changes replies"
    for rows in (1, 5, 24):
        engine = LocalEngine.of(model, Spell(), rows=rows)
        found = dict(engine.generate(requests))
        assert [found[n] for n in range(24)] == wanted
    alone = LocalEngine.of(model, Spell())
    alone.__dict__["uses_plain_forward"] = True
    found = dict(alone.generate(requests[:6]))
    assert [found[n] for n in range(6)] == wanted[:6]


def test_a_token_loses_it_once_whatever_its_sign() -> None:
    logits = torch.tensor([[1.0, -1.0, 2.0], [1.0, -1.0, 2.0]])
    generated = torch.tensor([[True, True, False], [False, False, True]])
    found = penalise_presence(logits, generated, torch.tensor([1.5, 0.0]))
    assert found.tolist() == [[-0.5, -2.5, 2.0], [1.0, -1.0, 2.0]]


def test_an_endpoint_is_told_by_its_standard_name(server: Server) -> None:
    engine = OpenAIEngine(server.url, "m")
    for decoding in (Decoding(presence_penalty=1.5), Decoding()):
        list(engine.generate(engine.generate_requests(engine.encode(["q"], True), decoding, True, ["0"])))
    assert [body.get("presence_penalty") for body in server.bodies] == [1.5, None]
