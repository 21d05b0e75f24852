"""parity.py: two ways to run a model on the same prompts, how far they are apart, and the verdict."""

import csv
import json
import shutil
from collections.abc import Iterator, Mapping
from pathlib import Path
from statistics import median
from typing import Any

from qwen_eval.comparison.parity import CLOSE, DIFFERENT, SAME, Measured, judge, measure, overall
from qwen_eval.engines.local.engine import LocalEngine
from qwen_eval.errors import UserError
from qwen_eval.places import DEMO
from qwen_eval.reporting.samples import flat_record
from qwen_model.loading import load_tokenizer
from tests.engine.endpoint import Server, completion
from tests.qwen_model.gptq_packing import packed_copy

import pytest

from .runs import sha

BASE = DEMO / "checkpoint/base"
SHORT = ("--sample", "16", "--max-new-tokens", "32")


@pytest.fixture
def parity(script, tmp_path: Path):
    """Run the script; its results go to one folder."""
    return lambda *words: script("parity", *words, "-o", tmp_path / "out")


@pytest.fixture
def loads(monkeypatch) -> list[tuple[str, str]]:
    """Checkpoint and dtype of the models that are loaded, in order."""
    found: list[tuple[str, str]] = []
    init = LocalEngine.__init__

    def counted(self, checkpoint, dtype, *args, **flags):
        found.append((checkpoint.name, dtype))
        init(self, checkpoint, dtype, *args, **flags)

    monkeypatch.setattr(LocalEngine, "__init__", counted)
    return found


def lines(path: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for line in path.read_text(encoding="utf-8").splitlines()]


def samples(out: Path, side: str, benchmark: str) -> dict[str, dict[str, Any]]:
    [path] = out.glob(f"{side}/*/{benchmark}/samples.jsonl")
    return {line["id"]: line for line in lines(path)}


def table(out: Path) -> dict[str, dict[str, str]]:
    with open(out / "table.csv", newline="", encoding="utf-8") as rows:
        return {row["benchmark"]: row for row in csv.DictReader(rows)}


# -- whole runs --------------------------------------------------------------------------------------------------------


def test_a_side_against_itself_is_the_same(parity, loads, tmp_path: Path) -> None:
    ended = parity("-c", "demo", *SHORT)
    assert ended.status == 0, ended.err
    found = json.loads((tmp_path / "out/table.json").read_text(encoding="utf-8"))
    assert found["verdict"] == SAME and [row["verdict"] for row in found["benchmarks"]] == [SAME, SAME]
    choices, texts = found["benchmarks"]
    assert (choices["items"], choices["largest_difference"], choices["flips"]) == (16, 0.0, 0)
    assert (texts["items"], texts["equal_texts"], texts["flips"], texts["parted_at_median"]) == (16, 1.0, 0, None)
    assert "A and B are the same: what differs is the noise of a second run" in ended.out
    assert len(loads) == 1, "one model for both"
    items = lines(tmp_path / "out/items.jsonl")
    for side in "ab":
        asked = {
            (name, line["id"]): line["prompt_sha256"]
            for name in ("mmlu", "gsm8k")
            for line in samples(tmp_path / "out", side, name).values()
        }
        assert asked == {(item["benchmark"], item["id"]): item["prompt_sha256"] for item in items}


