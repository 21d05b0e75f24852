"""GSM8K: 1,319 grade-school word problems, 8 worked examples for a base model, none for a chat model.

    python eval/evaluate_gsm8k.py -c Qwen/Qwen-7B -d data/gsm8k
    python eval/evaluate_gsm8k.py -c Qwen/Qwen-7B-Chat -d data/gsm8k            # the question alone (0-shot)
    python eval/evaluate_gsm8k.py -c Qwen/Qwen-7B-Chat -d data/gsm8k -k 4       # four worked examples before it

Protocol: QwenLM/Qwen, eval/evaluate_gsm8k.py and eval/evaluate_chat_gsm8k.py. Data: openai/gsm8k, `test.jsonl`
(Cobbe et al. 2021). The eight examples are
qwen_eval/benchmarks/prompts/gsm8k_8shot.txt, as published; fewer are its first k.

Two extractions of a reply. The protocol's differ between base and chat, and the base one has defects that the reported
numbers were measured with: it takes the last run of digits, so that `20,800` is 800, `7.00` is 0, `-3` is 3, and
`1,083` is nothing at all, because 083 is no number to Python. The robust one takes the number that the reply announces
as its answer ("The answer is", `####`, a box, bold), else its last one.
Not published, ours: which four examples the 4-shot chat figure had; we take the first four.
"""

import argparse
import ast
import re
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from qwen_eval.benchmark import Benchmark, Content, Evaluation, Generate, Item, Record, Results, Setting, Shots
from qwen_eval.data.items import STRING, TEXT, Hub, Kind, read_table, tables
from qwen_eval.errors import UserError, run_script
from qwen_eval.extraction.numbers import close, read_number
from qwen_eval.extraction.replies import END_OF_TEXT, cut_at, plain_lines
from qwen_eval.places import PROMPTS
from qwen_eval.runner import run_benchmark
from qwen_eval.stats import accuracy

HUB = Hub("openai/gsm8k", "main/test-00000-of-00001.parquet")
FILES = ("test.jsonl", "test.jsonl.gz", "test.json", *tables("main", "test"), *tables("", "test"))
EXAMPLES = PROMPTS / "gsm8k_8shot.txt"
STOPS = (END_OF_TEXT, "\n\n", "Question:")  # a base model goes on with the next question

# --- data ---


def read_test(given: str | None) -> list[dict[str, Any]]:
    """The test rows: of a JSONL file, a folder with test.jsonl, or the hub's tables."""
    answer = Kind("a text that ends in `#### N`", lambda value: STRING.fits(value) and gold_base(value) is not None)
    return read_table(given, HUB, FILES, {"question": TEXT, "answer": answer})


# --- prompt ---


def prompt(question: str, shots: int, chat: bool) -> str:
    """The text of the examples, then the question; a chat model without examples gets the question alone."""
    if chat and shots == 0:
        return question
    asked = f"Question: {question}\nLet's think step by step\n"
    return f"{examples(shots)}\n{asked}" if shots else asked


def examples(shots: int) -> str:
    """The first `shots` worked examples, a blank line between them, a newline at the end."""
    blocks = EXAMPLES.read_text(encoding="utf-8").rstrip("\n").split("\n\n")
    if shots > len(blocks):
        raise UserError(f"-k {shots}: the published prompt has {len(blocks)} examples")
    return "\n\n".join(blocks[:shots]) + "\n"


# --- reply: what of it counts ---


def truncate(completion: str) -> str:
    """A base model's completion up to the first of STOPS."""
    return cut_at(completion, STOPS)


# --- extract and score ---


def python_number(text: str) -> Any:
    """The value of `text` as Python reads it, None if it does not: 083 is no number, 00 and 08.5 are."""
    try:
        return ast.literal_eval(text)
    except (SyntaxError, ValueError, MemoryError):
        return None


def read_base(reply: str) -> int | str:
    """protocol, base: the last run of digits; `[invalid]` without one that Python reads as a number."""
    digits = re.findall(r"\d+", reply)  # \d takes digits of other scripts too, which are then no number
    value = python_number(digits[-1]) if digits else None
    return "[invalid]" if value is None else value


def gold_base(answer: str) -> Any:
    match = re.search(r"#### (-?[0-9.,]+)", answer)
    return python_number(match.group(1).replace(",", "")) if match else None


# A sign, thousands with commas or plain digits, decimals; nothing digit-like may follow.
CHAT_NUMBER = re.compile(r"[+-]?(?=[0-9]|\.[0-9])(?:0|[1-9]\d{0,2}(?:,\d{3})*|\d*)(?:\.\d*)?(?!\d)")


def read_chat(reply: str) -> str | None:
    """protocol, chat: the last number as it is written, without commas and plus; None without a number."""
    found = CHAT_NUMBER.findall(reply)
    return found[-1].replace(",", "").replace("+", "") if found else None


def score(reply: str, answer: str, chat: bool) -> dict[str, Any]:
    """Both extractions of a reply and both verdicts. `answer` is the row's, ending in `#### N`."""
    prediction: int | str | None
    if chat:
        prediction = read_chat(reply)
        gold = python_number(read_chat(answer) or "")
        correct = close(python_number(prediction or ""), gold)
    else:
        prediction, gold = read_base(reply), gold_base(answer)
        correct = gold is not None and prediction == gold
    robust = read_number(reply)
    return {
        "prediction": prediction,
        "gold": gold,
        "correct": correct,
        "prediction_robust": robust,
        "correct_robust": close(robust, read_number(answer)),
    }


# --- the benchmark ---


class GSM8K(Benchmark):
    name = "gsm8k"
    official_items = 1_319
    shots = Shots(base=8, chat=0)

    def add_flags(self, flags: argparse.ArgumentParser) -> None:
        flags.add_argument(
            "--cut-replies", action="store_true", help="--rescore: cut base replies as a model's would be"
        )

    def load(self, setting: Setting) -> Iterable[Item]:
        setting.subjects(["test"])
        for number, row in enumerate(read_test(setting.data_path)):
            yield Item(f"test/{number}", "test", gold=row["answer"], row=row)

    def content(self, item: Item) -> Content:
        return Content(item.row["question"], item.row["answer"])

    def evaluate(self, item: Item, setting: Setting) -> Evaluation:
        reply = yield Generate(prompt(item.row["question"], setting.shots, setting.chat))
        cut = setting.flags.cut_replies and not setting.chat
        kept = truncate(plain_lines(reply)) if cut else cut_at(reply, [END_OF_TEXT])
        return {"response": kept, **score(kept, item.gold, setting.chat)}

    def protocol(self, setting: Setting) -> Mapping[str, Any]:
        return {"num_fewshot": setting.shots, "cut_replies": setting.flags.cut_replies}

    def decoding(self, setting: Setting) -> Mapping[str, Any]:
        # The chat figures were made without the penalty that the checkpoint's generation_config.json asks for.
        return {"repetition_penalty": 1.0} if setting.chat else {"stop": STOPS}

    def aggregate(self, records: Sequence[Record], setting: Setting) -> Results:
        scores = {
            "acc": accuracy(record["correct"] for record in records),
            "acc_robust": accuracy((record["correct_robust"] for record in records), compared=False),
        }
        notes = []
        long = sum(record["response"] != truncate(record["response"]) for record in records)
        if long and not setting.chat:
            notes.append(
                f"{long} replies go on behind a blank line or `Question:`; read whole (--cut-replies cuts them)"
            )
        return Results(scores, notes=notes)


def main() -> int:
    return run_benchmark(GSM8K(), __doc__)


if __name__ == "__main__":
    run_script(main)
