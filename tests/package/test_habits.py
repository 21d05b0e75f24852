"""What GitHub and pre-commit run is what the Makefile has."""

from __future__ import annotations

import re
from pathlib import Path

import pytest
import yaml
from packaging.specifiers import SpecifierSet

ROOT = Path(__file__).resolve().parents[2]
TARGETS = set(re.findall(r"^([a-z][a-z-]*):", (ROOT / "Makefile").read_text(encoding="utf-8"), re.MULTILINE))


def targets(command: str) -> set[str]:
    """The targets of `make` in a command."""
    words = " ".join(re.findall(r"\bmake ([^#\n]*)", re.sub(r"\$\{\{.*?\}\}", "", command))).split()
    return {word for word in words if "=" not in word and not word.startswith("-")}


@pytest.fixture(scope="module")
def jobs() -> dict:
    return yaml.safe_load((ROOT / ".github" / "workflows" / "ci.yml").read_text(encoding="utf-8"))["jobs"]


def test_the_workflow_runs_lint_tests_and_demo_by_make(jobs: dict) -> None:
    commands = [step.get("run", "") for job in jobs.values() for step in job["steps"]]
    called = set().union(*map(targets, commands))
    assert called == {"lint", "test", "demo"} and called <= TARGETS


def test_the_workflow_tests_the_oldest_and_the_newest_python(jobs: dict) -> None:
    wanted = re.search(r'requires-python = "(.*)"', (ROOT / "pyproject.toml").read_text(encoding="utf-8"))
    minors = [minor for minor in range(30) if SpecifierSet(wanted[1]).contains(f"3.{minor}")]
    assert jobs["test"]["strategy"]["matrix"]["python"] == [f"3.{minors[0]}", f"3.{minors[-1]}"]


def test_pre_commit_checks_what_make_lint_checks() -> None:
    hooks = yaml.safe_load((ROOT / ".pre-commit-config.yaml").read_text(encoding="utf-8"))["repos"][0]["hooks"]
    assert {hook["id"] for hook in hooks} == {"ruff", "ruff-format", "lint"}
    assert set().union(*(targets(hook["entry"]) for hook in hooks)) == {"lint"}
