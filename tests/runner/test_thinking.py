"""Chat models that think: the think block is kept and not read, whoever opens it and however it ends."""

import json
import re
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

from qwen_eval.benchmark import Benchmark, Evaluation, Generate, Item, Record, Results, Setting
from qwen_eval.engines.base import Reply
from qwen_eval.engines.local.engine import LocalEngine
from qwen_eval.metrics import accuracy
from qwen_eval.runner import parse_flags, run
from qwen_eval.thinking import Parts, Thinking

import pytest

from ..engine.thinking_model import ALWAYS, HYBRID, NEVER, SILENT, build
from ..page.conftest import Page

ON, OPENED, UNKNOWN, OFF = Thinking(True), Thinking(True, opened=True), Thinking(True, opened=None), Thinking(False)


@pytest.mark.parametrize(
    ("thinking", "text", "parts"),
    [
        (ON, "<think>\nIs it 3?\n</think>\n\nIt is 4.", Parts("It is 4.", "Is it 3?", True, 1)),
        (ON, "<think>\n\n</think>\n\n4", Parts("4", "", True, 1)),
        (ON, "4", Parts("4")),  # it may leave the block out
        (ON, "<think>3, or", Parts("", "3, or", False, 1)),
        (ON, "<think>a<think>b</think>c</think>4", Parts("4", "a<think>b</think>c", True, 2)),
        (ON, "<think>a<think>b</think>4", Parts("4", "a<think>b", True, 2)),
        (ON, "<think>a</think>3<think>b</think>4", Parts("4", "a</think>3<think>b", True, 2)),
        (ON, "<think>a</think>3<think>b", Parts("", "a</think>3<think>b", False, 2)),
        (ON, "a</think>4", Parts("4", "a", True, 1)),
        (OPENED, "a\n</think>\n\n4", Parts("4", "a", True, 1)),
        (OPENED, "a, the answer is 4", Parts("", "a, the answer is 4", False, 1)),
        (OPENED, "<think>a</think>4", Parts("4", "a", True, 1)),
        (OPENED, "a</think>3<think>b</think>4", Parts("4", "a</think>3<think>b", True, 2)),
        (UNKNOWN, "4", Parts("4")),
        (OFF, "the tag </think> ends it", Parts("the tag </think> ends it")),
        (OFF, " <think>all the same</think>4", Parts("4", "all the same", True, 1)),
    ],
)
def test_what_follows_the_last_block_is_the_answer(thinking: Thinking, text: str, parts: Parts) -> None:
    assert thinking.parts(text, "stop") == parts


def test_a_reply_without_a_tag_that_was_cut_may_be_all_thought() -> None:
    """Where nobody knows whether the prompt opened the block: only one that ended by itself is an answer."""
    assert UNKNOWN.parts("a, the answer is 4", "length") == Parts("", "a, the answer is 4", False, 1)
    assert UNKNOWN.parts("the answer is 4", "length", apart=True) == Parts("the answer is 4")
    assert UNKNOWN.parts("", "length", apart=True) == Parts("", closed=False)


# -- runs --------------------------------------------------------------------------------------------------------------

REPLIES = {
    "closed": "<think>\nThe answer is 1.\n</think>\n\nThe answer is 7.",
    "never closed": "<think>\nThe answer is 7.",
    "nested": "<think>The answer is 1. <think>No: 2.</think></think>\nThe answer is 7.",
    "empty": "<think>\n\n</think>\n\nThe answer is 7.",
    "opened by the prompt": "The answer is 1.\n</think>\n\nThe answer is 7.",
    "none": "The answer is 7.",
}
ANSWERED = [name != "never closed" for name in REPLIES]
BY_THE_MODEL = {name: reply for name, reply in REPLIES.items() if name != "opened by the prompt"}


