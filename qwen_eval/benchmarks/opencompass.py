"""What the few-shot chat figures of MMLU, C-Eval and GSM8K have in common: they were made with OpenCompass.

The last README of QwenLM/Qwen says so. OpenCompass of July to December 2023 (model configuration `hf_qwen_7b_chat`)
showed every example as a turn of its own, without a system turn; prompt and reply had 2,048 tokens together, and a
longer prompt lost its beginning. Nothing overrode generation_config.json, so those runs had its repetition penalty,
which is kept here, and its sampling, in whose place we decode greedily (ours): `notes` says so under the table.
"""

from collections.abc import Sequence

from qwen_eval.benchmark import Generate, Setting
from qwen_eval.engines.base import Turns
from qwen_eval.protocols import FIRST
from qwen_eval.reporting.tables import Line

MAX_TOKENS = 2048  # of prompt and reply together
LETTER_DECODING = {"max_new_tokens": 100}  # of multiple choice, with the checkpoint's repetition penalty


def few_shot_chat(setting: Setting) -> bool:
    """Whether a chat model is shown examples."""
    return setting.chat and setting.shots > 0


def total_tokens(setting: Setting) -> int:
    """How many tokens prompt and reply may have together: --max-seq-len, or the protocol's."""
    return setting.max_prompt_tokens or MAX_TOKENS


def ask(setting: Setting, examples: Turns, question: str) -> Generate:
    """The request for a reply to the question behind its examples."""
    return Generate(question, examples=examples, max_total_tokens=total_tokens(setting))


def notes(setting: Setting, lines: Sequence[Line]) -> list[str]:
    """How the decoding behind the reported figures differs from this run's, where some are shown (not those of the demo
    or of another card or a later family); and what an endpoint does not do of the protocol."""
    found = []
    if getattr(setting.flags, "engine", "local") == "openai" and setting.given is None:
        found.append(
            "few-shot chat through an endpoint: its own chat frame stands around the examples, a long prompt is not "
            "cut, and the repetition penalty is 1.0 unless --repetition-penalty gives that of the published runs (1.1)"
        )
    others = setting.own_samples or getattr(setting.flags, "reported", None) or setting.protocol != FIRST
    if any(line.reported for line in lines) and not others:
        if setting.given is not None:
            here = "how the given replies were decoded is not known"
        elif temperature := getattr(setting.flags, "temperature", None):
            here = f"this run sampled at temperature {temperature:g}"
        else:
            here = "this run is greedy, which departs from that: expect a difference as between two sampled runs"
        found.append(f"the reported few-shot chat figure was sampled (top_p 0.8, made with OpenCompass); {here}")
    return found
