"""Qwen, first generation, native: configuration, tokenizer and model.

`import qwen_model` registers `model_type: "qwen"` with transformers' AutoConfig, AutoModelForCausalLM and
AutoTokenizer. From then on any program built on them loads a published checkpoint by these classes: the remote code
that its `auto_map` points to is never run, and no `trust_remote_code` is asked for.
"""

from transformers import AutoConfig, AutoModel, AutoModelForCausalLM
from transformers.models.auto.tokenization_auto import (
    MODELS_WITH_INCORRECT_HUB_TOKENIZER_CLASS,
    REGISTERED_TOKENIZER_CLASSES,
)

from .configuration import QWenConfig
from .long_context import LongContext
from .modeling import QWenLMHeadModel, QWenModel
from .tokenization import QWenTokenizer

AutoConfig.register("qwen", QWenConfig, exist_ok=True)
AutoModel.register(QWenConfig, QWenModel, exist_ok=True)
AutoModelForCausalLM.register(QWenConfig, QWenLMHeadModel, exist_ok=True)
# By name, and not by AutoTokenizer.register: that maps the configuration class too, and AutoTokenizer then prefers the
# remote tokenizer to ours when a caller passes trust_remote_code=True. A class found by name goes before remote code.
REGISTERED_TOKENIZER_CLASSES["QWenTokenizer"] = QWenTokenizer
# Where tokenizer_config.json has remote code and names no class: the class that the configuration names, and no prompt.
MODELS_WITH_INCORRECT_HUB_TOKENIZER_CLASS.add("qwen")

__all__ = ["LongContext", "QWenConfig", "QWenLMHeadModel", "QWenModel", "QWenTokenizer"]
