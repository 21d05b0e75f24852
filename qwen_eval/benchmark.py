"""The contract of a benchmark: what a script says, and what the runner does with it.

A benchmark is a small class with three parts, read from top to bottom:

* `load`: data -> items;
* `evaluate(item)`: a generator. Whatever it needs from outside (the model, the sandbox, a formula checker, a judge) is
  a request that it yields; the answer comes back where it stands; it returns the item's record. So one item's whole
  way (prompt, reply, extraction, score) is one function, several turns are several yields, and a test feeds it
  answers from a list (`answered` below);
* `aggregate`: records -> scores, tables and notes.

    class Parity(Benchmark):
        name = "parity"

        def load(self, setting):
            for number in range(100):
                yield Item(f"test/{number}", "test", gold="odd" if number % 2 else "even", row=number)

        def evaluate(self, item, setting):
            reply = yield Generate(f"Is {item.row} odd or even?")
            word = reply.strip().lower()
            return {"response": reply, "prediction": word, "gold": item.gold, "correct": word == item.gold}

        def aggregate(self, records, setting):
            return Results({"acc": accuracy(record["correct"] for record in records)})

    if __name__ == "__main__":
        run_script(lambda: run_benchmark(Parity(), __doc__))

The runner (runner.py) starts the generators of all unfinished items, hands the requests of a kind to whoever answers
them, all at once, and writes each record as its generator returns.
"""

import argparse
from collections.abc import Callable, Generator, Iterable, Mapping, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, ClassVar, NamedTuple, Protocol, TypeAlias

from qwen_eval import protocols
from qwen_eval.data.fingerprints import Content as Content  # a script takes the whole contract from here
from qwen_eval.data.items import Item as Item
from qwen_eval.data.items import choose_subjects, subset
from qwen_eval.model_requests import Choose as Choose
from qwen_eval.model_requests import Completion as Completion
from qwen_eval.model_requests import Generate as Generate
from qwen_eval.model_requests import LogLikelihood as LogLikelihood
from qwen_eval.model_requests import RecordOf as RecordOf
from qwen_eval.model_requests import ScoreTokens as ScoreTokens
from qwen_eval.model_requests import Solution as Solution
from qwen_eval.reporting.tables import Grid, Line
from qwen_eval.stats import Score

#: One item's result: fields of samples.jsonl (`reporting.samples.FIELDS`: at least `correct`) and the benchmark's own.
#: The runner adds what it knows itself: id, subject, prompt, how a reply ended.
Record: TypeAlias = dict[str, Any]
Evaluation: TypeAlias = Generator[Any, Any, Record]


# -- who else answers requests -----------------------------------------------------------------------------------------


class Service(Protocol):
    """Whoever answers one kind of request that is not the model's: a sandbox, a formula checker, a judge.

    `answer` is called from `workers` threads. A service may have `doubtful(answer)`: whether a busy machine may be the
    reason for an answer; such a request is asked once more at the end, alone.
    """

    workers: int

    def answer(self, request: Any) -> Any: ...


# -- the setting of a run ----------------------------------------------------------------------------------------------


class Shots(NamedTuple):
    """Examples in the prompt, by the protocol."""

    base: int
    chat: int


@dataclass(frozen=True)
class Setting:
    """How a run asks, fixed before the first item is made.

    chat: as a chat model; shots: examples in the prompt; flags: the command line; data_path: -d, for the demo its own
    samples where no -d is given (`own_samples`); given: with --rescore the file's lines by (id, sample), else None;
    checkpoint: the model's folder, None for an endpoint or given replies; model: its name; folder: of the results;
    protocol: whose way of asking (--protocol, protocols.py); samples: replies per question.
    """

    chat: bool = False
    shots: int = 0
    flags: argparse.Namespace = field(default_factory=argparse.Namespace)
    data_path: str | None = None
    own_samples: bool = False
    given: Mapping[tuple[str, int], Mapping[str, Any]] | None = None
    checkpoint: Path | None = None
    model: str = ""
    folder: Path = Path()
    protocol: str = protocols.FIRST
    samples: int = 1

    @property
    def max_prompt_tokens(self) -> int | None:
        """--max-seq-len."""
        limit: int | None = getattr(self.flags, "max_seq_len", None)
        return limit

    def subjects(self, known: Iterable[str]) -> list[str]:
        """Those of --subjects, in the benchmark's order; UserError for one that it does not have."""
        return choose_subjects(known, getattr(self.flags, "subjects", None))


