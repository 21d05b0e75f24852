"""The configuration of a first-generation Qwen checkpoint (`model_type: "qwen"`).

Holds every key of the published config.json with the default of the published code, accepts the key names of
v1.0 (August 2023), and knows the published rule for the model's dtype. Source: the config.json files of
Qwen-1.8B/7B/14B/72B and the Qwen technical report (arXiv 2309.16609, sections 2.3 and 2.4).
"""

from __future__ import annotations

import math
from typing import Any, ClassVar

import torch
from transformers import PreTrainedConfig

from .gptq import packing_of
from .long_context import resolve

# v1.0 name -> name since v1.1 (2023-09-25). Weights are the same under both.
V1_0_NAMES = {
    "n_embd": "hidden_size",
    "n_head": "num_attention_heads",
    "n_layer": "num_hidden_layers",
    "n_positions": "max_position_embeddings",
    "ffn_hidden_size": "intermediate_size",
    "embd_pdrop": "emb_dropout_prob",
    "attn_pdrop": "attn_dropout_prob",
}
_POSITIVE_INTEGERS = (
    "vocab_size",
    "hidden_size",
    "num_hidden_layers",
    "num_attention_heads",
    "kv_channels",
    "intermediate_size",
)


_BOOLEANS = (
    "use_dynamic_ntk",
    "use_logn_attn",
    "no_bias",
    "tie_word_embeddings",
    "use_cache",
    "softmax_in_fp32",
    "scale_attn_weights",
    "bf16",
    "fp16",
    "fp32",
    "use_cache_quantization",
    "use_cache_kernel",
)
_DTYPE_FLAGS = {"bf16": torch.bfloat16, "fp16": torch.float16, "fp32": torch.float32}
_NUMBERS = {  # name -> the bounds that it lies between
    "layer_norm_epsilon": (0.0, 1.0),
    "initializer_range": (0.0, math.inf),
    "rotary_emb_base": (1.0, math.inf),
    "rotary_pct": (0.0, 1.0),
    "emb_dropout_prob": (0.0, 1.0),
    "attn_dropout_prob": (0.0, 1.0),
}


