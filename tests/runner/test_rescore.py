"""Files of replies as other harnesses write them: whose replies they are, and what of them is scored."""

import codecs
import gzip
import json
from pathlib import Path

from qwen_eval.data.items import Item
from qwen_eval.errors import UserError
from qwen_eval.rescore import Replies

import pytest

ROOT = Path(__file__).resolve().parents[2]


def problems(prefix: str, numbers: range) -> list[Item]:
    return [Item(f"{prefix}/{n}", "test", "", row={"prompt": f"def f{n}():"}) for n in numbers]


def write(path: Path, *rows: dict) -> Path:
    path.write_text("".join(json.dumps(row) + "\n" for row in rows), encoding="utf-8")
    return path


def matched(path: Path, items: list[Item]) -> dict[str, str]:
    replies = Replies(path)
    return {item.id: replies.text(item) for item in replies.match(items, items, part=False)}


@pytest.mark.parametrize("name", ["HumanEval/1", "humaneval/1", "1", 1])
def test_an_id_in_any_form_that_people_write(tmp_path: Path, name: object) -> None:
    path = write(tmp_path / "a.jsonl", {"task_id": name, "completion": "    return 1"})
    assert matched(path, problems("HumanEval", range(3))) == {"HumanEval/1": "    return 1"}


def test_the_ids_of_evalplus_are_those_of_mbpp(tmp_path: Path) -> None:
    path = write(tmp_path / "a.jsonl", {"task_id": "Mbpp/12", "solution": "def f(): ..."})
    assert matched(path, problems("MBPP", range(11, 14))) == {"MBPP/12": "def f(): ..."}


@pytest.mark.parametrize("pack", [lambda data: data, gzip.compress])
def test_a_byte_order_mark_and_gzip_change_nothing(tmp_path: Path, pack) -> None:
    path = tmp_path / ("a.jsonl.gz" if pack is gzip.compress else "a.jsonl")
    path.write_bytes(pack(codecs.BOM_UTF8 + b'{"id": "HumanEval/0", "response": "x"}\r\n'))
    assert matched(path, problems("HumanEval", range(2))) == {"HumanEval/0": "x"}


def test_a_line_says_by_its_own_field_what_its_reply_is(tmp_path: Path) -> None:
    """A samples.jsonl of ours has a `completion` beside the reply: the reply is what is scored."""
    rows = (
        {"task_id": 0, "solution": "whole", "completion": "part"},
        {"task_id": 1, "completion": "part"},
        {"id": "HumanEval/2", "response": "reply", "completion": "part"},
    )
    items = problems("HumanEval", range(3))
    for row, field, item in zip(rows, ("solution", "completion", "response"), items, strict=True):
        replies = Replies(write(tmp_path / "a.jsonl", row))
        replies.match(items, items, part=False)
        found = replies.by_key[item.key]
        assert found["response"] == found[field]
        assert {"solution", "completion", "response"} & found.keys() == {field, "response"}


def test_replies_to_the_worked_examples_are_left_out(tmp_path: Path) -> None:
    path = write(tmp_path / "a.jsonl", *({"task_id": n, "solution": "x"} for n in (2, 11)))
    replies, items = Replies(path), problems("MBPP", range(11, 14))
    with pytest.raises(UserError, match=r"unknown id '2' \(1 of 2 fit no item\)"):
        replies.match(items, items, part=False)
    replies.leave_out("the examples", ["MBPP/2"])
    assert [item.id for item in replies.match(items, items, part=False)] == ["MBPP/11"]
    assert replies.left_out == 1
    assert replies.notes() == ["1 replies to the examples left out"]


# -- lm-evaluation-harness -----------------------------------------------------------------------------------------


def lm_eval(number: int, resps: list, **doc: object) -> dict:
    return {"doc_id": number, "doc": doc, "target": "", "resps": resps, "filtered_resps": ["18"], "filter": "none"}


def test_replies_of_lm_eval_are_the_raw_ones_and_every_filter_names_them_once_more(tmp_path: Path) -> None:
    rows = [lm_eval(n, [[f"so it is {n}"]], question=f"q{n}") for n in (1, 0)]
    path = write(tmp_path / "samples_gsm8k_2025-01-01T00-00-00.1.jsonl", *rows, *({**r, "filter": "b"} for r in rows))
    items = [Item(f"test/{n}", "test", "") for n in range(2)]
    assert matched(path, items) == {"test/0": "so it is 0", "test/1": "so it is 1"}


def test_an_lm_eval_document_is_known_by_its_question_before_its_number(tmp_path: Path) -> None:
    path = write(tmp_path / "samples_humaneval.jsonl", lm_eval(0, [["a", "b"]], prompt="def f2():"))
    items = [item for item in problems("HumanEval", range(3)) for item in (item, Item(item.id, "test", "", sample=1))]
    replies = Replies(path)
    kept = replies.match(items, items, part=False)
    assert [(item.id, item.sample, replies.text(item)) for item in kept] == [
        ("HumanEval/2", 0, "a"),
        ("HumanEval/2", 1, "b"),
    ]


def test_lm_eval_choices_are_logits_and_its_files_name_the_subject(tmp_path: Path) -> None:
    for subject, best in (("nutrition", 2), ("human_sexuality", 0)):
        pairs = [[[str(-1.0 - (index != best)), "False"]] for index in range(4)]
        write(tmp_path / f"samples_mmlu_{subject}_2025-01-01T00-00-00.123.jsonl", lm_eval(0, pairs, question="Which?"))
    items = [Item(f"{subject}/0", subject, "") for subject in ("nutrition", "human_sexuality")]
    replies = Replies(tmp_path)
    assert replies.have_logits
    assert [item.id for item in replies.match(items, items, part=False)] == [item.id for item in items]
    assert [replies.logits(item, 4) for item in items] == [[-2, -2, -1, -2], [-1, -2, -2, -2]]


@pytest.mark.parametrize(
    ("row", "said"),
    [
        ({"id": None, "response": "x"}, "line 2 is no reply: .*`id` is null"),
        ({"id": "a/0", "response": None}, "line 2 is no reply: .*`response` is null"),
        ({"task_id": 1.5, "completion": "x"}, "line 2 is no reply: .*`task_id` is 1.5"),
        ({"task_id": True, "completion": "x"}, "line 2 is no reply: .*`task_id` is true"),
        ({"id": "a/0", "response": "x", "sample": "1"}, 'line 2: `sample` is "1", not a whole number'),
        ({"doc_id": 0, "doc": {}, "resps": [[3]]}, "line 2: `resps` is .*, neither texts nor log-likelihoods"),
        ({"doc_id": "x", "doc": {}, "resps": [["a"]]}, "line 2: 'doc_id' is \"x\", not a whole number"),
    ],
)
def test_a_line_that_is_no_reply_is_named_with_its_field(tmp_path: Path, row: dict, said: str) -> None:
    path = tmp_path / "a.jsonl"
    path.write_text("\n" + json.dumps(row) + "\n")
    with pytest.raises(UserError, match=said):
        Replies(path)
