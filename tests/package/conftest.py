"""The product as a user has it: a wheel, installed into an environment that knows nothing of this checkout."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import sysconfig
from pathlib import Path
from typing import NamedTuple

import pytest

ROOT = Path(__file__).resolve().parents[2]
PARTS = "qwen_model qwen_eval eval demo pyproject.toml setup.py README.md LICENSE".split()


Ended = subprocess.CompletedProcess[str]


class Environment(NamedTuple):
    """A virtual environment's folder."""

    folder: Path

    @property
    def python(self) -> str:
        return str(self.folder / "bin" / "python")

    @property
    def command(self) -> str:
        return str(self.folder / "bin" / "qwen-eval")

    @property
    def site(self) -> Path:
        return next(self.folder.glob("lib/python*/site-packages"))

    def run(
        self, *words: object, cwd: Path, redirected: str = "", **variables: str
    ) -> subprocess.CompletedProcess[str]:
        """`words redirected` in the folder `cwd`, as a shell runs it, with nothing of the checkout on Python's path."""
        return subprocess.run(
            ["sh", "-c", f'exec "$@" {redirected}', "sh", *map(str, words)],
            cwd=cwd,
            capture_output=True,
            text=True,
            env=self.variables(**variables),
        )

    def variables(self, **more: str) -> dict[str, str]:
        return {**{name: value for name, value in os.environ.items() if name != "PYTHONPATH"}, **more}


@pytest.fixture(scope="session")
def wheel(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Built from a copy: a build leaves its own folders beside the sources."""
    folder = tmp_path_factory.mktemp("wheel")
    for part in PARTS:
        if (ROOT / part).is_dir():
            shutil.copytree(
                ROOT / part, folder / part, ignore=shutil.ignore_patterns("__pycache__", "out", "*.egg-info")
            )
        else:
            shutil.copy(ROOT / part, folder)
    pip = [sys.executable, "-m", "pip", "wheel", "--quiet", "--no-deps", "--no-build-isolation"]
    subprocess.run([*pip, "--wheel-dir", str(folder / "dist"), str(folder)], check=True)
    return next((folder / "dist").iterdir())


def empty_environment(folder: Path) -> Environment:
    subprocess.run([sys.executable, "-m", "venv", "--without-pip", str(folder)], check=True)
    return Environment(folder)


def pip_install(environment: Environment, *words: object) -> None:
    pip = [sys.executable, "-m", "pip", "--python", environment.python, "install", "--quiet"]
    subprocess.run([*pip, "--disable-pip-version-check", *map(str, words)], check=True, env=environment.variables())


@pytest.fixture(scope="session")
def installed(wheel: Path, tmp_path_factory: pytest.TempPathFactory) -> Environment:
    """The wheel in an environment of its own; its dependencies are those of the environment that runs the tests, whose
    own qwen_eval (an editable install: a .pth file there) is not found from here."""
    environment = empty_environment(tmp_path_factory.mktemp("installed") / "venv")
    pip_install(environment, "--no-deps", wheel)
    (environment.site / "dependencies.pth").write_text(sysconfig.get_path("purelib") + "\n")
    return environment
