"""The fence reader: what of a reply stands in which block."""

from qwen_eval.extraction.code_blocks import Piece, first_block, pieces, without_tags

import pytest

F = "```"


@pytest.mark.parametrize(
    ("text", "found"),
    [
        ("no block", [("no block", False)]),
        ("", []),
        (f"a\n{F}py\nx\n{F}\nb", [("a\n", False), ("x", True), ("\nb", False)]),
        (f"{F}\nx\n{F}\n{F}\ny\n{F}", [("x", True), ("y", True)]),
        (f"{F}\nx", [("x", True)]),
        (f"{F}`\nx\n{F}\ny\n{F}`", [(f"x\n{F}\ny", True)]),
        (f"~~~\nx\n{F}\ny\n~~~", [(f"x\n{F}\ny", True)]),
        (f"{F}\nx\n~~~\ny\n{F}", [("x\n~~~\ny", True)]),
        (f"{F}python\nx\n{F}java\ny\n{F}", [("x", True), ("y", True)]),
        (f"{F}\nx\n{F} and so on.", [("x", True), (" and so on.", False)]),
        (f"{F}\nif x:\n    y{F}\nz", [("if x:\n    y", True), ("\nz", False)]),
        (f"  {F}\n    x\n  y\n  {F}", [("  x\ny", True)]),
        (f"  {F}\n    x\ny\n  {F}", [("    x\ny", True)]),
        (f"> {F}\n> if x:\n>     y\n> {F}", [("if x:\n    y", True)]),
        (f"2) {F}\n   x\n   {F}", [("x", True)]),
        (f'{F}\ndef f():\n    """\n    {F}\n    f()\n    {F}\n    """\n{F}', [
            (f'def f():\n    """\n    {F}\n    f()\n    {F}\n    """', True)
        ]),
        (f'{F}\ns = "{F}"\n{F}', [(f's = "{F}"', True)]),
        (f'{F}\n"""\n{F}\nb', [('"""', True), ("\nb", False)]),
        (f"{F}python x = 1{F} b", [("x = 1", True), (" b", False)]),
    ],
)  # fmt: skip
def test_blocks_and_the_text_between_them(text, found):
    assert pieces(text) == [Piece(*piece) for piece in found if piece[0].strip()]


@pytest.mark.parametrize(
    "info",
    ["python", " python", "Python3", "py", "python {.line}", "{.python #id}", "{python}", 'python title="x = 1.py"',
     "python=", "python linenums=1", "python:main.py", "python3.11", "py{1,2}", "c++", "text", ""],
)  # fmt: skip
def test_an_info_string_is_no_code(info):
    assert first_block(f"{F}{info}\nx = 1\n{F}") == "x = 1"


@pytest.mark.parametrize("code", ["def f(): pass", "import os", "x = 1", "@cache", "print(x)", "class A: pass", "try:"])
@pytest.mark.parametrize("word", ["", "python ", " py "])
def test_code_on_the_line_of_the_fence_counts(word, code):
    assert first_block(f"{F}{word}{code}\ny\n{F}") == f"{code}\ny"


@pytest.mark.parametrize("ends", ["\r\n", "\r"])
def test_line_ends_do_not_matter(ends):
    assert first_block(f"a\n{F}python\nx\n\ny\n{F}\n".replace("\n", ends)) == "x\n\ny"


@pytest.mark.parametrize(
    ("text", "left"),
    [
        ("[BEGIN]\nx\n[DONE]", "\nx\n"),
        ("<code>x</code>", "x"),
        ('<pre><code class="a">\nx\n</code></pre>\n', "\nx\n\n"),
        ("[PYTHON] x\n[/PYTHON]", " x\n"),
        ("x = [END, 1]\ny = a[end]", "x = [END, 1]\ny = a[end]"),
        ("\\begin{lstlisting}[language=Python]\nx\n\\end{lstlisting}", "\nx\n"),
    ],
)
def test_tags_around_code(text, left):
    assert without_tags(text) == left
