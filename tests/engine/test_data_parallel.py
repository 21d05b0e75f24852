"""The number of processes, and over how many devices a model lies, change no answer."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

from qwen_eval.engines.base import ChoiceRequest, LogLikelihoodRequest
from qwen_eval.engines.local import parallel
from qwen_eval.engines.local.engine import LocalEngine
from qwen_eval.engines.replicas import Piece, Tell, answers, loaded
from qwen_eval.engines.replicated import ReplicatedEngine
from qwen_eval.errors import UserError

import numpy as np
import pytest
import torch

from .everything import MODELS, everything, prompts
from .models import qwen
from .test_generate import Spell

ROOT = Path(__file__).resolve().parents[2]
DEMO = ROOT / "demo" / "checkpoint" / "base"


class InThisProcess:
    """A replica of a local engine without a process."""

    def __init__(self, engine: LocalEngine) -> None:
        self.name, self.engine = "here", engine

    def start(self, tell: Tell) -> None:
        self.tell = tell
        tell(loaded(self.engine))

    def submit(self, piece: Piece) -> None:
        for event in answers(self.engine, piece):
            self.tell(event)

    def stop(self) -> None:
        pass


class Ends(Spell):
    eod_id, im_start_id, im_end_id = 5, 6, 7
    encode_plain = None
    all_special_tokens: tuple[str, ...] = ()


def likelihoods(engine: Any) -> dict[int, Any]:
    made = [LogLikelihoodRequest(tokens, own) for tokens in prompts(6) for own in ((7, 9), (40,))]
    return dict(engine.loglikelihood(made))


@pytest.mark.parametrize("count", [1, 2, 3])
@pytest.mark.parametrize("name", ["qwen-1", "mistral, a window that the text outgrows"])
def test_the_number_of_replicas_changes_no_answer(name: str, count: int, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(LocalEngine, "stop_tokens", lambda self, chat: frozenset({5}))
    one = LocalEngine.of(MODELS[name](), Ends())
    several = ReplicatedEngine(Ends(), [InThisProcess(LocalEngine.of(MODELS[name](), Ends())) for _ in range(count)], 2)
    assert several.embedded == one.embedded
    wanted, found = everything(one), everything(several)  # type: ignore[arg-type]
    for want, got in zip(wanted[:2], found[:2], strict=True):
        assert want.keys() == got.keys()
        for index in want:  # a product rounds by the number of its rows: the last digit may differ, as with another -b
            np.testing.assert_allclose(got[index], want[index], rtol=2e-6, atol=2e-6)
    assert found[2] == wanted[2], "greedy and sampled replies, token by token"
    for index, want in likelihoods(one).items():
        got = likelihoods(several)[index]
        assert got.is_greedy == want.is_greedy and got.log_likelihood == pytest.approx(want.log_likelihood, rel=2e-6)


def test_row_by_row_it_is_the_same_to_the_last_bit() -> None:
    """Where no row is computed beside another, and nothing is shared, no sum is ordered by the batch."""
    chosen = [ChoiceRequest(tokens[-20:], (7, 9, 40)) for tokens in prompts(12)]
    one = LocalEngine.of(qwen(), Ends(), rows=1)
    several = ReplicatedEngine(Ends(), [InThisProcess(LocalEngine.of(qwen(), Ends(), rows=1)) for _ in range(3)], 1)
    assert dict(several.choose(chosen)) == dict(one.choose(chosen))


# -- what it is refused with -------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("flags", "said"),
    [
        (("--data-parallel", 0), "'0' is not a whole number of at least 1"),
        (("--data-parallel", "auto", "--device", "cpu"), "one process per GPU, and the device is the CPU"),
        (("--data-parallel", 2, "--device", "cuda:1"), "--device cuda:1 is one device"),
        (("--data-parallel", 2, "--device-map", "auto"), "give one of the two"),
        (("--device-map", "auto", "--device", "cpu"), "leave --device out"),
        (("--data-parallel", 2, "--engine", "openai", "--base-url", "http://x/v1"), "several --base-url"),
        (
            ("--device-map", "auto", "--engine", "openai", "--base-url", "http://x/v1"),
            "wants the local engine",
        ),
    ],
)
def test_what_makes_no_sense_is_one_line_before_any_work(script, tmp_path: Path, flags: Any, said: str) -> None:
    ended = script("mmlu", "-c", "demo", "-o", tmp_path / "out", *flags)
    assert (ended.status, ended.err.count("\n")) == (2, 1) and said in ended.err
    assert not (tmp_path / "out").exists()


@pytest.fixture
def three_gpus(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(parallel, "resolve_device", lambda device: device or "cuda")
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 3)


@pytest.mark.usefixtures("three_gpus")
def test_no_more_processes_than_gpus() -> None:
    assert [parallel.process_count(wanted, None, None) for wanted in (1, 2, "auto")] == [1, 2, 3]
    with pytest.raises(UserError, match=r"^--data-parallel 4: one process per GPU, and 3 are visible"):
        parallel.process_count(4, "cuda", None)
    assert parallel.process_count(4, "cpu", None) == 4


@pytest.mark.usefixtures("three_gpus")
@pytest.mark.parametrize(("visible", "wanted"), [(None, ["0", "1"]), ("5, GPU-2f,7", ["5", "GPU-2f"])])
def test_each_process_sees_one_gpu(monkeypatch: pytest.MonkeyPatch, visible: str | None, wanted: list[str]) -> None:
    made: list[Any] = []
    monkeypatch.setattr(parallel, "ReplicatedEngine", lambda tokenizer, replicas, full_batch: made.extend(replicas))
    monkeypatch.setattr(parallel, "cores", lambda: 9)
    monkeypatch.setattr(torch.cuda, "mem_get_info", lambda device: (1 << 30, 1 << 31))
    monkeypatch.delenv("OMP_NUM_THREADS", raising=False)
    monkeypatch.delenv("CUDA_VISIBLE_DEVICES", raising=False)
    if visible is not None:
        monkeypatch.setenv("CUDA_VISIBLE_DEVICES", visible)
    parallel.parallel_engine(2, DEMO, "auto", None, None, None, None)
    assert [one._environment["CUDA_VISIBLE_DEVICES"] for one in made] == wanted
    assert [one.name for one in made] == [f"process {n} on GPU {gpu}" for n, gpu in enumerate(wanted, 1)]
    assert {one._environment["OMP_NUM_THREADS"] for one in made} == {"4"}


@pytest.mark.usefixtures("three_gpus")
def test_a_model_that_one_gpu_does_not_hold_is_refused_before_it_is_loaded(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch.cuda, "mem_get_info", lambda device: (1 << 20, 1 << 31))
    with pytest.raises(UserError, match=r"larger than what is free on one GPU.*--device-map auto spreads"):
        parallel.parallel_engine(2, DEMO, "auto", None, None, None, None)


# -- one model over several devices ------------------------------------------------------------------------------------


def test_a_model_that_lies_in_parts_in_memory_and_on_the_disk_answers_alike() -> None:
    """What accelerate's hooks bring in part by part; on a CPU nothing else can be spread."""
    whole = LocalEngine(DEMO, device="cpu")
    layers = whole.model.config.num_hidden_layers
    places = {"transformer.wte": "cpu", "transformer.ln_f": "cpu", "lm_head": "disk"}
    places |= {f"transformer.h.{layer}": "disk" if layer % 2 else "cpu" for layer in range(layers)}
    spread = LocalEngine(DEMO, device_map=places)
    assert any(parameter.is_meta for parameter in spread.model.parameters()), "some are on the disk"
    wanted, found = everything(whole), everything(spread)
    for want, got in zip(wanted[:2], found[:2], strict=True):
        for index in want:
            np.testing.assert_allclose(got[index], want[index], atol=2e-5)
    assert found[2] == wanted[2]
    assert f"of {layers + 3} parts of the model had no room on a GPU" in spread.notes()[0] and not whole.notes()


