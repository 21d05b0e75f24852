"""MMLU, C-Eval and GSM8K of a chat model with examples: the dialogue to the letter, what is read, averaged and said."""

import argparse
import hashlib
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

from qwen_eval.benchmark import Generate, Item, Setting, answered
from qwen_eval.data.items import read_jsonl
from qwen_eval.engines.base import Turns
from qwen_eval.places import DEMO

import evaluate_ceval as ceval
import evaluate_cmmlu as cmmlu
import evaluate_gsm8k as gsm8k
import evaluate_mmlu as mmlu
import pytest

DATA = DEMO / "data"

MMLU_SHOWN = """\
There is a single choice question about world religions. Answer the question by replying A, B, C or D.
Question: {question}
A. {A}
B. {B}
C. {C}
D. {D}
Answer: """
MMLU_ASKED = """\
There is a single choice question about world religions. Answer the question by replying A, B, C or D.
Q: {question}
A. {A}
B. {B}
C. {C}
D. {D}
A: """
CEVAL = """\
以下是中国关于植物保护考试的单项选择题，请选出其中的正确答案。
{question}
A. {A}
B. {B}
C. {C}
D. {D}
答案: """
ROW = {"question": "Which?", "A": "one", "B": "two", "C": "three", "D": "four", "answer": "C"}
OTHER = {"question": "Who?", "A": "ann", "B": "ben", "C": "cid", "D": "dot", "answer": "B"}


def samples(folder: Path) -> list[dict[str, Any]]:
    return list(read_jsonl(folder / "samples.jsonl"))


def results(folder: Path) -> dict[str, Any]:
    found: dict[str, Any] = json.loads((folder / "results.json").read_text(encoding="utf-8"))
    return found


def setting(shots: int, **flags: Any) -> Setting:
    return Setting(chat=True, shots=shots, flags=argparse.Namespace(cut_replies=False, **flags))


def asked(benchmark: Any, item: Item, how: Setting) -> Generate:
    request = next(benchmark.evaluate(item, how))
    assert isinstance(request, Generate)
    return request


# -- what is asked -----------------------------------------------------------------------------------------------------


def test_mmlu_shows_each_example_as_a_turn_and_asks_in_other_words() -> None:
    item = Item("world_religions/0", "world_religions", gold="C", row=ROW, examples=[OTHER, ROW])
    request = asked(mmlu.MMLU(), item, setting(2))
    shown = ((MMLU_SHOWN.format(**OTHER), "B\n"), (MMLU_SHOWN.format(**ROW), "C\n"))
    assert request == Generate(MMLU_ASKED.format(**ROW), examples=shown, max_total_tokens=2048)
    assert mmlu.MMLU().decoding(setting(2)) == {"max_new_tokens": 100}, "the penalty is the checkpoint's"


def test_ceval_names_the_subject_in_chinese() -> None:
    item = Item("plant_protection/0", "plant_protection", gold="C", row=ROW, examples=[OTHER])
    request = asked(ceval.CEval(), item, setting(1))
    assert request == Generate(CEVAL.format(**ROW), "", ((CEVAL.format(**OTHER), "B"),), 2048)
    assert ceval.CEval().decoding(setting(1)) == {"max_new_tokens": 100}
    assert list(ceval.CHINESE_NAMES) != ceval.SUBJECTS == sorted(ceval.CHINESE_NAMES)


def test_gsm8k_shows_the_first_of_opencompass_four_examples() -> None:
    row = {"question": "How many?", "answer": "So.\n#### 4"}
    item = Item("test/0", "test", gold=row["answer"], row=row)
    request = asked(gsm8k.GSM8K(), item, setting(4))
    assert request.prompt == "Question: How many?\nLet's think step by step\nAnswer:"
    assert request.max_total_tokens == 2048
    assert gsm8k.GSM8K().decoding(setting(4)) == {"max_new_tokens": 512}
    starts = ("Angelo and Melanie want", "Mark's basketball team", "Bella has two", "A group of 4 fruit baskets")
    for (question, solution), start, number in zip(request.examples, starts, (4, 201, 140, 146), strict=True):
        assert question.startswith(f"Question: {start}")
        assert question.endswith("?\nLet's think step by step\nAnswer:")
        assert solution.endswith(f"\nThe answer is {number}\n") and "\n\n" not in solution
    assert asked(gsm8k.GSM8K(), item, setting(2)).examples == request.examples[:2]


