"""The contract of a benchmark: an evaluation is fed answers from a list, the runner gathers what all items ask."""

import argparse
import json
import threading
from collections.abc import Iterable, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from qwen_eval.answers import ServiceAnswers, Task
from qwen_eval.benchmark import Benchmark, Evaluation, Generate, Item, Record, RecordOf, Results, Setting, answered
from qwen_eval.errors import UserError
from qwen_eval.runner import parse_flags, run
from qwen_eval.stats import accuracy

import pytest


class Double:
    """A service that is asked from two threads: twice a number."""

    workers = 2

    def __init__(self) -> None:
        self.asked: list[int] = []
        self.doubted: set[int] = set()

    def __enter__(self) -> "Double":
        return self

    def __exit__(self, *_: object) -> None:
        pass

    def answer(self, request: int) -> int | None:
        self.asked.append(request)
        if request == 13 and request not in self.doubted:  # as if the machine were busy
            self.doubted.add(request)
            return None
        assert request != 13 or threading.current_thread() is threading.main_thread()
        return 2 * request

    def doubtful(self, answer: int | None) -> bool:
        return answer is None

    def notes(self) -> list[str]:
        return [f"numbers doubled: {len(self.asked)}"]


class Sums(Benchmark):
    """Each reply is a number, which is doubled; every second item goes on from the one before."""

    name = "sums"

    def __init__(self, double: Double | None = None) -> None:
        self.double = double or Double()

    def load(self, setting: Setting) -> Iterable[Item]:
        for number in range(6):
            yield Item(f"test/{number}", "test", gold=str(number), row=number)

    def services(self, setting: Setting) -> dict[type, Any]:
        return {int: self.double}

    def evaluate(self, item: Item, setting: Setting) -> Evaluation:
        before = (yield RecordOf(f"test/{item.row - 1}"))["response"] if item.row % 2 else ""
        reply = yield Generate(f"{before}+{item.row}")
        doubled = yield int(reply)
        return {"response": reply, "prediction": doubled, "gold": item.gold, "correct": doubled == 2 * item.row}

    def aggregate(self, records: Sequence[Record], setting: Setting) -> Results:
        return Results({"acc": accuracy(record["correct"] for record in records)})


def flags_for(monkeypatch: pytest.MonkeyPatch, *words: object) -> argparse.Namespace:
    monkeypatch.setattr("sys.argv", ["evaluate_sums.py", *map(str, words)])
    return parse_flags(Sums(), "Sums.")


def test_an_evaluation_is_a_function_of_its_answers() -> None:
    item = Item("test/4", "test", gold="4", row=4)
    record = answered(Sums().evaluate(item, Setting()), "4", 8)
    assert (record["prediction"], record["correct"]) == (8, True)
    with pytest.raises(AssertionError, match="1 answers were not asked for"):
        answered(Sums().evaluate(item, Setting()), "4", 8, 9)
    with pytest.raises(AssertionError, match="one more answer is asked for, to 4"):
        answered(Sums().evaluate(item, Setting()), "4")


def test_the_runner_answers_each_kind_and_keeps_the_order_of_the_items(monkeypatch, tmp_path: Path) -> None:
    replies = tmp_path / "replies.jsonl"
    lines = [{"id": f"test/{number}", "response": str(13 if number == 2 else number)} for number in range(6)]
    replies.write_text("".join(json.dumps(line) + "\n" for line in lines))
    double = Double()
    assert run(Sums(double), flags_for(monkeypatch, "--rescore", replies, "-o", tmp_path / "out")) == 0
    samples = [json.loads(line) for line in (tmp_path / "out/samples.jsonl").read_text().splitlines()]
    by_id = {sample["id"]: sample for sample in samples}
    assert [by_id[f"test/{number}"]["prompt"] for number in range(6)] == ["+0", "0+1", "+2", "13+3", "+4", "4+5"]
    assert [by_id[f"test/{number}"]["correct"] for number in range(6)] == [True, True, False, True, True, True]
    assert sorted(double.asked) == [0, 1, 3, 4, 5, 13, 13]  # the doubtful one once more
    assert "numbers doubled: 7" in json.loads((tmp_path / "out/results.json").read_text())["notes"]


