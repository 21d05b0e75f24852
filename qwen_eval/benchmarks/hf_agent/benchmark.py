"""A run of the Hugging Face agent benchmark: run mode has 27 tasks, chat mode 24 dialogues of 47 steps in all.

The steps of a dialogue follow each other: the model's own replies stand in the next prompt, and the variables of its
code live on. So all first steps are asked at once, then all second ones, and so on. The id of a step is `run/N` or
`chat/N`, counted through all dialogues in the benchmark's order.
"""

import argparse
from collections.abc import Sequence
from dataclasses import replace
from typing import Any, NamedTuple

from qwen_eval.benchmarks.hf_agent.interpreter import Ended, Interpreter
from qwen_eval.benchmarks.hf_agent.scoring import (
    STOPS,
    Marks,
    cut,
    read_protocol,
    read_robust,
    score,
)
from qwen_eval.benchmarks.hf_agent.tasks import Benchmark, Step, read_benchmark
from qwen_eval.data.items import Item, choose_subjects
from qwen_eval.engines.base import NoReply
from qwen_eval.errors import UserError
from qwen_eval.run import Run
from qwen_eval.stats import mean_mark

OFFICIAL_N = {"run": 27, "chat": 47}
# Once reserved words of Qwen's: the published script writes these in their place to a chat model, and back.
WORDS = (("Human:", "_HUMAN_:"), ("Assistant:", "_ASSISTANT_:"))


class Place(NamedTuple):
    """Where an item stands: the id's number of its dialogue's first step, the dialogue, and its own turn in it."""

    first: int
    dialogue: list[Step]
    turn: int

    @property
    def step(self) -> Step:
        return self.dialogue[self.turn]


def to_chat_model(text: str) -> str:
    for word, written in WORDS:
        text = text.replace(word, written)
    return text


def from_model(reply: str, mode: str) -> str:
    """The reply with the words put back, up to the first stop string."""
    for word, written in WORDS:
        reply = reply.replace(written, word)
    return cut(reply, mode)


def evaluate(args: argparse.Namespace) -> int:
    """The whole run; returns the exit status."""
    mode: str = args.hf_agent
    run = Run(args, f"hf_agent_{mode}", OFFICIAL_N[mode])
    choose_subjects([mode], args.subjects)
    if mode == "chat" and args.sample:
        raise UserError("--sample draws single steps, but a dialogue's belong together; --limit N takes the first N")
    if run.own_samples:
        raise UserError("the demo has no agent tasks; give -d, the folder that holds tasks.json")
    benchmark = read_benchmark(run.data_path, mode)
    stops = [text for stop in STOPS[mode] for text in dict.fromkeys((stop, to_chat_model(stop)))]
    run.start(_items(run, benchmark), {"num_fewshot": 0}, {"stop": stops})
    _check_whole(run)
    with Interpreter(benchmark.tools) as interpreter:
        for turn in range(max(len(steps) for steps in benchmark.dialogues)):
            _leave_out_followers(run)
            asked = [replace(item, prompt=_prompt(run, benchmark, item)) for item in run.items if item.row.turn == turn]
            for item, reply in run.generate(asked):
                reply = from_model(reply, mode)
                run.save(item, response=reply, **_scored(run, benchmark, interpreter, item, reply))
        guards = interpreter.guards
    return _report(run, mode, guards)


def _items(run: Run, benchmark: Benchmark) -> list[Item]:
    items: list[Item] = []
    for dialogue in benchmark.dialogues:
        first = len(items)
        for turn, step in enumerate(dialogue):
            name = f"{benchmark.mode}/{len(items)}"
            place = Place(first, dialogue, turn)
            items.append(Item(name, benchmark.mode, "", step.expected, place))
            if turn == 0:  # a later step's prompt is not known yet
                items[-1] = replace(items[-1], prompt=_prompt(run, benchmark, items[-1]))
    return items


def _check_whole(run: Run) -> None:
    """UserError where a step was chosen without those before it (a short reply file)."""
    chosen = {item.id for item in run.items}
    for item in run.items:
        if missing := [name for name in _earlier(item) if name not in chosen]:
            raise UserError(f"{item.id} goes on from {missing[0]}, to which there is no reply")


def _leave_out_followers(run: Run) -> None:
    """Steps that go on from one to which an endpoint gave no reply cannot be asked either."""
    lost = {name for name, _ in run.missing.why}
    for item in run.items:
        if lost.intersection(_earlier(item)):
            run.missing.add(item, NoReply("an earlier step without a reply", "its dialogue ends there", True))
    run.leave_out_missing()


def _earlier(item: Item) -> list[str]:
    """The ids of the dialogue's steps before this one."""
    return [f"{item.subject}/{item.row.first + turn}" for turn in range(item.row.turn)]


def _prompt(run: Run, benchmark: Benchmark, item: Item) -> str:
    replies = [run.journal.records[(name, 0)]["response"] for name in _earlier(item)]
    tasks = [step.task for step in item.row.dialogue]
    text = benchmark.prompt(list(zip(tasks, replies, strict=False)), item.row.step.task)
    return to_chat_model(text) if run.chat else text


def _scored(run: Run, benchmark: Benchmark, interpreter: Interpreter, item: Item, reply: str) -> dict[str, Any]:
    """Both readings' results and marks of a step. A step whose code ran over its limit leaves no variables."""
    records = [run.journal.records[(name, 0)] for name in _earlier(item)]
    names = [tool.name for tool in benchmark.tools]
    found: dict[str, tuple[Ended, Marks]] = {}
    done: dict[str, Ended] = {}
    for kind, read in (("", read_protocol), ("_robust", read_robust)):
        program = read(reply, item.subject)
        codes = [
            past.code if (past := read(record["response"], item.subject)) and record[f"ended{kind}"] == "done" else None
            for record in records
        ]
        codes.append(program.code if program else None)
        key = repr(codes)
        if program and key not in done:  # mostly the two readings are one
            inputs = [step.inputs for step in item.row.dialogue]
            done[key] = interpreter.run(list(zip(inputs, codes, strict=False)))
        ended = done[key] if program else Ended(None, "no code")
        found[kind] = (ended, score(program, ended.result, item.row.step, names))
    (ended, marks), (ended_robust, marks_robust) = found[""], found["_robust"]
    return {
        "prediction": ended.result,
        "gold": item.gold,
        "correct": marks.code == 1.0,
        **marks._asdict(),
        **{f"{name}_robust": value for name, value in marks_robust._asdict().items()},
        "ended": ended.ended,
        "ended_robust": ended_robust.ended,
    }


def _report(run: Run, mode: str, guards: Sequence[str]) -> int:
    records = run.records
    scores = {
        name + kind: mean_mark((record[name + kind] for record in records), metric=name, compared=not kind)
        for kind in ("", "_robust")
        for name in Marks._fields
    }
    differ = [r["id"] for r in records if any(r[name] != r[f"{name}_robust"] for name in Marks._fields)]
    notes = [run.list_disagreements(differ)]
    if unread := sum(record["ended"] == "no code" for record in records):
        what = "not one `Answer:`" if mode == "run" else "no closed block of code"
        notes.append(f"replies that the published code cannot read ({what}), which score 0: {unread}")
    if over := sum(record["ended"] == "over the limit" for record in records):
        notes.append(f"replies whose code ran over the limit of time or memory: {over}")
    return run.report(scores, notes=notes, shots=0, extra={"interpreter": {"guards": list(guards)}})
