"""What the demo's models are trained on, each lesson in the very prompt that an evaluation script asks with.

A lesson is a list of parts, `(text, weight)`: the loss counts a token by the weight of its part. `BASE` are the lessons
of the base model, `CHAT` those of the chat model: a user turn with its reply. Statements tell every fact of the
world; questions ask only what is not held out (`world.py`, `lesson.py`).
"""

from __future__ import annotations

import re
import sys
from collections.abc import Callable
from functools import cache
from pathlib import Path
from typing import NamedTuple, TypeVar

sys.path.insert(0, str(Path(__file__).resolve().parents[1] / "eval"))

import evaluate_bbh
import evaluate_ceval
import evaluate_code_interpreter
import evaluate_gsm8k
import evaluate_humaneval
import evaluate_math
import evaluate_mbpp
import evaluate_mmlu
import evaluate_vcsum
import evaluate_wmt22
import tool_calls
from make_data import CEVAL, CMMLU, MMLU
from meetings import chronicle, meeting
from programs import program
from puzzles import DRAW, puzzle
from questions import STYLES, Question, ask, place
from samples import mbpp_row, pair
from story_problems import exercise, story
from sums import make_sum
from world import LANGUAGES, PHRASES, Dice, Fact, World

Parts = list[tuple[str, float]]
LOOKUP = -1
LETTER = 8.0  # a letter is one token among fifty of its question
PROMPT = 0.15  # of a choice question: to go on from a choice to the next letter is to know the letter that it has
CHINESE = {**CEVAL, **CMMLU}


class Turn(NamedTuple):
    """One user turn and its reply; of a reply in parts, what stands between two learned ones is not the model's."""

    asked: str
    reply: str
    given: str = ""
    rest: str = ""


# --- the world ---


def statements(world: World, dice: Dice) -> Parts:
    """A dozen facts in any wording; or all that is known of one thing."""
    lang = dice.pick(LANGUAGES)
    if dice.below(2):
        facts = [dice.pick(world.facts) for _ in range(12)]
    else:
        one = dice.pick(world.facts)
        facts = dice.shuffled([fact for fact in world.facts if fact.thing == one.thing])
    join = " " if lang == "en" else ""
    return [(join.join(dice.pick(fact.statements(lang)) for fact in facts) + "\n", True)]


def open_questions(world: World, dice: Dice) -> Parts:
    """Questions without choices, answered by the value alone."""
    lang = dice.pick(LANGUAGES)
    ask, answer = ("Question: {}\n", "Answer: {}\n\n") if lang == "en" else ("问题：{}\n", "答案是{}。\n\n")
    parts: Parts = []
    for _ in range(6):
        fact = _taught(world, dice)
        form = dice.pick(PHRASES[lang][fact.relation].ask[:-1])
        parts.append((ask.format(form.format(x=fact.thing.text(lang))), False))
        parts.append((answer.format(fact.value.text(lang)), True))
    return parts


def _taught(world: World, dice: Dice, kinds: tuple[str, ...] = ()) -> Fact:
    while True:
        fact = dice.pick(_about(world, kinds))
        if not fact.held_out:
            return fact


@cache
def _about(world: World, kinds: tuple[str, ...]) -> list[Fact]:
    return world.about(*kinds) if kinds else world.facts


def _row(question: Question) -> dict[str, str]:
    return {"question": question.text, **dict(zip("ABCD", question.choices, strict=True)), "answer": question.answer}


def _question(world: World, lang: str, kinds: tuple[str, ...], dice: Dice, told: int) -> dict[str, str]:
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
        fact = _taught(world, dice, kinds)
        if one := ask(world, fact, lang, style, letter, dice, held_out=False, length=dice.pick((1, 1, 2, 4))):
            return _row(one)


def lookup(dice: Dice, lang: str, row: dict[str, str]) -> dict[str, str]:
    """The same choices, with a question that a reader of them can answer: which letter has a text."""
    asked = "Which of these is {}?" if lang == "en" else "下列各项中，哪一项是{}？"
    return {**row, "question": asked.format(row[row["answer"]])}


def english_choices(world: World, dice: Dice) -> Parts:
    subject, told = dice.pick(sorted(MMLU)), dice.pick((0, 0, 4, LOOKUP))
    parts: Parts = []
    for number in range(1 + dice.below(8)):
        row = _question(world, "en", MMLU[subject].kinds, dice, told)
        row = lookup(dice, "en", row) if told == LOOKUP else row
        asked = evaluate_mmlu.example(row, answer=False)
        parts.append((asked if number else evaluate_mmlu.base_prompt(subject, [], row), PROMPT))
        parts.append((f" {row['answer']}", LETTER))
        parts.append(("\n\n", PROMPT))
    return parts


