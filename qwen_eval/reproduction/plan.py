"""What is to be done before anything starts: the runs of a table, what stands in their way, and how long they take.

The time is an estimate: what is left to do, counted in tokens, over the speed that this model shows here on a few
seconds of work. Replies are counted as TYPICAL_REPLY tokens each, or what the protocol allows if that is less.
"""

import os
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path
from typing import Any, NamedTuple

from qwen_eval.benchmark import Generate, ScoreTokens
from qwen_eval.engines.base import ChoiceRequest, GenerateRequest
from qwen_eval.reproduction.tables import Part
from qwen_eval.run import Run

import numpy as np

TYPICAL_REPLY = 128  # tokens
TYPICAL_PROMPT = 512  # tokens before a reply, when the speed of generating is measured
SAMPLED_PROMPTS = 16  # of a run, encoded to see how many tokens a character is
LONG_ENOUGH = 1.0  # seconds of a measurement
MOST_TOKENS, MOST_ROWS = 16_384, 256  # of a measurement


@dataclass
class Step:
    """One run of one checkpoint. made: None where something stands in its way, which `problem` says."""

    part: Part
    checkpoint: str
    folder: Path
    made: Run | None = None
    problem: str = ""


class Work(NamedTuple):
    """What is left of a run. prompt_tokens: shared beginnings counted once; reply_tokens: as estimated."""

    items: int
    open_items: int
    prompt_tokens: int
    reply_tokens: int


class Speed(NamedTuple):
    """Tokens per second: of prompts that are read, of replies that are generated many at a time."""

    reading: float
    generating: float

    def seconds(self, work: Work) -> float:
        return work.prompt_tokens / self.reading + work.reply_tokens / self.generating


def work_of(made: Run) -> Work:
    """What is left of a run; finished items count nothing."""
    open_items = [item for item in made.items if not made.journal.finished(item)]
    if not open_items:
        return Work(len(made.items), 0, 0, 0)
    documents, texts, replies = 0, [], 0
    for item in open_items:
        evaluation = made.benchmark.evaluate(item, made.setting)
        request = next(evaluation)
        evaluation.close()
        if isinstance(request, ScoreTokens):
            documents += sum(len(window.tokens) for window in request.windows)
            continue
        texts.append(item.prompt)
        if isinstance(request, Generate) and made.decoding is not None:
            replies += min(TYPICAL_REPLY, made.decoding.max_new_tokens)
    return Work(len(made.items), len(open_items), documents + _prompt_tokens(made, texts), replies)


def _prompt_tokens(made: Run, texts: Sequence[str]) -> int:
    """Tokens of the prompts, with what each shares with its neighbour in alphabetical order counted once."""
    if not texts:
        return 0
    sampled = [texts[number * len(texts) // SAMPLED_PROMPTS] for number in range(min(SAMPLED_PROMPTS, len(texts)))]
    encoded = made.target.engine.encode(sampled, made.setting.chat)
    per_character = sum(map(len, encoded)) / max(1, sum(map(len, sampled)))
    shared = sum(len(os.path.commonprefix(pair)) for pair in pairwise(sorted(texts)))  # noqa: RUF071 - of characters
    return round(per_character * (sum(map(len, texts)) - shared))


def measured_speed(engine: Any) -> Speed:
    """How fast this model reads and generates here: each on more and more work until a second of it has passed."""
    return Speed(_reading(engine), _generating(engine))


def _reading(engine: Any) -> float:
    length, prompts = 128, 1
    while True:
        requests = [ChoiceRequest(_some_ids(length, number), (0, 1)) for number in range(prompts)]
        seconds = _timed(engine.choose, requests)
        if seconds > LONG_ENOUGH or prompts * length >= MOST_TOKENS:
            return prompts * length / seconds
        prompts *= 4


def _generating(engine: Any) -> float:
    length, rows = 8, 4
    while True:
        requests = [GenerateRequest(_some_ids(TYPICAL_PROMPT, number), length) for number in range(rows)]
        seconds = _timed(engine.generate, requests)
        if seconds > LONG_ENOUGH or rows >= MOST_ROWS:
            return rows * length / seconds
        rows *= 4


def _timed(answer: Callable[[Sequence[Any]], Iterator[Any]], requests: Sequence[Any]) -> float:
    """The seconds that all answers take; at least a microsecond."""
    started = time.perf_counter()
    for _ in answer(requests):
        pass
    return max(1e-6, time.perf_counter() - started)


def _some_ids(count: int, seed: int) -> np.ndarray:
    """Token ids that any vocabulary has."""
    return np.random.default_rng(seed).integers(10, 200, count).astype(np.int32)


def shown_time(seconds: float) -> str:
    """`40 s`, `12 min`, `3 h 20 min`."""
    if seconds < 90:
        return f"{max(1, round(seconds))} s"
    minutes = round(seconds / 60)
    return f"{minutes} min" if minutes < 90 else f"{minutes // 60} h {minutes % 60:02d} min"
