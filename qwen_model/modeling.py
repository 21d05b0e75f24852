"""The first-generation Qwen decoder for transformers: published weight names, transformers' caches and attention.

Source: Qwen technical report (arXiv 2309.16609) section 2.3 and the behaviour of the last published modelling file
(2023-12-07). Where that file has known defects this one does what was meant (docs/quirks.md has the whole list):

* results never depend on the rest of the batch: positions (and with them LogN) count real tokens, not padded columns;
* the NTK factor, fixed at prefill, lives in the cache object (`cache.ntk_alpha`) and never on the module;
* several tokens given together with a cache are causal among themselves;
* LogN has no limit at 32767 tokens;
* window attention, which the report describes and that file never had, can be switched on (`long_context.py`).
"""

from __future__ import annotations

from typing import Any

import torch
from torch import nn
from transformers.cache_utils import Cache
from transformers.generation import GenerationMixin
from transformers.masking_utils import ALL_MASK_ATTENTION_FUNCTIONS
from transformers.modeling_outputs import BaseModelOutputWithPast, CausalLMOutputWithPast
from transformers.modeling_utils import ALL_ATTENTION_FUNCTIONS
from transformers.utils import can_return_tuple
from transformers.utils.output_capturing import capture_outputs

from .chat import QWenChat
from .configuration import QWenConfig
from .devices import META, at, moved_to
from .gptq import pack_layers, packing_of
from .int8_cache import Int8Cache
from .keywords import CACHE, by_name, check_keywords, one_cache
from .layers import QWenBlock, QWenRMSNorm, eager_attention
from .long_context import OFF, LongContext
from .masking import (
    Call,
    causal_masks,
    column_sequences,
    last_mask,
    packed_positions,
    padding_mask,
    positions,
    readable,
    sequence_lengths,
)
from .pretrained import QWenPreTrainedModel
from .rope import TableMaker, ntk_alphas
from .window_cache import WindowCache


