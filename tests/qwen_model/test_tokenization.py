"""QWenTokenizer: the recorded vectors, the options, files, pickling, and speed of the direct path."""

import base64
import copy
import hashlib
import json
import pickle
import time

from qwen_model import QWenTokenizer
from qwen_model.vocabulary import SPECIAL_TOKENS

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st


def test_recorded_encodings(shared, tokenizer):
    lines = (shared / "goldens/qwen_oracle/tokenizer.jsonl").read_text().splitlines()
    assert len(lines) > 100
    for line in lines:
        row = json.loads(line)
        text = row["text"]
        assert tokenizer.encode(text) == row["ids"], row["id"]
        assert tokenizer(text)["input_ids"] == row["ids"]
        assert tokenizer.encode(text, allowed_special=set()) == row["ids_no_special"]
        assert tokenizer(text, allowed_special=())["input_ids"] == row["ids_no_special"]
        assert tokenizer(text, split_special_tokens=True)["input_ids"] == row["ids_no_special"]
        assert tokenizer.encode_plain(text) == row["ids_raw_tiktoken_no_special"]
        assert tokenizer.decode(row["ids"]) == row["decoded"]
        assert tokenizer.convert_tokens_to_ids(tokenizer.tokenize(text)) == row["ids"]
        if row["raw_tiktoken_default_raises"]:
            with pytest.raises(ValueError):
                tokenizer.tokenizer.encode(text)
        else:
            assert tokenizer.tokenizer.encode(text) == row["ids_raw_tiktoken_no_special"]


def test_recorded_decodings(shared, tokenizer):
    recorded = json.loads((shared / "goldens/qwen_oracle/decode.json").read_text())
    for row in recorded["decode"]:
        assert tokenizer.decode(row["ids"], **row["kwargs"]) == row["text"]
    for index, exception in recorded["out_of_range"]:
        with pytest.raises({"KeyError": KeyError, "OverflowError": OverflowError}[exception]):
            tokenizer.decode([index], unknown_ids="raise")
    for index, token in recorded["id_to_token"]:
        expected = token if isinstance(token, str) else bytes.fromhex(token["bytes_hex"])
        assert tokenizer.convert_ids_to_tokens(index) == expected
        assert tokenizer.convert_tokens_to_ids(expected) == index
    assert tokenizer.vocab_size == len(tokenizer) == recorded["vocab_size"]
    assert [tokenizer.eod_id, tokenizer.im_start_id, tokenizer.im_end_id] == [
        recorded[name] for name in ("eod_id", "im_start_id", "im_end_id")
    ]
    # The published tokenizer leaves eos and pad unset too; ours names <|endoftext|>, which changes no encoding.
    for name, value in {**recorded["defaults"], "eos_token": "<|endoftext|>", "pad_token": "<|endoftext|>"}.items():
        assert getattr(tokenizer, name) == value


def test_ids_without_a_token_do_not_stop_decoding(tokenizer):
    hello = tokenizer.encode("hello")
    assert tokenizer.decode([*hello, 151851, 151935, *hello]) == "hellohello"
    assert tokenizer.decode([*hello, 151935], skip_special_tokens=True) == "hello"
    with pytest.raises(KeyError):
        tokenizer.convert_ids_to_tokens([151851])
    with pytest.raises(OverflowError):
        tokenizer.decode([-1])


def test_recorded_batch(shared, tokenizer):
    recorded = json.loads((shared / "goldens/qwen_oracle/chatml.json").read_text())["batch_padding"]
    batch = copy.deepcopy(tokenizer)
    batch.pad_token, batch.eos_token, batch.padding_side = "<|extra_0|>", "<|endoftext|>", "left"
    assert (batch.pad_token_id, batch.eos_token_id) == (recorded["pad_token_id"], recorded["eos_token_id"])
    out = batch(recorded["texts"], padding=True, return_tensors="pt")
    assert out["input_ids"].tolist() == recorded["input_ids"]
    assert out["attention_mask"].tolist() == recorded["attention_mask"]
    assert out["token_type_ids"].sum() == 0


def test_special_ids_follow_the_ranks_of_a_tiny_vocabulary(tiny_tokenizer):
    assert tiny_tokenizer.convert_tokens_to_ids(list(SPECIAL_TOKENS)) == list(range(500, 500 + 208))
    assert len(tiny_tokenizer) == 708
    assert tiny_tokenizer.encode("<|im_start|>") == [501]
    assert tiny_tokenizer.decode(tiny_tokenizer.encode("the <|im_end|> é 猫")) == "the <|im_end|> é 猫"


@settings(max_examples=60)
@given(st.text(max_size=60))
def test_round_trip_of_any_text(tiny_tokenizer, text):
    import unicodedata

    readable = text.encode("utf-16", "surrogatepass").decode("utf-16", "replace")
    assert tiny_tokenizer.decode(tiny_tokenizer.encode_plain(readable)) == readable
    nfc = unicodedata.normalize("NFC", readable)
    assert tiny_tokenizer.decode(tiny_tokenizer.encode(readable)) == nfc


