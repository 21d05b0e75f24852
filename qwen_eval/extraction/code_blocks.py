"""The parts of a reply with code in it: fenced blocks and the text between them, however a model has written them.

Fences are those of CommonMark (three or more backticks or tildes, also in lists and quotes), and those that models
write besides: with the first line of code behind the opening fence, with the closing fence behind the last line of
code, on one line, never closed, or with a fence inside a docstring.
"""

import ast
import html
import re
import warnings
from collections.abc import Callable, Iterator
from typing import NamedTuple

from qwen_eval.extraction.replies import ZERO_WIDTH, plain_lines

# `> 1. ```python {.numberLines}`: what stands before the fence, the fence, and the info string
_FENCE = re.compile(
    r"(?P<quote>(?:[ \t]*>)*)(?P<indent>[ \t]*(?:(?:[-*+]|\d+[.)])[ \t]+)?)(?P<fence>`{3,}|~{3,})(?P<info>.*)"
)
_INLINE = re.compile(r"(?P<text>.*?\S.*?)(?<!`)(?P<fence>`{3,})(?P<info>.*)")  # `So: ```python`
_WORD = re.compile(r"[ \t]*(?:\{?\.?(?:python|py)[\d.]*\}?(?![\w.(=]))?[ \t]*", re.IGNORECASE)
# An info string that is code: no attribute (`title=...`) begins so.
_CODE = re.compile(r"(?:def|class|import|from|async|return|for|while|if|with)[ \t]|try:|@\w|\w+[ \t]+=[ \t]|\w+\(.*\)")
_LANGUAGE = re.compile(r"[ \t]*[\w+#./-]+[ \t]*(?:[{\w].*[}=].*)?")
_QUOTE = re.compile(r"[ \t]*>")

# What a model wrote before its answer, the tokens that end a turn, and the tags that stand around code.
_THOUGHT = re.compile(
    r"^.*(?:</think(?:ing)?>|\[/THINK\]|<\|end_of_thought\|>|<\|channel\|>final<\|message\|>)"
    r"|<(thought|reasoning)>.*?</\1>",
    re.DOTALL | re.IGNORECASE,
)
_HTML = re.compile(r"^[ \t]*<(?:code|pre)\b", re.MULTILINE)
_WIDE_INDENT = re.compile(r"^[ \u00a0\u2002-\u200a\u202f\u3000]+", re.MULTILINE)  # spaces that Python does not know
_END_OF_TURN = re.compile(
    r"<\|(?:endoftext|im_end|eot_id|end_of_text|end|EOT|file_separator)\|>|<｜end▁of▁sentence｜>|</s>|<(?:file_sep|eos)>"
)
_NAMES = "(?:code|python|pre|answer|solution|begin|end|done|response|output|function|inst)"
_TAG = re.compile(
    rf"^[ \t]*(?:\[/?{_NAMES}\]|</?{_NAMES}(?: [^<>\n]*)?>|<\|[\w ]+\|>|<s>)+"
    rf"|(?:</{_NAMES}>|\[/{_NAMES}\])+[ \t]*$|^[ \t]*\\(?:begin|end)\{{(?:{_NAMES}|lstlisting|verbatim|minted)\}}.*$",
    re.MULTILINE | re.IGNORECASE,
)


class Piece(NamedTuple):
    """A part of a reply: a fenced block's content, or the text between two of them."""

    text: str
    fenced: bool


def possible_texts(reply: str) -> Iterator[str]:
    """The texts that a reply may stand for, the most likely first: without the model's thoughts, then with them; each
    as it is, then with something undone that is no part of a program (`> ` or line numbers before each line ...)."""
    plain = re.sub(rf"^[{ZERO_WIDTH}]+", "", plain_lines(reply), flags=re.MULTILINE)
    plain = _WIDE_INDENT.sub(lambda spaces: " " * len(spaces[0]), plain)
    if _HTML.search(plain):
        plain = html.unescape(plain)
    for text in dict.fromkeys([_THOUGHT.sub("", plain), plain]):
        text = next((turn for turn in _END_OF_TURN.split(text) if turn.strip()), "")
        yield text
        for undo in _UNDO:
            yield undo(text)


def _session(text: str) -> str:
    """The code of `>>> ` and `... ` lines; the others are results, save where a fence or nothing stands."""
    lines = []
    for line in text.split("\n"):
        if typed := re.match(r"[ \t]*(?:>>>|\.\.\.:?|In \[\d+\]:)(?: |$)(.*)", line):
            lines.append(typed[1])
        elif "```" in line or not line.strip():
            lines.append(line)
    return "\n".join(lines)


