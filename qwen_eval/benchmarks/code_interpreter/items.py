"""The rows of a code interpreter's data as items: which kind each is, and where its input files lie."""

import re
from collections.abc import Callable, Sequence
from pathlib import Path, PurePosixPath
from typing import Any

from qwen_eval.benchmark import Item
from qwen_eval.benchmarks.code_interpreter.scores import TAGS
from qwen_eval.data.items import read_jsonl
from qwen_eval.errors import UserError
from qwen_eval.extraction.numbers import last_number

Prompt = Callable[[str, Sequence[str], str], str]  # (question, names of input files, language) -> the user turn

OLD_TAGS = {"ci_math_code": "math", "ci_plot": "visualization", "ci_open_questions": "general"}
TURN = re.compile(r"<\|im_end\|>\s*<\|im_start\|>assistant\n?")
FOLDERS = (".", "upload_file_clean", "upload_file")  # where input files lie beside the data


def read_items(given: str | None, prompt: Prompt) -> list[Item]:
    """The rows of a JSONL file, or of all in a folder, numbered through; UserError naming file and row."""
    if not given:
        raise UserError("no -d given: the benchmark's JSONL file, or its folder (eval/EVALUATION.md says whence)")
    source = Path(given).expanduser()
    paths = sorted(source.glob("*.jsonl")) if source.is_dir() else [source]
    if not paths:
        raise UserError(f"{source} has no .jsonl file in it")
    rows = [(path, number, row) for path in paths for number, row in enumerate(read_jsonl(path, needs=()))]
    return [_item(path, f"{path} row {at}", number, row, prompt) for number, (path, at, row) in enumerate(rows)]


def _item(path: Path, where: str, number: int, row: dict[str, Any], prompt: Prompt) -> Item:
    query = row.get("query", row.get("question"))
    if not isinstance(query, str) or not query.strip():
        raise UserError(f"{where} has no text `query` (or `question`)")
    tag, level = _tag(row, where)
    named = row.get("input_file_path") or []
    named = [named] if isinstance(named, str) else named
    question, *begun = TURN.split(query)
    if len(begun) > 1 or "<|im_" in question:
        raise UserError(f"{where}: the query holds more than one turn")
    if level is not None and begun:
        level = "easy"
    row = {
        "file": path.name,
        "question": question,
        "lang": row.get("lang") or "en",
        "level": level,
        "tagged": "tags" in row,
        "input_file_path": named,
        "files": [_find(path.parent, name, where) for name in named],
        "gold": row.get("gold", row.get("answer")),
    }
    gold = None
    if tag == "math" and row["gold"] is not None and (gold := last_number(str(row["gold"]))) is None:
        raise UserError(f"{where}: the reference {str(row['gold'])[:40]!r} has no number in it")
    text = prompt(question, named, row["lang"])
    return Item(
        f"{tag}/{number}", tag, text, gold, row, assistant_prefill="".join(begun).removesuffix("<|im_end|>").rstrip()
    )


def _tag(row: dict[str, Any], where: str) -> tuple[str, str | None]:
    """(math, visualization or general; hard or easy for visualization). A GSM8K row has no tags."""
    tags = row.get("tags", "math" if "question" in row else None)
    names = tags.split(",") if isinstance(tags, str) else tags
    if not isinstance(names, list) or not all(isinstance(name, str) for name in names):
        raise UserError(f"{where} has no `tags` (a list, or names with commas)")
    for name in (name.strip() for name in names):
        plain, _, level = OLD_TAGS.get(name, name).replace("_", "-").partition("-")
        if plain in TAGS:
            return plain, (level or "hard") if plain == "visualization" else None
    raise UserError(f"{where}: none of the tags {', '.join(names) or '(none)'} is one of {', '.join(TAGS)}")


def _find(folder: Path, name: str, where: str) -> Path:
    """An input file of a row: as it is named, or by its last part in the folders of the published data."""
    if not isinstance(name, str) or not name:
        raise UserError(f"{where}: `input_file_path` is no list of names")
    last = PurePosixPath(name.replace("\\", "/")).name
    for path in (folder / name, *(folder / place / last for place in FOLDERS)):
        if path.is_file():
            return path
    raise UserError(f"{where}: no input file {name!r} beside {folder} (looked in {', '.join(FOLDERS)})")
