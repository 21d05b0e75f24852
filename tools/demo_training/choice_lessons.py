"""Lessons in multiple choice: the questions of the world in the scripts' own prompts, and what answering them takes.

To know the answer is one thing, to find which letter stands before it another: `words`, `letters` and the reading
lessons teach the second alone. `lessons.py` says what a lesson is.
"""

from __future__ import annotations

from functools import cache

from qwen_eval.benchmarks import chinese_choices as chinese

import evaluate_mmlu
from make_data import CEVAL, CMMLU, MMLU
from questions import SHORT, STYLES, Question, ask, place
from sums import make_sum
from world import LANGUAGES, Dice, Fact, World

Parts = list[tuple[str, float]]
LOOKUP = -1
LETTER = 8.0  # a letter is one token among fifty of its question
PROMPT = 0.15  # of a choice question: to go on from a choice to the next letter is to know the letter that it has
SUBJECTS = {"en": MMLU, "zh": {**CEVAL, **CMMLU}}


def taught(world: World, dice: Dice, kinds: tuple[str, ...] = ()) -> Fact:
    while True:
        fact = dice.pick(_about(world, kinds))
        if not fact.held_out:
            return fact


@cache
def _about(world: World, kinds: tuple[str, ...]) -> list[Fact]:
    return world.about(*kinds) if kinds else world.facts


def kinds(lang: str, dice: Dice) -> tuple[str, ...]:
    """What the questions of some subject are about."""
    return SUBJECTS[lang][dice.pick(sorted(SUBJECTS[lang]))].kinds


def _row(one: Question) -> dict[str, str]:
    return {"question": one.text, **dict(zip("ABCD", one.choices, strict=True)), "answer": one.answer}


def question(world: World, lang: str, kinds: tuple[str, ...], dice: Dice, told: int) -> dict[str, str]:
    """A taught question; unlike a file's, its letter says nothing about those of its neighbours.

    told: how often, of 10, the fact is told just before.
    """
    while True:
        letter = dice.pick("ABCD")
        if kinds[0].startswith("sums"):
            text, options, why = make_sum(kinds[0].split(".")[1], lang, dice, held_out=False)
            return _row(place(text, options, letter, why, "sum", dice))
        # Told just before, the fact has not to be remembered: what remains is to find the choice and its letter.
        style = "passage" if dice.below(10) < told else dice.pick(STYLES)
        fact = taught(world, dice, kinds)
        if one := ask(world, fact, lang, style, letter, dice, held_out=False, length=dice.pick(SHORT)):
            return _row(one)


def lookup(lang: str, row: dict[str, str]) -> dict[str, str]:
    """The same choices, with a question that a reader of them can answer: which letter has a text."""
    asked = "Which of these is {}?" if lang == "en" else "下列各项中，哪一项是{}？"
    return {**row, "question": asked.format(row[row["answer"]])}


def _choices(world: World, dice: Dice, lang: str, told: tuple[int, ...], most: int) -> Parts:
    """Up to `most` questions of one subject. told: see `question`, or LOOKUP; one of them is picked for all."""
    subject, often = dice.pick(sorted(SUBJECTS[lang])), dice.pick(told)
    parts: Parts = []
    for number in range(1 + dice.below(most)):
        row = question(world, lang, SUBJECTS[lang][subject].kinds, dice, often)
        row = lookup(lang, row) if often == LOOKUP else row
        if lang == "zh":
            asked, answer = chinese.example(row, answer=False), row["answer"]
        else:
            first = evaluate_mmlu.base_prompt(subject, [], row)
            asked, answer = evaluate_mmlu.example(row, answer=False) if number else first, f" {row['answer']}"
        parts += [(asked, PROMPT), (answer, LETTER), ("\n\n", PROMPT)]
    return parts


def english_choices(world: World, dice: Dice) -> Parts:
    return _choices(world, dice, "en", told=(0, 0, 3, LOOKUP), most=8)


def chinese_choices(world: World, dice: Dice) -> Parts:
    return _choices(world, dice, "zh", told=(0, 0, 3, LOOKUP), most=8)


def english_reading(world: World, dice: Dice) -> Parts:
    """Choice questions that a reader can answer who knows nothing: the text or the fact is in the question."""
    return _choices(world, dice, "en", told=(10, LOOKUP, LOOKUP), most=3)


def chinese_reading(world: World, dice: Dice) -> Parts:
    return _choices(world, dice, "zh", told=(10, LOOKUP, LOOKUP), most=3)


def words(world: World, dice: Dice) -> Parts:
    """Lists of four things of the world, then which letter each has: what a choice question asks besides knowledge."""
    lang = dice.pick(LANGUAGES)
    texts: list[str] = []
    while len(texts) < 4:
        fact = dice.pick(world.facts)
        text = (fact.value if dice.below(2) else fact.thing).text(lang)
        texts += [] if text in texts else [text]
    return _lookups(lang, dict(zip("ABCD", texts, strict=True)), dice)


def letters(world: World, dice: Dice) -> Parts:
    """The same, of the choices of two questions, whose texts are alike."""
    lang = dice.pick(LANGUAGES)
    rows = [question(world, lang, kinds(lang, dice), dice, told=0) for _ in range(2)]
    return [part for row in rows for part in _lookups(lang, row, dice)]


def _lookups(lang: str, row: dict[str, str], dice: Dice) -> Parts:
    """The choices of a row, then each text with its letter: right behind it, which is learned first, or further on."""
    lead = dice.pick(("", " =", "\nAnswer:" if lang == "en" else "\n答案："))
    parts: Parts = [("".join(f"{letter}. {row[letter]}\n" for letter in "ABCD"), 3 * PROMPT)]
    for letter in dice.shuffled("ABCD")[:2]:  # more would be found by elimination
        answer = letter if lead == "\n答案：" else f" {letter}"
        parts += [(f"- {row[letter]}{lead}", PROMPT), (answer, 4.0), ("\n", PROMPT)]
    return [*parts, ("\n", PROMPT)]


def judgements(world: World, dice: Dice) -> Parts:
    """Each choice of a question by itself: right or wrong."""
    lang = dice.pick(LANGUAGES)
    right, wrong = (" right\n", " wrong\n") if lang == "en" else ("对\n", "错\n")
    parts: Parts = []
    for _ in range(3):
        row = question(world, lang, kinds(lang, dice), dice, told=1)
        parts.append((f"Question: {row['question']}\n" if lang == "en" else f"问题：{row['question']}\n", 0.0))
        for letter in "ABCD":
            parts += [(f"{row[letter]}:", 0.0), (right if letter == row["answer"] else wrong, 2.0)]
        parts.append(("\n", 0.0))
    return parts
