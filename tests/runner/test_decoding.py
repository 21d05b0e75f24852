"""How replies are decoded: generation_config.json, then the protocol, then the flags; part of what a run is."""

import argparse
import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

from qwen_eval.cli import parser
from qwen_eval.engines.decoding import MAX_NEW_TOKENS, Decoding, resolve
from qwen_eval.errors import UserError

import pytest

CHAT = {  # as published for Qwen-7B-Chat
    "chat_format": "chatml",
    "eos_token_id": 151643,
    "pad_token_id": 151643,
    "max_window_size": 24000,
    "max_new_tokens": 512,
    "do_sample": True,
    "top_k": 0,
    "top_p": 0.8,
    "repetition_penalty": 1.1,
    "transformers_version": "4.31.0",
}


def flags(*given: str) -> argparse.Namespace:
    return parser("doc").parse_args(given)


@pytest.fixture
def stored(tmp_path: Path) -> Callable[[Any], Path]:
    """stored(value): a checkpoint folder with this generation_config.json (bytes as they are)."""

    def write(value: Any) -> Path:
        data = value if isinstance(value, bytes) else json.dumps(value).encode()
        (tmp_path / "generation_config.json").write_bytes(data)
        return tmp_path

    return write


# -- precedence ------------------------------------------------------------------------------------


def test_nothing_said_is_greedy_and_512(tmp_path: Path) -> None:
    plain = Decoding(512, 1.0, 0.0, 1.0, 0, ())
    assert resolve(None, {}, flags()) == resolve(tmp_path, {}, flags()) == plain
    assert MAX_NEW_TOKENS == 512


def test_the_checkpoints_length_and_penalty_count_and_its_sampling_does_not(stored) -> None:
    folder = stored({**CHAT, "max_new_tokens": 99})
    assert resolve(folder, {}, flags()) == Decoding(99, 1.1, 0.0, 1.0, 0, ())


def test_the_protocol_wins_over_the_checkpoint_and_a_flag_over_both(stored) -> None:
    folder = stored(CHAT)
    protocol = {"repetition_penalty": 1.0, "max_new_tokens": 300, "stop": ["\n\n"]}
    assert resolve(folder, protocol, flags()) == Decoding(300, 1.0, 0.0, 1.0, 0, ("\n\n",))
    given = flags("--max-new-tokens", "7", "--repetition-penalty", "1.25", "--temperature", "0.5", "--top-p", "0.9")
    assert resolve(folder, protocol, given) == Decoding(7, 1.25, 0.5, 0.9, 0, ("\n\n",))


def test_temperature_0_given_by_hand_is_greedy_over_a_sampling_protocol(stored) -> None:
    protocol = {"temperature": 0.8, "top_p": 0.95, "top_k": 40}
    assert resolve(None, protocol, flags())[2:5] == (0.8, 0.95, 40)
    assert resolve(None, protocol, flags("--temperature", "0"))[2:5] == (0.0, 1.0, 0)
    assert resolve(None, protocol, flags("--top-p", "0.5"))[2:5] == (0.8, 0.5, 40)


def test_fields_that_are_null_are_not_there(stored) -> None:
    folder = stored({"max_new_tokens": None, "repetition_penalty": None})
    assert resolve(folder, {}, flags()) == Decoding()


# -- bad input -------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("value", "said"),
    [
        (b'{"max_new_tokens": 512', "is not JSON"),
        (b"\xff\xfe", "is not JSON"),
        (b"", "is not JSON"),
        ([1, 2], "no JSON object"),
        ({"max_new_tokens": "many"}, "max_new_tokens is 'many'"),
        ({"max_new_tokens": 0}, "max_new_tokens is 0"),
        ({"max_new_tokens": 1.5}, "max_new_tokens is 1.5"),
        ({"max_new_tokens": True}, "max_new_tokens is True"),
        ({"repetition_penalty": 0}, "repetition_penalty is 0"),
        ({"repetition_penalty": "1.1"}, "repetition_penalty is '1.1'"),
        (b'{"repetition_penalty": NaN}', "repetition_penalty is nan"),
    ],
)
def test_a_damaged_generation_config_is_named(stored, value: Any, said: str) -> None:
    with pytest.raises(UserError, match=r"generation_config\.json") as error:
        resolve(stored(value), {}, flags())
    assert said in str(error.value)


@pytest.mark.parametrize("stop", [[""], ["\n\n", ""]])
def test_an_empty_stop_string_is_refused(stop: list[str]) -> None:
    with pytest.raises(UserError, match="a stop string is empty"):
        resolve(None, {"stop": stop}, flags())


