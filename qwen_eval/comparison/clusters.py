"""Which items go wrong together: those of one BBH task, of one document, of one question, or about one long passage.

A test that takes them for independent reports losses where there are none (`significance.py`).
"""

import re
from collections.abc import Callable, Sequence
from itertools import takewhile

from qwen_eval.comparison.rows import Pair

PASSAGE_BYTES = 400  # MMLU's history passages are longer; the instruction of moral_scenarios has 185
MOST_OF_A_PASSAGE = 10  # items; MMLU has up to 7
#: Where the question that is asked begins: behind the last of these.
BEGINNINGS = re.compile(r"<\|im_start\|>user\n|(?:^|\n)(?:Question|Q|Problem|问题|题目)(?:: ?|：|:\n)")

BY_BENCHMARK: dict[str, Callable[[Pair], str]] = {
    "bbh": lambda pair: pair.a.subject,  # a task
    "ppl": lambda pair: pair.key[0].split("/", 1)[1].rpartition("/")[0],  # way/document/length
    "needle": lambda pair: pair.key[0].split("/", 1)[0] + "/" + pair.key[0].rpartition("/")[2],  # a text at any depth
}


def clusters(benchmark: str, pairs: Sequence[Pair]) -> list[str]:
    """A name for each pair; those of one cluster have the same."""
    if known := BY_BENCHMARK.get(benchmark.partition(" (")[0]):
        return [known(pair) for pair in pairs]
    questions = [question_of(pair.a.prompt) for pair in pairs]
    # what all questions begin with is an instruction, not a passage
    common = takewhile(lambda characters: len(set(characters)) == 1, zip(*questions, strict=False))
    instruction = sum(1 for _ in common) if len(pairs) > MOST_OF_A_PASSAGE else 0
    return [_passage(pair, text[instruction:]) for pair, text in zip(pairs, questions, strict=True)]


def _passage(pair: Pair, question: str) -> str:
    """The long beginning of the question, which others may have too; of a short one the item's id, which several
    replies to one question have in common."""
    start = question.encode("utf-8", "surrogatepass")[:PASSAGE_BYTES]
    return f"{pair.a.subject}:{start.hex()}" if len(start) == PASSAGE_BYTES else pair.key[0]


def question_of(prompt: str) -> str:
    """The prompt from the last question on: without the examples before it."""
    found = [match.end() for match in BEGINNINGS.finditer(prompt)]
    return prompt[found[-1] :] if found else prompt.rpartition("\n\n")[2]
