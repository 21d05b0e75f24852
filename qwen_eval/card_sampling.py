"""How the cards of Qwen3's chat models sample their replies, which is the default of a run with such a model.

| model | temperature | top-p | top-k | presence penalty | source |
| --- | --- | --- | --- | --- | --- |
| with thinking | 0.6 | 0.95 | 20 | | Qwen3 report, 4.6; cards of Thinking-2507 |
| without thinking | 0.7 | 0.8 | 20 | 1.5 | Qwen3 report, 4.6 |
| Instruct-2507, which never thinks | 0.7 | 0.8 | 20 | | its card |

Where the checkpoint's generation_config.json samples, it comes first, for a model that is asked in its own way (that of
a model that can do both is of thinking).
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any, NamedTuple

from qwen_eval.engines.decoding import Decoding, stored_sampling

if TYPE_CHECKING:
    from qwen_eval.target import Target

FAMILY = "qwen3"
REPORT, CARD = "the Qwen3 report, 4.6", "the model's card"
THINKING = {"temperature": 0.6, "top_p": 0.95, "top_k": 20}
NEVER_THINKING = {"temperature": 0.7, "top_p": 0.8, "top_k": 20}
NOT_THINKING = {**NEVER_THINKING, "presence_penalty": 1.5}
WORDS = {"temperature": "temperature", "top_p": "top-p", "top_k": "top-k", "presence_penalty": "presence penalty"}


class CardSampling(NamedTuple):
    """settings: fields of Decoding; source: who says so, in words."""

    settings: Mapping[str, Any]
    source: str

    def note(self, decoding: Decoding) -> str:
        """What a reader should know of these replies. decoding: in force, by flags another one maybe."""
        how = f"sampled ({_words(decoding._asdict())})" if decoding.temperature else "greedy"
        if all(getattr(decoding, name) == value for name, value in self.settings.items()):
            return f"replies are {how}, as {self.source} has it"
        return f"replies are {how}, and {self.source} has {_words(self.settings)}"


def card_sampling(target: Target) -> CardSampling | None:
    """That of a run's model; None for a model of another family, a base model, another --protocol and given replies."""
    protocol = getattr(target.args, "protocol", None)
    if target.family != FAMILY or not target.chat or protocol not in (None, FAMILY) or target.replies is not None:
        return None
    folder = target.generation_folder
    if folder is not None and (target.thinking is None or target.thinking.usual) and (own := stored_sampling(folder)):
        return CardSampling(own, "the checkpoint's generation_config.json")
    if target.thinking is not None:
        return CardSampling(THINKING, REPORT) if target.thinking.on else CardSampling(NOT_THINKING, REPORT)
    if target.checkpoint or target.tokenizer or "instruct" in target.name.model.lower():
        return CardSampling(NEVER_THINKING, CARD)
    return CardSampling(THINKING, REPORT)  # a served model, of which only the name is known: Qwen3's usual way


def _words(settings: Mapping[str, Any]) -> str:
    return ", ".join(f"{word} {settings[name]:g}" for name, word in WORDS.items() if settings.get(name))