def _unescaped(text: str) -> str:
    r"""A reply on one line, with `\n` for its line ends."""
    return text if "\n" in text.strip() else text.replace("\\n", "\n").replace("\\t", "\t").replace('\\"', '"')


_UNDO: tuple[Callable[[str], str], ...] = (
    lambda text: re.sub(r"^[ \t]*>(?!>>)[ \t]?", "", text, flags=re.MULTILINE),  # quoted
    _session,
    lambda text: re.sub(r"[\u2028\u2029\x85]", "\n", text),  # other line ends
    _unescaped,
    lambda text: re.sub(r"^[ \t]*\d+[.:|)]*(?:[ \t]|$)", "", text, flags=re.MULTILINE),  # numbered lines
    lambda text: re.sub(r"^[ \t]*(?:'''|´´´)(?:python)?[ \t]*$", "```", text, flags=re.MULTILINE),  # taken for fences
    lambda text: re.sub(r"[:.!?>)][ \t]+(?=(?:async )?def \w+\()", "\n", text),  # code begins inside a line
    lambda text: re.sub(r"`+", "\n", text),  # code between single backticks
)


def pieces(text: str) -> list[Piece]:
    """The blocks and the texts between them, in order; none is empty."""
    lines = text.split("\n")
    parts: list[Piece] = []
    outside: list[str] = []
    number = 0
    while number < len(lines):
        opening = _FENCE.fullmatch(lines[number]) or _INLINE.fullmatch(lines[number])
        if not opening:
            outside.append(lines[number])
            number += 1
            continue
        outside.append(opening.groupdict().get("text") or "")
        parts.append(Piece("\n".join(outside), False))
        content, number, behind = _block(opening, lines, number)
        parts.append(Piece(content, True))
        outside = [behind]
    parts.append(Piece("\n".join(outside), False))
    return [piece for piece in parts if piece.text.strip()]


def without_tags(text: str) -> str:
    """The text without the tags that models set around code: `[BEGIN]`, `<code>`, `\\begin{lstlisting}`."""
    return _TAG.sub("", text)


def first_block(text: str) -> str | None:
    """The content of the first fenced block, None where there is none."""
    return next((piece.text for piece in pieces(plain_lines(text)) if piece.fenced), None)


def _block(opening: re.Match[str], lines: list[str], start: int) -> tuple[str, int, str]:
    """(content, number of the next line to look at, text behind the closing fence) of the block that a line opens."""
    fence, info = opening["fence"], opening["info"]
    if inside := re.match(rf"(.*?){fence[0]}{{{len(fence)},}}(.*)", info):  # all on one line
        return inside[1][_WORD.match(inside[1]).end() :], start + 1, inside[2]  # type: ignore[union-attr]
    rest = info[_WORD.match(info).end() :]  # type: ignore[union-attr]
    content = [rest] if _CODE.match(rest) else []
    quote = opening.groupdict().get("quote", "").count(">")
    width = len(opening.groupdict().get("indent") or "")
    closing = re.compile(rf"(.*?){fence[0]}{{{len(fence)},}}([^{fence[0]}]*)")
    ends: list[tuple[str, int, str]] = []
    for number in range(start + 1, len(lines)):
        line = lines[number]
        for _ in range(quote):
            line = _QUOTE.sub("", line, count=1)
        end = closing.fullmatch(line)
        if end and (not end[1].strip() or not end[2].strip()):
            last = [end[1].rstrip()] if end[1].strip() else []
            code = "\n".join(_outdented([*content, *last], width))
            opens = end[2].strip() and _LANGUAGE.fullmatch(end[2])  # the next block, this one was not closed
            ends.append((code, number if opens else number + 1, "" if opens else end[2]))
            if not _in_docstring(code):
                return ends[-1]
        content.append(line)
    code = "\n".join(_outdented(content, width))
    return ends[0] if ends and _in_docstring(code) else (code, len(lines), "")


def _outdented(lines: list[str], width: int) -> list[str]:
    """The lines without the opening fence's own indentation, as far as all of them have it."""
    indents = [len(line) - len(line.lstrip()) for line in lines if line.strip()]
    width = min([width, *indents])
    return [line[width:] for line in lines]


def _in_docstring(code: str) -> bool:
    """Whether the code ends inside a triple-quoted string, so that the fence behind it is a part of that string."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        try:
            ast.parse(code)
        except SyntaxError as error:
            return "triple-quoted" in str(error.msg)
        except (ValueError, RecursionError, MemoryError):
            pass
    return False
