"""How each family of Qwen was asked, as far as a source says: the settings behind `--protocol`.

The blogs and reports of Qwen1.5 to Qwen3 state the number of examples of base models, Qwen3's report a chain of thought
too, and hardly anything of chat models. What they leave open is ours, stands below the table ("ours: ..."), and such a
figure is at best `consistent`. The first generation (`qwen`) is what the scripts do without a protocol.
"""

import json
import re
from pathlib import Path
from typing import NamedTuple

FIRST = "qwen"
LATER = ("qwen1.5", "qwen2", "qwen2.5", "qwen3")

#: What a chat model of a later family is told behind a problem of mathematics, without examples. The cards of Qwen3
#: (2507) advise it; for the others it is ours.
BOXED = "\nPlease reason step by step, and put your final answer within \\boxed{}."
#: The longest reply to such a prompt in tokens; ours.
BOXED_TOKENS = 2048


class Way(NamedTuple):
    """How a family asks a benchmark. shots: examples, None where the script takes no other number; stated: what a
    source says, with its name; ours: what no source says; boxed: without examples a chat model is told BOXED."""

    shots: int | None
    stated: str
    ours: str
    boxed: bool = False


#: Where the figures of base models state their number of examples.
SOURCES = {
    "qwen1.5": "blog qwen2, which lists these models again",
    "qwen2": "blog qwen2",
    "qwen2.5": "blog qwen2.5-llm",
    "qwen3": "Qwen3 report, 3.3",
}
#: Base models: benchmark -> examples by family, in the order of LATER; None where the family has no figure of it.
BASE_SHOTS: dict[str, tuple[int | None, int | None, int | None, int | None]] = {
    "mmlu": (5, 5, 5, 5),
    "mmlu_pro": (5, 5, 5, 5),
    "gpqa": (5, 5, 5, 5),
    "ceval": (5, 5, None, None),
    "cmmlu": (5, 5, None, None),
    "bbh": (3, 3, 3, 3),
    "arc_challenge": (25, 25, 25, None),
    "hellaswag": (10, 10, 10, None),
    "winogrande": (5, 5, 5, None),
    "truthfulqa": (0, 0, 0, None),
    "gsm8k": (4, 4, 4, 4),
    "math": (4, 4, 4, 4),
    "humaneval": (0, 0, 0, None),
    "mbpp": (3, 3, 3, 3),
}
#: Benchmarks that the first generation has figures of too.
OF_FIRST = ("mmlu", "ceval", "cmmlu", "bbh", "gsm8k", "math", "humaneval", "mbpp")
#: Asked with a chain of thought by every family here, which only Qwen3's report states.
THOUGHT = ("mmlu_pro", "gpqa", "bbh", "gsm8k", "math")
#: What no source says of base models: benchmark -> words.
BASE_OURS = {
    "mmlu": "the first generation's prompt, answers read from the next token",
    "mmlu_pro": "TIGER-AI-Lab's prompt and extraction",
    "gpqa": "prompt, examples, order of the options and extraction",
    "ceval": "the first generation's prompt, answers read from the next token, the val split",
    "cmmlu": "the first generation's prompt, answers read from the next token",
    "bbh": "the examples of BIG-Bench Hard itself, and the extraction",
    "arc_challenge": "prompt, examples and likelihoods after lm-evaluation-harness",
    "hellaswag": "prompt, examples and likelihoods after lm-evaluation-harness",
    "winogrande": "prompt, examples and likelihoods after lm-evaluation-harness",
    "truthfulqa": "prompt and likelihoods after lm-evaluation-harness, mc2",
    "gsm8k": "the first of the first generation's examples, and its extraction",
    "math": "the Minerva examples and extraction",
    "humaneval": "the first generation's stops and extraction",
    "mbpp": "tasks 2, 3 and 4 as the examples, the 500 tasks, the extraction (EvalPlus's tasks: --evalplus)",
}
_WORDED = f"the wording ({BOXED.strip()}), the last box or else the last number"
#: Ours of the families whose cards do not say how replies are sampled; Qwen3's do (card_sampling.py).
GREEDY = "greedy replies"
#: Chat models, of which the sources state no number of examples: benchmark -> (families, examples, stated, ours).
CHAT: dict[str, tuple[tuple[str, ...], int | None, str, str]] = {
    "mmlu": (
        LATER[:2],
        5,
        "OpenCompass's mmlu_gen_a484b3 in the model's own chat frame (a maintainer in QwenLM/Qwen3#700)",
        GREEDY,
    ),
    "ceval": (
        LATER,
        0,
        "evaluate_chat_ceval.py of QwenLM/Qwen (a maintainer in QwenLM/Qwen3#700, of Qwen2)",
        f"the val split, {GREEDY}",
    ),
    "mmlu_pro": (LATER, 5, "", f"TIGER-AI-Lab's prompt with five examples in one user turn, {GREEDY}"),
    "gpqa": (
        LATER,
        0,
        "",
        "no examples, a chain of thought that ends in `The answer is (X)`, the order of the options",
    ),
    "gsm8k": (LATER, 0, "", f"no examples, {_WORDED}, at most {BOXED_TOKENS:,} new tokens, {GREEDY}"),
    "math": (LATER, 0, "", f"no examples, {_WORDED.replace('number', 'formula')}, {GREEDY}"),
    "humaneval": (LATER[:3], None, "", "the first generation's prompt and extraction"),
    "mbpp": (LATER[:3], 3, "", "three examples in one user turn, the 500 tasks"),
}
#: Of MBPP only figures of three examples are the 500 tasks': the zero-shot ones are EvalPlus's.
MBPP_STATED = {"qwen2.5": "3-shot (Qwen3 report, 3.3)", "qwen3": "3-shot (Qwen3 report, 3.3)"}
EVALPLUS = Way(0, "zero-shot (EvalPlus)", "EvalPlus's prompt of today, and its extraction")


