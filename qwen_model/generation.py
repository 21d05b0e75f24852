"""Generation: transformers' own, with what first-generation Qwen adds to it.

Added are the NTK factor, which is that of the whole prompt however it is given, caches bounded by the windows, and the
published stop words: when the tail of prompt + generated ids equals a stop sequence, end-of-text is forced as the next
token, so the output holds the stop sequence and an eos, and costs one more step (quirk Q13 of docs/quirks.md).
Source: generation_config.json's `stop_words_ids` and QwenLM/Qwen's `chat`.
"""

from __future__ import annotations

import copy
from collections.abc import Sequence
from typing import Any

import torch
from transformers import LogitsProcessor, StoppingCriteria, StoppingCriteriaList
from transformers.cache_utils import Cache, DynamicCache
from transformers.generation import GenerationMixin, LogitsProcessorList

from .keywords import CACHE, by_name, one_cache
from .masking import positions
from .pretrained import QWenPreTrainedModel

# The published constant: larger than any logit, and finite in float16.
FORCED_LOGIT = 2.0**15


# What `generate` of transformers before 5.24 passes down to the model with its own inputs.
_OF_GENERATE = {"tokenizer", "assistant_tokenizer", "assistant_model", "streamer", "synced_gpus"}


class StopWordsLogitsProcessor(LogitsProcessor):
    """Force `eos_token_id` in each row whose ids end in one of `stop_words_ids`; a word equal to [eos] is left out."""

    def __init__(self, stop_words_ids: list[list[int]], eos_token_id: int) -> None:
        self.eos_token_id = eos_token_id
        self.stop_words_ids = [list(word) for word in stop_words_ids if word and list(word) != [eos_token_id]]

    def __call__(self, input_ids: torch.Tensor, scores: torch.Tensor) -> torch.Tensor:
        """input_ids: int64 [B, T]; scores: [B, vocab_size]. Returns scores of the same shape."""
        stopped = torch.zeros(len(input_ids), dtype=torch.bool, device=input_ids.device)
        for word in self.stop_words_ids:
            if len(word) <= input_ids.shape[1]:
                tail = torch.tensor(word, device=input_ids.device)
                stopped |= (input_ids[:, -len(word) :] == tail).all(dim=1)
        # Where, not an index: whether a row has stopped is never read by the host.
        eos = torch.arange(scores.shape[-1], device=scores.device) == self.eos_token_id
        return torch.where(stopped.to(scores.device)[:, None] & eos, FORCED_LOGIT, scores)


class StopTexts(StoppingCriteria):
    """Ends a row whose last token completes one of these texts. Decodes, so it serves a vocabulary of bytes, which
    transformers' own criterion cannot sort."""

    def __init__(self, texts: Sequence[str], tokenizer: Any) -> None:
        self.texts, self.tokenizer = [text for text in texts if text], tokenizer
        # A token has a byte at least; the first of these may be cut.
        self.tokens = max((len(text.encode("utf-8", "surrogatepass")) for text in self.texts), default=0) + 4

    def __call__(self, input_ids: torch.Tensor, scores: torch.Tensor, **kwargs: Any) -> torch.Tensor:
        """input_ids: int64 [B, T]. Returns bool [B]."""
        found = [self._ended(row) for row in input_ids[:, -self.tokens :].tolist()]
        return torch.tensor(found, dtype=torch.bool, device=input_ids.device)

    def _ended(self, ids: list[int]) -> bool:
        before = str(self.tokenizer.decode(ids[:-1])).rstrip("\ufffd")
        text = str(self.tokenizer.decode(ids))
        return any(text.find(stop, max(0, len(before) - len(stop) + 1)) >= 0 for stop in self.texts)


