"""What HumanEval+ and MBPP+ share: how EvalPlus compares a result with that of its own solution.

Source: evalplus.eval.unsafe_execute of evalplus 0.3 (Liu et al. 2023). The text below runs beside the tests, in the
sandbox's tester, which has no numpy: `close` is `numpy.allclose` for the values that a program can hand over.
"""

from collections.abc import Sequence
from typing import Any

COMPARISON = """
import cmath
import copy

def is_floats(value):
    return isinstance(value, float) or isinstance(value, (list, tuple)) and bool(value) and all(map(is_float, value))

def is_float(value):
    return isinstance(value, float)

def close(got, expected, atol):
    if isinstance(expected, (list, tuple)):
        return len(got) == len(expected) and all(close(g, e, atol) for g, e in zip(got, expected))
    if cmath.isfinite(got) and cmath.isfinite(expected):
        return abs(got - expected) <= atol + 1e-7 * abs(expected)
    return got == expected

def nearly(got, expected, atol):
    return bool(atol) and type(got) is type(expected) and close(got, expected, atol)
"""


def given(name: str, inputs: Sequence[Any], solution: str, atol: float) -> str:
    """The beginning of a test: NAME, ATOL, INPUTS and `reference`, the globals of EvalPlus's own solution.

    inputs: for each call the list of its arguments; atol: the absolute tolerance of the problem.
    """
    names = "nan, inf, nanj, infj = float('nan'), float('inf'), complex(0, float('nan')), complex(0, float('inf'))\n"
    values = f"NAME, ATOL = {name!r}, {atol!r}\nINPUTS = {inputs!r}\n"
    return f"{names}{values}reference = {{}}\nexec({solution!r}, reference)\n{COMPARISON}"
