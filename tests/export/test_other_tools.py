"""The exports, read by the tools that they are for: Every Eval Ever's validator and converter, inspect_ai's reader.

They want Python 3.12, and packages that would not fit beside ours: an environment of their own is made here.
"""

import json
import shutil
import subprocess
import sys
from pathlib import Path

from qwen_eval.export.finished import read_finished
from qwen_eval.export.formats import export
from qwen_eval.export.item_scores import item_scores

import pandas
import pytest

pytestmark = [pytest.mark.heavy, pytest.mark.timeout(1200)]

READER = """
import glob, json, sys
from inspect_ai.log import read_eval_log, read_eval_log_sample_summaries
found = {}
for path in glob.glob(sys.argv[1]):
    log = read_eval_log(path)
    metrics = {score.name: [m.value for m in score.metrics.values()][0] for score in log.results.scores}
    samples = {
        f"{s.id}#{s.epoch - 1}": [{n: score.value for n, score in s.scores.items()}, s.input, s.target]
        for s in log.samples
    }
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
    """Runs of every kind: choices, replies, programs, likelihoods, overlaps, a corpus score, questions of one's own."""
    questions = [{"id": "a", "question": "2+2?", "answer": "4"}, {"id": "b", "question": "北京?", "answer": "中国"}]
    (tmp_path / "own.jsonl").write_text("".join(json.dumps(row) + "\n" for row in questions))
    for name, *flags in (
        ("mmlu", "-c", "demo", "--limit", "3"),
        ("gsm8k", "-c", "demo-chat", "--limit", "5"),
        ("humaneval", "-c", "demo", "--limit", "4"),
        ("ppl", "-c", "demo", "--lengths", "512", "--limit", "2"),
        ("plugin", "-c", "demo-chat", "--limit", "3"),
        ("wmt22", "-c", "demo", "--limit", "2"),
        ("custom", "-c", "demo-chat", "-d", tmp_path / "own.jsonl"),
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
        assert len(files) == (1 if folder.name == "wmt22" else 2)  # no sentence has a score of its own
        command = [str(theirs), "-m", "every_eval_ever", "validate", "--format", "json", *files]
        ended = subprocess.run(command, cwd=place, capture_output=True, text=True)
        assert ended.returncode == 0, ended.stdout
        assert '"valid": false' not in ended.stdout and '"severity"' not in ended.stdout


def test_a_converter_of_lm_eval_and_inspect_logs_reads_the_figures(theirs, runs, tmp_path):
    for folder in runs.iterdir():
        own = sorted(figure.share for figure in read_finished(folder).figures)
        for kind, pattern in (("lm_eval", "lm-eval/*/results_*.json"), ("inspect", "inspect/*.json")):
            (log,) = (folder / "export").glob(pattern)
            into = tmp_path / kind / folder.name
            command = [str(theirs), "-m", "every_eval_ever", "convert", kind, "--log_path", str(log)]
            subprocess.run([*command, "--output_dir", str(into)], check=True, capture_output=True)
            (converted,) = into.rglob("*.json")
            found = [r["score_details"]["score"] for r in json.loads(converted.read_text())["evaluation_results"]]
            assert sorted(found) == pytest.approx(own), (kind, folder.name)


def test_inspect_reads_every_sample(theirs, runs):
    pattern = str(runs / "*/export/inspect/*.json")
    told = subprocess.run([str(theirs), "-c", READER, pattern], check=True, capture_output=True, text=True).stdout
    found = json.loads(told.splitlines()[-1])
    assert set(found) == {folder.name for folder in runs.iterdir()}
    for name, log in found.items():
        run = read_finished(runs / name)
        assert log["status"] == "success"
        assert log["metrics"] == pytest.approx({figure.name: figure.share for figure in run.figures})
        for record in run.records().values():
            scores, prompt, gold = log["samples"][f"{record['id']}#{record['sample']}"]
            assert (prompt, gold) == (record["prompt"], record["gold"])
            for score in item_scores(run, record):
                read = scores.pop(score.figure.name)
                assert read == (("C" if score.value else "I") if score.mark else pytest.approx(score.value))
            assert scores == {}


def test_lm_evaluation_harness_finds_and_tabulates_the_files(runs):
    pytest.importorskip("lm_eval", reason="lm-evaluation-harness comes with the bench extra; .ci/run installs it")
    from lm_eval import utils

    for folder in runs.iterdir():
        files = list(map(str, (folder / "export/lm-eval").glob("*/*")))
        results = json.loads(Path(utils.get_latest_filename(utils.get_results_filenames(files))).read_text())
        rows = [[cell.strip() for cell in row.split("|")[1:-1]] for row in utils.make_table(results).splitlines()[2:]]
        table = {row[4]: (row[5], float(row[6])) for row in rows}  # metric: arrow, value
        run = read_finished(folder)
        for figure in run.figures:
            arrow, value = table[figure.name]
            assert arrow == ("↓" if figure.lower_is_better else "↑") and value == pytest.approx(figure.share, abs=1e-4)
        samples = utils.get_latest_filename(utils.get_sample_results_filenames(files))
        assert utils.get_file_task_name(Path(samples).name) == run.benchmark
        assert len(pandas.read_json(samples, lines=True)) == len(run.records())
