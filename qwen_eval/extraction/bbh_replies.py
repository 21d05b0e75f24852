"""BBH's robust extraction: the answer that a careful reader finds in a reply (used by evaluate_bbh.py).

What is looked for depends on the kind of the task's targets: an option `(B)`, a whole number, one of two words (Yes or
No, True or False, valid or invalid), closing brackets, or words. It is looked for behind the last announcement ("the
answer is"), else in the last line of the reply.
"""

from __future__ import annotations

import re

from qwen_eval.extraction.numbers import read_number
from qwen_eval.extraction.replies import Text, plain_text, questions, sentence, without_reason

PAIRS = {word: pair for pair in (("yes", "no"), ("true", "false"), ("valid", "invalid")) for word in pair}
# "(B)", "option B", "b)", also in quotes or brackets.
OPTION = re.compile(
    r"[\s\"'\[{<:-]{0,8}(?:(?i:(?:the|option|choice|answer|is)\b|选项)\s*){0,4}[\"'\[{]{0,4}"
    r"(?:\(([A-Za-z])\)|((?![AI]\s+[a-z])[A-Z])(?![\w'=+])|([a-z])(?=\)|\W*$))"
)
# Without an announcement: "I choose (B)", "So B.", 故选B, "option (B) is right".
CHOSEN = re.compile(
    r"(?:\b(?i:choose|pick|select|so|therefore|thus|hence|is)\b|选)[\s,:]*(?:(?i:option|choice)\s*)?\(?([A-Z])\)?(?=\W*$)"
    r"|(?:(?i:\b(?:option|choice))\s*\(?|\()([A-Z])\)?\s+(?:is|must be)\s+(?:the\s+)?(?:right|correct|true|best)\b",
    re.MULTILINE,
)


def read_robust(reply: str, target: str, cot: bool, question: str = "") -> str:
    """The answer in the form of the target; "" where the reply gives none.

    cot: the reply is a chain of thought that ends in an answer; without one the whole reply is the answer.
    question: with its options, so that the text of an option counts as its letter.
    """
    reply = reply if cot else f"Answer: {reply}"
    if re.fullmatch(r"-?\d+", target):
        number = read_number(reply)
        return "" if number is None else f"{number:.15g}"
    for text in questions(reply):
        if answer := _extract(text, target, question):
            return answer
    return ""


def _extract(text: Text, target: str, question: str) -> str:
    lines = text.text.strip().split("\n")
    announced = [announcement.text for announcement in text.announced()]
    announced += [text.text[start:end] for start, end in reversed(text.bold)]
    if re.fullmatch(r"\([A-Z]\)", target):
        option = next(filter(None, (_option(place, question, announced=True) for place in announced)), "")
        return option or _chosen(text.text) or _option(lines[-1], question) or _option(lines[0], question)
    for place in [*announced, lines[-1], lines[0]]:
        if target.lower() in PAIRS:
            answer = _word(sentence(place), PAIRS[target.lower()])
        elif re.fullmatch(r"[\[\](){}<>\s]+", target):
            answer = _brackets(place)
        else:
            answer = _words(place, target)
        if answer:
            return answer
    return ""


def _chosen(text: str) -> str:
    """The option that is chosen last."""
    letters = [match[1] or match[2] for match in CHOSEN.finditer(text)]
    return f"({letters[-1]})" if letters else ""


def _option(place: str, question: str, announced: bool = False) -> str:
    """`(B)` for "(B)", "option B.", "B, the 24th", and for the text of option B; announced: for "the 24th (B)" too.

    "several" where it names more than one, "" where it names none.
    """
    if (match := OPTION.match(place)) and (letter := str(match[1] or match[2] or match[3] or "")):
        others = re.findall(r"\(([A-Z])\)", without_reason(sentence(place)[match.end() :]))
        return f"({letter.upper()})" if set(others) <= {letter.upper()} else "several"
    if announced and len(letters := set(re.findall(r"\(([A-Z])\)", sentence(place)))) == 1:
        return f"({letters.pop()})"
    answer = _plain(sentence(place))
    options = re.findall(r"^\(([A-Z])\) (.*)$", question.rpartition("Options:")[2], re.MULTILINE)
    same_text = [letter for letter, words in options if answer and answer == _plain(words)]
    return f"({same_text[0]})" if len(same_text) == 1 else ""


def _word(clause: str, pair: tuple[str, str]) -> str:
    """The word of the pair that the clause begins with, else the only one that is in it."""
    words = re.findall(r"[a-z]+", clause.casefold().replace("not valid", "invalid"))
    of_the_pair = {word for word in words if word in pair}
    if words and words[0] in pair and words[1:2] != ["or"]:
        return str(words[0])
    return of_the_pair.pop() if len(of_the_pair) == 1 and len(words) < 20 else ""


def _brackets(place: str) -> str:
    """The brackets that the text begins with, a space between them."""
    match = re.match(r"[\s\"'\\]*((?:[\[\](){}<>][\s,\\\"']*)+)", place.replace("\n", "  "))
    return " ".join(re.sub(r"[\s,\\\"']", "", match[1])) if match else ""


def _words(place: str, target: str) -> str:
    """The words of the first sentence, or of a list up to a blank line where that is the target."""
    listed = re.sub(r"(?<!\S)(?:\d+[.)]|[-*•])\s+", "", place.strip().split("\n\n")[0])
    forms = [_plain(part) for part in (sentence(place), listed, listed.split("\n")[0])]
    return next((words for words in forms if words == _plain(target)), forms[0])


def _plain(words: str) -> str:
    """In lower case, without quotes, commas and full stops: how lists of words and options are compared."""
    words = re.sub(r"[\"'“”]|,\s*and\b", " ", plain_text(words).casefold())
    return " ".join(re.sub(r"[,;.!](?=\s|$)|->|[>\[\]]", " ", words).split())


def same(answer: str, target: str) -> bool:
    """Whether an answer of `read_robust` is the target; case, spaces and quotes make no difference."""
    if target.lower() in PAIRS or re.fullmatch(r"\([A-Z]\)|-?\d+", target):
        return answer.casefold() == target.casefold()
    if re.fullmatch(r"[\[\](){}<>\s]+", target):
        return answer.replace(" ", "") == target.replace(" ", "")
    return _plain(answer) == _plain(target)
