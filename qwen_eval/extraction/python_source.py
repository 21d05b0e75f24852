"""Text that may be a Python program, and what its top-level statements bind, change and need; nothing is ever run."""

import ast
import re
import symtable
import warnings
from collections.abc import Iterator, Set
from dataclasses import dataclass, field

FUNCTIONS = (ast.FunctionDef, ast.AsyncFunctionDef)
_DEFINITIONS = (*FUNCTIONS, ast.ClassDef)
_IMPORTS = (ast.Import, ast.ImportFrom)
_COMPOUND = (*_DEFINITIONS, ast.If, ast.For, ast.While, ast.With, ast.Try)

# --- text that may be a program ---


def parsed(source: str) -> ast.Module | None:
    """The syntax tree of a program, None where the text is no program. Warnings about odd escapes are left out."""
    return _parse(source)[0]


def _parse(source: str) -> tuple[ast.Module | None, int]:
    """(tree, 0), or None and the number of the line that is no Python, 0 where that is not known."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        try:
            return ast.parse(source), 0
        except SyntaxError as error:
            # Older Pythons number the lines of an f-string from 1.
            return None, 0 if "f-string" in str(error.msg) else error.lineno or 0
        except (ValueError, RecursionError, MemoryError):
            return None, 0


def longest_beginning(source: str) -> str:
    """The source up to the last line behind which it is a program; "" where there is none."""
    if parsed(source):
        return source
    lines = source.split("\n")
    wrong = len(lines)
    for count in reversed(_logical_line_ends(source)):
        if count <= wrong:
            text = "\n".join(lines[:count])
            tree, where = _parse(text)
            if tree is not None:
                return text
            wrong = min(count, where or count) - 1
    return ""


_TOKEN = re.compile(
    r'"""(?:\\.|.)*?"""|\'\'\'(?:\\.|.)*?\'\'\'|"(?!"")(?:\\.|[^"\\\n])*"|\'(?!\'\')(?:\\.|[^\'\\\n])*\''
    r'|#[^\n]*|\\\n|(?P<open>[(\[{])|(?P<close>[)\]}])|(?P<triple>"""|\'\'\')|(?P<end>\n)',
    re.DOTALL,
)


def _logical_line_ends(source: str) -> list[int]:
    """How many lines end where no bracket and no string is open: 0 and others, in order."""
    ends, depth, line = [0], 0, 0
    for token in _TOKEN.finditer(source):
        if token["triple"]:  # never closed
            return ends
        line += token[0].count("\n")
        depth = max(0, depth + bool(token["open"]) - bool(token["close"]))
        if token["end"] and not depth:
            ends.append(line)
    return ends if depth else [*ends, line + 1]


# --- statements ---


@dataclass(eq=False)
class Statement:
    """A statement of a program's top level.

    binds: names that it gives a value; changes: names of objects that it alters; needs: global names that it reads,
    inside its functions too. stub: a function without a body of its own. setting: it sets something of a module.
    """

    text: str
    node: ast.stmt
    binds: set[str] = field(default_factory=set)
    changes: set[str] = field(default_factory=set)
    needs: set[str] = field(default_factory=set)
    stub: bool = False
    setting: str = ""

    @property
    def star(self) -> bool:
        return isinstance(self.node, ast.ImportFrom) and self.node.names[0].name == "*"

    @property
    def future(self) -> bool:
        return isinstance(self.node, ast.ImportFrom) and self.node.module == "__future__"


Chunk = list[Statement]


def may_bind(source: str, names: Set[str]) -> bool:
    """Whether one of the names is given a value anywhere in a program, methods included: a quick look."""
    tree = parsed(source)
    for node in ast.walk(tree) if tree else ():
        name = getattr(node, "asname", None) or getattr(node, "name", None) or getattr(node, "id", None)
        if name in names and not isinstance(getattr(node, "ctx", None), ast.Load):
            return True
    return False


