"""A user's own questions: what rows may hold, how they are asked and scored, and a comparison of two runs."""

import json
import sys
from dataclasses import replace
from pathlib import Path
from typing import Any

from qwen_eval.benchmark import Item, Setting, answered
from qwen_eval.benchmarks.custom import Row, read_questions
from qwen_eval.errors import UserError
from qwen_eval.reporting.samples import unpacked
from qwen_eval.runner import parse_flags

import evaluate_custom
import pytest
from evaluate_custom import Custom

CHOICES = [
    {"question": "Which is a fruit?", "choices": ["stone", "pear", "chair"], "answer": 1, "subject": "food"},
    {"question": "Which is a colour?", "choices": ["red", "seven", "to run", "Monday", "loud"], "answer": "red"},
    {"question": "Which is a number?", "choices": ["four", "blue"], "answer": "A", "id": "mine"},
]


def written(path: Path, rows: list[dict[str, Any]]) -> Path:
    path.write_text("".join(json.dumps(row) + "\n" for row in rows), encoding="utf-8")
    return path


def samples(folder: Path) -> dict[str, dict[str, Any]]:
    lines = (folder / "samples.jsonl").read_text(encoding="utf-8").splitlines()
    return {row["id"]: row for row in map(unpacked, map(json.loads, lines))}


def setting(*flags: str, chat: bool = False) -> Setting:
    return Setting(chat=chat, flags=parse_flags(Custom(), None, ["-d", "x", *flags]))


def item(row: Row) -> Item:
    return Item(row.id, row.subject, gold=row.letter if row.choices else row.reference, row=row._asdict())


def test_rows_of_json_lines_and_csv_are_the_same(tmp_path: Path) -> None:
    lines = read_questions(written(tmp_path / "q.jsonl", CHOICES))
    assert [row.letter for row in lines] == ["B", "A", "A"]
    assert [row.id for row in lines] == ["food/0", "custom/1", "mine"]
    table = tmp_path / "q.csv"
    table.write_text(
        "id,subject,question,A,B,C,D,E,answer\n,food,Which is a fruit?,stone,pear,chair,,,B\n"
        ",,Which is a colour?,red,seven,to run,Monday,loud,0\nmine,,Which is a number?,four,blue,,,,four\n"
    )
    assert read_questions(table) == lines


@pytest.mark.parametrize(
    ("row", "problem"),
    [
        ({"choices": ["a", "b"], "answer": 0}, "'question'"),
        ({"question": "q", "choices": ["a"], "answer": 0}, "not a list of 2 to 26 texts"),
        ({"question": "q", "choices": ["a", "b"]}, "'answer'"),
        ({"question": "q", "choices": ["a", "b"], "answer": 2}, "none of the 2 choices"),
        ({"question": "q", "choices": ["a", "b"], "answer": "C"}, "none of the 2 choices"),
        ({"question": "q", "choices": ["a", "b"], "answer": "²"}, "none of the 2 choices"),
        ({"question": "q", "choices": ["a", "b", "a"], "answer": "a"}, "the text of several choices; give the letter"),
        ({"question": "q", "reference": "r", "id": "food/0"}, "the id 'food/0' is that of line 1 already"),
        ({"question": "q"}, "neither `choices` with an `answer` nor a `reference`"),
    ],
)
def test_a_row_that_cannot_be_used_is_named(tmp_path: Path, row: dict[str, Any], problem: str) -> None:
    path = written(tmp_path / "q.jsonl", [CHOICES[0], row])
    with pytest.raises(UserError, match=r"q\.jsonl line 2.*") as error:
        read_questions(path)
    assert problem in str(error.value) and "\n" not in str(error.value)


def test_an_answer_that_fits_in_several_ways_is_the_text_then_the_letter_then_the_number(tmp_path: Path) -> None:
    rows = [
        {"question": "q", "choices": choices, "answer": answer}
        for choices, answer in ((["3", "2", "1"], "1"), (["B", "A", "C"], "B"), (["x", "y", "z"], "B"), (["5", "6"], 1))
    ]
    assert [row.letter for row in read_questions(written(tmp_path / "q.jsonl", rows))] == ["C", "A", "B", "B"]


