"""The demo's samples of the benchmarks that are answered in words, in the official file layouts (see make_data.py).

GSM8K, MATH, BBH, WMT (with the earlier year's file that the shots are taken from), VCSUM, HumanEval, MBPP, the plugin
benchmark, the code interpreter's, and long texts for the perplexity. Only held-out questions, except in shots.
"""

from __future__ import annotations

import gzip
import json
from collections.abc import Iterable
from functools import partial
from typing import Any

from lesson import several
from meetings import chronicle, meeting
from programs import Program, program
from puzzles import DRAW, prompt_file, puzzle
from story_problems import SUBJECTS, exercise, story
from tool_calls import Call, call, no_call
from world import Dice, World

Files = dict[str, bytes]
SEGMENTS = 30  # of each direction


def lines(rows: Iterable[dict[str, Any]]) -> bytes:
    return "".join(json.dumps(row, ensure_ascii=False) + "\n" for row in rows).encode()


def gsm8k(world: World) -> Files:
    dice = Dice(world.seed, "gsm8k")
    rows = several(lambda: story(world, dice, held=True), 60, lambda one: one.question)
    return {"gsm8k/test.jsonl": lines({"question": one.question, "answer": one.gold} for one in rows)}


def math(world: World) -> Files:
    dice = Dice(world.seed, "math")
    rows = []
    for subject in SUBJECTS:
        rows += several(partial(exercise, dice, True, subject), 8, lambda one: one.problem)
    shots = several(lambda: exercise(dice, held=False), 4, lambda one: one.subject)
    worked = [{"problem": one.problem, "solution": one.reply} for one in shots]
    return {
        "math/test.jsonl": lines(
            {"problem": r.problem, "solution": r.solution, "level": f"Level {r.level}", "type": r.subject} for r in rows
        ),
        "math/shots.json": (json.dumps(worked, indent=1) + "\n").encode(),
    }


def bbh(world: World) -> Files:
    files: Files = {}
    for task in sorted(DRAW):
        rows = several(partial(puzzle, task, world, Dice(world.seed, "bbh", task), True), 10, lambda one: one.question)
        examples = [{"input": one.question, "target": one.answer} for one in rows]
        files[f"bbh/bbh/{task}.json"] = (json.dumps({"examples": examples}, indent=1) + "\n").encode()
        files[f"bbh/cot-prompts/{task}.txt"] = prompt_file(task, world, Dice(world.seed, "bbh shots", task)).encode()
    return files


def pair(world: World, dice: Dice, held: bool) -> tuple[str, str]:
    """A statement in English and the same in Chinese. A held-out pair tells a held-out fact."""
    while True:
        fact = dice.pick(world.facts)
        if fact.held_out == held:
            return fact.statements("en")[0], fact.statements("zh")[0]


def wmt(world: World) -> Files:
    files: Files = {}
    for folder, name, held, n in (("wmt22", "generaltest2022", True, SEGMENTS), ("wmt21", "newstest2021", False, 5)):
        for direction in ("en-zh", "zh-en"):
            pairs = several(partial(pair, world, Dice(world.seed, folder, direction), held), n, str)
            english, chinese = ("".join(f"{pair[side]}\n" for pair in pairs).encode() for side in (0, 1))
            source, target = direction.split("-")
            texts = {"en": english, "zh": chinese}
            files[f"{folder}/sources/{name}.{direction}.src.{source}"] = texts[source]
            files[f"{folder}/references/{name}.{direction}.ref.A.{target}"] = texts[target]
    return files


def vcsum(world: World) -> Files:
    dice = Dice(world.seed, "vcsum")
    rows = several(lambda: meeting(world, dice, held=True), 24, lambda one: one.summary)
    contexts = [
        {"id": str(i), "context": [said for _, said in one.turns], "speaker": [who for who, _ in one.turns]}
        for i, one in enumerate(rows)
    ]
    return {
        "vcsum/overall_context_test.txt": lines(contexts),
        "vcsum/long_test.txt": lines({"id": str(i), "summary": one.summary} for i, one in enumerate(rows)),
    }


def humaneval(world: World) -> Files:
    dice = Dice(world.seed, "humaneval")
    rows = [
        {
            "task_id": f"HumanEval/{number}",
            "prompt": one.prompt,
            "entry_point": one.name,
            "canonical_solution": one.body,
            "test": one.humaneval_test,
        }
        for number, one in enumerate(several(lambda: program(dice, held=True), 40, lambda one: one.returns))
    ]
    return {"humaneval/HumanEval.jsonl.gz": gzip.compress(lines(rows), mtime=0)}


def mbpp_row(number: int, one: Program) -> dict[str, Any]:
    return {
        "text": one.task,
        "code": one.signature + one.body.rstrip("\n"),
        "task_id": number,
        "test_setup_code": "",
        "test_list": one.tests,
        "challenge_test_list": [],
    }


def mbpp(world: World) -> Files:
    dice = Dice(world.seed, "mbpp")
    shots = several(lambda: program(dice, held=False), 3, lambda one: one.returns)
    tasks = several(lambda: program(dice, held=True), 40, lambda one: one.returns)
    rows = [mbpp_row(number, one) for number, one in [*enumerate(shots, 2), *enumerate(tasks, 11)]]
    return {"mbpp/mbpp.jsonl": lines(rows)}


def plugin(world: World) -> Files:
    """In the names of the published files, half of the rows English, half Chinese."""
    files: Files = {}
    for kind, make in (("positive", call), ("negative", no_call)):
        rows: list[Call] = []
        for lang in ("en", "zh"):
            rows += several(partial(make, world, Dice(world.seed, kind, lang), True, lang), 20, lambda one: one.prompt)
        files[f"plugin/exam_plugin_v20230803_{kind}.jsonl"] = lines(
            {"prompt": one.prompt, "response": one.reply} for one in rows
        )
    return files


def code_interpreter(world: World) -> Files:
    dice = Dice(world.seed, "code_interpreter")
    rows = several(lambda: story(world, dice, held=True), 20, lambda one: one.question)
    return {
        "code_interpreter/test.jsonl": lines(
            {"query": one.question, "tags": ["math"], "answer": str(one.answer), "lang": "en"} for one in rows
        )
    }


def ppl(world: World) -> Files:
    """Texts of more than 16 times the training length."""
    return {
        f"ppl/chronicle_{number}.txt": (chronicle(world, Dice(world.seed, "ppl", number), 640) + "\n").encode()
        for number in range(4)
    }


def build(world: World) -> Files:
    files: Files = {}
    for make in (gsm8k, math, bbh, wmt, vcsum, humaneval, mbpp, plugin, code_interpreter, ppl):
        files |= make(world)
    return files