def test_the_examples_of_gsm8k_are_questions_of_its_training_set(shared: Path) -> None:
    known = {row["question"] for row in read_jsonl(shared / "data/gsm8k/train.jsonl")}
    for question, _ in gsm8k.chat_examples(4):
        assert question.removeprefix("Question: ").removesuffix("\nLet's think step by step\nAnswer:") in known


def test_what_has_no_published_dialogue_keeps_its_prompt() -> None:
    row = {"question": "How many?", "answer": "So.\n#### 4"}
    more = asked(gsm8k.GSM8K(), Item("test/0", "test", gold=row["answer"], row=row), setting(5))
    assert more == Generate(gsm8k.prompt("How many?", 5, chat=True))
    assert gsm8k.GSM8K().decoding(setting(5)) == {"repetition_penalty": 1.0}
    chinese = asked(cmmlu.CMMLU(), Item("agronomy/0", "agronomy", gold="C", row=ROW, examples=[OTHER]), setting(1))
    assert not chinese.examples and chinese.prompt.startswith("问题：Who?")


# -- what is read ------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(("benchmark", "subject"), [(mmlu.MMLU, "anatomy"), (ceval.CEval, "logic")])
def test_the_first_capital_is_the_answer_and_the_robust_extraction_reads_on(benchmark: Any, subject: str) -> None:
    item = Item(f"{subject}/0", subject, gold="C", row=ROW, examples=[OTHER])
    for reply, read in {"The answer is C.": "T", "C": "C", "答案是C": "C", "it is three": ""}.items():
        record = answered(benchmark().evaluate(item, setting(1)), reply)
        assert (record["prediction"], record["correct"]) == (read, read == "C"), reply
        assert (record["prediction_robust"], record["correct_robust"]) == ("C", True), reply


def test_gsm8k_reads_digits_and_compares_them_as_text() -> None:
    row = {"question": "How many?", "answer": "So.\n#### 1,000"}
    item = Item("test/0", "test", gold=row["answer"], row=row)
    cases = {
        "So 1,000": ("1000", True, True),
        "So 1000.00": ("100000", False, True),
        "So 1000 in all, from 3": ("3", False, False),
        "The answer is 1000 (twice 500)": ("500", False, True),
        "It is 1000\n\nQuestion: and 5?": ("1000", True, True),
        "\n\nIt is 1000": ("", False, True),
        "It is 1000<|endoftext|> 7": ("1000", True, True),
    }
    for reply, marks in cases.items():
        record = answered(gsm8k.GSM8K().evaluate(item, setting(4)), reply)
        assert (record["prediction"], record["correct"], record["correct_robust"]) == marks, reply
        assert record["gold"] == "1000"


# -- whole runs --------------------------------------------------------------------------------------------------------

Rescore = Callable[..., dict[str, Any]]


@pytest.fixture
def rescore(script: Any, tmp_path: Path) -> Rescore:
    """Score these replies, id -> text, with these flags; returns results.json."""

    def run(name: str, replies: dict[str, str], *flags: object) -> dict[str, Any]:
        lines = [json.dumps({"id": item, "response": reply}) + "\n" for item, reply in replies.items()]
        (tmp_path / "replies.jsonl").write_text("".join(lines), encoding="utf-8")
        given = ("--rescore", tmp_path / "replies.jsonl", "--chat", "-o", tmp_path / "out", "--overwrite")
        subjects = ",".join(sorted({item.partition("/")[0] for item in replies}))
        ended = script(name, *given, "-d", DATA / name, "--subjects", subjects, *flags)
        assert ended.status == 0, ended.err
        return results(tmp_path / "out")

    return run


