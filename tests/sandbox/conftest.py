"""Sandboxes for the tests: one of each kind a session, started when first asked for."""

from collections.abc import Callable, Iterator

from qwen_eval.errors import UserError
from qwen_eval.sandbox import Sandbox

import pytest

Boxes = Callable[..., Sandbox]


@pytest.fixture(scope="session")
def boxes() -> Iterator[Boxes]:
    """boxes("landlock", "seccomp") is a sandbox of that level without that guard; a level that is not there skips."""
    opened: dict[tuple[str, ...], Sandbox] = {}

    def get(level: str, *without: str) -> Sandbox:
        key = (level, *without)
        if key not in opened:
            try:
                opened[key] = Sandbox(level, workers=2, without=without)
            except UserError as error:
                pytest.skip(str(error))
        return opened[key]

    yield get
    for sandbox in opened.values():
        sandbox.close()


@pytest.fixture(scope="session", params=["bubblewrap", "landlock"])
def level(request: pytest.FixtureRequest) -> str:
    return request.param


@pytest.fixture(scope="session")
def sandbox(boxes: Boxes, level: str) -> Sandbox:
    """A proven sandbox, at each level in turn."""
    return boxes(level)