class QWenModel(QWenPreTrainedModel):
    """Embedding, decoder blocks and final norm.

    Holds no buffers: position tables are computed, so nothing is left uninitialised by meta-device loading.
    """

    def __init__(self, config: QWenConfig) -> None:
        super().__init__(config)
        if config.use_dynamic_ntk or config.use_logn_attn:
            config.training_length()
        self.wte = nn.Embedding(config.vocab_size, config.hidden_size)
        self.drop = nn.Dropout(config.emb_dropout_prob)
        self.h = nn.ModuleList([QWenBlock(config, layer_idx) for layer_idx in range(config.num_hidden_layers)])
        if config.gptq is not None:
            pack_layers(self.h, packing_of(config.gptq))
        self.ln_f = QWenRMSNorm(config.hidden_size, eps=config.layer_norm_epsilon)
        self.gradient_checkpointing = False
        self._tables = TableMaker(config)
        self.post_init()  # type: ignore[no-untyped-call]

    def _choose_switches(self, given: LongContext | None, cache: Cache | None, past: int) -> LongContext:
        """This call's switches: those that the cache was made or filled with, else the given ones, else the model's."""
        frozen: LongContext | None = getattr(cache, "long_context", None)
        if frozen is None or not (past or isinstance(cache, WindowCache)):
            # All are for inference: the published code switches them off while training.
            return OFF if self.training else (given or self.long_context).check(self.config)
        if given not in (None, frozen):
            raise ValueError(f"the cache belongs to {frozen}, it cannot go on with {given}")
        return frozen

    def _choose_alpha(
        self,
        given: torch.Tensor | None,
        cache: Cache | None,
        past: int,
        columns: int,
        mask: torch.Tensor | None,
        numbers: torch.Tensor | None,
        switches: LongContext,
    ) -> torch.Tensor:
        """This call's NTK factors, [B], [1], or [B, T] of packed rows: given, else frozen in the cache, else from the
        true lengths. mask, numbers: padding and packed sequences, each [B, columns] or None."""
        if given is not None:
            return torch.as_tensor(given, dtype=torch.float64, device="cpu").reshape(-1)
        if not switches.use_dynamic_ntk:
            return torch.ones(1, dtype=torch.float64)
        if past > 0:
            kept: torch.Tensor | None = getattr(cache, "ntk_alpha", None)
            if kept is not None:
                return kept
            # A cache filled elsewhere: its keys were turned for the length that it holds.
            columns, mask, numbers = past, mask[:, :past] if mask is not None else None, None
        trained = self.config.training_length()
        if columns <= trained or (mask is None and numbers is None):
            return self.ntk_alphas([columns], switches)
        lengths = sequence_lengths(numbers, mask) if numbers is not None else mask.sum(dim=1)  # type: ignore[union-attr]
        return ntk_alphas(lengths, trained)

    def _beyond(self, position_ids: torch.Tensor | None, columns: int, switches: LongContext) -> bool:
        """Whether a LogN factor may differ from 1: some position is at or past the training length."""
        if not switches.use_logn_attn:
            return False
        if position_ids is None:
            return columns > self.config.training_length()
        # An accelerator is not waited for: factors of 1 change nothing.
        return not readable(position_ids) or bool((position_ids >= self.config.training_length()).any())

    @capture_outputs  # type: ignore[untyped-decorator]
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
        long_context: LongContext | None = None,
        token_type_ids: torch.Tensor | None = None,
        cache: Cache | None = None,
        **kwargs: Any,
    ) -> BaseModelOutputWithPast:
        """Hidden states [B, T, hidden] ([B, 1, hidden] with `last_positions`); arguments as in QWenLMHeadModel."""
        check_keywords(kwargs, ALL_ATTENTION_FUNCTIONS.get_interface(self.config._attn_implementation, eager_attention))
        cache = one_cache(cache, past_key_values)
        if (input_ids is None) == (inputs_embeds is None):
            raise ValueError("give exactly one of input_ids and inputs_embeds")
        embeds = self.wte(input_ids) if inputs_embeds is None else inputs_embeds
        use_cache = self.config.use_cache if use_cache is None else use_cache
        if self.gradient_checkpointing and self.training and torch.is_grad_enabled():
            # Checkpointing runs a block twice, and would fill the cache twice.
            if cache is not None and int(cache.get_seq_length()):
                raise ValueError("a filled cache cannot go on under gradient checkpointing: switch one of them off")
            use_cache, cache = False, None
        cache = self.cache_of_call(cache, bool(use_cache), OFF if self.training else long_context)
        past = int(cache.get_seq_length()) if cache is not None else 0
        columns = past + embeds.shape[1]

        two_dimensional = isinstance(attention_mask, torch.Tensor) and attention_mask.ndim == 2
        padding = padding_mask(attention_mask, columns, embeds.shape[1]) if two_dimensional else None
        ready = None if two_dimensional else attention_mask
        if position_ids is None and not past:
            starts = kwargs.get("cu_seq_lens_q"), kwargs.get("seq_idx")
            position_ids = packed_positions(embeds.shape[1], embeds.device, *starts)
        unaware = self.config._attn_implementation not in ALL_MASK_ATTENTION_FUNCTIONS  # such an attention gets no mask
        numbers = None if unaware or ready is not None else column_sequences(position_ids, padding, cache, past)
        switches = self._choose_switches(long_context, cache, past)
        alpha = self._choose_alpha(ntk_alpha, cache, past, columns, padding, numbers, switches)
        if len(alpha) not in (1, embeds.shape[0]):
            raise ValueError(f"ntk_alpha has {len(alpha)} rows, the batch has {embeds.shape[0]}")
        if cache is not None:
            cache.ntk_alpha = alpha if alpha.ndim == 1 else alpha[:, -1]  # type: ignore[attr-defined]
            cache.long_context, cache.sequences = switches, numbers  # type: ignore[attr-defined]
        if isinstance(cache, WindowCache):
            cache.count_padding(padding, embeds.shape[1])
        elif isinstance(cache, Int8Cache):
            cache.expect(padding, embeds.shape[1], last_positions, embeds.device)
        beyond = self._beyond(position_ids, columns, switches)
        if numbers is not None and not past:
            kwargs["position_ids"] = position_ids  # flash attention reads off them where sequences start
        if position_ids is None:
            position_ids = positions(padding, past, columns, embeds.device)
        tables = self._tables.tables(switches, alpha, position_ids.to(embeds.device), beyond, embeds.dtype)

        windows = switches.windows(len(self.h), columns)
        if padding is not None:
            padding = padding.to(device=embeds.device, dtype=torch.bool)
        call = Call(self.config, embeds, padding, ready, cache, past, numbers)
        masks = causal_masks(call, windows)
        options = [kwargs if window is None else {**kwargs, "sliding_window": window} for window in windows]
        if last_positions is not None:  # before any block runs: the mask's size is read from the cache
            last_positions = last_positions.to(embeds.device)
            masks[-1] = last_mask(call, last_positions, windows[-1])
            options[-1] = {**options[-1], "last_positions": last_positions}
        hidden = self.drop(embeds)
        moved: dict[tuple[int, torch.device], Any] = {}
        for block, own, mask, more in zip(self.h, tables, masks, options, strict=True):
            device: torch.device = block.ln_1.weight.device  # type: ignore[assignment,union-attr]
            if device not in (own.cos.device, META):  # a model over several devices
                own, mask, more = (moved_to(value, device, moved) for value in (own, mask, more))
            hidden = block(at(hidden, device), tables=own, attention_mask=mask, cache=cache, **more)
        hidden = at(hidden, self.ln_f.weight.device)
        return BaseModelOutputWithPast(self.ln_f(hidden), **by_name(cache if use_cache else None))


