"""Choices and token ids through servers of every kind: exact where the server can, and the table says how it was."""

import json
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

from qwen_eval.engines.decoding import Decoding
from qwen_eval.engines.openai import OpenAIEngine
from qwen_eval.places import DEMO

import pytest

from . import served_model
from .endpoint import Answer, Server, completion, refusal
from .served_model import be_llama, be_sglang, be_vllm

VLLM = "choices by the log-probabilities of exactly their tokens (vLLM's logprob_token_ids)"
SGLANG = "choices by the log-probabilities of exactly their tokens (SGLang's token_ids_logprob)"
TOP_20 = "choices by the log-probabilities of the server's 20 likeliest tokens"
AS_TEXT = "prompts went as text: the server made the tokens and no prompt was cut (--tokenizer would send token ids)"


@pytest.fixture
def other(server: Server) -> Iterator[Server]:
    one = Server()
    yield one
    one.hang.set()
    if one.alive:
        one.http.shutdown()


@pytest.fixture
def run(script, tmp_path: Path) -> Callable[..., Any]:
    def ask(*servers: Server, flags: tuple[object, ...] = (), model: str = "m") -> Any:
        urls = [word for one in servers for word in ("--base-url", one.url)]
        how = ("-c", model, "--base", "-d", DEMO / "data" / "mmlu", "-o", tmp_path / "out", "--limit", 4)
        return script("mmlu", "--engine", "openai", *urls, *how, "--subjects", "astronomy", *flags)

    return ask


def lines(folder: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for line in (folder / "out/samples.jsonl").read_text().splitlines()]


def notes(folder: Path) -> list[str]:
    found: list[str] = json.loads((folder / "out/results.json").read_text())["notes"]
    return found


def check_exact(folder: Path) -> None:
    """Every item has the model's own log-probabilities, whatever the top tokens are."""
    assert len(lines(folder)) == 4
    for line in lines(folder):
        wanted = served_model.letters(line["prompt"])
        assert line["choice_logits"] == pytest.approx(wanted)
        assert line["prediction"] == "ABCD"[wanted.index(max(wanted))]


@pytest.mark.parametrize(("be", "note"), [(be_vllm, VLLM), (be_sglang, SGLANG)])
def test_a_server_that_gives_named_tokens_is_asked_for_exactly_the_choices(
    run, server: Server, tmp_path: Path, be: Callable[[Server], None], note: str
) -> None:
    be(server)
    ended = run(server)
    assert ended.status == 0, ended.err
    check_exact(tmp_path)
    assert {note, AS_TEXT} <= set(notes(tmp_path))
    assert not any("empty replies" in one for one in notes(tmp_path)), "nobody was asked for a text"
    assert all(isinstance(body["prompt"], str) for body in server.bodies)


@pytest.mark.parametrize(("be", "note"), [(be_vllm, VLLM), (be_sglang, SGLANG)])
def test_with_a_tokenizer_the_prompts_are_the_local_engines_token_ids(
    run, server: Server, tmp_path: Path, be: Callable[[Server], None], note: str
) -> None:
    be(server)
    sent: list[list[int]] = []
    for name, answer in list(server.beside.items()):
        server.beside[name] = lambda body, answer=answer: (sent.append(body.get("input_ids")), answer(body))[1]
    ended = run(server, flags=("--tokenizer", "demo"))
    assert ended.status == 0, ended.err
    check_exact(tmp_path)
    assert {note, "prompts went as token ids"} <= set(notes(tmp_path))
    sent += [body["prompt"] for body in server.bodies]
    for line in lines(tmp_path):
        assert served_model.ids_of(line["prompt"]) in sent, "the prompt of the record, id by id"


def test_the_folder_that_a_server_names_its_model_by_gives_the_tokenizer(run, server: Server, tmp_path: Path) -> None:
    be_vllm(server)
    folder = str(DEMO / "checkpoint/base")
    server.models = [folder]
    assert run(server, model=folder).status == 0
    check_exact(tmp_path)
    assert "prompts went as token ids" in notes(tmp_path)


def test_a_server_that_ignores_the_ids_is_asked_for_its_likeliest_tokens(run, server: Server, tmp_path: Path) -> None:
    be_sglang(server)
    del server.beside["generate"]
    ended = run(server)
    # this model's letters are rarely among 20 of 2,000: none is made up
    assert ended.status == 2 and "a choice outside the top 20" in ended.err


def test_llama_cpp_gives_the_likeliest_tokens_and_the_likelier_of_two_with_one_text(
    run, server: Server, tmp_path: Path
) -> None:
    be_llama(server)
    ended = run(server)
    assert ended.status == 0, ended.err
    check_exact(tmp_path)
    assert TOP_20 in notes(tmp_path)


def test_a_choice_that_a_server_gives_no_likelihood_of_is_counted_and_not_made_up(
    run, server: Server, tmp_path: Path
) -> None:
    """vLLM sends -9999 for minus infinity."""
    be_vllm(server)
    known, asked = server.completions, list[Any]()
    assert known is not None

    def completions(body: dict[str, Any]) -> Answer:
        status, answer = known(body)
        asked.append(body["prompt"])
        if list(dict.fromkeys(asked)).index(body["prompt"]) == 1:
            (listed,) = answer["choices"][0]["logprobs"]["top_logprobs"]
            listed[f"token_id:{body['logprob_token_ids'][2]}"] = -9999.0
        return status, answer

    server.completions = completions
    ended = run(server, flags=("-b", 1))
    assert ended.status == 2 and "gave no reply to 1 of 4 items" in ended.err
    assert len(lines(tmp_path)) == 3


