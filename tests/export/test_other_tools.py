"""The exports, read by the tools that they are for: Every Eval Ever's validator and converter, inspect_ai's reader.

They want Python 3.12, and packages that would not fit beside ours: an environment of their own is made here.
"""

import json
import shutil
import subprocess
import sys
from pathlib import Path

from qwen_eval.export.formats import export

import pytest

pytestmark = [pytest.mark.heavy, pytest.mark.timeout(1200)]

READER = """
import glob, json, sys
from inspect_ai.log import read_eval_log, read_eval_log_sample_summaries
found = {}
for path in glob.glob(sys.argv[1]):
    log = read_eval_log(path)
    metrics = {score.name: [m.value for m in score.metrics.values()][0] for score in log.results.scores}
    samples = {f"{s.id}#{s.epoch - 1}": [s.scores["protocol"].value, s.input, s.output.completion] for s in log.samples}
    assert len(read_eval_log_sample_summaries(path)) == len(log.samples)
    found[log.eval.task] = {"status": log.status, "metrics": metrics, "samples": samples}
print(json.dumps(found))
"""


def python_of_theirs() -> str:
    """A Python of at least 3.12: this one, one on the PATH, or one of pyenv's."""
    if sys.version_info >= (3, 12):
        return sys.executable
    on_path = [found for name in ("python3.13", "python3.12") if (found := shutil.which(name))]
    of_pyenv = sorted(Path.home().glob(".pyenv/versions/3.1[2-9]*/bin/python"))
    for found in [*on_path, *map(str, of_pyenv)]:
        if subprocess.run([found, "--version"], capture_output=True).returncode == 0:
            return found
    pytest.skip("Every Eval Ever wants Python 3.12 or newer, and there is none on this machine")


@pytest.fixture(scope="module")
def theirs(tmp_path_factory) -> Path:
    """The Python of an environment with both packages."""
    folder = tmp_path_factory.mktemp("theirs")
    subprocess.run([python_of_theirs(), "-m", "venv", str(folder)], check=True)
    python = folder / "bin/python"
    install = [str(python), "-m", "pip", "install", "--quiet", "every-eval-ever", "inspect-ai"]
    subprocess.run(install, check=True)
    return python


@pytest.fixture
def runs(script, tmp_path) -> Path:
    """Runs of every kind: choices, replies, programs, likelihoods."""
    for name, *flags in (
        ("mmlu", "-c", "demo", "--limit", "3"),
        ("gsm8k", "-c", "demo-chat", "--limit", "5"),
        ("humaneval", "-c", "demo", "--limit", "4"),
        ("ppl", "-c", "demo", "--lengths", "512", "--limit", "2"),
    ):
        folder = tmp_path / "runs" / name
        assert script(name, *flags, "-o", folder).status == 0
        results = json.loads((folder / "results.json").read_text())
        (folder / "results.json").write_text(json.dumps({**results, "model_id": f"Qwen/{results['model']}"}))
        _, refused = export(folder, ["eee", "lm-eval", "inspect"])
        assert refused == []
    return tmp_path / "runs"


def test_every_eval_evers_validator_passes_with_no_warning(theirs, runs):
    for folder in runs.iterdir():
        place = folder / "export/eee"
        files = [str(path.relative_to(place)) for path in place.rglob("*.json*")]
        assert len(files) == 2
        command = [str(theirs), "-m", "every_eval_ever", "validate", "--format", "json", *files]
        ended = subprocess.run(command, cwd=place, capture_output=True, text=True)
        assert ended.returncode == 0, ended.stdout
        assert '"valid": false' not in ended.stdout and '"severity"' not in ended.stdout


def test_a_converter_of_lm_eval_logs_reads_the_figures(theirs, runs, tmp_path):
    for folder in runs.iterdir():
        (log,) = (folder / "export/lm-eval").rglob("results_*.json")
        command = [str(theirs), "-m", "every_eval_ever", "convert", "lm_eval", "--log_path", str(log)]
        subprocess.run([*command, "--output_dir", str(tmp_path / "out" / folder.name)], check=True, capture_output=True)
        (converted,) = (tmp_path / "out" / folder.name).rglob("*.json")
        found = [r["score_details"]["score"] for r in json.loads(converted.read_text())["evaluation_results"]]
        scores = json.loads((folder / "results.json").read_text())["scores"].values()
        unit = 1.0 if folder.name == "ppl" else 100.0
        own = [score["value"] / unit for score in scores if score["value"] is not None]
        assert sorted(found) == pytest.approx(sorted(own))


def test_inspect_reads_every_sample(theirs, runs):
    pattern = str(runs / "*/export/inspect/*.json")
    told = subprocess.run([str(theirs), "-c", READER, pattern], check=True, capture_output=True, text=True).stdout
    found = json.loads(told.splitlines()[-1])
    assert set(found) == {"mmlu", "gsm8k", "humaneval", "ppl"}
    for name, log in found.items():
        own = [json.loads(line) for line in (runs / name / "samples.jsonl").read_text().splitlines()]
        scores = json.loads((runs / name / "results.json").read_text())["scores"]
        assert log["status"] == "success"
        assert log["metrics"] == pytest.approx({n: s["value"] for n, s in scores.items() if s["value"] is not None})
        marks = {f"{line['id']}#{line['sample']}": "C" if line["correct"] else "I" for line in own}
        assert {key: sample[0] for key, sample in log["samples"].items()} == marks
        texts = {f"{line['id']}#{line['sample']}": line["prompt"] for line in own}
        assert {key: sample[1] for key, sample in log["samples"].items()} == texts
