"""The formats by name, and how a finished run is written in some of them."""

import argparse
from collections.abc import Callable, Sequence
from pathlib import Path

from qwen_eval.errors import UserError, one_line
from qwen_eval.export import eval_results, every_eval_ever, inspect_log, lm_eval
from qwen_eval.export.finished import Finished, read_finished

FORMATS: dict[str, Callable[[Finished, Path], list[Path]]] = {
    "eee": every_eval_ever.write,
    "lm-eval": lm_eval.write,
    "inspect": inspect_log.write,
    "eval-results": eval_results.write,
}


def format_names(text: str) -> list[str]:
    """`eee,inspect` or `all`, for argparse."""
    names = [name.strip() for name in text.split(",") if name.strip()]
    if names == ["all"]:
        return list(FORMATS)
    if not names or (unknown := [name for name in names if name not in FORMATS]):
        wrong = unknown[0] if names else text
        raise argparse.ArgumentTypeError(f"{wrong!r} is no format; there are {', '.join(FORMATS)} and all")
    return names


def export(folder: Path, formats: Sequence[str], into: Path | None = None) -> tuple[list[Path], list[str]]:
    """Write the finished run of this folder; returns the files, and what could not be written and why.

    into: default `folder`/export. Raises UserError for a folder without a finished run.
    """
    run = read_finished(folder)
    written: list[Path] = []
    refused = []
    for name in formats:
        try:
            written += FORMATS[name](run, (into or folder / "export") / name)
        except UserError as error:
            refused.append(f"{name}: {one_line(error)}")
    return written, refused
