"""How a script ends when something is wrong: one line on standard error and a documented exit status.

0 done; 1 done, but significantly worse than `--baseline`; 2 wrong use or unusable input, or items without a reply;
128 + n ended by signal n (130 Ctrl-C, 143 SIGTERM, 129 SIGHUP).
Whatever was finished before stays in the output folder: the same command goes on from there.
"""

import contextlib
import errno
import os
import re
import shutil
import signal
import sys
import tempfile
import traceback
from collections.abc import Callable, Iterator
from pathlib import Path
from urllib.parse import parse_qsl, unquote, urlsplit

from qwen_eval.process import INTERRUPTED, signals_raise, standard_streams


class UserError(Exception):
    """Something the user can mend. The message is one line: what is wrong, where, and what to do."""


def one_line(error: BaseException) -> str:
    """The message of any exception squeezed into one line, without secrets."""
    return redacted(" ".join(str(error).split())) or type(error).__name__


# -- secrets -----------------------------------------------------------------------------------------------------------

KEYS = ("OPENAI_API_KEY", "JUDGE_API_KEY")  # environment variables
USER = re.compile(r"(?<=://)[^/\s?#]*@|(?<![\w/])[^\s/:@'\"]+:[^\s/@'\"]+@(?=[\w.\[])")
QUERY = re.compile(r"(?i)([?&][\w.-]*(?:key|token|secret|passw|auth|sig|credential)[\w.-]*=)[^&\s'\"#]+")
_secrets: set[str] = set()


def keep_secret(url: str) -> None:
    """From here on `redacted` knows the password and the values in the query of this URL wherever they stand."""
    with contextlib.suppress(ValueError):
        parts = urlsplit(url)
        values = [parts.password or "", *(value for _, value in parse_qsl(parts.query))]
        _secrets.update(value for text in values for value in (text, unquote(text)) if len(value) >= 6)


def redacted(text: str) -> str:
    """The text without passwords, tokens and API keys; `***` stands in their place."""
    known = {*_secrets, *(value for name in KEYS if len(value := os.environ.get(name, "").strip()) >= 6)}
    for secret in sorted(known, key=len, reverse=True):
        text = text.replace(secret, "***")
    return QUERY.sub(r"\1***", USER.sub("***@", text))


# -- disks -------------------------------------------------------------------------------------------------------------

FULL = (errno.ENOSPC, errno.EDQUOT)


@contextlib.contextmanager
def disk_error(path: Path) -> Iterator[None]:
    """An OSError inside becomes a UserError that names `path`, says how much room there is, and what to do."""
    try:
        yield
    except OSError as error:
        raise UserError(f"{path}: {error.strerror or one_line(error)}{_remedy(path, error)}") from error


def _remedy(path: Path, error: OSError) -> str:
    if error.errno not in FULL:
        return "; give another -o"
    free = ""
    with contextlib.suppress(OSError):
        free = f" ({shutil.disk_usage(path.parent).free / 1e6:.1f} MB free)"
    return f"{free}; make room and start the same command again: finished items are kept"


def _check_current_directory() -> None:
    try:
        os.getcwd()
    except FileNotFoundError as error:
        raise UserError("the current directory was deleted; cd to one that exists") from error


# -- the script --------------------------------------------------------------------------------------------------------


def run_script(main: Callable[[], int]) -> None:
    """Run a script's `main` and exit with its status; no traceback reaches the user unless `--debug` is given."""
    with signals_raise(), standard_streams() as output:
        try:
            status = _status(main)
            output.flush()
            if output.problem is not None and not isinstance(output.problem, BrokenPipeError) and status == 0:
                problem = f"standard output could not be written ({one_line(output.problem)})"
                print(f"error: {problem}; the tables are in the output folder", file=sys.stderr)
                status = 2
        except KeyboardInterrupt as stopped:
            traceback.clear_frames(stopped.__traceback__)  # which ends progress bars: the message is the last line
            print(f"\n{INTERRUPTED}", file=sys.stderr)
            status = 128 + getattr(stopped, "number", signal.SIGINT)
    sys.exit(status)


def _status(main: Callable[[], int]) -> int:
    try:
        _check_current_directory()
        return main()
    except SystemExit as ended:  # argparse's; 1 has another meaning
        return 0 if ended.code in (0, None) else 2
    except Exception as error:
        if "--debug" in sys.argv:
            print(redacted(traceback.format_exc()), end="", file=sys.stderr)
        print(_complaint(error), file=sys.stderr)
        return 2


def _complaint(error: Exception) -> str:
    known = isinstance(error, (UserError, OSError)) or type(error).__name__ == "CheckpointError"
    label = "error" if known else f"error ({type(error).__name__}; --debug shows where)"
    where = ""
    if isinstance(error, OSError) and error.errno in FULL and not error.filename:
        where = f" (in the output folder, the temporary folder {tempfile.gettempdir()} or the cache); make room"
    return f"{label}: {one_line(error)}{where}"