def test_fp32_against_bf16_has_the_differences_of_its_samples(parity, tmp_path: Path) -> None:
    ended = parity("-c", "demo", "--a", "dtype=float32", "--b", "dtype=bfloat16", *SHORT)
    out, rows = tmp_path / "out", table(tmp_path / "out")
    assert ended.status == (DIFFERENT in {row["verdict"] for row in rows.values()}), ended.err
    assert "B = Qwen-demo dtype=bfloat16 against A = Qwen-demo dtype=float32" in ended.out

    a, b = (samples(out, side, "mmlu") for side in "ab")
    differences = [
        abs(x - y) for name in a for x, y in zip(a[name]["choice_logits"], b[name]["choice_logits"], strict=True)
    ]
    row = rows["mmlu"]
    assert float(row["largest_difference"]) == pytest.approx(max(differences)) and max(differences) > 1e-3
    assert float(row["median_difference"]) == pytest.approx(median(differences))
    assert int(row["flips"]) == sum(a[name]["prediction"] != b[name]["prediction"] for name in a)
    assert row["verdict"] != SAME and row["why"]

    tokenizer, parted = load_tokenizer(BASE), {}
    a, b = (samples(out, side, "gsm8k") for side in "ab")
    for name in a:
        texts = [side[name]["response"] for side in (a, b)]
        ids = [tokenizer(text)["input_ids"] for text in texts]
        if texts[0] != texts[1]:
            parted[name] = next(n for n in range(len(ids[0]) + 1) if ids[0][: n + 1] != ids[1][: n + 1]) + 1
    kept = {item["id"]: item["parting"] for item in lines(out / "items.jsonl") if "parting" in item}
    assert {name: parting["token"] for name, parting in kept.items()} == parted and parted
    assert float(rows["gsm8k"]["equal_texts"]) == pytest.approx(1 - len(parted) / len(a))
    assert float(rows["gsm8k"]["parted_at_median"]) == median(parted.values())
    for name, parting in kept.items():
        starts = {
            side[name]["response"].removesuffix(rest) for side, rest in zip((a, b), parting["rests"], strict=True)
        }
        assert len(starts) == 1, "both texts are the same up to there"
    shown = (out / "table.md").read_text(encoding="utf-8")
    assert "partings per 100 tokens" in shown and "* verdict: " in shown and "* close: logits within 0.1" in shown


def test_an_int4_twin_against_the_float_model_and_its_two_backends_against_each_other(
    parity, loads, tmp_path: Path
) -> None:
    packed_copy(BASE, tmp_path / "demo-Int4", bits=4)
    words = ("-c", "demo", "--b", f"checkpoint={tmp_path / 'demo-Int4'}", "--benchmarks", "mmlu", "--sample", "16")
    ended = parity(*words)
    row = table(tmp_path / "out")["mmlu"]
    assert ended.status == (row["verdict"] == DIFFERENT) and row["verdict"] != SAME, ended.err
    assert float(row["largest_difference"]) > 1e-3
    assert [name for name, _ in loads] == ["base", "demo-Int4"]
    assert "B: GPTQ layers: the packed weights were unpacked once" in ended.out

    backends = ("--a", "gptq-backend=reference", "--b", "gptq-backend=auto", "--sample", "8", "--benchmarks", "mmlu")
    data = ("-d", DEMO / "data", "--subjects", "nutrition,astronomy")
    loads.clear()
    shutil.rmtree(tmp_path / "out")
    ended = parity("-c", tmp_path / "demo-Int4", *backends, *data)
    assert ended.status == 0 and table(tmp_path / "out")["mmlu"]["verdict"] == SAME, ended.err
    assert len(loads) == 2


def test_the_same_command_goes_on_where_it_was_stopped(parity, loads, tmp_path: Path) -> None:
    words = ("-c", "demo", "--a", "dtype=float32", "--b", "dtype=bfloat16", "--benchmarks", "mmlu", "--sample", "8")
    assert parity(*words).status in (0, 1)
    out = tmp_path / "out"
    whole = (out / "table.json").read_bytes()
    [path] = out.glob("b/*/mmlu/samples.jsonl")
    kept = path.read_text(encoding="utf-8").splitlines(keepends=True)
    path.write_text("".join(kept[:3]), encoding="utf-8")
    loads.clear()
    parity(*words)
    assert loads == [("base", "bfloat16")], "A is finished"
    assert path.read_text(encoding="utf-8").startswith("".join(kept[:3]))
    before, after = (json.loads(text)["benchmarks"] for text in (whole, (out / "table.json").read_bytes()))
    assert before == after


