"""What a user can get wrong: each is one line on standard error that says what and where, and status 2."""

import json
import os
import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
DATA = ROOT / "demo" / "data" / "mmlu"
Flags = tuple[object, ...]


def one_line(ended, *words: str) -> None:
    assert ended.status == 2, ended
    assert ended.err.count("\n") == 1, ended.err
    assert ended.err.endswith("\n")
    assert "Traceback" not in ended.err
    assert "; --debug shows where" not in ended.err, f"not foreseen: {ended.err}"
    for word in words:
        assert word in ended.err, ended.err


@pytest.fixture
def checkpoint(demo_checkpoint: Path, tmp_path: Path) -> Path:
    """A copy to damage."""
    return shutil.copytree(demo_checkpoint, tmp_path / "model")


@pytest.fixture
def official(tmp_path: Path) -> Path:
    """A copy of the data to damage."""
    return shutil.copytree(DATA, tmp_path / "data")


@pytest.fixture
def ask(script, demo_checkpoint: Path, tmp_path: Path) -> Callable:
    """ask(*flags): a quick MMLU run with these flags on top (the last one of a name counts)."""
    common = (
        "-c",
        demo_checkpoint,
        "-d",
        DATA,
        "--subjects",
        "nutrition",
        "-k",
        0,
        "--limit",
        2,
        "-o",
        tmp_path / "out",
    )
    return lambda *flags: script("mmlu", *common, *flags)


# -- flags -----------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("flags", "said"),
    [
        (("--limit", "0"), "--limit: '0' is not a whole number of at least 1"),
        (("--limit", "-3"), "--limit"),
        (("--limit", "x"), "--limit: 'x' is not"),
        (("--limit", "1.5"), "--limit: '1.5' is not"),
        (("--sample", "0"), "--sample: '0' is not"),
        (("-k", "-1"), "--num-fewshot"),
        (("-b", "0"), "--batch-size: '0' is not"),
        (("-b", "many"), "--batch-size: 'many' is not"),
        (("--max-seq-len", "1"), "leaves no token"),
        (("--engine", "magic"), "invalid choice: 'magic'"),
        (("--dtype", "int3"), "invalid choice: 'int3'"),
        (("--subjects", " , "), "names no subject"),
        (("--nonsense",), "unrecognized arguments: --nonsense"),
        (("--chat", "--base"), "not allowed with"),
        (("stray",), "unrecognized arguments: stray"),
        (("-c",), "expected one argument"),
    ],
)
def test_flags(ask, flags: Flags, said: str) -> None:
    one_line(ask(*flags), said)


def test_no_checkpoint_at_all(script) -> None:
    one_line(script("mmlu", "-d", DATA), "no checkpoint: give -c")


def test_unknown_subject_with_a_suggestion(ask) -> None:
    one_line(ask("--subjects", "nutritoin"), "unknown subject 'nutritoin'", "did you mean 'nutrition'?")


def test_unknown_reported_model_with_a_suggestion(ask) -> None:
    one_line(ask("--reported-as", "Qwen-7b-chatt"), "'Qwen-7b-chatt'", "did you mean 'Qwen-7B-Chat'?")


def test_unknown_device(ask) -> None:
    one_line(ask("--device", "abacus"), "--device abacus cannot be used here")


# -- the checkpoint --------------------------------------------------------------------------------


@pytest.mark.parametrize("given", ["/no/such/folder", "./nowhere", "nowhere", "~/nowhere", "a/b/c"])
def test_no_such_checkpoint_folder(ask, given: str) -> None:
    one_line(ask("-c", given), f"-c {given}: no such folder")


def test_checkpoint_is_a_file(ask, checkpoint: Path) -> None:
    one_line(ask("-c", checkpoint / "config.json"), "a file, not the folder of a checkpoint")


def test_checkpoint_folder_is_empty(ask, tmp_path: Path) -> None:
    (tmp_path / "empty").mkdir()
    one_line(ask("-c", tmp_path / "empty"), "no config.json in it")


def test_checkpoint_without_tokenizer(ask, checkpoint: Path) -> None:
    (checkpoint / "qwen.tiktoken").unlink()
    one_line(ask("-c", checkpoint), "no tokenizer in it", "qwen.tiktoken")


def test_truncated_safetensors(ask, checkpoint: Path) -> None:
    weights = checkpoint / "model.safetensors"
    weights.write_bytes(weights.read_bytes()[:-1000])
    one_line(ask("-c", checkpoint), "model.safetensors", "truncated or corrupt")


def test_checkpoint_without_weights(ask, checkpoint: Path) -> None:
    (checkpoint / "model.safetensors").unlink()
    one_line(ask("-c", checkpoint), "no weights in it")


