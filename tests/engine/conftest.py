"""Tiny models gain nothing from threads."""

from collections.abc import Iterator

import pytest
import torch

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
