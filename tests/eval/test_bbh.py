"""BBH: prompts as they were sent to code-davinci-002, and its published accuracies through the script."""

import json
import sys
import tarfile

from qwen_eval.errors import UserError

import evaluate_bbh
import pytest
from evaluate_bbh import ALGORITHMIC, NLP, TASKS, examples, prompt, read, read_robust, same, score

OPTIONS = "Which day?\nOptions:\n(A) 12/23/1987\n(B) 12/24/1987"
PROMPT_FILE = """DO NOT TRAIN ON THIS
-----
Add numbers.

Q: 1 + 1 is
A: Let's think step by step.
The answer is even. 1 + 1 = 2. So the answer is 2.

Q: 2 + 1 is
A: Let's think step by step. 2 + 1 = 3. So the answer is 3."""


@pytest.fixture
def rescore(monkeypatch, tmp_path):
    """Run the script on (id, reply) pairs: results.json and the figures of table.csv by their names."""

    def run(data, replies, *flags):
        lines = [json.dumps({"id": name, "response": reply}) for name, reply in replies]
        (tmp_path / "replies.jsonl").write_text("\n".join(lines), encoding="utf-8")
        out = tmp_path / "out"
        words = ["-d", data, "--rescore", tmp_path / "replies.jsonl", "-o", out, "--overwrite", *flags]
        monkeypatch.setattr(sys, "argv", ["evaluate_bbh.py", *map(str, words)])
        assert evaluate_bbh.main() == 0
        table = [line.split(",") for line in (out / "table.csv").read_text(encoding="utf-8").split("\n")[1:] if line]
        return json.loads((out / "results.json").read_text(encoding="utf-8")), {row[1]: row[2] for row in table}

    return run


@pytest.fixture(scope="module")
def codex(shared):
    """What code-davinci-002 was sent and replied, and the accuracy that was published: by mode and task."""
    found = {"cot": {}, "direct": {}}
    accuracies = {"cot": {}, "direct": {}}
    with tarfile.open(shared / "published_outputs/bbh_codex/code-davinci-002-outputs.tar.xz") as tar:
        for member in tar:
            if not member.isfile():
                continue
            mode = "cot" if "-cot/" in member.name else "direct"
            task = member.name.rsplit("/", 1)[1].split("_few_shot")[0]
            content = json.load(tar.extractfile(member))
            if member.name.endswith("_eval_metrics.jsonl"):
                accuracies[mode][task] = content["accuracy"]
            else:
                found[mode][task] = content["outputs"]
    return found, accuracies


def test_the_examples_lose_their_canary_and_in_answer_only_mode_their_reasoning():
    assert examples(PROMPT_FILE, cot=True).startswith("Add numbers.\n\nQ: 1 + 1 is\nA: Let's think")
    assert examples(PROMPT_FILE, cot=False) == "Add numbers.\n\nQ: 1 + 1 is\nA: 2\n\nQ: 2 + 1 is\nA: 3"
    assert prompt("S", "3 + 1 is", cot=True) == "S\n\nQ: 3 + 1 is\nA: Let's think step by step."
    assert prompt("S", "3 + 1 is", cot=False) == "S\n\nQ: 3 + 1 is\nA:"


def test_prompts_are_those_that_were_sent(shared, codex):
    """Character by character (but for white space at both ends), where the release's own inputs and data agree."""
    differ = {"cot": {}, "direct": {}}
    for task in TASKS:
        text = (shared / "data/bbh/cot-prompts" / f"{task}.txt").read_text(encoding="utf-8")
        rows = json.loads((shared / "data/bbh/bbh" / f"{task}.json").read_text(encoding="utf-8"))["examples"]
        for mode, count in differ.items():
            shots = examples(text, mode == "cot")
            assert "canary" not in shots
            sent = [output["input"].strip() for output in codex[0][mode][task]]
            wrong = sum(
                prompt(shots, row["input"], mode == "cot") != text for row, text in zip(rows, sent, strict=True)
            )
            if wrong:
                count[task] = wrong
    assert differ["cot"] == {"snarks": 1}  # one question was stored cut off
    # Three prompts of the answer-only release differ from the chain-of-thought files in an option, a sentence, a typo.
    assert set(differ["direct"]) == {"date_understanding", "snarks", "tracking_shuffled_objects_three_objects"}


@pytest.mark.parametrize(
    ("mode", "average", "paper", "algorithmic", "nlp"),
    [("cot", 73.712, 73.928, 74.4, 73.5), ("direct", 52.760, 56.614, 45.9, 66.4)],
)
def test_published_accuracies_through_the_script(shared, codex, rescore, mode, average, paper, algorithmic, nlp):
    outputs, accuracies = codex
    replies = [
        (f"{task}/{number}", output["prediction"])
        for task in TASKS
        for number, output in enumerate(outputs[mode][task])
    ]
    assert len(replies) == 6511
    results, figures = rescore(shared / "data/bbh", replies, *(["--no-cot"] if mode == "direct" else []))
    assert {task: float(figures[task]) for task in TASKS} == pytest.approx(accuracies[mode], abs=1e-9)
    assert results["scores"]["acc"]["value"] == pytest.approx(average, abs=5e-4)
    assert float(figures["all"]) == pytest.approx(paper, abs=5e-4)
    assert float(figures["algorithmic"]) == pytest.approx(algorithmic, abs=0.05)
    assert float(figures["nlp"]) == pytest.approx(nlp, abs=0.05)


def test_the_halves_are_the_tasks():
    assert len(TASKS) == 27 and len(set(ALGORITHMIC) | set(NLP)) == 27


