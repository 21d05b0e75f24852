"""The pages in docs/ say what is true: the files, tests and quirks that pages and code name exist."""

import ast
import re
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[1]
QUIRKS = (ROOT / "docs/quirks.md").read_text(encoding="utf-8")
SECTIONS = dict(re.findall(r"^### Q(\d+): .*?\n(.*?)(?=^##|\Z)", QUIRKS, re.MULTILINE | re.DOTALL))
PAGES = sorted((ROOT / "docs").glob("*.md"))
ALL_PAGES = [
    *PAGES,
    *(ROOT / name for name in ("README.md", "README_CN.md", "demo/README.md", "bench/README.md")),
]
ALL_PAGES += [ROOT / "eval/EVALUATION.md", ROOT / "eval/EVALUATION_CN.md"]
ALL_PAGES += [ROOT / "qwen_eval/sandbox/README.md", ROOT / "tests/goldens/README.md", ROOT / "tests/cases/README.md"]


def names_in(path: Path) -> set[str]:
    """Functions, methods and classes that a Python file defines."""
    assert path.is_file(), f"{path.relative_to(ROOT)} is not there: the page names a file that has moved"
    kinds = (ast.FunctionDef, ast.ClassDef)
    return {node.name for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))) if isinstance(node, kinds)}


def test_each_quirk_has_a_section_and_a_line_in_the_table() -> None:
    numbers = [str(number) for number in range(1, 25)]
    assert sorted(SECTIONS, key=int) == numbers
    assert re.findall(r"^\| \[Q(\d+)\]", QUIRKS, re.MULTILINE) == numbers


@pytest.mark.parametrize("number", SECTIONS)
def test_a_quirk_names_code_and_tests_that_exist(number: str) -> None:
    said = {
        name: text for name, text in re.findall(r"^\* (\w+)[^:\n]*: (.*?)(?=^\* |\Z)", SECTIONS[number], re.M | re.S)
    }
    assert set(said) == {"Published", "Here", "Code", "Test"}
    for path, names in re.findall(r"`([\w/]+\.py)`(?: \(((?:`[\w.]+`(?:, )?)+)\))?", said["Code"]):
        assert {part for name in re.findall(r"`([\w.]+)`", names) for part in name.split(".")} <= names_in(ROOT / path)
    tests = re.findall(r"`([\w/]+\.py)::(\w+)`", said["Test"])
    assert tests and said["Test"].count("::") == len(tests)
    for path, name in tests:
        assert name in names_in(ROOT / path), f"{path} has no {name}"


def test_the_code_names_no_quirk_that_the_page_lacks() -> None:
    named = set()
    for folder in ("qwen_model", "qwen_eval", "eval", "tests"):
        for path in (ROOT / folder).rglob("*.py"):
            named |= set(re.findall(r"[Qq]uirks? Q(\d+)", path.read_text(encoding="utf-8")))
    assert named and named <= set(SECTIONS)


@pytest.mark.parametrize("page", ALL_PAGES, ids=lambda page: page.relative_to(ROOT).as_posix())
def test_links_of_a_page_lead_somewhere(page: Path) -> None:
    text = page.read_text(encoding="utf-8")
    for target in re.findall(r"\]\(([^)\s]+)\)", text):
        path, _, anchor = target.partition("#")
        if "://" in path:
            continue
        linked = (page.parent / path) if path else page
        assert linked.exists(), target
        if anchor:
            assert anchor in anchors(linked), target


def anchors(page: Path) -> set[str]:
    """The anchors that GitHub gives the headings of a page."""
    heads = re.findall(r"^#+ (.*)$", page.read_text(encoding="utf-8"), re.MULTILINE)
    return {re.sub(r"[^\w\- ]", "", head.lower()).replace(" ", "-") for head in heads}


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_paths_that_a_page_names_exist(page: Path) -> None:
    named = re.findall(
        r"`((?:docs|eval|qwen_eval|qwen_model|tests|bench|demo|tools)/[\w./]*)`", page.read_text("utf-8")
    )
    assert [path for path in named if not (ROOT / path).exists()] == []
