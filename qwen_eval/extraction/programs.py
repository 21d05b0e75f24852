"""Robust extraction of a program: the definition that was asked for, and what it needs.

A model writes more than the function: examples that fail, `input()`, an endless loop, imports of what is not installed,
a second solution. Of the reply's statements those are kept that bind a wanted name, or bind or change a name that these
use, and so on; nothing is ever run to find that out. Helpers may stand in other blocks than the function.

One program is chosen, without a look at the tests. The scripts count a reply as right by the robust extraction also
when the protocol's program passes, so the robust figure is never the lower one.
"""

import ast
import builtins
import keyword
import re
import sys
import textwrap
from collections.abc import Iterable, Iterator, Sequence, Set
from itertools import takewhile

from qwen_eval.extraction.code_blocks import Piece, pieces, possible_texts, without_tags
from qwen_eval.extraction.python_source import (
    FUNCTIONS,
    Chunk,
    Statement,
    longest_beginning,
    may_bind,
    parsed,
    statements,
)

_BUILTINS = frozenset(dir(builtins))
# An empty line, or two words that begin no statement (`def f`, `x in y`).
_KEYWORDS = "|".join([*keyword.kwlist, *keyword.softkwlist])
_PROSE = re.compile(rf"\s*$|\s*(?!(?:{_KEYWORDS})\b)[^\W\d][\w'’]* +(?!(?:{_KEYWORDS})\b)[^\W\d]")
WINDOW = 100  # lines in which a program shows that it is one, so that long prose costs little

# --- reply to program ---


def defined(reply: str, names: Set[str], before: str = "") -> str | None:
    """The program of a reply that defines the names, None where none does.

    In turn: the reply, if it is a program; the first fenced block that defines most of them; the first such text
    outside of fences; a class with a method of the name; of these one that breaks off in the middle only if there is
    no other. before: a program that stands ahead of the reply's.
    """
    divisions = list(_divisions(reply)) if any(name in reply for name in names) else []
    broken = None
    for methods in (False, True) if "class " in reply else (False,):
        for parts in divisions:
            sources = [(*source, part.fenced) for part in parts for source in sources_in(part.text)]
            if not any(may_bind(source, names) for source, _, _ in sources):
                continue
            chunks = [
                statements(source + (_aliases(source, names) if methods else ""), names) for source, _, _ in sources
            ]
            ranks = [
                (len(names & _defines(chunk)), whole, in_fence)
                for chunk, (_, whole, in_fence) in zip(chunks, sources, strict=True)
            ]
            best = max(ranks)
            if best[0]:
                program = assemble([statements(before), *chunks], 1 + ranks.index(best), names)
                if best[1]:
                    return program
                broken = broken or program
    return broken


def _divisions(reply: str) -> Iterator[list[Piece]]:
    """Each text that a reply may stand for, in its pieces, and undivided: a program may have a fence in a string."""
    for text in dict.fromkeys(possible_texts(reply)):
        parts = pieces(text)
        if not parsed(text):
            yield parts
        if len(parts) > 1 or parsed(text):
            yield [Piece(text, False)]


def _defines(chunk: Chunk) -> set[str]:
    return {name for statement in chunk if not statement.stub for name in statement.binds}


def _aliases(source: str, names: Set[str]) -> str:
    """Assignments by which a method of a class is called like a function."""
    classes = [node for node in parsed(source).body if isinstance(node, ast.ClassDef)]  # type: ignore[union-attr]
    methods = [(node.name, part.name) for node in classes for part in node.body if isinstance(part, FUNCTIONS)]
    return "".join(f"\n{name} = {owner}().{name}" for owner, name in methods if name in names)


def sources_in(text: str) -> Iterator[tuple[str, bool]]:
    """The programs in a text that may have other text around them, in order, each as long as it can be; and whether it
    is whole: what follows is not indented as if it belonged to it."""
    if parsed(text):
        yield text, True
        return
    lines = without_tags(text).split("\n")
    number = 0
    while number < len(lines):
        source = "" if _PROSE.match(lines[number]) else _program_at(lines[number:])
        following = number + source.count("\n") + 1
        if source:
            behind = next((line for line in lines[following:] if line.strip()), "")
            yield source, _indent(behind) <= _indent(lines[number])
        number = following


def _indent(line: str) -> int:
    return len(line) - len(line.lstrip())


def _program_at(lines: Sequence[str]) -> str:
    """The longest program that begins in the first line: of lines that are indented like it, or as if it were not."""
    indent = lines[0][: _indent(lines[0])]
    source = ""
    for length in (WINDOW, len(lines)):
        part = takewhile(lambda line: not line.strip() or line.startswith(indent), lines[:length])
        source = longest_beginning("\n".join(line[len(indent) :] for line in part))
        if indent:
            other = longest_beginning("\n".join([lines[0].lstrip(), *lines[1:length]]))
            source = max(source, other, key=lambda text: text.count("\n") + bool(text))
        if not source:
            break
    return source


