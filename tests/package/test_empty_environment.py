"""The wheel and nothing but its core dependencies, installed into an empty environment: what `pip install` gives."""

from __future__ import annotations

from importlib import metadata
from pathlib import Path

import pytest

from .conftest import ROOT, Environment, empty_environment, pip_install
from .test_extras import SCRIPTS

pytestmark = [pytest.mark.heavy, pytest.mark.timeout(1800)]

CORE = ("mmlu", "ceval", "cmmlu", "gsm8k", "bbh", "humaneval", "mbpp")


@pytest.fixture(scope="module")
def core(wheel: Path, tmp_path_factory: pytest.TempPathFactory) -> Environment:
    environment = empty_environment(tmp_path_factory.mktemp("empty") / "venv")
    pip_install(environment, f"torch=={metadata.version('torch').partition('+')[0]}")
    pip_install(environment, "--constraint", ROOT / "constraints.txt", wheel)
    return environment


def test_every_benchmark_is_listed(core: Environment, tmp_path: Path) -> None:
    listed = core.run(core.command, "list", cwd=tmp_path)
    names = {line.split()[0] for line in listed.stdout.splitlines()}
    assert (listed.returncode, listed.stderr) == (0, "") and names >= {*CORE, *SCRIPTS}


@pytest.mark.parametrize(("name", "model"), [*((name, "demo") for name in CORE), ("mmlu", "demo-chat")])
def test_the_core_runs_text_and_multiple_choice(core: Environment, tmp_path: Path, name: str, model: str) -> None:
    ended = core.run(core.command, name, "-c", model, "--limit", 2, "-o", "out", cwd=tmp_path)
    assert ended.returncode == 0, ended.stderr
    assert (tmp_path / "out" / "results.json").exists()


@pytest.mark.parametrize("name", SCRIPTS)
def test_what_needs_more_says_which_extra_and_does_nothing(core: Environment, tmp_path: Path, name: str) -> None:
    extra, what = SCRIPTS[name]
    ended = core.run(core.command, name, "-c", "demo", cwd=tmp_path)
    assert ended.stderr == f"error: {what}; pip install 'qwen-eval[{extra}]'\n"
    assert (ended.returncode, ended.stdout, list(tmp_path.iterdir())) == (2, "", [])
