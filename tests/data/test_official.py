"""Is it the official data? What differs from the official set is found and named, in whatever layout the data come; the
set of every benchmark is known."""

import json
import random
from collections.abc import Callable
from pathlib import Path
from typing import Any

from qwen_eval.benchmark import Benchmark, Item, Setting
from qwen_eval.data import fingerprints
from qwen_eval.data.fingerprints import Content, digest
from qwen_eval.run import compare_data
from qwen_eval.runner import parse_flags
from tests.data.official_sets import edit, hub_tables, mmlu, write

import evaluate_mmlu
import pytest

# -- a small MMLU of our own: three questions and five examples in each of the 57 subjects ---------


@pytest.fixture
def small(tmp_path: Path, as_official) -> Path:
    folder = tmp_path / "mmlu"
    for subject in evaluate_mmlu.SUBJECTS:
        for split, count in (("test", 3), ("dev", 5)):
            rows = [
                [f"{split} {subject} {i}?\nTell me.", "one", "two ", "None", "", "ABC"[i % 3]] for i in range(count)
            ]
            write(folder / split / f"{subject}_{split}.csv", rows)
    as_official("mmlu", folder)
    return folder


def test_the_official_set_is_called_by_its_name(small: Path) -> None:
    found = mmlu(small)
    assert found.official and found.departures == []
    assert found.note == "data: the official MMLU test set, 171 items"
    known = fingerprints.read_official("mmlu")
    assert known is not None and found.as_json() == {
        "set": "MMLU test set", "sha256": known.sha256, "official": True, "missing": 0, "added": 0, "changed": 0,
        "reordered": False, "other_examples": [],
    }  # fmt: skip


def test_one_changed_answer_is_found_and_named(small: Path) -> None:
    edit(small / "test/anatomy_test.csv", lambda rows: rows[2].__setitem__(5, "D"))
    found = mmlu(small)
    assert not found.official and found.as_json()["changed"] == 1
    assert found.note == "data: not the official MMLU test set: changed: anatomy/2 (the answer)"


@pytest.mark.parametrize("column", range(5))
def test_a_change_of_one_character_in_any_other_cell_is_of_the_question(small: Path, column: int) -> None:
    edit(small / "test/anatomy_test.csv", lambda rows: rows[0].__setitem__(column, f" {rows[0][column]}"))
    edit(small / "test/virology_test.csv", lambda rows: rows[1].__setitem__(column, f"{rows[1][column]}."))
    found = mmlu(small)
    wanted = ["virology/1 (the question)"] if column == 4 else ["anatomy/0 (the question)", "virology/1 (the question)"]
    assert list(map(str, found.changed)) == wanted  # a blank is all there is of an empty cell


def test_a_question_and_its_answer_changed_together(small: Path) -> None:
    edit(small / "test/anatomy_test.csv", lambda rows: rows.__setitem__(1, ["Other?", "a", "b", "c", "d", "D"]))
    assert "changed: anatomy/1 (question and answer)" in mmlu(small).note


@pytest.mark.parametrize("place", [0, 1, 3])
def test_an_added_question_is_named_wherever_it_stands(small: Path, place: int) -> None:
    edit(small / "test/nutrition_test.csv", lambda rows: rows.insert(place, ["Other?", "a", "b", "c", "d", "D"]))
    found = mmlu(small)
    assert found.note == f"data: not the official MMLU test set: added: nutrition/{place}"


@pytest.mark.parametrize("place", range(3))
def test_a_missing_question_is_named_wherever_it_stood(small: Path, place: int) -> None:
    edit(small / "test/nutrition_test.csv", lambda rows: rows.pop(place))
    assert mmlu(small).note == f"data: not the official MMLU test set: missing: nutrition/{place}"


def test_a_changed_answer_behind_an_added_question_is_still_called_one_change(small: Path) -> None:
    edit(small / "test/nutrition_test.csv", lambda rows: rows[1].__setitem__(5, "D"))
    edit(small / "test/nutrition_test.csv", lambda rows: rows.insert(0, ["Other?", "a", "b", "c", "d", "D"]))
    found = mmlu(small)
    assert (found.missing, found.added, list(map(str, found.changed))) == (
        [], ["nutrition/0"], ["nutrition/2 (the answer)"],
    )  # fmt: skip


def test_the_same_question_twice_is_one_added(small: Path) -> None:
    edit(small / "test/nutrition_test.csv", lambda rows: rows.append(rows[0]))
    assert mmlu(small).added == ["nutrition/3"]


def test_many_differences_are_counted_with_one_as_an_example(small: Path) -> None:
    for subject in ("anatomy", "nutrition", "virology"):
        edit(small / f"test/{subject}_test.csv", lambda rows: rows[2].__setitem__(5, "D"))
    edit(small / "test/astronomy_test.csv", lambda rows: rows.clear() or rows.append(["Q?", "1", "2", "3", "4", "A"]))
    assert mmlu(small).note == (
        "data: not the official MMLU test set: missing: 2 items, such as astronomy/1; "
        "changed: 4 items, such as anatomy/2 (the answer)"
    )


