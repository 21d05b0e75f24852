"""Read the letter A, B, C or D from what a chat model replied to a multiple-choice question.

Used by evaluate_mmlu.py (`read_letter_en`), evaluate_ceval.py and evaluate_cmmlu.py (`read_letter_zh`) with --chat.

Two readings of each reply:

* protocol (`read_letter_*`): the five steps the reported numbers were measured with, defects included. It always names
  a letter: where no step finds one, the choice nearest in spelling is taken, so that an empty reply counts as `A`. It
  believes "We can rule out D and B. Therefore, A." to say D, and "A plant needs light. So B" to say A.
* robust (`robust_letter_*`): what a careful reader would say; None when the reply names no answer.

`row` holds the texts of the choices under `A`, `B`, `C`, `D` and, for Chinese, the `question`.
"""

from __future__ import annotations

import logging
import re
import unicodedata
from collections.abc import Mapping

LETTERS = "ABCD"
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
    """The published reading of a reply to an English question."""
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
    """The published reading of a reply to a Chinese question (C-Eval; CMMLU by the same rules)."""
    # A model often says the question again with the blank filled in: the words before it then announce the answer.
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


# --- robust ---

# {X} is a letter that stands alone, or the whole text of a choice. The last statement in the reply counts: models think
# aloud and conclude at the end.
STATED_EN = [
    r"\b(?:answer|choice|option)\b(?:(?!\b(?:not|neither|nor|wrong|incorrect|option|answer|choice)\b|n't)[^.;\n]){0,40}?"
    r"(?:\bis\b|\bbe\b|:|=)\s*(?:probably |likely |clearly |therefore |option |choice |answer )*:?\s*{X}",
    r"\b(?:choose|pick|select|go with|must be|should be|would be)\s+(?:option |choice |answer )?{X}",
    r"\b(?:therefore|thus|hence|so)\b,?\s+(?:it is |the answer is |option )?{X}(?=\W*(?:$|\n))",
    r"^\W*(?:answer|choice|option)\W*{X}",
    r"{X}\W{0,3}(?:\s*(?:is|would be|must be|seems))\s+(?:clearly |probably |most likely )?(?:the )?(?:\w+ )?"
    r"(?:correct|right|best|true)\b",
]
STATED_ZH = [
    r"(?:答案|选项)(?:(?!不|非|错|答案)[^。；;\nA-D]){0,12}?(?:是|选|为|:|应)\s*[【\[(\"“]?\s*{X}",
    r"(?<!不)(?:选择|选定|选)\s*:?\s*[【\[(\"“]?\s*{X}",
    r"(?:而是|应为|应是|应该是|应当是|[，,]\s*为|^\s*是)\s*[【\[(\"“]?\s*{X}",
    r"{X}\)?\s*(?:选?项)?(?:的?说法|的?描述|的?表述)?\s*(?:是|才是|最)?(?:正确|对的|对[，,。!]|符合)",
]
ONLY_A_LETTER = r"^\W*(?:(?:the|answer|option|choice|答案|选项|选|是|为)\W*)*([ABCD])(?:选?项)?\W*$"
STARTS_WITH_LETTER = r"^\W*([ABCD])\s*(?:[.):、。,，]|\n|$)"


def robust_letter_en(row: Mapping[str, str], reply: str) -> str | None:
    """What a careful reader of English takes for the answer; None when the reply gives none."""
    # "A" is also an article: a lone A counts as a letter only where a word cannot follow it.
    return _robust(row, reply, STATED_EN, lone=r"(?<![\w'])(?:[BCD]|A(?=\W*$|[).,:;]))(?![\w'=+^])", ignore_case=True)


def robust_letter_zh(row: Mapping[str, str], reply: str) -> str | None:
    """What a careful reader of Chinese takes for the answer; None when the reply gives none."""
    return _robust(row, reply, STATED_ZH, lone=r"(?<![A-Za-z0-9])[ABCD](?![A-Za-z0-9=股])", ignore_case=False)


def _robust(row: Mapping[str, str], reply: str, stated: list[str], lone: str, ignore_case: bool) -> str | None:
    # NFKC makes full-width letters, colons and brackets plain ones; emphasis and \boxed{} are no part of the answer.
    reply = re.sub(r"\\boxed\{\\?(?:text\{)?\s*([^{}]*)\}+|[*`$]", r"\1", unicodedata.normalize("NFKC", reply)).strip()
    texts = {c: unicodedata.normalize("NFKC", row[c]).strip().rstrip(".。").strip() for c in LETTERS}
    flags = re.IGNORECASE if ignore_case else 0
    if match := re.search(ONLY_A_LETTER, reply, flags) or re.search(STARTS_WITH_LETTER, reply):
        starting = match.group(1).upper()
    else:
        starting = None

    def letter_of(said: str) -> str | None:
        whole = (c for c, text in texts.items() if text and re.fullmatch(re.escape(text), said, flags))
        return said if said in LETTERS else next(whole, None)

    edges = (r"(?<!\w)", r"(?!\w)") if ignore_case else ("", "")  # Chinese puts no space between words
    any_text = "|".join(edges[0] + re.escape(text) + edges[1] for text in sorted(texts.values(), key=len)[::-1] if text)
    any_text = any_text or "(?!)"
    # (?-i:...): a letter is a capital even where the words around it may be in any case.
    answer = rf"\(?((?-i:(?<![A-Za-z])[ABCD](?![A-Za-z'=]))|{any_text})"
    found = [m for pattern in stated for m in re.finditer(pattern.replace("{X}", answer), reply, flags)]
    if found:
        return letter_of(max(found, key=lambda m: (m.start(1), len(m.group(1)))).group(1))
    if starting:
        return starting

    # Nothing was stated outright: a single choice that is named, by its text or by its letter, must be meant.
    named = {letter_of(said) for said in re.findall(any_text, reply, flags)} or set(re.findall(lone, reply))
    return named.pop() if len(named) == 1 else None
