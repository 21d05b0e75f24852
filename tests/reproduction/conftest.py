"""A table's plan measures the model's speed first; here one short measurement is enough."""

from qwen_eval.reproduction import plan

import pytest


@pytest.fixture(autouse=True)
def _short_measurements(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(plan, "LONG_ENOUGH", 0.0)
