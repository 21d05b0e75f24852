"""A finished run in the formats of other tools: every figure, every item, in the units that they want."""

import json
import shutil
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
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
    assert [one["arg_1"] for one in samples[0]["arguments"].values()] == ["A", "B", "C", "D"]
    assert results["n-samples"]["mmlu"] == {"original": 99, "effective": len(own)}

    log = json.loads(one(into / "inspect", "*.json").read_text())
    (figure,) = log["results"]["scores"]
    assert figure["metrics"]["acc"]["value"] == pytest.approx(score["value"] / 100)
    assert figure["metadata"]["ci95"] == pytest.approx([end / 100 for end in score["ci95"]])
    assert [sample["scores"]["acc"]["value"] for sample in log["samples"]] == [
        "CI"[not line["correct"]] for line in own
    ]
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
    changed(finished, items={"answered": 2, "whole": 1})
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


class Hub:
    """A stand-in for the hub: keeps what it is sent; `status` is what it says to a commit."""

    def __init__(self) -> None:
        self.sent: list[tuple[str, str]] = []
        self.status = 200
        outer = self

        class Handler(BaseHTTPRequestHandler):
            def do_POST(self) -> None:
                body = self.rfile.read(int(self.headers["Content-Length"])).decode()
                outer.sent.append((self.path, body))
                if "/preupload/" in self.path:
                    files = [{"path": one["path"], "uploadMode": "regular"} for one in json.loads(body)["files"]]
                    return self.reply(200, {"files": [{**one, "shouldIgnore": False} for one in files]})
                place = "https://huggingface.co/me/model"
                addresses = {"commitUrl": f"{place}/commit/{'0' * 40}", "pullRequestUrl": f"{place}/discussions/1"}
                self.reply(outer.status, {**addresses, "commitOid": "0" * 40})

            def reply(self, status: int, said: dict) -> None:
                data = json.dumps(said).encode()
                self.send_response(status)
                self.send_header("Content-Type", "application/json")
                self.send_header("Content-Length", str(len(data)))
                self.end_headers()
                self.wfile.write(data)

            def log_message(self, *_) -> None:
                pass

        self.http = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        threading.Thread(target=self.http.serve_forever, daemon=True).start()

    @property
    def commits(self) -> list[str]:
        return [body for path, body in self.sent if "/commit/" in path]


@pytest.fixture
def hub(monkeypatch) -> Iterator[Hub]:
    one = Hub()
    monkeypatch.setattr("huggingface_hub.constants.ENDPOINT", f"http://127.0.0.1:{one.http.server_port}")
    yield one
    one.http.shutdown()


def test_nothing_is_sent_without_the_flag_and_only_one_file_with_it(finished, script, monkeypatch, hub):
    monkeypatch.setattr("huggingface_hub.get_token", lambda: None)
    changed(finished, manifest={"limit": None, "data": {"official": True}})
    assert script("export", finished).status == 0 and hub.sent == []
    ended = script("export", finished, "--push-to-hub", "me/model")
    assert ended.status == 2 and "no token" in ended.err and hub.sent == []
    monkeypatch.setattr("huggingface_hub.get_token", lambda: "hf_x")
    ended = script("export", finished, "--push-to-hub", "me/model")
    assert ended.status == 0 and ended.out.endswith("https://huggingface.co/me/model/discussions/1\n"), ended.err
    assert "sending .eval_results/mmlu.yaml to a pull request of me/model:\n- dataset:" in ended.err
    assert all("/me/model/" in path and path.endswith("?create_pr=1") for path, _ in hub.sent)
    (commit,) = hub.commits
    header, *files = (json.loads(line) for line in commit.splitlines())
    assert header["value"]["summary"].startswith("mmlu: ")
    assert [(one["key"], one["value"]["path"]) for one in files] == [("file", ".eval_results/mmlu.yaml")]


def test_what_the_hub_refuses_is_one_line_that_says_how_to_send_it_later(finished, script, monkeypatch, hub):
    monkeypatch.setattr("huggingface_hub.get_token", lambda: "hf_x")
    changed(finished, manifest={"limit": None, "data": {"official": True}})
    hub.status = 403
    ended = script("export", finished, "--export", "eval-results", "--push-to-hub", "me/model")
    last = ended.err.splitlines()[-1]
    assert ended.status == 2 and "403" in last and "--export eval-results --push-to-hub me/model" in last
    assert "hf_x" not in ended.err


@pytest.mark.parametrize(
    ("flags", "token", "said"),
    [
        (("gsm8k",), None, "no token of the hub"),
        (("gsm8k", "--limit", "3"), "hf_x", "--limit takes a part of it"),
        (("wmt22",), "hf_x", "wmt22 is no data set of the hub"),
    ],
)
def test_a_run_that_could_send_nothing_at_its_end_does_not_start(script, tmp_path, monkeypatch, flags, token, said):
    monkeypatch.setattr("huggingface_hub.get_token", lambda: token)
    name, *more = flags
    ended = script(name, "-c", "demo", *more, "--push-to-hub", "me/model", "-o", tmp_path / "out")
    assert ended.status == 2 and said in ended.err and ended.err.count("\n") == 1
    assert not (tmp_path / "out").exists()


def test_no_password_of_an_endpoint_is_exported(script, tmp_path, server, monkeypatch):
    monkeypatch.setenv("OPENAI_API_KEY", "sk-sesame-open")
    url = server.url.replace("http://", "http://user:passw0rd@") + "?api_key=querysecret1"
    where = ("-d", "demo/data/gsm8k", "-o", tmp_path / "out")
    flags = ("--engine", "openai", "--base-url", url, "-c", "served", *where)
    assert script("gsm8k", *flags, "--limit", "2", "--export", "eee,lm-eval,inspect").status == 0
    files = [path for path in (tmp_path / "out/export").rglob("*") if path.is_file()]
    assert len(files) == 5
    for path in files:
        text = path.read_text(encoding="utf-8")
        assert not any(word in text for word in ("passw0rd", "querysecret1", "sk-sesame-open")), path


def test_a_folder_that_is_no_finished_run_is_one_line(finished, script, tmp_path):
    def fails(folder, *said):
        ended = script("export", folder)
        assert ended.status == 2 and len(ended.err.strip().splitlines()) == 1, ended.err
        assert all(text in ended.err for text in said)

    fails(tmp_path / "nowhere", "is no folder of results")
    (tmp_path / "empty").mkdir()
    fails(tmp_path / "empty", ": it holds no results of a run: no results.json and no samples.jsonl")
    going = tmp_path / "going"
    shutil.copytree(finished, going)
    (going / "results.json").unlink()
    fails(going, "was stopped before its end (no results.json); start its command again")
    (finished / "results.json").write_text("{}")
    fails(finished, "results.json is not one of this harness")


def test_unknown_formats_are_named():
    assert format_names("all") == list(FORMATS) and format_names("eee, inspect") == ["eee", "inspect"]
    with pytest.raises(Exception, match="'pdf' is no format; there are eee"):
        format_names("eee,pdf")
