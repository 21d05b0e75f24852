"""Word problems with worked steps, as GSM8K has them, and exercises in LaTeX, as MATH has them.

`story(world, dice, held)` and `exercise(dice, held)` draw one. What decides an answer is a kind and two or
three numbers; those of the held-out ones are never met in training.
"""

from __future__ import annotations

from typing import NamedTuple

from lesson import held_out
from world import Dice, World

GOODS = "lamps ropes bells candles hats pots drums clocks nets apples loaves cups spoons boats keys".split()


class Story(NamedTuple):
    question: str
    steps: str
    answer: int

    @property
    def expression(self) -> str:
        """The steps as Python: the last one, with the first in place of its result."""
        sides = [step.split(" = ")[0] for step in self.steps.split("\n")]
        if len(sides) == 1:
            return sides[0]
        return sides[0] + sides[1][sides[1].index(" ") :]

    @property
    def gold(self) -> str:
        """The row's answer as in GSM8K: the steps, then `#### N`."""
        return f"{self.steps}\n#### {self.answer}"

    @property
    def reply(self) -> str:
        """The answer as the examples of the 8-shot prompt end."""
        return f"{self.steps}\nThe answer is {self.answer}"


def _numbers(dice: Dice, kind: str, held: bool) -> tuple[int, int, int]:
    while True:
        if kind in ("times", "times_plus", "share"):
            a, b, c = 2 + dice.below(8), 2 + dice.below(8), 1 + dice.below(9)
        else:
            a, b = 5 + dice.below(45), 2 + dice.below(38)
            c = 1 + dice.below(min(a + b - 1, 20))
        if kind == "minus":
            a, b = a + b, a
        if held_out(kind, a, b) == held:
            return a, b, c


STORY_KINDS = ("plus", "minus", "plus_minus", "times", "times_plus", "share")


def story(world: World, dice: Dice, held: bool) -> Story:
    """One word problem about people of the world."""
    kind = dice.pick(STORY_KINDS)
    a, b, c = _numbers(dice, kind, held)
    who, other = dice.shuffled(world.things["person"])[:2]
    x, y, what = who.en, other.en, dice.pick(GOODS)
    if kind == "plus":
        asked = (
            f"{x} has {a} {what}. {y} has {b} {what}. How many {what} do they have together?",
            f"{x} has {a} {what} and buys {b} more. How many {what} does {x} have now?",
        )
        return Story(dice.pick(asked), f"{a} + {b} = {a + b}.", a + b)
    if kind == "minus":
        asked = (
            f"{x} has {a} {what} and gives {b} of them to {y}. How many {what} are left?",
            f"There were {a} {what} in the house of {x}. {y} took {b} away. How many {what} are there now?",
        )
        return Story(dice.pick(asked), f"{a} - {b} = {a - b}.", a - b)
    if kind == "plus_minus":
        text = f"{x} has {a} {what}, buys {b} more and gives {c} to {y}. How many {what} does {x} have now?"
        return Story(text, f"{a} + {b} = {a + b}.\n{a + b} - {c} = {a + b - c}.", a + b - c)
    if kind == "times":
        asked = (
            f"{x} buys {a} boxes. There are {b} {what} in each box. How many {what} are there?",
            f"Each of {a} friends of {x} has {b} {what}. How many {what} do the friends have?",
        )
        return Story(dice.pick(asked), f"{a} * {b} = {a * b}.", a * b)
    if kind == "times_plus":
        text = f"{x} has {c} {what} and buys {a} boxes with {b} {what} in each. How many {what} does {x} have now?"
        return Story(text, f"{a} * {b} = {a * b}.\n{a * b} + {c} = {a * b + c}.", a * b + c)
    text = f"{x} shares {a * b} {what} equally among {b} friends. How many {what} does each of them get?"
    return Story(text, f"{a * b} / {b} = {a}.", a)


class Exercise(NamedTuple):
    subject: str  # as MATH writes it
    level: int  # 1 to 5
    problem: str
    work: str
    answer: int

    @property
    def solution(self) -> str:
        return f"{self.work} $\\boxed{{{self.answer}}}$."

    @property
    def reply(self) -> str:
        """The solution as the examples of the 4-shot prompt end."""
        answer = f"Final Answer: The final answer is ${self.answer}$. I hope it is correct."
        return f"{self.solution}\n{answer}"


SUBJECTS = (
    "Algebra",
    "Counting & Probability",
    "Geometry",
    "Intermediate Algebra",
    "Number Theory",
    "Prealgebra",
    "Precalculus",
)


def exercise(dice: Dice, held: bool, subject: str | None = None) -> Exercise:
    """One exercise; its level says how large its numbers are. What is held out follows from its text."""
    subject = subject or dice.pick(SUBJECTS)
    while True:
        level = 1 + dice.below(5)
        problem, work, answer = _exercise(subject, level, dice)
        if held_out(problem) == held:
            return Exercise(subject, level, problem, work, answer)


def _exercise(subject: str, level: int, dice: Dice) -> tuple[str, str, int]:
    """Problem, work and answer."""
    a, b, c, n = 2 + dice.below(2 + 2 * level), 2 + dice.below(8), 1 + dice.below(9), 2 + dice.below(5)
    return {
        "Algebra": (f"Solve for $x$: $x + {b} = {a + b}$.", f"$x = {a + b} - {b} =$", a),
        "Counting & Probability": (
            f"In how many ways can one choose one of ${a}$ hats and one of ${b}$ bells?",
            f"${a} \\cdot {b} =$",
            a * b,
        ),
        "Geometry": (f"A rectangle has sides ${a}$ and ${b}$. What is its area?", f"${a} \\cdot {b} =$", a * b),
        "Intermediate Algebra": (
            f"Let $f(x) = {a}x + {c}$. Find $f({b})$.",
            f"$f({b}) = {a} \\cdot {b} + {c} = {a * b} + {c} =$",
            a * b + c,
        ),
        "Number Theory": (
            f"What is the remainder when ${a * n + b % n}$ is divided by ${n}$?",
            f"${a * n + b % n} - {a} \\cdot {n} =$",
            b % n,
        ),
        "Prealgebra": (f"Compute ${3 * a} + {b + c}$.", f"${3 * a} + {b + c} =$", 3 * a + b + c),
        "Precalculus": (
            f"Compute the dot product $({a}, {c}) \\cdot ({b}, 1)$.",
            f"${a} \\cdot {b} + {c} \\cdot 1 = {a * b} + {c} =$",
            a * b + c,
        ),
    }[subject]