def text_of(turns: Turns, question: str) -> str:
    return "".join(f"user: {asked}\nassistant: {answer}\n" for asked, answer in turns) + f"user: {question}"


def test_given_replies_are_read_by_this_protocol_and_their_lines_have_the_whole_dialogue(
    rescore: Rescore, tmp_path: Path
) -> None:
    found = rescore("mmlu", {"nutrition/0": "It is A", "nutrition/1": "A"}, "-k", 3)
    lines = samples(tmp_path / "out")
    assert [line["prediction"] for line in lines] == ["I", "A"]
    rows = mmlu.choices.subject_rows(DATA / "mmlu", mmlu.LAYOUT, "dev", "nutrition")[:3]
    first = mmlu.choices.subject_rows(DATA / "mmlu", mmlu.LAYOUT, "test", "nutrition")[0]
    turns = tuple((mmlu.chat_turn("nutrition", row, "Question", "Answer"), row["answer"] + "\n") for row in rows)
    text = text_of(turns, mmlu.chat_turn("nutrition", first, "Q", "A"))
    assert lines[0]["prompt"] == text
    assert lines[0]["prompt_sha256"] == hashlib.sha256(text.encode()).hexdigest()
    assert "answers given: A 1, B 0, C 0, D 0, other or none 1" in found["notes"]


def test_mmlus_average_is_over_subjects(rescore: Rescore) -> None:
    replies = {"nutrition/0": "A", "nutrition/1": "x", "nutrition/2": "x", "astronomy/0": "x"}
    few = rescore("mmlu", replies, "-k", 1)["scores"]
    assert (few["acc"]["value"], few["acc"]["n"]) == (pytest.approx(100 / 6), 4)
    assert "acc_robust" in few
    none = rescore("mmlu", replies)["scores"]  # 0-shot is over questions, as ever
    assert none["acc"]["value"] in (25.0, 50.0, 75.0, 100.0)


@pytest.mark.parametrize(
    ("name", "shots", "reported", "model"),
    [
        ("mmlu", 5, 57.0, "Qwen-7B-Chat"),
        ("ceval", 5, 71.7, "Qwen-14B-Chat"),
        ("gsm8k", 4, 43.5, "Qwen-7B-Chat@v1.0"),
    ],
)
def test_the_reported_figure_is_found_and_a_note_says_that_it_was_sampled(
    rescore: Rescore, name: str, shots: int, reported: float, model: str
) -> None:
    item = {"mmlu": "nutrition/0", "ceval": "plant_protection/0", "gsm8k": "test/0"}[name]
    found = rescore(name, {item: "A"}, "-k", shots, "--reported-as", model)
    assert found["scores"]["acc"]["reported"] == reported
    (note,) = [note for note in found["notes"] if "sampled" in note]
    assert note.endswith("how the given replies were decoded is not known")
    other = rescore(name, {item: "A"}, "-k", 0, "--reported-as", model)
    assert not any("sampled" in note for note in other["notes"])


def test_the_examples_of_more_than_four_turns_are_said_to_be_ours(rescore: Rescore) -> None:
    assert any("which is ours" in note for note in rescore("gsm8k", {"test/0": "1"}, "-k", 8)["notes"])
    assert not any("which is ours" in note for note in rescore("gsm8k", {"test/0": "1"}, "-k", 4)["notes"])


def run_demo(script: Any, out: Path, name: str, *flags: object) -> Any:
    return script(name, "-c", "demo-chat", "-d", DATA / name, "-o", out, *flags)


