"""The keywords of a forward pass: the two names of the cache, and which further ones there may be.

transformers renamed `past_key_values` to `cache` in 5.24. A model that swallows the name it does not know generates
wrong text in silence, so both names are taken here, and a keyword that nothing reads is an error.
"""

from __future__ import annotations

import inspect
from collections.abc import Callable, Mapping
from typing import Any

from transformers.cache_utils import Cache
from transformers.modeling_outputs import CausalLMOutputWithPast
from transformers.utils.generic import TransformersKwargs

#: the cache's name in this version of transformers: in what `generate` passes on, and in outputs
CACHE = "cache" if "cache" in CausalLMOutputWithPast.__dataclass_fields__ else "past_key_values"

# What transformers, TRL and PEFT hand to any causal LM. `cache_position` is what older callers still send: the cache
# itself knows where it ends.
_KNOWN = {*TransformersKwargs.__optional_keys__, "cache_position", "return_dict"}
# What every attention function gets from the layer.
_OF_THE_LAYER = {"module", "query", "key", "value", "attention_mask", "scaling", "dropout"}


def one_cache(cache: Cache | None, past_key_values: Cache | None) -> Cache | None:
    """The cache that a caller gave by either of its names.

    Raises:
        TypeError: two different ones, or something that is no cache (the tuples of old versions).
    """
    if cache is not None and past_key_values is not None and cache is not past_key_values:
        raise TypeError("cache and past_key_values are two names of the same thing: give one of them")
    found = past_key_values if cache is None else cache
    if found is not None and not isinstance(found, Cache):
        raise TypeError(f"the cache must be a transformers Cache such as DynamicCache, not a {type(found).__name__}")
    return found


def by_name(cache: Cache | None) -> dict[str, Any]:
    """The cache as a keyword of transformers: by the name that this version has for it."""
    return {CACHE: cache}


def check_keywords(kwargs: Mapping[str, Any], attention: Callable[..., Any]) -> None:
    """Every keyword beyond those of the signature is one that transformers knows, or that the attention function reads:
    it names it, or was registered from outside of transformers and takes any.

    None says nothing, and passes.

    Raises:
        TypeError: an unknown keyword. ValueError: a known one that asks for what this model cannot do.
    """
    given = [name for name, value in kwargs.items() if value is not None and name not in _KNOWN]
    if given:
        unknown = [name for name in given if not _reads(attention, name)]
        if unknown:
            raise TypeError(f"forward() got an unexpected keyword argument {', '.join(map(repr, unknown))}")
    if kwargs.get("is_causal") is False:
        raise ValueError("is_causal=False: first-generation Qwen has causal attention only")
    if kwargs.get("output_router_logits"):
        raise ValueError("output_router_logits: first-generation Qwen has no router")


def _reads(attention: Callable[..., Any], name: str) -> bool:
    parameters = inspect.signature(attention).parameters
    if name in parameters:
        return name not in _OF_THE_LAYER
    # Those of transformers and ours take any keyword, and swallow it.
    stock = attention.__module__.split(".")[0] in ("transformers", __package__)
    return not stock and any(parameter.kind is parameter.VAR_KEYWORD for parameter in parameters.values())
