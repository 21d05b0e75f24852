"""A newcomer's benchmarks: docs/adding_a_benchmark.md's ARC-Challenge is what runs here, HellaSwag stands below."""

import importlib.util
import json
import re
import sys
from pathlib import Path
from types import ModuleType
from typing import Any

from qwen_eval.benchmark import Item, Setting, answered
from qwen_eval.errors import run_script
from qwen_eval.reporting.samples import unpacked
from qwen_eval.runner import run_benchmark
from tests.eval.lm_eval_side import compare, in_lm_eval

import pytest

PAGE = Path(__file__).resolve().parents[2] / "docs" / "adding_a_benchmark.md"
TEXT = PAGE.read_text(encoding="utf-8")
WORDS = "river stone light water cloud metal plant animal sound heat energy force rock wind moon soil".split()


@pytest.fixture(scope="module")
def arc(tmp_path_factory: pytest.TempPathFactory) -> ModuleType:
    """The page's code as a module."""
    (code,) = re.findall(r"```python\n(.*?)```", TEXT, re.DOTALL)
    assert code.count("\n") <= 60
    path = tmp_path_factory.mktemp("arc") / "evaluate_arc.py"
    path.write_text(code, encoding="utf-8")
    return load(path)


def load(path: Path) -> ModuleType:
    spec = importlib.util.spec_from_file_location(path.stem, path)
    assert spec and spec.loader
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def arc_row(number: int) -> dict[str, Any]:
    """A row in the official layout; 3 to 5 choices, some called by numbers."""
    count = 3 + number % 3
    labels = "12345"[:count] if number % 4 == 0 else "ABCDE"[:count]
    texts = [" ".join(WORDS[(number * 7 + n * 3 + k) % len(WORDS)] for k in range(1 + n)) for n in range(count)]
    choices = [{"text": text, "label": label} for text, label in zip(texts, labels, strict=True)]
    stem = f"Which of these has to do with {WORDS[number % len(WORDS)]} and {WORDS[number * 5 % len(WORDS)]}?"
    return {"id": f"q{number}", "question": {"stem": stem, "choices": choices}, "answerKey": labels[number % count]}