def statements(source: str, wanted: Set[str] = frozenset()) -> Chunk:
    """The top-level statements of a program, without its `if __name__ == "__main__"` and what no module may have.

    wanted: names of functions; a call of one is a use of it and no preparation.
    """
    tree = parsed(source)
    chunk = [made for node in tree.body if (made := _statement(source, node))] if tree else []
    imported = {name for s in chunk if isinstance(s.node, _IMPORTS) for name in s.binds}
    variables = {name for s in chunk if not isinstance(s.node, (*_DEFINITIONS, *_IMPORTS)) for name in s.binds}
    bodies = {s.node.name: _altered(s.node) for s in chunk if isinstance(s.node, FUNCTIONS)}
    for statement in chunk:
        targets, touched, called = _altered(statement.node, inside=False)
        for name in called - wanted:  # `fill_table()` changes what fill_table changes
            inner = bodies.get(name, (set(), set(), set()))
            touched = touched | inner[0] | inner[1]
        value = getattr(statement.node, "value", None)
        if isinstance(value, ast.Call) and isinstance(value.func, ast.Name):  # `total = total([1, 2])`
            statement.binds -= wanted & {value.func.id}
        statement.changes = targets | (touched & variables) - wanted
        statement.setting = _setting(statement.node, targets, imported)
    return chunk


def _statement(source: str, node: ast.stmt) -> Statement | None:
    if isinstance(node, ast.If) and any(isinstance(n, ast.Name) and n.id == "__name__" for n in ast.walk(node.test)):
        return None
    if isinstance(node, _COMPOUND):
        decorators = getattr(node, "decorator_list", [])
        first = min([node.lineno, *(decorator.lineno for decorator in decorators)])
        text = "\n".join(source.split("\n")[first - 1 : node.end_lineno])
    else:
        text = ast.get_source_segment(source, node) or ""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        try:
            compile(text, "<reply>", "exec", dont_inherit=True)
            table = symtable.symtable(text, "<reply>", "exec")
        except (SyntaxError, ValueError, RecursionError, MemoryError):  # `return` outside a function
            return None
    statement = Statement(text, node, stub=_is_stub(node))
    for symbol in table.get_symbols():
        if symbol.is_assigned() or symbol.is_imported():
            statement.binds.add(symbol.get_name())
        if symbol.is_referenced():
            statement.needs.add(symbol.get_name())
    for scope in _scopes(table):
        statement.needs |= {s.get_name() for s in scope.get_symbols() if s.is_global() and s.is_referenced()}
    return statement


def _scopes(table: symtable.SymbolTable) -> Iterator[symtable.SymbolTable]:
    for child in table.get_children():
        yield child
        yield from _scopes(child)


def _is_stub(node: ast.stmt) -> bool:
    """Whether this is a function that has only a docstring, `pass`, `...` or `raise NotImplementedError`."""
    if not isinstance(node, FUNCTIONS):
        return False
    return all(
        isinstance(part, ast.Pass)
        or (isinstance(part, ast.Expr) and isinstance(part.value, ast.Constant))
        or (isinstance(part, ast.Raise) and "NotImplemented" in ast.dump(part))
        for part in node.body
    )


def _altered(node: ast.AST, inside: bool = True) -> tuple[set[str], set[str], set[str]]:
    """(roots of assigned attributes and items, names that calls may change, functions called as statements).

    inside: of a function's body too, with the globals that it declares among the first.
    """
    targets, touched, called = set(), set(), set()
    waiting = [node] if inside or not isinstance(node, _DEFINITIONS) else []
    while waiting:
        part = waiting.pop()
        if isinstance(part, ast.Attribute | ast.Subscript) and not isinstance(part.ctx, ast.Load):
            targets |= _root(part)
        elif isinstance(part, ast.Global):
            targets |= set(part.names)
        elif isinstance(part, ast.Expr) and isinstance(part.value, ast.Call):
            call = part.value
            if isinstance(call.func, ast.Name):
                called.add(call.func.id)
            touched |= _root(call.func) if isinstance(call.func, ast.Attribute) else set()
            touched |= {name for argument in call.args for name in _root(argument)}
        waiting += [child for child in ast.iter_child_nodes(part) if inside or not isinstance(child, _DEFINITIONS)]
    return targets, touched, called


def _root(node: ast.AST) -> set[str]:
    """{"a"} of `a`, `a.b[c]` and `a().b`."""
    while isinstance(node, ast.Attribute | ast.Subscript | ast.Call):
        node = node.func if isinstance(node, ast.Call) else node.value
    return {node.id} if isinstance(node, ast.Name) else set()


def _setting(node: ast.stmt, targets: set[str], imported: set[str]) -> str:
    """The imported name whose module is set up: `sys.setrecursionlimit(10**6)`, `random.seed(0)`,
    `getcontext().prec = 50`; "" where it is none."""
    if isinstance(node, ast.Expr) and isinstance(node.value, ast.Call):
        function = node.value.func
        last = getattr(function, "attr", getattr(function, "id", ""))
        targets = _root(function) if last.startswith("set") or last == "seed" else set()
    return next(iter(targets & imported), "")
