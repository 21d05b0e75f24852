"""Robust extraction of a formula, and when two answers with units can be equal at all."""

from __future__ import annotations

import re
import unicodedata

from qwen_eval.extraction.replies import questions, sentence, without_reason

# --- extraction ---

NUMBER = r"-?(?:\d[\d,]*(?:\.\d+)?|\.\d+)"
MATH = r"\$\$?(?P<dollars>[^$]+?)\$\$?|\\\((?P<round>.+?)\\\)|\\\[(?P<square>.+?)\\\]"
ANY_MATH = re.compile(MATH, re.DOTALL)
AND = r"\s*(?:,|，|、|;|\band\b|\bor\b|和|或)\s*"
BARE = re.compile(rf"\W*{NUMBER}|\W*[A-Za-z]\s*=|{MATH}", re.DOTALL)  # begins with a value, not with words
PROSE = re.compile(r"(?<![\\A-Za-z{])[A-Za-z]{3,}")


def read_formula(reply: str) -> str | None:
    """The formula that the reply announces as its answer, else its last box, its last one in bold, its last formula or
    number; in LaTeX, without dollar signs around it. None without any.

    What follows it ("The answer is $2$. Check: ...", "2, as required") is no part of it.
    """
    for text in questions(reply, formulas=True):
        answers = [_latex(one.text) if one.boxed else _announced(one.text, one.outright) for one in text.announced()]
        values = [answer for answer in answers if answer and (re.search(r"\d", answer) or not PROSE.search(answer))]
        if answer := next((answer for answer in [*values, *answers] if answer), None):
            return answer
        for start, end in reversed(text.bold):
            if BARE.match(text.text[start:end]) and (answer := _announced(text.text[start:end], outright=False)):
                return answer
        if places := list(re.finditer(rf"{MATH}|(?P<number>{NUMBER})", text.text, re.DOTALL)):
            return _latex(_inside(places[-1]))
    return None


def _announced(behind: str, outright: bool) -> str | None:
    """The formula behind an announcement. outright: words may stand before it; else only where they end the reply
    ("Answer: even"), for they may begin a solution."""
    behind = behind.strip().lstrip(":").strip()
    if not ANY_MATH.match(behind):
        clause = without_reason(sentence(behind)).strip(" \t,\"'") or sentence(behind)
        whole = outright or BARE.match(clause) or len(behind) - len(clause) < 3
        if not clause or (PROSE.search(clause) and not whole):
            return None
        inside = ANY_MATH.search(clause)
        if inside is None:
            numbers = re.findall(NUMBER, clause)
            return _latex(numbers[-1] if len(PROSE.findall(clause)) > 2 and numbers else clause)
        behind = clause[inside.start() :]
    parts = []
    while formula := ANY_MATH.match(behind):
        parts.append(_inside(formula))
        behind = behind[formula.end() :]
        joined = re.match(AND, behind, re.IGNORECASE)
        if joined is None or not ANY_MATH.match(behind[joined.end() :]):
            break
        behind = behind[joined.end() :]
    unit = re.match(r"\s*(?:" + "|".join(UNITS.values()) + r")(?![A-Za-z])", behind, re.IGNORECASE)
    return _latex(", ".join(parts) + (f"\\text{{ {unit[0].strip()}}}" if unit else ""))


def _inside(formula: re.Match[str]) -> str:
    """What stands between the dollars or brackets."""
    return next(str(part) for part in formula.groups() if part is not None).strip()


SYMBOLS = {
    "π": r"\pi ", "∞": r"\infty ", "×": r"\times ", "·": r"\cdot ", "÷": "/", "≤": r"\le ", "≥": r"\ge ", "≠": r"\ne ",
    "°": r"^\circ ", "∪": r"\cup ", "∩": r"\cap ", "∈": r"\in ", "θ": r"\theta ", "α": r"\alpha ", "±": r"\pm ",
}  # fmt: skip


def _latex(text: str) -> str:
    """The formula in LaTeX, also where it has characters such as ½, x² and √2; without a full stop behind it."""
    text = re.sub("[¼-¾⅐-⅞]", lambda match: _fraction(match[0]), text)
    text = re.sub("[⁰¹²³⁴-⁹]+", lambda match: f"^{{{unicodedata.normalize('NFKC', match[0])}}}", text)
    text = re.sub(r"√\s*(\w+|\([^()]*\))", r"\\sqrt{\1}", text)
    for symbol, command in SYMBOLS.items():
        text = text.replace(symbol, command)
    text = re.sub(
        r",?\s*(?:\\(?:text|mbox)\s*\{\s*(?:and|or)\s*\}|(?<![A-Za-z\\])(?:and|or)(?![A-Za-z]))\s*", ", ", text
    )
    text = re.sub(r"(?<!\\)\$(?=[\d.])", r"\\$", text) if text.count("$") == 1 else text.replace("$", "\0")
    text = re.sub(r"(?<!\\)\0", "", text).replace("\0", "$")
    return text.strip().rstrip(".").strip()


def _fraction(character: str) -> str:
    top, _, bottom = unicodedata.normalize("NFKC", character).partition("\u2044")
    return f"\\frac{{{top}}}{{{bottom}}}"


# --- comparing ---

# Units that an answer may be right or wrong by. Where only one side names one, the question has fixed it.
UNITS = {
    "dollar": r"\\\$|dollars?|USD", "cent": r"cents?|¢",
    "mm": r"mm|milli(?:meter|metre)s?", "cm": r"cm|centi(?:meter|metre)s?", "m": r"met(?:er|re)s?",
    "km": r"km|kilo(?:meter|metre)s?", "inch": r"inch(?:es)?", "foot": r"f(?:ee|oo)?t", "yard": r"yards?",
    "mile": r"miles?", "second": r"sec(?:ond)?s?", "minute": r"min(?:ute)?s?", "hour": r"hours?|hrs?", "day": r"days?",
    "week": r"weeks?",
    "gram": r"grams?|gm", "kilogram": r"kg|kilograms?", "ounce": r"ounces?|oz", "pound": r"pounds?|lbs?",
    "degree": r"degrees?|\^\{?\\circ\}?", "radian": r"rad(?:ian)?s?",
}  # fmt: skip


def unit_of(answer: str) -> str | None:
    """The one known unit of an answer with a number in it; None without one, or with several ("mile per hour")."""
    if not re.search(r"\d", answer):
        return None
    units = [
        name for name, words in UNITS.items() if re.search(rf"(?<![A-Za-z\\])(?:{words})(?![A-Za-z])", answer, re.I)
    ]
    return units[0] if len(units) == 1 else None


def in_the_same_unit(gold: str, answer: str) -> str | None:
    """The answer without its unit, cents as dollars or dollars as cents where gold is; None for another unit."""
    wanted, given = unit_of(gold), unit_of(answer)
    if wanted is None or given is None:
        return answer
    unit = rf"(?:\\text\s*\{{\s*(?:{UNITS[given]})\s*\}}|(?:{UNITS[given]})(?![A-Za-z]))(?:\^\{{?[23]\}}?)?"
    value = re.sub(unit, "", answer, flags=re.IGNORECASE)
    if wanted == given:
        return value.strip()
    number = re.sub(r"[\s,{}]|\\!", "", value)
    if {wanted, given} == {"dollar", "cent"} and re.fullmatch(NUMBER, number):
        return f"{float(number) * (100 if wanted == 'cent' else 0.01):.10g}"
    return None
