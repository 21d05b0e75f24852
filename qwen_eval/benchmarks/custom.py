"""A user's own questions, from JSON lines or CSV: what a row may hold, and one line for a row that cannot be used."""

import math
import re
from collections.abc import Iterable
from pathlib import Path
from typing import Any, NamedTuple

from qwen_eval.data.readers import STRING, TEXT, WHOLE, Kind, check_row, numbered_jsonl, read_rows
from qwen_eval.data.sources import given_path
from qwen_eval.errors import UserError
from qwen_eval.extraction.labels import LETTERS

# Plain digits or thousands with commas, decimals, a power of ten; a currency before it, a percent sign behind it.
NUMBER = re.compile(r"[$£€¥￥]?([+-]?(?:\d{1,3}(?:,\d{3})+|\d+|(?=\.))(?:\.\d+)?(?:[eE][+-]?\d+)?)\s*%?")
CHOICES = Kind(
    "a list of 2 to 26 texts",
    lambda value: isinstance(value, list) and 2 <= len(value) <= 26 and all(map(TEXT.fits, value)),
)


class Row(NamedTuple):
    """choices: () for a question with a reference; answer: the right choice's number from 0."""

    id: str
    subject: str
    question: str
    choices: tuple[str, ...] = ()
    answer: int = 0
    reference: str = ""

    @property
    def letter(self) -> str:
        return LETTERS[self.answer]


def read_questions(path: Path) -> list[Row]:
    """The rows of a .jsonl, .jsonl.gz or .csv file. UserError naming file, line or row, and field."""
    path = given_path(str(path))
    if not path.is_file():
        raise UserError(f"no file {path}; -d and --fewshot take JSON lines or CSV")
    rows: list[Row] = []
    places: dict[str, str] = {}
    for number, (where, given) in enumerate(_csv(path) if path.suffix == ".csv" else numbered_jsonl(path)):
        row = _row(given, number, where)
        if row.id in places:
            raise UserError(f"{where}: the id {row.id!r} is that of {places[row.id].removeprefix(f'{path} ')} already")
        places[row.id] = where
        rows.append(row)
    if not rows:
        raise UserError(f"{path} has no question in it")
    return rows


def number_of(reference: str) -> float | None:
    """The value of a reference that is a number and nothing else; None for any other."""
    match = NUMBER.fullmatch(reference.strip())
    value = float(match[1].replace(",", "")) if match else math.inf
    return value if math.isfinite(value) else None


def check_numbers(rows: Iterable[Row], path: str) -> None:
    """UserError for a reference that is no number, to which no reply could be equal."""
    for row in rows:
        if not row.choices and number_of(row.reference) is None:
            said = f"{path}, id {row.id!r}: the reference is {row.reference!r}"
            raise UserError(f"{said}, not a number, which --match numeric wants")


def same_number(number: float, reference: str) -> bool:
    """Whether they differ by 0.0001 at most; of a reference below 1, by a ten-thousandth of it."""
    gold = number_of(reference)
    return gold is not None and abs(number - gold) <= 1e-4 * min(1.0, abs(gold))


def _csv(path: Path) -> Iterable[tuple[str, dict[str, Any]]]:
    """Name and content of each row of a CSV file; the choices' columns A, B, C ... as a list."""
    for number, row in enumerate(read_rows(path)):
        where = f"{path} row {number}"
        columns = [letter for letter in LETTERS if letter in row]
        if columns != [*LETTERS[: len(columns)]]:
            raise UserError(
                f"{path} has columns {', '.join(columns)}: those of the choices are A, B, C ... without a gap"
            )
        cells = [row.pop(letter) for letter in columns]
        filled = [cell for cell in cells if cell.strip()]
        if cells[: len(filled)] != filled:
            raise UserError(f"{where}: an empty choice stands before {filled[-1]!r}")
        row = {name: value for name, value in row.items() if value.strip()}
        yield where, {**row, **({"choices": filled} if filled else {})}


def _row(row: dict[str, Any], number: int, where: str) -> Row:
    check_row(row, {"question": TEXT}, where)
    subject = str(check_row({"subject": "custom", **row}, {"subject": TEXT}, where)["subject"])
    name = check_row({"id": f"{subject}/{number}", **row}, {"id": TEXT | WHOLE}, where)["id"]
    if "choices" in row:
        choices = tuple(check_row(row, {"choices": CHOICES, "answer": STRING | WHOLE}, where)["choices"])
        return Row(str(name), subject, row["question"], choices, _number(row["answer"], choices, where))
    field = "reference" if "reference" in row else "answer"
    if field not in row:
        raise UserError(f"{where} has neither `choices` with an `answer` nor a `reference`")
    reference = check_row(row, {field: TEXT | WHOLE | Kind("a number", lambda value: type(value) is float)}, where)
    return Row(str(name), subject, row["question"], reference=str(reference[field]))


def _number(answer: Any, choices: tuple[str, ...], where: str) -> int:
    """The right choice's number, from a text, a letter or a number: in this order, where it could be more than one."""
    if choices.count(answer) > 1:
        raise UserError(f"{where}: the answer {answer!r} is the text of several choices; give the letter")
    if answer in choices:
        return choices.index(answer)
    if isinstance(answer, str):
        letter = answer.strip().upper()
        if len(letter) == 1 and letter in LETTERS[: len(choices)]:
            return LETTERS.index(letter)
        answer = int(letter) if letter.isdecimal() else None
    if answer is None or not 0 <= answer < len(choices):
        raise UserError(
            f"{where}: the answer is none of the {len(choices)} choices (a number from 0, a letter, a text)"
        )
    return int(answer)
