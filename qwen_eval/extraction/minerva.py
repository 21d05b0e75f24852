"""MATH's protocol extraction and its normal form of an answer: Minerva, Lewkowycz et al. 2022, appendix D.1."""

import re


def extract(reply: str) -> str | None:
    """protocol: the announced final answer, else the last \\boxed{}; None without either."""
    announced = re.search(r"Final Answer: The final answer is(.*?)\. I hope it is correct", reply, re.DOTALL)
    return announced.group(1).strip() if announced else last_boxed(reply)


def last_boxed(text: str) -> str | None:
    """What stands in the last \\boxed{...} or \\fbox{...} with balanced braces, or after the last `\\boxed `."""
    start = max(text.rfind("\\boxed"), text.rfind("\\fbox"))
    if start < 0:
        return None
    rest = re.sub(r"^\\(?:boxed|fbox)", "", text[start:])
    if not rest.startswith("{"):
        return re.split(r"[$\n.]", rest.strip(), maxsplit=1)[0].strip() or None
    depth = 0
    for index, char in enumerate(rest):
        depth += (char == "{") - (char == "}")
        if depth == 0:
            return rest[1:index]
    return None


# --- the normal form ---

# In this order: articles, escapes, spaces (so that the units below are found in the middle of words, too), \mbox.
REPLACED = (
    ("an ", ""), ("a ", ""), (".$", "$"), ("\\$", ""), ("\\ ", ""), (" ", ""), ("mbox", "text"),
    (",\\text{and}", ","), ("\\text{and}", ","), ("\\text{m}", "\\text{}"),
)  # fmt: skip
DROPPED = (
    "square", "ways", "integers", "dollars", "mph", "inches", "ft", "hours", "km", "units", "\\ldots", "sue", "points",
    "feet", "minutes", "digits", "cents", "degrees", "cm", "gm", "pounds", "meters", "meals", "edges", "students",
    "childrentickets", "multiples", "\\text{s}", "\\text{.}", "\\text{\ns}", "\\text{}^2", "\\text{}^3", "\\text{\n}",
    "\\text{}", "\\mathrm{th}", "^\\circ", "^{\\circ}", "\\;", ",\\!", "{,}", '"', "\\dots",
)  # fmt: skip


def normalise(answer: str) -> str:
    """The Minerva normal form of an answer: what follows the last `=`, without units, dollars and decoration."""
    answer = answer.split("=")[-1]
    for old, new in REPLACED:
        answer = answer.replace(old, new)
    for word in DROPPED:
        answer = answer.replace(word, "")
    answer = re.sub(r".*?\$(.*?)\$.*", r"$\1$", answer)  # only the formula of "it is $x$ in all"
    for command in ("text", "textbf", "overline"):
        answer = re.sub(r"\\" + command + r"\{(.*?)\}", r"\1", answer)
    answer = re.sub(r"\\boxed\{(.*)\}", r"\1", answer)
    answer = re.sub(r"frac([^{])(.)", r"frac{\1}{\2}", answer)  # \frac12
    answer = re.sub(r"sqrt([^{])", r"sqrt{\1}", answer)  # \sqrt2
    answer = answer.replace("$", "")
    return answer.replace(",", "") if answer.replace(",", "").isdigit() else answer
