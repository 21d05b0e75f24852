"""How a script ends when something is wrong: one line on standard error and a documented exit status.

0 done; 1 done, but significantly worse than `--baseline`; 2 wrong use or unusable input; 130 interrupted.
Whatever was finished before stays in the output folder: the same command goes on from there.
"""

import os
import sys
import traceback
from collections.abc import Callable


class UserError(Exception):
    """Something the user can mend. The message is one line: what is wrong, where, and what to do."""


def one_line(error: BaseException) -> str:
    """The message of any exception squeezed into one line."""
    return " ".join(str(error).split()) or type(error).__name__


def run_script(main: Callable[[], int]) -> None:
    """Run a script's `main` and exit with its status; no traceback reaches the user unless `--debug` is given."""
    debug = "--debug" in sys.argv
    try:
        status = main()
        sys.stdout.flush()
    except KeyboardInterrupt:
        print("\ninterrupted; finished items are kept, the same command goes on from there", file=sys.stderr)
        status = 130
    except BrokenPipeError:  # `| head` closed the pipe: not an error of ours
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        status = 0
    except Exception as error:
        if debug:
            traceback.print_exc()
        known = isinstance(error, (UserError, OSError)) or type(error).__name__ == "CheckpointError"
        label = "error" if known else f"error ({type(error).__name__}; --debug shows where)"
        print(f"{label}: {one_line(error)}", file=sys.stderr)
        status = 2
    sys.exit(status)
