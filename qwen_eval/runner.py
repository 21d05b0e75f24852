"""One run of one benchmark: from the flags to the tables, resumable at every item.

    run_benchmark(MMLU(), __doc__)      # all of it; returns the exit status

`answer_all` starts the generators of the unfinished items and hands their requests on, all of a kind at once; an answer
goes back to its generator as it arrives, and the record is written when the generator returns.
"""

import argparse
import contextlib
import sys
import time
from collections import defaultdict
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from qwen_eval import protocols
from qwen_eval.answers import MODEL_REQUESTS, ModelAnswers, ServiceAnswers, Task
from qwen_eval.benchmark import Benchmark, Item, RecordOf, Service, Setting
from qwen_eval.cli import OneLineParser, add_protocol, parser
from qwen_eval.engines.base import NoReply
from qwen_eval.engines.loaded import Engines
from qwen_eval.errors import UserError, disk_error
from qwen_eval.export.formats import export
from qwen_eval.export.hub import check_push, push
from qwen_eval.extras import need
from qwen_eval.given_answers import GivenAnswers
from qwen_eval.progress import progress
from qwen_eval.reporting.report import report
from qwen_eval.run import Run, make_run, make_setting, with_prompt
from qwen_eval.sampled_replies import aggregate
from qwen_eval.target import Target
from qwen_eval.thinking import without_answer

# What a run writes at its end; an earlier run's goes with its last sample.
REPORTS = ("results.json", "table.md", "table.csv", "grid.csv", "plot.png", "plot.svg", "disagreements.txt")


# -- from the flags to a run -------------------------------------------------------------------------------------------


def run_benchmark(benchmark: Benchmark, doc: str | None) -> int:
    """Run the benchmark as the command line says; returns the exit status. doc: the script's docstring, for --help."""
    return run(benchmark, parse_flags(benchmark, doc))


def flag_parser(benchmark: Benchmark, doc: str | None) -> OneLineParser:
    """The common flags and the benchmark's own."""
    base, chat = benchmark.shots or (None, None)
    flags = parser(doc, shots=base, chat_shots=chat, max_seq_len=benchmark.max_prompt_tokens)
    if families := protocols.families_of(benchmark.name):
        add_protocol(flags, families)
    benchmark.add_flags(flags)
    return flags


def parse_flags(benchmark: Benchmark, doc: str | None, words: Sequence[str] | None = None) -> argparse.Namespace:
    """What the command line says. words: in its place."""
    return flag_parser(benchmark, doc).parse_args(words)


def run(benchmark: Benchmark, flags: argparse.Namespace) -> int:
    """One run with these flags; returns the exit status."""
    started = time.time()
    target = make_target(benchmark, flags)
    setting = make_setting(benchmark, target)
    loaded = list(benchmark.load(setting))
    with entered(benchmark, setting) as services:
        return finish(make_run(benchmark, setting, target, loaded, started), services)


def make_target(benchmark: Benchmark, flags: argparse.Namespace, engines: Engines | None = None) -> Target:
    """Whom a run asks. UserError for flags, packages or a checkpoint with which no run can start."""
    need(*benchmark.extras)
    benchmark.settle_flags(flags)
    check_push(benchmark.name, vars(flags))
    return Target(flags, benchmark.scores_choices, engines)


@contextlib.contextmanager
def entered(benchmark: Benchmark, setting: Setting) -> Iterator[dict[type, Service]]:
    """The services of a run, for as long as it lasts."""
    with contextlib.ExitStack() as stack:
        yield {kind: stack.enter_context(made) for kind, made in benchmark.services(setting).items()}


def finish(made: Run, services: Mapping[type, Service]) -> int:
    """Ask what is open, write the tables; returns the exit status."""
    answer_all(made, ServiceAnswers(services))
    made.journal.amend(made.benchmark.later(made.records, made.setting))
    status = report(made, aggregate(made), services.values())
    hand_on(made)
    return status


def hand_on(made: Run) -> None:
    """--export, --push-to-hub: what other tools read, of a run whose own files are written."""
    flags = made.target.args
    if flags.export:
        _, refused = export(made.folder, flags.export)
        for reason in refused:
            print(f"not exported: {reason}", file=sys.stderr)
    if flags.push_to_hub:
        print(push(made.folder, flags.push_to_hub))


# -- asking ------------------------------------------------------------------------------------------------------------


def answer_all(made: Run, services: ServiceAnswers) -> None:
    """Answer every unfinished item and write its record. Raises UserError where nothing is left to report."""
    _say_what_to_know(made)
    unfinished = [item for item in made.items if not made.journal.finished(item)]
    count = made.benchmark.items_at_a_time or max(1, len(unfinished))
    model: GivenAnswers | ModelAnswers = (
        GivenAnswers(made.target.replies, made.benchmark, made.target.thinking, 3 if made.target.args.debug else 0)
        if made.target.replies is not None
        else ModelAnswers(made.target, made.benchmark, made.decoding, len(made.items))
    )
    stopped = True
    try:
        for start in range(0, len(unfinished), count):
            _Round(made, model, services).answer(unfinished[start : start + count])
        stopped = False
    finally:
        services.close(at_once=stopped)
    if made.missing and len(made.missing) == len(made.items):
        why = f"gave no reply to any of {len(made.items)} items ({made.missing.summary})"
        raise UserError(f"{made.missing.asked} {why}")