def test_a_table_without_one_of_the_choices_columns_is_refused(tmp_path: Path) -> None:
    table = tmp_path / "q.csv"
    table.write_text("question,A,C,answer\nWhich?,one,two,B\n")  # B would be the text under C
    with pytest.raises(UserError, match=r"q\.csv has columns A, C: .*without a gap"):
        read_questions(table)


def test_a_reference_that_is_no_number_is_refused_before_a_model_is_asked(script, tmp_path: Path) -> None:
    for reference in ("five", "1/2", "10^3", "1,5", "2 of 3"):
        data = written(tmp_path / "q.jsonl", [{"question": "q", "reference": reference}])
        ended = script("custom", "-c", "demo", "-d", data, "--match", "numeric", "-o", tmp_path / "out")
        assert ended.status == 2 and ended.err.count("\n") == 1, ended.err
        assert f"q.jsonl, id 'custom/0': the reference is {reference!r}, not a number" in ended.err


def test_a_chat_model_with_examples_is_asked_in_their_form() -> None:
    row = Row("r", "s", "q?", ("one", "two"), 1)
    plain, shots = item(row), replace(item(row), examples=[Row("e", "s", "first?", ("x", "y"), 0)])
    ask = Custom()
    assert next(ask.evaluate(plain, setting(chat=True))).prompt == (
        "q?\n\nA. one\nB. two\n\nAnswer with the letter of the right choice."
    )
    examples = "Question: first?\nA. x\nB. y\nAnswer: A\n\n"
    wanted = f"{examples}Question: q?\nA. one\nB. two\nAnswer:"
    assert next(ask.evaluate(shots, setting(chat=True))).prompt == wanted
    assert next(ask.evaluate(shots, setting())).prompt == wanted


def test_log_likelihoods_of_a_chat_model_are_refused(script, tmp_path: Path) -> None:
    data = written(tmp_path / "q.jsonl", CHOICES)
    ended = script("custom", "-c", "demo-chat", "-d", data, "--score", "loglikelihood", "-o", tmp_path / "out")
    assert ended.status == 2 and "--score loglikelihood wants a base model" in ended.err


def test_a_run_with_another_max_seq_len_is_another_run(script, tmp_path: Path) -> None:
    flags = ("-c", "demo", "-d", written(tmp_path / "q.jsonl", CHOICES), "-o", tmp_path / "out")
    assert script("custom", *flags).status == 0
    assert not any(row["cut"] for row in samples(tmp_path / "out").values())
    ended = script("custom", *flags, "--max-seq-len", 8)
    assert ended.status == 2 and "holds a run with another model, dtype or prompt setting" in ended.err
    assert script("custom", *flags, "--max-seq-len", 8, "--overwrite").status == 0
    assert all(row["cut"] for row in samples(tmp_path / "out").values())


def test_help_shows_the_rows(script) -> None:
    ended = script("custom", "--help")
    assert ended.status == 0
    for shown in ('"choices": ["stone", "pear", "chair"], "answer": 1', "question,A,B,C,answer", "first of these"):
        assert shown in ended.out


def test_a_base_model_chooses_among_as_many_letters_as_there_are_choices() -> None:
    for number, count in ((0, 3), (1, 5), (2, 2)):
        row = Row("r", "s", "q?", tuple(CHOICES[number]["choices"]), 1)
        evaluation = Custom().evaluate(item(row), setting())
        request = next(evaluation)
        assert list(request.candidates) == [f" {letter}" for letter in "ABCDE"[:count]]
        assert request.prompt.startswith("Question: q?\nA. ") and request.prompt.endswith("\nAnswer:")
    record = answered(Custom().evaluate(item(row), setting("--score", "loglikelihood")), [-4.0, -1.0])
    assert (record["prediction"], record["correct"], record["correct_norm"]) == ("B", True, True)


