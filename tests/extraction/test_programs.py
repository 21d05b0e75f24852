"""The program of a reply, however it is written down: every program in every frame, before every tail; properties."""

import contextlib
import io
import sys

from qwen_eval.extraction.python_source import longest_beginning, statements
from tests.eval.code_replies import BODIES, BODY, ENDLESS, FRAMES, FUNCTION, PROBLEM, PROGRAMS, REPLIES, TAILS, F

import evaluate_humaneval
import evaluate_mbpp
import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

NAMES = {"total"}


class NoInput(io.StringIO):
    def readline(self, *args):
        raise OSError("no input")


def right(program, test="assert total([1, 2], 3) == 6\nassert total([], 0) == 0"):
    """Whether a program of this file, which is harmless, passes. Silent."""
    space, limit = {}, sys.getrecursionlimit()
    with pytest.MonkeyPatch.context() as patch, contextlib.redirect_stdout(io.StringIO()):
        patch.setattr(sys, "stdin", NoInput())
        patch.setattr(sys, "argv", ["x"])
        try:
            exec(compile(program, "<program>", "exec", dont_inherit=True), space)
            exec(test, space)
        except (Exception, SystemExit):
            return False
        finally:
            sys.setrecursionlimit(limit)
    return True


def chat(reply):
    return evaluate_humaneval.program_robust(PROBLEM, reply, chat=True)


def base(reply):
    return evaluate_humaneval.program_robust(PROBLEM, reply, chat=False)


def mbpp(reply):
    return evaluate_mbpp.program_robust(reply, NAMES)


EXTRACTIONS = {"chat": chat, "base": base, "mbpp": mbpp}


@pytest.mark.parametrize("name", PROGRAMS)
def test_the_programs_of_these_tests_are_right(name):
    code = PROGRAMS[name]
    assert right(code), code


# Where a frame cannot hold a program: these lines of it would be another program, or none.
NOT_IN = {
    "code on the fence's line": {"future", "odd text"},
    "code behind the word": {"future", "odd text"},
    "line separators": {"odd text"},
    "quotation marks for fences": {"odd text"},
    "escaped line ends": {"odd text"},
    "two backticks": {"odd text", "fence inside"},
}


@pytest.mark.parametrize("extract", EXTRACTIONS.values(), ids=EXTRACTIONS)
@pytest.mark.parametrize("frame", FRAMES)
def test_every_program_is_found_in_every_frame(frame, extract):
    for name, code in PROGRAMS.items():
        if name not in NOT_IN.get(frame, ()):
            reply = FRAMES[frame](code)
            assert right(extract(reply)), f"{name}\n{reply}\n=====\n{extract(reply)}"


@pytest.mark.parametrize("extract", EXTRACTIONS.values(), ids=EXTRACTIONS)
@pytest.mark.parametrize("tail", [*TAILS, *ENDLESS])
def test_what_follows_a_program_does_it_no_harm(tail, extract):
    for frame in ("nothing but code", "plain", "never closed", "BEGIN"):
        reply = FRAMES[frame](FUNCTION + {**TAILS, **ENDLESS}[tail])
        assert right(extract(reply)), f"{reply}\n=====\n{extract(reply)}"


@pytest.mark.parametrize("tail", [*TAILS, *ENDLESS])
def test_what_follows_a_body_does_it_no_harm(tail):
    reply = BODY + {**TAILS, **ENDLESS}[tail]
    assert right(base(reply)), base(reply)


@pytest.mark.parametrize("body", BODIES)
def test_a_body_alone_goes_on_from_the_prompt(body):
    assert right(base(BODIES[body])), base(BODIES[body])
    if "def total" not in BODIES[body]:  # which is a chat model's program
        assert right(chat(BODIES[body])), chat(BODIES[body])


@pytest.mark.parametrize("extract", EXTRACTIONS.values(), ids=EXTRACTIONS)
@pytest.mark.parametrize("reply", REPLIES)
def test_what_a_function_needs_is_found_wherever_it_stands(reply, extract):
    assert right(extract(REPLIES[reply])), extract(REPLIES[reply])


def test_a_wrong_program_stays_wrong():
    wrong = "def total(values, start):\n    return sum(values)"
    for frame in FRAMES.values():
        for extract in EXTRACTIONS.values():
            assert not right(extract(frame(wrong)))
    for reply in (
        "",
        "I cannot do that.",
        "total",
        "    pass",
        f"{F}python\n{F}",
        "Yes",
        "total = 5",
        "return",
        "\ufeff",
        "\x00",
    ):
        for extract in EXTRACTIONS.values():
            assert not right(extract(reply)), reply


def test_the_prompts_own_helpers_serve_a_reply_that_leaves_them_out_or_writes_a_stub():
    row = {
        "prompt": 'def plus(values):\n    return sum(values)\n\n\ndef total(values, start):\n    """Their sum."""\n',
        "entry_point": "total",
    }
    whole = "def total(values, start):\n    return plus(values) + start"
    for reply in (
        whole,
        f"{F}\n{whole}\n{F}",
        f"def plus(values):\n    ...\n\n{whole}",
        "    return plus(values) + start",
    ):
        assert right(evaluate_humaneval.program_robust(row, reply, chat=True)), reply


