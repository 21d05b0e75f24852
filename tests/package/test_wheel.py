"""The wheel is the whole product, and the command from it does what the scripts of a checkout do."""

from __future__ import annotations

import json
import os
import shutil
import signal
import subprocess
import sys
import time
import zipfile
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
SCRIPTS = ROOT / "eval"
MMLU = ("-c", "demo", "--limit", "3", "-o", "out")
GONE_ON = "interrupted; finished items are kept, the same command goes on from there"


def files(folder: str, pattern: str = "**/*") -> set[str]:
    found = (path for path in (ROOT / folder).glob(pattern) if path.is_file())
    named = (path.relative_to(ROOT / folder) for path in found if "__pycache__" not in path.parts)
    return {str(path) for path in named if not path.name.startswith(".")}


def test_the_wheel_holds_every_file_of_the_product_and_no_other(wheel: Path) -> None:
    with zipfile.ZipFile(wheel) as archive:
        held = {name for name in archive.namelist() if ".dist-info/" not in name}
    wanted = {f"{package}/{name}" for package in ("qwen_model", "qwen_eval") for name in files(package)}
    wanted |= {f"qwen_eval/scripts/{name}" for name in files("eval", "*.py")}
    demo = files("demo", "*.*") | files("demo", "checkpoint/**/*") | files("demo", "data/**/*")
    wanted |= {f"qwen_eval/demo/{name}" for name in demo}
    assert held == wanted


def starts(environment, how: str) -> list[str]:
    return [environment.command] if how == "command" else [environment.python, "-m", "qwen_eval"]


# -- the same run ------------------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def checkouts_run(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The output folder of `python eval/evaluate_mmlu.py` in the checkout."""
    folder = tmp_path_factory.mktemp("checkout")
    variables = {**os.environ, "PYTHONPATH": str(ROOT)}
    subprocess.run([sys.executable, SCRIPTS / "evaluate_mmlu.py", *MMLU], cwd=folder, check=True, env=variables)
    return folder / "out"


def test_the_command_is_the_same_run_as_the_script(installed, checkouts_run: Path, tmp_path: Path) -> None:
    ended = installed.run(installed.command, "mmlu", *MMLU, cwd=tmp_path)
    assert ended.returncode == 0, ended.stderr
    out = tmp_path / "out"
    assert {path.name for path in out.iterdir()} == {path.name for path in checkouts_run.iterdir()}
    for name in ("samples.jsonl", "table.md", "table.csv"):
        assert (out / name).read_bytes() == (checkouts_run / name).read_bytes(), name
    manifest = json.loads((out / "results.json").read_text(encoding="utf-8"))["manifest"]
    assert manifest["command"] == "qwen-eval mmlu -c demo --limit 3 -o out"
    assert manifest["versions"]["qwen-eval"] and manifest["git_commit"] is None, "no checkout's commit, but a version"


def test_the_report_page_is_made_by_the_wheel(installed, checkouts_run: Path, tmp_path: Path) -> None:
    ended = installed.run(installed.command, "report", checkouts_run, cwd=tmp_path)
    assert ended.returncode == 0, ended.stderr
    assert "libraries" in (tmp_path / "report.html").read_text(encoding="utf-8")


def test_a_copy_of_a_script_runs_alone_in_another_folder(installed, checkouts_run: Path, tmp_path: Path) -> None:
    shutil.copy(SCRIPTS / "evaluate_mmlu.py", tmp_path / "my_mmlu.py")
    ended = installed.run(installed.python, "my_mmlu.py", *MMLU, cwd=tmp_path)
    assert ended.returncode == 0, ended.stderr
    assert (tmp_path / "out" / "samples.jsonl").read_bytes() == (checkouts_run / "samples.jsonl").read_bytes()


def test_the_demo_runs_from_the_wheel_into_the_current_folder(installed, tmp_path: Path) -> None:
    ended = installed.run(installed.command, "demo", "--only", "gsm8k-0-shot", "--exact", cwd=tmp_path)
    assert ended.returncode == 0, ended.stderr
    assert (tmp_path / "demo-out" / "gsm8k-0-shot" / "results.json").exists()


@pytest.mark.parametrize("how", ["command", "module"])
def test_help_is_the_scripts(installed, tmp_path: Path, how: str) -> None:
    ours = installed.run(*starts(installed, how), "gsm8k", "--help", cwd=tmp_path)
    path = installed.site / "qwen_eval" / "scripts" / "evaluate_gsm8k.py"
    script = installed.run(installed.python, path, "--help", cwd=tmp_path)
    assert ours.stdout.startswith("usage: qwen-eval gsm8k ")
    assert ours.stdout.partition("\n\n")[2] == script.stdout.partition("\n\n")[2] != ""
    assert (ours.returncode, ours.stderr) == (0, "")


@pytest.mark.parametrize(
    ("flags", "said"),
    [
        (["--nonsense"], "qwen-eval mmlu: error: unrecognized arguments: --nonsense (--help lists the flags)\n"),
        (["-c", "nowhere/to/be/found"], "error: -c "),
        (["-c", "demo", "-d", "nothing"], "error: "),
    ],
)
def test_what_is_wrong_is_one_line_and_status_2(installed, tmp_path: Path, flags: list[str], said: str) -> None:
    ended = installed.run(installed.command, "mmlu", *flags, cwd=tmp_path, HF_HUB_OFFLINE="1")
    assert (ended.returncode, ended.stdout, ended.stderr.count("\n")) == (2, "", 1), ended.stderr
    assert ended.stderr.startswith(said)


