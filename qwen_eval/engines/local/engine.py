"""The local engine: a causal LM through transformers (first-generation Qwen through `qwen_model`), on any devices.

What makes it fast is in the files beside it: `prefix.py` plans what is shared, `attention.py` attends to it,
`choose.py`, `loglikelihood.py`, `generate.py` and `score.py` answer the four kinds of request.
"""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterator, Sequence
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any

from qwen_eval.engines.base import (
    ChoiceRequest,
    Engine,
    GenerateRequest,
    Likelihood,
    LogLikelihoodRequest,
    Reply,
    ScoreRequest,
)
from qwen_eval.engines.encoding import EncodingEngine
from qwen_eval.engines.local.placement import resolve_device, resolve_dtype, too_large

import numpy as np

# Padded tokens per forward: large enough for full matmul speed, small enough for 1 GB of activations.
CPU_TOKENS = 1024
MAX_GPU_TOKENS = 65536
# Rows in flight while generating, at most: more gain no speed. Memory may allow fewer.
CPU_ROWS = 64
MAX_GPU_ROWS = 1024
GPTQ_NOTES = {
    "unpacked once": "the packed weights were unpacked once, exactly, and multiplied as float ones",
    "reference": "the packed weights were unpacked, exactly, at each call: slow (--gptq-backend torch --dtype bfloat16 "
    "is faster for Int4)",
    "torch": "torch's int4 product, with scales rounded to bfloat16",
    "torch, compiled": "for one row at a time a product that torch.compile makes, exact",
    "gptqmodel": "the kernels of gptqmodel",
}
OFFLOADED = ("cpu", "disk")
INT8_NOTE = (
    "the KV cache was int8, whose scale is that of all tokens of a call: each prompt was read whole and by itself "
    "(no shared prefix, no batch), so that no answer depends on another prompt; that is slower"
)