def test_only_what_is_needed_is_kept():
    reply = (
        f"{F}\nimport os, sys\nimport numpy as np\nX, Y = 1, 2\nx = int(input())\n\ndef plus(v):\n    return sum(v)\n\n"
        "def minus(v):\n    return X\n\ndef total(v, s):\n    x = s\n    return plus(v) + x\n\n"
        f"print(total([], Y))\n{F}"
    )
    assert mbpp(reply) == "def plus(v):\n    return sum(v)\ndef total(v, s):\n    x = s\n    return plus(v) + x\n"


def test_a_setting_is_kept_only_where_its_module_is_certain_to_be_there():
    function = "def total(v, s):\n    return sum(v) + s\n"
    reply = f"import random\nimport missing\nmissing.set_seed(1)\nrandom.seed(3)\n\n{function}"
    assert mbpp(reply) == f"import random\nrandom.seed(3)\n{function}"
    used = function.replace("sum", "missing.sum")
    assert "missing.set_seed" in mbpp(reply.replace(function, used))


@pytest.mark.parametrize(
    ("text", "kept"),
    [
        ("x = 1\nThis sets x.", "x = 1"),
        ("x = 1\n\n\ny = (2,\n", "x = 1\n\n"),
        ("def f():\n    return 1\n  return 2\nz", "def f():\n    return 1"),
        ("no program", ""),
        ("x = f'{1 +}'", ""),
        ("x = 1\ny = f'{1 +}'\n", "x = 1"),
        ("x = '\x00'", ""),
        ("", ""),
    ],
)
def test_the_longest_beginning_that_is_a_program(text, kept):
    assert longest_beginning(text) == kept


def test_statements_that_no_module_may_have_are_left_out():
    chunk = statements("x = 1\nreturn x\nawait x\nnonlocal x\nfrom __future__ import nothing\nbreak\ny = 2\n")
    assert [statement.text for statement in chunk] == ["x = 1", "y = 2"]


@pytest.mark.timeout(60)
def test_long_replies_without_a_program_cost_little():
    lines = [
        "This isn't (code, so",
        "word",
        "def f(",
        F,
        '"""',
        "total",
        "total(",
        "> 1. x = [",
        "    total = '''",
        ">>> (",
    ]
    for line in lines:
        for extract in EXTRACTIONS.values():
            extract("total?\n" + f"{line}\n" * 300)


# -- properties --------------------------------------------------------------------------------------------------------

code = st.sampled_from(sorted(PROGRAMS)).map(PROGRAMS.get)
tail = st.lists(st.sampled_from(sorted(TAILS)).map(TAILS.get), max_size=2).map("".join)
wrong = st.sampled_from(["def total(values, start):\n    return 0", "total = None", "def other():\n    return 1"])
PROSE = st.sampled_from(
    ["", "Sure!\n\n", "Here's how.\n\nIt adds.\n\n", "def-inition:\n", "> a quote\n\n", "* a `total`\n"]
)


@st.composite
def replies(draw):
    """Prose, a program or body in a frame, a tail inside or behind it, perhaps another program."""
    text = draw(code | code | wrong | st.sampled_from(sorted(BODIES)).map(BODIES.get)) + draw(tail)
    reply = draw(PROSE) + FRAMES[draw(st.sampled_from(sorted(FRAMES)))](text)
    return reply + draw(st.sampled_from(["", "\n", "\n\n" + F + "\ndef total(v, s):\n    return 0\n" + F]) | tail)


INNER_FUNCTION_BEHIND_PROSE = (
    "def-inition:\n    def plus(a, b):\n        return a + b\n\n"
    "    for v in values:\n        start = plus(v, start)\n\n    return start\n```\nThis is all that's needed."
)


@settings(max_examples=150)
@given(replies())
@example(INNER_FUNCTION_BEHIND_PROSE)
def test_what_is_right_by_the_protocol_is_right_by_the_robust_program(reply):
    """By its own program, not only by the rule that a reply right by the protocol is right."""
    prompt = PROBLEM["prompt"]
    for is_chat, extract in ((True, chat), (False, base)):
        if right(prompt + evaluate_humaneval.completion_protocol(PROBLEM, reply, is_chat)):
            assert right(extract(reply)), extract(reply)
    if right(evaluate_mbpp.cut(reply)):
        assert right(mbpp(reply)), mbpp(reply)


@settings(max_examples=30)
@given(replies() | st.text("ab \n\t`~>#:()'\"", max_size=40))
def test_line_ends_a_byte_order_mark_and_a_newline_at_the_end_change_nothing(reply):
    for extract in EXTRACTIONS.values():
        plain = extract(reply)
        assert extract(reply.replace("\n", "\r\n")) == plain
        assert extract(reply.replace("\n", "\r")) == plain
        assert extract("\ufeff" + reply) == plain
        assert extract(reply + "\n") == plain


@settings(max_examples=30)
@given(
    code, st.lists(PROSE, min_size=3, max_size=12), st.sampled_from(["plain", "tildes", "never closed", "in a list"])
)
def test_a_reply_is_read_to_its_end(code, prose, frame):
    for extract in EXTRACTIONS.values():
        assert right(extract("\n\n".join(prose) + "\n\n" + FRAMES[frame](code)))
