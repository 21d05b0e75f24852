"""Tiny Python functions with docstrings and tests, as HumanEval and MBPP have them.

`program(dice, held)` draws one: a description, its body, and calls with results that are computed by running the body.
The key that may be held out is the kind with its numbers; a function's name says nothing about what it does.
"""

from __future__ import annotations

from typing import Any, NamedTuple

from lesson import held_out
from words import SYLLABLES
from world import Dice

# kind -> (parameter, what it returns, the expression); {n} and {m} are small numbers.
KINDS: dict[str, tuple[str, str, str]] = {
    "plus": ("x", "x plus {n}", "x + {n}"),
    "minus": ("x", "x minus {n}", "x - {n}"),
    "times": ("x", "x times {n}", "x * {n}"),
    "times_plus": ("x", "x times {n}, plus {m}", "x * {n} + {m}"),
    "divisible": ("x", "whether x can be divided by {n}", "x % {n} == 0"),
    "greater": ("x", "whether x is greater than {n}", "x > {n}"),
    "each_plus": ("items", "the list with {n} added to each item", "[x + {n} for x in items]"),
    "each_times": ("items", "the list with each item times {n}", "[x * {n} for x in items]"),
    "keep_over": ("items", "the items that are greater than {n}", "[x for x in items if x > {n}]"),
    "keep_under": ("items", "the items that are less than {n}", "[x for x in items if x < {n}]"),
    "sum_over": ("items", "the sum of the items greater than {n}", "sum(x for x in items if x > {n})"),
    "sum_plus": ("items", "the sum of the items, plus {n}", "sum(items) + {n}"),
    "largest_times": ("items", "the largest item, times {n}", "max(items) * {n}"),
    "first": ("items", "the first {n} items", "items[:{n}]"),
    "last": ("items", "the last {n} items", "items[-{n}:]"),
    "start": ("text", "the first {n} letters of the text", "text[:{n}]"),
    "repeat": ("text", "the text {n} times", "text * {n}"),
    "length_times": ("text", "the length of the text, times {n}", "len(text) * {n}"),
    "plus_times": ("x", "x plus {n}, all times {m}", "(x + {n}) * {m}"),
    "minus_times": ("x", "x minus {n}, all times {m}", "(x - {n}) * {m}"),
    "rest_over": ("x", "whether x divided by {n} leaves more than {m}", "x % {n} > {m}"),
    "count_over": ("items", "how many items are greater than {n}", "len([x for x in items if x > {n}])"),
    "largest_minus": ("items", "the largest item, minus {n}", "max(items) - {n}"),
    "smallest_plus": ("items", "the smallest item, plus {n}", "min(items) + {n}"),
    "over_times": ("items", "the items greater than {n}, each times {m}", "[x * {m} for x in items if x > {n}]"),
    "under_plus": ("items", "the items less than {n}, each plus {m}", "[x + {m} for x in items if x < {n}]"),
    "sum_under_times": ("items", "the sum of the items under {n}, times {m}", "sum(x for x in items if x < {n}) * {m}"),
    "start_times": ("text", "the first {n} letters of the text, {m} times", "text[:{n}] * {m}"),
    "end_start": ("text", "the last {n} letters of the text, then the text", "text[-{n}:] + text"),
}
NUMBERS = range(2, 13)


class Program(NamedTuple):
    name: str
    parameter: str
    returns: str
    expression: str
    calls: tuple[tuple[Any, Any], ...]  # argument, result

    @property
    def signature(self) -> str:
        return f"def {self.name}({self.parameter}):\n"

    @property
    def body(self) -> str:
        return f"    return {self.expression}\n"

    @property
    def prompt(self) -> str:
        """As a HumanEval problem: signature and docstring with one example."""
        argument, result = self.calls[0]
        docstring = f'    """ Return {self.returns}.\n    >>> {self.name}({argument!r})\n    {result!r}\n    """\n'
        return self.signature + docstring

    @property
    def humaneval_test(self) -> str:
        lines = [f"    assert candidate({a!r}) == {r!r}\n" for a, r in self.calls]
        return f"\n\nMETADATA = {{}}\n\n\ndef check(candidate):\n{''.join(lines)}"

    @property
    def task(self) -> str:
        """As MBPP says it."""
        return f"Write a function to return {self.returns}."

    @property
    def tests(self) -> list[str]:
        return [f"assert {self.name}({a!r}) == {r!r}" for a, r in self.calls[:3]]


def _argument(parameter: str, dice: Dice) -> Any:
    if parameter == "x":
        return 1 + dice.below(20)
    if parameter == "items":
        return [1 + dice.below(15) for _ in range(3 + dice.below(2))]
    return dice.pick(SYLLABLES).en + dice.pick(SYLLABLES).en


def program(dice: Dice, held: bool) -> Program:
    while True:
        kind, n, m = dice.pick(sorted(KINDS)), dice.pick(NUMBERS), 1 + dice.below(9)
        if kind in ("first", "last", "start", "start_times", "end_start"):
            n = 2 + n % 3  # more than the list has would change nothing
        if held_out(kind, n) == held:
            break
    parameter, returns, expression = KINDS[kind]
    expression, returns = expression.format(n=n, m=m), returns.format(n=n, m=m)
    calls: list[tuple[Any, Any]] = []
    while len(calls) < 4:
        argument = _argument(parameter, dice)
        if argument not in [a for a, _ in calls]:
            # The expression is our own, from KINDS.
            calls.append((argument, eval(expression, {parameter: argument})))
    name = dice.pick(SYLLABLES).en + "_" + dice.pick(SYLLABLES).en
    return Program(name, parameter, returns, expression, tuple(calls))
