"""ARC, HellaSwag, WinoGrande and TruthfulQA: prompts to the letter, scores, odd data, layouts, bad data; and the
figures of lm-evaluation-harness item by item."""

import json
import math
import time
from pathlib import Path
from typing import Any

from qwen_eval.benchmark import Item, Setting, answered
from qwen_eval.reporting.samples import unpacked
from qwen_eval.runner import parse_flags
from tests.eval.lm_eval_side import compare, in_lm_eval, own_task

import evaluate_arc
import evaluate_hellaswag
import evaluate_truthfulqa
import evaluate_winogrande
import pytest

WORDS = "river stone light water cloud metal plant animal sound heat energy force rock wind moon soil".split()
Row = dict[str, Any]


def word(number: int) -> str:
    return WORDS[number % len(WORDS)]


def write(path: Path, rows: list[Row]) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text("".join(json.dumps(row) + "\n" for row in rows), encoding="utf-8")
    return path


# -- rows as the hub has them, and the official files ------------------------------------------------------------------


def arc_row(number: int) -> Row:
    """3 to 5 choices of 1 to 4 words, some called by numbers."""
    count = 3 + number % 3
    labels = list("12345" if number % 4 == 0 else "ABCDE")[:count]
    texts = [" ".join(word(number * 7 + n * 3 + k) for k in range(1 + n % 4)) for n in range(count)]
    asked = f"Which of these has to do with {word(number)}  and {word(number * 5)}?"
    choices = {"text": texts, "label": labels}
    return {"id": f"q{number}", "question": asked, "choices": choices, "answerKey": labels[number % count]}


def arc_official(row: Row) -> Row:
    choices = [
        {"text": text, "label": label}
        for text, label in zip(row["choices"]["text"], row["choices"]["label"], strict=True)
    ]
    return {**row, "question": {"stem": row["question"], "choices": choices}}


def hellaswag_row(number: int) -> Row:
    """Some from WikiHow, with brackets and two spaces; some without a second context."""
    marks = ("[header] ", "", "[step] ")[number % 3]
    endings = [f"{marks}goes to the  {word(n)} [substeps] and {word(n + number)}." + " Later." * n for n in range(4)]
    second = "" if number % 4 == 0 else f"he {word(number)}"
    first = f" A man sees {word(number)}. [title] How to find {word(number + 1)} [step] Look."
    label = number % 4
    return {
        "activity_label": f"Find {word(number)}",
        "ctx_a": first,
        "ctx_b": second,
        "endings": endings,
        "label": label,
    }


def winogrande_row(number: int) -> Row:
    """The blank in the middle, before a comma, before `'s`, and before odd spaces."""
    behind = ("_ was heavy.", "_, it seems, was old.", "_'s side was wet.", "_   was  new. ")[number % 4]
    sentence = f"The {word(number)} hit the {word(number + 3)} because the {behind}"
    answer = "12"[number % 2]
    return {"sentence": sentence, "option1": word(number), "option2": word(number + 3), "answer": answer}


def truthfulqa_row(number: int) -> Row:
    """3 to 6 answers; mc2 has more true ones, and an answer that mc1 lacks."""
    false = [f"It is {word(number + n)} and {word(n)}." for n in range(1, 3 + number % 3)]
    mc1 = {f"Nobody knows {word(number)}.": 1, **dict.fromkeys(false, 0)}
    mc2 = {**mc1, f"It depends on {word(number + 7)}": 1, "Always": 0}
    return {"question": f"What happens to {word(number)}?", "mc1_targets": mc1, "mc2_targets": mc2}


def truthfulqa_hub(row: Row) -> Row:
    names = ("mc1_targets", "mc2_targets")
    return {**row, **{name: {"choices": [*row[name]], "labels": [*row[name].values()]} for name in names}}


