"""How a script ends as a process: exit status and standard error, whatever becomes of its streams, folders, signals."""

import json
import os
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

from qwen_eval.errors import UserError, redacted, run_script
from qwen_eval.process import Interrupted

import pytest

ROOT = Path(__file__).resolve().parents[2]
DATA = ROOT / "demo" / "data" / "mmlu"
SCRIPT = ROOT / "eval" / "evaluate_mmlu.py"
GONE_ON = "interrupted; finished items are kept, the same command goes on from there"


@pytest.fixture
def flags(tmp_path: Path) -> list[str]:
    """Given replies: a whole run without a model."""
    path = tmp_path / "replies.jsonl"
    path.write_text(
        "".join(json.dumps({"id": f"nutrition/{i}", "choice_logits": [0, 1, 0, 0]}) + "\n" for i in range(20))
    )
    return ["--rescore", str(path), "-d", str(DATA), "--subjects", "nutrition", "-k", "0", "-o", str(tmp_path / "out")]


def shell(flags: list[str], redirected: str, **environment: str) -> subprocess.CompletedProcess[str]:
    """The script as bash runs it, with what stands behind the command there."""
    command = f'"{sys.executable}" "$0" "$@" {redirected}'
    environment = {**os.environ, **environment}
    return subprocess.run(
        ["bash", "-c", command, str(SCRIPT), *flags], capture_output=True, text=True, env=environment, timeout=120
    )


def written(folder: Path) -> set[str]:
    return {path.name for path in folder.iterdir()}


REPORT = {"samples.jsonl", "results.json", "table.md", "table.csv"}


@pytest.mark.parametrize(
    ("redirected", "status"),
    [
        ("| head -1; exit ${PIPESTATUS[0]}", 0),
        ("| true; exit ${PIPESTATUS[0]}", 0),
        ("2>/dev/full", 0),
        (">&-", 0),
        ("2>&-", 0),
        (">&- 2>&- <&-", 0),
        (">/dev/full", 2),
        (">/dev/full 2>/dev/full", 2),
    ],
)
def test_streams_that_nobody_reads(flags: list[str], tmp_path: Path, redirected: str, status: int) -> None:
    """Status 1 would mean significantly worse; only a full disk under standard output loses something."""
    ended = shell(flags, redirected)
    assert (ended.returncode, "Traceback" in ended.stderr) == (status, False), ended.stderr
    assert written(tmp_path / "out") == REPORT
    for line in (tmp_path / "out" / "samples.jsonl").read_text().splitlines():
        assert json.loads(line)["id"].startswith("nutrition/"), "nothing else was written into the file"
    if redirected == ">/dev/full":
        assert (
            ended.stderr.startswith("error: standard output could not be written (") and ended.stderr.count("\n") == 1
        )


def test_significantly_worse_stays_status_1_when_the_pipe_is_closed(flags: list[str], tmp_path: Path) -> None:
    (tmp_path / "better").mkdir()
    lines = [json.dumps({"id": f"nutrition/{i}", "correct": True}) + "\n" for i in range(20)]
    (tmp_path / "better" / "samples.jsonl").write_text("".join(lines))
    ended = shell([*flags, "--baseline", str(tmp_path / "better")], "| true; exit ${PIPESTATUS[0]}")
    assert (ended.returncode, ended.stderr) == (1, "")


def test_help_into_a_closed_pipe_and_wrong_flags_without_a_stream(flags: list[str]) -> None:
    assert shell(["--help"], "| true; exit ${PIPESTATUS[0]}").returncode == 0
    assert shell([*flags, "--nonsense"], "2>&-").returncode == 2
    assert shell([*flags, "--nonsense"], "2>/dev/full").returncode == 2


def test_python_without_docstrings_and_asserts(flags: list[str], tmp_path: Path) -> None:
    ended = shell(flags, "", PYTHONOPTIMIZE="2")
    assert (ended.returncode, ended.stderr) == (0, "")
    assert written(tmp_path / "out") == REPORT
    assert shell(["--help"], "", PYTHONOPTIMIZE="2").returncode == 0


def test_a_user_that_the_system_does_not_know(flags: list[str], tmp_path: Path) -> None:
    """Containers run with any number for a user, without a home."""
    code = "import pwd, runpy, sys; pwd.getpwuid = lambda uid: {}[uid];"
    code += f"sys.path[0] = {str(SCRIPT.parent)!r}; runpy.run_path({str(SCRIPT)!r}, run_name='__main__')"
    command = [sys.executable, "-c", code, *flags]
    environment = {name: value for name, value in os.environ.items() if name in ("PATH", "PYTHONPATH")}
    ended = subprocess.run(command, capture_output=True, text=True, env=environment, timeout=120)
    assert (ended.returncode, ended.stderr) == (0, ""), ended.stderr


def test_a_deleted_current_directory_is_named(flags: list[str], tmp_path: Path) -> None:
    (tmp_path / "gone").mkdir()
    command = f'cd "{tmp_path}/gone" && rmdir ../gone && "{sys.executable}" "$0" "$@"'
    ended = subprocess.run(["bash", "-c", command, str(SCRIPT), *flags[:-2]], capture_output=True, text=True)
    assert (ended.returncode, ended.stderr) == (2, "error: the current directory was deleted; cd to one that exists\n")