# -- results -----------------------------------------------------------------------------------------------------------


class Results(NamedTuple):
    """What comes of a run's records. scores: name -> Score, the headline first; breakdowns: title -> name -> Score,
    without reported figures; notes: lines below the tables.

    shots: of the reported figure (default: the setting's); split: of the reported figure; extra: more keys of
    results.json; files: name -> text, written beside the tables. From the scores, laid beside their reported figures:
    grid makes a table that stands above all others, remarks more notes, plots pictures in the folder.
    """

    scores: Mapping[str, Score]
    breakdowns: Mapping[str, Mapping[str, Score]] = {}
    notes: Sequence[str] = ()
    shots: int | None = None
    split: str = ""
    extra: Mapping[str, Any] = {}
    files: Mapping[str, str] = {}
    grid: Callable[[Sequence[Line]], Grid] | None = None
    remarks: Callable[[Sequence[Line]], Sequence[str]] | None = None
    plots: Callable[[Sequence[Line], Path], None] | None = None


# -- the contract ------------------------------------------------------------------------------------------------------


class Benchmark:
    """See the top of this file. `name` is the one in the reported figures; `official_items` the size of the whole
    set (None: not known); `shots` None: -k has no sense; `max_prompt_tokens` the protocol's --max-seq-len."""

    name: ClassVar[str]
    #: what it needs beyond the core packages, checked before any work starts (extras.py), such as ("translation",)
    extras: ClassVar[tuple[str, ...]] = ()
    official_items: ClassVar[int | None] = None
    shots: ClassVar[Shots | None] = None
    max_prompt_tokens: ClassVar[int | None] = None
    #: a base model's answer is read from logits: with --rescore, given texts are a chat model's
    scores_choices: ClassVar[bool] = False
    #: each subject has reported figures of its own, so that --subjects leaves the set whole
    figures_per_subject: ClassVar[bool] = False
    #: a reply is read twice, by the protocol's extraction and by a robust one: where they differ, items are listed
    two_extractions: ClassVar[bool] = True
    #: its figures are of all replies to a question together (pass@k), not means over samples
    pass_at_k: ClassVar[bool] = False
    #: a question may have several replies (--samples); False for dialogues, whose steps and files are of one
    takes_samples: ClassVar[bool] = True
    #: items that are under way at the same time (None: all), where each holds something large
    items_at_a_time: ClassVar[int | None] = None

    def add_flags(self, flags: argparse.ArgumentParser) -> None:
        """Flags of the benchmark's own."""

    def settle_flags(self, flags: argparse.Namespace) -> None:
        """Settle what flags leave open; UserError where they make no sense together. Before anything is loaded."""

    def load(self, setting: Setting) -> Iterable[Item]:
        """The items of the data, in the official order; what --limit and --sample leave out is left out later."""
        raise NotImplementedError

    def evaluate(self, item: Item, setting: Setting) -> Evaluation:
        """One item's way from its prompt to its record."""
        raise NotImplementedError

    def aggregate(self, records: Sequence[Record], setting: Setting) -> Results:
        """Scores, tables and notes of the finished records, in the order of the items."""
        raise NotImplementedError

    # what a benchmark may say beyond that, each with a usual answer

    def usual_samples(self, setting: Setting) -> int:
        """Replies per question without --samples, where replies are sampled."""
        return 1

    def usual_shots(self, protocol: str, chat: bool) -> int:
        """Examples in the prompt without -k, as this family's protocol has them."""
        if self.shots is None:
            return 0
        way = protocols.way(self.name, protocol, chat)
        if way is not None and way.shots is not None:
            return way.shots
        return self.shots.chat if chat else self.shots.base

    def boxed(self, setting: Setting) -> bool:
        """Whether a chat model is told to reason step by step and to box its answer, as `protocols.BOXED` says."""
        way = protocols.way(self.name, setting.protocol, setting.chat)
        return way is not None and way.boxed and setting.shots == 0

    def official(self, setting: Setting) -> int | None:
        """How many items the official set has in this setting."""
        return self.official_items

    def data_set(self, setting: Setting) -> str:
        """The name of the official set in qwen_eval/data/official/, where there is one."""
        return self.name

    def content(self, item: Item) -> Content | None:
        """The item's data as the official set's fingerprint takes it, the same from every layout of the files. None:
        the data are not compared."""
        return None

    def example_contents(self, item: Item) -> Sequence[Content]:
        """The same of the few-shot examples that are data, in the order of the prompt."""
        return ()

    def output_name(self, setting: Setting) -> str:
        """The last part of the output folder's usual name."""
        return self.name

    def choose_items(self, items: Sequence[Item], setting: Setting) -> list[Item]:
        """What --limit and --sample leave of the items."""
        flags = setting.flags
        return subset(items, flags.limit, flags.sample, flags.seed)

    def protocol(self, setting: Setting) -> Mapping[str, Any]:
        """All that changes a prompt or a reply beyond the common flags: a run with another one is another run."""
        found: dict[str, Any] = {} if self.shots is None else {"num_fewshot": setting.shots}
        limits = (self.max_prompt_tokens, setting.max_prompt_tokens)
        return found if limits == (None, None) else {**found, "max_seq_len": setting.max_prompt_tokens}

    def decoding(self, setting: Setting) -> Mapping[str, Any] | None:
        """What the benchmark fixes of `engines.decoding.Decoding`; None where nothing is generated."""
        return {}

    def data_version(self, setting: Setting) -> str | None:
        """Which version of the data this is, where there are several: "" not known; None: there is only one."""
        return None

    def departures(self, setting: Setting) -> list[str]:
        """Own flags by which this is not the reported protocol."""
        return []

    def services(self, setting: Setting) -> Mapping[type, AbstractContextManager[Service]]:
        """Who answers requests that are not the model's: kind of request -> service, entered for the run."""
        return {}

    def outside(self, setting: Setting) -> tuple[str, Iterable[str]]:
        """--rescore: what to call rows of the data that are no items, such as examples, and their ids. Given replies to
        them are left out, and a note counts them."""
        return "", ()

    def turns_of(self, given: Mapping[str, Any], text: str) -> Sequence[str]:
        """--rescore: the replies, turn by turn, in one line of a file of replies."""
        return [text]

    def later(self, records: Sequence[Record], setting: Setting) -> Mapping[tuple[str, int], Mapping[str, Any]]:
        """Fields that finished records get at the end of every run, by (id, sample): a judge may be named later."""
        return {}

    def disagree(self, record: Record) -> bool:
        """Whether protocol extraction and robust extraction come to different verdicts."""
        return bool(record["correct"] != record["correct_robust"])


def answered(evaluation: Evaluation, *answers: Any) -> Record:
    """The record of an evaluation that is fed these answers, in order: for tests and notebooks.

    Raises AssertionError where it asks for more answers than there are, or for fewer.
    """
    waiting = [None, *answers]
    for number, answer in enumerate(waiting):
        try:
            request = evaluation.send(answer)
        except StopIteration as finished:
            assert number == len(answers), f"{len(answers) - number} answers were not asked for"
            record: Record = finished.value
            return record
    raise AssertionError(f"one more answer is asked for, to {request!r}")