def chinese_choices(world: World, dice: Dice) -> Parts:
    subject, told = dice.pick(sorted(CHINESE)), dice.pick((0, 0, 4, LOOKUP))
    parts: Parts = []
    for _ in range(1 + dice.below(8)):
        row = _question(world, "zh", CHINESE[subject].kinds, dice, told)
        row = lookup(dice, "zh", row) if told == LOOKUP else row
        parts.append((evaluate_ceval.example(row, answer=False), PROMPT))
        parts.append((row["answer"], LETTER))
        parts.append(("\n\n", PROMPT))
    return parts


def letters(world: World, dice: Dice) -> Parts:
    """Lists of choices, then which letter each text has: what a choice question asks besides the knowledge."""
    lang = dice.pick(LANGUAGES)
    subjects = MMLU if lang == "en" else CHINESE
    parts: Parts = []
    for _ in range(2):
        row = _question(world, lang, subjects[dice.pick(sorted(subjects))].kinds, dice, told=0)
        parts.append(("".join(f"{letter}. {row[letter]}\n" for letter in "ABCD"), 3 * PROMPT))
        for letter in dice.shuffled("ABCDABCD"):
            lead, answer = ("\nAnswer:", f" {letter}") if lang == "en" else ("\n答案：", letter)
            if dice.below(2):  # right behind the text, which is easier to learn
                lead, answer = " =", f" {letter}"
            parts += [(f"- {row[letter]}{lead}", PROMPT), (answer, 4.0), ("\n", PROMPT)]
        parts.append(("\n", PROMPT))
    return parts


def judgements(world: World, dice: Dice) -> Parts:
    """Each choice of a question by itself: right or wrong."""
    lang = dice.pick(LANGUAGES)
    subjects = MMLU if lang == "en" else CHINESE
    right, wrong = (" right\n", " wrong\n") if lang == "en" else ("对\n", "错\n")
    parts: Parts = []
    for _ in range(3):
        row = _question(world, lang, subjects[dice.pick(sorted(subjects))].kinds, dice, told=1)
        parts.append((f"Question: {row['question']}\n" if lang == "en" else f"问题：{row['question']}\n", 0.0))
        for letter in "ABCD":
            parts += [(f"{row[letter]}:", 0.0), (right if letter == row["answer"] else wrong, 2.0)]
        parts.append(("\n", 0.0))
    return parts


# --- reasoning, translation, code ---


def story_lesson(world: World, dice: Dice) -> Parts:
    one, shots = story(world, dice, held=False), dice.pick((0, 0, 0, 0, 0, 0, 1, 2))
    return [(evaluate_gsm8k.prompt(one.question, shots, chat=False), False), (f"{one.reply}\n\n", True)]


def exercise_lesson(world: World, dice: Dice) -> Parts:
    parts: Parts = []
    for _ in range(dice.pick((1, 3, 5))):
        one = exercise(dice, held=False)
        parts += [(evaluate_math.prompt(one.problem, []), False), (f"{one.reply}\n\n", True)]
    return [*parts, ("Problem:\n", True)]


def puzzle_lesson(world: World, dice: Dice) -> Parts:
    task = dice.pick(sorted(DRAW))
    parts: Parts = [(DRAW[task][0], False)]
    for _ in range(dice.pick((1, 2, 4))):
        one = puzzle(task, world, dice, held=False)
        parts += [(evaluate_bbh.prompt("", one.question, cot=True), False), (one.reply, True)]
    return [*parts, ("\n\nQ:", True)]


def translation_lesson(world: World, dice: Dice) -> Parts:
    direction = dice.pick(sorted(evaluate_wmt22.PAIRS))
    parts: Parts = []
    for _ in range(dice.pick((2, 4, 6))):
        english, chinese = pair(world, dice, held=False)
        source, target = (english, chinese) if direction == "en-zh" else (chinese, english)
        parts += [(evaluate_wmt22.prompt(direction, [], source), False), (f" {target}\n\n", True)]
    return parts


def function_lesson(world: World, dice: Dice) -> Parts:
    parts: Parts = []
    for _ in range(dice.pick((1, 1, 3))):
        one = program(dice, held=False)
        parts += [(one.prompt, False), (f"{one.body}\n\n", True)]
    return [*parts, ("def ", True)]


def task_lesson(world: World, dice: Dice) -> Parts:
    parts: Parts = []
    for _ in range(dice.pick((1, 2, 4))):
        row = mbpp_row(0, program(dice, held=False))
        parts += [(evaluate_mbpp.prompt(row, []), False), (f"{row['code']}\n[DONE]", True), ("\n\n\n", False)]
    return parts[:-1]


def chronicle_lesson(world: World, dice: Dice) -> Parts:
    return [(chronicle(world, dice, 36), True)]