@pytest.fixture(scope="module")
def arc_data(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("data") / "arc"
    folder.mkdir()
    for split, numbers in (("Test", range(24)), ("Train", range(100, 106))):
        lines = "".join(json.dumps(arc_row(number)) + "\n" for number in numbers)
        (folder / f"ARC-Challenge-{split}.jsonl").write_text(lines)
    return folder


def finished(monkeypatch: pytest.MonkeyPatch, benchmark: Any, *flags: object) -> int:
    monkeypatch.setattr(sys, "argv", ["evaluate_it.py", *map(str, flags)])
    with pytest.raises(SystemExit) as ended:
        run_script(lambda: run_benchmark(benchmark, "A benchmark."))
    return int(ended.value.code or 0)


def samples(folder: Path) -> dict[str, dict[str, Any]]:
    lines = (folder / "samples.jsonl").read_text(encoding="utf-8").splitlines()
    return {row["id"]: row for row in map(unpacked, map(json.loads, lines))}


def test_an_item_of_arc_is_scored_from_a_list_of_answers(arc: ModuleType) -> None:
    row = {"question": "q", "labels": list("ABC"), "texts": ["a", "a long text", "b"], "answer": "B"}
    item = Item("test/0", "test", gold="B", row=row)
    record = answered(arc.ARC().evaluate(item, Setting()), [-2.0, -5.0, -3.0])
    assert (record["prediction"], record["correct"], record["correct_norm"]) == ("A", False, True)
    for reply, right in (("The answer is B.", True), ("B", True), ("A or B", False), ("a long text", True)):
        assert answered(arc.ARC().evaluate(item, Setting(chat=True)), reply)["correct"] is right, reply
    numbered = Item("test/1", "test", gold="5", row={**row, "labels": list("12345"), "texts": list("vwxyz")})
    for reply, label in (
        ("The answer is 5.", "5"),
        ("5", "5"),
        ("(4) y", "4"),
        ("1 or 2", None),
        ("It is z", "5"),
        ("The answer is 2. No, the answer is 3.", "3"),
    ):
        assert answered(arc.ARC().evaluate(numbered, Setting(chat=True)), reply)["prediction"] == label, reply


def test_arc_runs_on_a_model_base_and_chat(arc, arc_data, demo_checkpoint, tmp_path, monkeypatch) -> None:
    flags = ("-c", demo_checkpoint, "-d", arc_data, "--dtype", "float32")
    assert finished(monkeypatch, arc.ARC(), *flags, "-k", 2, "-o", tmp_path / "base") == 0
    found = samples(tmp_path / "base")
    assert len(found) == 24 and {len(row["choice_logits"]) for row in found.values()} == {3, 4, 5}
    assert found["test/0"]["prompt"].count("Question: ") == 3
    scores = json.loads((tmp_path / "base/results.json").read_text())["scores"]
    assert scores.keys() == {"acc", "acc_norm", "acc_bytes"}
    assert finished(monkeypatch, arc.ARC(), *flags, "--chat", "--max-new-tokens", 4, "-o", tmp_path / "chat") == 0
    again = ("--rescore", tmp_path / "base/samples.jsonl", "-d", arc_data, "-k", 2, "-o", tmp_path / "again")
    assert finished(monkeypatch, arc.ARC(), *again) == 0
    rescored = samples(tmp_path / "again")
    assert all(rescored[name]["correct_norm"] == row["correct_norm"] for name, row in found.items())


def test_the_test_on_the_page_holds(arc: ModuleType) -> None:
    lines = re.findall(r"^    (.*)$", TEXT.split("## Testing it")[1], re.MULTILINE)
    assert "answered(" in "\n".join(lines)
    exec("\n".join(lines), {"ARC": arc.ARC})


def test_few_shot_examples_are_in_a_chat_prompt_too_and_a_long_prompt_is_cut(
    arc, arc_data, demo_checkpoint, tmp_path, monkeypatch
) -> None:
    flags = ("-c", demo_checkpoint, "-d", arc_data, "-k", 3, "--limit", 2)
    assert finished(monkeypatch, arc.ARC(), *flags, "--chat", "--max-new-tokens", 2, "-o", tmp_path / "chat") == 0
    assert all(row["prompt"].count("Question: ") == 4 for row in samples(tmp_path / "chat").values())
    assert finished(monkeypatch, arc.ARC(), *flags, "--max-seq-len", 40, "-o", tmp_path / "cut") == 0
    assert all(row["cut"] for row in samples(tmp_path / "cut").values())


def test_the_hubs_tables_give_the_same_items(arc: ModuleType, arc_data: Path, tmp_path: Path) -> None:
    import pandas

    (tmp_path / "hub/ARC-Challenge").mkdir(parents=True)
    for split, numbers in (("test", range(24)), ("train", range(100, 106))):
        rows = []
        for row in map(arc_row, numbers):
            choices = {name: [choice[name] for choice in row["question"]["choices"]] for name in ("text", "label")}
            rows.append({**row, "question": row["question"]["stem"], "choices": choices})
        pandas.DataFrame(rows).to_parquet(tmp_path / f"hub/ARC-Challenge/{split}-00000-of-00001.parquet")
    wanted = list(arc.ARC().load(Setting(data_path=str(arc_data), shots=3)))
    for folder in (tmp_path / "hub", tmp_path / "hub/ARC-Challenge"):
        found = list(arc.ARC().load(Setting(data_path=str(folder), shots=3)))
        assert [(one.id, one.gold, one.row, one.examples) for one in found] == [
            (one.id, one.gold, one.row, one.examples) for one in wanted
        ]


def test_what_cannot_be_used_is_one_line(arc, arc_data, demo_checkpoint, tmp_path, monkeypatch, capsys) -> None:
    def said(*flags: object) -> str:
        assert finished(monkeypatch, arc.ARC(), "-c", demo_checkpoint, *flags, "-o", tmp_path / "out") == 2
        err = capsys.readouterr().err
        assert err.count("\n") == 1
        return err

    assert "there are 6 examples, fewer than --num-fewshot 7" in said("-d", arc_data, "-k", 7)
    one_file = arc_data / "ARC-Challenge-Test.jsonl"
    assert "is a file; -d wants the folder" in said("-d", one_file, "-k", 2), "else it would be its own examples"
    good = arc_row(0)
    for change, what in (
        ({"answerKey": "E"}, "answerKey 'E' is not one of the labels"),
        ({"question": {"stem": "?"}}, "no choices with text and label"),
        ({"question": "?", "choices": {"text": ["a"], "label": ["A", "B"]}}, "must be texts that are not empty"),
        ({"question": "?", "choices": {"text": ["a", "b"], "label": ["1", "1"]}}, "is not one of the labels"),
    ):
        (tmp_path / "ARC-Challenge-Test.jsonl").write_text(json.dumps({**good, **change}) + "\n")
        assert what in said("-d", tmp_path)


# ---- HellaSwag

HELLASWAG = '''"""HellaSwag: 10,042 beginnings, each with four endings (Zellers et al. 2019, arXiv 1905.07830)."""

import re
from collections.abc import Iterable, Sequence

from qwen_eval.benchmark import Benchmark, Evaluation, Item, LogLikelihood, Record, Results, Setting, Shots
from qwen_eval.benchmarks.multiple_choice import few_shot, likelihood_record, likelihood_scores
from qwen_eval.data.items import STRING, TEXT, TEXTS, WHOLE, Hub, read_table, tables
from qwen_eval.errors import run_script
from qwen_eval.runner import run_benchmark

FIELDS = {"activity_label": TEXT, "ctx_a": TEXT, "ctx_b": STRING, "endings": TEXTS, "label": WHOLE | TEXT}


def plain(text: str) -> str:
    """Without the marks that WikiHow's part has."""
    return re.sub(r"\\\\[.*?\\\\]", "", text.strip().replace(" [title]", ". ")).replace("  ", " ")


def query(row: dict) -> str:
    return plain(f"{row['activity_label']}: {row['ctx_a']} {row['ctx_b'].capitalize()}")


class HellaSwag(Benchmark):
    name, official_items, shots, scores_choices = "hellaswag", 10_042, Shots(base=0, chat=0), True

    def rows(self, setting: Setting, split: str) -> list[dict]:
        hub_split = {"val": "validation"}.get(split, split)
        hub = Hub("Rowan/hellaswag", f"data/{hub_split}-00000-of-00001.parquet")
        files = (f"hellaswag_{split}.jsonl", *tables("", hub_split))
        return read_table(setting.data_path, hub, files, FIELDS, file_ok=False)

    def load(self, setting: Setting) -> Iterable[Item]:
        examples = few_shot(self.rows(setting, "train"), setting.shots) if setting.shots else []
        for number, row in enumerate(self.rows(setting, "val")):
            yield Item(f"val/{number}", "val", gold=str(row["label"]), row=row, examples=examples)

    def evaluate(self, item: Item, setting: Setting) -> Evaluation:
        shots = [f"{query(row)} {plain(row['endings'][int(row['label'])])}\\\\n\\\\n" for row in item.examples]
        endings = [plain(text) for text in item.row["endings"]]
        prompt = "".join(shots) + query(item.row)
        likelihoods = yield LogLikelihood(prompt, [f" {text}" for text in endings], setting.max_prompt_tokens)
        return likelihood_record(item, likelihoods, endings, "0123")

    def aggregate(self, records: Sequence[Record], setting: Setting) -> Results:
        return Results(likelihood_scores(records))


if __name__ == "__main__":
    run_script(lambda: run_benchmark(HellaSwag(), __doc__))
'''.replace("\\\\", "\\")


def hellaswag_row(number: int) -> dict[str, Any]:
    words = [WORDS[(number * 3 + k) % len(WORDS)] for k in range(9)]
    endings = [f"[substeps] goes to the {words[n]} {words[n + 4]} and rests." + " Later." * n for n in range(4)]
    given = {"ind": number, "activity_label": f"Finding {words[0]}", "ctx_a": f"A man sees {words[1]}. [title] Well."}
    return {**given, "ctx_b": f"he {words[2]}", "ctx": "", "endings": endings, "label": number % 4}


@pytest.fixture(scope="module")
def hellaswag(tmp_path_factory: pytest.TempPathFactory) -> tuple[ModuleType, Path]:
    folder = tmp_path_factory.mktemp("hellaswag")
    for split, numbers in (("val", range(12)), ("train", range(50, 56))):
        (folder / f"hellaswag_{split}.jsonl").write_text(
            "".join(json.dumps(hellaswag_row(number)) + "\n" for number in numbers)
        )
    assert HELLASWAG.count("\n") <= 60
    path = tmp_path_factory.mktemp("code") / "evaluate_hellaswag.py"
    path.write_text(HELLASWAG, encoding="utf-8")
    return load(path), folder


def test_hellaswag_runs_on_a_model(hellaswag, demo_checkpoint, tmp_path, monkeypatch) -> None:
    module, data = hellaswag
    flags = ("-c", demo_checkpoint, "-d", data, "--dtype", "float32", "-k", 3)
    assert finished(monkeypatch, module.HellaSwag(), *flags, "-o", tmp_path / "out") == 0
    found = samples(tmp_path / "out")
    import pandas

    (tmp_path / "hub/data").mkdir(parents=True)
    for split, numbers in (("validation", range(12)), ("train", range(50, 56))):
        table = pandas.DataFrame([{**hellaswag_row(number), "label": str(number % 4)} for number in numbers])
        table.to_parquet(tmp_path / f"hub/data/{split}-00000-of-00001.parquet")
    on_the_hub = (*flags[:2], "-d", tmp_path / "hub", *flags[4:])
    assert finished(monkeypatch, module.HellaSwag(), *on_the_hub, "-o", tmp_path / "again") == 0
    again = samples(tmp_path / "again")
    assert all(again[name]["choice_logits"] == row["choice_logits"] for name, row in found.items())
    assert len(found) == 12 and "[" not in found["val/0"]["prompt"] and found["val/0"]["prompt"].count("\n\n") == 3


# ---- against lm-evaluation-harness


@pytest.mark.heavy
def test_arc_and_lm_evaluation_harness_agree_item_by_item(
    arc, arc_data, demo_checkpoint, tmp_path, monkeypatch, capsys
) -> None:
    pytest.importorskip("lm_eval", reason="lm-evaluation-harness comes with the bench extra; .ci/run installs it")
    files = {"test": str(arc_data / "ARC-Challenge-Test.jsonl"), "train": str(arc_data / "ARC-Challenge-Train.jsonl")}
    task = {
        "task": "our_arc",
        "dataset_path": "json",
        "dataset_kwargs": {"data_files": files},
        "test_split": "test",
        "training_split": "train",
        "fewshot_split": "train",
        "doc_to_text": "Question: {{question.stem}}\nAnswer:",
    }
    task["doc_to_target"] = lambda doc: [c["label"] for c in doc["question"]["choices"]].index(doc["answerKey"])
    task["doc_to_choice"] = lambda doc: [choice["text"] for choice in doc["question"]["choices"]]
    theirs = in_lm_eval(demo_checkpoint, task)
    flags = ("-c", demo_checkpoint, "-d", arc_data, "--dtype", "float32", "-k", 5, "-o", tmp_path / "out")
    assert finished(monkeypatch, arc.ARC(), *flags) == 0
    compare(samples(tmp_path / "out"), theirs, "test")


@pytest.mark.heavy
def test_hellaswag_and_lm_evaluation_harness_agree_item_by_item(
    hellaswag, demo_checkpoint, tmp_path, monkeypatch
) -> None:
    pytest.importorskip("lm_eval", reason="lm-evaluation-harness comes with the bench extra; .ci/run installs it")
    module, data = hellaswag
    files = {"val": str(data / "hellaswag_val.jsonl"), "train": str(data / "hellaswag_train.jsonl")}
    task = {
        "task": "our_hellaswag",
        "dataset_path": "json",
        "dataset_kwargs": {"data_files": files},
        "test_split": "val",
        "training_split": "train",
        "fewshot_split": "train",
        "doc_to_text": module.query,
        "doc_to_target": "label",
        "doc_to_choice": lambda doc: [module.plain(text) for text in doc["endings"]],
    }
    theirs = in_lm_eval(demo_checkpoint, task)
    flags = ("-c", demo_checkpoint, "-d", data, "--dtype", "float32", "-k", 5, "-o", tmp_path / "out")
    assert finished(monkeypatch, module.HellaSwag(), *flags) == 0
    compare(samples(tmp_path / "out"), theirs, "val")
