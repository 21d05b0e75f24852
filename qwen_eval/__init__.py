"""What the evaluation scripts share: the contract of a benchmark, the runner, engines, answer extraction, reports."""

import sys


def _skip_current_directory() -> None:
    """`python -m qwen_eval` would import a user's random.py: modules in the current directory come first with `-m`.

    A checkout that is the current directory stays on the import path, for this package itself comes from there.
    """
    running = sys.argv[:1] == ["-m"] and "-m" in sys.orig_argv  # argv[0] while the module to run is looked for
    if running and sys.orig_argv[sys.orig_argv.index("-m") + 1].split(".")[0] == "qwen_eval":
        current = sys.path[0]
        if not getattr(sys.flags, "safe_path", False) and not __file__.startswith(f"{current}/qwen_eval/"):
            del sys.path[0]


_skip_current_directory()

from qwen_eval.process import guard_imports  # noqa: E402

guard_imports()
