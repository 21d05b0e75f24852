"""Robust extraction of a letter: the choice that a careful reader of English and Chinese finds in a reply.

`read_letter(row, reply)` looks, in this order, for

1. an announcement ("the answer is B", "I choose B", 故选B, B是最佳选择, a box); of several the last one counts;
2. bold words that name one choice; a letter that the reply begins with, or that stands alone in its last line;
3. verdicts on the choices ("A is wrong because ... B is right", A错误。B正确。): the one called right, the one that is
   left when all others are called wrong, or the one wrong among all others right;
4. the only choice that is named at all, by its text or by its letter.

"A and B", or an announcement of several letters, gives no letter.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from functools import lru_cache
from typing import NamedTuple

from qwen_eval.extraction.choice_verdicts import RIGHT, WRONG, choice_from, verdicts
from qwen_eval.extraction.choice_words import FLAGS, LETTERS, OPENING, Naming, naming
from qwen_eval.extraction.replies import NEGATION, Text, questions, supposed


def read_letter(row: Mapping[str, str], reply: str, letters: str = LETTERS) -> str | None:
    """The letter that the reply gives; None where it gives none, or several.

    row: the texts of the choices under their letters, and the `question`, which may ask for the wrong one. letters: of
    the choices, 2 to 26 of them from A on.
    """
    asks_for_wrong = ASKS_FOR_WRONG.search(row.get("question", "")) is not None
    names, patterns = naming(letters), _patterns(naming(letters))
    for text in questions(reply):
        text = text._replace(text=names.mark_choices(row, text.text))
        letter = _announced(text, asks_for_wrong, patterns)
        if letter is None:
            letter = _bold(text, patterns) or _first(text.text, patterns) or _last_line(text.text, patterns)
        if letter is None:
            judged = verdicts(text.text, names)
            letter = choice_from(judged, asks_for_wrong, letters) or _only_one_named(text.text, judged, names)
        if letter:
            return letter if letter in letters else None
    return None


class _Patterns(NamedTuple):
    """What `read_letter` looks for, with the letters of a question."""

    names: Naming
    chosen: tuple[re.Pattern[str], ...]
    wrong_one: re.Pattern[str]
    several: re.Pattern[str]
    direct: re.Pattern[str]
    named: re.Pattern[str]
    first: re.Pattern[str]
    head: re.Pattern[str]
    last_line: re.Pattern[str]


# --- 1: announced ---

HEDGE = r"(?:(?:probably|most likely|likely|clearly|definitely|actually|indeed|simply|just|obviously|certainly)\s+)*"
ENDS = r"(?=[^\w\n]*$)"
BEST = rf"(?:(?!{NEGATION}|\b(?:least|worst|second|next|false|if)\b)[\w'-]+\s+){{0,4}}?"


def _chosen(letter: str, choice: str) -> tuple[str, ...]:
    """Patterns of announcements beside those of `replies`: "I choose B", "B is the best answer", 故选B."""
    return (
        r"\b(?:choose|chose|pick|select|go(?:ing)? with|opt for|vote for|settle on|guess|left with"
        rf"|lean(?:ing)? (?:to|towards?))\b{choice}(?!\s+(?:would|is|was)\b)",
        rf"\b(?:correct|right|best|selected)\s+(?:option|choice|one|statement)\b"
        rf"(?:(?!{NEGATION}|{letter})[^.;:\n]){{0,60}}?(?:\b(?:is|be)\b|[:=])\s*{HEDGE}{choice}",
        rf"(?<!option )(?<!choice )\b(?:choice|option)\s*(?:\bis\b|[:=])\s*{HEDGE}{choice}",
        rf"\b(?:must|should|would|has to|can only) be{choice}",
        rf"\b(?:no,? wait|wait|actually|i mean|my (?:pick|guess|selection|vote|conclusion) is)\b,?\s*{HEDGE}{choice}",
        r"\b(?:therefore|thus|hence|so|conclusion|overall|finally|it's|it is|think|believe|say|leaves|leaving|"
        r"probably|likely|rather)\b"
        rf"[,:]?\s+(?:(?:it|this|that)(?:'s|\s+is)\s+|that leaves\s+)?{HEDGE}{choice}{ENDS}",
        rf"{choice}[\s\"')\]]*(?:is|would be|must be|should be|seems|appears|remains|looks)\s+(?:to be\s+)?{BEST}"
        rf"(?:answer|choice|option|one|response|solution|best|(?:more|most) \w+)\b"
        rf"(?!\s+(?:of|if|only if)\b|\s+(?:that|which)\s+\w+\s+(?:not|wrong|incorrect|false)\b)",
        rf"(?:选择|选定|选的是|选了|选){choice}",
        rf"(?:而是|应为|应是|应该是|应当是|应该为|[,，]\s*为|^\s*是){choice}",
        rf"(?:综上(?:所述)?|因此|所以|故|于是|可见|可知)[,，:]?\s*(?:应?该?(?:是|为))?{choice}(?:选?项)?{ENDS}",
        rf"(?:正确|对|符合[^。\n,，;]{{0,8}}|最佳|合适|恰当|准确|合理)的?(?:选?项|选择|答案|说法|一项|描述|表述)?"
        rf"(?:应?该?(?:是|(?<![因认以])为)|:){choice}",
        rf"{choice}\)?\s*(?:选?项)?\s*(?:是|为|才是|即为|就是)?(?:本题|此题)?的?(?:(?:最佳|最好|正确)的?(?:答案|选项|选择|一项)"
        r"|最为?(?:合适|恰当|符合|准确|正确|合理))",
        rf"{choice}\)?\s*(?:选?项)?\s*(?:是|为|才是|即为|就是)(?:本题|此题)?的?答案",
    )


ASKS_FOR_WRONG = re.compile(
    r"不(?:正确|恰当|符合|属于|包括|合理|准确|是|对)|错误|有误|\b(?:not\s+(?:true|correct|accurate)|except|incorrect|false|wrong)\b",
    re.IGNORECASE,
)
NEGATED = re.compile(
    r"(?:(?:\bnot|n't|\bnever|\bcannot)\s+(?:\w+\s+)?|不[能可应该会宜要]{0,2}|[误错别勿]|如果|若)$", re.IGNORECASE
)
NONE = "none"  # an announcement that names several choices


@lru_cache
def _patterns(names: Naming) -> _Patterns:
    return _Patterns(
        names,
        chosen=tuple(re.compile(pattern, FLAGS) for pattern in _chosen(names.letter, names.choice)),
        wrong_one=re.compile(
            rf"(?:错误|有误|不正确|不(?:符合|属于|包括|恰当|合适)[^。\n,，;]{{0,8}}?)的?(?:选?项|说法|一项|描述|表述)?"
            rf"(?:是|为|:){names.choice}",
            FLAGS,
        ),
        several=re.compile(
            rf"[\s\"')\]}}】]*(?:选?项)?\s*(?:(?P<comma>,)\s*(?:and\s+|or\s+)?|/|&|、|\band\b|\bor\b|和|或|与|及|以及)"
            rf"{OPENING}(?:option\s+|选项)?(?P<choice>{names.letter}|{names.mark})",
            FLAGS,
        ),
        direct=re.compile(rf"[\s-]*{HEDGE}{names.choice}", FLAGS),
        named=re.compile(
            rf"\W*(?:(?:the|my|final|correct|right|best|is|选|是|为)\b\W*)*{names.choice}(?=[\s)\].:,，。、-]|$)", FLAGS
        ),
        first=re.compile(
            rf"[^\w{names.marks}]*(?:(?:option|choice|选项)\s*)?(?P<choice>{names.letter})(?:选?项)?"
            rf"(?=\s*(?:[.):、。,，;\]\"'-]|$))",
            FLAGS,
        ),
        head=re.compile(
            rf"(?:^|[.;。；!?]\s+)\W*(?:(?:option|choice) |选项)?((?-i:[A-{names.letters[-1]}]))\s*[.):、-]", FLAGS
        ),
        last_line=re.compile(
            rf"[^\w{names.marks}]*(?:(?:option|choice|选项)\s*)?{names.choice}(?:选?项)?[^\w{names.marks}]*", FLAGS
        ),
    )


def _announced(text: Text, asks_for_wrong: bool, patterns: _Patterns) -> str | None:
    """The letter of the last announcement, `NONE` where it names several, None without one."""
    by_place: dict[int, str] = {}
    for announcement in text.announced():
        if match := patterns.direct.match(announcement.text):
            by_place[announcement.start + match.start("choice")] = _one(announcement.text, match, patterns)
    for pattern in (*patterns.chosen, *([patterns.wrong_one] if asks_for_wrong else [])):
        for match in pattern.finditer(text.text):
            if not NEGATED.search(text.text[: match.start()][-20:]) and not supposed(
                text.text[: match.start("choice")]
            ):
                by_place.setdefault(match.start("choice"), _one(text.text, match, patterns))
    return by_place[max(by_place)] if by_place else None


def _one(text: str, match: re.Match[str], patterns: _Patterns) -> str:
    """The letter of the match, `NONE` where another one stands beside it ("A and B", A、B, but not "B, A is wrong")."""
    letter = patterns.names.letter_of(match["choice"])
    more = patterns.several.match(text, match.end())
    if more and patterns.names.letter_of(more["choice"]) != letter:
        rest = re.split(r"[.。;；\n]", text[more.end() :], maxsplit=1)[0]
        if not more["comma"] or not (WRONG.search(rest) or re.match(r"\s*\w", rest)):
            return NONE
    return letter


# --- 2: bold, first, last ---


def _bold(text: Text, patterns: _Patterns) -> str | None:
    """The letter in bold words, if there is just one, and nothing is said of its being right or wrong."""
    letters = set()
    for start, end in text.bold:
        words = text.text[start:end]
        if (match := patterns.named.match(words)) and not _judged(words[match.end() :] + text.text[end : end + 30]):
            letters.add(_one(words, match, patterns))
    return letters.pop() if len(letters) == 1 else None


def _first(text: str, patterns: _Patterns) -> str | None:
    """The letter that the reply begins with, unless it begins a list of all choices or a verdict on one."""
    match = patterns.first.match(text)
    heads = patterns.head.findall(text)
    if not match or _judged(text[match.end() : match.end() + 30]) or (heads[:1] == ["A"] and len(set(heads)) > 1):
        return None
    return None if patterns.several.match(text, match.end()) else patterns.names.letter_of(match["choice"])


def _last_line(text: str, patterns: _Patterns) -> str | None:
    """The letter that stands alone in the last line, with its text perhaps, unless that ends a list of the choices."""
    line = text.rstrip().rpartition("\n")[2]
    match = patterns.last_line.fullmatch(line)
    lists_choices = len(set(patterns.head.findall(text))) > 1
    return patterns.names.letter_of(match["choice"]) if match and not lists_choices else None


def _judged(after: str) -> bool:
    return (
        re.match(
            rf"\W{{0,4}}(?:{WRONG.pattern}|{RIGHT.pattern}|(?:is|are|was)\s+(?:not|in?correct|wrong|right)\b)",
            after,
            FLAGS,
        )
        is not None
    )


# --- 4: named at all ---

DENIED = re.compile(
    r"(?:\b(?:not|neither|nor|cannot be)\b|n't(?: be)?|不是|不[能应该可]?选|并非|也非)\W{0,3}(?:the\s+|an?\s+|in\s+)?$",
    re.IGNORECASE,
)


def _only_one_named(text: str, judged: Mapping[str, bool], names: Naming) -> str | None:
    named = _named(re.finditer(names.mark, text), text, names)
    named = named or _named(re.finditer(names.letter_alone, text), text, names)
    named -= {letter for letter in judged if not judged[letter]}
    return named.pop() if len(named) == 1 else None


def _named(matches: Iterator[re.Match[str]], text: str, names: Naming) -> set[str]:
    return {names.letter_of(match[0]) for match in matches if not DENIED.search(text[: match.start()][-20:])}
