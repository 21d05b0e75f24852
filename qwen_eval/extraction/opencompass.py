"""Protocol extraction from replies to the few-shot chat prompts, as OpenCompass of July to December 2023 did it.

The few-shot chat figures of the model cards were made with it (`first_capital_postprocess`, `gsm8k_postprocess`), so
its defects are kept: "The answer is B" gives T, "about 350.5" gives 3505, "18 cm²" gives ². Both give "" where
there is nothing to read.
"""

from collections.abc import Mapping


def first_capital(reply: str) -> str:
    """The first upper-case character of the reply, whatever it is."""
    return next((character for character in reply if character.isupper()), "")


def read_letter(row: Mapping[str, str], reply: str) -> str:
    """The same as an extraction of a multiple-choice question, whose row does not count."""
    return first_capital(reply)


def read_digits(reply: str) -> str:
    """The digits of the last word with a digit in the first paragraph, which ends at a blank line.

    Words are parted by single blanks only, so that a line end is no end of a word, and a digit is what Python calls one
    (`²` too). Sign, decimal point and commas are dropped: -3 is 3 and 20,800.00 is 2080000.
    """
    words = reply.split("\n\n")[0].split(" ")
    last = next((word for word in reversed(words) if any(map(str.isdigit, word))), "")
    return "".join(filter(str.isdigit, last))