class LocalEngine(EncodingEngine):
    """A loaded model that answers requests. `rows`: the most rows in flight (None: as many as the budgets take);
    `switches`: `adapter`, `kv_cache`, `gptq_backend` and the long-context switches of `load_model`.

    `attn_implementation`: the model's own attention function (None: transformers' choice). It reads shared prefixes,
    prompts that share nothing, documents, and replies that are generated one by one. Behind a shared prefix and for
    replies in batches, attention.py takes its place, as no other function gives what merging needs.

    `device_map`: accelerate's, for a model that is spread over several devices; not with `device`.
    """

    #: processes like this one that use the memory of the same device
    sharing_memory = 1

    def __init__(
        self,
        checkpoint: Path,
        dtype: str = "auto",
        device: str | None = None,
        rows: int | None = None,
        attn_implementation: str | None = None,
        device_map: Any = None,
        **switches: Any,
    ) -> None:
        from qwen_model.loading import load_config, load_model, load_tokenizer

        import torch

        load_config(checkpoint)  # first: a model that cannot be run says so, not that its tokenizer is unknown
        self.tokenizer = load_tokenizer(checkpoint)
        self.dtype = resolve_dtype(checkpoint, dtype, device)
        device = resolve_device(device)
        placement: dict[str, Any] = {"device": device}
        if device_map is None and device == "cuda" and torch.cuda.device_count() > 1 and too_large(checkpoint):
            device_map = "auto"
        if device_map is not None:
            placement = {"device_map": device_map}
        placement["attn_implementation"] = attn_implementation
        self.model = load_model(checkpoint, dtype=getattr(torch, self.dtype), **placement, **switches).eval()
        self.rows = rows

    @classmethod
    def of(cls, model: Any, tokenizer: Any = None, rows: int | None = None) -> LocalEngine:
        """An engine around a model that is loaded already (a notebook, a test, a benchmark)."""
        engine = cls.__new__(cls)
        engine.model, engine.tokenizer, engine.rows = model.eval(), tokenizer, rows
        engine.dtype = str(model.dtype).removeprefix("torch.")
        return engine

    @cached_property
    def token_budget(self) -> int:
        """Padded tokens per forward. On a GPU what 40 % of the free memory holds; halved whenever memory runs out."""
        import torch

        device = next(self.model.parameters()).device
        if device.type != "cuda":
            return CPU_TOKENS
        config = self.model.config.get_text_config()
        inner = getattr(config, "intermediate_size", None) or 4 * config.hidden_size
        per_token = self.model.dtype.itemsize * (12 * config.hidden_size + 4 * inner)
        free = torch.cuda.mem_get_info(device)[0]
        return max(512, min(MAX_GPU_TOKENS, int(0.4 * free / per_token)))

    @property
    def embedded(self) -> int:
        """See `EncodingEngine.embedded`."""
        return int(self.model.get_input_embeddings().weight.shape[0])

    def stop_tokens(self, chat: bool) -> frozenset[int]:
        """See `EncodingEngine.stop_tokens`."""
        return self.encoder.stop_tokens(self.model, chat)

    def choose(self, requests: Sequence[ChoiceRequest]) -> Iterator[tuple[int, list[float]]]:
        """See `Engine.choose`."""
        from qwen_eval.engines.local import choose, plain

        way = plain.choose if self.uses_plain_forward else choose.choose
        return way(self, requests)

    def loglikelihood(self, requests: Sequence[LogLikelihoodRequest]) -> Iterator[tuple[int, Likelihood]]:
        """See `Engine.loglikelihood`."""
        from qwen_eval.engines.local import loglikelihood, plain

        way = plain.loglikelihood if self.uses_plain_forward else loglikelihood.loglikelihood
        return way(self, requests)

    def generate(self, requests: Sequence[GenerateRequest]) -> Iterator[tuple[int, Reply]]:
        """See `Engine.generate`."""
        from qwen_eval.engines.local import generate, plain

        way = plain.generate if self.uses_plain_forward else generate.generate
        return way(self, requests)

    def score(
        self, requests: Sequence[ScoreRequest], progress: Callable[[int], Any] | None = None
    ) -> Iterator[tuple[int, np.ndarray]]:
        """See `Engine.score`."""
        from qwen_eval.engines.local import plain, score

        way = plain.score if self.uses_plain_forward else score.score
        return way(self, requests, progress)

    @cached_property
    def uses_plain_forward(self) -> bool:
        """Whether the model's own forward answers in place of the engine's: found out before the first answer."""
        from qwen_eval.engines.local.probe import NOTE, needs_plain_forward

        found = needs_plain_forward(self)
        if found:
            print(f"note: {NOTE}", file=sys.stderr)
        return found

    def notes(self) -> list[str]:
        """What a reader of the figures should know of how they were made, once the model has answered."""
        from qwen_eval.engines.local.forward import has_int8_cache
        from qwen_eval.engines.local.probe import NOTE

        found = [NOTE] if self.__dict__.get("uses_plain_forward") else []
        found += [INT8_NOTE] if has_int8_cache(self.model) else []
        places = list((getattr(self.model, "hf_device_map", None) or {}).values())
        away = sum(place in OFFLOADED for place in places)
        if "disk" in places or 0 < away < len(places):
            found.append(
                f"{away} of {len(places)} parts of the model had no room on a GPU and came from the host's memory or "
                "the disk for each forward: slow"
            )
        if backend := getattr(self.model, "gptq_backend", None):
            found.append(f"GPTQ layers: {GPTQ_NOTES.get(backend, backend)}")
        return found

    @cached_property
    def flight_rows(self) -> int:
        """The most rows in flight while generating (`slot_tokens` may allow fewer). Halved when memory runs out."""
        if self.rows is not None:
            return self.rows
        return MAX_GPU_ROWS if self.model.get_input_embeddings().weight.is_cuda else CPU_ROWS

    @cached_property
    def slot_tokens(self) -> int:
        """How many tokens of keys and values most of the free memory holds (of a host's, half), behind the prefix."""
        from qwen_model.devices import free_memory

        device = next(self.model.parameters()).device
        free: float = free_memory(device)
        config = self.model.config.get_text_config()
        heads = getattr(config, "num_key_value_heads", None) or config.num_attention_heads
        width = getattr(config, "head_dim", None) or config.hidden_size // config.num_attention_heads
        share = 0.75 if device.type == "cuda" else 0.5
        free /= self.sharing_memory
        return int(share * free / (2 * config.num_hidden_layers * heads * width * self.model.dtype.itemsize))


if TYPE_CHECKING:

    def _is_an_engine(engine: LocalEngine) -> Engine[np.ndarray, GenerateRequest]:
        return engine
