"""MMLU: the prompt to the letter, and predictions equal to one plain fp32 forward a question."""

import hashlib
import json
from pathlib import Path
from typing import Any

from qwen_eval.benchmarks import multiple_choice as choices
from qwen_eval.data.items import locate

import evaluate_mmlu as mmlu
import pytest

DEMO = Path(__file__).resolve().parents[2] / "demo" / "data" / "mmlu"

FIVE_SHOT = """\
The following are multiple choice questions (with answers) about nutrition.

Question: A traveller writes home: A good source of ferrol is the soup Olwen. The main part of Olwen is barley. \
The soup called Nalo is made from mushrooms.
What is the soup called Nalo made from?

A. chestnuts
B. millet
C. mushrooms
D. pumpkin
Answer: C

Question: The main part of Thori is
A. pumpkin
B. mushrooms
C. oats
D. millet
Answer: A

Question: In what is the soup Shofen rich?
A. lumine
B. ossine
C. vigorol
D. ferrol
Answer: D

Question: Which of these is a town?

A. Ritan
B. the red louse
C. Stone Day
D. Dorsho
Answer:"""

ZERO_SHOT_CHAT = """\
The following is a multiple-choice question. Please choose the most suitable one among A, B, C and D as the answer to \
this question.

From which town does the soup Keru come?
A. Shona
B. Griti
C. Kelo
D. Wengri
"""


def samples(folder: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for line in (folder / "samples.jsonl").read_text(encoding="utf-8").splitlines()]


def sha256(text: str) -> str:
    return hashlib.sha256(text.encode()).hexdigest()


def test_base_prompt_to_the_letter(script, demo_checkpoint: Path, tmp_path: Path) -> None:
    flags = ("-c", demo_checkpoint, "-d", DEMO, "-o", tmp_path, "--subjects", "nutrition", "--limit", 1, "-k", 3)
    ended = script("mmlu", *flags, "--debug")
    assert ended.status == 0
    assert f"--- nutrition/0\n{FIVE_SHOT}\n---\n" in ended.err
    (row,) = samples(tmp_path)
    assert (row["id"], row["subject"], row["gold"]) == ("nutrition/0", "nutrition", "A")
    assert row["prompt_sha256"] == sha256(FIVE_SHOT)


def test_chat_prompt_to_the_letter(script, tmp_path: Path) -> None:
    rows = choices.rows(DEMO / "test" / "nutrition_test.csv", mmlu.COLUMNS, header=False)
    assert mmlu.chat_prompt(rows[1]) == ZERO_SHOT_CHAT
    replies = tmp_path / "replies.jsonl"
    replies.write_text('{"id": "nutrition/1", "response": "The answer is A."}\n')
    assert (
        script("mmlu", "--rescore", replies, "-d", DEMO, "--subjects", "nutrition", "-o", tmp_path / "out").status == 0
    )
    (row,) = samples(tmp_path / "out")
    assert row["prompt_sha256"] == sha256(ZERO_SHOT_CHAT)
    assert (row["prediction"], row["correct"]) == ("A", True)


def test_choices_that_look_like_missing_values_are_text(tmp_path: Path) -> None:
    path = tmp_path / "a_test.csv"
    path.write_text("Which?,None,NA,nan,N/A,B\nWhich?,null,,n/a,NaN,A\n")
    rows = choices.rows(path, mmlu.COLUMNS, header=False)
    assert mmlu.example(rows[0], answer=True) == "Question: Which?\nA. None\nB. NA\nC. nan\nD. N/A\nAnswer: B\n\n"
    assert mmlu.example(rows[1], answer=False) == "Question: Which?\nA. null\nB. \nC. n/a\nD. NaN\nAnswer:"


def test_the_groups_are_the_57_subjects() -> None:
    assert {name: len(group) for name, group in mmlu.GROUPS.items()} == {
        "stem": 19, "humanities": 13, "social": 12, "other": 13,
    }  # fmt: skip
    assert len(set(mmlu.SUBJECTS)) == 57


def test_the_official_data_is_read_whole(shared: Path) -> None:
    folder = locate(str(shared / "data/mmlu"), mmlu.HUB, "test")
    assert sorted(path.name.removesuffix("_test.csv") for path in (folder / "test").iterdir()) == mmlu.SUBJECTS
    found = [choices.subject_rows(folder, mmlu.LAYOUT, "test", s) for s in mmlu.SUBJECTS]
    assert sum(map(len, found)) == mmlu.MMLU.official_items
    for subject in mmlu.SUBJECTS:
        assert len(choices.shots(folder, mmlu.LAYOUT, subject, 5)) == 5


