"""Stop words in generation, as in the published files.

When the tail of prompt + generated ids equals a stop sequence, end-of-text is forced as the next token: the output
holds the stop sequence and an eos, and costs one more step (quirk Q13). Source: generation_config.json's
`stop_words_ids` and QwenLM/Qwen's `chat`.
"""

from __future__ import annotations

import torch
from transformers import LogitsProcessor

# The published constant: larger than any logit, and finite in float16.
FORCED_LOGIT = 2.0**15


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
        if not bool(stopped.any()):
            return scores
        scores = scores.clone()
        scores[stopped.to(scores.device), self.eos_token_id] = FORCED_LOGIT
        return scores
