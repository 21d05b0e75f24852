"""The engine of a run, kept for the next run that wants the same one: a model is loaded once for a whole table."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from qwen_eval.engines.base import Engine


class Engines:
    """Makes engines. One local engine at a time: a second model may not fit beside it."""

    def __init__(self) -> None:
        self._made_of: tuple[Any, ...] = ()
        self._local: Engine[Any, Any] | None = None

    def local(
        self,
        checkpoint: Path,
        dtype: str,
        device: str | None,
        rows: int | None,
        attn_implementation: str | None,
        **switches: Any,
    ) -> Engine[Any, Any]:
        """The model of this checkpoint; loaded, unless the last one was loaded in the same way. switches: those of
        `load_model`."""
        from qwen_eval.engines.local.engine import LocalEngine

        made_of = (checkpoint, dtype, device, rows, attn_implementation, repr(sorted(switches.items())))
        if self._local is None or made_of != self._made_of:
            self._local = None  # its memory is needed
            self._local = LocalEngine(checkpoint, dtype, device, rows, attn_implementation, **switches)
            self._made_of = made_of
        return self._local

    def endpoint(self, base_urls: Sequence[str], model: str, rows: int | None) -> Engine[Any, Any]:
        """A new one for each run: it counts the run's requests. UserError where a server does not serve the model."""
        from qwen_eval.engines.openai import OpenAIEngine

        engine = OpenAIEngine(base_urls, model, rows)
        engine.check()
        return engine
