"""MMLU-Pro: the prompt to the letter and to the token, every published letter, long prompts, bad data."""

import gzip
import json
from pathlib import Path
from typing import Any

from qwen_eval.benchmark import Item, Setting, answered
from qwen_eval.reporting.samples import unpacked

import evaluate_mmlu_pro as mmlu_pro
import pytest

PUBLISHED = "published_outputs/mmlu_pro/qwen1.5-7b-chat.jsonl.gz"
TWO_SHOT = """\
The following are multiple choice questions (with answers) about computer science. Think step by step and then finish \
your answer with "the answer is (X)" where X is the correct letter choice.



Question:
What is sum 0?
Options:
A. zero
B. one
C. two
Answer: Let's think step by step. It is 0. The answer is (A).

Question:
What is sum 1?
Options:
A. zero
B. one
C. two
D. three
Answer: Let's think step by step. It is 1. The answer is (B).

Question:
Which is a loop?

Options:
A. for
B. [if]
C.  else
Answer: Let's think step by step."""


def row(number: int, category: str, **other: Any) -> dict[str, Any]:
    options = ["zero", "one", "two", "three", "four", "five", "six", "seven", "eight", "nine"][: 3 + number % 8]
    return {
        "question_id": number,
        "question": f"What is sum {number}?",
        "options": [*options, *["N/A"] * (10 - len(options))],
        "answer": "ABCDEFGHIJ"[number % len(options)],
        "answer_index": number % len(options),
        "cot_content": "",
        "category": category,
        **other,
    }


def example(number: int, category: str) -> dict[str, Any]:
    letter = row(number, category)["answer"]
    thought = f"A: Let's think step by step. It is {number}. The answer is ({letter})."
    return row(number, category, cot_content=thought)


def write(path: Path, rows: list[dict[str, Any]]) -> None:
    path.write_text("".join(json.dumps(one) + "\n" for one in rows), encoding="utf-8")


ASKED = row(7, "computer science", question="Which is a loop?\n", options=["for", "[if]", " else", "N/A"], answer="A")


@pytest.fixture
def data(tmp_path: Path) -> Path:
    folder = tmp_path / "mmlu_pro"
    folder.mkdir()
    subjects = ("law", "computer science")
    write(folder / "validation.jsonl", [example(number, name) for name in subjects for number in range(5)][:5] + [
        example(number + 10, "computer science") | {"question": f"What is sum {number}?"} for number in range(5)
    ])  # fmt: skip
    write(folder / "test.jsonl", [row(number, "law") for number in range(20, 26)] + [ASKED])
    return folder


def samples(folder: Path) -> list[dict[str, Any]]:
    lines = (folder / "samples.jsonl").read_text(encoding="utf-8").splitlines()
    return sorted((unpacked(json.loads(line)) for line in lines), key=lambda one: int(one["id"].split("/")[1]))


def test_the_prompt_to_the_letter_and_to_the_token(script, demo_checkpoint: Path, tmp_path: Path) -> None:
    write(tmp_path / "validation.jsonl", [example(number, "computer science") for number in range(5)])
    write(tmp_path / "test.jsonl", [ASKED])
    flags = ("-c", demo_checkpoint, "-d", tmp_path, "--max-new-tokens", 2)
    assert script("mmlu_pro", *flags, "-k", 2, "-o", tmp_path / "out").status == 0
    (sample,) = samples(tmp_path / "out")
    assert (sample["id"], sample["subject"], sample["prompt"]) == ("computer_science/7", "computer_science", TWO_SHOT)


def test_a_five_shot_prompt_has_the_tokens_of_one_written_by_hand(demo_checkpoint: Path, data: Path) -> None:
    from qwen_eval.engines.local.prompts import Encoder
    from qwen_model.loading import load_tokenizer

    head, *shots, asked = TWO_SHOT.replace("\n\nQuestion:\n", "\n\n\0Question:\n").split("\0")
    by_hand = head + "".join(shots[number % 2] for number in range(5)) + asked
    write(data / "validation.jsonl", [example(n % 2, "computer science") | {"question_id": n} for n in range(5)])
    write(data / "test.jsonl", [ASKED])
    (item,) = mmlu_pro.MMLUPro().load(Setting(data_path=str(data), shots=5))
    request = next(mmlu_pro.MMLUPro().evaluate(item, Setting(shots=5)))
    encoder = Encoder(load_tokenizer(demo_checkpoint))
    made, wanted = encoder.plain([request.prompt], raw=True)[0], encoder.tokenizer(by_hand)["input_ids"]
    assert list(made) == list(wanted) and len(wanted) > 200


