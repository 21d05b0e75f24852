"""The fields of a line of samples.jsonl, the same in every script, and their types.

Every line has every field, and none of them is null. `datasets` and Arrow take the type of a column from the first
lines that they read: a column of nulls, or one that other files lack, cannot be joined with theirs. A field without
a value is "", 0, false or, for choice_logits, a list with a single 0.0 (an empty list has no type either). What only
one benchmark has is in `details`, a JSON object as text. In the program a record is flat: it has the fields, and the
details beside them.
"""

import json
from collections.abc import Mapping
from typing import Any

NO_LOGITS = [0.0]
#: name -> the value where a script gives none; its type is the type of the field.
FIELDS: dict[str, Any] = {
    "id": "",
    "subject": "",
    "sample": 0,
    "prompt": "",
    "prompt_sha256": "",
    "response": "",
    "choice_logits": NO_LOGITS,
    "prediction": "",
    "prediction_robust": "",
    "gold": "",
    "correct": False,
    "correct_robust": False,
    "finish": "",
    "new_tokens": 0,
    "cut": False,
    "details": "{}",
    "item_sha256": "",
    "run": "",
}
NEEDED = ("id", "subject", "prompt", "prompt_sha256", "correct", "item_sha256", "run")
EXTRACTED = ("prediction", "prediction_robust", "gold")  # an answer may be a number or an object; here it is text
FORMAT = 2  # part of the digest of a run: a folder in another format is not continued
KINDS = {str: "a text", int: "a whole number", bool: "true or false", list: "a list of numbers"}


def flat_record(fields: Mapping[str, Any]) -> dict[str, Any]:
    """The record of a finished item: every field, then the details.

    Raises TypeError for a field that is missing or of a wrong type, by name.
    """
    if missing := [name for name in NEEDED if name not in fields]:
        raise TypeError(f"a sample has no {missing[0]!r}")
    given = {name: value for name, value in fields.items() if value is not None or name in NEEDED}
    given |= {name: as_text(given[name]) for name in EXTRACTED if name in given}
    given.setdefault("correct_robust", fields["correct"])  # of a benchmark with one extraction
    record = {name: given.get(name, nothing) for name, nothing in FIELDS.items() if name != "details"}
    if isinstance(record["choice_logits"], list):
        record["choice_logits"] = [float(value) for value in record["choice_logits"]]
    check_types(record)
    return {**record, **{name: value for name, value in fields.items() if name not in FIELDS}}


def check_types(fields: Mapping[str, Any]) -> None:
    """Raises TypeError for a field of another type than FIELDS has, by name."""
    for name, value in fields.items():
        wanted = type(FIELDS[name]) if name in FIELDS else None
        if wanted is not None and (
            type(value) is not wanted or (wanted is list and not all(type(one) is float for one in value))
        ):
            raise TypeError(f"{name!r} is {repr(value)[:60]}, not {KINDS[wanted]}")


def unused_answer_field(record: Mapping[str, Any]) -> str:
    """The one of `response` and `choice_logits` that has no value in a record: an item has either a reply or logits."""
    return "choice_logits" if record.get("choice_logits", NO_LOGITS) == NO_LOGITS else "response"


def as_text(value: Any) -> str:
    """An answer or a reference as text: a number as Python writes it (18, 0.5), an object as JSON."""
    if isinstance(value, str):
        return value
    if isinstance(value, float) and value.is_integer() and abs(value) < 1e15:
        return str(int(value))
    return json.dumps(value, ensure_ascii=False, default=str)


def packed(record: Mapping[str, Any]) -> dict[str, Any]:
    """A flat record in the form of a line: the details in one field, as text."""
    details = {name: value for name, value in record.items() if name not in FIELDS}
    text = json.dumps(details, ensure_ascii=False, default=str)
    return {name: text if name == "details" else record[name] for name in FIELDS}


def unpacked(line: Mapping[str, Any]) -> dict[str, Any]:
    """A line as a flat record.

    Raises TypeError for a field of another type, ValueError where `details` is not a JSON object.
    """
    check_types(line)
    details = json.loads(line.get("details", "{}"))
    if not isinstance(details, dict):
        raise ValueError("'details' is no JSON object")
    return {**{name: value for name, value in line.items() if name != "details"}, **details}
