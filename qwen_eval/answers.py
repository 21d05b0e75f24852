"""Who answers a benchmark's requests: the model through its engine, or a service; a file of replies: given_answers.py.

The runner hands over all requests of one kind at once, so that the engine shares prefixes over the whole benchmark.
"""

import queue
import sys
from collections import defaultdict
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass, field
from typing import Any

from qwen_eval.benchmark import (
    Benchmark,
    Choose,
    Evaluation,
    Generate,
    Item,
    LogLikelihood,
    ScoreTokens,
    Service,
)
from qwen_eval.engines.base import ChoiceRequest, LogLikelihoodRequest, NoReply
from qwen_eval.engines.decoding import Decoding
from qwen_eval.engines.model_input import continuations, shorter_prompts
from qwen_eval.errors import UserError, one_line
from qwen_eval.extraction.replies import cut_at
from qwen_eval.progress import progress
from qwen_eval.reporting.manifest import digest
from qwen_eval.target import Target
from qwen_eval.thinking import take_off

#: kinds of request that the model answers
MODEL_REQUESTS = (Choose, LogLikelihood, Generate, ScoreTokens)


@dataclass
class Task:
    """An item under way.

    item: with the prompt of its first request to the model; encoded: that prompt as it went to the engine; known: what
    the runner adds to the record; replies: how many given ones it has had.
    """

    item: Item
    evaluation: Evaluation
    encoded: Any = None
    known: dict[str, Any] = field(default_factory=dict)
    replies: int = 0

    def send(self, answer: Any) -> Any:
        """Give the evaluation an answer; returns what it asks next. Raises StopIteration with the record at its end;
        an error of the benchmark itself names the item."""
        try:
            return self.evaluation.send(answer)
        except (StopIteration, UserError):
            raise
        except Exception as error:
            raise RuntimeError(f"{self.item.id}: {type(error).__name__}: {one_line(error)}") from error


