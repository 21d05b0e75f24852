"""Reading the rows of data files: CSV, JSON, JSONL (also .gz), parquet and arrow, with one check of fields and types.

A bad row is a UserError that names the file, the line or row, and the field. A byte order mark at the beginning of a
text file is passed over; a Git LFS pointer in place of the file is an error that says so.
"""

import csv
import gzip
import io
import json
import math
import re
import zlib
from collections.abc import Callable, Iterator, Mapping, Sequence
from functools import lru_cache
from pathlib import Path
from typing import Any, NamedTuple

from qwen_eval.errors import UserError, one_line
from qwen_eval.extras import need

import jsonlines

LFS_POINTER = b"version https://git-lfs.github.com/spec/"
# One half of a surrogate pair, which JSON can name and no tokenizer can encode.
_LONE_SURROGATE = re.compile("[\ud800-\udfff]")


class Kind(NamedTuple):
    """What a field may hold: in words, and as a test of the value."""

    words: str
    fits: Callable[[Any], bool]

    def __or__(self, other: "Kind") -> "Kind":
        return Kind(f"{self.words} or {other.words}", lambda value: self.fits(value) or other.fits(value))


def _is_text(value: Any) -> bool:
    return isinstance(value, str) and not _LONE_SURROGATE.search(value)


def _is_number(value: Any) -> bool:
    return type(value) in (int, float) and math.isfinite(value)


PRESENT = Kind("a value", lambda value: value is not None)
STRING = Kind("a text", _is_text)
TEXT = Kind("a text that is not empty", lambda value: _is_text(value) and bool(value.strip()))
WHOLE = Kind("a whole number", lambda value: type(value) is int)
NUMBER = Kind("a number", _is_number)
BOOLEAN = Kind("true or false", lambda value: type(value) is bool)
OBJECT = Kind("an object", lambda value: isinstance(value, dict))
STRINGS = Kind("a list of texts", lambda value: isinstance(value, list) and all(map(_is_text, value)))
TEXTS = Kind("a list of texts that are not empty", lambda value: STRINGS.fits(value) and all(map(str.strip, value)))
NUMBERS = Kind("a list of numbers", lambda value: isinstance(value, list) and all(map(_is_number, value)))

Fields = Mapping[str, Kind]


def shown(value: Any) -> str:
    """A value as JSON writes it, at most 60 characters of it."""
    text = json.dumps(value, ensure_ascii=True, default=repr)
    return text if len(text) <= 60 else text[:57] + "..."


def check_row(row: Any, fields: Fields | Sequence[str], where: str) -> dict[str, Any]:
    """`row` itself, once it is an object that has every field, each of its kind (names alone: anything but null).

    Raises UserError that begins with `where`.
    """
    if not isinstance(row, dict):
        raise UserError(f"{where} is no object")
    kinds = fields if isinstance(fields, Mapping) else dict.fromkeys(fields, PRESENT)
    for name, kind in kinds.items():
        if name not in row and not kind.fits(None):
            raise UserError(f"{where} has no {name!r} (it has: {', '.join(map(str, row)) or 'nothing'})")
        if not kind.fits(value := row.get(name)):
            raise UserError(f"{where}: {name!r} is {shown(value)}, not {kind.words}")
    return row


def no_duplicates(rows: Sequence[Mapping[str, Any]], field: str, path: Path) -> None:
    """UserError where two rows have the same value in `field`."""
    seen: dict[Any, int] = {}
    for number, row in enumerate(rows):
        if (first := seen.setdefault(row[field], number)) != number:
            raise UserError(f"{path}: rows {first} and {number} have the same {field!r}, {shown(row[field])}")


# -- files -------------------------------------------------------------------------------------------------------------


def read_bytes(path: Path) -> bytes:
    """The content of a data file, unpacked where it is gzipped. UserError for a missing file or a Git LFS pointer."""
    try:
        data = path.read_bytes()
    except FileNotFoundError:
        if path.is_symlink():
            raise UserError(f"{path} is a link to a file that is not there; download it again") from None
        raise UserError(f"missing file {path}") from None
    except IsADirectoryError:
        raise UserError(f"{path} is a folder where a file is wanted") from None
    except OSError as error:
        raise UserError(f"{path} cannot be read ({error.strerror})") from error
    refuse_pointer(path, data)
    if data[:2] == b"\x1f\x8b":
        try:
            return gzip.decompress(data)
        except (OSError, EOFError, zlib.error) as error:
            raise UserError(f"{path} is not a readable gzip file ({one_line(error)}); download it again") from error
    return data


def refuse_pointer(path: Path, beginning: bytes) -> None:
    """UserError where the file is a Git LFS pointer."""
    if beginning.startswith(LFS_POINTER):
        raise UserError(f"{path} is a Git LFS pointer, not the file itself; run `git lfs pull`, or download the file")


def read_text(path: Path) -> str:
    """A text file as it is (line ends unchanged), without its byte order mark; UserError where it is not UTF-8."""
    data = read_bytes(path)
    if data[:2] in (b"\xff\xfe", b"\xfe\xff"):
        raise UserError(f"{path} is not UTF-8 but UTF-16; save it as UTF-8")
    try:
        return data.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        line = data.count(b"\n", 0, error.start) + 1
        raise UserError(
            f"{path} is not UTF-8 (line {line}: byte 0x{data[error.start]:02x}); convert it to UTF-8"
        ) from error


