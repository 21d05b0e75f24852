"""A small model and a few texts for the tests of perplexity."""

import shutil
from pathlib import Path

import pytest

from .runs import TRAINED, trained_at


@pytest.fixture(scope="module")
def small(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A random Qwen of six layers, said to be trained on 64 tokens: its lower four layers get windows of 64."""
    import build_checkpoint

    return trained_at(build_checkpoint.build(tmp_path_factory.mktemp("m") / "small", hidden=64, layers=6), TRAINED)


@pytest.fixture(scope="module")
def texts(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Five documents in a folder, two of them too short for 256 tokens."""
    folder = tmp_path_factory.mktemp("texts")
    for number, words in enumerate([400, 500, 60, 450, 150]):
        text = " ".join(f"town {i * (number + 3) % 97} lies by the river;" for i in range(words // 6))
        (folder / f"{number}.txt").write_text(text, encoding="utf-8")
    return folder


@pytest.fixture
def folder(texts: Path, tmp_path: Path) -> Path:
    """A copy to damage."""
    return shutil.copytree(texts, tmp_path / "texts")
