"""A finished run in the formats of other tools: every figure, every item, in the units that they want."""

import json
import shutil
from pathlib import Path

from qwen_eval.errors import UserError
from qwen_eval.export import eval_results
from qwen_eval.export.finished import read_finished
from qwen_eval.export.formats import FORMATS, export, format_names
from qwen_eval.rescore import Replies

import pytest
import yaml


@pytest.fixture
def finished(script, tmp_path) -> Path:
    """MMLU of the demo, two questions per subject."""
    out = tmp_path / "mmlu"
    assert script("mmlu", "-c", "demo", "--limit", "2", "-o", out).status == 0
    return out


def changed(folder: Path, **fields) -> None:
    """The same run with other fields in results.json."""
    path = folder / "results.json"
    found = json.loads(path.read_text())
    found["manifest"] |= fields.pop("manifest", {})
    path.write_text(json.dumps({**found, **fields}))


def lines_of(path: Path) -> list[dict]:
    return [json.loads(line) for line in path.read_text(encoding="utf-8").split("\n") if line]


def one(folder: Path, pattern: str) -> Path:
    (found,) = folder.rglob(pattern)
    return found


def test_every_format_has_every_item_and_the_figure(finished):
    written, refused = export(finished, ["eee", "lm-eval", "inspect"])
    assert len(written) == 5 and refused == []
    own = lines_of(finished / "samples.jsonl")
    score = json.loads((finished / "results.json").read_text())["scores"]["acc"]
    into = finished / "export"

    aggregate = json.loads(next((into / "eee").rglob("*-*.json")).read_text())
    (result,) = aggregate["evaluation_results"]
    assert result["score_details"]["score"] == score["value"] and result["metric_config"]["metric_unit"] == "percent"
    interval = result["score_details"]["uncertainty"]["confidence_interval"]
    assert [interval["lower"], interval["upper"]] == score["ci95"]
    rows = lines_of(one(into / "eee", "*_samples.jsonl"))
    assert [row["sample_id"] for row in rows] == [line["id"] for line in own]
    assert [row["evaluation"]["is_correct"] for row in rows] == [line["correct"] for line in own]
    assert aggregate["detailed_evaluation_results"]["total_rows"] == len(own)

    results = json.loads(one(into / "lm-eval", "results_*.json").read_text())
    assert results["results"]["mmlu"]["acc,none"] == pytest.approx(score["value"] / 100)
    samples = lines_of(one(into / "lm-eval", "samples_mmlu_*.jsonl"))
    assert [sample["acc"] for sample in samples] == [float(line["correct"]) for line in own]
    assert [float(pair[0]) for pair in [answer[0] for answer in samples[0]["resps"]]] == own[0]["choice_logits"]

    log = json.loads(one(into / "inspect", "*.json").read_text())
    assert log["results"]["scores"][0]["metrics"]["acc"]["value"] == score["value"]
    assert [sample["id"] for sample in log["samples"]] == [line["id"] for line in own]


def test_a_run_writes_them_at_its_end_and_says_what_it_did_not(script, tmp_path):
    ended = script("gsm8k", "-c", "demo-chat", "--limit", "3", "--export", "all", "-o", tmp_path / "out")
    assert ended.status == 0 and {path.name for path in (tmp_path / "out/export").iterdir()} == {
        "eee",
        "lm-eval",
        "inspect",
    }
    (line,) = (line for line in ended.err.splitlines() if line.startswith("not exported"))
    assert "not the whole official set" in line


def test_what_is_written_for_lm_eval_is_read_again_by_rescore(script, tmp_path):
    assert script("gsm8k", "-c", "demo-chat", "--limit", "4", "-o", tmp_path / "out").status == 0
    export(tmp_path / "out", ["lm-eval"])
    replies = Replies(one(tmp_path / "out/export", "samples_gsm8k_*.jsonl"))
    own = lines_of(tmp_path / "out/samples.jsonl")
    assert len(replies.by_key) == len(own)


