"""Imports flow one way: scripts -> qwen_eval -> qwen_model. Read from the sources, imports inside of functions too."""

from __future__ import annotations

import ast
from collections.abc import Iterable, Iterator
from functools import cache
from graphlib import CycleError, TopologicalSorter
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[1]
PACKAGES = ("qwen_model", "qwen_eval")
SCRIPTS = ("eval", "demo", "bench", "tools", "tools/demo_training")  # folders whose files are modules by their own name


@cache
def modules() -> dict[str, Path]:
    """Every module of the project by its full name; a package stands for its `__init__.py`."""
    found = {}
    for package in PACKAGES:
        for path in sorted((ROOT / package).rglob("*.py")):
            name = ".".join(path.relative_to(ROOT).with_suffix("").parts)
            found[name.removesuffix(".__init__")] = path
    for folder in SCRIPTS:
        found |= {f"{folder}/{path.stem}": path for path in sorted((ROOT / folder).glob("*.py"))}
    return found


def import_statements(node: ast.AST) -> Iterator[ast.Import | ast.ImportFrom]:
    """All imports in a piece of source, less those for the type checker alone."""
    if isinstance(node, ast.Import | ast.ImportFrom):
        yield node
    inner: Iterable[ast.AST] = ast.iter_child_nodes(node)
    if isinstance(node, ast.If) and ast.unparse(node.test).endswith("TYPE_CHECKING"):
        inner = node.orelse
    for child in inner:
        yield from import_statements(child)


def imported_names(module: str, path: Path) -> Iterator[str]:
    """The full names that a module imports: `from a.b import c` gives a.b.c."""
    package = module if path.name == "__init__.py" else module.rpartition(".")[0]
    for statement in import_statements(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(statement, ast.Import):
            yield from (alias.name for alias in statement.names)
            continue
        above = package.split(".")[: len(package.split(".")) - statement.level + 1] if statement.level else []
        origin = ".".join([*above, *filter(None, [statement.module])])
        yield from (f"{origin}.{alias.name}" for alias in statement.names)


@cache
def imports() -> dict[str, set[str]]:
    """What of the project each module imports."""
    known = modules()
    by_file_name = {name.rpartition("/")[2]: name for name in known if "/" in name}
    graph: dict[str, set[str]] = {}
    for module, path in known.items():
        graph[module] = set()
        for name in imported_names(module, path):
            # a name in a module, the module itself, or a script
            found = next((one for one in (name, name.rpartition(".")[0]) if one in known), None)
            script = by_file_name.get(name.partition(".")[0])
            graph[module] |= {one for one in (found, script) if one and one != module}
    return graph


def inside(module: str, *places: str) -> bool:
    """Whether the module is one of these modules, packages or folders, or in one."""
    return any(module == place or module.startswith((f"{place}.", f"{place}/")) for place in places)


def wrong_way(importers: tuple[str, ...], never: tuple[str, ...]) -> list[str]:
    return [
        f"{module} imports {name}"
        for module, names in sorted(imports().items())
        if inside(module, *importers)
        for name in sorted(names)
        if inside(name, *never)
    ]


@pytest.mark.parametrize(
    ("importers", "never"),
    [
        pytest.param(("qwen_model",), ("qwen_eval", *SCRIPTS), id="the model knows nothing of evaluation"),
        pytest.param(("qwen_eval",), SCRIPTS, id="the package knows no script"),
        pytest.param(("eval",), ("eval", "bench", "tools", "demo"), id="no script imports a script"),
        pytest.param(("demo",), ("tools", "bench"), id="the demo runs without what made it"),
        pytest.param(
            ("qwen_eval.engines",),
            tuple(
                f"qwen_eval.{name}"
                for name in ("benchmark", "benchmarks", "data", "demo", "reporting", "run", "runner", "sandbox")
            ),
            id="an engine knows nothing of benchmarks, data, reports, runs",
        ),
        pytest.param(
            ("qwen_eval.sandbox",),
            ("qwen_eval.benchmark", "qwen_eval.benchmarks", "qwen_eval.cli", "qwen_eval.stats", "qwen_eval.runner"),
            id="the sandbox knows neither flags nor statistics nor benchmarks",
        ),
    ],
)
def test_imports_flow_one_way(importers: tuple[str, ...], never: tuple[str, ...]) -> None:
    assert wrong_way(importers, never) == []


def test_no_modules_import_each_other() -> None:
    try:
        TopologicalSorter(imports()).prepare()
    except CycleError as error:
        pytest.fail(f"a circle: {' imports '.join(reversed(error.args[1]))}")


def test_the_check_sees_every_form_of_import(tmp_path: Path) -> None:
    path = tmp_path / "module.py"
    path.write_text(
        "import a.b\nfrom c import d\nfrom . import e\nfrom ..f import g\n"
        "def later():\n    from h import i\n"
        "if TYPE_CHECKING:\n    from never import x\nelse:\n    import j\n"
    )
    found = list(imported_names("top.inner.module", path))
    assert found == ["a.b", "c.d", "top.inner.e", "top.f.g", "h.i", "j"]
    assert {"qwen_eval.stats", "qwen_eval.errors"} <= imports()["qwen_eval.reporting.baseline"]
    assert "tools/demo_training/world" in imports()["tools/demo_training/lessons"]