def test_an_item_that_goes_on_from_one_without_reply_is_named(monkeypatch, tmp_path: Path) -> None:
    replies = tmp_path / "replies.jsonl"
    replies.write_text('{"id": "test/3", "response": "3"}\n')
    with pytest.raises(UserError, match="test/3 goes on from test/2, to which there is no reply"):
        run(Sums(), flags_for(monkeypatch, "--rescore", replies, "-o", tmp_path / "out"))


def test_a_fault_of_a_benchmark_names_its_item(monkeypatch, tmp_path: Path) -> None:
    replies = tmp_path / "replies.jsonl"
    replies.write_text('{"id": "test/0", "response": "none"}\n')
    with pytest.raises(RuntimeError, match="test/0: ValueError: invalid literal"):
        run(Sums(), flags_for(monkeypatch, "--rescore", replies, "-o", tmp_path / "out"))


def test_a_request_that_nobody_answers_names_who_should(monkeypatch, tmp_path: Path) -> None:
    class Alone(Sums):
        def services(self, setting: Setting) -> dict[type, Any]:
            return {}

    replies = tmp_path / "replies.jsonl"
    replies.write_text('{"id": "test/0", "response": "0"}\n')
    with pytest.raises(TypeError, match=r"test/0: nobody answers a int; Benchmark.services names who does"):
        run(Alone(), flags_for(monkeypatch, "--rescore", replies, "-o", tmp_path / "out"))


def test_a_service_that_fails_is_an_error_and_never_a_wait_for_ever() -> None:
    """What else is under way is still answered: the runner saves it before it gives up."""

    class Failing(Double):
        def answer(self, request: int) -> int | None:
            if request == 1:
                raise UserError("the service is gone")
            return super().answer(request)

    service = Failing()
    services = ServiceAnswers({int: service})
    for number in (1, 2, 3):
        item = Item(f"test/{number}", "test", row=number)
        services.ask(Task(item, Sums(service).evaluate(item, Setting())), number)
    answers, errors = [], []
    while services.pending:
        try:
            answers += [answer for _, answer in services.wait()]
        except UserError as error:
            errors.append(str(error))
    services.close(at_once=False)
    assert (sorted(answers), errors) == ([4, 6], ["the service is gone"])


def test_a_prompt_that_cannot_be_made_names_its_item(monkeypatch, tmp_path: Path) -> None:
    class Unreadable(Sums):
        def evaluate(self, item: Item, setting: Setting) -> Evaluation:
            yield Generate({"question": "?"}["problem"])
            return {}

    replies = tmp_path / "replies.jsonl"
    replies.write_text('{"id": "test/0", "response": "0"}\n')
    with pytest.raises(RuntimeError, match="test/0: KeyError: 'problem'"):
        run(Unreadable(), flags_for(monkeypatch, "--rescore", replies, "-o", tmp_path / "out"))


def test_the_datas_checksum_counts_items_whose_prompt_rests_on_replies(monkeypatch, tmp_path: Path) -> None:
    class Other(Sums):
        def load(self, setting: Setting) -> Iterable[Item]:
            for item in super().load(setting):
                yield replace(item, gold="another") if item.id == "test/5" else item

    replies = tmp_path / "replies.jsonl"
    sums = {}
    for name, benchmark, first in (("one", Sums(), 0), ("reply", Sums(), 4), ("gold", Other(), 0)):
        lines = [{"id": f"test/{number}", "response": str(number or first)} for number in range(6)]
        replies.write_text("".join(json.dumps(line) + "\n" for line in lines))
        assert run(benchmark, flags_for(monkeypatch, "--rescore", replies, "-o", tmp_path / name)) == 0
        sums[name] = json.loads((tmp_path / name / "results.json").read_text())["manifest"]["data_sha256"]
    assert sums["one"] == sums["reply"] != sums["gold"]
