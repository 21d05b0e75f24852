"""The command `qwen-eval`: every script by its name, from any folder.

    qwen-eval list               every name, with what it is
    qwen-eval list --reported Qwen2.5-7B    every figure that was reported of a model, its source and the command
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
from qwen_eval.places import find_script, scripts
from qwen_eval.process import end_on_signals

USAGE = """\
usage: qwen-eval NAME [flags]

    qwen-eval list              every NAME, with what it is
    qwen-eval list --reported Qwen2.5-7B
                                every reported figure of a model, its source and its command; without a
                                model, the models that there are
    qwen-eval NAME --help       its flags
    qwen-eval mmlu -c demo      MMLU's samples with the model that comes with the package
"""


def first_line(script: Path) -> str:
    """Of its docstring, read from the source: `python -OO` drops docstrings."""
    return (ast.get_docstring(ast.parse(script.read_bytes())) or "").partition("\n")[0]


def start(script: Path, name: str, flags: list[str]) -> None:
    """Run the script as `python script flags` would, in this process. It exits with its own status."""
    sys.argv = [f"qwen-eval {name}", *flags]
    sys.path.insert(0, str(script.parent))
    module = types.ModuleType("__main__")
    module.__file__ = str(script)
    sys.modules["__main__"] = module
    exec(compile(script.read_bytes(), script, "exec"), module.__dict__)


def answer(name: str, flags: list[str]) -> int:
    """What is no script: the lists, the usage, a name that does not exist."""
    if name == "list" and flags:
        if flags[0] != "--reported" or len(flags) > 2:
            raise UserError(f"`qwen-eval list` takes --reported MODEL and nothing else, not {' '.join(flags)!r}")
        from qwen_eval.reproduction.listing import listing

        print(listing(flags[1] if len(flags) == 2 else None))
        return 0
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
    script = find_script(name)
    if script is None:
        run_script(lambda: answer(name, sys.argv[2:]))
    else:
        start(script, name.replace("-", "_"), sys.argv[2:])