def test_a_run_of_the_demo_from_prompt_to_note(script: Any, tmp_path: Path) -> None:
    flags = ("-k", 5, "--subjects", "nutrition", "--limit", 3, "--reported-as", "Qwen-7B-Chat")
    ended = run_demo(script, tmp_path, "mmlu", *flags, "--debug")
    assert ended.status == 0, ended.err
    lines = samples(tmp_path)
    prompt = lines[0]["prompt"]
    assert prompt.startswith("\n<|im_start|>user\nThere is a single choice question about nutrition. Answer the")
    assert prompt.endswith("\nD. Dorsho\nA: <|im_end|>\n<|im_start|>assistant\n")
    assert prompt.count("Answer: <|im_end|>\n<|im_start|>assistant\n") == 5 and "system" not in prompt
    assert f"--- nutrition/0\n{prompt}\n---\n" in ended.err
    assert not any(line["cut"] for line in lines) and all(line["new_tokens"] <= 100 for line in lines)
    found = results(tmp_path)
    decoding = found["manifest"]["settings"]["decoding"]
    assert (decoding["max_new_tokens"], decoding["repetition_penalty"], decoding["temperature"]) == (100, 1.1, 0)
    (note,) = [note for note in found["notes"] if "sampled" in note]
    assert "this run is greedy, which departs from that" in note
    before = (tmp_path / "samples.jsonl").read_bytes()
    assert run_demo(script, tmp_path, "mmlu", *flags).status == 0
    assert (tmp_path / "samples.jsonl").read_bytes() == before, "a finished item is not asked again"


def test_another_example_is_another_prompt_and_the_items_behind_it_are_asked_again(script: Any, tmp_path: Path) -> None:
    import shutil

    data = shutil.copytree(DATA / "mmlu", tmp_path / "data")
    flags = ("-c", "demo-chat", "-d", data, "-o", tmp_path / "out", "-k", 2, "--subjects", "nutrition", "--limit", 2)
    assert script("mmlu", *flags).status == 0
    old = [line["item_sha256"] for line in samples(tmp_path / "out")]
    dev = data / "dev/nutrition_dev.csv"
    dev.write_text(dev.read_text().replace("The main part of Thori is", "The main part of Zori is"))
    ended = script("mmlu", *flags)
    assert "2 of 2 finished items had another prompt" in ended.err
    lines = samples(tmp_path / "out")
    assert not set(old) & {line["item_sha256"] for line in lines}
    assert all("Zori" in line["prompt"] for line in lines)


def test_a_long_prompt_loses_its_beginning_so_that_the_reply_has_room(script: Any, tmp_path: Path) -> None:
    from qwen_model.loading import load_tokenizer

    encode = load_tokenizer(DEMO / "checkpoint/chat").encode
    flags = ("--limit", 2, "--max-new-tokens", 20)
    assert run_demo(script, tmp_path / "whole", "gsm8k", "-k", 1, *flags).status == 0
    assert run_demo(script, tmp_path / "cut", "gsm8k", "-k", 1, *flags, "--max-seq-len", 320).status == 0
    for whole, cut in zip(samples(tmp_path / "whole"), samples(tmp_path / "cut"), strict=True):
        assert whole["prompt"].endswith(cut["prompt"])
        assert (whole["cut"], cut["cut"]) == (False, True)
        assert len(encode(cut["prompt"])) == 300 < len(encode(whole["prompt"]))
    said = "prompts longer than --max-seq-len less the new tokens, which lost their beginning as published: 2"
    assert said in results(tmp_path / "cut")["notes"]
    assert "--max-seq-len" in "".join(results(tmp_path / "cut")["manifest"]["departures"])


def test_no_room_for_a_prompt_is_one_line(script: Any, tmp_path: Path) -> None:
    ended = run_demo(script, tmp_path, "ceval", "-k", 1, "--subjects", "plant_protection", "--max-seq-len", 100)
    assert ended.status == 2
    assert "100 tokens for prompt and reply (--max-seq-len) leave none for the prompt" in ended.err
