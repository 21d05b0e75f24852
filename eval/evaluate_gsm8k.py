"""GSM8K: 1,319 grade-school word problems, 8 worked examples for a base model, none for a chat model.

    python eval/evaluate_gsm8k.py -c Qwen/Qwen-7B -d data/gsm8k
    python eval/evaluate_gsm8k.py -c Qwen/Qwen-7B-Chat -d data/gsm8k            # the question alone (0-shot)
    python eval/evaluate_gsm8k.py -c Qwen/Qwen-7B-Chat -d data/gsm8k -k 4       # four worked examples before it

Protocol: QwenLM/Qwen, eval/evaluate_gsm8k.py and eval/evaluate_chat_gsm8k.py. Data: openai/gsm8k, `test.jsonl`
(Cobbe et al. 2021). The eight examples are
qwen_eval/benchmarks/prompts/gsm8k_8shot.txt, as published; fewer are its first k.

Two readings of a reply. The protocol's differ between base and chat, and the base one has defects that the reported
numbers were measured with: it takes the last run of digits, so that `20,800` is 800, `7.00` is 0, `-3` is 3, and
`1,083` is nothing at all, because 083 is no number to Python. The robust one takes the number that the reply announces
as its answer ("The answer is", `####`, a box, bold), else its last one.
Not published, ours: which four examples the 4-shot chat figure had; we take the first four.
"""

import ast
import re
from typing import Any

from qwen_eval.cli import parser
from qwen_eval.data.items import STRING, TEXT, Hub, Item, Kind, choose_subjects, read_table, tables
from qwen_eval.errors import UserError, run_script
from qwen_eval.extraction.numbers import close, read_number
from qwen_eval.extraction.replies import plain_lines
from qwen_eval.places import PROMPTS
from qwen_eval.run import Run
from qwen_eval.stats import accuracy

HUB = Hub("openai/gsm8k", "main/test-00000-of-00001.parquet")
FILES = ("test.jsonl", "test.jsonl.gz", "test.json", *tables("main", "test"), *tables("", "test"))
OFFICIAL_N = 1319
EXAMPLES = PROMPTS / "gsm8k_8shot.txt"
END = "<|endoftext|>"
STOPS = (END, "\n\n", "Question:")  # a base model goes on with the next question

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
    """A base model's completion up to the first of STOPS. The engine stops there by itself; given replies may go on."""
    for stop in STOPS:
        completion = completion.split(stop)[0]
    return completion


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
    """Both readings of a reply and both verdicts. `answer` is the row's, ending in `#### N`."""
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


def main() -> int:
    flags = parser(__doc__, shots=8, chat_shots=0)
    flags.add_argument("--cut-replies", action="store_true", help="--rescore: cut base replies as a model's would be")
    args = flags.parse_args()
    run = Run(args, "gsm8k", OFFICIAL_N)
    shots = run.shots(base=8, chat=0)
    choose_subjects(["test"], args.subjects)

    items = [
        Item(f"test/{number}", "test", prompt(row["question"], shots, run.chat), row["answer"])
        for number, row in enumerate(read_test(run.data_path))
    ]
    # The chat figures were made without the penalty that the checkpoint's generation_config.json asks for.
    decoding = {"repetition_penalty": 1.0} if run.chat else {"stop": STOPS}
    run.start(items, {"num_fewshot": shots, "cut_replies": args.cut_replies}, decoding)
    for item, reply in run.generate():
        kept = truncate(plain_lines(reply)) if args.cut_replies and not run.chat else reply.split(END)[0]
        run.save(item, response=kept, **score(kept, item.gold, run.chat))

    records = run.records
    scores = {
        "acc": accuracy(record["correct"] for record in records),
        "acc_robust": accuracy((record["correct_robust"] for record in records), compared=False),
    }
    notes = [run.list_disagreements([r["id"] for r in records if r["correct"] != r["correct_robust"]])]
    if not run.chat and (long := sum(record["response"] != truncate(record["response"]) for record in records)):
        notes.append(f"{long} replies go on behind a blank line or `Question:`; read whole (--cut-replies cuts them)")
    return run.report(scores, notes=notes, shots=shots)


if __name__ == "__main__":
    run_script(main)
