"""What the Qwen classes have in common: transformers' view of them, the long-context switches, their caches."""

from __future__ import annotations

from typing import Any

import torch
from transformers.cache_utils import Cache, DynamicCache
from transformers.modeling_utils import PreTrainedModel

from .configuration import QWenConfig
from .gptq import GPTQLinear
from .int8_cache import Int8Cache
from .layers import QWenAttention, QWenBlock
from .long_context import LongContext, resolve
from .rope import ntk_alpha
from .window_cache import WindowCache


class QWenPreTrainedModel(PreTrainedModel):
    """What transformers needs to know: names, back-ends, what can be recorded."""

    config_class = QWenConfig
    config: QWenConfig
    base_model_prefix = "transformer"
    _input_embed_layer = "wte"
    _no_split_modules = ["QWenBlock"]  # noqa: RUF012 - class attributes of the base class
    # The cache has its own devices; the NTK factors are read by the host.
    _skip_keys_device_placement = ["past_key_values", "cache", "ntk_alpha"]  # noqa: RUF012
    # Tables that some converted checkpoints carry; ours are computed.
    _keys_to_ignore_on_load_unexpected = [r"rotary_emb\.inv_freq$", r"attn\.masked_bias$"]  # noqa: RUF012
    _can_record_outputs = {"hidden_states": QWenBlock, "attentions": QWenAttention}  # noqa: RUF012
    supports_gradient_checkpointing = True
    _supports_sdpa = True
    _supports_flash_attn = True
    _supports_flex_attn = True
    _supports_attention_backend = True
    # A scale in 16 bits would not be the checkpoint's own.
    _keep_in_fp32_modules_strict = ["scales"]  # noqa: RUF012
    _long_context: LongContext | None = None

    def __init__(self, config: QWenConfig, *args: Any, **kwargs: Any) -> None:
        if config.use_cache_quantization and config._attn_implementation is None:
            config._attn_implementation = "eager"  # as published: it has no other attention over this cache
        super().__init__(config, *args, **kwargs)

    def _init_weights(self, module: torch.nn.Module) -> None:
        super()._init_weights(module)  # type: ignore[no-untyped-call]
        if isinstance(module, GPTQLinear) and not getattr(module.g_idx, "_is_hf_initialized", False):
            module.order_groups()  # an old checkpoint without g_idx

    @property
    def long_context(self) -> LongContext:
        """The switches of dynamic NTK, LogN and window attention: config.json's, unless set.

        Setting raises ValueError where they do not fit the model; None goes back to config.json's.
        """
        own: LongContext | None = self.base_model._long_context  # type: ignore[assignment]
        return own or resolve(self.config)

    @long_context.setter
    def long_context(self, switches: LongContext | None) -> None:
        self.base_model._long_context = switches and switches.check(self.config)  # type: ignore[assignment]

    @property
    def quantises_cache(self) -> bool:
        """Whether keys and values are in 8 bits (`use_cache_quantization`); never while training."""
        return self.config.use_cache_quantization and not self.training

    def cache_of_call(self, given: Cache | None, wanted: bool, long_context: LongContext | None) -> Cache | None:
        """The cache that a call goes through: the given one or, where one is wanted, a new one. Keys and values in 8
        bits are so without a cache as well.

        Raises:
            ValueError: the given one would keep them in another way.
        """
        if given is None:
            return self.new_cache(long_context) if wanted or self.quantises_cache else None
        if self.quantises_cache and not isinstance(given, Int8Cache):
            raise ValueError(
                f"the model's KV cache is int8 (use_cache_quantization), and a {type(given).__name__} is not: "
                "give model.new_cache(), or none"
            )
        return given

    def new_cache(self, long_context: LongContext | None = None, offloading: bool = False) -> DynamicCache:
        """An empty cache for these switches (default: the model's): with windows on, each layer holds no more than its
        window reaches, and the cache belongs to the switches for good. A cache in 8 bits holds all columns."""
        switches = (long_context or self.long_context).check(self.config)
        if self.quantises_cache:
            return Int8Cache(self.config.num_hidden_layers, offloading)
        if switches.window_attn is None:
            return DynamicCache(config=self.config, offloading=offloading)
        return WindowCache(switches, self.config.num_hidden_layers, offloading)

    def ntk_alphas(self, lengths: list[int], switches: LongContext | None = None) -> torch.Tensor:
        """NTK factors of prompts of these true lengths: float64 [len(lengths)], or [1] where all are equal; CPU."""
        if not (switches or self.long_context).use_dynamic_ntk:
            return torch.ones(1, dtype=torch.float64)
        alphas = [ntk_alpha(length, self.config.training_length()) for length in lengths]
        return torch.tensor(alphas[:1] if len(set(alphas)) == 1 else alphas, dtype=torch.float64)

    def ntk_alpha(self, length: int, long_context: LongContext | None = None) -> float:
        """The NTK factor that a prompt of `length` tokens gets (1.0 with dynamic NTK off), window attention aside.

        Prompts may share a cached prefix where their factors are equal. A prompt given in chunks needs the factor of
        the whole: `model(chunk, ntk_alpha=torch.tensor([model.ntk_alpha(length)]), ...)`.
        """
        return float(self.ntk_alphas([length], long_context)[0])