def continued(prompt: str, reply: str, name: str, as_is: bool) -> str | None:
    """The program of a prompt that ends behind a function's docstring and a reply that goes on with its body.

    None where the reply does not, so that the function returns something. as_is: as it stands; else also from a block
    or a paragraph on, however it is indented. What the reply defines again is left out.
    """
    for text in [next(possible_texts(reply))] if as_is else dict.fromkeys(possible_texts(reply)):
        for part in [text] if as_is else _bodies(text):
            ways = [part] if as_is else [part, textwrap.indent(textwrap.dedent(part), "    "), "    " + part.lstrip()]
            sources = [longest_beginning(prompt + way) for way in ways]
            lengths = [_body_length(source, name) for source in sources]
            if longest := max(lengths):
                source = sources[lengths.index(longest)]
                return assemble([statements(source, {name})], 0, {name}, first_only=True)
    return None


def _bodies(text: str) -> Iterator[str]:
    """Where in a text a body may begin: at each of its blocks, then at each paragraph, and at an indented line right
    behind a line of prose."""
    yield from (piece.text for piece in pieces(text) if piece.fenced)
    lines = without_tags(text).split("\n")
    for number, line in enumerate(lines):
        before = lines[number - 1] if number else ""
        if line.strip() and (not before.strip() or _indented_behind_prose(before, line)):
            rest = "\n".join(lines[number:])
            if "return" in rest or "yield" in rest:
                yield rest


def _indented_behind_prose(before: str, line: str) -> bool:
    """Whether an indented line follows one at the margin that is no Python, not even the head of a statement."""
    return _indent(line) > 0 and _indent(before) == 0 and parsed(f"{before}\n    pass\n") is None


def _body_length(source: str, name: str) -> int:
    """The lines of the first definition of a function that returns or yields something; 0 where there is none."""
    tree = parsed(source)
    for node in tree.body if tree else []:
        if isinstance(node, FUNCTIONS) and node.name == name and _returns(node):
            return (node.end_lineno or 0) - node.lineno
    return 0


def _returns(node: ast.AST) -> bool:
    """Whether a function itself, not one inside it, has a `return` or `yield`."""
    inner = [part for part in ast.iter_child_nodes(node) if not isinstance(part, (*FUNCTIONS, ast.ClassDef))]
    return isinstance(node, ast.Return | ast.Yield | ast.YieldFrom) or any(map(_returns, inner))


# --- from statements to a program ---


def assemble(chunks: Sequence[Chunk], main: int, names: Iterable[str], first_only: bool = False) -> str:
    """The program of what the names need: of chunk `main` if it has it, else of the nearest before, else behind it.

    first_only: a function is what it is defined to be at first.
    """
    order = [main, *range(main - 1, -1, -1), *range(main + 1, len(chunks))]
    kept: set[int] = set()
    seen: set[str] = set()

    def keep(chosen: Iterable[Statement]) -> None:
        for statement in chosen:
            if id(statement) not in kept:
                kept.add(id(statement))
                waiting.extend(sorted(statement.needs))

    waiting = list(names)
    wanted = set(waiting)
    while waiting:
        name = waiting.pop()
        if name not in seen:
            seen.add(name)
            keep(_givers(name, [chunks[number] for number in order], first_only and name in wanted))
        if not waiting:
            keep(s for s in chunks[main] if s.setting and (s.setting in seen or _is_standard(s.setting, chunks[main])))
    parts = [s for number in [*sorted(order[1:]), main] for s in chunks[number] if id(s) in kept]
    future = dict.fromkeys(s.text for chunk in chunks for s in chunk if s.future)
    return "\n".join([*future, *(s.text for s in parts if not s.future)]) + "\n"


def _givers(name: str, chunks: Sequence[Chunk], first_only: bool) -> list[Statement]:
    """The statements of the first chunk that bind the name, a stub only if nothing else does, and that change it."""
    for allow_stub in (False, True):
        for chunk in chunks:
            binders = [s for s in chunk if name in s.binds and (allow_stub or not s.stub)]
            if first_only:
                binders = binders[:1]
            if binders:
                return [*binders, *(s for s in chunk if name in s.changes and (not first_only or name not in s.binds))]
    return [s for chunk in chunks for s in chunk if s.star] if name not in _BUILTINS else []


def _is_standard(name: str, chunk: Chunk) -> bool:
    modules = [
        s.node.module or "" if isinstance(s.node, ast.ImportFrom) else s.node.names[0].name
        for s in chunk
        if isinstance(s.node, ast.Import | ast.ImportFrom) and name in s.binds
    ]
    return all(module.partition(".")[0] in sys.stdlib_module_names for module in modules)
