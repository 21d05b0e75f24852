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


def prose(page: str) -> str:
    """Without blocks of code, where `#` begins a comment."""
    return re.sub(r"^```.*?^```", "", page, flags=re.M | re.S)


def sections(name: str) -> list[str]:
    """The sections in the order of the Chinese page, which has what a reader in China needs first in front."""
    found = re.split(r"^(?=#+ )", prose(text(name)), flags=re.M)[1:]
    return sorted(found, key=lambda part: (not part.startswith("# "), not part.startswith("## In China")))


@pages
def test_the_sections_are_the_same(english, chinese):
    levels = [[part.split(" ")[0] for part in sections(name)] for name in (english, chinese)]
    assert levels[0] == levels[1]


@pages
def test_each_section_has_the_same_code_words_links_and_figures(english, chinese):
    """What is in code font is not translated."""
    for ours, theirs in zip(sections(english), sections(chinese), strict=True):
        for what in (code_words, links, figures_of_sentences):
            assert what(ours) == what(theirs), f"{what.__name__}: {heading(ours)} / {heading(theirs)}"


def heading(section: str) -> str:
    return section.split("\n")[0]


def code_words(section: str) -> set[str]:
    return set(re.findall(r"`([^`\n]+)`", section))


def links(section: str) -> list[str]:
    """Where the links lead; of a translated page without the anchor, which is a heading in its language."""
    targets = [target.replace("_CN.md", ".md") for target in re.findall(r"\]\(([^)\s]+)\)", section)]
    return sorted(re.sub(r"^((?:eval/)?EVALUATION\.md|)#.*", r"\1#", target) for target in targets)


def figures_of_sentences(section: str) -> list[str]:
    """But for months, which are numbers in Chinese only."""
    sentences = "\n".join(line for line in section.splitlines() if not line.startswith("|"))
    return figures(re.sub(r"`[^`\n]+`|\]\([^)]*\)|\d+ 月", "", sentences))


def figures(words: str) -> list[str]:
    """The numbers, sorted: a sentence may name them in another order."""
    return sorted(re.findall(r"\d+(?:[.,]\d+)*", words))


@pages
def test_each_names_the_other(english, chinese):
    assert f"({Path(chinese).name})" in text(english)[:300] and f"({Path(english).name})" in text(chinese)[:300]


@pages
def test_the_tables_have_the_same_rows_and_figures(english, chinese):
    ours, theirs = tables(text(english)), tables(text(chinese))
    assert [len(rows) for rows in ours] == [len(rows) for rows in theirs]
    for rows, translated in zip(ours, theirs, strict=True):
        for row, other in zip(rows, translated, strict=True):
            assert figures(row) == figures(other), (row, other)


@pages
def test_blocks_of_commands_are_the_same(english, chinese):
    """But for comments and the text of replies."""
    blocks = [re.findall(r"^```.*?^```", text(name), re.M | re.S) for name in (english, chinese)]
    plain = [[re.sub(r" +# .*", "", block) for block in part] for part in blocks]
    assert plain[0] == plain[1]
