"""Values as plain data: what crosses the pipe between a candidate and its tests.

A value is written by its exact type. A value of a subclass of a plain type is written as its base, read with the base's
own methods, so that no method of a candidate's class can lie about it. What is not plain data becomes a reference: a
number that the candidate's side can resolve and that, on the tests' side, equals nothing.

JSON carries None, bool, int, float and str as they are; everything else is a list `[tag, ...]`.
"""

import builtins
import sys
from collections import Counter, OrderedDict, deque
from collections.abc import Callable
from decimal import Decimal
from fractions import Fraction
from types import GeneratorType
from typing import Any

MAX_DEPTH = 200  # nested containers; no unit test compares deeper ones
MAX_ITERATED = 100_000  # items taken from an iterator that was returned
BIG = 1 << 62  # beyond this an int travels in base 16, which Python reads back at any length

Encoded = Any
ToReference = Callable[[Any], Encoded]


class NotPlain(ValueError):
    """A value that cannot be sent, or a frame that is no value."""


def _no_reference(value: Any) -> Encoded:
    raise NotPlain(f"a {type(value).__name__} cannot be sent as plain data")


_EMPTY: tuple[Any, ...] = ((), [], {}, set(), "", range(0), {}.keys(), {}.values(), {}.items())
_ITERATORS: tuple[Any, ...] = (GeneratorType, map, filter, zip, enumerate, reversed, *(type(iter(x)) for x in _EMPTY))
_VIEWS = {type({}.keys()): "keys", type({}.values()): "values", type({}.items()): "items"}


def encode(value: Any, reference: ToReference = _no_reference, depth: int = 0) -> Encoded:
    """The JSON form of a value; `reference` gives the form of what is not plain data (default: NotPlain is raised)."""
    kind = type(value)
    if value is None or kind is bool or kind is float:
        return value
    if kind is int:
        return value if -BIG < value < BIG else ["i", hex(value)]
    if kind is str:
        return _text(value)
    if depth > MAX_DEPTH:
        raise NotPlain(f"containers are nested more than {MAX_DEPTH} deep")
    for base, write in _WRITERS.items():
        if kind is base:
            return write(value, reference, depth + 1)
    if kind in _VIEWS:
        return ["v", _VIEWS[kind], _items(value, reference, depth + 1)]
    if kind in _ITERATORS:
        return _iterated(value, reference, depth + 1)
    if kind is type and getattr(builtins, type.__repr__(value)[8:-2], None) is value:
        return ["ty", type.__repr__(value)[8:-2]]  # <class 'int'>
    if (scalar := _numpy_value(value)) is not None:
        return encode(scalar, reference, depth + 1)
    for base, reduce in _BASES:
        if base in type.mro(kind):
            return encode(reduce(value), reference, depth)
    return reference(value)


def _text(value: str) -> Encoded:
    """Text as it is, unless it has lone surrogates: JSON would join two of them into another character."""
    try:
        value.encode()
    except UnicodeEncodeError:
        return ["u", [ord(letter) for letter in value]]
    return value


def _items(value: Any, reference: ToReference, depth: int) -> list[Encoded]:
    return [encode(item, reference, depth) for item in value]


def _mapping(value: Any, reference: ToReference, depth: int) -> list[Encoded]:
    pairs = dict.items(value)
    return [[encode(key, reference, depth), encode(item, reference, depth)] for key, item in pairs]


def _iterated(value: Any, reference: ToReference, depth: int) -> Encoded:
    """An iterator as its items, which the test would have taken too. An endless one becomes a reference."""
    taken = []
    for item in value:
        taken.append(encode(item, reference, depth))
        if len(taken) > MAX_ITERATED:
            return reference(value)
    return ["it", taken]


def _numpy_value(value: Any) -> Any:
    """A numpy scalar as Python's number, an array as an iterator (no test's literal equals an array); else None."""
    numpy = sys.modules.get("numpy")
    kinds = type.mro(type(value))
    if numpy is None or not hasattr(numpy, "generic"):
        return None
    if numpy.generic in kinds:
        plain = numpy.generic.item(value)
        return None if type(plain) is type(value) else plain
    return iter(numpy.ndarray.tolist(value)) if numpy.ndarray in kinds and value.shape else None


