"""What several tests of engines share. Tiny models gain nothing from threads."""

import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
import torch

from ..qwen_model.exported import DEMO, ROOT, edited
from .endpoint import Server


@pytest.fixture(autouse=True, scope="module")
def _one_thread() -> Iterator[None]:
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


@pytest.fixture
def server(monkeypatch: pytest.MonkeyPatch) -> Iterator[Server]:
    monkeypatch.delenv("OPENAI_API_KEY", raising=False)
    one = Server()
    yield one
    one.hang.set()
    one.http.shutdown()


@pytest.fixture(scope="session")
def vllm_python() -> Path:
    """The Python of vLLM's environment, made where it is missing (some minutes)."""
    folder = ROOT / ".venv-vllm"
    if not (folder / ".ready").exists():
        environment = {**os.environ, "PYTHON": sys.executable}
        subprocess.run(["sh", "bench/setup_vllm.sh"], cwd=ROOT, check=True, env=environment)
    return folder / "bin/python"


@pytest.fixture(scope="session")
def long_demo(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The demo's base model, as if trained for longer texts: real questions are long in its small vocabulary."""
    settings = {"seq_length": 4096, "use_dynamic_ntk": False, "use_logn_attn": False}
    return edited(DEMO / "base", tmp_path_factory.mktemp("long") / "Qwen-demo-long", **settings)
