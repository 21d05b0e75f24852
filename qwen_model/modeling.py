"""The first-generation Qwen decoder for transformers: published weight names, transformers' caches and attention.

Source: Qwen technical report (arXiv 2309.16609) section 2.3 and the behaviour of the last published modelling file
(2023-12-07). Where that file has known defects this one follows the intended function; the differences are:

* results never depend on the rest of the batch: positions (and with them LogN) count real tokens, not padded columns;
* the NTK factor, fixed at prefill, lives in the cache object (`cache.ntk_alpha`) and never on the module;
* several tokens given together with a cache are causal among themselves;
* LogN has no limit at 32767 tokens.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import nn
from torch.nn import functional as F
from transformers.cache_utils import Cache, DynamicCache
from transformers.generation import GenerationMixin, LogitsProcessorList
from transformers.masking_utils import create_causal_mask
from transformers.modeling_outputs import BaseModelOutputWithPast, CausalLMOutputWithPast
from transformers.modeling_utils import PreTrainedModel
from transformers.utils import can_return_tuple
from transformers.utils.output_capturing import capture_outputs

from .configuration import QWenConfig
from .generation import StopWordsLogitsProcessor
from .layers import QWenAttention, QWenBlock, QWenRMSNorm
from .masking import capturing, last_mask, padding_mask, positions
from .rope import PositionTables, cos_sin, inverse_frequencies, logn_factors, ntk_alpha


class QWenPreTrainedModel(PreTrainedModel):
    """What transformers needs to know: names, back-ends, what can be recorded."""

    config_class = QWenConfig
    config: QWenConfig
    base_model_prefix = "transformer"
    _input_embed_layer = "wte"
    _no_split_modules = ["QWenBlock"]  # noqa: RUF012 - class attributes of the base class
    _skip_keys_device_placement = ["past_key_values"]  # noqa: RUF012
    # Tables that some converted checkpoints carry; ours are computed.
    _keys_to_ignore_on_load_unexpected = [r"rotary_emb\.inv_freq$", r"attn\.masked_bias$"]  # noqa: RUF012
    _can_record_outputs = {"hidden_states": QWenBlock, "attentions": QWenAttention}  # noqa: RUF012
    supports_gradient_checkpointing = True
    _supports_sdpa = True
    _supports_flash_attn = True
    _supports_flex_attn = True
    _supports_attention_backend = True


class QWenModel(QWenPreTrainedModel):
    """Embedding, decoder blocks and final norm.

    Holds no buffers: position tables are computed, so nothing is left uninitialised by meta-device loading.
    """

    def __init__(self, config: QWenConfig) -> None:
        super().__init__(config)
        if config.use_dynamic_ntk or config.use_logn_attn:
            config.training_length()
        if config.use_cache_quantization:
            raise ValueError("config.json: use_cache_quantization is not supported; set it to false")
        self.wte = nn.Embedding(config.vocab_size, config.hidden_size)
        self.drop = nn.Dropout(config.emb_dropout_prob)
        self.h = nn.ModuleList([QWenBlock(config, layer_idx) for layer_idx in range(config.num_hidden_layers)])
        self.ln_f = QWenRMSNorm(config.hidden_size, eps=config.layer_norm_epsilon)
        self.gradient_checkpointing = False
        self._inv_freq: dict[tuple[Any, ...], torch.Tensor] = {}
        self.post_init()

    def ntk_alphas(self, lengths: list[int]) -> torch.Tensor:
        """NTK factors of prompts of these true lengths: float64 [len(lengths)], or [1] where all are equal; CPU."""
        if not self.config.use_dynamic_ntk:
            return torch.ones(1, dtype=torch.float64)
        alphas = [ntk_alpha(length, self.config.training_length()) for length in lengths]
        return torch.tensor(alphas[:1] if len(set(alphas)) == 1 else alphas, dtype=torch.float64)

    def _choose_alpha(
        self, given: torch.Tensor | None, mask: torch.Tensor | None, cache: Cache | None, past: int, columns: int
    ) -> torch.Tensor:
        """This call's NTK factors, [B] or [1]: given, else frozen in the cache, else from the true lengths."""
        if given is not None:
            return torch.as_tensor(given, dtype=torch.float64).reshape(-1)
        # The published code switches NTK off while training.
        if not self.config.use_dynamic_ntk or self.training:
            return torch.ones(1, dtype=torch.float64)
        if past > 0:
            frozen = getattr(cache, "ntk_alpha", None)
            if frozen is not None:
                return frozen
            # A cache filled elsewhere: its keys were turned for the length that it holds.
            columns, mask = past, mask[:, :past] if mask is not None else None
        if mask is None or columns <= self.config.training_length():
            return self.ntk_alphas([columns])
        return self.ntk_alphas(mask.sum(dim=1).tolist())

    def _tables(
        self, alpha: torch.Tensor, position_ids: torch.Tensor, beyond: bool, dtype: torch.dtype
    ) -> PositionTables:
        key = (position_ids.device, *alpha.tolist())
        inv_freq = self._inv_freq.get(key)
        if inv_freq is None:
            table = inverse_frequencies(key[1:], self.config.rotary_dim, self.config.rotary_emb_base)
            # Few entries: there are as many as distinct batches of factors, and a long run sees ever new ones.
            if len(self._inv_freq) >= 64:
                self._inv_freq.clear()
            inv_freq = self._inv_freq[key] = table.to(position_ids.device)
        cos, sin = cos_sin(position_ids, inv_freq)
        logn = None
        if beyond and self.config.use_logn_attn and not self.training:
            logn = logn_factors(position_ids, self.config.training_length(), dtype)
        return PositionTables(cos, sin, logn)

    def _beyond(self, position_ids: torch.Tensor | None, columns: int) -> bool:
        """Whether a LogN factor may differ from 1: some position is at or past the training length."""
        if not self.config.use_logn_attn:
            return False
        if position_ids is None:
            return columns > self.config.training_length()
        if capturing():  # reading a position is not possible there; factors of 1 change nothing
            return True
        return bool((position_ids >= self.config.training_length()).any())

    @capture_outputs
    def forward(
        self,
        input_ids: torch.Tensor | None = None,
        attention_mask: torch.Tensor | None = None,
        position_ids: torch.Tensor | None = None,
        past_key_values: Cache | None = None,
        inputs_embeds: torch.Tensor | None = None,
        use_cache: bool | None = None,
        ntk_alpha: torch.Tensor | None = None,
        last_positions: torch.Tensor | None = None,
        token_type_ids: torch.Tensor | None = None,
        **kwargs: Any,
    ) -> BaseModelOutputWithPast:
        """Hidden states [B, T, hidden] ([B, 1, hidden] with `last_positions`); arguments as in QWenLMHeadModel."""
        if (input_ids is None) == (inputs_embeds is None):
            raise ValueError("give exactly one of input_ids and inputs_embeds")
        embeds = self.wte(input_ids) if inputs_embeds is None else inputs_embeds
        use_cache = self.config.use_cache if use_cache is None else use_cache
        if use_cache and self.gradient_checkpointing and self.training:
            use_cache = False  # checkpointing runs a block twice, and would fill the cache twice
        if use_cache and past_key_values is None:
            past_key_values = DynamicCache(config=self.config)
        cache = past_key_values
        past = int(cache.get_seq_length()) if cache is not None else 0
        columns = past + embeds.shape[1]

        padding = padding_mask(attention_mask, columns)
        alpha = self._choose_alpha(ntk_alpha, padding, cache, past, columns)
        if len(alpha) not in (1, embeds.shape[0]):
            raise ValueError(f"ntk_alpha has {len(alpha)} rows, the batch has {embeds.shape[0]}")
        if cache is not None:
            cache.ntk_alpha = alpha  # type: ignore[attr-defined]
        beyond = self._beyond(position_ids, columns)
        if position_ids is None:
            position_ids = positions(padding, past, columns, embeds.device)
        tables = self._tables(alpha, position_ids.to(embeds.device), beyond, embeds.dtype)

        # Without zeros there is nothing to mask: no mask tensor, and the fast kernel.
        mask = create_causal_mask(
            config=self.config,
            inputs_embeds=embeds,
            attention_mask=padding if attention_mask is None or attention_mask.ndim == 2 else attention_mask,
            past_key_values=cache,
        )
        final: dict[str, Any] = {"attention_mask": mask}
        if last_positions is not None:  # before any block runs: the mask's size is read from the cache
            last_positions = last_positions.to(embeds.device)
            final["attention_mask"] = last_mask(self.config, embeds, padding, cache, past, last_positions)
            final["last_positions"] = last_positions
        hidden = self.drop(embeds)
        for block in self.h[:-1]:
            hidden = block(hidden, tables=tables, attention_mask=mask, past_key_values=cache, **kwargs)
        hidden = self.h[-1](hidden, tables=tables, past_key_values=cache, **final, **kwargs)
        return BaseModelOutputWithPast(
            last_hidden_state=self.ln_f(hidden), past_key_values=cache if use_cache else None
        )


