"""Values as plain data: every plain value comes back equal and of the same type, nothing else comes back at all."""

import json
import math
from collections import Counter, OrderedDict, defaultdict, deque, namedtuple
from decimal import Decimal
from enum import IntEnum
from fractions import Fraction

from qwen_eval.sandbox.guest.codec import MAX_DEPTH, NotPlain, decode, encode

import pytest
from hypothesis import given
from hypothesis import strategies as st

HASHABLE = st.one_of(
    st.none(),
    st.booleans(),
    st.integers(),
    st.floats(allow_nan=False),
    st.text(),
    st.binary(),
    st.fractions(),
    st.complex_numbers(allow_nan=False),
)
VALUES = st.recursive(
    HASHABLE,
    lambda inner: st.one_of(
        st.lists(inner),
        st.tuples(inner, inner),
        st.dictionaries(HASHABLE, inner),
        st.sets(HASHABLE),
        st.frozensets(HASHABLE),
    ),
    max_leaves=20,
)


def there_and_back(value):
    return decode(json.loads(json.dumps(encode(value))))


def same(left, right):
    """Equal, and of the same types all the way down."""
    if type(left) is not type(right) or left != right:
        return False
    if isinstance(left, dict):
        return all(same(a, b) for a, b in zip(left.items(), right.items(), strict=True))
    if isinstance(left, list | tuple):
        return all(same(a, b) for a, b in zip(left, right, strict=True))
    return math.copysign(1, left) == math.copysign(1, right) if isinstance(left, float) else True


@given(VALUES)
def test_plain_values_come_back(value):
    assert same(there_and_back(value), value)


@given(st.lists(st.integers(min_value=0, max_value=0x10FFFF).map(chr)).map("".join))
def test_any_text_comes_back_lone_surrogates_too(text):
    assert there_and_back(text) == text


@pytest.mark.parametrize(
    "value",
    [
        1 << 64,
        -(1 << 9000),
        float("inf"),
        -0.0,
        b"\xff",
        bytearray(b"x"),
        1j,
        range(3, 9, 2),
        ...,
        Decimal("1.10"),
        Fraction(1, 3),
        Counter("abca"),
        OrderedDict([("b", 1), ("a", 2)]),
        deque([1, 2]),
        int,
        "\ud83d\ude00",
        "\ud83d" + "\ude00",
        {1: [(2, {3})]},
    ],
    ids=lambda value: type(value).__name__,
)
def test_special_values_come_back(value):
    found = there_and_back(value)
    assert type(found) is type(value) and found == value


def test_nan_comes_back_as_nan():
    assert math.isnan(there_and_back(float("nan")))


def test_views_and_iterators_keep_their_nature():
    assert there_and_back({"a": 1}.keys()) == {"a"} and there_and_back({"a": 1}.items()) == {("a", 1)}
    assert list(there_and_back({"a": 1}.values())) == [1]
    for made in (iter([1, 2]), (x for x in (1, 2)), map(int, "12"), filter(None, [1, 2])):
        found = there_and_back(made)
        assert found != [1, 2] and list(found) == [1, 2]


class Colour(IntEnum):
    RED = 6


Point = namedtuple("Point", "x y")


class Liar(list):
    def __iter__(self):
        return iter([42])

    def __len__(self):
        return 1

    def __eq__(self, other):
        return True

    def __getitem__(self, index):
        return 42


class LyingInt(int):
    def __index__(self):
        return 42

    __int__ = __index__

    def __eq__(self, other):
        return True

    __hash__ = int.__hash__


@pytest.mark.parametrize(
    ("value", "plain"),
    [
        (Colour.RED, 6),
        (Point(1, 2), (1, 2)),
        (Liar([1, 2]), [1, 2]),
        (LyingInt(7), 7),
        (defaultdict(int, a=1), {"a": 1}),
        (type("T", (str,), {"__str__": lambda s: "no"})("x"), "x"),
        (type("D", (dict,), {"items": lambda s: []})(a=1), {"a": 1}),
        (type("F", (float,), {"__float__": lambda s: 9.0})(1.5), 1.5),
        (type("S", (set,), {"__iter__": lambda s: iter(())})({1}), {1}),
    ],
)
def test_a_subclass_is_read_as_its_base_and_has_no_say(value, plain):
    found = there_and_back(value)
    assert type(found) is type(plain) and found == plain


def test_what_is_not_plain_is_a_reference_or_refused():
    class Any:
        def __eq__(self, other):
            return True

    with pytest.raises(NotPlain, match="Any cannot be sent"):
        encode(Any())
    held = []
    form = encode([Any(), 1], lambda value: held.append(value) or ["ref", 0])
    assert form == ["l", [["ref", 0], 1]] and len(held) == 1
    assert decode(form, lambda number: ("held", number)) == [("held", 0), 1]


def test_limits():
    deep = []
    for _ in range(MAX_DEPTH + 2):
        deep = [deep]
    with pytest.raises(NotPlain, match="nested"):
        encode(deep)
    endless = iter(int, 1)
    with pytest.raises(NotPlain):
        encode(x for x in endless)


JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=3),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(max_size=2), inner, max_size=2),
)
TAGS = st.sampled_from(
    ["l", "t", "d", "s", "f", "b", "ba", "c", "r", "cn", "od", "dq", "de", "fr", "el", "i", "u", "v", "it", "ty", "ref"]
)


@given(st.lists(JSON, max_size=3).flatmap(lambda rest: TAGS.map(lambda tag: [tag, *rest])) | JSON)
def test_a_malformed_form_is_refused_and_never_anything_else(form):
    try:
        value = decode(form, lambda number: number)
    except NotPlain:
        return
    assert type(value).__module__ in ("builtins", "collections", "decimal", "fractions")


@pytest.mark.parametrize(
    "form",
    [
        ["ty", ""],
        ["ty", "no_such_type"],
        ["ty", "exec"],
        ["ty", "print"],
        ["ty", "__import__"],
        ["nope"],
        [],
        ["i", 3],
        {"a": 1},
    ],
)
def test_no_form_names_code(form):
    with pytest.raises(NotPlain):
        decode(form)
