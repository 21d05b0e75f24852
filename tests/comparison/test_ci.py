"""For CI: one verdict with what decides it, a summary, JUnit's XML; the Action's own commands, run here."""

import json
import os
import re
import subprocess
import sys
from pathlib import Path
from typing import Any, NamedTuple
from xml.etree import ElementTree

from tests.comparison.runs import line, run_of_marks, write_run

import pytest
import yaml

ROOT = Path(__file__).resolve().parents[2]
DATA = ROOT / "demo" / "data" / "gsm8k"


def marks(right: int, n: int = 500) -> list[bool]:
    return [number < right for number in range(n)]


@pytest.fixture
def ci(script, tmp_path, monkeypatch):
    """Run compare.py --ci as in a job of GitHub."""
    monkeypatch.setenv("GITHUB_STEP_SUMMARY", str(tmp_path / "step.md"))
    monkeypatch.setenv("GITHUB_OUTPUT", str(tmp_path / "output"))
    return lambda *words: script("compare", *words, "--ci", "-o", tmp_path / "out")


def verdict(tmp_path: Path) -> str:
    return dict(one.split("=", 1) for one in (tmp_path / "output").read_text().splitlines())["verdict"]


def apart(path: Path) -> Path:
    return run_of_marks(path, marks(400), num_fewshot=0)


@pytest.mark.parametrize(
    ("make", "word", "status", "kind", "said"),
    [
        (lambda path: run_of_marks(path, marks(400)), "GO", 0, None, "one of 10 points or more would have been found"),
        (lambda path: run_of_marks(path, marks(380)), "NO-GO", 1, "failure", "significantly worse: gsm8k acc 80 -> 76"),
        (
            lambda path: run_of_marks(path, marks(20, 20)),
            "NOT ENOUGH DATA",
            2,
            "skipped",
            "one over 10 points could be missed: gsm8k acc (20 items can show 36.1 or more)",
        ),
        (apart, "NOT COMPARABLE", 2, "error", "gsm8k: not only the model differs"),
    ],
)
def test_each_verdict_has_its_status_its_reason_and_its_mark_in_junit(ci, tmp_path, make, word, status, kind, said):
    ended = ci(run_of_marks(tmp_path / "a", marks(400)), make(tmp_path / "b"))
    assert ended.status == status, ended
    assert verdict(tmp_path) == word == json.loads((tmp_path / "out/comparison.json").read_text())["verdict"]
    summary = (tmp_path / "out/summary.md").read_text()
    assert summary.startswith(f"# qwen-eval: {word}\n\n{word}: ") and said in summary
    assert (tmp_path / "step.md").read_text() == summary
    suites = ElementTree.parse(tmp_path / "out/junit.xml").getroot()
    (suite,) = suites
    (case,) = suite
    assert (suite.tag, suite.get("name"), suite.get("tests")) == ("testsuite", "gsm8k", "1")
    assert (case.get("classname"), case.get("name")) == ("gsm8k", "acc")
    assert [part.tag for part in case] == ([kind] if kind else []) + ["system-out"]
    counts = {name: suite.get(name) for name in ("failures", "errors", "skipped")}
    wanted = {"failure": "failures", "error": "errors", "skipped": "skipped"}.get(kind or "")
    assert counts == {name: "1" if name == wanted else "0" for name in counts}


def test_the_project_decides_which_verdicts_fail(ci, tmp_path):
    a, b = (run_of_marks(tmp_path / name, marks(20, 20)) for name in "ab")
    assert ci(a, b, "--fail-on", "no-go").status == 0 and verdict(tmp_path) == "NOT ENOUGH DATA"
    assert ci(a, b, "--fail-on", "no-go,not-enough-data").status == 2
    assert ci(a, b, "--margin", 40).status == 0 and verdict(tmp_path) == "GO"


def test_a_loss_in_one_benchmark_is_a_no_go_whatever_the_others_say(ci, tmp_path):
    for side, right in (("a", 400), ("b", 370)):
        run_of_marks(tmp_path / side / "gsm8k", marks(right))
        run_of_marks(tmp_path / side / "math", marks(5, 5), benchmark="math")
    assert ci(tmp_path / "a", tmp_path / "b").status == 1 and verdict(tmp_path) == "NO-GO"


def test_what_a_model_wrote_does_not_break_the_summary_or_the_xml(ci, tmp_path):
    reply = "</script> | a & b <b>\x07 \ud800"
    a = write_run(tmp_path / "a", [line(f"t/{n}", True) for n in range(60)])
    b = write_run(tmp_path / "b", [line(f"t/{n}", False, prediction=reply) for n in range(60)])
    assert ci(a, b).status == 1
    ElementTree.parse(tmp_path / "out/junit.xml")
    rows = [row for row in (tmp_path / "out/summary.md").read_text().splitlines() if row.startswith("| t/0 ")]
    assert rows and len(re.findall(r"(?<!\\)\|", rows[0])) == 5


# -- the Action --------------------------------------------------------------------------------------------------------


class Job(NamedTuple):
    """How a job ended: the first exit status that is not 0, the Action's outputs, the job's summary, what was shown."""

    status: int
    outputs: dict[str, str]
    summary: str
    shown: str