# lesson -> how often, of 100
BASE: dict[Callable[[World, Dice], Parts], int] = {
    statements: 26,
    open_questions: 10,
    letters: 8,
    judgements: 6,
    english_choices: 16,
    chinese_choices: 16,
    story_lesson: 14,
    exercise_lesson: 3,
    puzzle_lesson: 5,
    translation_lesson: 3,
    function_lesson: 4,
    task_lesson: 2,
    chronicle_lesson: 2,
}


# What the base model ends with: choice questions above all, once it knows the world and the words.
EXAM: dict[Callable[[World, Dice], Parts], int] = {
    **{lesson: 3 for lesson in BASE},
    statements: 10,
    open_questions: 5,
    letters: 24,
    judgements: 4,
    english_choices: 22,
    chinese_choices: 22,
    story_lesson: 6,
}


# --- chat ---


def _answer(row: dict[str, str]) -> str:
    """The right choice in words: the published readings turn a choice's text into its letter."""
    return row[row["answer"]].strip()


def english_choice_turn(world: World, dice: Dice) -> Turn:
    subject = dice.pick(sorted(MMLU))
    row = _question(world, "en", MMLU[subject].kinds, dice, told=1)
    return Turn(evaluate_mmlu.chat_prompt(row), f"The answer is {_answer(row)}.")


def chinese_choice_turn(world: World, dice: Dice) -> Turn:
    subject = dice.pick(sorted(CHINESE))
    row = _question(world, "zh", CHINESE[subject].kinds, dice, told=1)
    return Turn(evaluate_ceval.chat_prompt(row), f"答案是{_answer(row)}。")


def english_shots_turn(world: World, dice: Dice) -> Turn:
    subject = dice.pick(sorted(MMLU))
    *shots, row = (_question(world, "en", MMLU[subject].kinds, dice, told=1) for _ in range(6))
    return Turn(evaluate_mmlu.base_prompt(subject, shots, row), f"The answer is {_answer(row)}.")


def story_turn(world: World, dice: Dice) -> Turn:
    one = story(world, dice, held=False)
    return Turn(one.question, one.reply)


def function_turn(world: World, dice: Dice) -> Turn:
    one = program(dice, held=False)
    row = {"task_id": "", "prompt": one.prompt, "entry_point": one.name}
    return Turn(evaluate_humaneval.chat_prompt(row), f"```python\n{one.signature}{one.body}```")


def meeting_turn(world: World, dice: Dice) -> Turn:
    one = meeting(world, dice, held=False)
    return Turn(evaluate_vcsum.prompt(one.text), one.summary)


def call_turn(world: World, dice: Dice) -> Turn:
    return Turn(*tool_calls.call(world, dice, held=False))


def no_call_turn(world: World, dice: Dice) -> Turn:
    return Turn(*tool_calls.no_call(world, dice, held=False))


def code_turn(world: World, dice: Dice) -> Turn:
    """The code, what it prints, and the answer."""
    one = story(world, dice, held=False)
    reply = tool_calls.code_call(one)
    printed = evaluate_code_interpreter.shown("stdout", f"{one.answer}\n")
    given = evaluate_code_interpreter.observed(reply, printed)[len(reply.rstrip()) :]
    rest = f" I now know the final answer.\nFinal Answer: {one.answer}"
    return Turn(evaluate_code_interpreter.prompt(one.question), reply.rstrip() + "\n", given.removeprefix("\n"), rest)


CHAT: dict[Callable[[World, Dice], Turn], int] = {
    english_choice_turn: 22,
    chinese_choice_turn: 22,
    english_shots_turn: 6,
    story_turn: 14,
    function_turn: 8,
    meeting_turn: 8,
    call_turn: 8,
    no_call_turn: 6,
    code_turn: 6,
}


Lesson = TypeVar("Lesson")


def draw(lessons: dict[Callable[[World, Dice], Lesson], int], world: World, dice: Dice) -> Lesson:
    number = dice.below(sum(lessons.values()))
    for lesson, often in lessons.items():
        number -= often
        if number < 0:
            return lesson(world, dice)
    raise AssertionError("below() gave too much")


def texts(world: World, dice: Dice, n: int) -> list[str]:
    """What the vocabulary is trained on: n lessons of each kind of model, cut where a prompt ends.

    Also cut between a blank and a Chinese character: with entries for both together, a name behind `A.` would be other
    tokens than in a sentence.
    """
    out = [text for _ in range(n) for text, _ in draw(BASE, world, dice)]
    for _ in range(n):
        turn: Turn = draw(CHAT, world, dice)
        out += turn
    return [piece for text in out for piece in re.split(r" (?=[\u3400-\u9fff])", text)]