def test_allowed_and_disallowed_special(tiny_tokenizer):
    text = "<|im_start|>a<|im_end|>"
    assert tiny_tokenizer.encode(text)[0] == tiny_tokenizer.im_start_id
    some = tiny_tokenizer.encode(text, allowed_special={"<|im_end|>"})
    assert some[-1] == tiny_tokenizer.im_end_id and some[0] != tiny_tokenizer.im_start_id
    with pytest.raises(ValueError):
        tiny_tokenizer.encode(text, allowed_special=set(), disallowed_special="all")
    with pytest.raises(ValueError):
        tiny_tokenizer([text], allowed_special=set(), disallowed_special=["<|im_end|>"])


def test_batches(tiny_tokenizer):
    tokenizer = copy.deepcopy(tiny_tokenizer)
    texts = ["th", "", "the hat"]
    assert tokenizer(texts)["input_ids"] == [tokenizer.encode(text) for text in texts]
    assert tokenizer([])["input_ids"] == []
    ended = tokenizer(texts, padding=True)
    assert ended["input_ids"][1] == [tokenizer.eod_id] * len(ended["input_ids"][1]) and not any(
        ended["attention_mask"][1]
    )
    tokenizer.pad_token = "<|extra_0|>"
    longest = len(tokenizer.encode("the hat"))
    for side in ("left", "right"):
        out = tokenizer(texts, padding=True, padding_side=side)
        for text, row, mask in zip(texts, out["input_ids"], out["attention_mask"], strict=True):
            assert len(row) == longest
            assert [i for i, m in zip(row, mask, strict=True) if m] == tokenizer.encode(text)
            real = len(tokenizer.encode(text))
            assert mask == (
                [0] * (longest - real) + [1] * real if side == "left" else [1] * real + [0] * (longest - real)
            )
    tokenizer.truncation_side = "left"
    cut = tokenizer(texts, truncation=True, max_length=2, padding="max_length")
    assert cut["input_ids"][2] == tokenizer.encode("the hat")[-2:] and len(cut["input_ids"][1]) == 2
    pair = tokenizer("th", "e")
    assert pair["input_ids"] == tokenizer.encode("th") + tokenizer.encode("e") and set(pair["token_type_ids"]) == {0, 1}
    assert tokenizer([[1, 2], [3]], padding=True)["attention_mask"] == [[1, 1], [1, 0]]
    assert tokenizer("th", return_tensors="pt")["input_ids"].shape[0] == 1
    assert tokenizer.batch_decode(tokenizer(texts)["input_ids"]) == texts
    assert tokenizer.encode("the", truncation=True, max_length=1) == tokenizer.encode("the")[-1:]


def test_only_known_special_tokens_may_be_set(tiny_vocab):
    tokenizer = QWenTokenizer(tiny_vocab, pad_token="<|extra_0|>")
    assert tokenizer.pad_token_id == 503
    tokenizer.eos_token_id = 500
    assert tokenizer.eos_token == "<|endoftext|>"
    for change in (
        lambda: setattr(tokenizer, "pad_token", "[PAD]"),
        lambda: tokenizer.add_special_tokens({"pad_token": "[PAD]"}),
        lambda: tokenizer.add_tokens(["new"]),
        lambda: QWenTokenizer(tiny_vocab, eos_token="</s>"),
    ):
        with pytest.raises(ValueError, match="is not a special token"):
            change()
    assert len(tokenizer) == 708


def test_extra_vocab_file(tiny_vocab, tmp_path):
    extra = tmp_path / "extra.tiktoken"
    entries = [(b"the", 708), (b"th", 709), (b"hat", 500), (b"tho", 3), (b"qqq", 710)]
    extra.write_bytes(b"".join(base64.b64encode(t) + b" %d\n" % i for t, i in entries))
    tokenizer = QWenTokenizer(tiny_vocab, extra_vocab_file=extra)
    assert tokenizer.convert_tokens_to_ids([b"the", b"hat", b"tho"]) == [708, None, None]
    assert tokenizer.convert_ids_to_tokens(710) == b"qqq" and len(tokenizer) == 711
    assert tokenizer.eod_id == 500
    tokenizer.save_pretrained(tmp_path / "saved")
    again = QWenTokenizer.from_pretrained(tmp_path / "saved")
    assert again.get_vocab() == tokenizer.get_vocab() and again.eod_id == 500


def test_save_load_pickle(tiny_vocab, tmp_path):
    tokenizer = QWenTokenizer(tiny_vocab, errors="ignore", pad_token="<|extra_0|>", padding_side="left")
    tokenizer.save_pretrained(tmp_path)
    text = "the <|im_end|> cat é"
    for again in (
        QWenTokenizer.from_pretrained(tmp_path),
        pickle.loads(pickle.dumps(tokenizer)),
        copy.deepcopy(tokenizer),
    ):
        assert again.encode(text) == tokenizer.encode(text)
        assert (again.errors, again.pad_token, again.padding_side) == ("ignore", "<|extra_0|>", "left")
        assert again.decode([0xC3]) == ""
    assert (tmp_path / "qwen.tiktoken").read_bytes() == tiny_vocab.read_bytes()