def test_debug_shows_where(installed, tmp_path: Path) -> None:
    ended = installed.run(installed.command, "mmlu", "-c", "demo", "-d", "nothing", "--debug", cwd=tmp_path)
    assert ended.returncode == 2
    assert "Traceback" in ended.stderr and "qwen_eval/scripts/evaluate_mmlu.py" in ended.stderr


# -- names -------------------------------------------------------------------------------------------------------------


def test_list_shows_every_script_with_the_first_line_of_its_docstring(installed, tmp_path: Path) -> None:
    ended = installed.run(installed.command, "list", cwd=tmp_path, PYTHONOPTIMIZE="2")
    assert (ended.returncode, ended.stderr) == (0, "")
    lines = ended.stdout.splitlines()
    names = sorted(path.stem.removeprefix("evaluate_") for path in SCRIPTS.glob("*.py"))
    assert [line.split()[0] for line in lines] == [*names, "demo"]
    for line in lines:
        assert len(line.split()) > 3, f"says nothing: {line}"
    assert any(line.startswith("mmlu  ") and "57 subjects of four-way multiple choice" in line for line in lines)


@pytest.mark.parametrize(
    ("name", "hint"),
    [
        ("mmul", "did you mean mmlu?"),
        ("Human-Eval", "did you mean humaneval?"),
        ("x", "`qwen-eval list` shows every name"),
    ],
)
def test_an_unknown_name_is_one_line_with_a_suggestion(installed, tmp_path: Path, name: str, hint: str) -> None:
    ended = installed.run(installed.command, name, "-c", "demo", cwd=tmp_path)
    assert (ended.returncode, ended.stdout) == (2, "")
    assert ended.stderr == f"error: there is no benchmark {name!r}; {hint}\n"


def test_without_a_name_the_usage(installed, tmp_path: Path) -> None:
    assert installed.run(installed.command, "--help", cwd=tmp_path).stdout.startswith("usage: qwen-eval NAME")
    bare = installed.run(installed.command, cwd=tmp_path)
    assert (bare.returncode, bare.stdout) == (2, "") and bare.stderr.startswith("usage: qwen-eval NAME")


def test_a_hyphen_stands_for_an_underscore(installed, tmp_path: Path) -> None:
    assert installed.run(installed.command, "code-interpreter", "--help", cwd=tmp_path).returncode == 0


# -- what lies around a run --------------------------------------------------------------------------------------------


@pytest.fixture
def one_reply(tmp_path: Path) -> tuple[object, ...]:
    """Flags with which MATH has one reply to score, by its worker."""
    row = json.loads((ROOT / "demo" / "data" / "math" / "test.jsonl").read_text(encoding="utf-8").split("\n")[0])
    (tmp_path / "replies.jsonl").write_text(json.dumps({"id": "test/0", "response": row["solution"]}))
    return ("-c", "demo", "--rescore", tmp_path / "replies.jsonl", "-o", tmp_path / "out", "--limit", 1)


@pytest.mark.parametrize("how", ["command", "module"])
def test_modules_of_the_current_directory_are_not_imported(installed, one_reply, tmp_path: Path, how: str) -> None:
    littered = tmp_path / "littered"
    littered.mkdir()
    for name in "json math numbers pathlib queue random select signal threading typing numpy sympy torch".split():
        (littered / f"{name}.py").write_text(f"raise SystemExit('a foreign {name}.py ran')\n")
    ended = installed.run(*starts(installed, how), "math", *one_reply, cwd=littered, PYTHONOPTIMIZE="2")
    assert (ended.returncode, ended.stderr) == (0, "")
    assert json.loads((tmp_path / "out" / "samples.jsonl").read_text(encoding="utf-8"))["correct"] is True


@pytest.mark.parametrize("redirected", [">&-", "<&- >&- 2>&-", ">/dev/full"])
def test_streams_that_nobody_reads(installed, one_reply, tmp_path: Path, redirected: str) -> None:
    ended = installed.run(installed.command, "math", *one_reply, cwd=tmp_path, redirected=redirected)
    full = redirected == ">/dev/full"
    assert (ended.returncode, ended.stderr.count("\n")) == (2 if full else 0, int(full)), ended.stderr
    assert (tmp_path / "out" / "results.json").exists()
    listed = installed.run(installed.command, "list", cwd=tmp_path, redirected=redirected)
    assert listed.returncode == (2 if full else 0)


@pytest.mark.parametrize("how", ["command", "module"])
@pytest.mark.parametrize("ending", [signal.SIGINT, signal.SIGTERM, signal.SIGHUP])
def test_a_signal_during_the_imports_is_one_line(installed, tmp_path: Path, how: str, ending: signal.Signals) -> None:
    """numpy is replaced by a module that says it is being imported, and takes long."""
    (tmp_path / "path").mkdir()
    (tmp_path / "path" / "numpy.py").write_text(
        f"import pathlib, time\npathlib.Path({str(tmp_path / 'importing')!r}).touch()\ntime.sleep(60)\n"
    )
    run = subprocess.Popen(
        [*starts(installed, how), "ppl", "--help"],
        cwd=tmp_path,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        env=installed.variables(PYTHONPATH=str(tmp_path / "path")),
    )
    until = time.monotonic() + 50
    while not (tmp_path / "importing").exists() and time.monotonic() < until:
        time.sleep(0.02)
    run.send_signal(ending)
    out, err = run.communicate(timeout=50)
    assert (run.returncode, out, err) == (128 + ending, "", f"\n{GONE_ON}\n")
