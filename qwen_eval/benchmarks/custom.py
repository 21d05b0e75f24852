"""A user's own questions, from JSON lines or CSV: what a row may hold, and one line for a row that cannot be used."""

from pathlib import Path
from typing import Any, NamedTuple

from qwen_eval.data.readers import STRING, TEXT, WHOLE, Kind, check_row, read_jsonl, read_rows
from qwen_eval.data.sources import given_path
from qwen_eval.errors import UserError
from qwen_eval.extraction.labels import LETTERS

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
    """The rows of a .jsonl, .jsonl.gz or .csv file. UserError naming file, row and field."""
    path = given_path(str(path))
    if not path.is_file():
        raise UserError(f"no file {path}; -d and --fewshot take JSON lines or CSV")
    table = path.suffix == ".csv"
    given = _csv(path) if table else read_jsonl(path, needs=())
    if not given:
        raise UserError(f"{path} has no question in it")
    rows = [_row(row, number, f"{path} row {number}") for number, row in enumerate(given)]
    seen: set[str] = set()
    for row in rows:
        if row.id in seen:
            raise UserError(f"{path}: two rows have the id {row.id!r}")
        seen.add(row.id)
    return rows


def _csv(path: Path) -> list[dict[str, Any]]:
    """Rows of a CSV file; the choices' columns A, B, C ... as a list."""
    rows = []
    for number, row in enumerate(read_rows(path)):
        row = {str(name): "" if value is None else str(value) for name, value in row.items()}
        columns = [letter for letter in LETTERS if letter in row]
        cells = [row.pop(letter) for letter in columns]
        filled = [cell for cell in cells if cell.strip()]
        if cells[: len(filled)] != filled:
            raise UserError(f"{path} row {number}: an empty choice stands before {filled[-1]!r}")
        row = {name: value for name, value in row.items() if value.strip()}
        rows.append({**row, **({"choices": filled} if filled else {})})
    return rows


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
    """The right choice's number, from a number, a letter or a text."""
    if answer in choices:
        return choices.index(answer)
    if isinstance(answer, str):
        letter = answer.strip().upper()
        if len(letter) == 1 and letter in LETTERS[: len(choices)]:
            return LETTERS.index(letter)
        answer = int(letter) if letter.isdigit() else None
    if answer is None or not 0 <= answer < len(choices):
        raise UserError(
            f"{where}: the answer is none of the {len(choices)} choices (a number from 0, a letter, a text)"
        )
    return int(answer)
