"""`loglikelihood` gives what one plain fp32 forward per pair gives, whatever the model, the batch, the order, the
sharing or the memory; and what lm-evaluation-harness gives for the same texts."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from qwen_eval.engines.base import ChoiceRequest, Likelihood, LogLikelihoodRequest
from qwen_eval.engines.local import attention, loglikelihood
from qwen_eval.engines.local.engine import LocalEngine
from qwen_eval.engines.local.prompts import Encoder
from qwen_eval.errors import UserError

import numpy as np
import pytest
import torch

from .models import GQA, TRAINED, VOCAB, other, qwen
from .test_candidates import llama, unigram
from .test_choose import MODELS

ROOT = Path(__file__).resolve().parents[2]
Request = LogLikelihoodRequest


def requests(seed: int | None = None, questions: int = 12) -> list[Request]:
    """Questions with 2 to 5 answers of 1 to 9 tokens behind two few-shot prefixes, one of them past the training
    length, and questions that share nothing."""
    if seed is None:  # fresh ones
        seed = int(np.random.default_rng().integers(2**32))
        print(f"seed: {seed}")
    rng = np.random.default_rng(seed)
    heads = [rng.integers(6, VOCAB, 40), rng.integers(6, VOCAB, 90), rng.integers(6, VOCAB, 0)]
    made = []
    for number in range(questions):
        own = rng.integers(6, VOCAB, int(rng.integers(1, 30)))
        context = np.concatenate([heads[number % 3], own]).astype(np.int32)
        for _ in range(int(rng.integers(2, 6))):
            made.append(Request(context, tuple(rng.integers(6, VOCAB, int(rng.integers(1, 10))).tolist())))
    return made


@torch.inference_mode()
def plain(model: torch.nn.Module, asked: Sequence[Request]) -> list[tuple[float, bool]]:
    """One forward per request, by the model alone, over all tokens but the last."""
    found = []
    for request in asked:
        for module in model.modules():  # transformers' dynamic RoPE remembers the longest prompt it has seen
            if hasattr(module, "max_seq_len_cached") and hasattr(module, "original_inv_freq"):
                module.max_seq_len_cached = module.original_max_seq_len
                module.register_buffer("inv_freq", module.original_inv_freq.clone(), persistent=False)
        ids = torch.tensor([[*request.tokens.tolist(), *request.continuation]])
        logits = model(input_ids=ids[:, :-1], use_cache=False).logits[0, len(request.tokens) - 1 :].float()
        likely = logits.log_softmax(-1).gather(1, torch.tensor(request.continuation)[:, None])
        found.append((float(likely.sum()), logits.argmax(-1).tolist() == list(request.continuation)))
    return found


def engine_of(model: Any, rows: int | None = None, budget: int | None = None) -> LocalEngine:
    engine = LocalEngine.of(model, rows=rows)
    if budget:
        engine.token_budget = budget
    return engine


def answers(engine: LocalEngine, asked: Sequence[Request]) -> list[Likelihood]:
    got = list(engine.loglikelihood(asked))
    assert sorted(index for index, _ in got) == list(range(len(asked))), "every request once"
    return [dict(got)[index] for index in range(len(asked))]


def assert_same(got: Sequence[Likelihood], wanted: Sequence[tuple[float, bool]]) -> None:
    np.testing.assert_allclose([one.log_likelihood for one in got], [value for value, _ in wanted], atol=2e-4)
    assert [one.is_greedy for one in got] == [greedy for _, greedy in wanted]


@torch.inference_mode()
def with_greedy_answers(model: Any, asked: list[Request]) -> list[Request]:
    """A greedy continuation in place of every third one, so that there are some."""
    made = []
    for number, request in enumerate(asked):
        ids = request.tokens.tolist()
        for _ in request.continuation if number % 3 == 0 else ():
            (best,) = plain_greedy(model, ids)
            ids.append(best)
        made.append(request._replace(continuation=tuple(ids[len(request.tokens) :]) or request.continuation))
    return made


def plain_greedy(model: Any, ids: list[int]) -> list[int]:
    return [int(model(input_ids=torch.tensor([ids]), use_cache=False).logits[0, -1].argmax())]


@pytest.mark.parametrize("name", MODELS)
def test_equals_one_plain_forward_per_pair(name: str) -> None:
    model = MODELS[name]()
    asked = with_greedy_answers(model, requests()) if "dynamic" not in name and "qwen-1" not in name else requests()
    wanted = plain(model, asked)
    engine = engine_of(model)
    assert_same(answers(engine, asked), wanted)
    assert not engine.uses_plain_forward, "the engine's own ways"


def test_the_greedy_continuation_is_told_from_the_others() -> None:
    model = qwen()
    asked = with_greedy_answers(model, [one for one in requests(0) if len(one.tokens) + 9 <= TRAINED])
    found = answers(engine_of(model), asked)
    assert {one.is_greedy for one in found} == {True, False}
    assert_same(found, plain(model, asked))
    likely, other_end = asked[0], asked[0]._replace(continuation=(*asked[0].continuation[:-1], 3))
    same, differs = answers(engine_of(model), [likely, other_end])
    assert same.is_greedy and not differs.is_greedy, "the last token counts"


@pytest.mark.parametrize("rows", [1, 5, None])
@pytest.mark.parametrize("budget", [64, 300, 100_000])
@pytest.mark.parametrize("name", ["qwen-1", "llama", "mistral window"])
def test_batch_size_changes_nothing(name: str, rows: int | None, budget: int) -> None:
    model, asked = MODELS[name](), requests(1)
    assert_same(answers(engine_of(model, rows, budget), asked), plain(model, asked))


def test_order_and_company_change_nothing() -> None:
    model, asked = qwen(), requests(2)
    wanted = plain(model, asked)
    for seed in range(3):
        order = np.random.default_rng(seed).permutation(len(asked))
        assert_same(answers(engine_of(model), [asked[i] for i in order]), [wanted[i] for i in order])
    for some in ([0], [1], [len(asked) - 1], [4, 4, 9, 1, 4, 22]):
        assert_same(answers(engine_of(model), [asked[i] for i in some]), [wanted[i] for i in some])


def test_the_ntk_factor_is_that_of_what_the_model_is_given() -> None:
    """Two answers to one question of which the longer one passes the training length: the question is read with another
    factor for each."""
    model = qwen()
    rng = np.random.default_rng(3)
    context = rng.integers(6, VOCAB, TRAINED - 2).astype(np.int32)
    asked = [Request(context, tuple(rng.integers(6, VOCAB, size).tolist())) for size in (1, 2, 3, 4, 5, 3)]
    given = [len(loglikelihood.given_tokens(one)) for one in asked]
    assert [model.ntk_alpha(length) == 1 for length in given] == [True, True, True, False, False, True]
    assert_same(answers(engine_of(model), asked), plain(model, asked))


def test_a_one_token_continuation_is_what_choose_says() -> None:
    model, rng = qwen(), np.random.default_rng(4)
    for request in requests(4, questions=6):
        picked = tuple(rng.choice(VOCAB, 5, replace=False).tolist())
        ((_, logits),) = engine_of(model).choose([ChoiceRequest(request.tokens, picked)])
        found = answers(engine_of(model), [Request(request.tokens, (token,)) for token in picked])
        differences = np.array(logits) - [one.log_likelihood for one in found]
        np.testing.assert_allclose(differences, differences[0], atol=1e-4)


def test_prefix_and_question_run_once_not_per_answer() -> None:
    """The point of it all: of four answers of 6 tokens to 30 questions of 20 behind an example of 100, the model is
    given 100 + 30 x 20 tokens and five of each answer, not 120 x 125."""
    model, rng = qwen(seq_length=4096), np.random.default_rng(5)
    shots = rng.integers(6, VOCAB, 100)
    contexts = [np.concatenate([shots, rng.integers(6, VOCAB, 20)]).astype(np.int32) for _ in range(30)]
    asked = [Request(tokens, tuple(rng.integers(6, VOCAB, 6).tolist())) for tokens in contexts for _ in range(4)]
    seen: list[int] = []
    model.transformer.wte.register_forward_hook(lambda module, inputs, output: seen.append(inputs[0].numel()))
    answers(engine_of(model), asked)
    assert sum(seen) <= 100 + 30 * 20 + 120 * 5


def test_scores_of_contexts_are_taken_in_parts(monkeypatch: pytest.MonkeyPatch) -> None:
    """So that attention to many long questions needs no more memory than is fixed."""
    model, asked = other("Llama", **GQA), requests(6)
    wanted = answers(engine_of(model), asked)
    monkeypatch.setattr(attention, "SCORES_BYTES", 1)
    monkeypatch.setattr("qwen_eval.engines.local.score.LOGITS_BYTES", 3 * 4 * VOCAB)
    assert_same(answers(engine_of(model), asked), wanted)


def test_out_of_memory_halves_the_budget_and_loses_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    model, asked = qwen(), requests(7)
    wanted, tried, forward = plain(model, asked), [], loglikelihood.base_forward

    def tight(*arguments: Any, **inputs: Any) -> Any:
        tried.append(inputs["input_ids"].numel())
        if len(tried) in (2, 3):  # behind the contexts, where the continuations run
            raise torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 20.00 GiB")
        return forward(*arguments, **inputs)

    monkeypatch.setattr(loglikelihood, "base_forward", tight)
    engine = engine_of(model, budget=800)
    assert_same(answers(engine, asked), wanted)
    assert engine.token_budget == 200 and len(tried) > 3


def test_what_never_fits_is_one_line(monkeypatch: pytest.MonkeyPatch) -> None:
    def none_left(*_: Any, **__: Any) -> Any:
        raise torch.OutOfMemoryError("CUDA out of memory")

    monkeypatch.setattr(loglikelihood, "base_forward", none_left)
    with pytest.raises(UserError, match="out of memory with one prompt at a time"):
        answers(engine_of(qwen()), requests(8))


def test_logits_that_are_no_numbers_are_an_error() -> None:
    model = qwen()
    with torch.no_grad():
        model.lm_head.weight[9] = float("nan")
    with pytest.raises(UserError, match="not finite numbers"):
        answers(engine_of(model), requests(9))


def test_empty_parts_are_refused() -> None:
    context = np.array([7, 8], dtype=np.int32)
    for request in (Request(context[:0], (9,)), Request(context, ())):
        with pytest.raises(ValueError, match="empty"):
            answers(engine_of(qwen()), [request])


def test_16_bits_drift_within_bounds() -> None:
    model, asked = qwen(), requests(10)
    wanted = plain(model, asked)
    got = answers(engine_of(model.bfloat16()), asked)
    per_token = [
        abs(a.log_likelihood - b) / len(r.continuation) for a, (b, _), r in zip(got, wanted, asked, strict=True)
    ]
    assert max(per_token) < 0.35


def test_a_pair_that_is_too_long_loses_its_beginning() -> None:
    request = Request(np.arange(10, dtype=np.int32), (20, 21, 22))
    assert request.cut(12).tokens.tolist() == list(range(10))
    assert request.cut(11).tokens.tolist() == list(range(1, 10))
    assert request.cut(3).tokens.tolist() == [9]
    with pytest.raises(ValueError, match="3 tokens is longer than the limit of 2"):
        request.cut(2)


# -- texts to ids ------------------------------------------------------------------------------------------------------


PAIRS = [
    ("Question: What is 2 + 2?\nAnswer:", [" one", " A", " two or three", " D"]),
    ("Question: What is 2 + 2?\nAnswer: ", ["one", "A"]),
    ("Which?\nAnswer: \n ", ["a", "\nB"]),
    ("2 加 2 等于多少？答案：", ["一", "不知道"]),
]


def as_lm_eval(tokenizer: Any, context: str, continuation: str) -> tuple[list[int], list[int]]:
    """lm_eval.api.model.TemplateLM._encode_pair, written out."""
    blanks = len(context) - len(context.rstrip())
    if blanks:
        context, continuation = context[:-blanks], context[-blanks:] + continuation
    whole, start = tokenizer.encode(context + continuation), tokenizer.encode(context)
    return start, whole[len(start) :]


@pytest.mark.parametrize("kind", ["qwen", "bpe with bos", "unigram with bos"])
def test_pairs_are_encoded_as_lm_evaluation_harness_does(kind: str, demo_checkpoint: Path) -> None:
    from qwen_model.loading import load_tokenizer

    make = {"qwen": lambda: load_tokenizer(demo_checkpoint), "bpe with bos": llama, "unigram with bos": unigram}
    tokenizer = make[kind]()
    for context, texts in PAIRS:
        found = Encoder(tokenizer).continuation_ids(context, texts)
        for text, (start, own) in zip(texts, found, strict=True):
            assert start.dtype == np.int32
            assert (start.tolist(), list(own)) == as_lm_eval(tokenizer, context, text)
            assert (start[0] == tokenizer.bos_token_id) == ("bos" in kind)


def test_an_empty_context_is_the_token_that_begins_a_text(demo_checkpoint: Path) -> None:
    from qwen_model.loading import load_tokenizer

    tokenizer = load_tokenizer(demo_checkpoint)
    ((start, own),) = Encoder(tokenizer).continuation_ids("", ["The sky"])
    assert (start.tolist(), list(own)) == ([tokenizer.eod_id], tokenizer.encode("The sky"))
    ((start, own),) = Encoder(llama()).continuation_ids("", ["A"])
    assert start.tolist() == [1] and 1 not in own, "its BOS, once"


def test_an_answer_without_a_token_is_one_line(demo_checkpoint: Path) -> None:
    from qwen_model.loading import load_tokenizer

    with pytest.raises(UserError, match=r"the answer '' has no token of its own behind 'Answer:'"):
        Encoder(load_tokenizer(demo_checkpoint)).continuation_ids("Answer:", ["A", ""])


def test_in_a_chat_the_continuation_begins_the_reply(demo_checkpoint: Path) -> None:
    from qwen_model.loading import load_tokenizer

    encoder = Encoder(load_tokenizer(demo_checkpoint))
    for text in ("Belka", "<|im_end|>"):
        ((start, own),) = encoder.continuation_ids("Who?", [text], chat=True)
        (whole,) = encoder.chat(["Who?"], [text])
        assert [*start, *own] == whole.tolist()
        assert np.array_equal(start, encoder.chat(["Who?"])[0])


# -- lm-evaluation-harness itself (the bench extra has it) -------------------------------------------------------------


@pytest.mark.heavy
@pytest.mark.parametrize("limit", [None, 40])
def test_equals_lm_evaluation_harness_on_the_same_texts(demo_checkpoint: Path, limit: int | None) -> None:
    """Its HFLM, one pair at a time; also where it cuts pairs that are too long."""
    pytest.importorskip("lm_eval", reason="lm-evaluation-harness comes with the bench extra; .ci/run installs it")
    from lm_eval.api.instance import Instance
    from lm_eval.models.huggingface import HFLM

    engine = LocalEngine(demo_checkpoint, device="cpu")
    shots = "".join(f"Question: What is {n} + {n}?\nAnswer: It is {2 * n}.\n\n" for n in range(5))
    contexts = [f"{shots}Question: What is {n} + 3?\nAnswer:" for n in range(6)] + ["Belka lives ", ""]
    answers_of = [[f" It is {n + 3}.", f" {n + 3}", " nobody knows that"] for n in range(8)]
    pairs = [(context, text) for context, texts in zip(contexts, answers_of, strict=True) for text in texts]
    lm = HFLM(pretrained=engine.model, tokenizer=engine.tokenizer, batch_size=1, device="cpu", max_length=limit)
    theirs = lm.loglikelihood([Instance("loglikelihood", {}, pair, i) for i, pair in enumerate(pairs)], True)
    asked = [
        Request(*pair)
        for context, texts in zip(contexts, answers_of, strict=True)
        for pair in engine.continuation_ids(context, texts)
    ]
    if limit is not None:
        asked = [request.cut(limit) for request in asked]
        assert any(len(request.tokens) < 40 for request in asked)
    found = dict(engine.loglikelihood(asked))
    np.testing.assert_allclose([found[i].log_likelihood for i in range(len(pairs))], [a for a, _ in theirs], atol=1e-3)
    assert [found[i].is_greedy for i in range(len(pairs))] == [greedy for _, greedy in theirs]
    assert not np.isclose(*[one.log_likelihood for one in list(found.values())[:2]])
