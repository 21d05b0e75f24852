"""The command `qwen-eval`: every script by its name, from any folder.

    qwen-eval list               every name, with what it is
    qwen-eval mmlu -c demo       the same run as `python eval/evaluate_mmlu.py -c demo`
    qwen-eval demo               all of them on the two models that come with the package

A name is that of a file in eval/ (in an installed package: qwen_eval/scripts/), without `evaluate_`; a new file there
is a new name. Imports little: a signal during a script's heavy imports ends it with one line.
"""

import ast
import difflib
import sys
import types
from pathlib import Path

from qwen_eval.errors import UserError, run_script
from qwen_eval.places import DEMO, SCRIPTS
from qwen_eval.process import end_on_signals

USAGE = """\
usage: qwen-eval NAME [flags]

    qwen-eval list              every NAME, with what it is
    qwen-eval NAME --help       its flags
    qwen-eval mmlu -c demo      MMLU's samples with the model that comes with the package
"""


def scripts() -> dict[str, Path]:
    """The file of each name, in alphabetical order; the demo after them."""
    found = {path.stem.removeprefix("evaluate_"): path for path in SCRIPTS.glob("[!_]*.py")}
    return {**dict(sorted(found.items())), "demo": DEMO / "run.py"}


def first_line(script: Path) -> str:
    """Of its docstring, read from the source: `python -OO` drops docstrings."""
    return (ast.get_docstring(ast.parse(script.read_bytes())) or "").partition("\n")[0]


def find(name: str) -> Path | None:
    """The script of this name, `-` and `_` alike."""
    return scripts().get(name.replace("-", "_"))


def start(script: Path, name: str, flags: list[str]) -> None:
    """Run the script as `python script flags` would, in this process. It exits with its own status."""
    sys.argv = [f"qwen-eval {name}", *flags]
    sys.path.insert(0, str(script.parent))
    module = types.ModuleType("__main__")
    module.__file__ = str(script)
    sys.modules["__main__"] = module
    exec(compile(script.read_bytes(), script, "exec"), module.__dict__)


def answer(name: str) -> int:
    """What is no script: the list, the usage, a name that does not exist."""
    if name == "list":
        known = scripts()
        width = max(map(len, known))
        print("\n".join(f"{name:{width}}  {first_line(script)}" for name, script in known.items()))
        return 0
    if name in ("", "-h", "--help"):
        print(USAGE, end="", file=sys.stdout if name else sys.stderr)
        return 0 if name else 2
    near = difflib.get_close_matches(name.lower().replace("-", "_"), scripts(), n=1, cutoff=0.5)
    hint = f"did you mean {near[0]}?" if near else "`qwen-eval list` shows every name"
    raise UserError(f"there is no benchmark {name!r}; {hint}")


def main() -> None:
    end_on_signals()
    name = sys.argv[1] if len(sys.argv) > 1 else ""
    script = find(name)
    if script is None:
        run_script(lambda: answer(name))
    else:
        start(script, name.replace("-", "_"), sys.argv[2:])