@pytest.fixture
def server(monkeypatch) -> Iterator[Server]:
    monkeypatch.delenv("OPENAI_API_KEY", raising=False)
    one = Server()
    yield one
    one.http.shutdown()


def test_an_endpoint_is_compared_with_the_model_that_it_serves(parity, server: Server, tmp_path: Path) -> None:
    chat = ("-c", "demo-chat", "--benchmarks", "gsm8k", "--sample", "6", "--max-new-tokens", "24")
    assert parity(*chat).status == 0
    known = {line["prompt"]: line["response"] for line in samples(tmp_path / "out", "a", "gsm8k").values()}
    assert len(known) == 6
    changed = max(known.values(), key=len)

    def answer(text: str, other: Mapping[str, str]) -> Any:
        [reply] = [reply for prompt, reply in known.items() if f"<|im_start|>user\n{text}<|im_end|>" in prompt]
        return completion(other.get(reply, reply))

    sides = ("--b", "engine=openai", f"base-url={server.url}", "checkpoint=served")
    for other in ({}, {changed: changed + " And 0."}):
        shutil.rmtree(tmp_path / "out")
        server.answer = lambda text, other=other: answer(text, other)
        ended = parity(*chat, *sides)
        row = table(tmp_path / "out")["gsm8k"]
        assert ended.status == (row["verdict"] == DIFFERENT), ended.err
        assert float(row["equal_texts"]) == pytest.approx(1 - sum(text in other for text in known.values()) / 6)
        assert (row["verdict"] == SAME) == (not other)
    assert "prompts were compared before the endpoint puts its chat frame around them" in ended.out
    [item] = [item for item in lines(tmp_path / "out/items.jsonl") if "parting" in item]
    assert item["parting"]["token"] == len(load_tokenizer(BASE)(changed)["input_ids"]) + 1
    assert item["parting"]["rests"] == ["", " And 0."]


# -- the rule ----------------------------------------------------------------------------------------------------------


def choice(name: str, logits: list[float], gold: str = "A", **fields: Any) -> dict[str, Any]:
    prediction = "ABCD"[logits.index(max(logits))]
    return record(name, choice_logits=logits, prediction=prediction, correct=prediction == gold, gold=gold, **fields)


def text(name: str, response: str, prediction: str = "7", gold: str = "7") -> dict[str, Any]:
    return record(name, response=response, prediction=prediction, correct=prediction == gold, gold=gold)


def record(name: str, prompt: str = "?", **fields: Any) -> dict[str, Any]:
    sums = {"prompt_sha256": sha(prompt), "item_sha256": sha(name), "run": "0"}
    return flat_record({"id": name, "subject": "s", "prompt": prompt, **sums, **fields})


def measured(a: list[dict[str, Any]], b: list[dict[str, Any]], constant: bool = False) -> Measured:
    one, other = ({(line["id"], 0): line for line in side} for side in (a, b))
    return measure("it", one, other, lambda words: [ord(letter) for letter in words], constant, as_seen=True)


def test_a_flip_has_its_lead_on_both_sides_and_the_sides_that_were_right() -> None:
    a = [choice("0", [3.0, 2.5, 0, 0]), choice("1", [1.0, 2.0, 0, 0]), choice("2", [1, 0, 0, 0], "D")]
    b = [choice("0", [3.0, 3.25, 0, 0]), choice("1", [2.5, 2.0, 0, 0]), choice("2", [1, 3, 0, 0], "D")]
    found = measured(a, b)
    assert [(key[0], flip.a, flip.b, flip.leads) for key, flip in found.flips] == [
        ("2", "A", "B", (1.0, 2.0)),
        ("1", "B", "A", (1.0, 0.5)),
        ("0", "A", "B", (0.5, 0.25)),
    ], "the furthest from a tie first"
    figures = found.figures()
    assert (figures["flips"], figures["right_in_a_only"], figures["right_in_b_only"]) == (3, 1, 1)
    assert (figures["largest_lead"], figures["largest_difference"], figures["median_difference"]) == (2.0, 3.0, 0.0)