class QWenLMHeadModel(QWenPreTrainedModel, GenerationMixin):
    """The language model: QWenModel as `transformer`, and an untied `lm_head`."""

    _tied_weights_keys = {"lm_head.weight": "transformer.wte.weight"}  # noqa: RUF012 - only if tie_word_embeddings

    def __init__(self, config: QWenConfig) -> None:
        super().__init__(config)
        self.transformer = QWenModel(config)
        self.lm_head = nn.Linear(config.hidden_size, config.vocab_size, bias=False)
        self.post_init()

    def ntk_alpha(self, length: int) -> float:
        """The NTK factor that a prompt of `length` tokens gets (1.0 with dynamic NTK off).

        Prompts may share a cached prefix where their factors are equal.
        """
        return float(self.transformer.ntk_alphas([length])[0])

    @can_return_tuple
    def forward(
        self,
        input_ids: torch.Tensor | None = None,
        attention_mask: torch.Tensor | None = None,
        position_ids: torch.Tensor | None = None,
        past_key_values: Cache | None = None,
        inputs_embeds: torch.Tensor | None = None,
        labels: torch.Tensor | None = None,
        use_cache: bool | None = None,
        logits_to_keep: int | torch.Tensor = 0,
        ntk_alpha: torch.Tensor | None = None,
        last_positions: torch.Tensor | None = None,
        **kwargs: Any,
    ) -> CausalLMOutputWithPast:
        """Logits [B, T, vocab_size] in the model's dtype (quirk Q10: no upcast, of the loss neither).

        Args:
            input_ids: int64 [B, T].
            attention_mask: [B, cached + T], 1 = real token, on either side; outputs at pads are undefined. Or a ready
                mask [B, 1, T, K].
            position_ids: int64 [B or 1, T], from 0. Default: the number of real tokens before, cached ones included.
            past_key_values: any transformers cache; its `ntk_alpha` ([B] or [1]) is set at prefill, then kept.
            labels: int64 [B, T]; -100 is ignored. The loss is the mean cross-entropy, shifted by one.
            logits_to_keep: the last n positions only (0: all), or their indices.
            ntk_alpha: [B] or [1], overrides the NTK factor. Default: from each row's true length at prefill.
            last_positions: int64 [B], for right-padded rows: the column, among the T given, at which each row's output
                is wanted. The last layer then computes only these queries, and logits are [B, 1, vocab_size].

        Other keywords reach the attention function.
        """
        if labels is not None and last_positions is not None:
            raise ValueError("labels need the logits of every position: leave last_positions out")
        outputs = self.transformer(
            input_ids=input_ids,
            attention_mask=attention_mask,
            position_ids=position_ids,
            past_key_values=past_key_values,
            inputs_embeds=inputs_embeds,
            use_cache=use_cache,
            ntk_alpha=ntk_alpha,
            last_positions=last_positions,
            **kwargs,
        )
        hidden = outputs.last_hidden_state
        if last_positions is None:
            keep = slice(-logits_to_keep, None) if isinstance(logits_to_keep, int) else logits_to_keep
            hidden = hidden[:, keep]
        logits = self.lm_head(hidden)
        loss = None
        if labels is not None:
            loss = F.cross_entropy(logits[:, :-1].flatten(0, 1), labels[:, 1:].flatten().to(logits.device))
        return CausalLMOutputWithPast(
            loss=loss,
            logits=logits,
            past_key_values=outputs.past_key_values,
            hidden_states=outputs.hidden_states,
            attentions=outputs.attentions,
        )

    def prepare_inputs_for_generation(self, input_ids: torch.Tensor, **kwargs: Any) -> dict[str, Any]:  # type: ignore[override]
        """As in transformers, with the NTK factors taken while the mask still has two dimensions."""
        inputs: dict[str, Any] = super().prepare_inputs_for_generation(input_ids, **kwargs)  # type: ignore
        mask, cache = kwargs.get("attention_mask"), kwargs.get("past_key_values")
        empty = cache is None or int(cache.get_seq_length()) == 0
        if empty and inputs.get("ntk_alpha") is None and mask is not None and mask.ndim == 2:
            inputs["ntk_alpha"] = self.transformer.ntk_alphas(mask.sum(dim=1).tolist())
        return inputs

    def generate(self, *args: Any, stop_words_ids: list[list[int]] | None = None, **kwargs: Any) -> Any:
        """transformers' `generate`, plus `stop_words_ids`: the published stop-words processor (quirk Q13).

        Without the argument, `stop_words_ids` of the generation configuration counts.
        """
        config = kwargs.get("generation_config") or self.generation_config
        words = stop_words_ids if stop_words_ids is not None else getattr(config, "stop_words_ids", None)
        eos = kwargs.get("eos_token_id", config.eos_token_id)
        if words and eos is not None:
            eos = eos[0] if isinstance(eos, list) else int(eos)
            processors = LogitsProcessorList(kwargs.pop("logits_processor", None) or [])
            processors.append(StopWordsLogitsProcessor(words, eos))
            kwargs["logits_processor"] = processors
        inputs, mask = args[0] if args else kwargs.get("inputs", kwargs.get("input_ids")), kwargs.get("attention_mask")
        if kwargs.get("prefill_chunk_size", config.prefill_chunk_size) and inputs is not None:
            # Else the first chunk's length would set the factor.
            lengths = [inputs.shape[1]] if mask is None else mask.sum(dim=1).tolist()
            kwargs.setdefault("ntk_alpha", self.transformer.ntk_alphas(lengths))
        return super().generate(*args, **kwargs)  # type: ignore[misc]