def test_servers_of_two_kinds_share_the_choices_each_in_its_own_way(
    run, server: Server, other: Server, tmp_path: Path
) -> None:
    be_vllm(server)
    be_sglang(other)
    assert run(server, other, flags=("--tokenizer", "demo")).status == 0
    check_exact(tmp_path)
    assert {VLLM, SGLANG} <= set(notes(tmp_path))


def test_a_server_that_is_down_before_the_work_is_left_out(
    run, server: Server, other: Server, tmp_path, monkeypatch
) -> None:
    monkeypatch.setattr("qwen_eval.engines.endpoint.TRIES", 0)
    be_vllm(server)
    other.kill()
    ended = run(other, server)
    assert ended.status == 0 and f"note: {other.url} gave no reply (no connection" in ended.err
    check_exact(tmp_path)


# -- token ids ---------------------------------------------------------------------------------------------------------


def test_a_server_that_takes_no_token_ids_gets_the_text_and_a_note_says_so(run, server: Server, tmp_path: Path) -> None:
    be_llama(server)
    known = server.completions
    assert known is not None
    server.completions = lambda body: known(body) if isinstance(body["prompt"], str) else refusal(400, "no string")
    assert run(server, flags=("--tokenizer", "demo")).status == 0
    assert any(note.endswith("no prompt was cut (the server took no token ids)") for note in notes(tmp_path))


@pytest.mark.parametrize("by_tokenize", [True, False])
def test_a_tokenizer_of_another_model_is_one_line_before_any_work(
    run, server: Server, tmp_path: Path, by_tokenize: bool
) -> None:
    be_vllm(server)
    known = server.completions
    assert known is not None
    if by_tokenize:  # as many tokens, and others
        server.beside["tokenize"] = lambda body: (
            200,
            {"tokens": [one + 1 for one in served_model.ids_of(body["prompt"])]},
        )
    else:
        del server.beside["tokenize"]
        server.completions = lambda body: longer(known(body)) if isinstance(body["prompt"], str) else known(body)
    ended = run(server, flags=("--tokenizer", "demo"))
    assert (ended.status, ended.err.count("error: ")) == (2, 1), ended.err
    assert f"error: the tokenizer here is not that of 'm' at {server.url}: " in ended.err
    assert not (tmp_path / "out/results.json").exists() and len(server.bodies) <= 2


def longer(answer: Answer) -> Answer:
    answer[1]["usage"]["prompt_tokens"] += 1
    return answer


def test_a_tokenizer_is_for_an_endpoint_and_has_to_be_there(run, script, server: Server, tmp_path: Path) -> None:
    ended = script("mmlu", "-c", "demo", "--tokenizer", "demo", "-o", tmp_path / "out")
    assert (ended.status, ended.err.count("\n")) == (2, 1) and "--tokenizer wants --engine openai" in ended.err
    (tmp_path / "empty").mkdir()
    ended = run(server, flags=("--tokenizer", tmp_path / "empty"))
    assert (ended.status, ended.err.count("\n")) == (2, 1) and "--tokenizer" in ended.err
    assert not server.bodies


# -- what a server adds by itself --------------------------------------------------------------------------------------


@pytest.mark.parametrize(("program", "named"), [("vllm", True), ("sglang", True), ("openai", False)])
def test_the_checkpoints_own_repetition_penalty_does_not_act_unseen(server: Server, program: str, named: bool) -> None:
    """vLLM and SGLang put generation_config.json in the place of what a request leaves out; others refuse the field."""
    server.models, server.program = ["m"], program
    engine = OpenAIEngine(server.url, "m")
    engine.check()
    list(engine.generate(engine.generate_requests(engine.encode(["q"]), Decoding(), True, ["0"])))
    assert server.bodies[0].get("repetition_penalty") == (1.0 if named else None)


# -- a hosted API, in DashScope's forms --------------------------------------------------------------------------------

NO_KEY: Answer = (
    401,
    {
        "error": {
            "message": "You didn't provide an API key.",
            "type": "invalid_request_error",
            "param": None,
            "code": "invalid_api_key",
        },
        "request_id": "6b1b",
    },
)


def test_a_key_that_is_missing_at_an_api_without_a_list_of_models_is_one_line(script, server: Server, tmp_path) -> None:
    server.answer = lambda text: NO_KEY
    how = ("-c", "qwen-plus", "-d", DEMO / "data" / "mmlu", "-o", tmp_path / "out", "-b", 2)
    ended = script("mmlu", "--engine", "openai", "--base-url", server.url, *how, "--subjects", "astronomy")
    said = (
        f"error: {server.url} refuses the key (HTTP 401: You didn't provide an API key.); set OPENAI_API_KEY to a key"
    )
    assert ended.status == 2 and ended.err.splitlines()[-1].startswith(said), ended.err
    assert len(server.bodies) <= 3, "it is not asked sixteen times"


def test_a_chat_that_thinks_and_an_api_without_logprobs(script, run, server: Server, tmp_path: Path) -> None:
    server.answer = lambda text: completion("The answer is B", reasoning_content="Let me see. A?")
    how = ("-c", "qwen-plus", "-d", DEMO / "data" / "mmlu", "-o", tmp_path / "chat", "--limit", 2)
    ended = script("mmlu", "--engine", "openai", "--base-url", server.url, *how, "--subjects", "astronomy")
    assert ended.status == 0
    found = [json.loads(line) for line in (tmp_path / "chat/samples.jsonl").read_text().splitlines()]
    assert [line["prediction"] for line in found] == ["B", "B"]
    server.answer = lambda text: refusal(400, "Unsupported model `m` for OpenAI compatibility mode.")
    ended = run(server)
    assert ended.status == 2
    assert ended.err.splitlines()[-1].startswith(f"error: {server.url} offers no logprobs (HTTP 400: Unsupported model")
