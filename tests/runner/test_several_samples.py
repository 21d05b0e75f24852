"""Several replies to a question: how they are sampled, the mean over them and its interval, resumed and read again."""

import csv
import json
import re
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from statistics import fmean, stdev
from typing import Any

from qwen_eval.engines.base import Reply
from qwen_eval.engines.local.engine import LocalEngine
from qwen_eval.stats import wilson

import pytest

from ..engine.thinking_model import ALWAYS, HYBRID, NEVER, build

QUESTIONS, SAMPLES = 8, 10
THINKING = {"temperature": 0.6, "top_p": 0.95, "top_k": 20}
INSTRUCT = {"temperature": 0.7, "top_p": 0.8, "top_k": 20}
REPORT = "as the Qwen3 report, 4.6 has it"


@pytest.fixture(scope="module")
def models(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    folder = tmp_path_factory.mktemp("models")
    kinds = {"Qwen3-tiny": HYBRID, "Qwen3-tiny-Thinking-2507": ALWAYS, "Qwen3-tiny-Instruct-2507": NEVER}
    return {name: build(folder / name, template) for name, template in kinds.items()}


@pytest.fixture
def data(tmp_path: Path) -> Path:
    """GPQA, and GSM8K with the answer 7 throughout."""
    with (tmp_path / "gpqa_diamond.csv").open("w", encoding="utf-8", newline="") as stream:
        wrong = {f"Incorrect Answer {n}": f"wrong {n}" for n in (1, 2, 3)}
        rows: list[dict[str, Any]] = [
            {"Record ID": f"rec{n}", "Question": f"Which ({n})?", "Correct Answer": "right", **wrong}
            | {"Explanation": "So.", "High-level domain": "Physics"}
            for n in range(QUESTIONS)
        ]
        table = csv.DictWriter(stream, list(rows[0]))
        table.writeheader()
        table.writerows(rows)
    asked = [{"question": f"Which ({n})?", "answer": "#### 7"} for n in range(QUESTIONS)]
    (tmp_path / "test.jsonl").write_text("".join(json.dumps(row) + "\n" for row in asked))
    return tmp_path


def is_right(question: int, sample: int) -> bool:
    """Question 0 never, 7 always, those between ever more often."""
    return (question * 5 + sample * 7) % 10 < (0, 1, 3, 4, 6, 7, 9, 10)[question]


@pytest.fixture
def asked(monkeypatch: pytest.MonkeyPatch) -> list[Any]:
    """The requests; each question is answered by `is_right`, reply by reply, behind a think block."""
    found: list[Any] = []

    def generate(self: LocalEngine, requests: Sequence[Any]) -> Iterator[tuple[int, Reply]]:
        turn: Counter[int] = Counter()
        for index, request in enumerate(requests):
            prompt = self.prompt_text(request.tokens)
            number = int(re.findall(r"Which \((\d)\)", prompt)[-1])
            letters = re.search(r"\((.)\) right", prompt)
            right, wrong = (letters[1], "BA"[letters[1] == "B"]) if letters else ("7", "8")
            said = right if is_right(number, turn[number]) else wrong
            turn[number] += 1
            found.append(request)
            yield index, Reply(f"<think>Hm.</think>The answer is ({said}).", 9, "stop")

    monkeypatch.setattr(LocalEngine, "generate", generate)
    return found


def results(folder: Path) -> dict[str, Any]:
    return json.loads((folder / "results.json").read_text())


def decoding(folder: Path) -> dict[str, Any]:
    kept = ("temperature", "top_p", "top_k", "presence_penalty")
    return {name: value for name, value in results(folder)["manifest"]["settings"]["decoding"].items() if name in kept}


# -- the mean and its interval -----------------------------------------------------------------------------------------


def marks(samples: int = SAMPLES) -> list[list[bool]]:
    return [[is_right(question, sample) for sample in range(samples)] for question in range(QUESTIONS)]


def test_gpqa_of_a_qwen3_chat_model_is_the_mean_of_ten_sampled_replies(
    script: Callable[..., Any], models: dict[str, Path], data: Path, asked: list[Any]
) -> None:
    ended = script("gpqa", "-c", models["Qwen3-tiny"], "-d", data, "-o", data / "out")
    assert ended.status == 0, ended.err
    found, notes = results(data / "out"), results(data / "out")["notes"]
    means = [fmean(of_question) for of_question in marks()]
    assert found["scores"]["acc"]["value"] == pytest.approx(100 * fmean(means))
    assert found["scores"]["acc"]["n"] == QUESTIONS and found["items"]["answered"] == QUESTIONS * SAMPLES
    assert found["scores"]["acc_robust"]["value"] == found["scores"]["acc"]["value"]
    assert found["manifest"]["settings"]["num_samples"] == SAMPLES
    assert decoding(data / "out") == THINKING
    assert len({request.seed for request in asked}) == QUESTIONS * SAMPLES
    share = fmean(means)
    size = QUESTIONS * share * (1 - share) / fmean((mean - share) ** 2 for mean in means)
    assert QUESTIONS < size < QUESTIONS * SAMPLES, "the questions differ in how hard they are"
    low, high = wilson(share * size, size) or (0, 0)
    assert found["scores"]["acc"]["ci95"] == pytest.approx([100 * low, 100 * high])
    singles = [100 * fmean(of_sample) for of_sample in zip(*marks(), strict=True)]
    shown = f"from {min(singles):.2f} to {max(singles):.2f}, standard deviation {stdev(singles):.2f}"
    assert {
        f"replies are sampled (temperature 0.6, top-p 0.95, top-k 20), {REPORT}",
        "10 replies per question (--samples sets another): means over them, intervals over questions",
        f"acc of each of the 10 samples of all questions: {shown}",
        "80 of 80 replies have a think block, kept as `reasoning` and not read",
    } <= set(notes), notes


def test_ten_replies_that_are_always_alike_are_no_ten_questions(
    script: Callable[..., Any], models: dict[str, Path], data: Path, monkeypatch: pytest.MonkeyPatch, asked: list[Any]
) -> None:
    monkeypatch.setitem(globals(), "is_right", lambda question, sample: question < 3)
    how = ("-c", models["Qwen3-tiny"], "-d", data)
    for samples in (1, 10):
        of = ("--samples", samples, "--reported-as", "Qwen3-8B")
        ended = script("gpqa", *how, *of, "-o", data / str(samples))
        assert ended.status == 0, ended.err
    one, ten = (results(data / name)["scores"]["acc"] for name in ("1", "10"))
    assert {name: one[name] for name in ("value", "n", "ci95")} == {name: ten[name] for name in ("value", "n", "ci95")}
    assert one["reported"] == ten["reported"] == 62.0, "with thinking; 39.3 without"
    assert any("replies per question 1, the report's 10 (--samples)" in note for note in results(data / "1")["notes"])


def test_other_benchmarks_take_samples_and_a_drawn_question_keeps_all_of_its_own(
    script: Callable[..., Any], models: dict[str, Path], data: Path, asked: list[Any]
) -> None:
    how = ("-c", models["Qwen3-tiny"], "-d", data, "--samples", 3, "-o", data / "out")
    ended = script("gsm8k", *how, "--sample", 5)
    assert ended.status == 0, ended.err
    lines = [json.loads(line) for line in (data / "out/samples.jsonl").read_text().splitlines()]
    assert sorted(Counter(line["id"] for line in lines).values()) == [3] * 5
    assert "subset: 15 of 3957 replies; the verdict is about these only" in results(data / "out")["notes"]
    ended = script("gsm8k", *how)
    assert ended.status == 0 and len(asked) == 3 * QUESTIONS, "those of the first start are not asked again"
    assert results(data / "out")["scores"]["acc"]["n"] == QUESTIONS
    refused = script("gsm8k", *how, "--samples", 4)
    assert refused.status == 2 and "holds a run with another" in refused.err


def test_a_run_of_several_samples_is_read_again_compared_and_shown(
    script: Callable[..., Any], models: dict[str, Path], data: Path, monkeypatch: pytest.MonkeyPatch, asked: list[Any]
) -> None:
    how = ("-c", models["Qwen3-tiny"], "-d", data)
    assert script("gpqa", *how, "-o", data / "a").status == 0
    again = script("gpqa", "--rescore", data / "a", "-d", data, "-c", "Qwen3-tiny", "--chat", "-o", data / "again")
    assert again.status == 0, again.err
    for name in ("value", "n", "ci95"):
        assert results(data / "a")["scores"]["acc"][name] == results(data / "again")["scores"]["acc"][name]
    monkeypatch.setitem(globals(), "is_right", lambda question, sample: question == 7)
    worse = script("gpqa", *how, "-o", data / "b", "--baseline", data / "a")
    # Six questions lost much and one had nothing to lose: McNemar's test of 30 replies would call it certain.
    assert worse.status == 1 and ", by question p = 0.031" in "".join(results(data / "b")["notes"]), worse.err
    monkeypatch.setitem(globals(), "is_right", lambda question, sample: question in (0, 7) or question > 2)
    mixed = script("gpqa", *how, "-o", data / "c", "--baseline", data / "a")
    assert mixed.status == 0, "better by most questions"
    compared = script("compare", data / "a", data / "b", "-o", data / "compared")
    assert compared.status == 1 and "80" in compared.out, compared.err
    assert script("report", data / "a", data / "b", "-o", data / "report.html").status == 0
    assert (data / "report.html").stat().st_size > 10_000


# -- how the cards sample ----------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("model", "flags", "wanted", "note"),
    [
        ("Qwen3-tiny", (), THINKING, REPORT),
        ("Qwen3-tiny", ("--thinking", "off"), {**INSTRUCT, "presence_penalty": 1.5}, REPORT),
        ("Qwen3-tiny", ("--thinking", "off", "--presence-penalty", 0), INSTRUCT, "and the Qwen3 report, 4.6 has"),
        ("Qwen3-tiny", ("--temperature", 0.3), {**THINKING, "temperature": 0.3}, "and the Qwen3 report, 4.6 has"),
        ("Qwen3-tiny-Thinking-2507", (), THINKING, REPORT),
        ("Qwen3-tiny-Instruct-2507", (), INSTRUCT, "as the model's card has it"),
        ("Qwen3-tiny", ("--temperature", 0), {"temperature": 0.0, "top_p": 1.0, "top_k": 0}, "replies are greedy, and"),
        (
            "Qwen3-tiny",
            ("--thinking", "off", "--temperature", 0),
            {"temperature": 0.0, "top_p": 1.0, "top_k": 0},
            "replies are greedy, and the Qwen3 report, 4.6 has temperature 0.7, top-p 0.8, top-k 20, presence penalty",
        ),
        ("Qwen3-tiny", ("--protocol", "qwen"), {"temperature": 0.0, "top_p": 1.0, "top_k": 0}, None),
        ("Qwen3-tiny", ("--base",), {"temperature": 0.0, "top_p": 1.0, "top_k": 0}, None),
    ],
)
def test_a_qwen3_chat_model_is_sampled_as_its_card_says_unless_a_flag_says_else(
    script: Callable[..., Any],
    models: dict[str, Path],
    data: Path,
    asked: list[Any],
    model: str,
    flags: tuple[Any, ...],
    wanted: dict[str, float],
    note: str | None,
) -> None:
    shots = ("-k", 0) if "--base" in flags else ()
    ended = script("gsm8k", "-c", models[model], "-d", data, "--limit", 1, "-o", data / "out", *flags, *shots)
    assert ended.status == 0, ended.err
    assert decoding(data / "out") == wanted
    assert {name: getattr(asked[0], name) for name in wanted} == wanted, "and so the engine is asked"
    said = [line for line in results(data / "out")["notes"] if line.startswith("replies are")]
    assert [note in line for line in said] == [True] if note else not said