def families_of(benchmark: str) -> tuple[str, ...]:
    """The families whose protocol the benchmark has; none where there is only one way to ask it."""
    if benchmark not in BASE_SHOTS:
        return ()
    later = [name for name in LATER if _base_shots(benchmark, name) is not None or name in _chat_families(benchmark)]
    return (*([FIRST] if benchmark in OF_FIRST else []), *later)


def way(benchmark: str, family: str, chat: bool) -> Way | None:
    """How the family asks; None for the first generation, and for a kind of model of which it has no figure: then the
    script's own way is taken."""
    if family not in LATER or benchmark not in BASE_SHOTS:
        return None
    if chat:
        families, shots, stated, ours = CHAT.get(benchmark, ((), None, "", ""))
        ours = ours.removesuffix(f", {GREEDY}") if family == "qwen3" else ours
        boxed = benchmark in ("gsm8k", "math")
        if boxed and family == "qwen3":
            stated = "the wording (advised by the cards of July 2025; they have no figure of this benchmark)"
        return Way(shots, stated, ours, boxed) if family in families else None
    examples = _base_shots(benchmark, family)
    if examples is None:
        return None
    if benchmark == "mbpp":
        return Way(examples, MBPP_STATED.get(family, ""), BASE_OURS[benchmark])
    thought = benchmark in THOUGHT
    cot = " with a chain of thought" if thought and family == "qwen3" else ""
    ours = "a chain of thought, " if thought and family != "qwen3" else ""
    return Way(examples, f"{examples}-shot{cot} ({SOURCES[family]})", ours + BASE_OURS[benchmark])


def _base_shots(benchmark: str, family: str) -> int | None:
    return BASE_SHOTS[benchmark][LATER.index(family)]


def _chat_families(benchmark: str) -> tuple[str, ...]:
    return CHAT[benchmark][0] if benchmark in CHAT else ()


# -- which family a model is of ----------------------------------------------------------------------------------------


def family_of(names: tuple[str, ...], checkpoint: Path | None) -> str:
    """The family of a model: by the first of its names that says so, else by its config.json, which tells the first
    generation and Qwen3 from the others; "" where neither says it (Qwen1.5, Qwen2 and Qwen2.5 are all `qwen2`)."""
    for name in names:
        if found := re.match(r"qwen(1\.5|2\.5|2|3)?(?=[-_]|$)", name, re.IGNORECASE):
            return f"qwen{found[1] or ''}"
    path = checkpoint / "config.json" if checkpoint else None
    if path is None or not path.is_file():
        return ""
    kind = str(json.loads(path.read_text(encoding="utf-8-sig")).get("model_type", ""))
    return {"qwen": FIRST, "qwen3": "qwen3", "qwen3_moe": "qwen3"}.get(kind, "")


def default_for(benchmark: str, family: str) -> str:
    """The protocol of a model of this family: its own where the benchmark has it, else the first generation's."""
    return family if family in families_of(benchmark) else FIRST


def suffix(benchmark: str, given: str | None, family: str) -> str:
    """What the name of an output folder ends in: the protocol that is given, where it is not the model's own."""
    return "" if given in (None, default_for(benchmark, family)) else f"-{given}"


def notes(benchmark: str, family: str, chat: bool, evalplus: bool, shots: int | None) -> list[str]:
    """What stands below the table of a run by a later family's protocol."""
    if family not in LATER:
        return []
    found = EVALPLUS if evalplus and benchmark == "mbpp" else way(benchmark, family, chat)
    if found is None:
        kind = "chat" if chat else "base"
        return [f"protocol {family}: no figure of {kind} models is of this benchmark; asked in the script's own way"]
    stated = f"stated: {found.stated}" if found.stated else "no source states how it was asked"
    other = "" if None in (found.shots, shots) or found.shots == shots else f"; asked with {shots} examples here (-k)"
    return [f"protocol {family}: {stated}; ours: {found.ours}{other}; so a figure is at best `consistent`"]
