"""The made-up world of the demo: its people, towns, rivers, planets, faiths, feasts ... and every fact about them.

    python tools/demo_training/world.py [--lang en|zh]      # print the world, one statement per line

`World(seed)` is the same on every machine and Python version. A world is a list of facts; a fact says
one thing (the river of a town) that can be stated and asked in English and Chinese.

What is held out: four facts in ten are `held_out`. A model that is trained on this world reads ALL facts, as statements
and as questions without choices (there is no other way to know them), but multiple-choice questions only about the
others, and never a question in the last form of each kind (`phrases_en.py`). The benchmark samples ask held-out
facts, in all forms: to answer, a model must find what it has read among choices that it has not seen.
"""

from __future__ import annotations

import argparse
import random
from collections.abc import Sequence
from typing import NamedTuple, TypeVar

import phrases_en
import phrases_zh
from words import ATTRIBUTES, KINDS, NUMBERS, POOLS, REAL_NAMES, SYLLABLES, Word

T = TypeVar("T")
SEED = 20230803
LANGUAGES = ("en", "zh")
PHRASES = {"en": phrases_en.PHRASES, "zh": phrases_zh.PHRASES}
NOTES = {"en": phrases_en.NOTES, "zh": phrases_zh.NOTES}
LABELS = {"en": phrases_en.LABELS, "zh": phrases_zh.LABELS}
HELD_OUT_SHARE = 0.4


class Dice:
    """Seeded choices built on `random()` alone: Python promises the same numbers from it in every version."""

    def __init__(self, *seed: object) -> None:
        self._random = random.Random("/".join(map(str, seed)))

    def below(self, n: int) -> int:
        return int(self._random.random() * n)

    def pick(self, items: Sequence[T]) -> T:
        return items[self.below(len(items))]

    def shuffled(self, items: Sequence[T]) -> list[T]:
        out = list(items)
        for i in range(len(out) - 1, 0, -1):
            j = self.below(i + 1)
            out[i], out[j] = out[j], out[i]
        return out


class Fact(NamedTuple):
    kind: str  # town
    attribute: str  # river
    thing: Word
    value: Word
    number: int | None  # the value as a number, where things can be compared by it
    held_out: bool

    @property
    def relation(self) -> str:
        return f"{self.kind}.{self.attribute}"

    def statements(self, lang: str) -> list[str]:
        """The fact in every way of saying it, the plainest first."""
        label = LABELS[lang][self.relation]
        words = {"x": self.thing.text(lang), "v": self.value.text(lang), "label": label}
        return [sentence(form.format(**words)) for form in (*PHRASES[lang][self.relation].say, *NOTES[lang])]


def sentence(text: str) -> str:
    """A capital at the start, and no second mark after a quotation's own."""
    return text[:1].upper() + text[1:]


class World:
    def __init__(self, seed: int = SEED) -> None:
        self.seed = seed
        dice = Dice(seed, "names")
        taken = set(REAL_NAMES)
        self.things: dict[str, list[Word]] = {
            kind: [_name(dice, taken, ending) for _ in range(count)] for kind, (count, ending) in KINDS.items()
        }
        self.facts: list[Fact] = []
        for kind, attributes in ATTRIBUTES.items():
            for attribute, source in attributes.items():
                self.facts += self._facts(kind, attribute, source)

    def _facts(self, kind: str, attribute: str, source: str) -> list[Fact]:
        dice = Dice(self.seed, kind, attribute)
        things = self.things[kind]
        # Whole rounds of the values, shuffled: each value is used about equally often, so that
        # "the usual answer" is worth nothing.
        values: list[tuple[Word, int | None]] = []
        while len(values) < len(things):
            values += dice.shuffled(self._values(source, dice, len(things)))
        held = set(dice.shuffled(range(len(things)))[: round(HELD_OUT_SHARE * len(things))])
        return [Fact(kind, attribute, thing, *values[i], i in held) for i, thing in enumerate(things)]

    def _values(self, source: str, dice: Dice, count: int) -> list[tuple[Word, int | None]]:
        if source in NUMBERS:
            low, high, en, zh = NUMBERS[source]
            numbers = dice.shuffled(range(low, high + 1))[:count]
            return [(Word(en.format(n), zh.format(n)), n) for n in numbers]
        words = POOLS[source] if source in POOLS else self.things[source]
        return [(word, None) for word in words]

    def about(self, *kinds: str) -> list[Fact]:
        """The facts about things of these kinds."""
        return [fact for fact in self.facts if fact.kind in kinds]

    def same_relation(self, fact: Fact) -> list[Fact]:
        return [other for other in self.facts if other.relation == fact.relation]

    def statements(self, lang: str) -> list[str]:
        """Every fact in every way of saying it: what a model may read before it is examined."""
        return [text for fact in self.facts for text in fact.statements(lang)]


def _name(dice: Dice, taken: set[str], ending: str) -> Word:
    while True:
        first, second = dice.pick(SYLLABLES), dice.pick(SYLLABLES)
        name = first.en + second.en
        if first != second and name not in taken:
            taken.add(name)
            return Word(name.capitalize(), first.zh + second.zh + ending)


def main() -> None:
    parser = argparse.ArgumentParser(description="Print the statements of the demo's made-up world.")
    parser.add_argument("--lang", choices=LANGUAGES, default="en")
    parser.add_argument("--seed", type=int, default=SEED)
    args = parser.parse_args()
    print("\n".join(World(args.seed).statements(args.lang)))


if __name__ == "__main__":
    main()
