"""The clean-up that every extraction begins with."""

import pytest

from harness.replies import plain_lines


@pytest.mark.parametrize(
    "given", ["a\n\nb\n", "a\r\n\r\nb\r\n", "a\r\rb\r", "\ufeffa\n\nb\n", "\ufeff\u200ba\r\r\n\r\r\nb\n"]
)
def test_line_ends_and_byte_order_marks_do_not_matter(given):
    assert plain_lines(given) == "a\n\nb\n"


@pytest.mark.parametrize("text", ["", "x\u2028y\x0cz", "a\ufeffb", " \ta", "ｆｕｌｌ　ｗｉｄｔｈ"])
def test_the_rest_stays_as_it_is(text):
    assert plain_lines(text) == text
