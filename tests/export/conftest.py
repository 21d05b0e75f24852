"""The endpoint of the engine's tests."""

from tests.engine.conftest import server

__all__ = ["server"]