@pytest.fixture(scope="module")
def models(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    folder = tmp_path_factory.mktemp("models")
    kinds = {"Qwen3-tiny": HYBRID, "Qwen3-tiny-Thinking": ALWAYS, "Qwen3-tiny-Instruct": NEVER}
    return {name: build(folder / name, template) for name, template in kinds.items()}


@pytest.fixture
def data(tmp_path: Path) -> Path:
    """GSM8K of one question for each reply, all with the answer 7."""
    rows = [{"question": f"How many ({name})?", "answer": "#### 7"} for name in REPLIES]
    (tmp_path / "test.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    return tmp_path


@pytest.fixture
def says(monkeypatch: pytest.MonkeyPatch) -> Callable[[dict[str, str]], None]:
    """The model answers a question with the reply of its name, in place of its random words."""

    def script_it(replies: dict[str, str]) -> None:
        def generate(self: LocalEngine, requests: Sequence[Any]) -> Iterator[tuple[int, Reply]]:
            for index, request in enumerate(requests):
                name = re.search(r"How many \((.*)\)", self.prompt_text(request.tokens))[1]  # type: ignore[index]
                finish = "length" if name == "never closed" else "stop"
                yield index, Reply(replies.get(name, "The answer is 7."), 9, finish)

        monkeypatch.setattr(LocalEngine, "generate", generate)

    return script_it


def lines(folder: Path) -> list[dict[str, Any]]:
    found = [json.loads(line) for line in (folder / "samples.jsonl").read_text().splitlines()]
    return [{**line, **json.loads(line["details"])} for line in sorted(found, key=lambda line: line["id"])]


def results(folder: Path) -> dict[str, Any]:
    return json.loads((folder / "results.json").read_text())


def said(folder: Path, *notes: str) -> None:
    found = results(folder)["notes"]
    assert set(notes) <= set(found), found


def test_a_model_that_can_think_thinks_by_default_and_its_blocks_are_kept_and_not_read(
    script, models: dict[str, Path], data: Path, says, tmp_path: Path
) -> None:
    says(BY_THE_MODEL)
    how = ("-c", models["Qwen3-tiny"], "-d", data, "-o", tmp_path / "out")
    ended = script("gsm8k", *how)
    assert ended.status == 0, ended.err
    default = "Qwen3-tiny thinks before it answers, its default (--thinking off changes that)"
    assert f"note: {default}" in ended.err
    said(
        tmp_path / "out",
        default,
        "4 of 6 replies have a think block, kept as `reasoning` and not read; 1 of these are empty",
        "1 replies have nested or several think blocks; what follows the last </think> is read",
        "1 of 6 replies never closed their think block, at most 2,048 new tokens (--max-new-tokens): they have no "
        "answer and count as wrong",
    )
    found = lines(tmp_path / "out")
    assert all(line["prompt"].endswith("<|im_start|>assistant\n") for line in found)
    assert [line["correct"] for line in found] == [line["correct_robust"] for line in found] == ANSWERED
    assert [line.get("reasoning") for line in found] == [
        "The answer is 1.",
        "The answer is 7.",
        "The answer is 1. <think>No: 2.</think>",
        "",
        None,
        None,
    ]
    assert {line["response"] for line in found} == {"", "The answer is 7."}
    assert results(tmp_path / "out")["manifest"]["settings"]["thinking"] == "on"
    before = (tmp_path / "out/samples.jsonl").read_text()
    says(dict.fromkeys(REPLIES, "not asked again"))
    assert script("gsm8k", *how, "--thinking", "on").status == 0, "the default by its name is the same run"
    assert (tmp_path / "out/samples.jsonl").read_text() == before
    refused = script("gsm8k", *how, "--thinking", "off")
    assert refused.status == 2 and "holds a run with another model, dtype or prompt setting" in refused.err


def test_without_thinking_the_prompt_closes_the_block_and_a_tag_in_a_reply_is_text(
    script, models: dict[str, Path], data: Path, says, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    says({"closed": "Is </think> a tag? The answer is 7."})
    monkeypatch.chdir(tmp_path)
    ended = script("gsm8k", "-c", models["Qwen3-tiny"], "-d", data, "--thinking", "off")
    assert ended.status == 0, ended.err
    folder = tmp_path / "results/Qwen3-tiny/gsm8k-non-thinking"
    found = lines(folder)
    assert all(line["prompt"].endswith(f"<|im_start|>assistant\n{SILENT}") for line in found)
    assert found[0]["response"] == "Is </think> a tag? The answer is 7."
    assert not any("reasoning" in line for line in found)
    said(folder, "Qwen3-tiny was asked with --thinking off")
    assert not any("think block" in note for note in results(folder)["notes"])


def test_a_template_that_opens_the_block_always_thinks(
    script, models: dict[str, Path], data: Path, says, tmp_path: Path
) -> None:
    says({"never closed": "The answer is 7.", **dict.fromkeys(["closed", "nested", "empty", "none"], "a</think>7")})
    says_so = ("-c", models["Qwen3-tiny-Thinking"], "-d", data, "-o", tmp_path / "out", "--thinking", "on")
    ended = script("gsm8k", *says_so)
    assert ended.status == 0, ended.err
    found = lines(tmp_path / "out")
    assert all(line["prompt"].endswith("<think>\n") for line in found)
    assert [(line["reasoning"], line["response"]) for line in found] == [
        ("a", "7"),
        ("The answer is 7.", ""),
        ("a", "7"),
        ("a", "7"),
        ("The answer is 7.", ""),
        ("a", "7"),
    ]
    said(tmp_path / "out", "Qwen3-tiny-Thinking always thinks before it answers, as its chat template has it")


def test_of_a_model_that_does_not_think_nothing_is_taken_off(
    script, models: dict[str, Path], data: Path, says, tmp_path: Path
) -> None:
    says(REPLIES)
    ended = script("gsm8k", "-c", models["Qwen3-tiny-Instruct"], "-d", data, "-o", tmp_path / "out")
    assert ended.status == 0, ended.err
    assert [line["response"] for line in lines(tmp_path / "out")] == list(REPLIES.values())
    assert "thinking" not in results(tmp_path / "out")["manifest"]["settings"]
    assert not any("think" in note for note in results(tmp_path / "out")["notes"])


def test_what_a_random_model_writes_is_read_as_it_is(
    script, models: dict[str, Path], data: Path, tmp_path: Path
) -> None:
    """Through the engine itself, with nothing in its place."""
    for mode in ("on", "off"):
        how = ("-c", models["Qwen3-tiny"], "-d", data, "--thinking", mode, "--max-new-tokens", 4)
        ended = script("gsm8k", *how, "-o", tmp_path / mode, "--limit", 2, "--dtype", "float32")
        assert ended.status == 0, ended.err
    assert lines(tmp_path / "on")[0]["prompt"] + SILENT == lines(tmp_path / "off")[0]["prompt"]
    assert {line["new_tokens"] for line in lines(tmp_path / "on")} == {4}


def test_a_letter_that_the_published_extraction_reads_from_nothing_is_no_answer(
    script, models: dict[str, Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It takes A where a reply is empty."""
    from qwen_eval.places import DEMO

    def cut(self: LocalEngine, requests: Sequence[Any]) -> Iterator[tuple[int, Reply]]:
        yield from ((index, Reply("<think>It is", 9, "length")) for index in range(len(requests)))

    monkeypatch.setattr(LocalEngine, "generate", cut)
    how = ("-d", DEMO / "data/mmlu", "--subjects", "astronomy", "-k", 0, "--protocol", "qwen")
    ended = script("mmlu", "-c", models["Qwen3-tiny"], *how, "-o", tmp_path / "out")
    assert ended.status == 0, ended.err
    found = lines(tmp_path / "out")
    assert any(line["gold"] == "A" for line in found)
    assert {(line["prediction"], line["prediction_robust"], line["correct"]) for line in found} == {("", "", False)}


class Stopped(Benchmark):
    """Replies that end before a question of the model's own."""

    name = "stopped"

    def load(self, setting: Setting) -> Iterator[Item]:
        yield from (Item(f"test/{number}", "test", gold="7", row=name) for number, name in enumerate(REPLIES))

    def evaluate(self, item: Item, setting: Setting) -> Evaluation:
        reply = yield Generate(f"How many ({item.row})?")
        return {"response": reply, "prediction": reply, "gold": item.gold, "correct": reply == item.gold}

    def aggregate(self, records: Sequence[Record], setting: Setting) -> Results:
        return Results({"acc": accuracy(record["correct"] for record in records)})

    def decoding(self, setting: Setting) -> dict[str, Any]:
        return {"stop": ("Question:",)}


@pytest.mark.parametrize(("mode", "stop"), [("on", ()), ("off", ("Question:",))])
def test_a_stop_string_ends_an_answer_and_never_a_thought(
    models: dict[str, Path], monkeypatch: pytest.MonkeyPatch, tmp_path: Path, mode: str, stop: Any
) -> None:
    asked = []

    def generate(self: LocalEngine, requests: Sequence[Any]) -> Iterator[tuple[int, Reply]]:
        for index, request in enumerate(requests):
            asked.append(request.stop)
            text = "<think>The Question: 1?</think>7" + ("" if request.stop else "Question: 2?")
            yield index, Reply(text, 9, "length")

    monkeypatch.setattr(LocalEngine, "generate", generate)
    words = ["-c", str(models["Qwen3-tiny"]), "-o", str(tmp_path / "out"), "--thinking", mode]
    assert run(Stopped(), parse_flags(Stopped(), "Stops.", words)) == 0
    assert set(asked) == {stop}
    assert {line["finish"] for line in lines(tmp_path / "out")} == {"stop" if mode == "on" else "length"}
    assert {line["response"] for line in lines(tmp_path / "out")} == {"7"}


@pytest.mark.parametrize(
    ("name", "flags", "problem"),
    [
        ("Qwen3-tiny-Instruct", ("on",), "--thinking: Qwen3-tiny-Instruct does not think: its chat template knows no"),
        ("Qwen3-tiny-Instruct", ("off",), "--thinking: Qwen3-tiny-Instruct does not think: its chat template knows no"),
        ("demo-chat", ("on",), "--thinking: Qwen-demo-Chat does not think: its chat template knows no"),
        ("demo", ("on",), "--thinking on is for chat models, and Qwen-demo is asked as a base model"),
        ("Qwen3-tiny", ("off", "--base"), "--thinking off is for chat models, and Qwen3-tiny is asked as a base model"),
        (
            "Qwen3-tiny-Thinking",
            ("off",),
            "--thinking off: Qwen3-tiny-Thinking always thinks: its chat template begins",
        ),
        ("Qwen3-tiny", ("maybe",), "argument --thinking: 'maybe' is neither on nor off"),
    ],
)
def test_a_flag_that_the_model_does_not_know_is_one_line_before_any_work(
    script, models: dict[str, Path], name: str, flags: tuple[str, ...], problem: str, tmp_path: Path
) -> None:
    nowhere = ("-d", tmp_path / "nowhere", "-o", tmp_path / "out")
    ended = script("gsm8k", "-c", models.get(name, name), *nowhere, "--thinking", *flags)
    assert ended.status == 2 and problem in ended.err.splitlines()[-1], ended.err
    assert len(ended.err.splitlines()) == 1 and not (tmp_path / "out").exists()


# -- given replies -----------------------------------------------------------------------------------------------------


def given(path: Path, replies: dict[str, str]) -> Path:
    rows = [{"id": f"test/{number}", "response": reply} for number, reply in enumerate(replies.values())]
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    return path


def test_replies_of_a_file_are_those_of_a_thinking_model_where_the_flag_says_so(
    script, data: Path, tmp_path: Path
) -> None:
    file = given(tmp_path / "replies.jsonl", REPLIES)
    ended = script("gsm8k", "--rescore", file, "-d", data, "-o", tmp_path / "out", "--thinking", "on")
    assert ended.status == 0, ended.err
    assert [line["correct"] for line in lines(tmp_path / "out")] == ANSWERED
    said(
        tmp_path / "out",
        "the replies are read as those of a model that was asked with --thinking on",
        "5 of 6 replies have a think block, kept as `reasoning` and not read; 1 of these are empty",
        "1 of 6 replies never closed their think block: they have no answer and count as wrong",
    )
    ended = script("gsm8k", "--rescore", file, "-d", data, "-o", tmp_path / "plain")
    assert ended.status == 0, ended.err
    assert [line["response"] for line in lines(tmp_path / "plain")] == list(REPLIES.values())
    said(tmp_path / "plain", "5 replies hold a think block, which was read as text (--thinking on takes it off)")


def test_replies_whose_blocks_their_prompt_opened_are_known_by_each_other(script, data: Path, tmp_path: Path) -> None:
    replies = {name: "The answer is 1.</think>The answer is 7." for name in REPLIES} | {"empty": "The answer is 7."}
    file = given(tmp_path / "replies.jsonl", replies)
    ended = script("gsm8k", "--rescore", file, "-d", data, "-o", tmp_path / "out", "--thinking", "on")
    assert ended.status == 0, ended.err
    assert [line["correct"] for line in lines(tmp_path / "out")] == [name != "empty" for name in REPLIES]


@pytest.mark.parametrize("flags", [("-c", "Qwen3-tiny", "--chat"), ("--thinking", "on")])
def test_a_run_of_a_thinking_model_is_rescored_to_the_same_figures(
    script, models: dict[str, Path], data: Path, says, tmp_path: Path, flags: tuple[str, ...]
) -> None:
    says(BY_THE_MODEL)
    assert script("gsm8k", "-c", models["Qwen3-tiny"], "-d", data, "-o", tmp_path / "out").status == 0
    again = ("--rescore", tmp_path / "out", "-d", data, "-o", tmp_path / "again", "--export", "lm-eval,inspect,eee")
    assert script("gsm8k", *again, *flags).status == 0
    kept = ("response", "prediction", "prediction_robust", "correct", "reasoning", "think_closed", "think_blocks")
    first, second = (
        [[line.get(name) for name in kept] for line in lines(tmp_path / name)] for name in ("out", "again")
    )
    assert first == second
    said(
        tmp_path / "again",
        "4 of 6 replies have a think block, kept as `reasoning` and not read; 1 of these are empty",
        "1 of 6 replies never closed their think block: they have no answer and count as wrong",
    )
    assert script("report", tmp_path / "out", "-o", tmp_path / "report.html").status == 0
    details = Page(tmp_path / "report.html").items[0]["details"]
    assert json.loads(details[0])["reasoning"] == "The answer is 1."