def test_every_published_letter_is_read_and_the_robust_extraction_reads_more(shared) -> None:
    path = shared / "data/mmlu_pro/test.jsonl.gz"
    rows = {one["question_id"]: one for part in mmlu_pro.read_split([path], mmlu_pro.FIELDS).values() for one in part}
    assert len(rows) == mmlu_pro.MMLUPro.official_items
    with gzip.open(shared / PUBLISHED, "rt", encoding="utf-8") as stream:
        replies = [json.loads(line) for line in stream]
    without = []
    right = 0
    for reply in replies:
        one = rows[reply["id"]]
        found = mmlu_pro.read_protocol(one, reply["response"])
        assert found == reply["letter"], reply["id"]
        if found == one["answer"]:
            right += 1
            assert mmlu_pro.read_robust(one, reply["response"]) == found, reply["id"]
        without += [reply] * (found is None)
    assert (len(replies), right, len(without)) == (12_032, 3_181, 2_809)
    careful = [mmlu_pro.read_robust(rows[reply["id"]], reply["response"]) for reply in without[::10]]
    assert sum(letter is not None for letter in careful) > 150


@pytest.mark.parametrize(
    ("reply", "protocol", "robust"),
    [
        ("The answer is (A).\n\nFinal Answer:\nThe answer is (C).", "A", "A"),  # what is written on does not count
        ("The answer is (A) and (C).", "A", "A"),
        ("So the answer is (A).\nNo, the answer is (B).", "A", "B"),
        ("The answer is (A). Wait, I made a mistake: two and one are three. The answer is (D).", "A", "D"),
        ("The answer is (B). No other option fits. Actually, one is odd.", "B", "B"),
        ("The answer is Both; I choose (C).", "B", "C"),
        ("The answer is (H), so C is right.", "H", "C"),  # no option has it
        ("The answer is **B**.", None, "B"),
        ("Answer: C", None, "C"),
        ("I cannot say.", None, None),
    ],
)
def test_the_robust_extraction_keeps_the_protocols_letter_unless_it_is_taken_back(reply, protocol, robust) -> None:
    one = {"options": ["zero", "one", "two", "three"], "question": "What is it?"}
    assert (mmlu_pro.read_protocol(one, reply), mmlu_pro.read_robust(one, reply)) == (protocol, robust)


def test_replies_are_scored_and_those_without_a_letter_are_counted(script, shared, tmp_path: Path) -> None:
    """The first published replies of a category, as a file for --rescore."""
    rows = mmlu_pro.read_split([shared / "data/mmlu_pro/test.jsonl.gz"], mmlu_pro.FIELDS)["law"]
    with gzip.open(shared / PUBLISHED, "rt", encoding="utf-8") as stream:
        replies = {reply["id"]: reply for reply in map(json.loads, stream)}
    some = [replies[one["question_id"]] for one in rows[:60]]
    write(tmp_path / "given.jsonl", [{"id": f"law/{one['id']}", "response": one["response"]} for one in some])
    flags = ("-d", shared / "data/mmlu_pro", "--rescore", tmp_path / "given.jsonl", "-k", 0, "-o", tmp_path / "out")
    ended = script("mmlu_pro", *flags)
    assert ended.status == 0, ended.err
    found = {one["id"]: one["prediction"] for one in samples(tmp_path / "out")}
    assert found == {f"law/{one['id']}": one["letter"] or "" for one in some}
    none = sum(one["letter"] is None for one in some)
    assert none and f"replies without a letter by the protocol, counted as wrong: {none}; " in ended.out
    assert "data: the official MMLU-Pro test set, 12,032 items" in ended.out