def run_action(folder: Path, **inputs: Any) -> Job:
    """Do what GitHub does with action.yml: fill in the inputs, run each step's commands by bash, stop at the first that
    fails."""
    action = yaml.safe_load((ROOT / "action.yml").read_text(encoding="utf-8"))
    given = {name: str(one.get("default", "")) for name, one in action["inputs"].items()}
    given |= {name.replace("_", "-"): str(value) for name, value in inputs.items()}
    given |= {"python": sys.executable, "install": "false"}
    assert all(given[name] for name, one in action["inputs"].items() if one.get("required"))
    steps: dict[str, dict[str, str]] = {}

    def fill(text: str) -> str:
        text = re.sub(r"\$\{\{ inputs\.([\w-]+) \}\}", lambda found: given[found[1]], text)
        return re.sub(
            r"\$\{\{ steps\.(\w+)\.outputs\.(\w+) \}\}", lambda found: steps.get(found[1], {}).get(found[2], ""), text
        )

    def wanted(condition: str) -> bool:
        name, sign, value = re.fullmatch(r"\$\{\{ inputs\.([\w-]+) (==|!=) '(\w*)' \}\}", condition).groups()
        return (given[name] == value) == (sign == "==")

    folder.mkdir(parents=True)
    status, shown = 0, ""
    for number, step in enumerate(action["runs"]["steps"]):
        if status or not wanted(step.get("if", "${{ inputs.python != '' }}")):
            continue
        output = folder / f"output-{number}"
        output.touch()
        variables = {name: fill(value) for name, value in step["env"].items()}
        assert not any("${{" in value for value in variables.values()) and "${{" not in step["run"]
        ended = subprocess.run(
            ["bash", "--noprofile", "--norc", "-e", "-o", "pipefail", "-c", step["run"]],
            cwd=folder,
            env={
                **os.environ,
                **variables,
                "PYTHONPATH": str(ROOT),
                "OMP_NUM_THREADS": "1",
                "GITHUB_OUTPUT": str(output),
                "GITHUB_STEP_SUMMARY": str(folder / "summary.md"),
            },
            capture_output=True,
            text=True,
        )
        status, shown = ended.returncode, shown + ended.stdout + ended.stderr
        steps[step.get("id", "")] = dict(one.split("=", 1) for one in output.read_text().splitlines())
    summary = (folder / "summary.md").read_text() if (folder / "summary.md").exists() else ""
    return Job(status, {name: fill(one["value"]) for name, one in action["outputs"].items()}, summary, shown)


@pytest.fixture(scope="module")
def checkpoint() -> Path:
    return ROOT / "demo" / "checkpoint" / "base"


def spoiled(checkpoint: Path, folder: Path) -> Path:
    """The checkpoint with noise of a third of each weight's spread."""
    import shutil

    import torch
    from safetensors.torch import load_file, save_file

    shutil.copytree(checkpoint, folder)
    generator = torch.Generator().manual_seed(0)
    for path in folder.glob("*.safetensors"):
        weights = {
            name: (one + 0.3 * one.std() * torch.randn(one.shape, generator=generator)).to(one.dtype)
            for name, one in load_file(path).items()
        }
        save_file(weights, path, metadata={"format": "pt"})
    return folder


@pytest.mark.heavy
def test_the_action_passes_a_good_change_fails_a_break_and_says_when_data_are_too_few(tmp_path, checkpoint):
    run = {"benchmark": "gsm8k", "data": DATA, "flags": "-k 2 --dtype float32", "margin": 15}
    first = run_action(tmp_path / "first", checkpoint=checkpoint, **run)
    assert first.status == 0 and first.outputs["verdict"] == "", first.shown
    baseline = tmp_path / "first" / first.outputs["results"]
    assert (baseline / "results.json").exists() and (baseline / "samples.jsonl").exists()

    same = {**run, "flags": f"{run['flags']} -b 3"}  # a change that changes nothing: other batches
    good = run_action(tmp_path / "good", checkpoint=checkpoint, baseline=baseline, **same)
    assert good.status == 0 and good.outputs["verdict"] == "GO", good.shown
    assert good.summary.startswith("# qwen-eval: GO")
    assert (tmp_path / "good" / good.outputs["report"]).read_text() == good.summary

    broken = spoiled(checkpoint, tmp_path / "model")
    bad = run_action(tmp_path / "bad", checkpoint=broken, baseline=baseline, **run)
    assert bad.status == 1 and bad.outputs["verdict"] == "NO-GO", bad.shown
    assert "significantly worse: gsm8k acc 20 ->" in bad.summary
    suites = ElementTree.parse(tmp_path / "bad" / bad.outputs["junit"])
    assert suites.find("testsuite/testcase/failure") is not None

    tiny = run_action(tmp_path / "tiny", checkpoint=checkpoint, baseline=baseline, sample=6, **run)
    assert tiny.status == 2 and tiny.outputs["verdict"] == "NOT ENOUGH DATA", tiny.shown
    assert "54 items only in A" in tiny.summary


def test_replies_that_were_spoiled_are_found_by_a_rescored_run(ci, script, tmp_path):
    questions = [json.loads(one) for one in (DATA / "test.jsonl").read_text(encoding="utf-8").splitlines()]
    answers = [str(row["answer"].rpartition("#### ")[2]) for row in questions]

    def rescored(name: str, replies: list[str]) -> Path:
        lines = [json.dumps({"id": f"test/{n}", "response": f"The answer is {r}."}) for n, r in enumerate(replies)]
        (tmp_path / f"{name}.jsonl").write_text("\n".join(lines) + "\n")
        flags = ("--rescore", tmp_path / f"{name}.jsonl", "-d", DATA, "-k", 2, "--base", "-o", tmp_path / name)
        assert script("gsm8k", *flags).status == 0
        return tmp_path / name

    before = rescored("before", answers)
    assert ci(before, rescored("same", answers), "--margin", 15).status == 0
    assert ci(before, rescored("spoiled", ["7", *["no idea"] * 9, *answers[10:]]), "--margin", 15).status == 1
