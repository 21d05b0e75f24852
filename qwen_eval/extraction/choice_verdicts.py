"""What a reply calls right and wrong ("A is wrong because ... B is right", A错误。B正确。), and
the choice that this leaves."""

from __future__ import annotations

import re
from collections.abc import Mapping
from functools import lru_cache

from qwen_eval.extraction.choice_words import FLAGS, Naming

WRONG = re.compile(
    r"(?:\bnot|n't|\bnever|\bneither|\bcannot be)\s+(?:\w+\s+){0,2}?(?:correct|right|true|accurate|valid|suitable|"
    r"appropriate|applicable|answer|choice|option)\b|\b(?:incorrect|wrong|false|untrue|inaccurate|invalid|irrelevant)\b(?!\s+to\b)"
    r"|\b(?:ruled out|eliminated|excluded|discarded)\b|(?<=[-:])\s*no\b|错误|有误|错(?=[,，。;；!的\s]|$)|[×✗❌✘✖]"
    r"|(?:不|并非|没有?)[^。，,;；\n]{0,3}?(?:正确|对|符合|合|选|恰当|成立|准确)|排除",
    FLAGS,
)
RIGHT = re.compile(
    r"(?:\b(?:is|are|was|seems|looks|(?:must|would|should|to) be)\s+(?:(?:the|more|most|also|only|clearly|definitely|"
    r"indeed|actually|thus|therefore|completely|absolutely|always|generally|factually)\s+)*|[:.,;)\]\-–—=>]\s*(?:(?:this|that|it)"
    r"(?:'s|\s+is)\s+)?|^\W*)(?:correct|right|true|accurate|valid|yes)\b(?!\s+(?:to|of|hand|side)\b)"
    r"|[√✓✔✅☑]|正确|符合|(?:是|才)?对的|对(?=[,，。;；!！\s]|$)",
    FLAGS,
)
JOINED = re.compile(r"[\s\"')(\],、/&和与及或]*(?:(?:and|or|nor)\s+)?(?:option\s+|选项)?", re.IGNORECASE)
FAR = 300  # characters between a choice and what is said of it


@lru_cache
def _token(names: Naming) -> re.Pattern[str]:
    """The choices, and the words that judge them."""
    return re.compile(
        rf"(?P<others>\b(?:others?|remaining|the rest)\b|其他|其余|另外)"
        rf"|(?P<out>\b(?:neither|rul(?:e|ing) out|eliminat(?:e|ing)|exclud(?:e|ing)|reject|discard)\b"
        rf"|排除了?(?=\s*{names.letter})"
        rf"|(?:\bnot|n't)(?: be)?(?=\s+(?:option\s+)?{names.letter})|不[是选](?={names.letter}))"
        rf"|(?P<subject>{names.letter_alone}|{names.mark})|(?P<wrong>{WRONG.pattern})|(?P<right>{RIGHT.pattern})"
        rf"|(?P<contrast>\b(?:but|however|yet)\b|但|然而|不过|可是)",
        FLAGS,
    )


def verdicts(text: str, names: Naming) -> dict[str, bool]:
    """For each choice that the reply judges, whether it calls it right; the last verdict on each counts."""
    judged_right: dict[str, bool] = {}
    group: list[str] = []  # the choices that the next verdict is about
    judged, contrast, out, end = False, False, False, 0
    for token in _token(names).finditer(text):
        kind = token.lastgroup
        if kind == "out":  # the choices that follow are wrong: "we can rule out A and C"
            out, group, end = True, [], token.end()
        elif kind == "subject":
            letter = names.letter_of(token["subject"])
            joined = JOINED.fullmatch(text, end, token.start()) is not None
            out = out and joined
            group = [*group, letter] if joined and not judged else [letter]
            judged, contrast, end = False, False, token.end()
            if out:
                judged_right[letter] = False
        elif kind in ("wrong", "right") and group and not out and token.start() - end < FAR:
            if not judged or contrast:
                judged_right.update(dict.fromkeys(group, kind == "right"))
            judged, contrast = True, False
        elif kind == "others":
            group = []
        elif kind == "contrast":
            contrast = True
    return judged_right


def choice_from(verdicts: Mapping[str, bool], asks_for_wrong: bool, letters: str) -> str | None:
    """The choice that the verdicts leave, None where that is none or several.

    It is the one called right; the one not judged when all others are called wrong; or the one called wrong when all
    others are called right, or when the question asks for a wrong one.
    """
    right = [letter for letter in verdicts if verdicts[letter]]
    wrong = [letter for letter in verdicts if not verdicts[letter]]
    if len(right) == 1:
        return right[0]
    if len(wrong) == len(letters) - 1 and not (asks_for_wrong and len(wrong) == 1):
        return next(letter for letter in letters if letter not in wrong)
    return wrong[0] if len(wrong) == 1 and (asks_for_wrong or len(right) == len(letters) - 1) else None