class QWenConfig(PreTrainedConfig):
    """Shape and long-context switches of a Qwen checkpoint.

    `intermediate_size` is the sum of the two gated branches: each is `intermediate_size // 2` wide.
    `seq_length` is the training length S in tokens, which drives dynamic NTK and LogN; it has no default.
    `window_attn`, a key of ours and not of the published files, turns window attention on (`long_context.resolve`).
    `max_position_embeddings`, `rope_theta`, `scale_attn_weights`, `use_flash_attn` and `onnx_safe` are kept and unused,
    as in the published code.

    Raises:
        ValueError: a value of another type than its field's, a size that is not positive, sizes that contradict each
            other, or several dtypes asked for.
    """

    model_type = "qwen"
    keys_to_ignore_at_inference: ClassVar[list[str]] = ["past_key_values"]
    attribute_map: ClassVar[dict[str, str]] = dict(V1_0_NAMES)
    # A checkpoint whose tokenizer_config.json names no class still gets ours.
    tokenizer_class: str = "QWenTokenizer"

    vocab_size: int = 151936
    hidden_size: int = 4096
    num_hidden_layers: int = 32
    num_attention_heads: int = 32
    kv_channels: int = 128
    intermediate_size: int = 22016
    seq_length: int | None = None
    max_position_embeddings: int = 8192
    layer_norm_epsilon: float = 1e-6
    initializer_range: float = 0.02
    rotary_emb_base: float = 10000
    rotary_pct: float = 1.0
    use_dynamic_ntk: bool = True
    use_logn_attn: bool = True
    no_bias: bool = True
    tie_word_embeddings: bool = False
    use_cache: bool = True
    emb_dropout_prob: float = 0.0
    attn_dropout_prob: float = 0.0
    softmax_in_fp32: bool = False
    scale_attn_weights: bool = True
    bf16: bool = False
    fp16: bool = False
    fp32: bool = False
    use_flash_attn: bool | str = "auto"
    use_cache_quantization: bool = False
    use_cache_kernel: bool = False
    #: `quantization_config` of a GPTQ checkpoint, under a name that transformers does not know: it would want a package
    gptq: dict[str, Any] | None = None

    def __post_init__(self, **kwargs: Any) -> None:
        for old, new in V1_0_NAMES.items():
            if old in kwargs:
                setattr(self, new, kwargs.pop(old))
        stored = kwargs.pop("torch_dtype", None) if self.dtype is None else self.dtype
        self.dtype = stored.removeprefix("torch.") if isinstance(stored, str) else stored  # str(torch.bfloat16) has it
        settings = kwargs.get("quantization_config")
        if isinstance(settings, dict) and settings.get("quant_method", "gptq") == "gptq" and "bits" in settings:
            self.gptq = kwargs.pop("quantization_config")
        super().__post_init__(**kwargs)  # type: ignore[no-untyped-call]
        self._validate()

    def _validate(self) -> None:
        for name in _POSITIVE_INTEGERS:
            value = getattr(self, name)
            if not isinstance(value, int) or isinstance(value, bool) or value <= 0:
                raise ValueError(f"config.json: {name} must be a positive integer, not {value!r}")
        for name in _BOOLEANS:
            if not isinstance(value := getattr(self, name), bool):
                raise ValueError(f"config.json: {name} must be true or false, not {value!r}")
        for name, (low, high) in _NUMBERS.items():
            value = getattr(self, name)
            if type(value) not in (int, float) or not (low <= value <= high and math.isfinite(value)):
                raise ValueError(f"config.json: {name} must be a number from {low:g} to {high:g}, not {value!r}")
        if self.kv_channels * self.num_attention_heads != self.hidden_size:
            raise ValueError(
                f"config.json: kv_channels x num_attention_heads = {self.kv_channels} x {self.num_attention_heads} "
                f"is not hidden_size = {self.hidden_size}"
            )
        if self.intermediate_size % 2:
            raise ValueError(f"config.json: intermediate_size must be even, not {self.intermediate_size}")
        if self.seq_length is not None and (type(self.seq_length) is not int or self.seq_length < 2):
            raise ValueError(f"config.json: seq_length must be an integer above 1, not {self.seq_length!r}")
        if not 0 < self.rotary_pct <= 1 or self.rotary_dim < 2 or self.rotary_dim % 2:
            raise ValueError(
                f"config.json: rotary_pct = {self.rotary_pct} of kv_channels = {self.kv_channels} "
                "is not a positive even number of dimensions"
            )
        # alpha^(d / (d - 2)) has no value there.
        if self.use_dynamic_ntk and self.rotary_dim == 2:
            raise ValueError("config.json: use_dynamic_ntk needs more than 2 rotary dimensions")
        if self.gptq is not None:
            try:
                packing_of(self.gptq)
            except ValueError as error:
                raise ValueError(f"config.json: {error}") from None
        if len(asked := self._asked_dtypes()) > 1:
            raise ValueError(f"config.json: only one of bf16, fp16 and fp32 may be true, not {' and '.join(asked)}")
        try:
            resolve(self, use_dynamic_ntk=False, use_logn_attn=False)
        except ValueError as error:
            raise ValueError(f"config.json: window_attn: {error}") from None
        if getattr(self, "pos_emb", "rotary") != "rotary":
            raise ValueError(f"config.json: pos_emb must be 'rotary', not {self.pos_emb!r}")
        if getattr(self, "apply_residual_connection_post_layernorm", False):
            raise ValueError("config.json: apply_residual_connection_post_layernorm must be false")

    @classmethod
    def from_dict(cls, config_dict: dict[str, Any], **kwargs: Any) -> Any:
        """As the base class. A file that asks for several dtypes at once is read (some published ones do): only who
        runs in the dtype that it asks for is refused, by `select_dtype`."""
        asked = [name for name in _DTYPE_FLAGS if config_dict.get(name) is True]
        if len(asked) < 2:
            return super().from_dict(config_dict, **kwargs)
        made: Any = super().from_dict({**config_dict, **dict.fromkeys(asked, False)}, **kwargs)
        for name in asked:
            setattr(made[0] if isinstance(made, tuple) else made, name, True)
        return made

    def to_dict(self) -> dict[str, Any]:
        """As the base class; the settings of GPTQ under their published name."""
        found: dict[str, Any] = super().to_dict()
        if settings := found.pop("gptq", None):
            found["quantization_config"] = settings
        return found

    def _asked_dtypes(self) -> list[str]:
        return [name for name in _DTYPE_FLAGS if getattr(self, name)]

    @property
    def rotary_dim(self) -> int:
        """Rotated dimensions of each head; the rest passes through."""
        return self.kv_channels if self.rotary_pct == 1 else int(self.kv_channels * self.rotary_pct)

    @property
    def head_dim(self) -> int:
        """Width of a head: the name under which transformers' caches look for it."""
        return self.kv_channels

    def training_length(self) -> int:
        """The training length S in tokens.

        Raises:
            ValueError: config.json has no seq_length.
        """
        if self.seq_length is None:
            raise ValueError("config.json: seq_length is missing (the training length, needed by dynamic NTK and LogN)")
        return self.seq_length

    def select_dtype(self, device: torch.device | str | None = None) -> torch.dtype:
        """The dtype that the published code would run in on `device` (default: CUDA if there is one, else the CPU).

        An explicit bf16, fp16 or fp32 wins. With none (every published float checkpoint): bfloat16 where CUDA supports
        it, else float16 from compute capability 7, else float32 - so float32 on a CPU, whatever `torch_dtype` says.

        Raises:
            ValueError: config.json asks for several dtypes at once.
        """
        asked = self._asked_dtypes()
        if len(asked) > 1:
            raise ValueError(f"config.json: {' and '.join(asked)} are both true; give a dtype, or let one be true")
        if asked:
            return _DTYPE_FLAGS[asked[0]]
        on_cuda = torch.cuda.is_available() if device is None else torch.device(device).type == "cuda"
        if on_cuda and torch.cuda.is_bf16_supported(including_emulation=False):
            return torch.bfloat16
        if on_cuda and torch.cuda.get_device_capability(device)[0] >= 7:
            return torch.float16
        return torch.float32