def test_a_checkpoints_own_sampling_comes_first_where_it_is_asked_in_its_own_way(
    script: Callable[..., Any], models: dict[str, Path], data: Path, asked: list[Any], tmp_path: Path
) -> None:
    own = build(tmp_path / "Qwen3-own")
    path = own / "generation_config.json"
    stored = {"do_sample": True, "temperature": 0.5, "top_p": 0.9, "top_k": 7}
    path.write_text(json.dumps(stored))
    how = ("gsm8k", "-c", own, "-d", data, "--limit", 1)
    assert script(*how, "-o", data / "on").status == 0
    assert decoding(data / "on") == {"temperature": 0.5, "top_p": 0.9, "top_k": 7}
    note = "replies are sampled (temperature 0.5, top-p 0.9, top-k 7), as the checkpoint's generation_config.json has"
    assert any(note in line for line in results(data / "on")["notes"])
    assert script(*how, "-o", data / "off", "--thinking", "off").status == 0
    assert decoding(data / "off") == {**INSTRUCT, "presence_penalty": 1.5}, "the file's is of thinking"
    for name, bad in {"temperature": 0, "top_p": 1.5, "top_k": -1}.items():
        path.write_text(json.dumps({**stored, name: bad}))
        ended = script(*how, "-o", data / "bad")
        assert ended.status == 2 and f"generation_config.json: {name} is {bad!r}" in ended.err, ended.err
        assert ended.err.count("\n") == 1