class ModelAnswers:
    """The model's answers, by the engine of a target. total: items of the whole run, for the progress bar."""

    def __init__(self, target: Target, benchmark: Benchmark, decoding: Decoding | None, total: int) -> None:
        self.target, self.benchmark, self.decoding, self.total = target, benchmark, decoding, total
        self.chat, self.seed = target.chat, target.args.seed
        self.to_show = 3 if target.args.debug else 0  # prompts

    @property
    def engine(self) -> Any:
        """Loaded when the first item needs it."""
        return self.target.engine

    @property
    def _thinks(self) -> bool:
        """Whether replies begin with thoughts. No stop string may end these, so the answers are cut here."""
        return self.target.thinking is not None and self.target.thinking.on

    def prompt_text(self, task: Task) -> str:
        """The prompt as the model saw it, chat frame and cut included; "" where it was not asked."""
        encoded = "" if task.encoded is None else task.encoded
        return encoded if isinstance(encoded, str) else str(self.engine.prompt_text(encoded))

    def answers(self, kind: type, asked: Sequence[tuple[Task, Any]]) -> Iterator[tuple[Task, Any]]:
        """(task, answer) as the answers come; NoReply where an endpoint failed for good. All requests are of `kind`."""
        if kind is ScoreTokens:
            yield from self._score(asked)
            return
        ways: dict[type, Callable[[Any], Iterator[tuple[Task, Any]]]]
        ways = {Choose: self._choose, LogLikelihood: self._log_likelihood, Generate: self._generate}
        found = ways[kind](asked)  # the engine is loaded and the prompts are encoded before the bar appears
        with progress(self.benchmark.name, max(0, self.total - len(asked)), self.total) as bar:
            for task, answer in found:
                yield task, answer
                bar.update()

    def _choose(self, asked: Sequence[tuple[Task, Choose]]) -> Iterator[tuple[Task, list[float] | NoReply]]:
        prompts = [request.prompt for _, request in asked]
        candidates: list[tuple[int, ...]] = [()] * len(asked)
        alike: dict[tuple[str, ...], list[int]] = defaultdict(list)
        for index, (_, request) in enumerate(asked):
            alike[tuple(request.candidates)].append(index)
        for texts, indices in alike.items():
            found = self.engine.candidate_ids([prompts[index] for index in indices], texts, self.chat)
            for index, ids in zip(indices, found, strict=True):
                candidates[index] = ids
        requests = [
            ChoiceRequest(self._cut(task, tokens, request.max_prompt_tokens), ids)
            for (task, request), tokens, ids in zip(
                asked, self.engine.encode(prompts, self.chat), candidates, strict=True
            )
        ]
        return ((asked[index][0], logits) for index, logits in self.engine.choose(requests))

    def _cut(self, task: Task, tokens: Any, limit: int | None) -> Any:
        """A prompt of more than `limit` tokens keeps its last `limit - 1`, as published; its record says `cut`."""
        if limit is not None and len(self.engine.last_tokens(tokens, limit)) < len(tokens):
            task.known["cut"] = True
            tokens = self.engine.last_tokens(tokens, limit - 1)
        self._saw(task, tokens)
        return tokens

    def _log_likelihood(self, asked: Sequence[tuple[Task, LogLikelihood]]) -> Iterator[tuple[Task, list[float]]]:
        requests: list[LogLikelihoodRequest] = []
        whose: list[tuple[int, int]] = []
        found: list[list[float | None]] = []
        for index, (task, request) in enumerate(asked):
            found.append([None] * len(request.continuations))
            pairs = continuations(self.engine, self.chat, request)
            for number, (context, continuation) in enumerate(pairs):
                whole = LogLikelihoodRequest(context, continuation)
                limit = request.max_prompt_tokens
                requests.append(whole if limit is None else whole.cut(limit))
                if len(requests[-1].tokens) < len(context):
                    task.known["cut"] = True
                self._saw(task, requests[-1].tokens)
                whose.append((index, number))

        def complete() -> Iterator[tuple[Task, list[float]]]:
            for position, likelihood in self.engine.loglikelihood(requests):
                index, number = whose[position]
                found[index][number] = likelihood.log_likelihood
                if None not in found[index]:
                    yield asked[index][0], [float(value) for value in found[index] if value is not None]

        return complete()

    def _generate(self, asked: Sequence[tuple[Task, Generate]]) -> Iterator[tuple[Task, Any]]:
        assert self.decoding is not None, "a benchmark that generates says how (Benchmark.decoding)"
        prefills = [request.assistant_prefill for _, request in asked]
        examples = [request.examples for _, request in asked]
        assert self.chat or not any(examples), "examples are turns of a chat; a base model has them in its prompt"
        requested = [request for _, request in asked]
        prompts = self.engine.encode(
            [request.prompt for request in requested],
            self.chat,
            raw=True,
            assistant_prefill=prefills if any(prefills) else None,
            examples=examples if any(examples) else None,
        )
        for index, (prompt, left_out) in shorter_prompts(self.engine, self.chat, requested, prompts).items():
            prompts[index] = prompt
            asked[index][0].known["examples_left_out"] = left_out
        prompts = [self._fitting(*one, prompt) for one, prompt in zip(asked, prompts, strict=True)]
        seeds = [digest([self.seed, task.item.id, task.item.sample]) for task, _ in asked]
        decoding = self.decoding._replace(stop=()) if self._thinks else self.decoding
        requests = self.engine.generate_requests(prompts, decoding, self.chat, seeds)
        return (self._read(asked[index][0], asked[index][1], reply) for index, reply in self.engine.generate(requests))

    def _fitting(self, task: Task, request: Generate, prompt: Any) -> Any:
        """A prompt that leaves no room for its reply keeps its end; its record says `cut`."""
        if request.max_total_tokens is not None and self.decoding is not None:
            room = request.max_total_tokens - self.decoding.max_new_tokens
            if room < 1:
                raise UserError(
                    f"{request.max_total_tokens} tokens for prompt and reply (--max-seq-len) leave none for the "
                    f"prompt, when a reply may have {self.decoding.max_new_tokens} (--max-new-tokens)"
                )
            kept = self.engine.last_tokens(prompt, room)
            if len(kept) < len(prompt):
                task.known["cut"] = True
            prompt = kept
        self._saw(task, prompt)
        return prompt

    def _read(self, task: Task, request: Generate, reply: Any) -> tuple[Task, Any]:
        """A reply as the benchmark gets it; how it ended goes into the record."""
        if isinstance(reply, NoReply):
            return task, reply
        task.known |= {"finish": reply.finish, "new_tokens": reply.tokens}
        if reply.reasoning:
            task.known["reasoning"] = reply.reasoning
        text = reply.text
        if self.target.thinking is not None:
            text = take_off(self.target.thinking, task.known, text, reply.finish, bool(reply.reasoning))
        if self._thinks and self.decoding is not None and (answer := cut_at(text, self.decoding.stop)) != text:
            text, task.known["finish"] = answer, "stop"
        as_it_is = not self.chat or request.assistant_prefill or request.examples
        return task, text if as_it_is else text.strip()

    def _score(self, asked: Sequence[tuple[Task, ScoreTokens]]) -> Iterator[tuple[Task, Any]]:
        """Documents as the last of their windows is scored. The bar counts tokens."""
        total = sum(len(window.tokens) - 1 for _, request in asked for window in request.windows)
        yield from ((task, []) for task, request in asked if not request.windows)
        whose = [place for place, (_, request) in enumerate(asked) for _ in request.windows]
        first = {place: index for index, place in reversed(list(enumerate(whose)))}
        found: dict[int, dict[int, Any]] = defaultdict(dict)
        with progress(self.benchmark.name, 0, total, unit="token", scale=True) as bar:
            windows = [window for _, request in asked for window in request.windows]
            for index, values in self.engine.score(windows, bar.update):
                place = whose[index]
                found[place][index - first[place]] = values
                task, request = asked[place]
                if len(found[place]) == len(request.windows):
                    task.encoded = request.prompt
                    of_document = found.pop(place)
                    yield task, [of_document[number] for number in range(len(of_document))]

    def _saw(self, task: Task, encoded: Any) -> None:
        """Keep what the model is asked, of several turns the first. --debug shows three."""
        if task.encoded is None:
            task.encoded = encoded
            if self.to_show:
                self.to_show -= 1
                print(f"--- {task.item.id}\n{self.prompt_text(task)}\n---", file=sys.stderr)