def test_several_samples_of_an_item_long_texts_and_odd_characters(finished):
    own = lines_of(finished / "samples.jsonl")
    odd = "\ud800</script>\u2028" + "x" * 1_000_000
    lines = [{**own[0], "sample": number, "response": odd, "choice_logits": [0.0]} for number in (0, 1)]
    text = "".join(json.dumps(line) + "\n" for line in lines)
    (finished / "samples.jsonl").write_text(text)
    written, refused = export(finished, ["eee", "lm-eval", "inspect"])
    assert refused == []
    for path in written:
        path.read_bytes().decode("utf-8")
    rows = lines_of(one(finished / "export/eee", "*_samples.jsonl"))
    assert [row["sample_id"] for row in rows] == [own[0]["id"], f"{own[0]['id']}#1"]
    assert rows[0]["output"]["raw"] == [odd]
    log = json.loads(one(finished / "export/inspect", "*.json").read_text())
    assert [sample["epoch"] for sample in log["samples"]] == [1, 2]


def test_the_hubs_file_is_of_the_whole_official_set_only(finished):
    with pytest.raises(UserError, match="not the whole official set"):
        eval_results.write(read_finished(finished), finished)
    whole = {"limit": None, "sample": None, "subjects": None, "data": {"official": True}}
    changed(finished, manifest=whole)
    (path,) = eval_results.write(read_finished(finished), finished)
    (entry,) = yaml.safe_load(path.read_text())
    value = json.loads((finished / "results.json").read_text())["scores"]["acc"]["value"]
    assert path == finished / ".eval_results/mmlu.yaml" and entry["value"] == round(value, 2)
    assert entry["dataset"] == {"id": "cais/mmlu", "task_id": "mmlu"} and "5-shot, base" in entry["notes"]
    changed(finished, manifest={"data": {"official": False}})
    with pytest.raises(UserError, match="not the whole official set"):
        eval_results.write(read_finished(finished), finished)


def test_nothing_is_sent_without_the_flag_and_only_one_file_with_it(finished, script, monkeypatch):
    sent = []

    class Hub:
        def create_commit(self, repo, operations, commit_message, create_pr):
            sent.append((repo, [operation.path_in_repo for operation in operations], commit_message, create_pr))
            return type("Done", (), {"pr_url": "https://hub/pr/1"})

    monkeypatch.setattr("huggingface_hub.HfApi", Hub)
    monkeypatch.setattr("huggingface_hub.get_token", lambda: None)
    changed(finished, manifest={"limit": None, "data": {"official": True}})
    assert script("export", finished).status == 0 and sent == []
    ended = script("export", finished, "--push-to-hub", "me/model")
    assert ended.status == 2 and "no token" in ended.err and sent == []
    monkeypatch.setattr("huggingface_hub.get_token", lambda: "hf_x")
    ended = script("export", finished, "--push-to-hub", "me/model")
    assert ended.status == 0 and "https://hub/pr/1" in ended.out
    (call,) = sent
    assert call[:2] == ("me/model", [".eval_results/mmlu.yaml"]) and call[2].startswith("mmlu: ") and call[3] is True


def test_a_folder_that_is_no_finished_run_is_one_line(finished, script, tmp_path):
    def fails(folder, *said):
        ended = script("export", folder)
        assert ended.status == 2 and len(ended.err.strip().splitlines()) == 1, ended.err
        assert all(text in ended.err for text in said)

    fails(tmp_path / "nowhere", "is no folder of results")
    (tmp_path / "empty").mkdir()
    fails(tmp_path / "empty", "has no results.json")
    going = tmp_path / "going"
    shutil.copytree(finished, going)
    (going / "results.json").unlink()
    fails(going, "is still going, or was stopped")
    (finished / "results.json").write_text("{}")
    fails(finished, "results.json is not one of this harness")


def test_unknown_formats_are_named():
    assert format_names("all") == list(FORMATS) and format_names("eee, inspect") == ["eee", "inspect"]
    with pytest.raises(Exception, match="'pdf' is no format; there are eee"):
        format_names("eee,pdf")
