"""`generate` says what transformers' own `generate` says in fp32, whatever the batch, order, prefix or memory."""

from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

from qwen_eval.engines.base import GenerateRequest, Reply
from qwen_eval.engines.local import forward, generate
from qwen_eval.engines.local.engine import CPU_TOKENS, LocalEngine
from qwen_eval.engines.local.prefix import Group
from qwen_eval.errors import UserError
from qwen_model.decoding import DecodingStep
from qwen_model.loading import load_model, load_tokenizer

import numpy as np
import pytest
import torch

from .models import GQA, SMALL, VOCAB, other, qwen

ENDS = frozenset(range(5, 10))  # stop tokens: enough of them that a random model says one


class Spell:
    """A tokenizer whose text is the token ids: texts are equal only where all tokens are."""

    def decode(self, ids: Sequence[int], **_: Any) -> str:
        return "".join(f"<{i}>" for i in ids)


MODELS: dict[str, Callable[[], Any]] = {
    "qwen-1": qwen,
    "qwen2": lambda: other("Qwen2", **GQA),
    "llama": lambda: other("Llama", **GQA),
    "qwen-1, windows that most texts outgrow": lambda: qwen(window_attn=[48, 90]),
    "qwen-1, windows without NTK": lambda: qwen(window_attn=[None, 70], use_dynamic_ntk=False),
    "mistral, a window that most texts outgrow": lambda: other("Mistral", **GQA, sliding_window=48),
    "gemma2, soft capping": lambda: other(
        "Gemma2",
        **GQA,
        head_dim=8,
        sliding_window=48,
        attn_logit_softcapping=5.0,
        final_logit_softcapping=3.0,
        query_pre_attn_scalar=8,
    ),
    "granite, scaled logits": lambda: other("Granite", **GQA, logits_scaling=4.0, attention_multiplier=0.5),
    "gpt-neox, its own attention": lambda: other("GPTNeoX", **SMALL, num_key_value_heads=4),
}
IN_FULL = ("qwen-1", "qwen2")


def asked(seed: int = 0, count: int = 50, new: int = 20) -> list[GenerateRequest]:
    """Prompts behind three few-shot prefixes (one ends short of the training length so that replies cross it, one is
    past it) or behind none; lengths, reply lengths and penalties differ from row to row."""
    rng = np.random.default_rng(seed)
    heads = [rng.integers(6, VOCAB, length) for length in (40, 90, 0, 0)]
    made = []
    for index in range(count):
        own = rng.integers(6, VOCAB, int(rng.integers(1, 30 if index % 4 < 3 else 100)))
        made.append(
            GenerateRequest(
                np.concatenate([heads[index % 4], own]).astype(np.int32),
                int(rng.integers(1, new + 1)),
                ENDS,
                repetition_penalty=1.1 if index % 2 else 1.0,
            )
        )
    return made


def by_transformers(model: Any, request: GenerateRequest) -> Reply:
    """One prompt through transformers' `generate`."""
    ids = torch.as_tensor(request.tokens.astype(np.int64))[None]
    out = model.generate(
        ids,
        attention_mask=torch.ones_like(ids),
        max_new_tokens=request.max_new_tokens,
        do_sample=False,
        repetition_penalty=request.repetition_penalty,
        eos_token_id=sorted(request.stop_tokens) or None,
        pad_token_id=0,
    )
    said = out[0, ids.shape[1] :].tolist()
    stopped = bool(said) and said[-1] in request.stop_tokens
    said = said[:-1] if stopped else said
    return Reply(Spell().decode(said), len(said), "stop" if stopped else "length")


def replies(model: Any, requests: Sequence[GenerateRequest], rows: int | None = None, **settings: Any) -> list[Reply]:
    engine = LocalEngine.of(model, Spell(), rows=rows)
    for name, value in settings.items():
        setattr(engine, name, value)
    assert not engine.uses_plain_forward, "the engine's own ways"
    return in_order(list(engine.generate(requests)), len(requests))


def in_order(got: list[tuple[int, Reply]], count: int) -> list[Reply]:
    assert sorted(index for index, _ in got) == list(range(count)), "every request once"
    return [reply for _, reply in sorted(got)]


@pytest.fixture
def unshared(monkeypatch: pytest.MonkeyPatch) -> None:
    """Nothing shared: all requests in one group without a prefix."""
    monkeypatch.setattr(generate, "plan", lambda prompts, keys=None: [Group(0, list(range(len(prompts))))])


class Known(NamedTuple):
    model: Any
    requests: list[GenerateRequest]
    wanted: list[Reply]


