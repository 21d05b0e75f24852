"""The exported tokenizer.json gives the ids and texts of QWenTokenizer: recorded vectors, random strings of every kind,
dialogues. What differs is named here and is nothing else."""

import base64
import json
import random
import unicodedata
from pathlib import Path

from qwen_model import QWenTokenizer
from qwen_model.chatml import make_context
from qwen_model.export.tokenizer import fast_tokenizer, write_tokenizer
from qwen_model.loading import CheckpointError
from tests.qwen_model.export_texts import MARKS, OVERLAY, texts

import pytest
from tokenizers import Tokenizer, normalizers
from transformers import AutoTokenizer, PreTrainedTokenizerFast

NFC = normalizers.NFC()


def same_nfc(text: str) -> bool:
    return NFC.normalize_str(text) == unicodedata.normalize("NFC", text)


#: marks that Unicode got after its version 9, the one that the package `tokenizers` has, and a letter of two of them
LATER_MARKS = {
    mark
    for mark in MARKS
    if not all(same_nfc(f"a{mark}{other}") and same_nfc(f"a{other}{mark}") for other in "\u0338\u0323\u0301\u0345")
}
LATER = (*LATER_MARKS, "\U00011935\U00011930")


@pytest.fixture(scope="module")
def exported(tokenizer, shared, tmp_path_factory) -> Path:
    """The published vocabulary, as a chat model's tokenizer beside a config.json."""
    folder = tmp_path_factory.mktemp("exported")
    write_tokenizer(tokenizer, Path(shared / "data/tokenizer"), folder, chat=True, max_length=8192)
    (folder / "config.json").write_text(json.dumps({"model_type": "qwen2", "vocab_size": 151936}))
    return folder


@pytest.fixture(scope="module")
def fast(exported) -> Tokenizer:
    return Tokenizer.from_file(str(exported / "tokenizer.json"))


def ids_of(fast: Tokenizer, strings: list[str]) -> list[list[int]]:
    return [encoding.ids for encoding in fast.encode_batch(strings)]


def hold_equal(fast: Tokenizer, slow: QWenTokenizer, strings: list[str]) -> None:
    """Ids of texts, and texts of these ids, whole and cut anywhere."""
    wanted = [slow.encode(text) for text in strings]
    different = [text for text, a, b in zip(strings, wanted, ids_of(fast, strings), strict=True) if a != b]
    assert [ascii(text) for text in different if not any(piece in text for piece in LATER)] == []
    assert len(different) <= 0.05 * len(strings)
    assert all(not same_nfc(text) for text in different), "NFC is all that differs"
    drawn = random.Random(0)
    cut = [ids[drawn.randrange(len(ids)) :][: drawn.randrange(1, 9)] for ids in wanted]
    for ids in (wanted, cut):
        assert fast.decode_batch(ids, skip_special_tokens=False) == [slow.decode(row) for row in ids]
        assert fast.decode_batch(ids) == [slow.decode(row, skip_special_tokens=True) for row in ids]


def test_recorded_vectors(shared, fast):
    lines = (shared / "goldens/qwen_oracle/tokenizer.jsonl").read_text().splitlines()
    vectors = [vector for vector in map(json.loads, lines) if vector["category"] != "surrogate"]  # not text for it
    assert len(vectors) > 170
    assert ids_of(fast, [vector["text"] for vector in vectors]) == [vector["ids"] for vector in vectors]
    found = fast.decode_batch([vector["ids"] for vector in vectors], skip_special_tokens=False)
    assert found == [vector["decoded"] for vector in vectors]


def test_random_strings_have_the_same_ids_and_ids_the_same_text(fast, tokenizer):
    hold_equal(fast, tokenizer, texts(4000))


@pytest.mark.heavy
def test_a_hundred_thousand_random_strings(fast, tokenizer):
    hold_equal(fast, tokenizer, texts(100_000, seed=1))


def test_any_ids_decode_alike(fast, tokenizer):
    drawn = random.Random(2)
    rows = [drawn.choices(range(151_936), k=drawn.randrange(1, 12)) for _ in range(5000)]  # rows of no token, too
    assert fast.decode_batch(rows, skip_special_tokens=False) == [tokenizer.decode(row) for row in rows]


def test_only_marks_that_are_newer_than_its_tables_are_ordered_otherwise():
    assert 0 < len(LATER_MARKS) < 250
    assert "\u1df6" in LATER_MARKS, "of Unicode 10"
    assert not {"\u1dfb", "\u08d4", "\u0301"} & LATER_MARKS, "of Unicode 9 and before"