def test_the_published_file_is_saved_byte_for_byte(tokenizer, tmp_path):
    (path,) = tokenizer.save_vocabulary(str(tmp_path))
    with open(path, "rb") as file:
        digest = hashlib.sha256(file.read()).hexdigest()
    assert digest == "b2b1b8dfb5cc5f024bafc373121c6aba3f66f9a5a0269e243470a1de16a33186"


@pytest.mark.parametrize("content", [b"", b"not base64 at all\n", b"YQ== one\n", b"YQ==\n"])
def test_malformed_vocabulary(tmp_path, content):
    path = tmp_path / "qwen.tiktoken"
    path.write_bytes(content)
    with pytest.raises(ValueError, match=r"qwen\.tiktoken"):
        QWenTokenizer(path)


def test_encoding_does_not_take_the_slow_path(tokenizer):
    text = "The quick brown fox jumps over the lazy dog; 据说 12345 times.\n" * 4000
    for encode in (tokenizer.encode, lambda t: tokenizer([t])):
        start = time.process_time()
        encode(text)
        # Generous: some 10 MB/s on an idle core, 0.1 through the base class's conversion.
        assert len(text.encode()) / (time.process_time() - start) > 1e6


# ---- what programs that know nothing of Qwen ask of a tokenizer


def test_every_token_is_in_the_vocabulary_by_the_name_that_its_id_has(tiny_tokenizer):
    vocabulary = tiny_tokenizer.get_vocab()
    assert len(vocabulary) == len(tiny_tokenizer)
    for token, index in vocabulary.items():
        assert tiny_tokenizer.convert_ids_to_tokens(index) == tiny_tokenizer._convert_id_to_token(index) == token
        assert tiny_tokenizer.convert_tokens_to_ids(token) == tiny_tokenizer._convert_token_to_id(token) == index


def test_end_and_padding_are_known_and_change_no_encoding(tiny_vocab):
    tokenizer = QWenTokenizer(tiny_vocab)
    assert (tokenizer.eos_token_id, tokenizer.pad_token_id) == (tokenizer.eod_id, tokenizer.eod_id)
    unset = QWenTokenizer(tiny_vocab)
    unset.eos_token = unset.pad_token = None
    for text in ("the hat", "", "a<|endoftext|>b", " <|im_start|>user\n"):
        for options in ({}, {"add_special_tokens": True}, {"add_special_tokens": False}):
            assert tokenizer(text, **options)["input_ids"] == unset(text, **options)["input_ids"]
        assert tokenizer.encode(text) == unset.encode(text)


def test_offsets_are_refused_and_not_left_out(tiny_tokenizer):
    for texts in ("the hat", ["the", "hat"]):
        with pytest.raises(NotImplementedError, match="offsets"):
            tiny_tokenizer(texts, return_offsets_mapping=True)


@pytest.mark.parametrize("system", [None, "Be brief.", ""])
def test_the_chat_template_writes_the_published_chatml(tiny_tokenizer, system):
    from qwen_model.chatml import DEFAULT_SYSTEM, make_context

    history = [("the hat?", "that"), ("at 的\n  the", "the\nhat")]
    messages = [] if system is None else [{"role": "system", "content": system}]
    for query, reply in history:
        messages += [{"role": "user", "content": query}, {"role": "assistant", "content": reply}]
    messages.append({"role": "user", "content": "猫 the"})
    text, ids = make_context(tiny_tokenizer, "猫 the", history, DEFAULT_SYSTEM if system is None else system)
    assert tiny_tokenizer.apply_chat_template(messages, tokenize=False, add_generation_prompt=True) == text
    asked = tiny_tokenizer.apply_chat_template(messages, add_generation_prompt=True, return_dict=True)
    assert asked["input_ids"] == ids


def test_a_chat_that_goes_on_keeps_its_beginning(tiny_tokenizer):
    messages = [{"role": "user", "content": "the"}, {"role": "assistant", "content": "hat"}]
    asked, answered = (
        tiny_tokenizer.apply_chat_template(messages[:n], tokenize=False, add_generation_prompt=n == 1) for n in (1, 2)
    )
    assert answered.startswith(asked) and answered == f"{asked}hat<|im_end|>\n"


def test_a_template_of_the_checkpoint_is_kept(tiny_vocab, tmp_path):
    own = "{{ messages[0]['content'] }}"
    tokenizer = QWenTokenizer(tiny_vocab, chat_template=own)
    tokenizer.save_pretrained(tmp_path)
    again = QWenTokenizer.from_pretrained(tmp_path)
    assert again.apply_chat_template([{"role": "user", "content": "the"}], tokenize=False) == "the"
