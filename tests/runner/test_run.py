"""A run: what it writes, how it goes on after an end, how it is compared and scored again."""

import csv
import importlib
import json
import shutil
from pathlib import Path
from typing import Any

from qwen_eval.data.items import Item
from qwen_eval.errors import UserError
from qwen_eval.reporting.journal import Journal

import pytest

ROOT = Path(__file__).resolve().parents[2]
DATA = ROOT / "demo" / "data" / "mmlu"
TWO = "business_ethics,nutrition"


def samples(folder: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for line in (folder / "samples.jsonl").read_text(encoding="utf-8").splitlines()]


def results(folder: Path) -> dict[str, Any]:
    return json.loads((folder / "results.json").read_text(encoding="utf-8"))


@pytest.fixture
def flags(demo_checkpoint: Path) -> tuple[object, ...]:
    """A quick run: two subjects, no shots."""
    return ("-c", demo_checkpoint, "-d", DATA, "--subjects", TWO, "-k", 0)


@pytest.fixture
def engine_calls(monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """How many requests each call of the engine got; empty: no model was loaded."""
    from qwen_eval.engines.local.engine import LocalEngine

    calls: list[int] = []
    real = LocalEngine.choose

    def counted(self, requests):
        calls.append(len(requests))
        return real(self, requests)

    monkeypatch.setattr(LocalEngine, "choose", counted)
    return calls


# -- what a run writes -----------------------------------------------------------------------------


def test_the_contract_of_the_output_folder(script, flags, tmp_path: Path) -> None:
    ended = script("mmlu", *flags, "-o", tmp_path, "--limit", 4)
    assert ended.status == 0
    assert {path.name for path in tmp_path.iterdir()} == {"samples.jsonl", "results.json", "table.md", "table.csv"}
    rows = samples(tmp_path)
    assert {row["id"] for row in rows} == {f"{name}/{i}" for name in TWO.split(",") for i in range(4)}
    for row in rows:
        assert row["id"].split("/")[0] == row["subject"]
        assert len(row["prompt_sha256"]) == 64
        assert len(row["choice_logits"]) == 4
        assert row["prediction"] == "ABCD"[max(range(4), key=row["choice_logits"].__getitem__)]
        assert row["correct"] is (row["prediction"] == row["gold"])
    found = results(tmp_path)
    assert (found["benchmark"], found["model"]) == ("mmlu", "tiny-qwen")
    score = found["scores"]["acc"]
    assert score["value"] == pytest.approx(100 * sum(row["correct"] for row in rows) / 8)
    assert (score["n"], len(score["ci95"]), score["reported"], score["verdict"]) == (8, 2, None, None)
    manifest = found["manifest"]
    wanted = "git_commit versions hardware dtype weights_sha256 tokenizer_sha256 data_sha256 settings seed seconds"
    assert set(wanted.split()) <= manifest.keys()
    assert manifest["settings"] == {"benchmark": "mmlu", "chat": False, "num_fewshot": 0, "max_seq_len": 2048}
    assert {"torch", "transformers", "tiktoken", "python"} <= manifest["versions"].keys()
    with open(tmp_path / "table.csv", newline="") as lines:
        table = list(csv.DictReader(lines))
    assert (table[0]["name"], float(table[0]["value"]), table[0]["n"]) == ("acc", pytest.approx(score["value"]), "8")
    assert [row["name"] for row in table if row["table"] == "by subject"] == TWO.split(",")
    assert [row["name"] for row in table if row["table"] == "by group"] == ["other"]


def test_the_reported_figure_stands_beside_with_a_verdict_and_a_note_says_of_how_many_items(
    script, flags, tmp_path: Path
) -> None:
    ended = script("mmlu", *flags[:-2], "-o", tmp_path, "--limit", 1, "--reported-as", "Qwen-7B")
    assert ended.status == 0
    score = results(tmp_path)["scores"]["acc"]
    # Trained at 2,048 tokens, as v1.0 was: its figure is not v1.1's 58.2.
    assert (score["reported"], score["reported_version"]) == (56.7, "v1.0")
    assert score["verdict"] == "too few items"
    assert results(tmp_path)["model"] == "tiny-qwen", "a figure is filed under the checkpoint's own name"
    table = (tmp_path / "table.md").read_text()
    assert "56.7 (v1.0)" in table
    assert "* subset: 2 of 14042 items" in table
    assert "too few items" in ended.out


def test_a_folder_with_the_name_of_a_model_is_that_model(
    script, flags, demo_checkpoint: Path, tmp_path: Path, monkeypatch
) -> None:
    folder = tmp_path / "Qwen-7B"
    shutil.copytree(demo_checkpoint, folder)
    monkeypatch.chdir(tmp_path)
    assert script("mmlu", "-c", folder, *flags[2:-2], "--limit", 1).status == 0
    assert results(tmp_path / "results" / "Qwen-7B" / "mmlu")["scores"]["acc"]["reported"] == 56.7
    config = json.loads((folder / "config.json").read_text())
    (folder / "config.json").write_text(json.dumps({**config, "seq_length": 8192}))
    monkeypatch.chdir(folder)
    assert script("mmlu", "-c", ".", *flags[2:-2], "--limit", 1, "-o", tmp_path / "out").status == 0
    score = results(tmp_path / "out")["scores"]["acc"]
    assert (score["reported"], score["reported_version"]) == (58.2, "v1.1")


def test_other_shots_than_reported_have_no_figure(script, flags, tmp_path: Path) -> None:
    ended = script("mmlu", *flags, "-o", tmp_path, "--limit", 1, "--reported-as", "Qwen-7B")
    assert results(tmp_path)["scores"]["acc"]["reported"] is None
    assert "no reported figure" in ended.out


# -- going on --------------------------------------------------------------------------------------


def test_a_finished_run_started_again_runs_nothing_and_loads_no_model(
    script, flags, tmp_path: Path, monkeypatch
) -> None:
    script("mmlu", *flags, "-o", tmp_path)
    before, table = (tmp_path / "samples.jsonl").read_bytes(), (tmp_path / "table.md").read_bytes()
    monkeypatch.setattr(
        "qwen_eval.engines.local.engine.LocalEngine.__init__", lambda *_: pytest.fail("the model was loaded")
    )
    assert script("mmlu", *flags, "-o", tmp_path).status == 0
    assert ((tmp_path / "samples.jsonl").read_bytes(), (tmp_path / "table.md").read_bytes()) == (before, table)


def test_a_limited_run_is_taken_over_by_the_full_one(script, flags, engine_calls, tmp_path: Path) -> None:
    script("mmlu", *flags, "-o", tmp_path, "--limit", 5)
    first = (tmp_path / "samples.jsonl").read_bytes()
    script("mmlu", *flags, "-o", tmp_path)
    assert engine_calls == [10, 40 - 10]
    assert (tmp_path / "samples.jsonl").read_bytes().startswith(first)
    assert len({row["id"] for row in samples(tmp_path)}) == len(samples(tmp_path)) == 40
    script("mmlu", *flags, "-o", tmp_path, "--limit", 5)
    assert len(engine_calls) == 2
    assert results(tmp_path)["scores"]["acc"]["n"] == 10


def test_a_half_written_last_line_is_run_again(script, flags, engine_calls, tmp_path: Path) -> None:
    script("mmlu", *flags, "-o", tmp_path / "a")
    whole = (tmp_path / "a" / "samples.jsonl").read_bytes()
    lines = whole.splitlines(keepends=True)
    (tmp_path / "b").mkdir()
    (tmp_path / "b" / "samples.jsonl").write_bytes(b"".join(lines[:10]) + lines[10][:57])
    assert script("mmlu", *flags, "-o", tmp_path / "b").status == 0
    assert engine_calls == [40, 30]
    one, other = ({line.pop("id"): line for line in samples(tmp_path / run)} for run in ("a", "b"))
    assert one.keys() == other.keys()
    for name, line in one.items():  # another batch may move a logit's last digit, and nothing else
        assert line.pop("choice_logits") == pytest.approx(other[name].pop("choice_logits"), abs=1e-4)
        assert line == other[name]
    assert (tmp_path / "b" / "table.md").read_bytes() == (tmp_path / "a" / "table.md").read_bytes()


def test_a_changed_prompt_is_run_again_alone(script, flags, engine_calls, tmp_path: Path) -> None:
    shutil.copytree(DATA, tmp_path / "data")
    flags = (*flags[:3], tmp_path / "data", *flags[4:])
    script("mmlu", *flags, "-o", tmp_path / "out")
    path = tmp_path / "data" / "test" / "nutrition_test.csv"
    path.write_bytes(path.read_bytes().replace(b"twist roll", b"twisted roll", 1))
    assert script("mmlu", *flags, "-o", tmp_path / "out").status == 0
    assert engine_calls[0] == 40
    assert 1 <= engine_calls[1] < 40


def test_overwrite_runs_everything_again(script, flags, engine_calls, tmp_path: Path) -> None:
    for extra in ((), ("--overwrite",)):
        assert script("mmlu", *flags, "-o", tmp_path, "--limit", 2, *extra).status == 0
    assert engine_calls == [4, 4]
    assert len(samples(tmp_path)) == 4


def refused(ended, *words: str) -> None:
    assert ended.status == 2
    assert ended.err.count("\n") == 1, ended.err
    assert all(word in ended.err for word in words), ended.err


@pytest.mark.parametrize("change", [("--dtype", "bfloat16"), ("-k", 1), ("--max-seq-len", 512), ("weights",)])
def test_another_runs_folder_is_refused(script, flags, demo_checkpoint: Path, tmp_path: Path, change) -> None:
    script("mmlu", *flags, "-o", tmp_path / "out", "--limit", 1)
    before = (tmp_path / "out" / "samples.jsonl").read_bytes()
    if change == ("weights",):
        import build_checkpoint

        change = ("-c", build_checkpoint.build(tmp_path / "tiny-qwen", seed=1))
    ended = script("mmlu", *flags, "-o", tmp_path / "out", "--limit", 1, *change)
    refused(ended, "another model, dtype or prompt setting", "--overwrite", str(tmp_path / "out"))
    assert (tmp_path / "out" / "samples.jsonl").read_bytes() == before


def test_a_damaged_middle_line_is_named(script, flags, tmp_path: Path) -> None:
    script("mmlu", *flags, "-o", tmp_path, "--limit", 2)
    path = tmp_path / "samples.jsonl"
    lines = path.read_bytes().splitlines(keepends=True)
    path.write_bytes(lines[0] + lines[1][:40] + b"\n" + b"".join(lines[2:]))
    damaged = path.read_bytes()
    refused(script("mmlu", *flags, "-o", tmp_path, "--limit", 2), "samples.jsonl line 2 is damaged")
    assert path.read_bytes() == damaged, "nothing of the user's is thrown away"


def test_a_folder_in_use_is_refused(script, flags, tmp_path: Path) -> None:
    Journal(tmp_path, "someone else's")
    lock = Journal(tmp_path, "someone else's")
    refused(script("mmlu", *flags, "-o", tmp_path), "is in use by another run")
    lock.close()
    assert script("mmlu", *flags, "-o", tmp_path, "--limit", 1).status == 0


def test_journal_keeps_any_text(tmp_path: Path) -> None:
    item = Item("s/0", "s", "prompt \ud800 \u2028 \x00")
    journal = Journal(tmp_path, "r")
    journal.append(item, {"response": 'a\nb\u2028c \udfff \x00 ,"', "correct": True})
    journal.close()
    again = Journal(tmp_path, "r")
    assert again.finished(item)
    assert again.records[("s/0", 0)]["response"].startswith("a\nb\u2028c ")
    again.close()
    with pytest.raises(UserError, match="another model"):
        Journal(tmp_path, "other")


def test_several_replies_an_item_are_kept_apart(tmp_path: Path) -> None:
    journal = Journal(tmp_path, "r")
    for sample in range(3):
        journal.append(Item("s/0", "s", "p", sample=sample), {"correct": sample == 1})
    journal.close()
    journal = Journal(tmp_path, "r")
    assert [journal.records[("s/0", sample)]["correct"] for sample in range(3)] == [False, True, False]
    journal.close()


def test_the_verdict_is_from_all_records_not_from_those_of_this_start(script, flags, tmp_path: Path) -> None:
    script("mmlu", *flags, "-o", tmp_path / "whole")
    script("mmlu", *flags, "-o", tmp_path / "parts", "--limit", 3)
    script("mmlu", *flags, "-o", tmp_path / "parts")
    assert results(tmp_path / "whole")["scores"] == results(tmp_path / "parts")["scores"]


# -- subsets ---------------------------------------------------------------------------------------


def test_sample_runs_so_many_in_all(script, flags, tmp_path: Path) -> None:
    for out in ("a", "b"):
        script("mmlu", *flags, "-o", tmp_path / out, "--sample", 10)
    assert len(samples(tmp_path / "a")) == 10
    assert [row["id"] for row in samples(tmp_path / "a")] == [row["id"] for row in samples(tmp_path / "b")]
    script("mmlu", *flags, "-o", tmp_path / "c", "--sample", 10, "--seed", 7)
    assert {row["id"] for row in samples(tmp_path / "c")} != {row["id"] for row in samples(tmp_path / "a")}


# -- the paired comparison -------------------------------------------------------------------------


def baseline(folder: Path, rows: list[dict[str, Any]], right) -> Path:
    folder.mkdir()
    lines = [json.dumps({"id": row["id"], "correct": right(row)}) + "\n" for row in rows]
    (folder / "samples.jsonl").write_text("".join(lines))
    return folder


def test_significantly_worse_than_the_baseline_is_status_1(script, flags, tmp_path: Path) -> None:
    script("mmlu", *flags, "-o", tmp_path / "run")
    rows = samples(tmp_path / "run")
    better = baseline(tmp_path / "better", rows, lambda row: True)
    ended = script("mmlu", *flags, "-o", tmp_path / "run", "--baseline", better)
    assert ended.status == 1
    found = results(tmp_path / "run")["baseline"]
    wrong = sum(not row["correct"] for row in rows)
    assert (found["n"], found["gained"], found["lost"], found["significantly_worse"]) == (40, 0, wrong, True)
    assert "significantly worse than the baseline on 40 shared items" in ended.out

    worse = baseline(tmp_path / "worse", rows, lambda row: False)
    same = baseline(tmp_path / "same", rows, lambda row: row["correct"])
    for folder in (worse, same):
        assert script("mmlu", *flags, "-o", tmp_path / "run", "--baseline", folder).status == 0


def test_the_folder_itself_may_be_the_baseline_of_its_overwriting(script, flags, tmp_path: Path) -> None:
    script("mmlu", *flags, "-o", tmp_path / "run")
    better = baseline(tmp_path / "better", samples(tmp_path / "run"), lambda row: True)
    ended = script("mmlu", *flags, "-o", better, "--baseline", better, "--overwrite")
    assert ended.status == 1, ended


def test_a_baseline_of_other_items_is_refused_before_the_work(script, flags, engine_calls, tmp_path: Path) -> None:
    other = baseline(tmp_path / "other", [{"id": "virology/0"}], lambda row: True)
    refused(script("mmlu", *flags, "-o", tmp_path / "run", "--baseline", other), "shares no item")
    assert engine_calls == []


# -- scoring given replies -------------------------------------------------------------------------


def table_without_title(folder: Path) -> list[str]:
    return [
        line for line in (folder / "table.md").read_text().splitlines() if not line.startswith(("# ", "* no reported"))
    ]


@pytest.mark.parametrize("benchmark", ["mmlu", "ceval", "cmmlu"])
def test_a_runs_own_samples_scored_again_give_its_table(
    script, demo_checkpoint: Path, tmp_path: Path, benchmark: str
) -> None:
    names = [path.name for path in sorted((ROOT / "demo" / "data" / benchmark / "dev").iterdir())][:2]
    subjects = ",".join(name.removesuffix(".csv").removesuffix("_dev") for name in names)
    flags = ("-d", ROOT / "demo" / "data" / benchmark, "--subjects", subjects, "-k", 0)
    assert script(benchmark, "-c", demo_checkpoint, *flags, "-o", tmp_path / "run").status == 0
    path = tmp_path / "run" / "samples.jsonl"
    ended = script(benchmark, "--rescore", path, *flags, "-o", tmp_path / "again")
    assert ended.status == 0, ended.err
    assert table_without_title(tmp_path / "again") == table_without_title(tmp_path / "run")
    keep = ("id", "prediction", "gold", "correct", "choice_logits", "prompt_sha256")
    ran, again = ({row["id"]: [row[k] for k in keep] for row in samples(tmp_path / f)} for f in ("run", "again"))
    assert ran == again


def test_a_models_run_is_never_rescored_over(script, flags, tmp_path: Path) -> None:
    script("mmlu", *flags, "-o", tmp_path, "--limit", 2)
    before = (tmp_path / "samples.jsonl").read_bytes()
    flags = ("--rescore", tmp_path / "samples.jsonl", *flags[2:], "-o", tmp_path)
    refused(script("mmlu", *flags), "holds a model's run")
    (tmp_path / "results.json").unlink()  # as after a kill
    refused(script("mmlu", *flags), "holds a model's run")
    assert (tmp_path / "samples.jsonl").read_bytes() == before


LOGITS = '{{"id": "nutrition/{}", "choice_logits": [0, 1, 0, 0]}}\n'


@pytest.mark.parametrize(
    ("content", "said"),
    [
        ("", "has no replies in it"),
        (LOGITS.format(0) + LOGITS.format(0), "line 2: duplicate id 'nutrition/0'"),
        (LOGITS.format(0) + LOGITS.format(999), "unknown id 'nutrition/999'"),
        ('{"id": "nutrition/0", "choice_logits": [0, 1]}\n', "no 4 numbers in `choice_logits`"),
        ('{"id": "nutrition/0", "choice_logits": [0, 1, NaN, 2]}\n', "no 4 numbers in `choice_logits`"),
        ('{"response": "A"}\n', "line 1 is no reply"),
        ('{"id": "nutrition/0"}\n', "line 1 is no reply"),
        ('{"id": "nutrition/0", "response": 3}\n', "line 1 is no reply"),
        ('{"id": ', "line 1 is not JSON"),
    ],
)
def test_bad_replies_are_named(script, tmp_path: Path, content: str, said: str) -> None:
    (tmp_path / "replies.jsonl").write_text(content)
    flags = ("--rescore", tmp_path / "replies.jsonl", "-d", DATA, "--subjects", "nutrition", "-o", tmp_path / "out")
    refused(script("mmlu", *flags), said)


def test_replies_to_some_items_are_a_subset(script, tmp_path: Path) -> None:
    (tmp_path / "replies.jsonl").write_text("".join(map(LOGITS.format, (3, 1))))
    flags = ("--rescore", tmp_path / "replies.jsonl", "-d", DATA, "--subjects", "nutrition", "-o", tmp_path / "out")
    assert script("mmlu", *flags, "--reported-as", "Qwen-7B").status == 0
    score = results(tmp_path / "out")["scores"]["acc"]
    assert (score["n"], score["reported"]) == (2, 58.2)
    assert score["verdict"] == "too few items"
    assert [row["id"] for row in samples(tmp_path / "out")] == ["nutrition/1", "nutrition/3"]


def test_rescoring_needs_neither_torch_nor_a_checkpoint(tmp_path: Path) -> None:
    import subprocess
    import sys

    (tmp_path / "replies.jsonl").write_text(LOGITS.format(0))
    code = (
        "import sys; sys.modules['torch'] = sys.modules['transformers'] = None; sys.path.insert(0, 'eval');"
        f"sys.argv = ['x', '--rescore', {str(tmp_path / 'replies.jsonl')!r}, '-d', {str(DATA)!r},"
        f"'--subjects', 'nutrition', '-o', {str(tmp_path / 'out')!r}];"
        "import evaluate_mmlu; sys.exit(evaluate_mmlu.main())"
    )
    done = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True)
    assert (done.returncode, done.stderr) == (0, "")


def test_every_script_has_the_same_flags() -> None:
    from qwen_eval.cli import parser

    wanted = "-c -d --eval_data_path -k --chat --base -b --max-seq-len --limit --sample -s --subjects --engine --dtype"
    wanted += " --device -o --overwrite --rescore --baseline --debug"
    known = {flag for action in parser("x", shots=5)._actions for flag in action.option_strings}
    assert set(wanted.split()) <= known
    for name in ("mmlu", "ceval", "cmmlu"):
        assert importlib.import_module(f"evaluate_{name}").HUB.repo.count("/") == 1