def test_all_other_questions_are_said_to_be_none_of_the_set(small: Path) -> None:
    for path in (small / "test").iterdir():
        edit(path, lambda rows: [row.__setitem__(0, f"{row[0]} Really?") for row in rows])
    found = mmlu(small)
    assert found.note == "data: none of the 171 items is of the official MMLU test set"
    assert found.as_json() | {"sha256": ""} == {
        "set": "MMLU test set", "sha256": "", "official": False, "missing": 171, "added": 171, "changed": 0,
        "reordered": False, "other_examples": [],
    }  # fmt: skip


def test_another_order_is_recognised(small: Path) -> None:
    for path in (small / "test").iterdir():
        edit(path, lambda rows: rows.reverse())
    found = mmlu(small)
    assert found.official
    assert found.note == "data: the official MMLU test set, 171 items (the same items in another order)"


def test_line_ends_and_white_space_at_the_ends_of_lines_do_not_count(small: Path) -> None:
    for path in small.rglob("*.csv"):
        edit(path, lambda rows: [row.__setitem__(0, row[0].replace("\n", " \r\n") + "  \n") for row in rows])
        edit(path, lambda rows: [row.__setitem__(2, row[2].rstrip()) for row in rows])
    assert mmlu(small).note == "data: the official MMLU test set, 171 items"


def test_with_subjects_these_alone_are_compared(small: Path) -> None:
    edit(small / "test/anatomy_test.csv", lambda rows: rows[2].__setitem__(5, "D"))
    found = mmlu(small, "--subjects", "virology,nutrition")
    assert found.official and found.note == "data: nutrition, virology of the official MMLU test set, 6 items"
    found = mmlu(small, "--subjects", "anatomy")
    assert found.note == "data: not anatomy of the official MMLU test set: changed: anatomy/2 (the answer)"


def test_a_subject_that_is_left_out_is_named(small: Path, script) -> None:
    (small / "test/virology_test.csv").unlink()
    replies = small / "replies.jsonl"
    replies.write_text('{"id": "anatomy/0", "response": "A"}\n')
    ended = script("mmlu", "--rescore", replies, "--base", "-d", small)
    assert ended.status == 2 and f"missing file {small}/test/virology_test.csv; -d wants" in ended.err
    found = mmlu(small, "--subjects", ",".join(name for name in evaluate_mmlu.SUBJECTS if name != "virology"))
    assert found.note == "data: 56 of the 57 subjects (without virology) of the official MMLU test set, 168 items"


def test_several_subjects_without_a_file_are_all_named(small: Path, script) -> None:
    for subject in ("astronomy", "nutrition", "virology"):
        (small / f"test/{subject}_test.csv").unlink()
    replies = small / "replies.jsonl"
    replies.write_text('{"id": "anatomy/0", "response": "A"}\n')
    ended = script("mmlu", "--rescore", replies, "--base", "-d", small)
    first = f"missing file {small}/test/astronomy_test.csv, and those of 2 more subjects (nutrition, virology)"
    assert ended.status == 2 and first in ended.err and ended.err.count("\n") == 1


def test_a_changed_example_is_a_departure_and_named(small: Path) -> None:
    edit(small / "dev/anatomy_dev.csv", lambda rows: rows[2].__setitem__(5, "D"))
    found = mmlu(small)
    assert found.official and found.departures == ["other few-shot examples"]
    assert found.note.endswith("171 items; other few-shot examples: example 3 of 5 of anatomy (the answer)")
    assert found.as_json()["other_examples"] == ["example 3 of 5 of anatomy (the answer)"]
    assert mmlu(small, shots=2).departures == [], "the prompt does not have it"
    assert mmlu(small, shots=0).departures == []


def test_examples_in_another_order_are_a_departure(small: Path) -> None:
    edit(small / "dev/anatomy_dev.csv", lambda rows: rows.reverse())
    assert "; other few-shot examples: 4 examples, such as example 1 of 5 of anatomy" in mmlu(small).note


def test_an_answer_that_the_short_digest_cannot_tell_is_found_by_the_sum_of_all(small: Path) -> None:
    path = fingerprints.FOLDER / "mmlu.json"
    known = json.loads(path.read_text())
    path.write_text(json.dumps({**known, "sha256": "0" * 64}))
    found = mmlu(small)
    assert not found.official and found.note.endswith("an answer differs, but it cannot be said which")