_WRITERS: dict[type, Callable[[Any, ToReference, int], Encoded]] = {
    list: lambda value, ref, depth: ["l", _items(value, ref, depth)],
    tuple: lambda value, ref, depth: ["t", _items(value, ref, depth)],
    dict: lambda value, ref, depth: ["d", _mapping(value, ref, depth)],
    set: lambda value, ref, depth: ["s", _items(value, ref, depth)],
    frozenset: lambda value, ref, depth: ["f", _items(value, ref, depth)],
    bytes: lambda value, ref, depth: ["b", value.hex()],
    bytearray: lambda value, ref, depth: ["ba", value.hex()],
    complex: lambda value, ref, depth: ["c", value.real, value.imag],
    range: lambda value, ref, depth: ["r", *(encode(part) for part in (value.start, value.stop, value.step))],
    Counter: lambda value, ref, depth: ["cn", _mapping(value, ref, depth)],
    OrderedDict: lambda value, ref, depth: [
        "od",
        [[encode(k, ref, depth), encode(v, ref, depth)] for k, v in value.items()],
    ],
    deque: lambda value, ref, depth: ["dq", _items(value, ref, depth)],
    Decimal: lambda value, ref, depth: ["de", Decimal.__str__(value)],
    Fraction: lambda value, ref, depth: ["fr", encode(value.numerator), encode(value.denominator)],
    type(Ellipsis): lambda value, ref, depth: ["el"],
}

# How a subclass is read as its base, never through a method that the subclass may have replaced.
_BASES: list[tuple[type, Callable[[Any], Any]]] = [
    (int, lambda value: int.__index__(value)),
    (float, lambda value: float.__float__(value)),
    (complex, lambda value: complex.__add__(value, 0)),
    (str, lambda value: str.__str__(value)),
    (bytes, lambda value: bytes.__getitem__(value, slice(None))),
    (bytearray, lambda value: bytearray.__getitem__(value, slice(None))),
    (list, lambda value: list.__getitem__(value, slice(None))),
    (tuple, lambda value: tuple.__getitem__(value, slice(None))),
    (Counter, lambda value: Counter(dict(dict.items(value)))),
    (OrderedDict, lambda value: OrderedDict(OrderedDict.items(value))),
    (dict, lambda value: dict(dict.items(value))),
    (set, lambda value: set(set.__iter__(value))),
    (frozenset, lambda value: frozenset(frozenset.__iter__(value))),
    (deque, lambda value: deque(deque.__iter__(value))),
]


def decode(form: Encoded, resolve: Callable[[Any], Any] | None = None) -> Any:
    """The value of a JSON form; `resolve` gives the object of a reference. Raises NotPlain for anything malformed.

    Only the types named here are ever built: whoever wrote the form chooses values, not code.
    """
    try:
        return _decode(form, resolve)
    except (TypeError, ValueError, KeyError, IndexError, ArithmeticError, RecursionError) as error:
        raise NotPlain("the result is not plain data") from error


def _decode(form: Encoded, resolve: Callable[[Any], Any] | None) -> Any:
    if type(form) is not list:
        if type(form) is dict:
            raise NotPlain("the result is not plain data")
        return form
    tag, rest = form[0], form[1:]
    if tag == "ref":
        if resolve is None:
            raise NotPlain("a reference where a value is needed")
        return resolve(rest[0])
    if tag in _PAIRED:
        return _PAIRED[tag]((_decode(key, resolve), _decode(value, resolve)) for key, value in rest[0])
    if tag in _LISTED:
        return _LISTED[tag]([_decode(item, resolve) for item in rest[0]])
    if tag == "v":
        return _view(rest[0], [_decode(item, resolve) for item in rest[1]])
    return _SIMPLE[tag](*rest)


def _view(kind: str, items: list[Any]) -> Any:
    if kind == "items":
        return dict(items).items()
    return dict.fromkeys(items).keys() if kind == "keys" else dict(enumerate(items)).values()


def _builtin_type(name: str) -> type:
    kind = getattr(builtins, name, None)
    if type(kind) is not type:
        raise NotPlain(f"{name} is not a type")
    return kind


_LISTED: dict[str, Callable[[list[Any]], Any]] = {
    "l": list,
    "t": tuple,
    "s": set,
    "f": frozenset,
    "it": iter,
    "dq": deque,
}
_PAIRED: dict[str, Callable[[Any], Any]] = {"d": dict, "od": OrderedDict, "cn": lambda pairs: Counter(dict(pairs))}
_SIMPLE: dict[str, Callable[..., Any]] = {
    "i": lambda digits: int(digits, 16),
    "u": lambda letters: "".join(map(chr, letters)),
    "b": bytes.fromhex,
    "ba": bytearray.fromhex,
    "c": complex,
    "r": lambda *parts: range(*(_decode(part, None) for part in parts)),
    "de": Decimal,
    "fr": lambda *parts: Fraction(*(_decode(part, None) for part in parts)),
    "el": lambda: ...,
    "ty": lambda name: _builtin_type(name),
}
