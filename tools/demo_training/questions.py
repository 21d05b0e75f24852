"""Multiple-choice questions about the made-up world, with answers that follow from its facts.

`examine(world, lang, kinds, n, dice, held_out=...)` gives n different questions with the four letters equally
often right and distractors of the answer's own type (a town among towns, a price among prices).
Six styles:

* direct   - the value is asked: "Which river flows through Belka?"
* back     - the thing is asked: "Which of these towns stands on the river Samo?"
* most     - four things are compared by number: "Which of these towns is the oldest?"
* kind     - one of four different things is asked by what it is: "Which of these is a month?"
* two      - two statements, which of them are right? (a question with newlines in it)
* passage  - a few facts are told first, the asked one among them; in a long one, of many things

With `held_out=False` only training facts are asked, and never in the last form of each relation.
"""

from __future__ import annotations

from typing import NamedTuple

from sums import make_sum
from words import ATTRIBUTES, CATEGORIES
from world import PHRASES, Dice, Fact, World, sentence

LETTERS = "ABCD"
STYLES = ("direct", "passage", "kind", "direct", "passage", "most", "kind", "passage", "direct", "two", "back", "kind")
SHORT = (1, 1, 2, 3)  # facts that a passage tells, unless it is to be a long one


class Question(NamedTuple):
    text: str
    choices: tuple[str, str, str, str]
    answer: str
    explanation: str
    style: str