@pytest.mark.parametrize(
    ("match", "reference", "reply", "right"),
    [
        ("exact", "Paris", "**Paris**.", True),
        ("exact", "Paris", "The answer is paris.", True),
        ("exact", "Paris", "The answer is Rome. No, wait: the answer is Paris.", True),
        ("exact", "Paris", "The answer is Paris.\n\nQuestion: And of the UK?\nAnswer: London", True),
        ("exact", "Paris", "It is not Paris", False),
        ("numeric", "1,200", "So there are 1200 of them.", True),
        ("numeric", "5", "The answer is 6. (Not 5.)", False),
        ("numeric", "1e3", "The answer is 1,000.", True),
        ("numeric", "$12.50", "It costs 12.5 dollars.", True),
        ("numeric", "0.00002", "The answer is 0.00003.", False),
        ("numeric", "0", "The answer is 0.00001.", False),
        ("numeric", "20000", "The answer is 20001.", False),
    ],
)
def test_a_reply_is_compared_with_the_reference(match: str, reference: str, reply: str, right: bool) -> None:
    row = Row("r", "s", "q?", reference=reference)
    record = answered(Custom().evaluate(item(row), setting("--match", match, chat=True)), reply)
    assert record["correct"] is right


def test_formulas_are_compared_by_the_checker_only_where_texts_differ() -> None:
    row = Row("r", "s", "q?", reference="\\frac{1}{2}")
    run = setting("--match", "math", chat=True)
    assert answered(Custom().evaluate(item(row), run), "It is $\\frac{1}{2}$.")["correct"] is True
    assert answered(Custom().evaluate(item(row), run), "It is $0.5$.", True)["correct"] is True


def test_a_model_is_asked_with_examples_and_compared_with_an_earlier_run(script, demo_checkpoint, tmp_path) -> None:
    four = {**CHOICES[1], "choices": CHOICES[1]["choices"][:4]}  # the tiny tokenizer has no token for ` E`
    data = written(tmp_path / "q.jsonl", [CHOICES[0], four, CHOICES[2]])
    examples = written(tmp_path / "shots.jsonl", CHOICES[:2])
    flags = ("-c", demo_checkpoint, "-d", data, "--fewshot", examples, "-k", 1)
    for way in ("letters", "loglikelihood"):
        ended = script("custom", *flags, "--score", way, "-o", tmp_path / way)
        assert ended.status == 0, ended.err
        found = samples(tmp_path / way)
        assert found.keys() == {"food/0", "custom/1", "mine"}
        assert found["mine"]["prompt"].startswith("Question: Which is a fruit?")
    again = script("custom", *flags, "--baseline", tmp_path / "letters", "-o", tmp_path / "again")
    assert again.status == 0 and "McNemar" in again.out
    chat = script("custom", "-c", demo_checkpoint, "-d", data, "--chat", "--max-new-tokens", 4, "-o", tmp_path / "chat")
    assert chat.status == 0, chat.err


def test_a_run_that_is_significantly_worse_ends_with_status_1(script, tmp_path) -> None:
    rows = [{"question": f"{n} + 1 = ?", "reference": str(n + 1)} for n in range(20)]
    data = written(tmp_path / "sums.jsonl", rows)
    for name, extra in (("good", 0), ("bad", 1)):
        given = [{"id": f"custom/{n}", "response": f"The answer is {n + 1 + extra}."} for n in range(20)]
        flags = ("-d", data, "--match", "numeric", "--rescore", written(tmp_path / f"{name}.jsonl", given))
        compared = ("--baseline", tmp_path / "out-good") if extra else ()
        ended = script("custom", *flags, *compared, "-o", tmp_path / f"out-{name}")
        assert ended.status == extra, ended.err
    assert "significantly worse" in ended.out


def test_wrong_use_is_one_line(script, tmp_path) -> None:
    for flags, problem in (
        ((), "no -d given"),
        (("-d", tmp_path / "none.jsonl"), "no file"),
        (("-d", written(tmp_path / "q.jsonl", CHOICES), "-k", 2), "--fewshot"),
    ):
        ended = script("custom", "-c", "demo", *flags)
        assert ended.status == 2 and ended.err.count("\n") == 1 and problem in ended.err, ended.err


def test_the_docstring_shows_rows_that_work(tmp_path) -> None:
    shown = [line.strip() for line in (evaluate_custom.__doc__ or "").split("\n") if line.strip().startswith("{")]
    assert len(read_questions(written(tmp_path / "q.jsonl", list(map(json.loads, shown))))) == 2
    assert "evaluate_custom" in sys.modules
