"""The Hugging Face agent benchmark: run mode has 27 tasks, chat mode 24 dialogues of 47 steps in all.

The steps of a dialogue follow each other: the model's own replies stand in the next prompt, and the variables of its
code live on. So a step asks for the records of the steps before it; all first steps are asked at once, then all second
ones, and so on. The id of a step is `run/N` or `chat/N`, counted through all dialogues in the benchmark's order.
"""

import argparse
from collections.abc import Iterable, Mapping, Sequence
from typing import Any, ClassVar, NamedTuple

from qwen_eval.benchmark import Benchmark, Content, Evaluation, Generate, Item, Record, RecordOf, Results, Setting
from qwen_eval.benchmarks.hf_agent.interpreter import Ended, Interpreter
from qwen_eval.benchmarks.hf_agent.scoring import STOPS, Marks, Program, cut, read_protocol, read_robust, score
from qwen_eval.benchmarks.hf_agent.tasks import Step, Tasks, read_tasks
from qwen_eval.errors import UserError
from qwen_eval.stats import mean_mark

# Once reserved words of Qwen's: the published script writes these in their place to a chat model, and back.
WORDS = (("Human:", "_HUMAN_:"), ("Assistant:", "_ASSISTANT_:"))
EXTRACTIONS = (("", read_protocol), ("_robust", read_robust))


class Place(NamedTuple):
    """Where an item stands: the number of its dialogue's first step, the dialogue, and its own turn in it."""

    first: int
    dialogue: list[Step]
    turn: int

    @property
    def step(self) -> Step:
        return self.dialogue[self.turn]


class RunCode(NamedTuple):
    """Answer: how the code of a dialogue's last step `Ended`. steps: each one's variables and code (None: no code)."""

    steps: Sequence[tuple[dict[str, str], str | None]]


class AgentCode:
    """The service that answers a `RunCode`: the benchmark's interpreter with its simulated tools."""

    workers = 1

    def __init__(self, tasks: Tasks) -> None:
        self.interpreter = Interpreter(tasks.tools)

    def __enter__(self) -> "AgentCode":
        self.interpreter.__enter__()
        return self

    def __exit__(self, *_: object) -> None:
        self.interpreter.__exit__()

    def answer(self, request: RunCode) -> Ended:
        return self.interpreter.run(request.steps)

    def describe(self) -> dict[str, Any]:
        return {"interpreter": {"guards": list(self.interpreter.guards)}}


def to_chat_model(text: str) -> str:
    for word, written in WORDS:
        text = text.replace(word, written)
    return text


def from_model(reply: str, mode: str) -> str:
    """The reply with the words put back, up to the first stop string."""
    for word, written in WORDS:
        reply = reply.replace(written, word)
    return cut(reply, mode)


class AgentBenchmark(Benchmark):
    """One of the two modes."""

    extras = ("agents",)
    takes_samples = False
    mode: ClassVar[str]

    def settle_flags(self, flags: argparse.Namespace) -> None:
        if flags.rescore and flags.chat is None:
            flags.chat = True  # a benchmark for chat models: given replies are a chat model's
        if self.mode == "chat" and flags.sample:
            raise UserError(
                "--sample draws single steps, but a dialogue's belong together; --limit N takes the first N"
            )

    def load(self, setting: Setting) -> Iterable[Item]:
        setting.subjects([self.mode])
        number = 0
        tasks = self._tasks(setting)
        for dialogue in tasks.dialogues:
            for turn, step in enumerate(dialogue):
                place = Place(number - turn, dialogue, turn)
                yield Item(f"{self.mode}/{number}", self.mode, gold=step.expected, row=place, examples=(tasks,))
                number += 1

    def _tasks(self, setting: Setting) -> Tasks:
        if setting.own_samples:
            raise UserError("the demo has no agent tasks; give -d, the folder that holds tasks.json")
        return read_tasks(setting.data_path, self.mode)

    def services(self, setting: Setting) -> Mapping[type, Any]:
        return {RunCode: AgentCode(self._tasks(setting))}

    def decoding(self, setting: Setting) -> Mapping[str, Any]:
        return {"stop": [text for stop in STOPS[self.mode] for text in dict.fromkeys((stop, to_chat_model(stop)))]}

    def protocol(self, setting: Setting) -> Mapping[str, Any]:
        return {"num_fewshot": 0}

    def content(self, item: Item) -> Content:
        place: Place = item.row
        step = place.step
        return Content([place.turn, step.task, step.inputs], [step.code, step.expected, [*map(sorted, step.tools)]])

    def example_contents(self, item: Item) -> Sequence[Content]:
        """The prompt with its worked examples, and the tools."""
        tasks: Tasks = item.examples[0]
        return [Content([tasks.prompt([("", "")], ""), *tasks.tools], None)]

    def evaluate(self, item: Item, setting: Setting) -> Evaluation:
        (tasks,), place = item.examples, item.row
        earlier: list[Record] = []
        for number in range(place.first, place.first + place.turn):
            earlier.append((yield RecordOf(f"{self.mode}/{number}")))
        asked = [(step.task, record["response"]) for step, record in zip(place.dialogue, earlier, strict=False)]
        text = tasks.prompt(asked, place.step.task)
        reply = from_model((yield Generate(to_chat_model(text) if setting.chat else text)), self.mode)

        names = [tool.name for tool in tasks.tools]
        found: dict[str, tuple[Ended, Marks]] = {}
        done: dict[str, Ended] = {}
        for kind, read in EXTRACTIONS:
            program = read(reply, self.mode)
            ended = Ended(None, "no code")
            if program:
                codes = [*(self._past_code(record, kind, read) for record in earlier), program.code]
                if (key := repr(codes)) not in done:  # mostly the two extractions are one
                    inputs = [step.inputs for step in place.dialogue]
                    done[key] = yield RunCode(list(zip(inputs, codes, strict=False)))
                ended = done[key]
            found[kind] = (ended, score(program, ended.result, place.step, names))
        return {"response": reply, **self._fields(item, found)}

    def _past_code(self, record: Record, kind: str, read: Any) -> str | None:
        """The code of an earlier step; one that ran over its limit leaves no variables."""
        program: Program | None = read(record["response"], self.mode)
        return program.code if program and record[f"ended{kind}"] == "done" else None

    def _fields(self, item: Item, found: Mapping[str, tuple[Ended, Marks]]) -> Record:
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

    def disagree(self, record: Record) -> bool:
        return any(record[name] != record[f"{name}_robust"] for name in Marks._fields)

    def aggregate(self, records: Sequence[Record], setting: Setting) -> Results:
        scores = {
            name + kind: mean_mark((record[name + kind] for record in records), metric=name, compared=not kind)
            for kind in ("", "_robust")
            for name in Marks._fields
        }
        notes = []
        if unread := sum(record["ended"] == "no code" for record in records):
            what = "not one `Answer:`" if self.mode == "run" else "no closed block of code"
            notes.append(f"replies that the published code cannot read ({what}), which score 0: {unread}")
        if over := sum(record["ended"] == "over the limit" for record in records):
            notes.append(f"replies whose code ran over the limit of time or memory: {over}")
        return Results(scores, notes=notes, shots=0)


class AgentRun(AgentBenchmark):
    name = "hf_agent_run"
    mode = "run"
    official_items = 27


class AgentChat(AgentBenchmark):
    name = "hf_agent_chat"
    mode = "chat"
    official_items = 47