def _say_what_to_know(made: Run) -> None:
    """What one who waits for the answers should know: that it is an adapter's model, or a chat checkpoint asked as
    base; and after a wrong -d, or when a data set was mended, why finished items are asked again."""
    for note in made.target.model_notes:
        print(f"note: {note}", file=sys.stderr)
    lines = [item for item in made.items if item.key in made.journal.records]
    if stale := sum(not made.journal.finished(item) for item in lines if item.prompt):
        print(
            f"{stale} of {len(lines)} finished items had another prompt, answer or test in the data; "
            "they are asked again",
            file=sys.stderr,
        )


class _Round:
    """Items under way together."""

    def __init__(self, made: Run, model: GivenAnswers | ModelAnswers, services: ServiceAnswers) -> None:
        self.run, self.model, self.services = made, model, services
        self.asked: dict[type, list[tuple[Task, Any]]] = defaultdict(list)  # of the model
        self.waiting: list[tuple[Task, RecordOf]] = []  # for another item's record
        self.open: set[tuple[str, int]] = set()  # items without a record, or whose record is being made anew

    def answer(self, items: Sequence[Item]) -> None:
        self.open = {item.key for item in items}
        for item in items:
            self.go_on(Task(item, self.run.benchmark.evaluate(item, self.run.setting)), None)
        while self.asked or self.services.pending or self.waiting:
            if self.asked:
                kind, asked = self.asked.popitem()
                self._ask_model(kind, asked)
            elif self.services.pending:
                self._finish_services()
            self._release_waiting()

    def _ask_model(self, kind: type, asked: list[tuple[Task, Any]]) -> None:
        """Send every answer back as it arrives; where the model fails, what has arrived is saved first."""
        try:
            for task, answer in self.model.answers(kind, asked):
                self.go_on(task, answer)
                for other, verdict in self.services.ready():
                    self.go_on(other, verdict)
        except Exception:
            self._finish_services()
            raise
        except KeyboardInterrupt:  # only what is there already: it is to end at once
            for other, verdict in self.services.ready():
                self.go_on(other, verdict)
            raise

    def _finish_services(self) -> None:
        with progress("checks", 0, self.services.pending) if self.services.pending > 20 else _no_bar() as bar:
            while self.services.pending:
                for task, answer in self.services.wait():
                    self.go_on(task, answer)
                    bar.update()

    def _release_waiting(self) -> None:
        """Go on with items whose earlier item has its record now; give up those whose earlier item has no reply."""
        waiting, self.waiting = self.waiting, []
        for task, request in waiting:
            key = (request.id, request.sample)
            if key in self.run.missing.why:
                why = NoReply("an earlier step without a reply", "its dialogue ends there", True)
                self.go_on(task, why)
            elif key in self.open:
                self.waiting.append((task, request))
            elif key in self.run.journal.records:
                self.go_on(task, self.run.journal.records[key])
            else:
                raise UserError(f"{task.item.id} goes on from {request.id}, to which there is no reply")

    def go_on(self, task: Task, answer: Any) -> None:
        """Give the task its answer, and hand on what it asks next; or write its record."""
        if isinstance(answer, NoReply):
            self.run.missing.add(task.item, answer)
            self._close(task)
            return
        try:
            request = task.send(answer)
        except StopIteration as finished:
            self._save(task, finished.value)
            return
        if isinstance(request, MODEL_REQUESTS):
            if not task.item.prompt:
                task.item = with_prompt(task.item, request)
                if self.run.journal.finished(task.item):  # its earlier items came out as they were
                    self._close(task)
                    return
            self.asked[type(request)].append((task, request))
        elif isinstance(request, RecordOf):
            self.waiting.append((task, request))
        else:
            self.services.ask(task, request)

    def _close(self, task: Task) -> None:
        task.evaluation.close()
        self.open.discard(task.item.key)

    def _save(self, task: Task, record: Mapping[str, Any]) -> None:
        journal, folder = self.run.journal, self.run.folder
        record = {name: str(value) if isinstance(value, str) else value for name, value in record.items()}  # Solution
        if task.known.get("think_closed") is False:
            record = without_answer(record)
        prompt = {} if "prompt" in record else {"prompt": self.model.prompt_text(task)}
        dropped = journal.fresh
        journal.append(task.item, {**task.known, **prompt, **record})
        self.open.discard(task.item.key)
        if dropped:  # tables of the dropped run would stand beside the new one's samples
            for name in REPORTS:
                with disk_error(folder / name):
                    (folder / name).unlink(missing_ok=True)


@contextlib.contextmanager
def _no_bar() -> Iterator[Any]:
    yield argparse.Namespace(update=lambda: None)