@pytest.mark.parametrize(
    ("change", "said"),
    [
        ({"model_type": "qwen_nobody_knows"}, "no class for model_type 'qwen_nobody_knows'"),
        ({"model_type": "vit"}, "not a causal language model"),
        ({"model_type": None}, "no model_type"),
        ({"hidden_size": 130}, "is not hidden_size"),
        ({"hidden_size": 256, "num_attention_heads": 8}, "wrong shape"),
        ({"num_hidden_layers": 6}, "weights missing"),
    ],
)
def test_config_that_does_not_fit(ask, checkpoint: Path, change: dict, said: str) -> None:
    path = checkpoint / "config.json"
    path.write_text(json.dumps({**json.loads(path.read_text()), **change}))
    one_line(ask("-c", checkpoint), said)


def test_config_that_is_no_json(ask, checkpoint: Path) -> None:
    (checkpoint / "config.json").write_text('{"model_type": "qw')
    one_line(ask("-c", checkpoint), "config.json", "not readable as JSON")


def test_a_tokenizer_that_splits_the_letters(ask, checkpoint: Path) -> None:
    import base64

    vocabulary = [bytes([byte]) for byte in range(256)]
    lines = b"".join(base64.b64encode(token) + b" %d\n" % rank for rank, token in enumerate(vocabulary))
    (checkpoint / "qwen.tiktoken").write_bytes(lines)
    one_line(ask("-c", checkpoint), "has no token of its own for the answer ' A'")


def test_logits_that_are_no_numbers_are_no_prediction(ask, checkpoint: Path) -> None:
    from safetensors.torch import load_file, save_file

    weights = load_file(checkpoint / "model.safetensors")
    weights["transformer.ln_f.weight"].fill_(float("nan"))
    save_file(weights, checkpoint / "model.safetensors", metadata={"format": "pt"})
    ended = ask("-c", checkpoint)
    assert ended.status == 2
    assert ended.err.splitlines()[-1].startswith("error: nutrition/")
    assert "not finite numbers; try --dtype float32" in ended.err


@pytest.mark.parametrize("error", ["torch.OutOfMemoryError", "MemoryError"])
def test_memory_that_never_suffices(ask, monkeypatch: pytest.MonkeyPatch, error: str) -> None:
    from qwen_eval.engines.local import choose

    import torch

    def fails(*args, **kwargs):
        raise torch.OutOfMemoryError("CUDA out of memory.\nTried 9 GiB") if error.startswith("torch") else MemoryError

    monkeypatch.setattr(choose, "hidden_states", fails)
    monkeypatch.setattr("qwen_eval.answers.progress", lambda *_: _Silent())
    ended = ask()
    assert (ended.status, ended.err.count("\n")) == (2, 1)
    assert "memory" in ended.err.lower()


class _Silent:
    def __enter__(self):
        return self

    def __exit__(self, *_):
        return None

    def update(self) -> None: ...


# -- the data --------------------------------------------------------------------------------------


@pytest.mark.parametrize("given", ["/no/such/data", "./nowhere", "nowhere", "a/b/c"])
def test_no_such_data_folder(ask, given: str) -> None:
    one_line(ask("-d", given), f"no such file or folder: {given}")


def test_empty_data_folder(ask, tmp_path: Path) -> None:
    (tmp_path / "empty").mkdir()
    one_line(ask("-d", tmp_path / "empty"), "has no 'test' in it", str(tmp_path / "empty"))


def test_missing_subject_file(script, ask, demo_checkpoint: Path, official: Path, tmp_path: Path) -> None:
    (official / "test" / "nutrition_test.csv").unlink()
    one_line(ask("-d", official), f"missing file {official}/test/nutrition_test.csv")
    (official / "dev" / "astronomy_dev.csv").unlink()
    one_line(ask("-d", official, "--subjects", "astronomy", "-k", 5), f"missing file {official}/dev/astronomy_dev.csv")
    one_line(script("mmlu", "-c", demo_checkpoint, "-d", official), "missing file", "abstract_algebra")


def test_csv_with_a_missing_column(script, ask, demo_checkpoint: Path, official: Path, tmp_path: Path) -> None:
    (official / "test" / "nutrition_test.csv").write_text("Why?,a,b,c,d,A\nWhy?,a,b,c,A\n")
    one_line(ask("-d", official), "nutrition_test.csv row 1: 5 columns where 6 are wanted")
    for benchmark, column, name in (("ceval", "answer", "val/a_val.csv"), ("cmmlu", "Answer", "test/a.csv")):
        folder = shutil.copytree(ROOT / "demo" / "data" / benchmark, tmp_path / benchmark)
        subject = "plant_protection" if benchmark == "ceval" else "agronomy"
        path = folder / name.replace("a", subject, 1) if benchmark == "cmmlu" else folder / f"val/{subject}_val.csv"
        path = folder / "test" / f"{subject}.csv" if benchmark == "cmmlu" else path
        head, rest = path.read_text(encoding="utf-8").split("\n", 1)
        path.write_text(head.replace(column, "reply") + "\n" + rest, encoding="utf-8")
        flags = ("-c", demo_checkpoint, "-d", folder, "--subjects", subject, "-o", tmp_path / "out")
        one_line(script(benchmark, *flags), path.name, f"has no column {column!r}")


