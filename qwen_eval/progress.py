"""The progress bar, the same in every script: on standard error, rarely where that is a file."""

import sys
from typing import Any


def progress(what: str, done: int, total: int, unit: str = "item", scale: bool = False) -> Any:
    """A tqdm bar that starts at `done` of `total`. scale: large numbers as 1.2k."""
    from tqdm import tqdm

    interval = 0.3 if sys.stderr.isatty() else 10
    return tqdm(desc=what, initial=done, total=total, unit=unit, unit_scale=scale, mininterval=interval)
