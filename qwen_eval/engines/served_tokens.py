"""Token ids at a server: its own tokenizer, whether it takes prompts as ids, and whether they are those made here."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from qwen_eval.engines.candidates import CandidateTokens
from qwen_eval.engines.endpoint import RequestFailed, fetch, fetch_beside, public_url
from qwen_eval.errors import UserError

import numpy as np

if TYPE_CHECKING:
    from qwen_eval.engines.local.prompts import Encoder

#: what both tokenizers are asked about: letters, figures, blanks and lines, and letters of another script
TEXT = "Question: What is 12 + 3045?\n\n  A. 3057\n问题：法国的首都是哪里？\nAnswer:"


def takes_ids(client: Any, base_url: str, model: str, encoder: Encoder) -> bool:
    """Whether the server goes on from token ids as they are.

    Raises UserError where the tokenizer of `encoder` is not the served model's: its ids would be other words there.
    Raises RequestFailed where the server does not answer.
    """
    ids = encoder.plain([TEXT])[0].tolist()
    ask = {"model": model, "max_tokens": 1, "temperature": 0}
    try:
        taken = _prompt_tokens(fetch(client, base_url, prompt=ids, **ask))
    except RequestFailed as error:
        if error.reason.of_item:
            return False
        raise
    try:
        served = ServerTokenizer(client, base_url, model).plain([TEXT])[0].tolist()
    except RequestFailed:  # it has no /tokenize: the number of tokens must do
        served = []
    made = len(served) or _prompt_tokens(fetch(client, base_url, prompt=TEXT, **ask))
    if (served and served != ids) or (made and made != len(ids)):
        raise UserError(
            f"the tokenizer here is not that of {model!r} at {public_url(base_url)}: of the same text they make "
            f"{len(ids)} and {made} tokens{'' if made != len(ids) else ', others'}; --tokenizer names the served "
            "model's"
        )
    return taken == len(ids)


def knows_thinking(client: Any, base_url: str, model: str, switch: bool) -> bool:
    """Whether the served model's chat template is seen to know `enable_thinking`; False: the server does not show the
    tokens of a chat.

    Raises UserError where the template makes the same prompt of both, unless it always thinks and `switch` says so.
    """
    turns = [{"role": "user", "content": "question"}]
    modes = [{"enable_thinking": enable} for enable in (True, False)]
    try:
        on, off = (
            fetch_beside(client, base_url, "tokenize", model=model, messages=turns, chat_template_kwargs=mode)["tokens"]
            for mode in modes
        )
        if on != off:
            return True
        end = str(fetch_beside(client, base_url, "detokenize", model=model, tokens=on)["prompt"])
    except (RequestFailed, LookupError, TypeError):
        return False
    if switch and end.rstrip().endswith("<think>"):
        return True
    raise UserError(
        f"--thinking: the chat template of {model!r} at {public_url(base_url)} does not know enable_thinking: it makes "
        "the same prompt of on and off"
    )


def _prompt_tokens(done: Any) -> int:
    """How many tokens of prompt the server counted; 0 where it does not say."""
    return int(getattr(getattr(done, "usage", None), "prompt_tokens", 0) or 0)


class ServerTokenizer(CandidateTokens):
    """The server's own tokenizer, by the /tokenize of vLLM and SGLang. Raises RequestFailed where there is none."""

    def __init__(self, client: Any, base_url: str, model: str) -> None:
        self.client, self.base_url, self.model = client, base_url, model

    def plain(self, prompts: Sequence[str], raw: bool = False) -> list[np.ndarray]:
        """See `CandidateTokens.plain`. raw: the server makes no difference."""
        return [np.asarray(self._tokens(text), dtype=np.int32) for text in prompts]

    def chat(self, prompts: Sequence[str], assistant_prefill: Sequence[str] | None = None) -> list[np.ndarray]:
        raise UserError("an OpenAI-compatible endpoint gives no logits of a chat; use --engine local or --base")

    def _tokens(self, text: str) -> list[int]:
        done = fetch_beside(self.client, self.base_url, "tokenize", model=self.model, prompt=text)
        tokens = done.get("tokens") if isinstance(done, dict) else None
        if not isinstance(tokens, list) or not tokens or not all(type(one) is int for one in tokens):
            raise RequestFailed(self.base_url, "unreadable answer", "its tokens are in no known form")
        return tokens