def test_a_flip_is_a_tie_where_neither_side_has_a_lead() -> None:
    tie = measured([choice("0", [1.0, 0.9995, 0, 0])], [choice("0", [0.9995, 1.0, 0, 0])])
    assert tie.figures()["flips_in_ties"] == 1 and judge(tie) == (SAME, "")
    one_sided = measured([choice("0", [1.0, 0.9995, 0, 0])], [choice("0", [1.0, 1.01, 0, 0])])
    assert one_sided.figures()["flips_in_ties"] == 0 and judge(one_sided).word == DIFFERENT
    assert "1 of 1 answers flip" in judge(one_sided).why


@pytest.mark.parametrize(
    ("shift", "word"), [(0.0009, SAME), (0.0011, CLOSE), (0.09, CLOSE), (0.11, DIFFERENT)], ids=str
)
def test_the_verdict_of_logits_follows_their_median(shift: float, word: str) -> None:
    a = [choice(str(n), [2.0, 0, 0, 0]) for n in range(20)]
    b = [choice(str(n), [2.0 + shift, *[shift] * 3]) for n in range(20)]
    assert judge(measured(a, b)).word == word
    assert judge(measured(a, b, constant=True)) == (SAME, ""), "less their mean, where a constant says nothing"


def test_one_prompt_that_is_far_off_is_not_close() -> None:
    a = [choice(str(n), [9.0, 0, 0, 0]) for n in range(100)]
    b = [*a[:-1], choice("99", [9.0, 1.5, 0, 0])]
    assert judge(measured(a, b)) == (DIFFERENT, "a logit differs by 1.5")


def test_more_flips_than_5_percent_or_flips_one_way_are_not_close() -> None:
    a = [choice(str(n), [1.0, 0.95, 0, 0], "D") for n in range(100)]
    flipped = [choice(str(n), [0.95, 1.0, 0, 0], "D") for n in range(100)]
    assert judge(measured(a, [*flipped[:5], *a[5:]])).word == CLOSE
    assert judge(measured(a, [*flipped[:6], *a[6:]])) == (DIFFERENT, "6 of 100 answers flip")
    right = [choice(str(n), [1.0, 0.95, 0, 0]) for n in range(200)]
    wrong = [choice(str(n), [0.95, 1.0, 0, 0]) for n in range(200)]
    assert judge(measured(right, [*wrong[:5], *right[5:]])).word == CLOSE
    said = judge(measured(right, [*wrong[:6], *right[6:]])).why
    assert said == "6 answers are right in A only and 0 in B only (p = 0.031)"


def test_texts_part_at_a_token_and_the_rate_decides() -> None:
    found = measured(
        [text("0", "abcd"), text("1", "same"), text("2", "ab"), text("3", "x")],
        [text("0", "abXd"), text("1", "same"), text("2", "abcd"), text("3", "")],
    )
    assert [(key[0], parting.token, parting.rests) for key, parting in found.partings] == [
        ("3", 1, ("x", "")),
        ("0", 3, ("cd", "Xd")),
        ("2", 3, ("", "cd")),
    ]
    figures = found.figures()
    assert (figures["equal_texts"], figures["parted_at_median"]) == (0.25, 3.0)
    assert figures["partings_per_token"] == 3 / (3 + 4 + 3 + 1)
    assert judge(found) == (DIFFERENT, "texts part 27 times per 100 tokens")
    long = "y" * 100
    assert judge(measured([text("0", long)], [text("0", long + "z")])) == (CLOSE, "1 of 1 texts part")
    assert judge(measured([text("0", long)], [text("0", long)])) == (SAME, "")


def test_an_answer_that_flips_without_its_text_is_no_sameness() -> None:
    a = [text(str(n), "y" * 100) for n in range(40)]
    assert judge(measured(a, [text("0", "y" * 100, "8"), *a[1:]])) == (CLOSE, "1 of 40 answers flip")


