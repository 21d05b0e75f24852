"""Jupyter kernels in the sandbox: what a cell gives, and what a hostile one cannot do."""

import os
import socket
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path

from qwen_eval.errors import UserError
from qwen_eval.sandbox import Kernel, Kernels, Result, launch

import pytest

ALIVE = "'alive'"


@pytest.fixture(scope="module")
def table(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("data") / "a table.csv"
    path.write_text("x,y\n1,2\n3,4\n")
    return path


@pytest.fixture(scope="module")
def kernels(table: Path) -> Iterator[Kernels]:
    other = table.with_name("other.csv")
    other.write_text("somebody else's\n")
    try:
        opened = Kernels(warm=("matplotlib.pyplot",), files=[table, other], memory=1 << 30)
    except UserError as error:
        pytest.skip(str(error))
    with opened:
        yield opened


@pytest.fixture
def kernel(kernels: Kernels, table: Path) -> Iterator[Kernel]:
    with kernels.open([table]) as one:
        yield one


def texts(result: Result, kind: str) -> str:
    return "".join(output.text for output in result.outputs if output.kind == kind)


# -- what a cell gives -----------------------------------------------------------------------------


def test_output_result_and_error_of_cells_that_share_their_names(kernel: Kernel) -> None:
    first = kernel.run(
        "import sys\nprint('one', flush=True)\nprint('two')\nprint('odd', file=sys.stderr)\nx = 6\nx * 7"
    )
    assert [output.kind for output in first.outputs] == ["stdout", "stderr", "execute_result"], "a stream is one output"
    assert (texts(first, "stdout"), texts(first, "stderr"), texts(first, "execute_result")) == (
        "one\ntwo\n",
        "odd\n",
        "42",
    )
    assert first.error == ""
    failed = kernel.run("print(x)\n[][x]")
    assert (failed.error, failed.message) == ("IndexError", "list index out of range")
    assert texts(failed, "stdout") == "6\n"
    assert texts(failed, "error").rstrip().endswith("IndexError: list index out of range")
    assert "\x1b" not in texts(failed, "error"), "no colours"
    assert kernel.run("if x:\n").error in ("SyntaxError", "IndentationError")
    assert texts(kernel.run("print('你好', x)"), "stdout") == "你好 6\n", "an error costs nothing but its cell"


def test_a_plot_comes_as_png_with_and_without_show(kernel: Kernel) -> None:
    code = "import matplotlib.pyplot as plt\nplt.plot([1, 3, 2])"
    for ending in ("\nplt.show()", ""):
        pictures = [output.png for output in kernel.run(code + ending).outputs if output.kind == "picture"]
        assert len(pictures) == 1
        assert pictures[0].startswith(b"\x89PNG") and len(pictures[0]) > 2000


def test_input_files_are_there_read_only_and_no_others(kernel: Kernel, kernels: Kernels) -> None:
    assert texts(kernel.run("print(open('a table.csv').read())"), "stdout") == "x,y\n1,2\n3,4\n\n"
    for change in ("open('a table.csv', 'w')", "import os; os.remove('a table.csv')"):
        assert kernel.run(change).error == "OSError"
    look = "import os\nsorted(os.listdir('.')), os.listdir('/sandbox/files')"
    assert "other.csv" not in texts(kernel.run(look), "execute_result")
    assert texts(kernel.run("os.listdir('/sandbox/files')"), "execute_result") == "[]"
    with kernels.open() as empty:
        assert empty.run("open('a table.csv')").error == "FileNotFoundError"


def test_a_kernel_starts_clean_and_two_run_side_by_side(kernels: Kernels) -> None:
    with kernels.open() as one, kernels.open() as two:
        one.run("secret = 1; open('left', 'w').write('x')")
        assert two.run("secret").error == "NameError"
        assert two.run("open('left')").error == "FileNotFoundError"
        assert texts(one.run("open('left').read()"), "execute_result") == "'x'"


# -- what it cannot do -----------------------------------------------------------------------------


def test_network_files_processes_and_environment_are_out_of_reach(
    kernel: Kernel, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    canary = tmp_path / "canary"
    canary.write_text("secret")
    with socket.socket() as listening:
        listening.bind(("127.0.0.1", 0))
        listening.listen()
        port = listening.getsockname()[1]
        assert kernel.run(f"import socket\nsocket.create_connection(('127.0.0.1', {port}))").error == "PermissionError"
    assert kernel.run(f"open({str(canary)!r})").error == "FileNotFoundError"
    assert kernel.run("import subprocess, sys\nsubprocess.run([sys.executable, '-c', ''])").error == "PermissionError"
    assert kernel.run("import os\nos.fork()").error == "PermissionError"
    assert kernel.run(f"os.kill({os.getpid()}, 0)").error in ("PermissionError", "ProcessLookupError")
    assert kernel.run("open('/sandbox/x', 'w')").error == "OSError"
    assert texts(kernel.run("'QWEN_EVAL_CACHE' in os.environ, os.getpid()"), "execute_result") == "(False, 1)"
    assert kernel.run("open('big', 'wb').write(b'x' * (17 << 20))").error == "OSError", "a file may have 16 MiB"
    assert texts(kernel.run(ALIVE), "execute_result") == ALIVE


HOSTILE = {
    "exits": ("import os\nos._exit(3)", "the kernel exited with status 3"),
    "crashes": ("import ctypes\nctypes.string_at(0)", "the kernel crashed (SIGSEGV)"),
    "kills itself": ("import os, signal\nos.kill(os.getpid(), signal.SIGKILL)", ""),  # process 1 is deaf to that
    "exits politely": ("raise SystemExit(1)", "SystemExit"),
    "loops": ("while True: pass", "timed out"),
    "sleeps": ("import time\ntime.sleep(60)", "timed out"),
    "cannot be interrupted": (
        "while True:\n try:\n  while True: pass\n except BaseException: pass",
        "timed out",
    ),
    "floods": ("while True: print('y' * 1000)", "it put out too much"),
    "one huge text": ("print('z' * 21_000_000)", "it put out too much"),
    "many pictures": (
        "from IPython.display import display, Image\nimport matplotlib.pyplot as plt\n"
        "for _ in range(30): display(Image(b'\\x89PNG\\r\\n\\x1a\\n' + b'x' * 1000, format='png'))",
        "",
    ),
    "no picture": (
        "from IPython.display import display\ndisplay({'image/png': 'bm9uZQ=='}, raw=True)",
        "a picture that is none",
    ),
    "asks for input": ("input('name? ')", "StdinNotImplementedError"),
    "reads standard input": ("import sys\nlen(sys.stdin.read())", ""),
    "eats memory": ("x = bytearray(3 << 30)", "MemoryError"),
    "garbage on the pipe": ("import os\nos.write(4, b'\\0\\0\\0\\x05nojso')", "no message"),
    "a long frame": ("import os\nos.write(4, b'\\xff\\xff\\xff\\xff')", "put out too much"),
    "a wrong message": ("import os\nos.write(4, b'\\0\\0\\0\\x0a[\"done\"]   ')", "no message"),
    "closes the pipes": ("import os\nos.closerange(3, 100)", None),
    "lies about its text": ("import os\nos.write(4, b'\\0\\0\\0\\x0e[\"text\", 1, 2]')", "no message"),
}


@pytest.mark.parametrize("name", HOSTILE)
def test_a_hostile_cell_costs_its_own_kernel_only(kernels: Kernels, name: str) -> None:
    code, why = HOSTILE[name]
    with kernels.open() as other, kernels.open() as bad:
        other.run("kept = 'kept'")
        began = time.monotonic()
        result = bad.run(code, seconds=1 if why == "timed out" else 10)
        assert time.monotonic() - began < 40
        assert result.error if why is None else why in result.error if why else result.error == ""
        assert sum(len(output.text) for output in result.outputs) < 300_000
        assert sum(output.kind == "picture" for output in result.outputs) <= 20
        again = bad.run(ALIVE)
        assert bad.gone or texts(again, "execute_result") == ALIVE, "it is dead and says so, or it goes on"
        assert texts(other.run("kept"), "execute_result") == "'kept'"


def test_code_too_long_for_the_pipe_is_refused(kernel: Kernel) -> None:
    assert kernel.run("x = 1\n" + "#" * 600_000).error == "the code is longer than 500000 bytes"
    assert kernel.run("y = 1\n" + "#" * 400_000).error == ""


def test_surrogates_and_nul_in_the_code_are_an_error_of_the_cell(kernel: Kernel) -> None:
    assert kernel.run("print('\ud800')").error in ("", "UnicodeEncodeError")
    assert kernel.run("x = 1\0").error in ("SyntaxError", "ValueError")
    assert texts(kernel.run(ALIVE), "execute_result") == ALIVE


@pytest.mark.parametrize("text", ["(", "if x:\n", "x = [\n1,", "'''", "def f(:", "f'{'", "\\", "await ("])
def test_what_is_no_python_is_a_syntax_error_by_its_usual_name(kernel: Kernel, text: str) -> None:
    result = kernel.run(text)
    assert result.error in ("SyntaxError", "IndentationError") and "incomplete input" not in result.message
    assert f"{result.error}: " in texts(result, "error")


def test_cells_that_compile_cannot_take_or_that_wait_end_as_cells(kernel: Kernel) -> None:
    assert kernel.run("0" + "+0" * 5_000).error in ("", "RecursionError"), "by the version of Python"
    assert texts(kernel.run("async def three(): return 3\nawait three()"), "execute_result") == "3"
    assert texts(kernel.run(ALIVE), "execute_result") == ALIVE


# -- where there is no sandbox ---------------------------------------------------------------------


def test_without_bubblewrap_it_refuses(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("QWEN_EVAL_SANDBOX", "landlock")
    with pytest.raises(UserError, match=r"landlock: not enough for a Jupyter kernel.*--allow-unsandboxed"):
        Kernels()


def test_unsandboxed_it_runs_and_claims_nothing(monkeypatch: pytest.MonkeyPatch, table: Path) -> None:
    monkeypatch.setenv("QWEN_EVAL_SANDBOX", "landlock")
    with Kernels(files=[table], allow_unsandboxed=True) as kernels, kernels.open([table]) as kernel:
        assert kernels.sandbox.describe() == {"level": "none", "guards": []}
        assert texts(kernel.run("open('a table.csv').readline()"), "execute_result") == "'x,y\\n'"


def test_packages_may_lie_where_the_guests_rooms_are(monkeypatch: pytest.MonkeyPatch) -> None:
    folders = launch.installed()
    with tempfile.TemporaryDirectory(dir="/tmp") as folder:
        Path(folder, "lazily.py").write_text("value = 7\n")
        monkeypatch.setattr(launch, "installed", lambda: [*folders, Path(folder)])
        try:
            kernels = Kernels()
        except UserError as error:
            pytest.skip(str(error))
        with kernels, kernels.open() as kernel:
            assert texts(kernel.run("import lazily\nlazily.value"), "execute_result") == "7"
