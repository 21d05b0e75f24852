"""The answers of a file of replies (--rescore), in place of a model's."""

import sys
from collections.abc import Iterator, Sequence
from typing import Any

from qwen_eval.answers import Task
from qwen_eval.benchmark import Benchmark, Choose, Completion, Generate, LogLikelihood, Solution
from qwen_eval.errors import UserError
from qwen_eval.rescore import Replies
from qwen_eval.thinking import Thinking, kept_of, take_off


class GivenAnswers:
    """See `ModelAnswers`, which has the same methods."""

    def __init__(
        self, replies: Replies, benchmark: Benchmark, thinking: Thinking | None = None, to_show: int = 0
    ) -> None:
        """thinking: how the model of these replies thinks; to_show: how many prompts to print."""
        self.replies, self.benchmark, self.thinking, self.to_show = replies, benchmark, thinking, to_show

    def prompt_text(self, task: Task) -> str:
        """The benchmark's own text: no model is there to say how it sees it."""
        return task.item.prompt + task.item.assistant_prefill

    def _show(self, task: Task) -> None:
        """--debug shows three prompts."""
        if self.to_show and not task.replies:
            self.to_show -= 1
            print(f"--- {task.item.id}\n{self.prompt_text(task)}\n---", file=sys.stderr)

    def answers(self, kind: type, asked: Sequence[tuple[Task, Any]]) -> Iterator[tuple[Task, Any]]:
        for task, request in asked:
            self._show(task)
            if kind is Generate:
                yield task, self._reply(task)
            elif kind in (Choose, LogLikelihood):
                count = len(request.candidates if kind is Choose else request.continuations)
                yield task, self.replies.logits(task.item, count)
            else:
                raise UserError("--rescore has no use here: these figures are likelihoods of texts, not replies")

    def _reply(self, task: Task) -> str:
        line, text = self.replies.by_key[task.item.key], self.replies.text(task.item)
        turns = self.benchmark.turns_of(line, text)
        reply = turns[task.replies] if task.replies < len(turns) else ""
        task.replies += 1
        task.known |= (kept := kept_of(line)) if task.replies == 1 else {}
        if self.thinking is not None:
            reply = take_off(self.thinking, task.known, reply, str(line.get("finish", "")), "reasoning" in kept)
        if "solution" in line:
            return Solution(reply)
        return Completion(reply) if "completion" in line else reply
