"""Replies with programs, as models write them, by the scripts with `--rescore`: what counts is the verdict."""

import json
import sys
from itertools import groupby
from operator import itemgetter

from tests.eval.code_replies import ENDLESS, FRAMES, FUNCTION, PROBLEM, PROGRAMS, TAILS, TASK, F

import evaluate_humaneval
import evaluate_mbpp
import pytest

MAINS = {"humaneval": evaluate_humaneval.main, "mbpp": evaluate_mbpp.main}
BODY = PROBLEM["canonical_solution"]
WRONG = "def total(values, start):\n    return 0"


@pytest.fixture
def rescore(monkeypatch, tmp_path):
    """(correct, correct_robust) of each of several replies to one item."""

    def run(script, data, item, replies, flags=()):
        lines = [{"id": item, "sample": number, "response": reply} for number, reply in enumerate(replies)]
        (tmp_path / "replies.jsonl").write_text("\n".join(map(json.dumps, lines)), encoding="utf-8")
        words = ["-d", data, "--rescore", tmp_path / "replies.jsonl", "-o", tmp_path / "out", "--overwrite", *flags]
        monkeypatch.setattr(sys, "argv", [f"evaluate_{script}.py", *map(str, words)])
        assert MAINS[script]() == 0
        samples = map(json.loads, (tmp_path / "out/samples.jsonl").read_text(encoding="utf-8").splitlines())
        return [
            (sample["correct"], sample["correct_robust"])
            for sample in sorted(samples, key=lambda sample: sample.get("sample", 0))
        ]

    return run


@pytest.fixture
def data(tmp_path):
    """One problem and one task of these tests' own."""
    (tmp_path / "data").mkdir()
    (tmp_path / "data/HumanEval.jsonl").write_text(json.dumps(PROBLEM), encoding="utf-8")
    tasks = [TASK, *({**TASK, "task_id": number} for number in (2, 3, 4))]
    (tmp_path / "data/mbpp.jsonl").write_text("\n".join(map(json.dumps, tasks)), encoding="utf-8")
    return tmp_path / "data"


KIND = itemgetter("script", "args", "id")


def test_the_recorded_replies_are_read_right(shared, data_of, rescore):
    """Of public bug reports; `robust` is the right verdict."""
    lines = map(json.loads, (shared / "cases/replies.jsonl").read_text(encoding="utf-8").splitlines())
    cases = sorted((line for line in lines if line["script"] in MAINS), key=KIND)
    assert len(cases) >= 22
    for (script, flags, item), group in groupby(cases, KIND):
        chosen = list(group)
        found = rescore(script, data_of(script), item, [case["response"] for case in chosen], flags)
        assert [robust for _, robust in found] == [case["robust"] for case in chosen], chosen


CHAT = {
    "humaneval chat line ends": [
        f"{F}python\r\n{FUNCTION}\r\n{F}\r\n".replace("\n\n", "\r\n\r\n"),
        FUNCTION.replace("\n", "\r"),
    ],
    "humaneval chat fence": [
        FRAMES[name](FUNCTION) for name in ("tildes", "title", "behind a bullet", "never closed, prose")
    ],
    "humaneval chat name": [
        f"{F}\n{PROGRAMS[name]}\n{F}" for name in ("alias", "import", "decorator", "callable class")
    ],
    "humaneval chat future": [
        f"{F}\n# Sums.\n\n{PROGRAMS['future']}\n{F}",
        f"Import:\n{F}\nfrom __future__ import annotations\n{F}\nand\n{F}\n{FUNCTION}\n{F}",
    ],
    "humaneval chat tail": [FRAMES["plain"](FUNCTION + tail) for tail in (TAILS["input"], TAILS["missing stars"])],
    "humaneval chat stand-ins": [
        f"{F}\nclass Solution:\n    def total(self, values, start):\n        return sum(values) + start\n{F}"
    ],
}
BASE = {
    "humaneval base tail": [BODY + tail for tail in [*TAILS.values(), *ENDLESS.values()]],
    "humaneval base body": [
        "    for value in values:\n#add\n        start += value\n\n# done\n    return start\n",
        "    def plus(a, b):\n        return a + b\n\n    # all\n    return sum(values, start)",
    ],
}
MBPP = {
    "mbpp wrapper": [FRAMES[name](FUNCTION) for name in FRAMES if "line" not in name],
    "mbpp tail": [FUNCTION + tail for tail in TAILS.values()],
}


@pytest.mark.parametrize(
    ("script", "flags", "item", "kinds"),
    [
        ("humaneval", ["--chat"], "HumanEval/0", CHAT),
        ("humaneval", ["--base"], "HumanEval/0", BASE),
        ("mbpp", [], "MBPP/11", MBPP),
    ],
)
def test_other_replies_of_the_same_kinds_are_read_right(script, flags, item, kinds, data, rescore):
    named = [(kind, reply) for kind, replies in kinds.items() for reply in replies]
    found = rescore(script, data, item, [reply for _, reply in named], flags)
    assert [case for case, (_, robust) in zip(named, found, strict=True) if not robust] == []


def test_wrong_programs_are_wrong_by_either_reading(data, rescore):
    replies = [FRAMES[name](WRONG) for name in ("plain", "no fence", "BEGIN")] + ["", "I cannot.", "    pass"]
    for script, flags, item in (
        ("humaneval", ["--chat"], "HumanEval/0"),
        ("humaneval", ["--base"], "HumanEval/0"),
        ("mbpp", [], "MBPP/11"),
    ):
        assert set(rescore(script, data, item, replies, flags)) == {(False, False)}


def test_a_reply_that_is_right_by_the_protocol_is_right_by_the_robust_reading_whatever_that_makes_of_it(data, rescore):
    wrong_signature = f"{F}python\ndef total():\n    return sum(values) + start\n{F}"
    decorated = f"{F}python\n@missing.decorator\ndef total(values, start):\n    return sum(values) + start\n{F}"
    assert rescore("humaneval", data, "HumanEval/0", [wrong_signature, decorated], ["--chat"]) == [(True, True)] * 2
    hidden = "exec('def total(values, start): return sum(values) + start')"
    assert rescore("mbpp", data, "MBPP/11", [hidden]) == [(True, True)]
