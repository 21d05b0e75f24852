"""A choice's token is the one that the answer adds to the prompt's own tokens, whatever kind of tokenizer it is."""

from collections.abc import Callable

from qwen_eval.benchmarks import chinese_choices
from qwen_eval.engines.local.prompts import Encoder
from qwen_eval.errors import UserError

import evaluate_mmlu
import numpy as np
import pytest
from tokenizers import AddedToken, Tokenizer, decoders, models, normalizers, pre_tokenizers, processors, trainers
from transformers import PreTrainedTokenizerFast

SPECIAL = ["<unk>", "<s>", "</s>"]
ENGLISH = [
    {"question": f"What is {n} + {n}?", "A": "one", "B": "two", "C": str(2 * n), "D": "I do not know", "answer": "C"}
    for n in range(6)
]
CHINESE = [
    {
        "question": f"{n} 加 {n} 等于多少？",
        "A": "一",
        "B": "二",
        "C": str(2 * n),
        "D": "不知道",
        "answer": "ABCD"[n % 4],
    }
    for n in range(6)
]
PROMPTS = {
    "mmlu": [evaluate_mmlu.base_prompt("elementary_mathematics", ENGLISH[:5], row) for row in ENGLISH],
    "ceval": [chinese_choices.base_prompt(CHINESE[:5], row) for row in CHINESE],  # CMMLU's are the same
}
ANSWERS = {"mmlu": (" A", " B", " C", " D"), "ceval": ("A", "B", "C", "D")}
TEXTS = [prompt + ANSWERS[name][0] for name, prompts in PROMPTS.items() for prompt in prompts]


def wrapped(backend: Tokenizer, single: str = "<s> $A") -> PreTrainedTokenizerFast:
    pairs = [(form, backend.token_to_id(form)) for form in SPECIAL[1:]]
    backend.post_processor = processors.TemplateProcessing(single=single, special_tokens=pairs)
    return PreTrainedTokenizerFast(tokenizer_object=backend, bos_token="<s>", eos_token="</s>", unk_token="<unk>")


def llama(pieces: tuple[str, ...] = ()) -> PreTrainedTokenizerFast:
    """As the SentencePiece model of Llama 1 and 2: one BPE over the whole text, a blank put before it."""
    letters = sorted(set("".join(TEXTS).replace(" ", "▁")) | {"▁"})
    whole = [*SPECIAL, *letters, "▁A", "▁B", "▁C", "▁D", "▁a", "案：", "答案：", *pieces]
    merges = [("▁", letter) for letter in "ABCDa"] + [("案", "："), ("答", "案：")]
    merges += [(piece[:-1], piece[-1]) for piece in pieces]
    backend = Tokenizer(models.BPE({form: i for i, form in enumerate(whole)}, merges, unk_token="<unk>"))
    backend.normalizer = normalizers.Sequence([normalizers.Prepend("▁"), normalizers.Replace(" ", "▁")])
    backend.decoder = decoders.Sequence([decoders.Replace("▁", " "), decoders.Fuse(), decoders.Strip(" ", 1, 0)])
    backend.add_special_tokens([AddedToken(form, special=True, normalized=False) for form in SPECIAL])
    return wrapped(backend)


def unigram(single: str = "<s> $A") -> PreTrainedTokenizerFast:
    """As T5's and XLM's: the likeliest pieces of each word, which begins with its blank."""
    letters = sorted(set("".join(TEXTS).replace(" ", "▁")) | {"▁"})
    pieces = [(form, -9.0) for form in letters] + [(f"▁{letter}", -5.0) for letter in "ABCD"]
    pieces += [("答案", -6.0), ("：", -6.0), ("▁Answer", -6.0), ("Answer", -7.0)]
    backend = Tokenizer(models.Unigram([*((form, 0.0) for form in SPECIAL), *dict(pieces).items()], unk_id=0))
    backend.pre_tokenizer = pre_tokenizers.Sequence(
        [pre_tokenizers.Metaspace(prepend_scheme="always"), pre_tokenizers.Split("\n", "isolated")]
    )
    backend.decoder = decoders.Metaspace(prepend_scheme="always")
    return wrapped(backend, single)


def byte_level() -> PreTrainedTokenizerFast:
    """As GPT-2's, Llama 3's and Qwen 2's."""
    backend = Tokenizer(models.BPE())
    backend.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    backend.decoder = decoders.ByteLevel()
    trainer = trainers.BpeTrainer(
        vocab_size=400,
        special_tokens=SPECIAL,
        show_progress=False,
        initial_alphabet=sorted(pre_tokenizers.ByteLevel.alphabet()),
    )
    backend.train_from_iterator([*TEXTS, *(["A A B B C C D D"] * 99)], trainer)
    return wrapped(backend)


TOKENIZERS: dict[str, Callable[[], PreTrainedTokenizerFast]] = {
    "llama": llama,
    "unigram": unigram,
    "unigram that closes a text": lambda: unigram("<s> $A </s>"),
    "byte level": byte_level,
}


@pytest.mark.parametrize("benchmark", PROMPTS)
@pytest.mark.parametrize("name", TOKENIZERS)
def test_the_candidates_are_the_tokens_that_follow_the_prompt(name: str, benchmark: str) -> None:
    tokenizer = TOKENIZERS[name]()
    encoder, answers = Encoder(tokenizer), ANSWERS[benchmark]
    found = encoder.candidate_ids(PROMPTS[benchmark], answers)
    for prompt, ids in zip(PROMPTS[benchmark], found, strict=True):
        (start,) = encoder.plain([prompt])
        assert tokenizer.eos_token_id not in start, "the prompt goes on"
        for answer, token in zip(answers, ids, strict=True):
            (whole,) = encoder.plain([prompt + answer])
            assert whole.tolist() == [*start, token]
    letters = [form.replace("Ġ", "▁") for form in tokenizer.convert_ids_to_tokens(list(found[0]))]
    assert letters == (["▁A", "▁B", "▁C", "▁D"] if benchmark == "mmlu" else ["A", "B", "C", "D"])


def test_a_letter_that_the_prompts_end_would_swallow_stands_alone() -> None:
    """With a token `答案：A` the prompt's own tokens, which the model has seen, would be others."""
    tokenizer = llama(("答案：A",))
    encoder = Encoder(tokenizer)
    assert len(encoder.plain(["\n答案：A"])[0]) == len(encoder.plain(["\n答案："])[0])
    (ids,) = encoder.candidate_ids(PROMPTS["ceval"][:1], "AB")
    assert tokenizer.convert_ids_to_tokens(list(ids)) == ["A", "B"]


def test_an_answer_of_two_tokens_is_named() -> None:
    with pytest.raises(UserError, match="the answer 'AB' behind '答案：'") as error:
        Encoder(llama()).candidate_ids(PROMPTS["ceval"], ["A", "AB"])
    assert "\n" not in str(error.value)


def test_each_last_line_is_looked_at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    encoder, texts = Encoder(byte_level()), []
    real = encoder.plain
    monkeypatch.setattr(encoder, "plain", lambda prompts, raw=False: texts.extend(prompts) or real(prompts, raw))
    prompts = [f"{prompt}{end}" for prompt in PROMPTS["mmlu"] * 50 for end in ("", " It is\n")]
    found = encoder.candidate_ids(prompts, ["A", "B"])
    assert len(texts) == 2 * 3
    assert np.shape(found) == (600, 2)