def test_an_item_is_scored_from_a_list_of_answers() -> None:
    asked = {**ASKED, "options": ASKED["options"][:3]}
    item = Item("computer_science/7", "computer_science", gold="A", row=asked)

    def marks(reply: str, **other: Any) -> tuple[Any, ...]:
        one = Item(item.id, item.subject, gold="A", row={**asked, **other})
        record = answered(mmlu_pro.MMLUPro().evaluate(one, Setting()), reply)
        return record["prediction"], record["correct"], record["prediction_robust"], record["correct_robust"]

    assert marks(" So the answer is (A). No, the answer is (B).") == ("A", True, "B", False)  # the first; the last
    assert marks(" So the answer is A, of course") == ("A", True, "A", True)
    assert marks(" The answer is: (A).") == (None, False, "A", True)
    assert marks(" The answer is (J).") == ("J", False, None, False)  # no option has it
    assert marks(" I do not know.\n\nQuestion:\nThe answer is (A)") == (None, False, None, False)
    assert marks(" The answer is (A).", options=["for"]) == ("A", True, "A", True)  # five questions have one option


def test_a_prompt_of_too_many_tokens_has_fewer_examples(script, demo_checkpoint: Path, data: Path, tmp_path) -> None:
    long = example(2, "law") | {"question": "word " * 3000}
    write(data / "validation.jsonl", [example(0, "law"), example(1, "law"), long])
    write(data / "test.jsonl", [row(20, "law"), row(21, "law", question="word " * 3000)])
    flags = ("-c", demo_checkpoint, "-d", data, "-k", 3, "--max-new-tokens", 2, "-o", tmp_path / "out")
    ended = script("mmlu_pro", *flags)
    assert ended.status == 0, ended.err
    first, second = samples(tmp_path / "out")
    assert first["prompt"].count("Question:\n") == 3 and first["examples_left_out"] == 1
    assert second["prompt"].count("Question:\n") == 1 and second["examples_left_out"] == 3
    assert "asked with fewer examples as published: 2" in ended.out
    assert script("mmlu_pro", *flags[:-1], tmp_path / "chat", "--chat").status == 0
    assert [one["examples_left_out"] for one in samples(tmp_path / "chat")] == [1, 3]


def test_the_hubs_tables_are_the_same_data(data: Path, tmp_path: Path) -> None:
    import pandas

    (tmp_path / "hub/data").mkdir(parents=True)
    for split in ("test", "validation"):
        rows = [json.loads(line) for line in (data / f"{split}.jsonl").read_text().splitlines()]
        pandas.DataFrame(rows).to_parquet(tmp_path / f"hub/data/{split}-00000-of-00001.parquet")

    def loaded(folder: Path) -> list[Any]:
        found = mmlu_pro.MMLUPro().load(Setting(data_path=str(folder), shots=5))
        return [(one.id, one.gold, one.row, one.examples) for one in found]

    assert loaded(data) == loaded(tmp_path / "hub") and len(loaded(data)) == 7


@pytest.mark.parametrize("checkpoint", ["demo", "demo-chat"])
def test_both_demo_models_run(script, checkpoint: str, data: Path, tmp_path: Path) -> None:
    ended = script("mmlu_pro", "-c", checkpoint, "-d", data, "--max-new-tokens", 8, "-o", tmp_path / "out")
    assert ended.status == 0, ended.err
    assert len(samples(tmp_path / "out")) == 7 and "by category" in ended.out


def test_what_cannot_be_used_is_one_line(script, demo_checkpoint: Path, data: Path, tmp_path: Path) -> None:
    def said(*flags: object) -> str:
        ended = script("mmlu_pro", "-c", demo_checkpoint, "-d", data, *flags, "-o", tmp_path / "out")
        assert ended.status == 2 and ended.err.count("\n") == 1, ended.err
        return ended.err

    assert "there are 5 validation questions of 'computer science', fewer than --num-fewshot 6" in said("-k", 6)
    assert "did you mean 'computer_science'" in said("--subjects", "computer science")
    for change, what in (
        ({"category": "magic"}, "test.jsonl row 0: 'magic' is none of the 14 categories"),
        ({"answer": "E"}, "test.jsonl row 0: the answer 'E' is none of 4 options"),
        ({"options": "zero"}, "'options' is \"zero\", not a list of texts"),
    ):
        write(data / "test.jsonl", [row(1, "law") | change])
        assert what in said()
    write(data / "test.jsonl", [row(1, "law")] * 2)
    assert "rows 0 and 1 have the same 'question_id'" in said()
    write(data / "test.jsonl", [row(1, "law")])
    (data / "validation.jsonl").unlink()
    assert "no examples: " in said() and "-k 0" in said()
    ended = script("mmlu_pro", "-c", "demo", "-o", tmp_path / "out")
    assert ended.status == 2 and "the demo has no samples of mmlu_pro; -d names the data" in ended.err
