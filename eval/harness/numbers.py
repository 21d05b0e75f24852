"""The number that a reply ends with, read as a person would."""

import math
import re
from typing import Any

# A sign, thousands with commas or plain digits, decimals. A minus between two numbers is an operator ("10-3 is 7, 10-7"
# ends in 7), a dollar may stand behind the sign, a full stop that ends the sentence is no decimal point, and leading
# zeros do no harm.
ANY_NUMBER = re.compile(
    r"(?:(?<![\w)\]%.])(?P<sign>[+\-−])\$?)?(?P<number>(?:[0-9]{1,3}(?:,[0-9]{3})+(?![0-9])|[0-9]+)(?:\.[0-9]+)?|\.[0-9]+)"
)


def last_number(text: str) -> float | None:
    """The last number in `text` with sign, commas and decimals; None without one."""
    found = list(ANY_NUMBER.finditer(text))
    if not found:
        return None
    value = float(found[-1]["number"].replace(",", ""))
    return -value if found[-1]["sign"] in ("-", "−") else value


def close(left: Any, right: Any) -> bool:
    """Equal within 1e-4; False where one is missing or too large for a float."""
    try:
        return left is not None and right is not None and math.isclose(left, right, rel_tol=0, abs_tol=1e-4)
    except (OverflowError, TypeError):
        return False