def test_device_map_auto_is_taken_and_said_in_the_manifest(script, tmp_path: Path) -> None:
    ended = script("mmlu", "-c", "demo", "--limit", 1, "--device-map", "auto", "-o", tmp_path)
    assert ended.status == 0, ended.err
    assert json.loads((tmp_path / "results.json").read_text())["manifest"]["device_map"] == "auto"


# -- whole runs --------------------------------------------------------------------------------------------------------


def start(out: Path, processes: int, *flags: str) -> subprocess.Popen[str]:
    command = [sys.executable, str(ROOT / "eval" / "evaluate_gsm8k.py"), "-c", "demo-chat", "-o", str(out), *flags]
    return subprocess.Popen(
        [*command, "--data-parallel", str(processes)],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        env={**os.environ, "OMP_NUM_THREADS": "1"},
        start_new_session=True,
    )


def lines_of(out: Path) -> dict[str, Any]:
    path = out / "samples.jsonl"
    return {record["id"]: record for record in map(json.loads, path.read_text().splitlines())} if path.exists() else {}


def children(pid: int) -> list[int]:
    return list(map(int, Path(f"/proc/{pid}/task/{pid}/children").read_text().split()))


@pytest.mark.heavy
@pytest.mark.parametrize(
    ("counts", "flags"), [((2, 3), ()), ((2,), ("--temperature", "0.9"))], ids=["greedy", "sampled"]
)
def test_runs_of_any_number_of_processes_have_equal_records(
    script, tmp_path: Path, counts: tuple[int, ...], flags: tuple[str, ...]
) -> None:
    assert script("gsm8k", "-c", "demo-chat", "-o", tmp_path / "1", "--limit", 60, *flags).status == 0
    for count in counts:
        run = start(tmp_path / str(count), count, "--limit", "60", *flags)
        _, err = run.communicate()
        assert run.returncode == 0, err
        assert err.count("gsm8k: 100%") == 1, "one bar"
    one, *others = (lines_of(tmp_path / str(count)) for count in (1, *counts))
    assert len(one) == 60 and all(other == one for other in others)
    manifest = json.loads((tmp_path / str(count) / "results.json").read_text())["manifest"]
    assert manifest["processes"] == count
    assert len({(tmp_path / str(count) / "table.md").read_text() for count in (1, *counts)}) == 1


