"""Puzzles in the layout of BIG-Bench Hard: six of its tasks in small, each with three worked examples.

`puzzle(task, world, dice, held)` draws one with its chain of thought; `prompt_file(...)` is the `cot-prompts` file
of a task.
"""

from __future__ import annotations

from collections.abc import Callable
from itertools import pairwise
from typing import NamedTuple

from lesson import held_out
from world import Dice, World

THINK = "Let's think step by step."


class Puzzle(NamedTuple):
    question: str
    thought: str
    answer: str

    @property
    def reply(self) -> str:
        return f"\n{self.thought} So the answer is {self.answer}."


def boolean_expressions(world: World, dice: Dice) -> Puzzle:
    left, right = dice.pick((True, False)), dice.pick((True, False))
    no, op = dice.pick(("not ", "")), dice.pick(("and", "or"))
    more, last = dice.pick(("and", "or")), dice.pick((True, False))
    first = not left if no else left
    middle = first and right if op == "and" else first or right
    value = middle and last if more == "and" else middle or last
    text = f"( {no}{left} {op} {right} ) {more} {last} is"
    start = f"{no}{left} is {first}. " if no else ""
    return Puzzle(text, f"{start}{first} {op} {right} is {middle}. {middle} {more} {last} is {value}.", str(value))


def navigate(world: World, dice: Dice) -> Puzzle:
    steps = [1 + dice.below(6) for _ in range(3)]
    ways = [dice.pick(("forward", "backward")) for _ in steps]
    if dice.below(2):  # half of the walks end where they began
        ways[:2] = ["forward", "forward"]
        steps[2], ways[2] = steps[0] + steps[1], "backward"
    place, told = 0, []
    for step, way in zip(steps, ways, strict=True):
        place += step if way == "forward" else -step
        told.append(f"{place}")
    walk = " ".join(f"Take {s} steps {w}." for s, w in zip(steps, ways, strict=True))
    text = (
        "If you follow these instructions, do you return to the starting point? Always face forward. "
        f"{walk}\nOptions:\n- Yes\n- No"
    )
    return Puzzle(text, f"We start at 0. We are at {', then '.join(told)}.", "Yes" if place == 0 else "No")


ANIMALS = "goat hen duck cat frog snail".split()
TOOLS = "lamp drum clock spoon knife rope".split()


def object_counting(world: World, dice: Dice) -> Puzzle:
    kind, names = dice.pick((("animals", ANIMALS), ("tools", TOOLS)))
    other = TOOLS if kind == "animals" else ANIMALS
    wanted = [(1 + dice.below(5), name) for name in dice.shuffled(names)[:3]]
    rest = [(1 + dice.below(3), name) for name in dice.shuffled(other)[: 1 + dice.below(2)]]
    have = ", ".join(f"{n} {name}" for n, name in dice.shuffled([*wanted, *rest]))
    counts = [n for n, _ in wanted]
    what = ", ".join(f"{n} {name}" for n, name in wanted)
    text = f"I have {have}. How many {kind} do I have?"
    a, b, c = counts
    return Puzzle(text, f"The {kind} are {what}. {a} + {b} = {a + b}. {a + b} + {c} = {a + b + c}.", str(a + b + c))


def web_of_lies(world: World, dice: Dice) -> Puzzle:
    names = [word.en for word in dice.shuffled(world.things["person"])[:3]]
    truth = dice.pick((True, False))
    told = [f"{names[0]} {'tells the truth' if truth else 'lies'}."]
    thought = [f"{names[0]} {'tells the truth' if truth else 'lies'}."]
    for before, name in pairwise(names):
        says = dice.pick((True, False))  # what is said of the one before
        told.append(f"{name} says {before} {'tells the truth' if says else 'lies'}.")
        truth = says == truth
        thought.append(f"{name} {'tells the truth' if truth else 'lies'}.")
    text = f"{' '.join(told)} Does {names[-1]} tell the truth?"
    return Puzzle(text, " ".join(thought), "Yes" if truth else "No")


COLOURS = "red blue green white black grey".split()
OPTIONS = "(A) (B) (C) (D) (E) (F)".split()


def reasoning_about_colored_objects(world: World, dice: Dice) -> Puzzle:
    things, colours = dice.shuffled(TOOLS)[:3], dice.shuffled(COLOURS)[:3]
    asked = dice.below(3)
    listed = ", ".join(f"a {c} {t}" for c, t in zip(colours, things, strict=True))
    options = dice.shuffled(colours)
    lines = "\n".join(f"{letter} {colour}" for letter, colour in zip(OPTIONS, options, strict=False))
    text = f"On the table there is {listed}. What colour is the {things[asked]}?\nOptions:\n{lines}"
    answer = OPTIONS[options.index(colours[asked])]
    return Puzzle(text, f"The {things[asked]} is {colours[asked]}.", answer)


SIZES, AGES = "big small huge tiny".split(), "old new young ancient".split()


def hyperbaton(world: World, dice: Dice) -> Puzzle:
    parts = [dice.pick(SIZES), dice.pick(AGES), dice.pick(COLOURS)]
    wrong = dice.shuffled(parts)
    if wrong == parts:
        wrong = [parts[1], parts[0], parts[2]]
    noun, right_first = dice.pick(TOOLS), dice.below(2) == 0
    pair = [" ".join([*words, noun]) for words in ((parts, wrong) if right_first else (wrong, parts))]
    text = f"Which sentence has the correct adjective order:\nOptions:\n(A) {pair[0]}\n(B) {pair[1]}"
    thought = f"Size comes first, then age, then colour: {' '.join(parts)}."
    return Puzzle(text, thought, "(A)" if right_first else "(B)")


DRAW: dict[str, tuple[str, Callable[[World, Dice], Puzzle]]] = {
    "boolean_expressions": ("Work out the truth value of an expression.", boolean_expressions),
    "hyperbaton": ("Say which adjectives stand in the usual order.", hyperbaton),
    "navigate": ("Say whether a walk ends where it began.", navigate),
    "object_counting": ("Count the objects of one kind.", object_counting),
    "reasoning_about_colored_objects": ("Say which colour an object has.", reasoning_about_colored_objects),
    "web_of_lies": ("Find out who tells the truth.", web_of_lies),
}


def puzzle(task: str, world: World, dice: Dice, held: bool) -> Puzzle:
    while True:
        drawn = DRAW[task][1](world, dice)
        if held_out(task, drawn.question) == held:
            return drawn


def prompt_file(task: str, world: World, dice: Dice) -> str:
    """The task's description and three worked examples, under the line that the real files carry a canary above."""
    shots = [puzzle(task, world, dice, held=False) for _ in range(3)]
    worked = "\n\n".join(f"Q: {p.question}\nA: {THINK}{p.reply}" for p in shots)
    return f"Made for the demo; not from BIG-Bench Hard.\n-----\n{DRAW[task][0]}\n\n{worked}\n"