# -- a full subject of the official data against a plain forward a prompt --------------------------

SUBJECT = "college_computer_science"  # 100 questions; with 5 shots all of them are over 512 tokens


@pytest.fixture(scope="module")
def published_vocabulary(shared: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A tiny random Qwen with the published tokenizer: 151,936 entries, hidden 32, 2 layers."""
    import build_checkpoint
    from safetensors.torch import save

    folder = tmp_path_factory.mktemp("models") / "wide"
    folder.mkdir()
    (folder / "qwen.tiktoken").write_bytes((shared / "data/tokenizer/qwen.tiktoken").read_bytes())
    settings = {**build_checkpoint.config(32, 2, 151_936, kv_channels=16), "seq_length": 600}  # NTK, LogN beyond 600
    build_checkpoint.write_json(folder / "config.json", settings)
    build_checkpoint.write_json(folder / "generation_config.json", build_checkpoint.generation_config(151_643, False))
    build_checkpoint.write_json(folder / "tokenizer_config.json", build_checkpoint.TOKENIZER_CONFIG)
    weights = build_checkpoint.random_weights(settings, seed=3)
    (folder / "model.safetensors").write_bytes(save(weights, metadata={"format": "pt"}))
    return folder


@pytest.fixture(scope="module")
def plain(shared: Path, published_vocabulary: Path) -> dict[int, dict[str, tuple[list[float], bool]]]:
    """By --max-seq-len: id -> the four logits of one fp32 forward of the whole prompt, and whether it was cut."""
    from qwen_model import QWenLMHeadModel, QWenTokenizer

    import torch

    torch.set_num_threads(1)
    model = QWenLMHeadModel.from_pretrained(published_vocabulary, dtype=torch.float32).eval()
    tokenizer = QWenTokenizer.from_pretrained(published_vocabulary)
    letters = [tokenizer.encode_plain(f" {letter}")[0] for letter in "ABCD"]
    folder = shared / "data/mmlu"
    dev = choices.shots(folder, mmlu.LAYOUT, SUBJECT, 5)
    rows = choices.rows(folder / "test" / f"{SUBJECT}_test.csv", mmlu.COLUMNS, header=False)
    found: dict[int, dict[str, tuple[list[float], bool]]] = {512: {}, 2048: {}}
    for number, row in enumerate(rows):
        ids = tokenizer.encode_plain(mmlu.base_prompt(SUBJECT, dev, row))
        for limit in found:
            kept = ids if len(ids) <= limit else ids[-(limit - 1) :]
            with torch.inference_mode():
                logits = model(input_ids=torch.tensor([kept]), use_cache=False, logits_to_keep=1).logits[0, -1]
            found[limit][f"{SUBJECT}/{number}"] = (logits[letters].tolist(), len(ids) > limit)
    return found


@pytest.mark.parametrize("limit", [2048, 512])
@pytest.mark.parametrize("batch", ["1", "7", "auto"])
def test_a_full_subject_equals_a_plain_forward_a_prompt(
    script, shared: Path, published_vocabulary: Path, plain, tmp_path: Path, batch: str, limit: int
) -> None:
    flags = ("-c", published_vocabulary, "-d", shared / "data/mmlu", "-o", tmp_path, "--subjects", SUBJECT)
    ended = script("mmlu", *flags, "-b", batch, "--max-seq-len", limit)
    assert ended.status == 0, ended.err
    rows = {row["id"]: row for row in samples(tmp_path)}
    assert rows.keys() == plain[limit].keys()
    assert len(rows) == 100
    for name, (logits, cut) in plain[limit].items():
        assert rows[name]["choice_logits"] == pytest.approx(logits, abs=2e-4)
        assert rows[name]["prediction"] == "ABCD"[max(range(4), key=logits.__getitem__)]
        assert rows[name].get("cut", False) is cut
    cut = sum(was_cut for _, was_cut in plain[limit].values())
    said = f"prompts longer than --max-seq-len, which lost their beginning as published: {cut}"
    assert (said in (tmp_path / "table.md").read_text()) == (cut > 0)
    assert (cut > 50) == (limit == 512)