def examine(
    world: World,
    lang: str,
    kinds: tuple[str, ...],
    n: int,
    dice: Dice,
    *,
    held_out: bool,
    passages: tuple[int, ...] = (),
    used: set[Fact] | None = None,
) -> list[Question]:
    """n questions about things of these kinds (`("sums.easy",)` and `("sums.hard",)` are arithmetic).

    `passages` makes the last questions long ones: one for each entry, with so many statements before it.
    `used` is the facts that an earlier draw has asked; the ones asked here are added to it.
    """
    letters = dice.shuffled((LETTERS * (n // 4 + 1))[:n])
    if kinds[0].startswith("sums"):
        out: list[Question] = []
        while len(out) < n:
            text, options, why = make_sum(kinds[0].split(".")[1], lang, dice, held_out=held_out)
            if all(text != question.text for question in out):
                out.append(place(text, options, letters[len(out)], why, "sum", dice))
        return out
    used = set() if used is None else used
    facts = dice.shuffled([fact for fact in world.about(*kinds) if fact.held_out == held_out and fact not in used])
    comparable = any(PHRASES[lang][fact.relation].most for fact in facts)
    styles = [STYLES[i % len(STYLES)] for i in range(n - len(passages))] + ["passage"] * len(passages)
    out = []
    for style, letter in zip(styles, letters, strict=True):
        style = "direct" if style == "most" and not comparable else style
        number = len(out) - (n - len(passages))  # of the long ones, from 0
        length = passages[number] if number >= 0 else dice.pick(SHORT)
        # Each fact is asked once: take the first one left of which this style, or else the plain one, can be asked.
        for form, fact in ((form, fact) for form in (style, "direct") for fact in facts):
            question = ask(world, fact, lang, form, letter, dice, held_out=held_out, length=length)
            if question:
                out.append(question)
                facts.remove(fact)
                used.add(fact)
                break
        else:
            raise ValueError(f"{kinds}: not enough facts for {n} questions")
    return dice.shuffled(out)


def ask(
    world: World, fact: Fact, lang: str, style: str, letter: str, dice: Dice, *, held_out: bool, length: int = 0
) -> Question | None:
    """One question about one fact with the right answer at `letter`; None if this style does not suit the fact."""
    phrases = PHRASES[lang][fact.relation]
    others = dice.shuffled([other for other in world.same_relation(fact) if other.value != fact.value])
    thing, value = fact.thing.text(lang), fact.value.text(lang)
    why = fact.statements(lang)[0]
    if style == "two":
        return _two(fact, others, lang, letter)
    if style == "kind":
        return _kind(world, fact, lang, letter, dice)
    if style == "back":
        return place(
            sentence(phrases.back.format(v=value)), _texts(fact, others, "thing", lang), letter, why, style, dice
        )
    if style == "most":
        if phrases.most is None or fact.number is None:
            return None
        sign, text = phrases.most
        worse = [o for o in others if o.number is not None and (o.number < fact.number) == (sign == "+")]
        if len(worse) < 3:
            return None
        return place(text, _texts(fact, worse, "thing", lang), letter, why, style, dice)
    forms = phrases.ask if held_out else phrases.ask[:-1]
    text = sentence(dice.pick(forms).format(x=thing))
    if style == "passage":
        text = _passage(world, fact, lang, length, dice) + "\n" + text
    return place(text, _texts(fact, others, "value", lang), letter, why, style, dice)


def _texts(fact: Fact, others: list[Fact], field: str, lang: str) -> list[str]:
    """The right text and three different ones, the right one first."""
    texts: list[str] = []
    for item in [fact, *others]:
        text = getattr(item, field).text(lang)
        if text not in texts and len(texts) < 4:
            texts.append(text)
    return texts


def place(text: str, options: list[str], letter: str, why: str, style: str, dice: Dice) -> Question:
    """The options (right one first) in an order that puts the right one at `letter`."""
    if len(set(options)) != 4:
        raise ValueError(f"four different options are needed, not {options}")
    choices = dice.shuffled(options[1:])
    choices.insert(LETTERS.index(letter), options[0])
    return Question(text, (choices[0], choices[1], choices[2], choices[3]), letter, why, style)


def _two(fact: Fact, others: list[Fact], lang: str, letter: str) -> Question | None:
    # The choices are in a fixed order here, so the letter decides which statements are made true.
    # Both facts are of the asked split: a training question must not tell a held-out one.
    second = next((other for other in others if other.held_out == fact.held_out), None)
    if second is None:
        return None
    wrong = next(other for other in others if other.value != second.value)
    says = []
    for item, other, true in ((fact, wrong, letter in "AC"), (second, fact, letter in "BC")):
        form = PHRASES[lang][fact.relation].say[0]
        value = (item if true else other).value
        says.append(sentence(form.format(x=item.thing.text(lang), v=value.text(lang))))
    why = " ".join((fact.statements(lang)[0], second.statements(lang)[0]))
    if lang == "en":
        text = f"Which of these statements are correct?\nStatement 1: {says[0]}\nStatement 2: {says[1]}"
        return Question(text, ("Only 1", "Only 2", "Both 1 and 2", "Neither 1 nor 2"), letter, why, "two")
    text = f"关于以下两个说法：\n①{says[0]}\n②{says[1]}\n正确的是____。"
    return Question(text, ("只有①", "只有②", "①和②", "都不对"), letter, why, "two")


def _kind(world: World, fact: Fact, lang: str, letter: str, dice: Dice) -> Question | None:
    asked = _source(fact)
    if asked not in CATEGORIES:
        return None
    options = {asked: fact.value.text(lang)}
    while len(options) < 4:
        other = dice.pick(world.facts)
        if _source(other) in CATEGORIES and other.value.text(lang) not in options.values():
            options.setdefault(_source(other), other.value.text(lang))
    label = CATEGORIES[asked].text(lang)
    text = f"Which of these is {label}?" if lang == "en" else f"下列各项中，属于{label}的是____。"
    why = f"{options[asked]}: {label}." if lang == "en" else f"{options[asked]}：{label}。"
    return place(text, list(options.values()), letter, why, "kind", dice)


def _source(fact: Fact) -> str:
    return ATTRIBUTES[fact.kind][fact.attribute]


def _passage(world: World, fact: Fact, lang: str, length: int, dice: Dice) -> str:
    """A traveller's account of `length` facts, the asked one among them; of its kind, as far as there are so many."""
    near = [other for other in dice.shuffled(world.about(fact.kind)) if other != fact]
    far = dice.shuffled([other for other in world.facts if other.kind != fact.kind]) if length > len(near) else []
    told = [*near, *far][: length - 1]
    told.insert(dice.below(len(told) + 1), fact)
    opening = {"en": "A traveller writes home: ", "zh": "一位旅行者在家信中写道："}[lang]
    return opening + {"en": " ", "zh": ""}[lang].join(dice.pick(item.statements(lang)) for item in told)