def read_json(path: Path) -> Any:
    """The value of a JSON file."""
    try:
        return json.loads(read_text(path))
    except (ValueError, RecursionError) as error:
        raise UserError(f"{path} is not JSON ({one_line(error)})") from error


def read_rows(path: Path, fields: Fields | Sequence[str] = ()) -> list[dict[str, Any]]:
    """The rows of a table in any form: .parquet, .arrow, .csv (with a header), .json (a list of objects), JSONL."""
    if path.suffix in (".parquet", ".arrow"):
        rows = _read_columns(path, path.stat().st_mtime_ns if path.exists() else 0)
        return [check_row(dict(row), fields, f"{path} row {number}") for number, row in enumerate(rows)]
    if path.suffix == ".csv":
        table = read_csv(path, list(fields), header=True)
        return [check_row(row, fields, f"{path} row {number}") for number, row in enumerate(table)]
    if path.suffix == ".json" and read_text(path).lstrip().startswith("["):
        return [check_row(row, fields, f"{path} row {number}") for number, row in enumerate(read_json(path))]
    return read_jsonl(path, fields)


@lru_cache(maxsize=4)
def _read_columns(path: Path, changed: int) -> tuple[dict[str, Any], ...]:
    """The rows of a parquet file, or of an arrow file of datasets' `save_to_disk`, as plain Python values.

    pyarrow reads the file where it lies; `datasets` would first copy it into a cache of its own. The rows are kept in
    memory, for one file may hold every subject of a benchmark. changed: when the file was changed last.
    """
    need("data")
    import pyarrow
    import pyarrow.parquet

    data = read_bytes(path)
    try:
        if path.suffix == ".arrow":
            return tuple(pyarrow.ipc.open_stream(pyarrow.BufferReader(data)).read_all().to_pylist())
        return tuple(pyarrow.parquet.read_table(pyarrow.BufferReader(data)).to_pylist())
    except (pyarrow.ArrowException, OSError, ValueError) as error:
        kind = path.suffix[1:]
        raise UserError(f"{path} is not a readable {kind} file ({one_line(error)[:120]}); download it again") from error


def read_csv(path: Path, columns: Sequence[str], header: bool) -> list[dict[str, Any]]:
    """Rows of an official CSV as text, nothing taken for a missing value (`None`, `NA`, `nan` are answers).

    columns: the names wanted; with `header` they are looked up in the first line, else they are its fields in order.
    Raises UserError naming file and row for a missing file, a missing column or a short row.
    """
    if not path.exists() and not path.is_symlink():
        raise UserError(f"missing file {path}; -d wants the complete official data (or name what is there: --subjects)")
    try:
        table = [row for row in csv.reader(io.StringIO(read_text(path), newline=""), strict=True) if row]
    except csv.Error as error:
        raise UserError(f"{path} is not a readable UTF-8 CSV ({one_line(error)})") from error
    except UserError as error:
        if isinstance(error.__cause__, UnicodeDecodeError):
            raise UserError(f"{path} is not a readable UTF-8 CSV ({one_line(error.__cause__)})") from error
        raise
    if header:
        names, table = (table[0], table[1:]) if table else ([], [])
        if missing := [name for name in columns if name not in names]:
            raise UserError(f"{path} has no column {missing[0]!r} (it has: {', '.join(names) or 'nothing'})")
    else:
        names = list(columns)
    for number, row in enumerate(table):
        if len(row) != len(names):
            raise UserError(
                f"{path} row {number}: {len(row)} columns where {len(names)} are wanted ({', '.join(names)})"
            )
    return [dict(zip(names, row, strict=True)) for row in table]


def read_jsonl(path: Path, needs: Fields | Sequence[str] = ()) -> list[dict[str, Any]]:
    """Rows of a JSONL file (.gz too); UserError naming file and line when one is no object or fails `needs`."""
    return [row for _, row in numbered_jsonl(path, needs)]


def numbered_jsonl(path: Path, needs: Fields | Sequence[str] = ()) -> Iterator[tuple[str, dict[str, Any]]]:
    """The same with the name of each line, for a check that comes later."""
    yield from numbered_rows(read_text(path), path, needs)


def numbered_rows(text: str, path: Path, needs: Fields | Sequence[str] = ()) -> Iterator[tuple[str, dict[str, Any]]]:
    """The same of a text that was read already; blank lines are passed over. path: what errors name."""
    lines = text.split("\n")  # and nowhere else: a text in a row may hold other line ends, such as U+2028
    numbers = (number for number, line in enumerate(lines, start=1) if line.strip())
    reader = jsonlines.Reader(lines, loads=_loads)
    try:
        for number, row in zip(numbers, reader.iter(allow_none=True, skip_empty=True), strict=True):
            where = f"{path} line {number}"
            yield where, check_row(row, needs, where)
    except jsonlines.InvalidLineError as error:
        cause = error.__cause__ or error
        said = cause.msg if isinstance(cause, json.JSONDecodeError) else one_line(cause)
        raise UserError(f"{path} line {error.lineno} is not JSON ({said})") from error


def _loads(line: str | bytes) -> Any:
    """Python's own JSON: jsonlines would take orjson where it is installed, which reads other numbers and texts."""
    try:
        return json.loads(line)
    except RecursionError as error:
        raise ValueError(one_line(error)) from error
