"""Texts per language: a file for each in a folder, or mC4 from the hub.

A file's language is its name up to the first dot: `en.txt` (a document per line), `zh.jsonl` (a field `text`), both
also gzipped, `th.parquet` (a column `text`). Names as mC4 has them (`c4-th-validation.tfrecord-...json.gz`) are known.
Several files of one language are read one behind the other. Blank documents do not count.
"""

import re
from collections.abc import Iterator, Mapping, Sequence
from itertools import islice
from pathlib import Path
from typing import TypeVar

from qwen_eval.data.readers import STRING, numbered_jsonl, read_rows, read_text
from qwen_eval.data.sources import Hub, locate
from qwen_eval.errors import UserError
from qwen_eval.places import DEMO

T = TypeVar("T")

#: The languages of the cards' figure, without code -> how many files mC4's validation split has of each. The texts
#: behind the figure are not published; mC4 (Xue et al. 2021, arXiv 2010.11934) is web text of all these languages.
MC4_FILES = {
    "th": 1, "he": 1, "ar": 4, "ko": 1, "vi": 4, "zh": 2, "ja": 8, "tr": 4, "id": 4,
    "pl": 4, "ru": 32, "nl": 4, "pt": 4, "it": 8, "de": 16, "es": 16, "fr": 16, "en": 128,
}  # fmt: skip
MC4 = "allenai/c4"
OLD_CODES = {"iw": "he"}  # mC4's code of a language -> today's
FORMS = (".txt", ".txt.gz", ".jsonl", ".jsonl.gz", ".json.gz", ".parquet")
DEMO_FILES = {
    language: DEMO / "data" / "wmt22" / "sources" / f"generaltest2022.{pair}.src.{language}"
    for language, pair in (("en", "en-zh"), ("zh", "zh-en"))
}


def demo_files(languages: Sequence[str]) -> dict[str, list[Path]]:
    """The demo's own texts."""
    return chosen({language: [path] for language, path in DEMO_FILES.items()}, languages, "the demo")


def language_files(given: str | None, languages: Sequence[str]) -> dict[str, list[Path]]:
    """The files of each language, from `-d` (a folder, an archive, a hub id) or mC4.

    languages: only these, in this order; none: all of the folder, or those of the cards' figure. UserError for a
    language that is not there.
    """
    if given is None:
        names = {language: mc4_name(language) for language in chosen(MC4_FILES, languages, f"{MC4} as used here")}
        return {language: [locate(None, Hub(MC4, name), name, file_ok=True)] for language, name in names.items()}
    folder = locate(given, Hub(MC4, "*"), [f"*{form}" for form in FORMS])
    found: dict[str, list[Path]] = {}
    for path in sorted(folder.iterdir()):
        if path.name.endswith(FORMS) and not path.name.startswith((".", "__")):
            found.setdefault(language_of(path.name), []).append(path)
    return chosen(found, languages, str(folder))


def mc4_name(language: str) -> str:
    """The first file of this language in mC4's validation split."""
    code = next((old for old, new in OLD_CODES.items() if new == language), language)
    return f"multilingual/c4-{code}-validation.tfrecord-00000-of-{MC4_FILES[language]:05d}.json.gz"


def language_of(name: str) -> str:
    """`zh.jsonl` and `zh.2.jsonl` are of `zh`."""
    match = re.fullmatch(r"c4-([A-Za-z-]+?)(-validation)?\.tfrecord-.*", name)
    code = match.group(1) if match else name.partition(".")[0]
    return OLD_CODES.get(code, code) if match else code


def chosen(found: Mapping[str, T], languages: Sequence[str], where: str) -> dict[str, T]:
    """Those of the languages that are named, or all. UserError for one that is not there."""
    for language in languages:
        if language not in found:
            raise UserError(f"{where} has no text in {language!r} (--languages); there are {', '.join(found)}")
    return {language: found[language] for language in languages or found}


def documents(paths: Sequence[Path], limit: int | None = None) -> Iterator[str]:
    """The documents of one language; limit: the first ones only. UserError for a file that cannot be read."""
    return islice((text for path in paths for text in _texts(path) if text.strip()), limit)


def _texts(path: Path) -> Iterator[str]:
    if path.suffix == ".parquet":
        yield from (row["text"] for row in read_rows(path, {"text": STRING}))
    elif path.name.endswith((".jsonl", ".jsonl.gz", ".json.gz")):
        yield from (row["text"] for _, row in numbered_jsonl(path, {"text": STRING}))
    else:
        yield from (line.removesuffix("\r") for line in read_text(path).split("\n"))


def counted(files: Mapping[str, Sequence[Path]], limit: int | None = None) -> dict[str, int]:
    """How many documents each language has: every file is read once before any work. UserError where it has none."""
    found = {}
    for language, paths in files.items():
        found[language] = sum(1 for _ in documents(paths, limit))
        if not found[language]:
            raise UserError(f"{paths[0]} has no text in it")
    return found