@pytest.mark.parametrize(
    ("reply", "answer"),
    [
        ("So the answer is (B).", "(B)"),
        ("the answer is 3. No, the answer is 4.", "4"),
        ("The Answer is (B).", "The Answer is (B)"),  # no phrase in lower case: the whole text
        ("the answer is valid..", "valid."),
    ],
)
def test_protocol(reply, answer):
    assert read(reply, cot=True) == answer


@pytest.mark.parametrize(
    ("reply", "target", "correct", "robust"),
    [
        ("So the answer is (B).", "(B)", True, True),
        ("So the answer is (B) 12/01.\n\nQ: next", "(B)", False, True),
        ("So the answer is B.", "(B)", False, True),
        ("**Answer:** (B)", "(B)", False, True),
        ("the answer is (A) or (B).", "(A)", False, False),
        ("the answer is (A).", "(B)", False, False),
        ("So the answer is YES.", "yes", False, True),
        ("So the answer is not plausible.", "no", False, False),
        ("So the answer is ] ] >.", "] ] >", True, True),
        ("So the answer is ]]>.", "] ] >", False, True),
        ("So the answer is 14.", "4", False, False),
        ("", "4", False, False),
        ("So the answer is option (B).", "(B)", False, True),
        ("So the answer is Option B.", "(B)", False, True),
        ("The answer is （B）。", "(B)", False, True),
        ("The answer is \\boxed{B}.", "(B)", False, True),
        ("The answer is $\\boxed{\\text{(B)}}$", "(B)", False, True),
        ("The answer is **(B) 12/24/1987**.", "(B)", False, True),
        ("The answer is b) the 24th", "(B)", False, True),
        ("The answer is (B). (A) is the day before.", "(B)", False, True),
        ("The answer is (A). (B) is the day before.", "(B)", False, False),
        ("The answer is 12/24/1987.", "(B)", False, True),
        ("**Step 1**: look.\n\n**(B)**", "(B)", False, True),
        ("答案是（Ｂ）。", "(B)", False, True),
        ("A new day begins.", "(A)", False, False),
        ("So B.", "(B)", False, True),
        ("I choose (B).", "(B)", False, True),
        ("(A) is wrong. (B) is right.", "(B)", False, True),
        ("The answer is (B), not (A).", "(B)", False, True),
        ("The answer is 12/24/1987 (B).", "(B)", False, True),
        ("**8** objects: 3 and 5.", "8", False, True),
        ("The answer is ['barn', 'damp', 'dot'].", "barn damp dot", False, True),
        ("The answer is ']', ']', '>'.", "] ] >", False, True),
        ("The answer is - 50.", "-50", False, True),
        ("The answer is \u221250.", "-50", False, True),
        ("The answer is 8 objects.", "8", False, True),
        ("The answer is 8.\nQ: next\nA: the answer is 3.", "8", False, True),
        ("The answer is 8.\r\n\r\nQ: next\r\nA: the answer is 3.", "8", False, True),
        ("8 fruits: 3 + 5 = 8.", "8", False, True),
        ("The answer is No, because it is false.", "No", False, True),
        ("The answer is 'yes'.", "Yes", False, True),
        ("So the answer is that the argument is deductively invalid.", "invalid", False, True),
        ("The argument is not valid.", "invalid", False, True),
        ("The answer is **False**", "False", False, True),
        ("The answer is True or False.", "True", False, False),
        ("So the answer is: barn, damp, dot.", "barn damp dot", False, True),
        ("So the answer is:\n1. barn\n2. damp\n3. dot\n\nThese are sorted.", "barn damp dot", False, True),
        ("The answer is 'Barn' 'damp' 'dot'", "barn damp dot", False, True),
        ("The answer is barn, damp, and dot.", "barn damp dot", False, True),
        ("The answer is damp barn dot.", "barn damp dot", False, False),
        ("So the answer is `] ] >`.", "] ] >", False, True),
        ('So the answer is "] ] >", since these were open.', "] ] >", False, True),
        ("So the answer is ] >.", "] ] >", False, False),
    ],
)
def test_both_readings(reply, target, correct, robust):
    marks = score(reply, target, cot=True, question=OPTIONS)
    assert (marks["correct"], marks["correct_robust"]) == (correct, robust)
    for again in (reply.replace("\n", "\r\n") + "\r\n", "\ufeff" + reply + "\n"):  # line ends and marks change nothing
        assert read_robust(again, target, cot=True, question=OPTIONS) == marks["prediction_robust"]


def test_answer_only_replies_are_the_answer():
    assert score(" True\n\nQ: next", "True", cot=False)["correct"]
    assert read_robust("True, because", "True", cot=False) == "true"
    assert same("true", "True") and not same("truely", "True")
    assert score("8 objects (3 + 5)\n\nQ: next", "8", cot=False)["correct_robust"]
    assert score("B\n", "(B)", cot=False)["correct_robust"]


def test_a_missing_prompt_is_an_error(tmp_path, rescore):
    (tmp_path / "bbh").mkdir()
    (tmp_path / "cot-prompts").mkdir()
    with pytest.raises(UserError, match=r"missing file .*boolean_expressions\.txt"):
        rescore(tmp_path, [("navigate/0", "Yes")])
    with pytest.raises(UserError, match="unknown subject"):
        rescore(tmp_path, [("navigate/0", "Yes")], "--subjects", "navigation")


def test_without_data_the_error_says_where_to_get_it(tmp_path, rescore):
    for given in (tmp_path / "absent", "nobody/nothing"):
        with pytest.raises(UserError, match="suzgunmirac/BIG-Bench-Hard"):
            rescore(given, [("navigate/0", "Yes")])
