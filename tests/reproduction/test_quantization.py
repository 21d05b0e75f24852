"""`evaluate_quantization.py`: a chat model and its quantised twins in the card's table, and item by item."""

import csv
import json
import shutil
from pathlib import Path

from qwen_eval.engines.local.engine import LocalEngine
from qwen_eval.places import DEMO
from tests.qwen_model.gptq_packing import packed_copy

import evaluate_quantization
import pytest

CHAT = DEMO / "checkpoint/chat"
NAMES = ("Qwen-7B-Chat", "Qwen-7B-Chat-Int8", "Qwen-7B-Chat-Int4")
RUNS = {"MMLU": "mmlu", "C-Eval (val)": "ceval", "GSM8K": "gsm8k", "HumanEval": "humaneval"}
SHORT = ("--limit", "2", "--max-new-tokens", "24")


@pytest.fixture(scope="module")
def twins(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with the demo's chat model under a name of the cards, and its twins."""
    folder = tmp_path_factory.mktemp("twins")
    shutil.copytree(CHAT, folder / NAMES[0])
    packed_copy(CHAT, folder / NAMES[1], bits=8)
    packed_copy(CHAT, folder / NAMES[2], bits=4)
    return folder


@pytest.fixture
def table(script, tmp_path: Path):
    """Run the script; its results go to one folder."""
    return lambda *words: script("quantization", *words, "-o", tmp_path / "out")


@pytest.fixture
def loads(monkeypatch) -> list[str]:
    """The names of the checkpoints that are loaded, in order."""
    found: list[str] = []
    init = LocalEngine.__init__

    def counted(self, checkpoint, *args, **flags):
        found.append(checkpoint.name)
        init(self, checkpoint, *args, **flags)

    monkeypatch.setattr(LocalEngine, "__init__", counted)
    return found


def figures(folder: Path) -> list[dict[str, str]]:
    with open(folder / "table.csv", newline="", encoding="utf-8") as lines:
        return list(csv.DictReader(lines))


def marks(folder: Path) -> dict[str, bool]:
    lines = (folder / "samples.jsonl").read_text(encoding="utf-8").splitlines()
    return {row["id"]: row["correct"] for row in map(json.loads, lines)}


def test_the_table_has_a_row_per_checkpoint_and_each_twin_is_paired_with_the_float_model(
    table, twins: Path, loads: list[str], tmp_path: Path
) -> None:
    words = ("-c", "demo-chat", "--twins", twins / NAMES[1], twins / NAMES[2], *SHORT)
    ended = table(*words)
    assert ended.status == 0, ended.err
    out = tmp_path / "out"
    models = ("Qwen-demo-Chat", *NAMES[1:])
    rows = figures(out / "tables/quantization")
    assert [(row["model"], row["column"]) for row in rows] == [(model, name) for model in models for name in RUNS]
    assert all(row["value"] for row in rows)

    found = json.loads((out / "tables/quantization/table.json").read_text(encoding="utf-8"))["differences"]
    assert [row["benchmark"] for row in found] == [f"{run} ({twin})" for twin in NAMES[1:] for run in RUNS.values()]
    for row in found:
        run, _, twin = row["benchmark"].rstrip(")").partition(" (")
        a, b = marks(out / models[0] / run), marks(out / twin / run)
        assert a.keys() == b.keys() and row["items"] == len(a)
        assert row["lost"] == sum(a[one] and not b[one] for one in a)
        assert row["gained"] == sum(b[one] and not a[one] for one in a)
        assert row["difference"] == pytest.approx(100 * (sum(b.values()) - sum(a.values())) / len(a))
        assert row["comparable"] and row["ci95"][0] <= row["difference"] <= row["ci95"][1]
    assert sum(row["lost"] + row["gained"] for row in found) == len(
        (out / "tables/quantization/flips.jsonl").read_text(encoding="utf-8").splitlines()
    ), "every flipped item is there with both answers"
    shown = (out / "tables/quantization/table.md").read_text(encoding="utf-8")
    assert "95 % interval" in shown and f"mmlu ({NAMES[2]})" in shown and "against A, Qwen-demo-Chat" in ended.out

    stopped = out / NAMES[2] / "gsm8k"
    kept = (stopped / "samples.jsonl").read_text(encoding="utf-8").splitlines(keepends=True)
    (stopped / "samples.jsonl").write_text(kept[0], encoding="utf-8")
    (stopped / "results.json").unlink()
    loads.clear()
    again = table(*words)
    assert again.status == 0, again.err
    assert set(loads) == {NAMES[2]}, "all else was finished"
    assert (stopped / "samples.jsonl").read_text(encoding="utf-8").startswith(kept[0])
    assert figures(out / "tables/quantization") == rows


def test_the_twins_of_a_name_lie_beside_it_and_have_their_own_reported_figures(
    table, twins: Path, monkeypatch, tmp_path: Path
) -> None:
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_OFFLINE", True)
    quick = ("--limit", "1", "--max-new-tokens", "2", "--subjects", "anatomy,middle_school_biology,plant_protection")
    data = tmp_path / "data"
    shutil.copytree(DEMO / "data/ceval", data / "ceval")
    ended = table("-c", twins / NAMES[0], "-d", data, "--skip-missing", *quick)
    assert ended.status == 0, ended.err
    rows = {(row["model"], row["column"]): row for row in figures(tmp_path / "out/tables/quantization")}
    reported = {name: rows[name, "C-Eval (val)"]["reported"] for name in NAMES}
    assert reported == {NAMES[0]: "59.7", NAMES[1]: "59.4", NAMES[2]: "59.2"}, "Qwen-7B-Chat, README"
    assert rows[NAMES[0], "C-Eval (val)"]["n"] == "2", "the subjects that C-Eval has"
    assert rows[NAMES[0], "MMLU"]["value"] == "" and "mmlu of " in ended.out


def test_a_twin_has_the_figures_of_its_own_bits() -> None:
    from qwen_eval.reproduction.twins import Checkpoint

    words = [evaluate_quantization.reported_as("Qwen-7B-Chat@v1.1", Checkpoint("x", bits, {})) for bits in (None, 8, 4)]
    assert [word for _, word in words] == ["Qwen-7B-Chat@v1.1", "Qwen-7B-Chat-Int8@v1.1", "Qwen-7B-Chat-Int4@v1.1"]
    assert evaluate_quantization.reported_as(None, Checkpoint("x", 4, {})) == []


def test_the_plan_stops_before_any_item(table, twins: Path, tmp_path: Path) -> None:
    ended = table("-c", "demo-chat", "--twins", twins / NAMES[2], "--limit", "1", "--plan")
    assert ended.status == 0, ended.err
    assert ended.out.count("humaneval") == 2 and not list(tmp_path.glob("out/*/*/results.json"))


def test_ids_of_a_hub_have_the_twins_of_the_cards() -> None:
    from qwen_eval.reproduction.twins import usual_twins

    assert usual_twins("Qwen/Qwen-14B-Chat") == ["Qwen/Qwen-14B-Chat-Int8", "Qwen/Qwen-14B-Chat-Int4"]


def changed(source: Path, target: Path, **config: object) -> Path:
    shutil.copytree(source, target)
    found = json.loads((target / "config.json").read_text(encoding="utf-8"))
    (target / "config.json").write_text(json.dumps({**found, **config}), encoding="utf-8")
    return target


@pytest.mark.parametrize(
    ("words", "said"),
    [
        ((), "the following arguments are required: -c"),
        (("-c", "demo-chat"), "no twins: there is no folder demo-chat-Int8 or demo-chat-Int4"),
        (("-c", "demo-chat", "--twins", "nowhere"), "--twins nowhere: no such folder"),
        (("-c", "demo-chat", "--twins", "no/such-twin"), "--twins no/such-twin: no such folder, and not to be had"),
        (("-c", "Qwen/Qwen-7B-Chat"), "-c Qwen/Qwen-7B-Chat: no such folder, and not to be had"),
        (
            ("-c", "demo-chat", "--twins", "FLOAT"),
            "is no quantised checkpoint (no quantization_config in its config.json)",
        ),
        (("-c", "INT4", "--twins", "INT8"), "is quantised itself; give the float checkpoint"),
        (("-c", "demo-chat", "--twins", "OTHER"), "is of another model: num_hidden_layers is 1 there and "),
        (("-c", "demo-chat", "--twins", "INT4", "INT4"), "a checkpoint is named twice"),
        (("-c", "demo-chat", "--twins", "INT4", "SAME"), "are both called Qwen-7B-Chat-Int4"),
        (("-c", "demo", "--twins", "INT4"), "table 'quantization' is of chat models, and demo is a base model"),
        (("-c", "demo-chat", "--twins", "INT4", "--subjects", "x"), "unknown subject 'x' in --subjects"),
        (("-c", "demo-chat", "--twins", "INT4", "-k", "3"), "-k is not for a whole table"),
        (("-c", "demo-chat", "--twins", "INT4", "--judge-url", "x"), "no run of these tables knows --judge-url"),
    ],
)
def test_wrong_use_is_one_line_before_any_work(table, twins, loads, monkeypatch, tmp_path, words, said) -> None:
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_OFFLINE", True)
    places = {"FLOAT": twins / NAMES[0], "INT8": twins / NAMES[1], "INT4": twins / NAMES[2]}
    if "OTHER" in words:
        places["OTHER"] = changed(twins / NAMES[2], tmp_path / "other", num_hidden_layers=1)
    if "SAME" in words:
        places["SAME"] = changed(twins / NAMES[2], tmp_path / NAMES[2])
    ended = table(*(places.get(word, word) for word in words))
    assert ended.status == 2 and said in ended.err, ended.err
    assert len(ended.err.strip().splitlines()) == 1 and "--debug shows where" not in ended.err
    assert loads == [] and not list(tmp_path.glob("out/*"))
