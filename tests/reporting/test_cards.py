"""`--reported FILE`: anyone's model beside its own card, in each form in which cards have figures."""

import json
from pathlib import Path

from qwen_eval.errors import UserError
from qwen_eval.reporting.cards import read_card
from qwen_eval.reporting.reported import Figure, ModelName, find

import pytest

MODEL_INDEX = """---
license: apache-2.0
model-index:
- name: Mine-7B
  results:
  - task: {type: text-generation}
    dataset: {type: cais/mmlu, name: MMLU (5-Shot), args: {num_few_shot: 5}}
    metrics:
    - {type: acc, value: 0.582, name: accuracy}
  - task: {type: text-generation}
    dataset: {type: openai/gsm8k, name: GSM8k (8-shot)}
    metrics:
    - {type: exact_match, value: 0.51, name: exact match}
    - {type: f1, value: 0.9, name: F1}
  - task: {type: text-generation}
    dataset: {type: openai_humaneval, name: HumanEval}
    metrics:
    - {type: pass@1, value: 0.299, name: pass@1}
  - task: {type: text-generation}
    dataset: {type: someone/else, name: Something else}
    metrics:
    - {type: acc, value: 0.1, name: accuracy}
---

# Mine-7B
"""
ENTRY = "- dataset: {id: %s, task_id: default}\n  value: %s\n  notes: %s\n"


def figure(rows, *wanted, model="Mine-7B"):
    found = find(rows, ModelName(model), Figure(*wanted))
    return found and (found.value, found.decimals)


def test_a_csv_of_the_same_columns(tmp_path):
    path = tmp_path / "card.csv"
    path.write_text("model,benchmark,shots,metric,value\nMine-7B,mmlu,5,acc,58.25\nMine-7B,gsm8k,8,acc,51\n")
    rows, notes = read_card(path)
    assert figure(rows, "mmlu", "acc", 5) == (58.25, 2) and figure(rows, "gsm8k", "acc", 8) == (51.0, 1)
    assert figure(rows, "mmlu", "acc", 0) is None and notes == []
    assert {row["source"] for row in rows} == {"card.csv"}


def test_a_model_cards_model_index(tmp_path):
    path = tmp_path / "README.md"
    path.write_text(MODEL_INDEX)
    for given in (path, tmp_path):
        rows, notes = read_card(given)
        assert figure(rows, "mmlu", "acc", 5) == (58.2, 1), "counted from 0 to 1 on the card"
        assert figure(rows, "gsm8k", "acc", 8) == (51.0, 1) and figure(rows, "humaneval", "pass@1", 0) == (29.9, 1)
        assert len(rows) == 3 and "counts from 0 to 1" in notes[0]


def test_the_hubs_eval_results(tmp_path):
    folder = tmp_path / ".eval_results"
    folder.mkdir()
    (folder / "mmlu.yaml").write_text(ENTRY % ("cais/mmlu", 58.2, "5-shot"))
    (folder / "gsm8k.yaml").write_text(ENTRY % ("openai/gsm8k", 51.7, "greedy"))
    for given in (folder, tmp_path):
        rows, notes = read_card(given)
        assert figure(rows, "mmlu", "acc", 5) == (58.2, 1) and figure(rows, "mmlu", "acc", 0) is None
        assert figure(rows, "gsm8k", "acc", 8, model="any") == (51.7, 1), "it does not say how many examples"
        assert notes == []
    rows, _ = read_card(folder / "mmlu.yaml")
    assert len(rows) == 1


@pytest.mark.parametrize(
    ("name", "text", "said"),
    [
        ("a.csv", "benchmark,value\nmmlu,3\n", "no column 'metric'"),
        ("a.csv", "benchmark,metric,value\nmmlu,acc,high\n", "line 2 is 'high', not a number"),
        ("a.csv", "benchmark,metric,value\n", "no figure"),
        ("README.md", "# A card without figures\n", "no figure of a benchmark that is measured here"),
        ("README.md", "---\nmodel-index: 3\n---\n", "model-index"),
        ("a.yaml", "a: [", "not YAML"),
        ("a.yaml", ENTRY % ("cais/mmlu", "high", "x"), "is 'high', not a number"),
        ("a.yaml", "- value: 3\n", "no file of .eval_results"),
        ("a.yaml", ENTRY % ("cais/hle", "3", "x"), "no figure of a benchmark that is measured here"),
        ("a.pdf", "", "not a .csv"),
    ],
)
def test_a_card_that_cannot_be_used_is_one_line(tmp_path, name, text, said):
    path = tmp_path / name
    path.write_text(text)
    with pytest.raises(UserError, match="--reported") as error:
        read_card(path)
    assert said in str(error.value) and "\n" not in str(error.value)
    with pytest.raises(UserError, match="no such file"):
        read_card(tmp_path / "elsewhere.csv")


def test_a_run_stands_beside_another_card(script, tmp_path: Path):
    card = tmp_path / "card.csv"
    card.write_text("model,benchmark,shots,metric,value\nMine,mmlu,5,acc,38.0\nMine,mmlu,0,acc,99.0\n")
    ended = script("mmlu", "-c", "demo", "--limit", "2", "--reported", card, "-o", tmp_path / "out")
    assert ended.status == 0, ended.err
    score = json.loads((tmp_path / "out/results.json").read_text())["scores"]["acc"]
    assert (score["reported"], score["reported_source"]) == (38.0, "card.csv")
    card.write_text(card.read_text() + "Yours,mmlu,5,acc,40\n")
    ended = script("mmlu", "-c", "demo", "--limit", "2", "--reported", card, "-o", tmp_path / "out")
    assert ended.status == 2 and "has no figure of 'Qwen-demo'; --reported-as names one of its 2 models" in ended.err
    ended = script(
        "mmlu", "-c", "demo", "--limit", "2", "--reported", card, "--reported-as", "Yours", "-o", tmp_path / "out"
    )
    assert ended.status == 0, ended.err
    assert json.loads((tmp_path / "out/results.json").read_text())["scores"]["acc"]["reported"] == 40.0
