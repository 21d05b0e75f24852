"""--thinking through an endpoint: what is sent, what of a reply is its answer, and a server whose model cannot."""

import json
from pathlib import Path
from typing import Any

import pytest

from .endpoint import Answer, Server, completion
from .thinking_model import build

REPLIES = {
    "apart": completion("The answer is 7.", reasoning_content="Is it 1?"),
    "apart, never closed": completion(None, "length", reasoning_content="It is 7"),
    "inside": completion("<think>The answer is 1.</think>\n\nThe answer is 7."),
    "inside, never closed": completion("The answer is 7, or", "length"),
}
RIGHT = [True, False, True, False]


@pytest.fixture
def data(tmp_path: Path, server: Server) -> Path:
    rows = [{"question": f"How many ({name})?", "answer": "#### 7"} for name in REPLIES]
    (tmp_path / "test.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    server.answer = lambda text: REPLIES[text.partition("(")[2].partition(")")[0]]
    return tmp_path


def flags(server: Server, data: Path, *more: object) -> tuple[object, ...]:
    return ("--engine", "openai", "--base-url", server.url, "-c", "m", "-d", data, "-o", data / "out", *more)


def show_tokens(server: Server, on: list[int], off: list[int], end: str = "") -> None:
    """The paths by which vLLM shows what its chat template makes."""

    def tokenize(body: dict[str, Any]) -> Answer:
        assert [turn["role"] for turn in body["messages"]] == ["user"]
        return 200, {"tokens": on if body["chat_template_kwargs"]["enable_thinking"] else off}

    server.beside = {"tokenize": tokenize, "detokenize": lambda body: (200, {"prompt": end})}


def lines(folder: Path) -> list[dict[str, Any]]:
    found = [json.loads(line) for line in (folder / "samples.jsonl").read_text().splitlines()]
    return [{**line, **json.loads(line["details"])} for line in sorted(found, key=lambda line: line["id"])]


def notes(folder: Path) -> list[str]:
    return json.loads((folder / "results.json").read_text())["notes"]


UNSEEN = "whether the served chat template knows `enable_thinking`, the server does not say"


def test_a_served_model_is_told_and_its_reasoning_is_kept_wherever_it_stands(
    script, server: Server, data: Path
) -> None:
    show_tokens(server, [1, 2], [1, 2, 3])
    ended = script("gsm8k", *flags(server, data, "--thinking", "on"))
    assert ended.status == 0, ended.err
    assert [body["chat_template_kwargs"] for body in server.bodies] == [{"enable_thinking": True}] * 4
    found = lines(data / "out")
    assert [line["correct"] for line in found] == RIGHT
    assert [line["reasoning"] for line in found] == ["Is it 1?", "It is 7", "The answer is 1.", "The answer is 7, or"]
    assert any(
        note.startswith("2 of 4 replies never closed their think block, at most") for note in notes(data / "out")
    )
    assert UNSEEN not in notes(data / "out")


def test_without_the_flag_nothing_is_sent_and_a_block_in_the_text_is_said(script, server: Server, data: Path) -> None:
    ended = script("gsm8k", *flags(server, data))
    assert ended.status == 2, "an item has no reply, as before"
    assert not any("chat_template_kwargs" in body for body in server.bodies)
    said = "1 replies hold a think block, which was read as text (--thinking on takes it off)"
    assert said in notes(data / "out")


def test_a_tokenizer_that_is_here_says_how_the_served_model_thinks(script, server: Server, data: Path) -> None:
    ended = script("gsm8k", *flags(server, data, "--tokenizer", build(data / "Qwen3-tiny")))
    assert ended.status == 0, ended.err
    assert not any("chat_template_kwargs" in body for body in server.bodies)
    assert [line["correct"] for line in lines(data / "out")] == [True, False, True, True], "it opens no block itself"
    assert "m thinks before it answers, its default (--thinking off changes that)" in notes(data / "out")


def test_a_server_that_does_not_show_its_template_is_believed_and_that_is_said(
    script, server: Server, data: Path
) -> None:
    assert script("gsm8k", *flags(server, data, "--thinking", "off", "--limit", 1)).status == 0
    assert server.bodies[0]["chat_template_kwargs"] == {"enable_thinking": False}
    assert UNSEEN in notes(data / "out")


@pytest.mark.parametrize(
    ("mode", "end", "status"), [("on", "", 2), ("off", "", 2), ("on", "<think>\n", 0), ("off", "<think>\n", 2)]
)
def test_a_served_model_that_cannot_be_told_is_one_line(
    script, server: Server, data: Path, mode: str, end: str, status: int
) -> None:
    """Of a model that always thinks, "on" is right."""
    show_tokens(server, [1, 2], [1, 2], f"assistant\n{end}")
    ended = script("gsm8k", *flags(server, data, "--thinking", mode, "--limit", 1))
    assert ended.status == status, ended.err
    if status:
        said = f"error: --thinking: the chat template of 'm' at {server.url} does not know enable_thinking"
        assert ended.err.splitlines()[-1].startswith(said)
        assert not server.bodies, "no question was asked"