ARC_EASY = [arc_row(number + 300) for number in range(4)]
MADE = {
    "arc": {
        "ARC-Challenge-Test.jsonl": [arc_official(arc_row(number)) for number in range(24)],
        "ARC-Challenge-Train.jsonl": [arc_official(arc_row(number + 100)) for number in range(26)],
        "ARC-Easy-Test.jsonl": list(map(arc_official, ARC_EASY)),
        "ARC-Easy-Train.jsonl": list(map(arc_official, ARC_EASY)),
    },
    "hellaswag": {
        "hellaswag_val.jsonl": [hellaswag_row(number) for number in range(24)],
        "hellaswag_train.jsonl": [hellaswag_row(number + 50) for number in range(10)],
    },
    "winogrande": {
        "dev.jsonl": [winogrande_row(number) for number in range(24)],
        "train_xl.jsonl": [winogrande_row(number + 50) for number in range(5)],
    },
    "truthfulqa": {"mc_task.json": [truthfulqa_row(number) for number in range(24)]},
}
HUB_FILES = {
    "arc": {
        "ARC-Challenge/test": [arc_row(number) for number in range(24)],
        "ARC-Challenge/train": [arc_row(number + 100) for number in range(26)],
    },
    "hellaswag": {
        f"data/{split}": [{**row, "label": str(row["label"])} for row in MADE["hellaswag"][f"hellaswag_{name}.jsonl"]]
        for split, name in (("validation", "val"), ("train", "train"))
    },
    "winogrande": {
        f"winogrande_xl/{split}": MADE["winogrande"][name]
        for split, name in (("validation", "dev.jsonl"), ("train", "train_xl.jsonl"))
    },
    "truthfulqa": {"multiple_choice/validation": list(map(truthfulqa_hub, MADE["truthfulqa"]["mc_task.json"]))},
}
CLASSES = {
    "arc": evaluate_arc.ARC,
    "hellaswag": evaluate_hellaswag.HellaSwag,
    "winogrande": evaluate_winogrande.WinoGrande,
    "truthfulqa": evaluate_truthfulqa.TruthfulQA,
}
ALL = pytest.mark.parametrize("name", CLASSES)


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder for each benchmark with its official files."""
    top = tmp_path_factory.mktemp("official")
    for name, files in MADE.items():
        for file, rows in files.items():
            path = write(top / name / file, rows)
            if path.suffix == ".json":
                path.write_text(json.dumps(rows), encoding="utf-8")
    return top


def samples(folder: Path) -> dict[str, Row]:
    lines = (folder / "samples.jsonl").read_text(encoding="utf-8").splitlines()
    return {row["id"]: row for row in map(unpacked, map(json.loads, lines))}


def setting(name: str, *flags: str, **known: Any) -> Setting:
    return Setting(flags=parse_flags(CLASSES[name](), None, flags), **known)


def request(name: str, item: Item, **known: Any) -> Any:
    return next(CLASSES[name]().evaluate(item, setting(name, **known)))


# -- prompts and scores ------------------------------------------------------------------------------------------------

CHALLENGE = {
    "question": "Which is a metal?",
    "texts": ["wood", "iron ore", "air"],
    "labels": ["A", "B", "C"],
    "answer": "B",
}


def test_arc_asks_for_the_texts_behind_the_question() -> None:
    item = Item("test/0", "test", gold="B", row=CHALLENGE, examples=[CHALLENGE])
    asked = request("arc", item)
    assert asked.prompt == "Question: Which is a metal?\nAnswer: iron ore\n\nQuestion: Which is a metal?\nAnswer:"
    assert asked.continuations == [" wood", " iron ore", " air"]
    record = answered(evaluate_arc.ARC().evaluate(item, setting("arc")), [-3.0, -4.0, -3.5])
    assert (record["prediction"], record["correct"], record["correct_norm"]) == ("A", False, True)
    chat = request("arc", Item("test/0", "test", gold="B", row=CHALLENGE), chat=True)
    assert chat.prompt == (
        "Question: Which is a metal?\nA. wood\nB. iron ore\nC. air\n\nAnswer with the letter of the right choice."
    )
    record = answered(evaluate_arc.ARC().evaluate(item, setting("arc", chat=True)), "It is iron ore.")
    assert record["prediction"] == "B" and record["correct"]


def test_hellaswag_takes_the_brackets_away_as_lm_evaluation_harness_does() -> None:
    row = {
        "activity_label": "Cooking",
        "ctx_a": " [header] How to cook [title] Take rice. [step]  Wash it.",
        "ctx_b": "you",
        "endings": ["[substeps] eat it.", "sell  it [now].", "c", "d"],
        "label": 1,
    }
    asked = request("hellaswag", Item("val/0", "val", gold="B", row=row, examples=[row]))
    context = "Cooking:  How to cook. Take rice.  Wash it. You"
    assert asked.prompt == f"{context} sell it .\n\n{context}"
    assert asked.continuations == ["  eat it.", " sell it .", " c", " d"]


def test_winogrande_scores_what_stands_behind_the_blank() -> None:
    row = {"sentence": "Ann saw Eve, as _  was late.", "option1": "Ann", "option2": "Eve", "answer": "2"}
    item = Item("dev/0", "dev", gold="2", row=row, examples=[row])
    asked = request("winogrande", item)
    assert asked.prompt == "Ann saw Eve, as Eve was late.\n\nAnn saw Eve, as "
    assert (asked.between, asked.continuations) == (["Ann", "Eve"], [" was late."] * 2)
    assert answered(evaluate_winogrande.WinoGrande().evaluate(item, setting("winogrande")), [-5.0, -4.5])["correct"]
    record = answered(evaluate_winogrande.WinoGrande().evaluate(item, setting("winogrande", chat=True)), "2. Eve")
    assert record["correct"]


def test_truthfulqa_asks_each_answer_once_and_gives_mc1_and_mc2() -> None:
    mc1, mc2 = {"true": 1, "false": 0}, {"false": 0, "true": 1, "also true": 1}
    item = Item("validation/0", "validation", gold="true", row={"question": "Why?", "mc1": mc1, "mc2": mc2})
    asked = request("truthfulqa", item)
    assert asked.continuations == [" true", " false", " also true"]
    assert asked.prompt.startswith("Q: What is human life") and asked.prompt.endswith(
        "Barcelona, Spain.\n\nQ: Why?\nA:"
    )
    run = evaluate_truthfulqa.TruthfulQA()
    record = answered(run.evaluate(item, setting("truthfulqa")), [math.log(0.2), math.log(0.5), math.log(0.3)])
    assert record["correct"] is False and record["mc2"] == pytest.approx(0.5)
    far = answered(run.evaluate(item, setting("truthfulqa")), [-2000.0, -2001.0, -2002.0])  # exp() of these is 0
    assert far["correct"] is True and 0.7 < far["mc2"] < 0.8


def test_a_chat_model_sees_truthfulqas_answers_in_an_order_of_the_question(data: Path) -> None:
    run = evaluate_truthfulqa.TruthfulQA()
    items = list(run.load(setting("truthfulqa", data_path=str(data / "truthfulqa"))))
    right = [evaluate_truthfulqa.shuffled(item).index(item.gold) for item in items]
    assert len(set(right)) > 1, "their own order has the true answer in front"
    reply = f"The answer is {'ABCDEF'[right[3]]}."
    record = answered(run.evaluate(items[3], setting("truthfulqa", chat=True)), reply)
    assert record["correct"] and record["prediction"] == items[3].gold


# -- data --------------------------------------------------------------------------------------------------------------


@ALL
def test_the_hubs_tables_are_the_same_data(name: str, data: Path, tmp_path: Path) -> None:
    import pandas

    for file, rows in HUB_FILES[name].items():
        (tmp_path / "hub" / file).parent.mkdir(parents=True, exist_ok=True)
        pandas.DataFrame(rows).to_parquet(tmp_path / f"hub/{file}-00000-of-00001.parquet")

    def loaded(folder: Path) -> list[Any]:
        found = CLASSES[name]().load(setting(name, data_path=str(folder), shots=0 if name == "truthfulqa" else 5))
        return [(one.id, one.gold, one.row, one.examples) for one in found]

    assert loaded(data / name) == loaded(tmp_path / "hub") and len(loaded(data / name)) == 24


def test_the_easy_part_is_another_benchmark(script, demo_checkpoint: Path, data: Path, tmp_path: Path) -> None:
    flags = ("-c", demo_checkpoint, "-d", data / "arc", "-k", 2, "-o", tmp_path / "out")
    assert script("arc", *flags, "--easy").status == 0
    assert len(samples(tmp_path / "out")) == 4
    ended = script("arc", *flags)
    assert ended.status == 2 and "another model, dtype or prompt setting" in ended.err


BAD = {
    "arc": [({"answerKey": "F"}, "answerKey 'F' is not one of the labels"), ({"question": {}}, "no choices with text")],
    "hellaswag": [({"endings": ["a"]}, "'endings' is [\"a\"], not a list of four"), ({"label": ""}, "'label' is \"\"")],
    "winogrande": [({"sentence": "no blank"}, "not a sentence with a blank"), ({"answer": "3"}, "'answer' is \"3\"")],
    "truthfulqa": [
        ({"mc1_targets": {"a": 1, "b": 1, "c": 0}}, "row 0: 'mc1_targets' has 2 true answers, not one"),
        ({"mc2_targets": {"a": 0}}, "row 0: 'mc2_targets' is no list of answers"),
        ({"mc1_targets": {"choices": ["a"], "labels": [1, 0]}}, "row 0: 'mc1_targets' has not as many labels"),
    ],
}


@ALL
def test_what_cannot_be_used_is_one_line(name: str, script, demo_checkpoint, data: Path, tmp_path: Path) -> None:
    def said(*flags: object) -> str:
        ended = script(name, "-c", demo_checkpoint, *flags, "-o", tmp_path / "out")
        assert ended.status == 2 and ended.err.count("\n") == 1, ended.err
        return ended.err

    tested, rows = next(iter(MADE[name].items()))
    for change, what in BAD[name]:
        path = write(tmp_path / tested, [rows[0] | change])
        path.write_text(json.dumps([rows[0] | change])) if path.suffix == ".json" else None
        assert what in said("-d", tmp_path, *([] if name == "truthfulqa" else ["-k", 0]))
    if name != "truthfulqa":
        assert "fewer than --num-fewshot 40" in said("-d", data / name, "-k", 40)
    assert f"the demo has no samples of {CLASSES[name].name}; -d names the data" in script(name, "-c", "demo").err


# -- runs --------------------------------------------------------------------------------------------------------------


@ALL
def test_both_demo_models_run(name: str, script, data: Path, tmp_path: Path) -> None:
    flags = ("-d", data / name, "--limit", 4, "--max-new-tokens", 8)
    base = script(name, "-c", "demo", *flags, "-o", tmp_path / "base")
    assert base.status == 0, base.err
    chat = script(name, "-c", "demo-chat", *flags, "-o", tmp_path / "chat")
    assert chat.status == 0, chat.err
    assert len(samples(tmp_path / "base")) == len(samples(tmp_path / "chat")) == 4
    again = script(name, "--rescore", tmp_path / "base", "-d", data / name, "-o", tmp_path / "again")
    assert again.status == 0, again.err
    marks = [{key: row["correct"] for key, row in samples(tmp_path / out).items()} for out in ("base", "again")]
    assert marks[0] == marks[1]


FIGURE = """benchmark,metric,shots,value
arc_challenge,acc,25,20
hellaswag,acc,10,20
winogrande,acc,5,50
truthfulqa,acc,0,40
"""


@ALL
def test_the_cards_figure_stands_beside_one_score_and_is_never_reproduced(
    name: str, script, demo_checkpoint: Path, data: Path, tmp_path: Path
) -> None:
    (tmp_path / "card.csv").write_text(FIGURE)
    flags = ("-d", data / name, "--reported", tmp_path / "card.csv", "-o", tmp_path / "out")
    ended = script(name, "-c", demo_checkpoint, *flags)
    assert ended.status == 0, ended.err
    scores = json.loads((tmp_path / "out/results.json").read_text())["scores"]
    beside = [metric for metric, score in scores.items() if score.get("reported")]
    assert beside == {"winogrande": ["acc"], "truthfulqa": ["mc2"]}.get(name, ["acc_norm"])
    assert "not the reported protocol, so never `reproduced`: the card does not say" in ended.out


# -- against lm-evaluation-harness's own tasks -------------------------------------------------------------------------

THEIRS = {
    "arc": ("arc/arc_challenge.yaml", {"test": "ARC-Challenge/test", "train": "ARC-Challenge/train"}, "test"),
    "hellaswag": ("hellaswag/hellaswag.yaml", {"validation": "data/validation", "train": "data/train"}, "val"),
    "winogrande": (
        "winogrande/default.yaml",
        {"validation": "winogrande_xl/validation", "train": "winogrande_xl/train"},
        "dev",
    ),
}


@pytest.mark.heavy
@pytest.mark.parametrize("name", THEIRS)
def test_lm_evaluation_harness_agrees_item_by_item(
    name: str, script, demo_checkpoint: Path, data: Path, tmp_path: Path
) -> None:
    pytest.importorskip("lm_eval", reason="lm-evaluation-harness comes with the bench extra; .ci/run installs it")
    yaml, splits, split = THEIRS[name]
    files = {one: str(write(tmp_path / f"{one}.jsonl", HUB_FILES[name][file])) for one, file in splits.items()}
    began = time.perf_counter()
    theirs = in_lm_eval(demo_checkpoint, own_task(yaml, files, fewshot_split="train"))
    between = time.perf_counter()
    flags = ("-c", demo_checkpoint, "-d", data / name, "--dtype", "float32", "-k", 5, "-o", tmp_path / "out")
    assert script(name, *flags).status == 0
    print(f"{name}: {between - began:.1f} s there, {time.perf_counter() - between:.1f} s here")
    ours = samples(tmp_path / "out")
    if name == "winogrande":  # two prompts, of which a line has the first, and no acc_norm
        for one in theirs:
            row = ours[f"dev/{one['doc_id']}"]
            assert row["choice_logits"] == pytest.approx([float(each[0]) for each in one["filtered_resps"]], abs=2e-4)
            assert row["correct"] == bool(one["acc"])
    else:
        compare(ours, theirs, split)


@pytest.mark.heavy
def test_lm_evaluation_harness_has_the_same_mc1_and_mc2(script, demo_checkpoint: Path, data: Path, tmp_path) -> None:
    pytest.importorskip("lm_eval", reason="lm-evaluation-harness comes with the bench extra; .ci/run installs it")
    flags = ("-c", demo_checkpoint, "-d", data / "truthfulqa", "--dtype", "float32", "-o", tmp_path / "out")
    assert script("truthfulqa", *flags).status == 0
    ours = samples(tmp_path / "out")
    (rows,) = HUB_FILES["truthfulqa"].values()
    files = {"validation": str(write(tmp_path / "validation.jsonl", rows))}
    for kind, field in (("mc1", "correct"), ("mc2", "mc2")):
        task = own_task(f"truthfulqa/truthfulqa_{kind}.yaml", files, num_fewshot=0)
        for one in in_lm_eval(demo_checkpoint, task):
            row = ours[f"validation/{one['doc_id']}"]
            assert float(row[field]) == pytest.approx(float(one["acc"]), abs=2e-4)