@pytest.mark.parametrize("answer", ["E", "a", "", "A ", "AB", "1"])
def test_answer_that_is_not_a_letter(ask, official: Path, answer: str) -> None:
    (official / "test" / "nutrition_test.csv").write_text(f"Why?,a,b,c,d,A\nWhy?,a,b,c,d,{answer}\n")
    one_line(ask("-d", official), f"nutrition_test.csv row 1: the answer is {answer!r}, not one of A, B, C, D")


def test_empty_subject_file(ask, official: Path) -> None:
    (official / "test" / "nutrition_test.csv").write_text("")
    one_line(ask("-d", official), "empty")


def test_more_shots_than_there_are(ask) -> None:
    one_line(ask("-k", 6), "nutrition_dev.csv has 5 examples, fewer than --num-fewshot 6")


def test_data_that_is_a_csv(ask) -> None:
    one_line(ask("-d", DATA / "test" / "nutrition_test.csv"), "is a file; -d wants the folder")


def test_corrupt_archive(ask, tmp_path: Path) -> None:
    (tmp_path / "data.tar").write_bytes(b"not an archive" * 100)
    one_line(ask("-d", tmp_path / "data.tar"), "data.tar is not a readable archive", "download it again")


def test_archive_of_something_else(ask, tmp_path: Path) -> None:
    archive = shutil.make_archive(str(tmp_path / "else"), "zip", ROOT / "demo" / "data" / "mmlu" / "dev")
    one_line(ask("-d", archive), "else.zip has no 'test' in it")


# -- where results go ------------------------------------------------------------------------------


def test_output_folder_that_cannot_be_made(ask, tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    one_line(ask("-o", tmp_path / "file"), str(tmp_path / "file"))
    one_line(ask("-o", tmp_path / "file" / "below"), str(tmp_path / "file"))


@pytest.mark.skipif(os.geteuid() == 0, reason="root may write anywhere")
def test_output_folder_that_is_not_writable(ask, tmp_path: Path) -> None:
    (tmp_path / "closed").mkdir(mode=0o500)
    one_line(ask("-o", tmp_path / "closed" / "out"), "Permission denied")


def test_baseline_without_samples(ask, tmp_path: Path) -> None:
    one_line(ask("--baseline", tmp_path / "nothing"), f"--baseline {tmp_path}/nothing has no samples.jsonl")


@pytest.mark.parametrize("content", ["nonsense\n", '{"id": "nutrition/0"}\n', "[1]\n", "\xff\n"])
def test_baseline_that_is_none(ask, tmp_path: Path, content: str) -> None:
    (tmp_path / "samples.jsonl").write_bytes(content.encode("latin-1"))
    one_line(ask("--baseline", tmp_path), "is not a samples.jsonl of this harness")


def test_replies_that_are_not_there(script, tmp_path: Path) -> None:
    one_line(script("mmlu", "--rescore", tmp_path / "no.jsonl", "-d", DATA), f"missing file {tmp_path}/no.jsonl")


def test_nothing_is_left_behind_where_nothing_was_run(ask, tmp_path: Path) -> None:
    ask("-d", tmp_path)
    assert not (tmp_path / "out").exists()


# -- as a user sees it: a process of its own -------------------------------------------------------


def run_process(*flags: object, **environment: str) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, str(ROOT / "eval" / "evaluate_mmlu.py"), *map(str, flags)]
    return subprocess.run(command, capture_output=True, text=True, env={**os.environ, **environment}, timeout=120)


def test_hub_unreachable_for_the_data(demo_checkpoint: Path, tmp_path: Path) -> None:
    offline = {"HF_HUB_OFFLINE": "1", "HF_HOME": str(tmp_path)}
    data = run_process("-c", demo_checkpoint, "-o", tmp_path / "out", **offline)
    assert (data.returncode, data.stderr.count("\n")) == (2, 1), data.stderr
    assert data.stderr.startswith("error: no -d given, and cais/mmlu could not be fetched from the Hugging Face hub")
    assert "give the official data with -d" in data.stderr


def test_hub_unreachable_for_a_checkpoint(ask, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_OFFLINE", True)
    one_line(ask("-c", "Qwen/Qwen-7B"), "Qwen/Qwen-7B: no such folder, and not to be had from the hub", "HF_ENDPOINT")


def test_a_truncated_file_in_a_process_of_its_own(checkpoint: Path, tmp_path: Path) -> None:
    """Nothing else, such as a library's warning, goes to standard error."""
    weights = checkpoint / "model.safetensors"
    weights.write_bytes(weights.read_bytes()[:5000])
    ended = run_process("-c", checkpoint, "-d", DATA, "--subjects", "nutrition", "-o", tmp_path / "out")
    assert (ended.returncode, ended.stderr.count("\n"), ended.stdout) == (2, 1, ""), ended.stderr
    assert "truncated or corrupt" in ended.stderr


def test_help_is_for_people(script) -> None:
    ended = script("mmlu", "--help")
    assert ended.status == 0
    assert ended.out.startswith("usage: evaluate_mmlu.py")
    assert "MMLU: 57 subjects" in ended.out