class ServiceAnswers:
    """The services of a run, each asked from its own threads, while the model still answers."""

    def __init__(self, services: Mapping[type, Service]) -> None:
        self.services = services
        self.pending = 0
        self._done: queue.SimpleQueue[tuple[Task, Any, Future[Any]]] = queue.SimpleQueue()
        self._again: list[tuple[Task, Any]] = []  # to be asked once more, alone
        self._executors = {kind: ThreadPoolExecutor(service.workers) for kind, service in services.items()}

    def ask(self, task: Task, request: Any) -> None:
        kind = type(request)
        if kind not in self.services:
            raise TypeError(f"{task.item.id}: nobody answers a {kind.__name__}; Benchmark.services names who does")
        self.pending += 1
        future = self._executors[kind].submit(self.services[kind].answer, request)
        future.add_done_callback(lambda done: self._done.put((task, request, done)))

    def ready(self) -> Iterator[tuple[Task, Any]]:
        """The answers that are there already."""
        while not self._done.empty():
            yield from self._take()

    def wait(self) -> Iterator[tuple[Task, Any]]:
        """The next answer; where only doubtful ones are left, these once more, one at a time."""
        if self.pending > len(self._again):
            yield from self._take()
        elif self._again:
            task, request = self._again.pop(0)
            self.pending -= 1
            yield task, self.services[type(request)].answer(request)

    def _take(self) -> Iterator[tuple[Task, Any]]:
        task, request, done = self._done.get()
        self.pending -= 1
        answer = done.result()  # raises what the service raised: no answer will come
        doubtful = getattr(self.services[type(request)], "doubtful", None)
        if doubtful is not None and doubtful(answer):
            self._again.append((task, request))
            self.pending += 1
            return
        yield task, answer

    def close(self, at_once: bool) -> None:
        """End the threads. at_once: without waiting for what is under way."""
        for executor in self._executors.values():
            executor.shutdown(wait=not at_once, cancel_futures=True)