def test_the_worst_verdict_is_that_of_the_whole() -> None:
    same, close = (judge(measured([text("0", "y" * 100)], [text("0", "y" * 100 + end)])) for end in ("", "z"))
    assert overall([same, close]) == CLOSE and overall([same, same]) == SAME


def test_prompts_that_the_models_saw_differently_are_not_compared() -> None:
    a, b = choice("0", [1, 0, 0, 0]), choice("0", [1, 0, 0, 0], prompt="??")
    with pytest.raises(
        UserError, match=r"it: 1 of 1 prompts are not the same in A and in B \(the first is that of 0\)"
    ):
        measured([a], [b])
    with pytest.raises(UserError, match="1 of 1 prompts"):
        measured([a], [{**a, "prompt": "cut"}])
    with pytest.raises(UserError, match="no item has a reply from both sides"):
        measured([a], [])


# -- wrong use ---------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("words", "said"),
    [
        ((), "--a has no checkpoint: give -c for both sides, or checkpoint=... for this one"),
        (("--a", "checkpoint=demo"), "--b has no checkpoint"),
        (("-c", "demo", "--a", "detype=float32"), "'detype' is no switch of a side; did you mean dtype=...?"),
        (("-c", "demo", "--a", "--dtype=float32"), "argument --a: expected at least one argument"),
        (("-c", "demo", "--b", "seed=3"), "'seed' is no switch of a side; a side may have checkpoint, adapter"),
        (("-c", "demo", "--b", "dtype"), "--b dtype: give it a value, dtype=..."),
        (("-c", "demo", "--b", "dtype=float32", "dtype=bfloat16"), "--b: dtype is given twice"),
        (("-c", "demo", "--b", "dtype=int3"), "argument --dtype: invalid choice: 'int3'"),
        (("-c", "demo", "--b", "gptq-backend=torch"), "B, mmlu: "),
        (("-c", "demo", "--b", "checkpoint=nowhere"), "B, mmlu: -c nowhere: no such folder"),
        (("-c", "demo", "--b", "checkpoint=demo-chat"), "A is a base model and B a chat model; --chat or --base"),
        (("-c", "demo", "--benchmarks", "mmlu,ppl"), "argument --benchmarks: 'ppl' is none of mmlu, ceval"),
        (("-c", "demo", "--sample", "0"), "argument --sample: '0' is not a whole number of at least 1"),
        (("-c", "demo", "--temperature", "0.5"), "--temperature is not for parity"),
        (("-c", "demo", "--rescore", "x"), "--rescore is not for two sides"),
        (("-c", "demo", "--no-such-flag"), "no run of these tables knows --no-such-flag"),
        (("-c", "demo", "--subjects", "x"), "unknown subject 'x' in --subjects"),
        (("-c", "demo", "-d", "nowhere"), "-d nowhere is no folder"),
        (("-c", "demo", "--tokenizer", "nowhere"), "--tokenizer nowhere: no such folder"),
        (("-c", "demo", "--b", "checkpoint=PENALTY"), "gsm8k: repetition_penalty is 1.0 for A and 1.5 for B; give"),
    ],
)
def test_wrong_use_is_one_line_before_any_work(parity, loads, monkeypatch, tmp_path: Path, words, said: str) -> None:
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_OFFLINE", True)
    if "checkpoint=PENALTY" in words:
        shutil.copytree(BASE, tmp_path / "other")
        (tmp_path / "other/generation_config.json").write_text('{"repetition_penalty": 1.5}', encoding="utf-8")
        words = (*words[:-1], f"checkpoint={tmp_path / 'other'}", "--max-new-tokens", "8")
    ended = parity(*words)
    assert ended.status == 2 and said in ended.err, ended.err
    assert len(ended.err.strip().splitlines()) == 1 and "--debug shows where" not in ended.err
    assert loads == [] and not list(tmp_path.glob("out/**/results.json"))