@pytest.mark.parametrize(
    ("given", "said"),
    [
        (("--temperature", "-0.1"), "--temperature: '-0.1' is not a number of at least 0"),
        (("--temperature", "warm"), "--temperature: 'warm'"),
        (("--temperature", "nan"), "--temperature: 'nan'"),
        (("--temperature", "inf"), "--temperature: 'inf'"),
        (("--top-p", "0"), "--top-p: '0' is not above 0"),
        (("--top-p", "1.01"), "--top-p: '1.01'"),
        (("--repetition-penalty", "0"), "--repetition-penalty: '0' is not above 0"),
        (("--repetition-penalty", "-1"), "--repetition-penalty"),
        (("--max-new-tokens", "0"), "--max-new-tokens: '0' is not"),
        (("--max-new-tokens", "2.5"), "--max-new-tokens: '2.5' is not"),
        (("--top-p", "0.5"), "--top-p does nothing to greedy replies"),
    ],
)
def test_a_bad_flag_is_one_line(script, demo_checkpoint: Path, questions: Path, tmp_path: Path, given, said) -> None:
    ended = script("gsm8k", "-c", demo_checkpoint, "-d", questions, "-o", tmp_path / "out", *given)
    assert ended.status == 2
    assert ended.err.count("\n") == 1
    assert said in ended.err


# -- part of the run -------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def questions(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("gsm8k") / "test.jsonl"
    rows = [{"question": f"What is {i} plus {2 * i}?", "answer": f"#### {3 * i}"} for i in range(1, 4)]
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    return path


@pytest.fixture
def quick(demo_checkpoint: Path, questions: Path, tmp_path: Path) -> tuple[object, ...]:
    return ("-c", demo_checkpoint, "-d", questions, "-k", 0, "--max-new-tokens", 6, "-o", tmp_path / "out")


def results(folder: Path) -> dict[str, Any]:
    return json.loads((folder / "results.json").read_text())


def texts(folder: Path) -> dict[str, str]:
    lines = (folder / "samples.jsonl").read_text(encoding="utf-8").splitlines()
    return {row["id"]: row["response"] for row in map(json.loads, lines)}


def test_the_manifest_has_the_settings_in_force(script, quick, tmp_path: Path) -> None:
    assert script("gsm8k", *quick, "--chat").status == 0
    assert results(tmp_path / "out")["manifest"]["settings"]["decoding"] == {
        "max_new_tokens": 6,
        "repetition_penalty": 1.0,
        "temperature": 0.0,
        "top_p": 1.0,
        "top_k": 0,
        "stop": [],
        "seed": None,
    }
    more = ("-o", tmp_path / "base", "--temperature", 0.7, "--top-p", 0.9, "-s", 5, "--repetition-penalty", 1.2)
    assert script("gsm8k", *quick, "--base", *more).status == 0
    found = results(tmp_path / "base")["manifest"]["settings"]["decoding"]
    assert (found["temperature"], found["top_p"], found["repetition_penalty"], found["seed"]) == (0.7, 0.9, 1.2, 5)
    assert "\n\n" in found["stop"]


@pytest.mark.parametrize(
    "change",
    [("--max-new-tokens", 7), ("--temperature", 0.5), ("--repetition-penalty", 1.2), ("generation_config",)],
)
def test_other_decoding_is_another_run(script, quick, demo_checkpoint: Path, tmp_path: Path, change) -> None:
    assert script("gsm8k", *quick).status == 0
    before = (tmp_path / "out" / "samples.jsonl").read_bytes()
    if change == ("generation_config",):
        folder = shutil.copytree(demo_checkpoint, tmp_path / "tiny-qwen")
        config = json.loads((folder / "generation_config.json").read_text())
        (folder / "generation_config.json").write_text(json.dumps({**config, "repetition_penalty": 1.3}))
        change = ("-c", folder)
    ended = script("gsm8k", *quick, *change)
    assert ended.status == 2
    assert "another model, dtype or prompt setting" in ended.err
    assert (tmp_path / "out" / "samples.jsonl").read_bytes() == before


def test_a_seed_is_part_of_a_sampled_run_only(script, quick) -> None:
    assert script("gsm8k", *quick).status == 0
    assert script("gsm8k", *quick, "-s", 9).status == 0, "greedy: the seed changes nothing"
    sampled = (*quick, "--overwrite", "--temperature", 1)
    assert script("gsm8k", *sampled).status == 0
    assert script("gsm8k", *quick, "--temperature", 1, "-s", 9).status == 2


def test_sampled_runs_reproduce_and_seeds_differ(script, quick, tmp_path: Path) -> None:
    runs = {"a": (), "b": ("-b", 1), "c": ("--seed", 77)}
    for name, more in runs.items():
        assert script("gsm8k", *quick, "-o", tmp_path / name, "--temperature", 1.5, *more).status == 0
    a, b, c = (texts(tmp_path / name) for name in runs)
    assert a == b
    assert all(a[name] != c[name] for name in a)
    assert len(set(a.values())) == 3, "each item has draws of its own"


@pytest.mark.parametrize("value", [b'{"max_new_tokens": 5', b"[]", b'{"max_new_tokens": -5}'])
def test_a_damaged_generation_config_is_one_line_of_a_script(
    script, quick, demo_checkpoint: Path, tmp_path: Path, value: bytes
) -> None:
    folder = shutil.copytree(demo_checkpoint, tmp_path / "tiny-qwen")
    (folder / "generation_config.json").write_bytes(value)
    ended = script("gsm8k", "-c", folder, *quick[2:])
    assert ended.status == 2
    assert ended.err.count("\n") == 1
    assert "generation_config.json" in ended.err
    assert "; --debug shows where" not in ended.err
