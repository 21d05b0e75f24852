"""The engine of a run, kept for the next run that wants the same one: a model is loaded once for a whole table."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from qwen_eval.engines.base import Engine
    from qwen_eval.engines.ray_cluster import Places


class Engines:
    """Makes engines. One that runs here at a time: a second model may not fit beside it."""

    def __init__(self) -> None:
        self._made_of: tuple[Any, ...] = ()
        self._loaded: Engine[Any, Any] | None = None

    def local(
        self,
        checkpoint: Path,
        dtype: str,
        device: str | None,
        rows: int | None,
        attn_implementation: str | None,
        device_map: str | None = None,
        processes: int = 1,
        **switches: Any,
    ) -> Engine[Any, Any]:
        """The model of this checkpoint; loaded, unless the last one was loaded in the same way. processes: how many
        have a copy of it; switches: those of `load_model`."""
        from qwen_eval.engines.local.engine import LocalEngine
        from qwen_eval.engines.local.parallel import parallel_engine

        how = (checkpoint, dtype, device, rows, attn_implementation, device_map)
        return self._kept(
            ("local", processes, *how, repr(sorted(switches.items()))),
            lambda: LocalEngine(*how, **switches) if processes == 1 else parallel_engine(processes, *how, **switches),
        )

    def vllm(self, *how: Any) -> Engine[Any, Any]:
        """The model of this checkpoint in vLLM, kept alike. how: as `VllmEngine` takes it."""
        from qwen_eval.engines.vllm import VllmEngine

        return self._kept(("vllm", *how), lambda: VllmEngine(*how))

    def on_ray(
        self, places: Places, checkpoint: Path, rows: int | None, kind: str, *how: Any, **switches: Any
    ) -> Engine[Any, Any]:
        """Copies of this checkpoint's model on the nodes of a cluster, kept alike. kind: `vllm` or `local`; how,
        switches: as `VllmEngine` and `LocalEngine` take them behind the checkpoint."""
        from qwen_eval.engines.local.parallel import local_engine
        from qwen_eval.engines.ray_replicas import ray_engine
        from qwen_eval.engines.vllm import VllmEngine

        vllm = kind == "vllm"
        make = VllmEngine if vllm else local_engine
        arguments = (checkpoint, *how) if vllm else ((checkpoint, *how), switches, places.beside)
        return self._kept(
            ("ray", places, kind, checkpoint, *how, repr(sorted(switches.items()))),
            lambda: ray_engine(places, checkpoint, rows, make, arguments),
        )

    def _kept(self, made_of: tuple[Any, ...], make: Callable[[], Engine[Any, Any]]) -> Engine[Any, Any]:
        if self._loaded is None or made_of != self._made_of:
            if (close := getattr(self._loaded, "close", None)) is not None:
                close()
            self._loaded = None  # its memory is needed
            self._loaded = make()
            self._made_of = made_of
        return self._loaded

    def endpoint(
        self, base_urls: Sequence[str], model: str, rows: int | None, tokenizer: Path | None = None
    ) -> Engine[Any, Any]:
        """A new one for each run: it counts the run's requests. tokenizer: the folder of the served model's. UserError
        where a server does not serve the model."""
        from qwen_eval.engines.local.prompts import Encoder
        from qwen_eval.engines.openai import OpenAIEngine
        from qwen_model.loading import load_tokenizer

        encoder = None if tokenizer is None else Encoder(load_tokenizer(tokenizer))
        engine = OpenAIEngine(base_urls, model, rows, encoder)
        engine.check()
        return engine
