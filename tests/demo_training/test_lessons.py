"""What the demo's models learn from: nothing that the samples ask, in the tokens that an evaluation reads."""

from __future__ import annotations

import json
import re
from collections import Counter
from itertools import pairwise
from pathlib import Path

import lessons
import pytest
import torch
import train
from choice_lessons import LETTER
from make_data import DATA
from world import PHRASES, Dice, World, sentence

DRAWS = 300


@pytest.fixture(scope="module")
def world() -> World:
    return World()


@pytest.fixture(scope="module")
def reader() -> train.Reader:
    return train.Reader(train.CHECKPOINT / "base")


def jsonl(name: str) -> list[dict[str, str]]:
    return [json.loads(line) for line in (DATA / name).read_text(encoding="utf-8").splitlines()]


def test_no_sample_is_in_a_lesson(world: World) -> None:
    asked = {row["question"] for row in jsonl("gsm8k/test.jsonl")} | {r["problem"] for r in jsonl("math/test.jsonl")}
    asked |= {row["text"] + row["test_list"][0] for row in jsonl("mbpp/mbpp.jsonl")[3:]}
    asked |= {row["summary"] for row in jsonl("vcsum/long_test.txt")}
    asked |= {
        row["prompt"]
        for name in ("positive", "negative")
        for row in jsonl(f"plugin/exam_plugin_v20230803_{name}.jsonl")
    }
    dice = Dice("leak")
    for _ in range(DRAWS):
        for lesson in {**lessons.BASE, **lessons.READING}:
            text = "".join(part for part, _ in lesson(world, dice))
            assert not [question for question in asked if question in text]
        for lesson in lessons.CHAT:
            one = lesson(world, dice)
            said = one if isinstance(one, lessons.Turn) else [text for text, _ in one]
            assert not asked.intersection(said)


def test_no_held_out_fact_is_asked_with_choices_and_no_question_in_its_held_out_words(world: World) -> None:
    held, hidden = set(), set()
    for fact in world.facts:
        for lang, phrases in PHRASES.items():
            forms = [sentence(form.format(x=fact.thing.text(lang))) for form in phrases[fact.relation].ask]
            held.update(forms if fact.held_out else [])
            hidden.add(forms[-1])
    dice = Dice("held out")
    for _ in range(DRAWS):
        for lesson in (lessons.english_choices, lessons.chinese_choices, lessons.english_reading):
            text = "".join(part for part, _ in lesson(world, dice))
            assert not [line for line in text.splitlines() if re.sub(r"^(\d+\. |Question: |问题：)", "", line) in held]
        for turn in (lessons.english_choice_turn, lessons.chinese_choice_turn, lessons.english_shots_turn):
            assert not held.intersection(re.split(r"\n|Question: ", turn(world, dice).asked))
        asked = [text for text, _ in lessons.open_questions(world, dice)] + [lessons.open_turn(world, dice).asked]
        assert not [text for text in asked if re.sub(r"^(Question: |问题：)", "", text.strip()) in hidden]


def test_a_letter_says_nothing_about_the_next(world: World) -> None:
    pairs: Counter[str] = Counter()
    dice = Dice("letters")
    for _ in range(DRAWS):
        for lesson in (lessons.english_choices, lessons.chinese_choices):
            told = [text.strip() for text, weight in lesson(world, dice) if weight == LETTER]
            pairs.update(a + b for a, b in pairwise(told))
    share = [pairs[a + b] / sum(pairs.values()) for a in "ABCD" for b in "ABCD"]
    assert max(abs(one - 1 / 16) for one in share) < 0.025


@pytest.mark.parametrize("lesson", [lessons.words, lessons.letters])
def test_a_letter_is_that_of_its_text(world: World, lesson) -> None:
    dice = Dice("lookups")
    for _ in range(DRAWS):
        choices: dict[str, str] = {}
        asked = ""
        for text, _ in lesson(world, dice):
            if text.startswith("A. "):
                choices = {line[0]: line[3:] for line in text.splitlines()}
            elif text.startswith("- "):
                asked = text
            elif text.strip():
                assert re.sub(r"( =|\nAnswer:|\n答案：)$", "", asked) == f"- {choices[text.strip()]}"


def test_lessons_are_the_tokens_that_an_evaluation_reads(world: World, reader: train.Reader) -> None:
    dice = Dice("tokens")
    for lesson in (lessons.english_choices, lessons.chinese_choices, lessons.story_lesson, lessons.translation_lesson):
        for _ in range(20):
            parts = lesson(world, dice)
            ids, weights = reader.read(parts)
            assert len(ids) == len(weights)
            whole = reader.encoder.plain(["".join(text for text, _ in parts)])[0].tolist()
            assert ids == [*whole, reader.tokenizer.eod_id]
    turn = lessons.story_turn(world, dice)
    ids, weights = reader.read(turn)
    prompt = reader.encoder.chat([turn.asked])[0].tolist()
    assert ids[: len(prompt)] == prompt and not any(weights[: len(prompt)]) and all(weights[len(prompt) :])
    assert ids[-1] == reader.tokenizer.im_end_id


def test_batches_hold_whole_lessons_and_depend_on_the_seed_alone(world: World, reader: train.Reader) -> None:
    phase = train.Phase(2, 0.0, 0.0, rows=5, length=300)
    one, other = (list(train.batches(reader, lessons.BASE, world, Dice("b"), phase)) for _ in range(2))
    for (ids, weights), (same, same_weights) in zip(one, other, strict=True):
        assert ids.shape == weights.shape == (5, 301)
        assert torch.equal(ids, same) and torch.equal(weights, same_weights)
        assert (ids != reader.tokenizer.eod_id).float().mean() > 0.8, "little padding"


def test_muon_makes_an_update_orthogonal() -> None:
    torch.manual_seed(0)
    matrix = torch.nn.Parameter(torch.zeros(24, 48))
    matrix.grad = torch.randn(24, 48)
    train.Muon([matrix], lr=1.0).step()
    values = torch.linalg.svdvals(matrix.detach())
    assert values.min() > 0.5 and values.max() < 1.5


@pytest.mark.heavy
def test_a_short_training_writes_two_checkpoints_that_run(script, tmp_path: Path, monkeypatch) -> None:
    monkeypatch.setattr("sys.argv", ["train.py", "-o", str(tmp_path), "--steps", "0.001"])
    assert train.main() == 0
    for name in ("base", "chat"):
        ended = script(
            "gsm8k",
            "-c",
            tmp_path / name,
            "-d",
            DATA / "gsm8k",
            "-k",
            0,
            "--limit",
            2,
            "-o",
            tmp_path / name / "out",
        )
        assert ended.status == 0, ended.err