@pytest.mark.parametrize(
    ("benchmark", "flags", "problem"),
    [
        ("gpqa", ("--temperature", 0, "--samples", 10), "--samples 10 wants a --temperature above 0: greedy replies"),
        ("gsm8k", ("--base", "--samples", 2), "--samples 2 wants a --temperature above 0: greedy replies are all the"),
        ("mmlu", ("--base", "--samples", 2), "--samples 2: mmlu of a base model generates no replies to sample"),
        ("code_interpreter", ("--samples", 2), "--samples 2: code_interpreter takes one reply per question"),
        ("gpqa", ("--samples", 0), "'0' is not a whole number of at least 1"),
        ("gpqa", ("--presence-penalty", 3), "'3' is not a number from 0 to 2"),
    ],
)
def test_samples_that_make_no_sense_are_one_line_before_any_work(
    script: Callable[..., Any], models: dict[str, Path], tmp_path: Path, benchmark: str, flags: Any, problem: str
) -> None:
    nowhere = ("-d", tmp_path / "nowhere", "-o", tmp_path / "out")
    ended = script(benchmark, "-c", models["Qwen3-tiny"], *nowhere, *flags)
    assert ended.status == 2 and problem in ended.err, ended.err
    assert ended.err.count("\n") == 1 and not (tmp_path / "out").exists()
