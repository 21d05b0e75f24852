"""Whether the engine gives what a model's own plain forward gives: asked once, before a model's first answer.

The engine runs a model without its head, with its own attention, caches and batches, and applies the head to the
positions that it needs. Some of the models of transformers do more: they multiply or cap their logits, or keep a state
of another kind. Such a model is not answered for by the engine but by its own forward (plain.py), or not at all.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from qwen_eval.engines.base import ChoiceRequest, GenerateRequest, LogLikelihoodRequest, ScoreRequest
from qwen_eval.engines.local import choose, generate, loglikelihood, plain, sampling, score, single
from qwen_eval.engines.local.forward import decoder_of, out_of_memory
from qwen_eval.engines.local.score import MIN_CHUNK
from qwen_eval.errors import UserError, one_line

import numpy as np
import torch

LENGTH, SHARED, STEPS = 44, 36, 4  # tokens: long enough that two prompts share a prefix and a text goes in by chunks
LONGEST = 256  # a window of the model's up to here is outgrown, too
# The largest difference of two logits, as a part of the distance from the smallest to the largest logit: of the whole
# way through the model, and of the head alone. Wide enough for rounding through many layers.
TOLERANCE = {torch.float32: 5e-4, torch.float16: 0.01}, {torch.float32: 1e-4, torch.float16: 0.001}
TOLERANCE_BF16 = 0.05, 0.005
NOTE = (
    "the engine's fast ways differ from this model's own forward (it does more than they know), "
    "so its own plain forward was used for everything: right, but slow"
)


class _Differs(Exception):
    """The engine's answer is not the model's."""


def needs_plain_forward(engine: Any) -> bool:
    """Whether this engine's model is to be answered for by plain.py. Never for first-generation Qwen, unasked.

    Raises UserError where the model's own forward cannot be used either.
    """
    if hasattr(engine.model, "ntk_alpha"):
        return False
    texts = _texts(engine.model.config.get_text_config())
    _check_causal(engine.model, texts[0])
    asked = type(engine).of(engine.model, _NoText())
    asked.token_budget = MIN_CHUNK
    try:
        _check_head(engine.model, texts[0])
        _compare(asked, texts)
    except Exception as error:  # whatever a model that the engine does not know raises
        if out_of_memory(error):
            raise
        return True
    return False


def _texts(config: Any) -> list[np.ndarray]:
    """Two texts of one beginning, of tokens that are not special in any vocabulary that we know."""
    windows = [
        getattr(config, name, None) for name in ("sliding_window", "attention_window_size", "attention_chunk_size")
    ]
    length = max([LENGTH, *(window + 8 for window in windows if isinstance(window, int) and window <= LONGEST)])
    positions = getattr(config, "max_position_embeddings", None)
    if isinstance(positions, int) and positions > LENGTH:
        length = min(length, positions - STEPS)
    rng = np.random.default_rng(0)
    first = rng.integers(config.vocab_size // 8, config.vocab_size // 2, length).astype(np.int32)
    second = np.concatenate([first[: length - LENGTH + SHARED], rng.permutation(first)[:3]])
    return [first, second]


def _check_causal(model: Any, text: np.ndarray) -> None:
    """A model whose logits change with what follows (BERT without `is_decoder`) has no next-token probabilities."""
    half = len(text) // 2
    try:
        whole, part = plain.own_logits(model, text), plain.own_logits(model, text[:half])
    except UserError:
        raise
    except Exception as error:
        raise UserError(
            f"this model ({model.config.model_type}) does not run on a text of {len(text)} tokens: "
            f"{one_line(error)[:200]}"
        ) from error
    if not _same(part, whole[:half], 10 * _tolerances(model.dtype)[0]):
        raise UserError(
            f"this model ({model.config.model_type}) is no causal language model as its config.json has it: its logits "
            f"depend on the tokens behind them; is_decoder may be missing there"
        )


@torch.inference_mode()
def _check_head(model: Any, text: np.ndarray) -> None:
    """The engine's head on the hidden states of the model's own forward, which no rounding of layers blurs."""
    found: list[torch.Tensor] = []
    hook = decoder_of(model).register_forward_hook(lambda module, given, out: found.append(out.last_hidden_state))
    try:
        wanted = plain.own_logits(model, text)
    finally:
        hook.remove()
    hidden = found[-1][0]
    logits = score.head_logits(model, hidden)
    _demand(_same(logits, wanted, _tolerances(model.dtype)[1]))


def _compare(engine: Any, texts: Sequence[np.ndarray]) -> None:
    """A few steps of `generate` in a batch and of one row, `choose`, `loglikelihood` and `score`, each against the
    plain forward."""
    logits_of: dict[tuple[int, int], torch.Tensor] = {}

    def pick(logits: torch.Tensor, requests: Sequence[GenerateRequest], steps: Sequence[int]) -> list[int]:
        for row, request in enumerate(requests):
            logits_of[request.seed, steps[row]] = logits[row]
        return sampling.pick(logits, requests, steps)

    requests = [GenerateRequest(text, STEPS, seed=number) for number, text in enumerate(texts)]
    list(generate.generate(engine, requests, pick))
    single.generate_single(engine, requests[0]._replace(seed=len(texts)), pick)
    model, tolerance = engine.model, _tolerances(engine.model.dtype)[0]
    picked = range(0, logits_of[0, 0].shape[-1], max(1, logits_of[0, 0].shape[-1] // 16))
    chosen = dict(choose.choose(engine, [ChoiceRequest(text, tuple(picked)) for text in texts]))
    ((_, scored),) = score.score(engine, [ScoreRequest(texts[0])])
    pairs = [
        LogLikelihoodRequest(text[:-STEPS], tuple(text[-STEPS:][:tokens].tolist()))
        for text in texts
        for tokens in (STEPS, 1)
    ]
    likelihoods = dict(loglikelihood.loglikelihood(engine, pairs))
    for number, pair in enumerate(pairs):
        wanted = plain.own_logits(model, loglikelihood.given_tokens(pair)).cpu()[len(pair.tokens) - 1 :]
        likely = wanted.log_softmax(-1)[range(len(wanted)), list(pair.continuation)].mean()
        _demand(_same(torch.tensor(likelihoods[number].log_likelihood / len(wanted)), likely, tolerance, wanted))
    for number, text in enumerate([*texts, texts[0]]):
        ids = [int(logits_of[number, step].argmax()) for step in range(STEPS - 1)]
        wanted = plain.own_logits(model, [*text.tolist(), *ids]).cpu()
        for step in range(STEPS):
            _demand(_same(logits_of[number, step][None], wanted[[len(text) - 1 + step]], tolerance))
        if number in chosen:
            row = wanted[len(text) - 1]
            _demand(_same(torch.tensor(chosen[number]), row[list(picked)], tolerance, row))
        if number == 0:
            before = wanted[: len(text) - 1]
            likely = before.log_softmax(-1)[range(len(before)), text[1:].tolist()]
            _demand(_same(torch.from_numpy(scored), likely, tolerance, before))


def _demand(same: bool) -> None:
    if not same:
        raise _Differs


def _tolerances(dtype: torch.dtype) -> tuple[float, float]:
    whole, head = TOLERANCE
    return whole.get(dtype, TOLERANCE_BF16[0]), head.get(dtype, TOLERANCE_BF16[1])


def _same(got: torch.Tensor, wanted: torch.Tensor, tolerance: float, scale: torch.Tensor | None = None) -> bool:
    """Equal within the tolerance times the spread of the logits (of `scale`, where those are given)."""
    got, wanted = got.float().cpu(), wanted.float().cpu()
    spread = (wanted if scale is None else scale.float().cpu()).nan_to_num(0.0, 0.0, 0.0)
    limit = tolerance * float(spread.max() - spread.min())
    return torch.allclose(got, wanted, atol=limit, rtol=0.0)


class _NoText:
    """In a tokenizer's place: nobody reads what the probe says."""

    def decode(self, *_: Any, **__: Any) -> str:
        return ""
