"""The three ways of scoring choices that bench_choose.py compares, each in a process of its own.

Own processes keep the peak memories apart; the parent lets them work in turns, so that all of them meet the same
noise of the machine. `Contender(name, ...)` starts one, `.call(command, ...)` has it do a piece of work.
"""

from __future__ import annotations

import base64
import logging
import tempfile
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, NamedTuple

from qwen_eval.benchmarks.speed.process import Process, peak_memory

import numpy as np
from workload import Shape, build

Results = dict[int, list[float]]  # request -> logits (or log-probabilities) of its candidates
OURS, PLAIN, LM_EVAL = "this engine", "plain forward", "lm-eval HFLM"


class Spent(NamedTuple):
    """Seconds by the clock, and of the processor: all threads, whatever else ran on the machine."""

    wall: float
    cpu: float


class Contender(Process):
    """A process with the model of `shape` that scores `prompts` in its own way."""

    def __init__(self, name: str, shape: Shape, prompts: list[np.ndarray], candidates: tuple[int, ...], **more: Any):
        super().__init__(name, _made, name, shape, prompts, candidates, more)
        self.call("ready")


def _made(name: str, shape: Shape, prompts: list[np.ndarray], candidates: tuple[int, ...], more: dict[str, Any]) -> Any:
    logging.disable(logging.WARNING)
    make = more.pop("make", None) or {OURS: _Ours, PLAIN: _Plain, LM_EVAL: _LmEval}[name]
    contender = make(shape, prompts, candidates, **more)
    contender.base = peak_memory()
    return contender


class _Side:
    """What they share: the model, and how memory is counted."""

    base = 0  # the process with imports and weights, before any work

    def __init__(
        self, shape: Shape, prompts: list[np.ndarray], candidates: tuple[int, ...], threads: int | None = None
    ) -> None:
        import torch

        if threads is not None:
            torch.set_num_threads(threads)
        self.torch, self.prompts, self.candidates = torch, prompts, candidates
        self.import_all()
        self.model = build(shape)

    def import_all(self) -> None:
        """Import before the weights are made, so that code does not count as working memory."""

    def ready(self) -> int:
        """Answers once the model is made."""
        return self.base

    def memory(self) -> int:
        """Peak bytes above the weights."""
        return peak_memory() - self.base

    def timed(self, work: Callable[[], Results]) -> tuple[Spent, Results]:
        wall, cpu = time.perf_counter(), time.process_time()
        results = work()
        return Spent(time.perf_counter() - wall, time.process_time() - cpu), results


class _Ours(_Side):
    def __init__(self, *arguments: Any, budget: int | None = None, **more: Any) -> None:
        super().__init__(*arguments, **more)
        from qwen_eval.engines.base import ChoiceRequest
        from qwen_eval.engines.local.engine import LocalEngine

        self.engine = LocalEngine.of(self.model)
        if budget is not None:
            self.engine.token_budget = budget
        self.requests = [ChoiceRequest(tokens, self.candidates) for tokens in self.prompts]
        self.running: Iterator[tuple[int, list[float]]] | None = None

    def import_all(self) -> None:
        import qwen_eval.engines.local.engine  # noqa: F401

    def run(self, indices: list[int]) -> tuple[Spent, Results]:
        """These requests, as one job."""
        jobs = [self.requests[i] for i in indices]
        return self.timed(lambda: {indices[i]: logits for i, logits in self.engine.choose(jobs)})

    def slice(self, count: int | None) -> tuple[Spent, Results]:
        """Go on with the job of all requests, until `count` more results are there (None: to its end)."""

        def work() -> Results:
            if self.running is None:
                self.running = iter(self.engine.choose(self.requests))
            found: Results = {}
            for index, logits in self.running:
                found[index] = logits
                if count is not None and len(found) >= count:
                    return found
            self.running = None
            return found

        return self.timed(work)


class _Plain(_Side):
    def run(self, indices: list[int]) -> tuple[Spent, Results]:
        """One forward per prompt, the head at its last position only."""
        wanted = list(self.candidates)

        def work() -> Results:
            found: Results = {}
            with self.torch.inference_mode():
                for index in indices:
                    ids = self.torch.as_tensor(self.prompts[index].astype(np.int64))[None]
                    logits = self.model(ids, logits_to_keep=1, use_cache=False).logits[0, -1]
                    found[index] = logits[wanted].tolist()
            return found

        return self.timed(work)


class _LmEval(_Side):
    def __init__(self, *arguments: Any, tokenizer: str | None = None, batch_size: int = 1, **more: Any) -> None:
        super().__init__(*arguments, **more)
        from lm_eval.models.huggingface import HFLM

        # It does not choose the kernel or the number of threads: that is transformers and torch, as for the others.
        self.lm = HFLM(
            pretrained=self.model,
            tokenizer=tokenizer_for_lm_eval(tokenizer),
            batch_size=batch_size,
            max_length=2048,
            backend="causal",
        )

    def import_all(self) -> None:
        import lm_eval.models.huggingface  # noqa: F401

    def run(self, indices: list[int], batch_size: int | None = None) -> tuple[Spent, Results]:
        """Four one-token continuations per question; it runs one forward for the four, and sorts by length itself."""
        if batch_size is not None:
            self.lm.batch_size_per_gpu = batch_size
        jobs = [
            ((str(index), str(token)), self.prompts[index].tolist(), [token])
            for index in indices
            for token in self.candidates
        ]

        def work() -> Results:
            answers = [value for value, _ in self.lm._loglikelihood_tokens(jobs, disable_tqdm=True)]
            n = len(self.candidates)
            return {index: answers[place * n : (place + 1) * n] for place, index in enumerate(indices)}

        return self.timed(work)


def tokenizer_for_lm_eval(path: str | None) -> Any:
    """lm-eval wants a tokenizer even where it is given token ids; without a file, one of 256 bytes serves."""
    from qwen_model import QWenTokenizer

    if path is not None:
        return QWenTokenizer(path)
    with tempfile.TemporaryDirectory() as folder:
        file = Path(folder) / "qwen.tiktoken"
        file.write_bytes(b"".join(base64.b64encode(bytes([i])) + f" {i}\n".encode() for i in range(256)))
        return QWenTokenizer(file)
