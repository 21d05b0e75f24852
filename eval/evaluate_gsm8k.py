"""GSM8K: 1,319 grade-school word problems, 8 worked examples for a base model, none for a chat model.

    python eval/evaluate_gsm8k.py -c Qwen/Qwen-7B -d data/gsm8k
    python eval/evaluate_gsm8k.py -c Qwen/Qwen-7B-Chat -d data/gsm8k            # the question alone (0-shot)
    python eval/evaluate_gsm8k.py -c Qwen/Qwen-7B-Chat -d data/gsm8k -k 4       # four worked examples before it

Protocol: QwenLM/Qwen, eval/evaluate_gsm8k.py and eval/evaluate_chat_gsm8k.py. Data: openai/gsm8k, `test.jsonl`
(Cobbe et al. 2021). The eight examples are
qwen_eval/benchmarks/prompts/gsm8k_8shot.txt, as published; fewer are its first k.

Chat models with 1 to 4 examples are asked and read as OpenCompass did it (`gsm8k_gen_1d7fe4`): every example is a turn
of its own, the first k of qwen_eval/benchmarks/prompts/gsm8k_4shot_chat.txt (worked by Fu et al. 2022, arXiv
2210.00720); the answer is the digits of the first paragraph's last word with a digit. With more than 4 they get the
base model's prompt as one turn; no prompt is published for that, so this is ours.

Base models of Qwen1.5 to Qwen3 get the first 4 examples; their chat models are told to box the answer, and the last box
is read, else the last number (--protocol; the wording of protocols.BOXED, which is ours).

Two extractions of a reply. The protocol's have defects that the reported numbers were measured with: the base one takes
the last run of digits, so that `20,800` is 800, `7.00` is 0, `-3` is 3, and `1,083` is nothing at all, because 083 is
no number to Python. The robust one takes the number that the reply announces as its answer ("The answer is", `####`, a
box, bold), else its last one.
"""

import argparse
import ast
import re
from collections.abc import Iterable, Mapping, Sequence
from functools import partial
from typing import Any

from qwen_eval.benchmark import Benchmark, Content, Evaluation, Generate, Item, Record, Results, Setting, Shots
from qwen_eval.benchmarks import opencompass
from qwen_eval.data.items import STRING, TEXT, Hub, Kind, read_table, tables
from qwen_eval.engines.base import Turns
from qwen_eval.errors import UserError, run_script
from qwen_eval.extraction.minerva import last_boxed
from qwen_eval.extraction.numbers import close, read_number
from qwen_eval.extraction.opencompass import read_digits
from qwen_eval.extraction.replies import END_OF_TEXT, cut_at, plain_lines
from qwen_eval.places import PROMPTS
from qwen_eval.protocols import BOXED, BOXED_TOKENS
from qwen_eval.runner import run_benchmark
from qwen_eval.stats import accuracy

HUB = Hub("openai/gsm8k", "main/test-00000-of-00001.parquet")
FILES = ("test.jsonl", "test.jsonl.gz", "test.json", *tables("main", "test"), *tables("", "test"))
EXAMPLES = PROMPTS / "gsm8k_8shot.txt"
CHAT_EXAMPLES = PROMPTS / "gsm8k_4shot_chat.txt"
MOST_TURNS = 4  # examples as turns of a chat; with more, a chat model gets the base model's prompt
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


def as_turns(setting: Setting) -> bool:
    """Whether the examples are turns of a chat, and all else follows OpenCompass."""
    return opencompass.few_shot_chat(setting) and setting.shots <= MOST_TURNS


def chat_turn(question: str) -> str:
    """A user's turn of the few-shot chat prompt."""
    return f"Question: {question}\nLet's think step by step\nAnswer:"


def chat_examples(shots: int) -> Turns:
    """The first `shots` examples as turns of user and assistant."""
    blocks = CHAT_EXAMPLES.read_text(encoding="utf-8").rstrip("\n").split("\n\n")
    pairs = [block.split("\nAnswer:\n") for block in blocks[:shots]]
    return tuple((f"{question}\nAnswer:", f"{solution}\n") for question, solution in pairs)


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


def read(reply: str, answer: str, setting: Setting, boxed: bool = False) -> tuple[Any, Any, bool]:
    """Protocol: what the reply says, what the row's answer says, whether both are the same. boxed: in its last box."""
    if boxed:
        reply = last_boxed(reply) or reply
    if as_turns(setting):
        digits, gold = read_digits(reply), answer.partition("#### ")[2].replace(",", "")
        return digits, gold, digits == gold
    if setting.chat:
        number, value = read_chat(reply), python_number(read_chat(answer) or "")
        return number, value, close(python_number(number or ""), value)
    found, value = read_base(reply), gold_base(answer)
    return found, value, value is not None and found == value


def score(reply: str, answer: str, setting: Setting, boxed: bool = False) -> dict[str, Any]:
    """Both extractions of a reply and both verdicts. `answer` is the row's, ending in `#### N`."""
    prediction, gold, correct = read(reply, answer, setting, boxed)
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
        question = item.row["question"]
        if as_turns(setting):
            reply = yield opencompass.ask(setting, chat_examples(setting.shots), chat_turn(question))
        else:
            told = BOXED if self.boxed(setting) else ""
            reply = yield Generate(prompt(question, setting.shots, setting.chat) + told)
        cut = setting.flags.cut_replies and not setting.chat
        kept = truncate(plain_lines(reply)) if cut else cut_at(reply, [END_OF_TEXT])
        return {"response": kept, **score(kept, item.gold, setting, self.boxed(setting))}

    def protocol(self, setting: Setting) -> Mapping[str, Any]:
        found = {"num_fewshot": setting.shots, "cut_replies": setting.flags.cut_replies}
        return {**found, "max_seq_len": opencompass.total_tokens(setting)} if as_turns(setting) else found

    def decoding(self, setting: Setting) -> Mapping[str, Any]:
        if as_turns(setting):
            return {"max_new_tokens": 512}
        if self.boxed(setting):
            return {"repetition_penalty": 1.0, "max_new_tokens": BOXED_TOKENS}
        # The other chat figures were made without the penalty that the checkpoint's generation_config.json asks for.
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
        if setting.chat and setting.shots > MOST_TURNS:
            notes.append(
                f"{setting.shots} examples for a chat model: the base model's prompt as one turn, which is ours"
            )
        return Results(scores, notes=notes, remarks=partial(opencompass.notes, setting) if as_turns(setting) else None)


def main() -> int:
    return run_benchmark(GSM8K(), __doc__)


if __name__ == "__main__":
    run_script(main)