@pytest.mark.heavy
def test_a_killed_run_goes_on_with_another_number_of_processes(script, tmp_path: Path) -> None:
    flags = ("--limit", "120", "-b", "2")
    run = start(tmp_path / "killed", 2, *flags)
    while len(lines_of(tmp_path / "killed")) < 10 and run.poll() is None:
        time.sleep(0.05)
    of_run = children(run.pid)
    assert len(of_run) >= 2, "it was killed in the middle"
    run.kill()
    run.communicate()
    deadline = time.monotonic() + 30
    while any(Path(f"/proc/{pid}/cmdline").exists() and Path(f"/proc/{pid}/cmdline").read_bytes() for pid in of_run):
        assert time.monotonic() < deadline, "its processes end with it"
        time.sleep(0.05)
    before = lines_of(tmp_path / "killed")
    assert 10 <= len(before) < 120

    run = start(tmp_path / "killed", 3, *flags)
    while len(lines_of(tmp_path / "killed")) < len(before) + 10 and run.poll() is None:
        time.sleep(0.05)
    os.kill(children(run.pid)[0], signal.SIGKILL)  # and one of the three dies on the way
    _, err = run.communicate()
    assert run.returncode == 0 and "lost process" in err
    assert script("gsm8k", "-c", "demo-chat", "-o", tmp_path / "undisturbed", *flags).status == 0
    killed, whole = lines_of(tmp_path / "killed"), lines_of(tmp_path / "undisturbed")
    assert killed == whole and list(killed.items())[: len(before)] == list(before.items())
    notes = json.loads((tmp_path / "killed" / "results.json").read_text())["notes"]
    assert any(note.startswith("lost on the way: process ") for note in notes)
    table = (tmp_path / "killed" / "table.csv").read_text()
    assert table == (tmp_path / "undisturbed" / "table.csv").read_text()
