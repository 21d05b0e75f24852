"""The command line of the export: python -m qwen_model.export IN OUT."""

from __future__ import annotations

import argparse
import signal
import sys
from types import FrameType
from typing import NoReturn

from ..checkpoint import CheckpointError
from . import __doc__ as about
from . import export
from .weights import shard_size


class _Flags(argparse.ArgumentParser):
    def error(self, message: str) -> NoReturn:
        print(f"error: {message} (--help shows every flag)", file=sys.stderr)
        sys.exit(2)


def _size(text: str) -> int:
    try:
        return shard_size(text)
    except ValueError as error:
        raise argparse.ArgumentTypeError(str(error)) from None


def _stop(number: int, frame: FrameType | None) -> None:
    raise KeyboardInterrupt


def main() -> int:
    flags = _Flags(
        prog="python -m qwen_model.export",
        description=about,
        formatter_class=argparse.RawDescriptionHelpFormatter,
        allow_abbrev=False,
    )
    flags.add_argument("checkpoint", metavar="IN", help="first-generation Qwen: a folder or a hub id")
    flags.add_argument("out", metavar="OUT", help="the folder to write: not there yet, or empty")
    flags.add_argument(
        "--drop-long-context",
        action="store_true",
        help="leave out dynamic NTK, LogN and windows, which Qwen2's layout cannot say: the same logits up to the "
        "training length (or the smallest window), others beyond",
    )
    flags.add_argument("--max-shard-size", type=_size, metavar="SIZE", help="such as 5GB; default: as in IN")
    args = flags.parse_args()
    signal.signal(signal.SIGTERM, _stop)
    try:
        lines = export(args.checkpoint, args.out, args.drop_long_context, args.max_shard_size)
    except (CheckpointError, OSError) as error:
        print(f"error: {' '.join(str(error).split())}", file=sys.stderr)
        return 2
    except KeyboardInterrupt:
        print("\ninterrupted; nothing was exported", file=sys.stderr)
        return 130
    print(args.out)
    for line in lines:
        print(f"dropped: {line}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