@pytest.fixture(scope="module", params=IN_FULL)
def known(request: pytest.FixtureRequest) -> Known:
    """50 prompts and what transformers says to them."""
    model, requests = MODELS[request.param](), asked()
    wanted = [by_transformers(model, each) for each in requests]
    ends = [reply.finish for reply in wanted]
    assert 3 < ends.count("stop") < 47, "both ends occur"
    assert len({reply.text for reply in wanted}) > 40, "the replies differ"
    return Known(model, requests, wanted)


# -- greedy ----------------------------------------------------------------------------------------


@pytest.mark.parametrize("rows", [1, 7, None])
def test_greedy_equals_transformers(known: Known, rows: int | None) -> None:
    assert replies(known.model, known.requests, rows) == known.wanted


@pytest.mark.parametrize("rows", [1, 7, None])
def test_greedy_without_a_shared_prefix(known: Known, rows: int | None, unshared) -> None:
    assert replies(known.model, known.requests, rows) == known.wanted


def test_greedy_in_any_order_and_company(known: Known) -> None:
    for seed, rows, budget in ((0, 5, 64), (1, None, 300)):
        order = np.random.default_rng(seed).permutation(len(known.requests))
        got = replies(known.model, [known.requests[i] for i in order], rows, token_budget=budget)
        assert got == [known.wanted[i] for i in order]
    some = [4, 4, 9, 1, 4, 22, 17]
    assert replies(known.model, [known.requests[i] for i in some], 3) == [known.wanted[i] for i in some]


@pytest.mark.parametrize("name", [name for name in MODELS if name not in IN_FULL])
def test_greedy_of_other_models(name: str) -> None:
    model, requests = MODELS[name](), asked(1, count=10, new=16)
    requests = [request._replace(repetition_penalty=1.1 if i % 3 == 0 else 1.0) for i, request in enumerate(requests)]
    wanted = [by_transformers(model, request) for request in requests]
    for rows in (1, 4, None):
        assert replies(model, requests, rows) == wanted
    assert replies(model, requests, token_budget=20) == wanted, "prompts that go in by pieces"


def test_the_shared_prefix_is_run_once() -> None:
    """Tokens that go through the model: a prefix once, each row's own, one a step."""
    model = qwen(seq_length=4096)
    requests = [each._replace(stop_tokens=frozenset()) for each in asked(2, count=24, new=6)]
    seen: list[int] = []
    model.transformer.wte.register_forward_hook(lambda module, inputs, output: seen.append(inputs[0].numel()))
    got = replies(model, requests, rows=1)
    prompts = sum(len(request.tokens) for request in requests)
    steps = sum(reply.tokens - 1 for reply in got)
    assert sum(seen) <= prompts - 5 * (40 + 90) + 4 + steps


@pytest.mark.parametrize("case", ["below", "cross", "above"])
@pytest.mark.parametrize("name", ["plain", "both"])
def test_recorded_generation_of_the_published_code(shared, name: str, case: str) -> None:
    folder = shared / "goldens/qwen_oracle" / name
    with np.load(folder / "golden.npz") as file:
        recorded = {key: file[key] for key in file if key.startswith("gen_")}
    model = load_model(folder, dtype="fp32", device="cpu")
    prompt = recorded[f"gen_{case}_prompt"][0].astype(np.int32)

    def said(key: str) -> list[int]:
        return recorded[f"gen_{case}_{key}"][0, len(prompt) :].tolist()

    def spelt(key: str) -> tuple[str, ...]:
        return (Spell().decode(recorded[f"gen_{case}_{key}"].tolist()),)

    plain = GenerateRequest(prompt, len(said("out")))
    one, two = said("stop1_out"), said("stop2_out")
    # The published code gives the stop word and an eos that it forces behind it; ours ends before the stop.
    wanted = [
        (plain, said("out")),
        (plain._replace(repetition_penalty=1.1), said("rep11_out")),
        (plain._replace(stop_tokens=frozenset(recorded[f"gen_{case}_stop1_ids"].tolist())), one[:-2]),
        (plain._replace(stop=spelt("stop1_ids")), one[:-2]),
        (plain._replace(stop=spelt("stop2_ids")), two[:-3]),
    ]
    for rows in (1, None):
        got = replies(model, [request for request, _ in wanted], rows)
        assert [reply.text for reply in got] == [Spell().decode(ids) for _, ids in wanted]
        assert [reply.finish for reply in got] == ["length", "length", "stop", "stop", "stop"]
    if case == "below":
        eos = GenerateRequest(
            recorded["gen_eos_prompt"][0].astype(np.int32), 16, frozenset([int(recorded["gen_eos_id"])])
        )
        out = recorded["gen_eos_out"][0, len(eos.tokens) :].tolist()
        ended = out.index(int(recorded["gen_eos_id"]))
        assert replies(model, [eos]) == [Reply(Spell().decode(out[:ended]), ended, "stop")]