class QWenLMHeadModel(QWenChat, GenerationMixin):  # transformers looks for its mixin among the bases
    """The language model: QWenModel as `transformer`, and an untied `lm_head`."""

    _tied_weights_keys = {"lm_head.weight": "transformer.wte.weight"}  # noqa: RUF012 - only if tie_word_embeddings

    def __init__(self, config: QWenConfig) -> None:
        super().__init__(config)
        self.transformer = QWenModel(config)
        self.lm_head = nn.Linear(config.hidden_size, config.vocab_size, bias=False)
        self.loss_type = "ForCausalLM"  # transformers reads it off class names, and ours has another form
        self.post_init()  # type: ignore[no-untyped-call]

    @can_return_tuple  # type: ignore[untyped-decorator]
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
        long_context: LongContext | None = None,
        token_type_ids: torch.Tensor | None = None,
        cache: Cache | None = None,
        shift_labels: torch.Tensor | None = None,
        num_items_in_batch: torch.Tensor | int | None = None,
        **kwargs: Any,
    ) -> CausalLMOutputWithPast:
        """Logits [B, T, vocab_size] in the model's dtype (quirk Q10 of docs/quirks.md: no upcast, of the loss neither).

        Args:
            input_ids: int64 [B, T].
            attention_mask: [B, cached + T], 1 = real token, on either side; outputs at pads are undefined. Or a ready
                mask [B, 1, T, K].
            position_ids: int64 [B or 1, T], from 0. Default: the number of real tokens before, cached ones included.
            past_key_values, cache: any transformers cache, by its name before or since transformers 5.24; its
                `ntk_alpha` ([B] or [1]) is set at prefill, then kept.
            inputs_embeds: [B, T, hidden], in place of input_ids.
            labels: int64 [B, T]; -100 is ignored. The loss is transformers' own `loss_function`: the mean
                cross-entropy, shifted by one, computed in float32 and rounded to the model's dtype.
            logits_to_keep: the last n positions only (0: all), or their indices.
            ntk_alpha: [B] or [1], overrides the NTK factor. Default: from each row's true length at prefill. A layer
                with a window gets at most the factor of the window.
            long_context: the switches of this call (default: the model's). A filled cache keeps those of its prefill.
            last_positions: int64 [B], for right-padded rows: the column, among the T given, at which each row's output
                is wanted. The last layer then computes only these queries, and logits are [B, 1, vocab_size].
            token_type_ids: taken and not read, as tokenizers return them.
            shift_labels: int64 [B, T], labels that are shifted already, in place of `labels`.
            num_items_in_batch: what the sum of the cross-entropies is divided by: the number of labels over all steps
                of a gradient accumulation, as transformers' Trainer gives it. Default: their number here.

        What transformers hands to any model (`output_hidden_states`, `cu_seq_lens_q` ...), and what the attention
        function names, is taken as well.

        Raises:
            TypeError: a keyword that nobody reads.
        """
        labelled = labels is not None or shift_labels is not None
        if labelled and last_positions is not None:
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
            long_context=long_context,
            cache=cache,
            **kwargs,
        )
        hidden = outputs.last_hidden_state
        if last_positions is None:
            keep = slice(-logits_to_keep, None) if isinstance(logits_to_keep, int) else logits_to_keep
            hidden = hidden[:, keep]
        logits = self.lm_head(at(hidden, self.lm_head.weight.device))
        loss = None
        if labelled:
            loss = self.loss_function(
                logits,
                labels,
                vocab_size=self.config.vocab_size,
                num_items_in_batch=num_items_in_batch,
                shift_labels=shift_labels,
            ).to(self.dtype)
        return CausalLMOutputWithPast(
            loss,
            logits,
            hidden_states=outputs.hidden_states,
            attentions=outputs.attentions,
            **by_name(getattr(outputs, CACHE)),
        )