def test_any_change_of_a_text_but_white_space_at_line_ends_changes_its_digest() -> None:
    dice = random.Random(0)
    for _ in range(300):
        text = "".join(dice.choice("ab é中\n\t") for _ in range(dice.randint(1, 30))) + "x"
        place = dice.randrange(len(text))
        other = f"{text[:place]}{dice.choice('cdö国')}{text[place:]}"
        assert digest("s", Content(text, None)) != digest("s", Content(other, None))
        assert digest("s", Content(text, None)) == digest("s", Content(f"{text} \r\n".replace("\n", " \r\n"), None))
        assert digest("s", Content([text, ""], None)) != digest("s", Content(["", text], None))


def test_the_hubs_tables_of_the_small_set_are_recognised(small: Path, tmp_path: Path) -> None:
    hub_tables(small, tmp_path / "hub")
    assert mmlu(tmp_path / "hub").note == "data: the official MMLU test set, 171 items"


def test_a_benchmark_of_the_same_name_that_says_no_content_is_not_compared(small: Path) -> None:
    class Own(Benchmark):
        name = "mmlu"

    setting = Setting(flags=parse_flags(Own(), "", ()))
    assert compare_data(Own(), setting, [Item("anatomy/0", "anatomy", gold="A")]) is None


# -- a run -----------------------------------------------------------------------------------------


@pytest.fixture
def run(script, tmp_path: Path, as_official):
    """run(change, *flags): results.json of GSM8K with 1,319 questions, all but 644 answered right, of which `change`
    makes other data."""
    rows = [{"question": f"How many is {i}?", "answer": f"so\n#### {i}"} for i in range(1319)]
    data, replies, out = tmp_path / "test.jsonl", tmp_path / "replies.jsonl", tmp_path / "out"
    replies.write_text(
        "".join(json.dumps({"id": f"test/{i}", "response": f"{i if i < 675 else 'x'}"}) + "\n" for i in range(1319))
    )

    def put() -> None:
        data.write_text("".join(json.dumps(row) + "\n" for row in rows))

    put()
    as_official("gsm8k", data)

    def make(change: Callable[[list[dict[str, str]]], Any], *flags: object) -> dict[str, Any]:
        change(rows)
        put()
        ended = script("gsm8k", "--rescore", replies, "-d", data, "-o", out, "--reported-as", "Qwen-7B", *flags)
        assert ended.status == 0, ended.err
        found = json.loads((out / "results.json").read_text(encoding="utf-8"))
        assert all(note in (out / "table.md").read_text(encoding="utf-8") for note in found["notes"])
        return found

    return make


def test_the_official_data_can_be_reproduced_and_results_json_says_which_they_are(run) -> None:
    found = run(lambda rows: None)
    assert found["scores"]["acc"]["verdict"] == "reproduced"
    assert found["notes"][0] == "data: the official GSM8K test set, 1,319 items"
    assert found["manifest"]["data"]["official"] is True and len(found["manifest"]["data_sha256"]) == 64


def test_as_many_other_questions_are_never_reproduced(run) -> None:
    found = run(lambda rows: rows[1318].update(answer="so\n#### 5"))
    assert found["scores"]["acc"]["verdict"] == "consistent"
    assert found["notes"][0] == "data: not the official GSM8K test set: changed: test/1318 (the answer)"
    assert "the data are not the official set: never `reproduced`" in found["notes"]
    data = found["manifest"]["data"]
    assert (data["official"], data["missing"], data["added"], data["changed"]) == (False, 0, 0, 1)


def test_a_change_outside_of_the_sample_is_found_too(run) -> None:
    found = run(lambda rows: rows[1318].update(answer="so\n#### 5"), "--limit", 3)
    assert found["notes"][0] == "data: not the official GSM8K test set: changed: test/1318 (the answer)"


def test_the_demos_own_samples_are_compared_with_nothing(script, tmp_path: Path) -> None:
    ended = script("gsm8k", "-c", "demo", "-k", 2, "--limit", 1, "--max-new-tokens", 1, "-o", tmp_path)
    assert ended.status == 0, ended.err
    found = json.loads((tmp_path / "results.json").read_text(encoding="utf-8"))
    assert found["manifest"]["data"] is None and not any(note.startswith("data:") for note in found["notes"])


def test_where_no_official_set_is_known_the_note_says_so(script, tmp_path: Path) -> None:
    data = Path(__file__).resolve().parents[2] / "demo/data/plugin"
    replies = tmp_path / "replies.jsonl"
    replies.write_text("".join(json.dumps({"id": f"negative/{i}", "response": "No."}) + "\n" for i in range(30)))
    flags = ("--subjects", "negative", "--reported-as", "Qwen-7B-Chat", "--data-version", "20231206")
    ended = script("plugin", "--rescore", replies, "-d", data, *flags, "-o", tmp_path / "out")
    assert ended.status == 0 and "data: no official set is known to compare the items with" in ended.out, ended.err