class QWenGeneration(QWenPreTrainedModel, GenerationMixin):
    """`generate` of QWenLMHeadModel."""

    def prepare_inputs_for_generation(
        self,
        input_ids: torch.Tensor,
        inputs_embeds: torch.Tensor | None = None,
        **kwargs: Any,
    ) -> dict[str, Any]:
        """As in transformers, with the NTK factors taken while the mask still has two dimensions."""
        for name in _OF_GENERATE & kwargs.keys():
            kwargs.pop(name)
        cache = one_cache(kwargs.pop("cache", None), kwargs.pop("past_key_values", None))
        inputs: dict[str, Any] = super().prepare_inputs_for_generation(
            input_ids, inputs_embeds=inputs_embeds, **by_name(cache), **kwargs
        )
        mask = kwargs.get("attention_mask")
        if mask is None or mask.ndim != 2:
            return inputs
        switches = kwargs.get("long_context") or self.long_context
        if switches.window_attn is not None:  # for a static cache a ready mask was made, the same for all layers
            inputs["attention_mask"] = mask
        elif inputs["attention_mask"] is not mask:  # a ready mask says nothing of positions and lengths
            if inputs.get("position_ids") is None:
                given = inputs["input_ids"] if inputs.get("inputs_embeds") is None else inputs["inputs_embeds"]
                inputs["position_ids"] = positions(mask, mask.shape[1] - given.shape[1], mask.shape[1], mask.device)
            if not _held(cache) and inputs.get("ntk_alpha") is None:
                inputs["ntk_alpha"] = self.ntk_alphas(mask.sum(dim=1).tolist(), switches)
        return inputs

    def _prepare_position_ids_for_generation(self, inputs_tensor: torch.Tensor, model_kwargs: dict[str, Any]) -> None:
        """None: `forward` counts the same positions itself, and knows without asking a device that rows are no packed
        sequences."""

    def _prepare_cache_for_generation(
        self, generation_config: Any, model_kwargs: dict[str, Any], *args: Any, **kwargs: Any
    ) -> Any:
        """As in transformers; the dynamic cache that it would make is ours where windows are on, or int8."""
        given = model_kwargs.get(CACHE)
        if self.quantises_cache:
            _check_int8(generation_config)
        if generation_config.prefill_chunk_size and model_kwargs.get("ntk_alpha") is None and not _held(given):
            model_kwargs["ntk_alpha"] = self._whole_prompt_alphas(generation_config, model_kwargs)
        super()._prepare_cache_for_generation(generation_config, model_kwargs, *args, **kwargs)  # type: ignore[misc]
        made = model_kwargs.get(CACHE)
        switches = model_kwargs.get("long_context") or self.long_context
        own = switches.window_attn is not None or self.quantises_cache
        if given is None and type(made) is DynamicCache and own:
            bounded = self.new_cache(switches, offloading=made.offloading)
            model_kwargs[CACHE] = bounded
            if generation_config.is_assistant:  # its guesses may be taken back
                bounded.activate_past_recording()

    def _whole_prompt_alphas(self, generation_config: Any, model_kwargs: dict[str, Any]) -> torch.Tensor:
        """The NTK factors of whole prompts that go in by chunks; the first chunk's length would set others."""
        mask = model_kwargs.get("attention_mask")
        columns = getattr(generation_config, "_mask_length", None)  # kept by transformers where it drops a mask of ones
        if mask is None and columns is None:
            raise ValueError("prefill_chunk_size: give attention_mask, the length of the prompt is not known")
        lengths = mask.sum(dim=1).tolist() if mask is not None else [int(columns or 0)]
        return self.ntk_alphas(lengths, model_kwargs.get("long_context"))

    def _get_stopping_criteria(
        self, generation_config: Any, stopping_criteria: Any, tokenizer: Any = None, **kwargs: Any
    ) -> Any:
        """As in transformers, with `stop_strings` found in the decoded text."""
        texts = generation_config.stop_strings
        if texts:
            if tokenizer is None:
                raise ValueError("stop_strings are found in the decoded text: give generate tokenizer=, too")
            stops = StopTexts([texts] if isinstance(texts, str) else texts, tokenizer)
            stopping_criteria = StoppingCriteriaList([*(stopping_criteria or []), stops])
            generation_config = copy.copy(generation_config)
            generation_config.stop_strings = None
        return super()._get_stopping_criteria(  # type: ignore[misc]
            generation_config=generation_config, stopping_criteria=stopping_criteria, tokenizer=tokenizer, **kwargs
        )

    def generate(self, *args: Any, stop_words_ids: list[list[int]] | None = None, **kwargs: Any) -> Any:
        """transformers' `generate`, plus `stop_words_ids`: the published stop-words processor (quirk Q13).

        Without the argument, `stop_words_ids` of the generation configuration counts. Where there is none either, a
        chat model ends at the end of its turn (the published `generate` went on to <|endoftext|>, and `chat` gave the
        stop words): pipelines and servers know no stop words. `stop_words_ids=[]` goes on.
        """
        config = kwargs.get("generation_config") or self.generation_config
        words = stop_words_ids if stop_words_ids is not None else getattr(config, "stop_words_ids", None)
        eos = kwargs.get("eos_token_id", config.eos_token_id)
        eos = self.generation_config.eos_token_id if eos is None else eos
        if words:
            if eos is None:
                raise ValueError("stop_words_ids force an eos token, and the configuration has none: give eos_token_id")
            processors = LogitsProcessorList(kwargs.pop("logits_processor", None) or [])
            processors.append(StopWordsLogitsProcessor(words, eos[0] if isinstance(eos, list) else int(eos)))
            kwargs["logits_processor"] = processors
        elif words is None and isinstance(eos, int) and getattr(config, "chat_format", None) == "chatml":
            # <|im_start|> and <|im_end|> follow <|endoftext|> in every vocabulary.
            kwargs.setdefault("eos_token_id", [eos, eos + 1, eos + 2])
        cache = one_cache(kwargs.pop("cache", None), kwargs.pop("past_key_values", None))
        if cache is not None:
            kwargs |= by_name(cache)
        return super().generate(*args, **kwargs)


def _held(cache: Cache | None) -> int:
    """Tokens that a cache holds already."""
    return 0 if cache is None else int(cache.get_seq_length())


def _check_int8(config: Any) -> None:
    """ValueError where `generate` would reorder an int8 cache, or give a prompt another scale than published."""
    for name, plain in (("num_beams", 1), ("prefill_chunk_size", None), ("prompt_lookup_num_tokens", None)):
        if (value := getattr(config, name, None)) not in (plain, None):
            raise ValueError(f"{name}={value} does not work with the int8 KV cache (use_cache_quantization)")
