"""Strings that tell two tokenizers apart, drawn at random from a seed: all planes, control characters, decomposed
forms, special forms in the text, long runs, words of several scripts, and all of these together."""

from __future__ import annotations

import random
import sys
import unicodedata

from qwen_model.vocabulary import SPECIAL_TOKENS

OVERLAY = "\u0338"  # makes another character of the > before it
_WORDS = (
    "the quick brown fox don't I'LL we'Re it'ſ naïve Straße ﬁne 12345 3.14 x=y+1; def f(x): return 中文分词 模型 "
    "こんにちは 안녕하세요 привет мир العَرَبِيَّة हिन्दी ไทย 👩‍👩‍👧‍👦 🏳️‍🌈 e\u0301 ① Ⅷ ٣٤ \u00a0 \u3000 "
    "-- ... <| |> <|im_ end|> </s> 北京大学"
).split(" ")
_SPACES = " \t\n\r\x0b\x0c\x1c\x85\u00a0\u2003\u2028\u3000"
MARKS = [chr(c) for c in range(sys.maxunicode + 1) if unicodedata.combining(chr(c))]
_DECOMPOSED = [
    form
    for c in range(0xA0, 0x30000)
    if not 0xD800 <= c < 0xE000 and (form := unicodedata.normalize("NFD", chr(c))) != chr(c)
]


def _any(drawn: random.Random) -> str:
    code = drawn.randrange(sys.maxunicode + 1 - 0x800)
    return chr(code if code < 0xD800 else code + 0x800)


def _plane(drawn: random.Random) -> str:
    return chr((drawn.choice((0, 0, 1, 1, 2, 3, 14, 15, 16)) << 16) + drawn.randrange(0xD800))


def _marked(drawn: random.Random) -> str:
    return drawn.choice("aeiouAÅ각<>=") + "".join(drawn.choices(MARKS, k=drawn.randrange(1, 4)))


_PIECES = (
    _any,
    _plane,
    _marked,
    lambda drawn: chr(drawn.randrange(0x20) if drawn.random() < 0.5 else drawn.randrange(0x7F, 0xA0)),
    lambda drawn: drawn.choice(_DECOMPOSED),
    lambda drawn: (
        drawn.choice(SPECIAL_TOKENS[: drawn.choice((3, 208))]) + drawn.choice(("", "", " ", OVERLAY, "\u0301"))
    ),
    lambda drawn: drawn.choice("aA0 \n\t-=é中\u0301<|'" + _SPACES) * drawn.choice((3, 17, 60)),
    lambda drawn: drawn.choice(_WORDS) + drawn.choice((" ", "", "\n", "  ", "'s ")),
    lambda drawn: "".join(drawn.choices(_SPACES, k=drawn.randrange(1, 6))),
    lambda drawn: "".join(chr(drawn.randrange(0x20, 0x7F)) for _ in range(drawn.randrange(1, 12))),
)


def texts(count: int, seed: int = 0) -> list[str]:
    """That many strings of up to some hundred characters; a third of them of one kind of piece."""
    drawn = random.Random(seed)
    found = []
    for _ in range(count):
        kinds = [drawn.choice(_PIECES)] if drawn.random() < 0.33 else _PIECES
        found.append("".join(drawn.choice(kinds)(drawn) for _ in range(drawn.randrange(1, 13))))
    return found