def test_every_special_token_has_its_id(fast, tokenizer):
    assert len(tokenizer.special_tokens) == 208
    for token, number in tokenizer.special_tokens.items():
        assert fast.encode(f"a{token}b").ids == [64, number, 65]
        assert fast.token_to_id(token) == number


def test_nfc_comes_before_special_tokens_are_looked_for(fast, tokenizer):
    for text in (f"<|im_end|>{OVERLAY}", f"x<|extra_7|>{OVERLAY}y"):
        assert fast.encode(text).ids == tokenizer.encode(text)
        assert not set(fast.encode(text).ids) & set(tokenizer.special_tokens.values())


@pytest.mark.parametrize("load", [AutoTokenizer, PreTrainedTokenizerFast])
def test_transformers_loads_it(exported, tokenizer, load):
    loaded = load.from_pretrained(exported)
    assert len(loaded) == 151_851 and loaded.model_max_length == 8192
    assert (loaded.eos_token, loaded.pad_token, loaded.bos_token) == ("<|im_end|>", "<|endoftext|>", None)
    assert set(loaded("a text")) == {"input_ids", "attention_mask"}
    ends = tuple(
        f"{token}{OVERLAY}" for token in ("<|im_end|>", "<|endoftext|>")
    )  # AutoTokenizer finds these before NFC
    strings = [text for text in texts(4000, seed=3) if not any(piece in text for piece in LATER)]
    strings = [text for text in strings if load is PreTrainedTokenizerFast or not any(end in text for end in ends)]
    assert len(strings) > 3000
    rows = loaded(strings)["input_ids"]
    assert rows == [tokenizer.encode(text) for text in strings]
    assert loaded.batch_decode(rows) == tokenizer.batch_decode(rows)
    plain = loaded.encode("<|im_end|>", split_special_tokens=True)
    assert plain == tokenizer.encode("<|im_end|>", allowed_special=set())


DIALOGUES = [
    ("Hello", [], "You are a helpful assistant."),
    ("  spaced out, with an end \n", [("one\ntwo", "\tthree ")], "You answer in  verse.\n"),
    ("求和：1+2", [("你好", "你好！有什么可以帮你？"), ("e\u0301", "é 😀")], "你是一个助手。"),
    ("", [("", "")], "x"),
]


@pytest.mark.parametrize(("query", "history", "system"), DIALOGUES)
def test_the_template_gives_the_ids_of_chatml(exported, tokenizer, query, history, system):
    loaded = AutoTokenizer.from_pretrained(exported)
    roles = ["user", "assistant"] * len(history) + ["user"]
    contents = [text for turn in history for text in turn] + [query]
    turns = [{"role": role, "content": text} for role, text in zip(roles, contents, strict=True)]
    _, wanted = make_context(tokenizer, query, history, system)
    given = [{"role": "system", "content": system}, *turns]
    assert loaded.apply_chat_template(given, add_generation_prompt=True)["input_ids"] == wanted
    _, wanted = make_context(tokenizer, query, history)
    assert loaded.apply_chat_template(turns, add_generation_prompt=True)["input_ids"] == wanted, "its own system turn"


def test_a_base_model_has_no_template(tokenizer, shared, tmp_path):
    write_tokenizer(tokenizer, Path(shared / "data/tokenizer"), tmp_path, chat=False, max_length=2048)
    settings = json.loads((tmp_path / "tokenizer_config.json").read_text())
    assert "chat_template" not in settings and settings["eos_token"] == "<|endoftext|>"


def test_a_tiny_vocabulary(tiny_vocab):
    slow = QWenTokenizer(tiny_vocab)
    hold_equal(fast_tokenizer(slow, tiny_vocab), slow, texts(1000, seed=4))


def write_ranks(path: Path, tokens: dict[bytes, int]) -> Path:
    path.write_bytes(b"".join(base64.b64encode(token) + b" %d\n" % rank for token, rank in tokens.items()))
    return path


def test_vocabularies_that_have_no_place_are_refused(tmp_path):
    letters = {bytes([byte]): byte for byte in range(256)}
    whole = write_ranks(tmp_path / "whole.tiktoken", letters | {b"abc": 256})
    with pytest.raises(CheckpointError, match=r"1 tokens that no merges make \('abc'"):
        fast_tokenizer(QWenTokenizer(whole), whole)
    more = write_ranks(tmp_path / "more.tiktoken", letters | {b"ab": 256 + 208})
    with pytest.raises(CheckpointError, match="tokens above the special ones"):
        fast_tokenizer(QWenTokenizer(more), more)
