"""The letter A, B, C or D in a chat model's reply to a multiple-choice question: protocol and robust extraction.

Used by evaluate_mmlu.py (`read_letter_en`), evaluate_ceval.py and evaluate_cmmlu.py (`read_letter_zh`) with --chat.

* protocol (`read_letter_*`): the five steps that the reported numbers were measured with, defects included. It always
  gives a letter: where no step finds one, the choice nearest in spelling is taken, so an empty reply counts as `A`.
  "We can rule out D and B. Therefore, A." gives D, and "A plant needs light. So B" gives A.
* robust (`robust_letter_*`, see letters.py): what a careful reader would say; None when the reply names no choice.

`row` holds the texts of the choices under `A`, `B`, `C`, `D` and, for Chinese, the `question`.
"""

from __future__ import annotations

import logging
import re
from collections.abc import Mapping

from qwen_eval.extraction.choice_words import LETTERS
from qwen_eval.extraction.letters import read_letter

GAP = "[^ABCD]"  # between a keyword and its letter no other letter of a choice may stand

# --- protocol, English ---

NOT_EN = r"(?:n't|not)"
PROTOCOL_EN = [
    # 1: "choose B"; "the answer is B", "choice: B" - unless a negation follows the keyword. The keyword is not matched
    #    without regard to case ("ANSWER B" is left to step 4), and the verb may be absent ("answer B").
    rf"(?:[Cc]hoose|(?:[Aa]nswer|[Cc]hoice)(?!{GAP}{{0,20}}?{NOT_EN}){GAP}{{0,10}}?\b(?:|is|:|be)\b)"
    rf"{GAP}{{0,20}}?\b([ABCD])\b",
    # 2: "B is correct", "B would be right", not "B is not correct"
    rf"\b([ABCD])\b(?!{GAP}{{0,8}}?{NOT_EN}{GAP}{{0,5}}?(?:correct|right)){GAP}{{0,10}}?\b(?:correct|right)\b",
    # 3: "B. because", "B, C", "B"
    r"^([ABCD])(?:\.|,|:|$)",
    # 4: the first letter that is no part of a word and no variable ("A=3")
    r"(?<![a-zA-Z])([ABCD])(?![a-zA-Z=])",
]


def read_letter_en(row: Mapping[str, str], reply: str) -> str:
    """Protocol extraction from a reply to an English question."""
    for letter in _longest_first(row):
        reply = re.sub(re.escape(row[letter].rstrip(".")), letter, reply, flags=re.IGNORECASE)
    return _first_match(PROTOCOL_EN, reply) or _nearest_choice(row, reply)


# --- protocol, Chinese ---

IS_ZH = "(?:是|选|为|：|:|】)"
NOT_ZH = "(?:不|非)"
RIGHT_ZH = "(?:正确|对[的，。：]|符合)"
PROTOCOL_ZH = [
    # 1: 选B。 应该选择B选项， 答案是B。 答案：B - not 答案不是B. What may follow the letter is limited: "选择 B 吧" is
    #    left to step 4.
    rf"(?:(?:选|选择|选定)[：:]?\s*|(?:答案|选项)(?!{GAP}{{0,10}}?{NOT_ZH}{GAP}{{0,10}}?{IS_ZH})"
    rf"{GAP}{{0,10}}?{IS_ZH}{GAP}{{0,10}}?)"
    r"([ABCD])(?:选项)?(?:\)|。|\.|，|,|．|、|A|B|C|D|$|：|:|）)",
    # 2: B选项正确， B项符合题意， B是对的 - not B项不正确
    rf"([ABCD])(?:选?项)?(?!{GAP}{{0,4}}?{NOT_ZH}{GAP}{{0,4}}?{RIGHT_ZH}){GAP}{{0,4}}?{RIGHT_ZH}",
    # 3: B。 (B) （B） B：
    r"^[(（]?([ABCD])(?:。|\)|）|\.|，|,|．|：|:|$)",
    # 4: as in English
    r"(?<![a-zA-Z])([ABCD])(?![a-zA-Z=])",
]


def read_letter_zh(row: Mapping[str, str], reply: str) -> str:
    """Protocol extraction from a reply to a Chinese question (C-Eval; CMMLU by the same rules)."""
    # A model often repeats the question with the blank filled in: the words before the blank then announce the answer.
    last_clause = row["question"].rstrip("。").split("。")[-1].split("_")
    before_blank, after_blank = last_clause[0], last_clause[-1]
    if len(before_blank.strip()) > 4:
        reply = reply.replace(before_blank, "答案是")
    if len(after_blank.strip()) > 4:
        reply = reply.replace(after_blank, "")
    for letter in _longest_first(row):
        reply = reply.replace(row[letter].rstrip("。"), letter)
    return _first_match(PROTOCOL_ZH, reply) or _nearest_choice(row, reply)


def _longest_first(row: Mapping[str, str]) -> list[str]:
    """The letters by the length of their texts, so that "40" is not replaced inside "140"."""
    return sorted(LETTERS, key=lambda letter: len(row[letter]), reverse=True)


def _first_match(patterns: list[str], reply: str) -> str | None:
    for pattern in patterns:
        if match := re.search(pattern, reply):
            return match.group(1)
    return None


def _nearest_choice(row: Mapping[str, str], reply: str) -> str:
    from thefuzz import process

    logging.getLogger("thefuzz.process").setLevel(logging.ERROR)  # it warns of every reply without a letter or digit
    texts = [row[letter] for letter in LETTERS]
    return LETTERS[texts.index(process.extractOne(reply, texts)[0])]


# --- robust: the same for both languages, for a Chinese question may be answered in English ---

robust_letter_en = robust_letter_zh = read_letter
