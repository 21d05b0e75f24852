"""`model.chat` and `model.chat_stream`, by their published signature."""

import functools
import itertools
import threading
from typing import Any

from qwen_model import QWenLMHeadModel
from qwen_model.chatml import make_context

import pytest
import torch
from transformers import GenerationConfig


@pytest.fixture
def chat_model(build, tiny_tokenizer) -> QWenLMHeadModel:
    model = build(vocab_size=len(tiny_tokenizer))
    model.generation_config = GenerationConfig(
        chat_format="chatml",
        max_window_size=6144,
        max_new_tokens=12,
        do_sample=False,
        eos_token_id=tiny_tokenizer.eod_id,
        pad_token_id=tiny_tokenizer.eod_id,
    )
    return model


def say(model: QWenLMHeadModel, reply: list[int]) -> list[list[int]]:
    """Let the model answer with these ids, whatever its weights; returns the prompts that it gets."""
    seen: list[list[int]] = []
    forward = model.forward

    def scripted(input_ids: Any = None, **kwargs: Any) -> Any:
        out = forward(input_ids=input_ids, **kwargs)
        if input_ids.shape[1] > 1:
            seen.append(input_ids[0].tolist())
            scripted.step = 0  # type: ignore[attr-defined]
        out.logits[:] = 0.0
        out.logits[:, -1, reply[min(scripted.step, len(reply) - 1)]] = 50.0  # type: ignore[attr-defined]
        scripted.step += 1  # type: ignore[attr-defined]
        return out

    model.forward = functools.wraps(type(model).forward)(scripted)  # type: ignore[method-assign]
    return seen


def test_chat_returns_the_reply_and_a_longer_history(chat_model, tiny_tokenizer):
    reply = [*tiny_tokenizer.encode(" the rain "), tiny_tokenizer.im_end_id]
    seen = say(chat_model, reply)
    response, history = chat_model.chat(tiny_tokenizer, "hello", history=None)
    assert response == "the rain" and history == [("hello", "the rain")]
    given = list(history)
    second, longer = chat_model.chat(tiny_tokenizer, "again", history=history, system="Be short.")
    assert history == given and longer == [*given, ("again", second)]
    _, prompt = make_context(tiny_tokenizer, "again", given, "Be short.")
    assert seen[1] == prompt


def test_chat_stream_yields_growing_texts_that_end_in_the_reply(chat_model, tiny_tokenizer):
    say(chat_model, [*tiny_tokenizer.encode("the rain"), tiny_tokenizer.im_end_id])
    response, _ = chat_model.chat(tiny_tokenizer, "hello", None)
    texts = list(chat_model.chat_stream(tiny_tokenizer, "hello", None))
    assert texts[-1] == response == "the rain" and len(texts) > 3
    assert all(later.startswith(earlier) for earlier, later in itertools.pairwise(texts))


def test_a_stream_that_is_left_ends_its_thread(chat_model, tiny_tokenizer):
    say(chat_model, tiny_tokenizer.encode("a"))
    stream = chat_model.chat_stream(tiny_tokenizer, "hello", None, max_new_tokens=10_000)
    assert next(stream) == "a"
    assert _streaming()
    stream.close()
    assert not _streaming()


def _streaming() -> list[threading.Thread]:
    """The threads that generate for a stream; other libraries start threads of their own."""
    return [thread for thread in threading.enumerate() if "(fill)" in thread.name]


def test_an_error_while_streaming_reaches_the_caller(chat_model, tiny_tokenizer):
    with pytest.raises(ValueError, match="atention_mask"):
        list(chat_model.chat_stream(tiny_tokenizer, "hello", None, atention_mask=1))


def test_further_stop_words_end_a_reply_and_are_given_per_call(chat_model, tiny_tokenizer):
    letter, stop = tiny_tokenizer.encode("a"), tiny_tokenizer.encode("n")
    say(chat_model, [*letter, *stop, *letter, *stop])
    words = [stop]
    response, _ = chat_model.chat(tiny_tokenizer, "hello", None, stop_words_ids=words)
    assert response == "an" and words == [stop]
    config = GenerationConfig(max_new_tokens=5, do_sample=False)  # no eos, no chat_format: the checkpoint's count
    assert chat_model.chat(tiny_tokenizer, "hello", None, stop_words_ids=words, generation_config=config)[0] == "an"


def test_max_window_size_drops_the_oldest_turns(chat_model, tiny_tokenizer):
    seen = say(chat_model, [tiny_tokenizer.im_end_id])
    history = [("first question", "first reply"), ("second", "reply")]
    chat_model.chat(tiny_tokenizer, "hello", history, max_window_size=70)
    assert seen[0] == make_context(tiny_tokenizer, "hello", history, max_window_size=70)[1]
    assert len(seen[0]) < len(make_context(tiny_tokenizer, "hello", history)[1])


def test_clear_errors(chat_model, tiny_tokenizer):
    with pytest.raises(ValueError, match="chat_stream"):
        chat_model.chat(tiny_tokenizer, "hello", None, stream=True)
    chat_model.generation_config = GenerationConfig(chat_format="raw", max_new_tokens=2)
    for call in (chat_model.chat, lambda *args: next(chat_model.chat_stream(*args))):
        with pytest.raises(ValueError, match=r"chat checkpoint.*'raw'"):
            call(tiny_tokenizer, "hello", None)
    with pytest.raises(ValueError, match="give eos_token_id"):
        chat_model.generate(torch.ones(1, 3, dtype=torch.long), stop_words_ids=[[5]])
