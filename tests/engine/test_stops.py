"""Stop strings: found wherever tokens or characters end, the first one that is complete, never part of the text."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any, NamedTuple

from qwen_eval.engines.local.stops import StopChecker, earliest
from qwen_eval.errors import UserError
from qwen_model import QWenTokenizer
from qwen_model.loading import load_tokenizer

import numpy as np
import pytest


@pytest.fixture(scope="module")
def tokenizer(demo_checkpoint: Path) -> QWenTokenizer:
    return load_tokenizer(demo_checkpoint)


def byte_by_byte(tokenizer: QWenTokenizer, text: str) -> list[int]:
    """The worst a model can do: every byte a token of its own."""
    return [tokenizer.mergeable_ranks[bytes([byte])] for byte in text.encode()]


def decoded(tokenizer: QWenTokenizer, tokens: Sequence[int]) -> str:
    return str(tokenizer.decode(list(tokens)))


class Said(NamedTuple):
    text: str
    tokens: int
    stopped: bool


def say(tokenizer: Any, tokens: Sequence[int], stops: Sequence[str]) -> Said:
    """Give the tokens one by one, as decoding does."""
    watch, said = StopChecker(tokenizer, stops), []
    for token in tokens:
        said.append(token)
        if watch.ended(said):
            return Said(watch.reply(said), len(said), True)
    return Said(watch.reply(said), len(said), False)


CASES: list[tuple[str, list[str], str]] = [
    ("3 + 4 = 7\n\nQuestion: next", ["\n\n"], "3 + 4 = 7"),
    ("3 + 4 = 7\nQuestion: next", ["\n\n", "Question:"], "3 + 4 = 7\n"),
    ("答案是B。\n解释：因为", ["。\n"], "答案是B"),
    ("一，二，三。四", ["。"], "一，二，三"),
    ("问题：甲\n问题：乙", ["\n问题："], "问题：甲"),
    ("emoji 👩‍👩‍👧 then 👍🏽 more", ["👍🏽"], "emoji 👩‍👩‍👧 then "),
    ("👩‍👩‍👧", ["\u200d"], "👩"),  # the joiner in the middle of a family
    ("stop at once", ["stop"], ""),
    ("aaab", ["ab"], "aa"),
    ("a\n\n\nb", ["\n\n", "\n\n\n"], "a"),
    ("a\n\nQ: b", ["\n\nQ:", "Q:"], "a"),
    ("ababac", ["abac"], "ab"),
    ("nothing of it", ["never"], "nothing of it"),
    ("no stops", [], "no stops"),
    ("end<|im_end|>", ["<|im_end|>"], "end"),
    ("ends with half a sto", ["stop"], "ends with half a sto"),
]


@pytest.mark.parametrize(("text", "stops", "kept"), CASES)
def test_the_text_in_front_of_the_stop(tokenizer: QWenTokenizer, text: str, stops: list[str], kept: str) -> None:
    for tokens in (tokenizer.encode_plain(text), byte_by_byte(tokenizer, text)):
        said = say(tokenizer, tokens, stops)
        assert said.text == kept
        assert said.stopped == (kept != text)
        whole = decoded(tokenizer, tokens[: said.tokens])
        assert not said.stopped or earliest(decoded(tokenizer, tokens[: said.tokens - 1]), stops) is None, "at once"
        assert whole.startswith(kept)


def test_at_the_first_token_that_completes_a_stop_wherever_it_is_cut(tokenizer: QWenTokenizer) -> None:
    """Random texts over few characters, cut into tokens at random byte places, with up to three stops."""
    rng = np.random.default_rng(0)
    alphabet = list("ab\n。问👍 ")
    for _ in range(150):
        text = "".join(rng.choice(alphabet, int(rng.integers(1, 60))))
        stops = ["".join(rng.choice(alphabet, int(rng.integers(1, 6)))) for _ in range(int(rng.integers(1, 4)))]
        tokens: list[int] = []
        rest = text
        while rest:  # a stretch as the tokenizer has it, a stretch in single bytes, and so on
            size = int(rng.integers(1, 12))
            tokens += (tokenizer.encode_plain, lambda part: byte_by_byte(tokenizer, part))[int(rng.integers(2))](
                rest[:size]
            )
            rest = rest[size:]
        ends = [n for n in range(1, len(tokens) + 1) if earliest(decoded(tokenizer, tokens[:n]), stops) is not None]
        said = say(tokenizer, tokens, stops)
        assert said.stopped == bool(ends)
        assert said.tokens == (ends[0] if ends else len(tokens))
        assert not any(stop in said.text for stop in stops)
        assert text.startswith(said.text)


def test_a_stop_as_long_as_the_reply_and_one_far_behind(tokenizer: QWenTokenizer) -> None:
    long = "多字节的长停止串 with a lot of words in it, 而且很长。" * 6
    for tokens in (tokenizer.encode_plain(long), byte_by_byte(tokenizer, long)):
        assert say(tokenizer, tokens, [long]) == Said("", len(tokens), True)
        behind = byte_by_byte(tokenizer, "x" * 300) + tokens
        assert say(tokenizer, behind, [long]).text == "x" * 300


def test_half_a_character_is_no_stop(tokenizer: QWenTokenizer) -> None:
    """`。` is three bytes: two of them are not it, and neither is another character with the same first two."""
    assert "。".encode()[:2] == "、".encode()[:2]
    assert not say(tokenizer, byte_by_byte(tokenizer, "一、二")[:-1], ["。"]).stopped
    assert say(tokenizer, byte_by_byte(tokenizer, "一、二。三"), ["。"]).text == "一、二"


def test_special_tokens_show_in_the_text_as_in_the_published_scripts(tokenizer: QWenTokenizer) -> None:
    tokens = [*tokenizer.encode_plain("a"), tokenizer.im_start_id, *tokenizer.encode_plain("b")]
    assert say(tokenizer, tokens, []).text == "a<|im_start|>b"
    assert say(tokenizer, tokens, ["<|im_start|>"]).text == "a"


@pytest.mark.parametrize("stops", [[""], ["\n\n", ""]])
def test_an_empty_stop_is_refused(tokenizer: QWenTokenizer, stops: list[str]) -> None:
    with pytest.raises(UserError, match="a stop string is empty"):
        StopChecker(tokenizer, stops)


def test_only_the_last_tokens_are_looked_at(tokenizer: QWenTokenizer) -> None:
    """Long replies: the cost of a step does not grow with what was said."""
    watch, sizes = StopChecker(tokenizer, ["\n\n", "Question:"]), []
    real = tokenizer.decode

    class Counting:
        def decode(self, ids: Sequence[int], **options: Any) -> str:
            sizes.append(len(ids))
            return str(real(list(ids), **options))

    watch.tokenizer = Counting()
    tokens = byte_by_byte(tokenizer, "word " * 200)
    for count in range(1, len(tokens)):
        assert not watch.ended(tokens[:count])
    assert max(sizes) < 40


def test_all_of_it_with_the_published_vocabulary(shared) -> None:
    published = QWenTokenizer(shared / "data/tokenizer/qwen.tiktoken")
    for text, stops, kept in CASES:
        test_the_text_in_front_of_the_stop(published, text, stops, kept)
    test_at_the_first_token_that_completes_a_stop_wherever_it_is_cut(published)
    test_a_stop_as_long_as_the_reply_and_one_far_behind(published)
    test_half_a_character_is_no_stop(published)
    test_special_tokens_show_in_the_text_as_in_the_published_scripts(published)
    test_only_the_last_tokens_are_looked_at(published)