def test_a_folder_whose_name_is_not_utf8_loses_no_report(flags: list[str], tmp_path: Path) -> None:
    folder = os.fsencode(tmp_path) + b"/\xd6\xd0\xce\xc4"  # GBK
    shutil.copytree(DATA, os.fsdecode(folder + b"/data"))
    given = [os.fsencode(flag) for flag in flags]
    given[given.index(b"-d") + 1], given[given.index(b"-o") + 1] = folder + b"/data", folder + b"/out"
    for environment in (
        {},
        {"LC_ALL": "C", "PYTHONUTF8": "0", "PYTHONCOERCECLOCALE": "0"},
        {"PYTHONIOENCODING": "gbk"},
    ):
        ended = subprocess.run(
            [sys.executable, os.fsencode(SCRIPT), *given], capture_output=True, env={**os.environ, **environment}
        )
        assert (ended.returncode, ended.stderr) == (0, b"")
        out = Path(os.fsdecode(folder + b"/out"))
        assert written(out) == REPORT
        command = json.loads((out / "results.json").read_text(encoding="utf-8"))["manifest"]["command"]
        assert "/data" in command
        assert b"written to" in ended.stdout


# -- signals -------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("ending", [signal.SIGINT, signal.SIGTERM, signal.SIGHUP])
def test_a_signal_while_a_script_is_importing_is_one_line(tmp_path: Path, ending: signal.Signals) -> None:
    """numpy is replaced by a module that says it is being imported, and takes long."""
    (tmp_path / "numpy.py").write_text(
        f"import pathlib, time\npathlib.Path({str(tmp_path / 'importing')!r}).touch()\ntime.sleep(60)\n"
    )
    environment = {**os.environ, "PYTHONPATH": str(tmp_path)}
    run = subprocess.Popen(
        [sys.executable, str(ROOT / "eval" / "evaluate_ppl.py"), "--help"],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        env=environment,
    )
    until = time.monotonic() + 50
    while not (tmp_path / "importing").exists() and time.monotonic() < until:
        time.sleep(0.02)
    run.send_signal(ending)
    out, err = run.communicate(timeout=50)
    assert (run.returncode, out, err) == (128 + ending, "", f"\n{GONE_ON}\n")


def ended_by(main: Any, capsys: pytest.CaptureFixture[str]) -> tuple[int, str]:
    with pytest.raises(SystemExit) as ended:
        run_script(main)
    return ended.value.code, capsys.readouterr().err  # type: ignore[return-value]


@pytest.mark.parametrize("ending", [signal.SIGINT, signal.SIGTERM, signal.SIGHUP])
def test_a_signal_says_what_ctrl_c_says(capsys: pytest.CaptureFixture[str], ending: signal.Signals) -> None:
    before = [signal.getsignal(number) for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)]

    def main() -> int:
        os.kill(os.getpid(), ending)
        time.sleep(10)
        return 0

    assert ended_by(main, capsys) == (128 + ending, f"\n{GONE_ON}\n")
    assert [signal.getsignal(number) for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)] == before


def test_a_hangup_that_nohup_ignores_stays_ignored(capsys: pytest.CaptureFixture[str]) -> None:
    before = signal.signal(signal.SIGHUP, signal.SIG_IGN)
    try:

        def main() -> int:
            os.kill(os.getpid(), signal.SIGHUP)
            return 0

        assert ended_by(main, capsys) == (0, "")
    finally:
        signal.signal(signal.SIGHUP, before)


def test_ctrl_c_of_a_terminal_is_not_the_workers(capfd: pytest.CaptureFixture[str]) -> None:
    """It goes to every process of the terminal; a worker would write a traceback of its own."""
    from qwen_eval.equivalence import Equivalence

    with Equivalence() as equivalence:
        assert equivalence.equal("1", "1.0") is True
        (pid,) = equivalence.processes()
        os.kill(pid, signal.SIGINT)
        assert equivalence.equal("1", "1.0") is True
        assert equivalence.processes() == [pid]
    assert capfd.readouterr().err == ""


def test_importing_the_harness_elsewhere_leaves_ctrl_c_alone() -> None:
    code = "import signal; before = signal.getsignal(2); import qwen_eval.run; print(signal.getsignal(2) is before)"
    done = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True)
    assert done.stdout == "True\n", done.stderr


@pytest.mark.parametrize(
    ("error", "status", "said"),
    [
        (UserError("no such thing"), 2, "error: no such thing\n"),
        (Interrupted(signal.SIGTERM), 143, f"\n{GONE_ON}\n"),
        (KeyboardInterrupt(), 130, f"\n{GONE_ON}\n"),
        (SystemExit(1), 2, ""),
        (BrokenPipeError(32, "Broken pipe"), 2, "error: [Errno 32] Broken pipe\n"),
        (ValueError("two\nlines"), 2, "error (ValueError; --debug shows where): two lines\n"),
        (UserError("http://me:pass@host/v1?api_key=abc is down"), 2, "error: http://***@host/v1?api_key=*** is down\n"),
    ],
)
def test_every_end_has_its_status_and_one_line(
    capsys: pytest.CaptureFixture[str], error: BaseException, status: int, said: str
) -> None:
    def main() -> int:
        raise error

    assert ended_by(main, capsys) == (status, said)


# -- secrets -------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("text", "shown"),
    [
        ("http://u:p@h:80/v1", "http://***@h:80/v1"),
        ("u:p@h:80/v1 is no address", "***@h:80/v1 is no address"),
        ("https://h/v1?api-key=k&x=1", "https://h/v1?api-key=***&x=1"),
        ("https://h/v1?x=1&access_token=k#a", "https://h/v1?x=1&access_token=***#a"),
        ("mail me@example.org", "mail me@example.org"),
        ("owner/name:config:test#text", "owner/name:config:test#text"),
        ("--reported-as Qwen-7B@v1.0", "--reported-as Qwen-7B@v1.0"),
        ("a time of 12:30 @ noon", "a time of 12:30 @ noon"),
    ],
)
def test_what_is_secret_in_a_text(text: str, shown: str) -> None:
    assert redacted(text) == shown
