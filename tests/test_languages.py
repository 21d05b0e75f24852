"""README and EVALUATION in English and Chinese say the same: a change in one that is forgotten in the other fails."""

import re
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[1]
PAIRS = [("README.md", "README_CN.md"), ("eval/EVALUATION.md", "eval/EVALUATION_CN.md")]
pages = pytest.mark.parametrize(("english", "chinese"), PAIRS, ids=["README", "EVALUATION"])


def text(name: str) -> str:
    return (ROOT / name).read_text(encoding="utf-8")


def tables(page: str) -> list[list[str]]:
    """The rows of each table."""
    found, rows = [], list[str]()
    for line in [*page.splitlines(), ""]:
        if line.startswith("|"):
            rows.append(line)
        elif rows:
            found, rows = [*found, rows], []
    return found


@pages
def test_the_sections_are_the_same(english, chinese):
    levels = [[len(marks) for marks in re.findall(r"^(#+) ", prose(text(name)), re.M)] for name in (english, chinese)]
    assert levels[0] == levels[1]


def prose(page: str) -> str:
    """Without blocks of code, where `#` begins a comment."""
    return re.sub(r"^```.*?^```", "", page, flags=re.M | re.S)


@pages
def test_each_names_the_other(english, chinese):
    assert f"({Path(chinese).name})" in text(english)[:300] and f"({Path(english).name})" in text(chinese)[:300]


@pages
def test_every_flag_file_and_word_in_code_font_is_in_both(english, chinese):
    """What is in code font is not translated."""
    codes = [set(re.findall(r"`([^`\n]+)`", text(name))) for name in (english, chinese)]
    assert codes[0] - codes[1] == set() and codes[1] - codes[0] == set()


@pages
def test_the_tables_have_the_same_rows_and_figures(english, chinese):
    ours, theirs = tables(text(english)), tables(text(chinese))
    assert [len(rows) for rows in ours] == [len(rows) for rows in theirs]
    for rows, translated in zip(ours, theirs, strict=True):
        for row, other in zip(rows, translated, strict=True):
            assert figures(row) == figures(other), (row, other)


def figures(row: str) -> list[str]:
    """The numbers of a row, in order of size: a sentence may name them in another order."""
    return sorted(re.findall(r"\d+(?:[.,]\d+)*", row))


@pages
def test_blocks_of_commands_are_the_same(english, chinese):
    """But for comments and the text of replies."""
    blocks = [re.findall(r"^```.*?^```", text(name), re.M | re.S) for name in (english, chinese)]
    plain = [[re.sub(r" +# .*", "", block) for block in part] for part in blocks]
    assert plain[0] == plain[1]