# -- sampled ---------------------------------------------------------------------------------------


def sampled(count: int = 16) -> list[GenerateRequest]:
    settings = [(0.8, 1.0, 0), (1.0, 0.7, 0), (1.3, 1.0, 9), (1.0, 0.9, 20), (0.0, 1.0, 0)]
    requests = []
    for index, request in enumerate(asked(3, count)):
        temperature, top_p, top_k = settings[index % 5]
        request = request._replace(max_new_tokens=12, seed=1000 + index)
        requests.append(request._replace(temperature=temperature, top_p=top_p, top_k=top_k))
    return requests


@pytest.mark.parametrize("name", ["qwen-1", "mistral, a window that most texts outgrow"])
def test_a_sampled_reply_depends_on_its_request_alone(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    model, requests = MODELS[name](), sampled()
    wanted = [replies(model, [request])[0] for request in requests]
    for rows in (1, 5, None):
        assert replies(model, requests, rows) == wanted
    for seed in range(2):
        order = np.random.default_rng(seed).permutation(len(requests))[: 11 + seed]
        assert replies(model, [requests[i] for i in order], 4) == [wanted[i] for i in order]
    monkeypatch.setattr(generate, "plan", lambda prompts, keys=None: [Group(0, list(range(len(prompts))))])
    if name == "qwen-1":
        assert replies(model, requests) == wanted


def test_other_seeds_give_other_texts_and_a_seed_its_own() -> None:
    model, request = qwen(), asked(4, 1)[0]._replace(max_new_tokens=12, temperature=1.0)
    texts = [reply.text for reply in replies(model, [request._replace(seed=seed) for seed in range(12)])]
    assert len(set(texts)) >= 11
    assert [reply.text for reply in replies(model, [request._replace(seed=seed) for seed in range(12)], 3)] == texts


# -- ends ------------------------------------------------------------------------------------------


def test_a_stop_string_cuts_a_real_text_where_a_search_would(demo_checkpoint) -> None:
    """Any piece of what a model says, as a stop string, ends the reply in front of its first occurrence."""
    model, tokenizer = load_model(demo_checkpoint, dtype="fp32", device="cpu"), load_tokenizer(demo_checkpoint)
    engine = LocalEngine.of(model, tokenizer)
    prompt = engine.encode(["Question: what is 3 + 4?\nAnswer:"])[0]
    plain = GenerateRequest(prompt, 48, repetition_penalty=1.3)
    text = dict(engine.generate([plain]))[0].text
    rng = np.random.default_rng(0)
    stops = [("never said",), (text[0],), (text[:2],), (text[5:9], text[4:7])]
    while len(stops) < 24:
        start = int(rng.integers(0, len(text) - 6))
        stop = text[start : start + int(rng.integers(1, 6))]
        if "\ufffd" not in stop:  # half a character, which a random model says, is another when the next byte is there
            stops.append((stop,))
    requests = [plain._replace(stop=stop) for stop in stops]
    for (_, reply), wanted in zip(sorted(engine.generate(requests)), stops, strict=True):
        first = min((text.find(each) for each in wanted if each in text), default=None)
        assert reply.text == text[:first]
        assert reply.finish == ("length" if first is None else "stop")
        assert first is None or reply.tokens < 48 or first > len(text) - 8, "it does not go on to the end"


def test_one_new_token_and_a_stop_at_once() -> None:
    model, requests = qwen(), asked(5, 6)
    first = [by_transformers(model, each._replace(max_new_tokens=1)) for each in requests]
    assert replies(model, [each._replace(max_new_tokens=1) for each in requests]) == first
    stopped = [each._replace(stop=(reply.text or "x",)) for each, reply in zip(requests, first, strict=True)]
    assert [reply.text for reply in replies(model, stopped, 2)] == [""] * 6


def test_an_empty_stop_string_is_refused() -> None:
    with pytest.raises(UserError, match="a stop string is empty"):
        replies(qwen(), [asked(5, 1)[0]._replace(stop=("\n", ""))])


def test_a_reader_that_leaves_early_gets_each_reply_once() -> None:
    model, requests = qwen(), asked(6, 12)
    wanted = replies(model, requests)
    stream = LocalEngine.of(model, Spell(), rows=4).generate(requests)
    got = [next(stream) for _ in range(5)]
    stream.close()  # type: ignore[attr-defined]
    assert all(wanted[index] == reply for index, reply in got)
    assert replies(model, requests) == wanted, "the model is left as it was"


def test_no_requests_no_replies() -> None:
    assert replies(qwen(), []) == []


# -- memory ----------------------------------------------------------------------------------------


class Memory:
    """Forwards run out of memory when `fails` says so; it is asked with the kind ("prefix", "prefill", "step"), how
    many of this kind ran so far and the rows of this one."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch, fails: Callable[[str, int, int], bool]) -> None:
        self.runs: dict[str, list[int]] = {"prefix": [], "prefill": [], "step": []}
        real = forward.base_forward

        def limited(model: Any, implementation: str | None, **inputs: Any) -> Any:
            rows = len(inputs["input_ids"])
            entering = getattr(inputs["cache"], "entering", None) is not None
            kind = "prefix" if implementation is None else "prefill" if entering else "step"
            self.runs[kind].append(rows)
            if fails(kind, len(self.runs[kind]), rows):
                raise torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 20.00 GiB")
            return real(model, implementation, **inputs)

        for module in (forward, generate):
            monkeypatch.setattr(module, "base_forward", limited)
        step = DecodingStep.__call__

        def limited_step(decoding: DecodingStep, ids: torch.Tensor, *more: Any) -> torch.Tensor:
            self.runs["step"].append(len(ids))
            if fails("step", len(self.runs["step"]), len(ids)):
                raise torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 20.00 GiB")
            return step(decoding, ids, *more)

        monkeypatch.setattr(DecodingStep, "__call__", limited_step)


@pytest.mark.parametrize(
    ("where", "fails"),
    [
        ("the prefix", lambda kind, count, rows: kind == "prefix" and count in (1, 3)),
        ("the first prefill", lambda kind, count, rows: kind == "prefill" and count == 1),
        ("a later prefill", lambda kind, count, rows: kind == "prefill" and count in (3, 4)),
        ("the middle of decoding", lambda kind, count, rows: kind == "step" and count in (4, 9)),
        ("more than 5 rows", lambda kind, count, rows: kind != "prefix" and rows > 5),
    ],
)
def test_out_of_memory_halves_what_did_not_fit_and_loses_nothing(
    where: str, fails, monkeypatch: pytest.MonkeyPatch
) -> None:
    model = qwen()
    requests = asked(7, 24)
    requests[::3] = [request._replace(temperature=1.0, seed=i) for i, request in enumerate(requests[::3])]
    wanted = replies(model, requests)
    memory = Memory(monkeypatch, fails)
    engine = LocalEngine.of(model, Spell(), rows=16)
    assert in_order(list(engine.generate(requests)), len(requests)) == wanted
    # a prefill halves the tokens of a forward, anything else the rows in flight
    assert engine.token_budget < CPU_TOKENS if "prefill" in where else engine.flight_rows < 16
    if where == "more than 5 rows":
        assert max(memory.runs["step"][-8:]) <= 5


def test_rows_that_start_again_may_come_in_another_order(unshared, monkeypatch: pytest.MonkeyPatch) -> None:
    """Rows that left have shuffled the slots by the time memory runs out."""
    model, requests = qwen(), asked(11, 24)
    wanted = replies(model, requests)
    Memory(monkeypatch, lambda kind, count, rows: kind == "step" and count in (9, 14))
    assert replies(model, requests, rows=16) == wanted


@pytest.mark.parametrize("kind", ["prefix", "prefill", "step"])
def test_what_never_fits_is_one_clear_error(kind: str, monkeypatch: pytest.MonkeyPatch) -> None:
    memory = Memory(monkeypatch, lambda found, count, rows: found == kind)
    with pytest.raises(UserError, match="out of memory with one reply at a time"):
        replies(qwen(), asked(8, 24), rows=16)
    assert len(memory.runs[kind]) <= 6, "it gives up soon"


def test_another_error_is_not_taken_for_memory(monkeypatch: pytest.MonkeyPatch) -> None:
    def broken(*_: Any, **__: Any) -> Any:
        raise RuntimeError("mat1 and mat2 shapes cannot be multiplied")

    monkeypatch.setattr(forward, "base_forward", broken)
    with pytest.raises(RuntimeError, match="mat1 and mat2"):
        replies(qwen(), asked(8, 4))


def test_logits_that_are_no_numbers_are_said_so() -> None:
    model = qwen()
    with torch.no_grad():
        model.lm_head.weight[7] = float("nan")
    with pytest.raises(UserError, match="not finite"):
        replies(model, asked(9, 4))


def test_bf16_goes_through() -> None:
    got = replies(qwen().bfloat16(), asked(10, 12), 5)
    assert all(reply.text for reply in got if reply.tokens)
