"""MBPP: 500 small programming tasks (ids 11 to 510), judged by the three tests that the prompt shows; 3-shot.

    python eval/evaluate_mbpp.py -c Qwen/Qwen-7B -d data/mbpp
    python eval/evaluate_mbpp.py --rescore replies.jsonl -d data/mbpp
    python eval/evaluate_mbpp.py -c Qwen/Qwen2.5-7B --evalplus MbppPlus.jsonl.gz     # MBPP and MBPP+, 0-shot

Protocol: the prompt of Austin et al. 2021 (google-research/mbpp), tasks 2, 3 and 4 as the shots. Data: `mbpp.jsonl`;
`sanitized-mbpp.json` too, which has 257 of the 500 tasks, worded anew.
An id is `MBPP/11`. Not published, ours: the data's carriage returns are newlines in the prompt; a program has 10
seconds (the slowest reference takes 4); a chat model gets the same prompt as its turn.
`--evalplus FILE` is another protocol on another set of tasks: see qwen_eval/benchmarks/mbpp_plus.py.

Programs run in the sandbox (qwen_eval/sandbox), never here. protocol: the reply up to `[DONE]` is the program. robust
(extraction/programs.py): what the tests use, wherever it stands in the reply, with all that it needs, and nothing else.
"""

import argparse
import ast
from collections.abc import Iterable, Mapping, Sequence, Set
from pathlib import Path
from typing import Any

from qwen_eval.benchmark import (
    Benchmark,
    Content,
    Evaluation,
    Generate,
    Item,
    Record,
    Results,
    Setting,
    Shots,
    Solution,
)
from qwen_eval.benchmarks import code, mbpp_plus
from qwen_eval.data.items import (
    STRING,
    STRINGS,
    TEXT,
    TEXTS,
    WHOLE,
    Hub,
    file_sha256,
    locate_files,
    no_duplicates,
    tables,
)
from qwen_eval.data.items import read_rows as read_table
from qwen_eval.errors import UserError, run_script
from qwen_eval.extraction import programs
from qwen_eval.extraction.python_source import parsed
from qwen_eval.extraction.replies import END_OF_TEXT, cut_at, plain_lines
from qwen_eval.runner import run_benchmark
from qwen_eval.sandbox import Check

HUB = Hub("google-research-datasets/mbpp", "full/test-00000-of-00001.parquet")
HUB_SHOTS = Hub("google-research-datasets/mbpp", "full/prompt-00000-of-00001.parquet")
FILES = (
    "mbpp.jsonl",
    *tables("full", "test"),
    *tables("", "test"),
    "sanitized-mbpp.json",
    *tables("sanitized", "test"),
)
SHOT_FILES = (*tables("full", "prompt"), *tables("", "prompt"), *tables("sanitized", "prompt"))
TEST_IDS = range(11, 511)
SHOT_IDS = (2, 3, 4)
FIELDS = {"task_id": WHOLE, "code": TEXT, "test_list": TEXTS}
ORIGINAL = {"text": TEXT, "test_setup_code": STRING}
SANITIZED = {"prompt": TEXT, "test_imports": STRINGS}
DONE = "[DONE]"
SECONDS = 10.0

# --- data ---


def read_rows(paths: Iterable[Path]) -> dict[int, dict[str, Any]]:
    """The tasks by their number, from files in the format of mbpp.jsonl or of sanitized-mbpp.json, in which a task has
    `prompt` for `text` and `test_imports` for `test_setup_code`."""
    tasks = {}
    for path in paths:
        sanitized = all("prompt" in row and "text" not in row for row in read_table(path))
        rows = read_table(path, (SANITIZED if sanitized else ORIGINAL) | FIELDS)
        no_duplicates(rows, "task_id", path)
        for row in rows:
            if sanitized:
                row = {**row, "text": row["prompt"], "test_setup_code": "\n".join(row["test_imports"])}
            tasks[row["task_id"]] = row
    return tasks


def read_tasks(given: str | None) -> dict[int, dict[str, Any]]:
    """All tasks needed: on the hub, and in a folder from there, the shots lie in a file of their own."""
    rows = read_rows(locate_files(given, HUB, FILES))
    if all(number in rows for number in SHOT_IDS):
        return rows
    beside = given and Path(given).expanduser().is_dir()
    return {**read_rows(locate_files(given if beside else None, HUB_SHOTS, SHOT_FILES)), **rows}


def content_of(row: dict[str, Any]) -> Content:
    """What the official set's fingerprint takes of a row. The reference says what the tests take from a program."""
    return Content([row["text"], row["test_list"]], [row["test_setup_code"], row["code"]])


# --- prompt ---


def task(row: dict[str, Any]) -> str:
    """A task up to the place where its program begins."""
    tests = "\n".join(row["test_list"])
    asked = (
        f"You are an expert Python programmer, and here is your task: {row['text']} Your code should pass these tests:"
    )
    return f"{asked}\n\n{tests}\n[BEGIN]\n".replace("\r\n", "\n")


def prompt(row: dict[str, Any], shots: Sequence[dict[str, Any]]) -> str:
    """The worked tasks, then this one."""
    worked = [task(shot) + shot["code"].replace("\r\n", "\n") + f"\n{DONE}\n\n\n" for shot in shots]
    return "".join(worked) + task(row)


# --- reply: what of it is the program ---


def cut(reply: str) -> str:
    """protocol: the reply up to `[DONE]` or the end of text."""
    return cut_at(reply, (END_OF_TEXT, DONE))


def program_robust(reply: str, names: Set[str]) -> str:
    """The first part between `[DONE]`s that defines what the tests use, with what it needs; else as the protocol."""
    found = (programs.defined(part, names) for part in reply.split(DONE))
    return next(filter(None, found), None) or cut(plain_lines(reply)).rstrip("\n")


# --- score ---


def bound_names(tree: ast.Module) -> tuple[set[str], set[str]]:
    """(functions and classes, modules) that a program's top level gives a name."""
    made = {node.name for node in tree.body if isinstance(node, ast.FunctionDef | ast.ClassDef)}
    imported = {
        alias.asname or alias.name for node in tree.body if isinstance(node, ast.Import) for alias in node.names
    }
    return made, imported


def check(row: dict[str, Any], program: str) -> Check:
    """The program with the task's tests. What the tests take from a program is known from the reference: its functions
    and classes, and in one task (596) a module."""
    test = "\n".join([row["test_setup_code"], *row["test_list"]]).replace("\r\n", "\n")
    tests, reference = parsed(test), parsed(row["code"])
    if tests is None or reference is None:
        raise UserError(f"MBPP/{row['task_id']}: the reference or its tests are not Python")
    used = {node.id for node in ast.walk(tests) if isinstance(node, ast.Name)}
    made, imported = bound_names(reference)
    if not used & made:
        raise UserError(f"MBPP/{row['task_id']}: the tests call nothing that the reference defines")
    return Check(program, test, tuple(sorted(used & made)), modules=tuple(sorted(used & imported)), seconds=SECONDS)


def read_programs(row: dict[str, Any], reply: str) -> tuple[str, str]:
    """(the program by the protocol, the program by the robust extraction). A `solution` of a file of replies is a
    program as it is."""
    if isinstance(reply, Solution):
        return reply, plain_lines(reply)
    return cut(reply), program_robust(reply, set(check(row, "").names))


# --- the benchmark ---


class MBPP(Benchmark):
    name = "mbpp"
    official_items = len(TEST_IDS)
    pass_at_k = True
    shots = Shots(base=len(SHOT_IDS), chat=len(SHOT_IDS))

    def add_flags(self, flags: argparse.ArgumentParser) -> None:
        code.add_flags(flags)
        told = "MbppPlus.jsonl.gz: its tasks, 0-shot, with its inputs (MBPP+), in place of -d"
        flags.add_argument("--evalplus", type=Path, metavar="FILE", help=told)

    def settle_flags(self, flags: argparse.Namespace) -> None:
        if not flags.evalplus:
            return
        if flags.eval_data_path:
            raise UserError("--evalplus has its tasks in its own file: leave -d out")
        if flags.num_fewshot:
            raise UserError(f"-k {flags.num_fewshot}: EvalPlus asks without examples")
        flags.num_fewshot = 0

    def official(self, setting: Setting) -> int | None:
        return None if setting.flags.evalplus else self.official_items

    def data_set(self, setting: Setting) -> str:
        return "mbpp_plus" if setting.flags.evalplus else self.name

    def load(self, setting: Setting) -> Iterable[Item]:
        code.check_samples(setting.samples)
        if setting.flags.evalplus:
            setting.subjects(["test"])
            for name, row in mbpp_plus.read_tasks(setting.flags.evalplus).items():
                yield Item(name, "test", gold="passed", row=row)
            return
        if setting.shots > len(SHOT_IDS):
            raise UserError(f"-k {setting.shots}: the protocol has {len(SHOT_IDS)} examples")
        setting.subjects(["test"])
        rows = read_tasks(setting.data_path)
        shots = SHOT_IDS[: setting.shots]
        if missing := [number for number in shots if number not in rows]:
            raise UserError(f"the data has no task {missing[0]}, one of the examples")
        examples = [rows[number] for number in shots]
        for number in (number for number in TEST_IDS if number in rows):
            yield Item(f"MBPP/{number}", "test", gold="passed", row=rows[number], examples=examples)

    def outside(self, setting: Setting) -> tuple[str, Iterable[str]]:
        if setting.flags.evalplus:
            return "", ()
        others = [f"MBPP/{number}" for number in read_tasks(setting.data_path) if number not in TEST_IDS]
        return "tasks outside 11 to 510", others  # the examples, and EvalPlus's tasks go on to 809

    def services(self, setting: Setting) -> Mapping[type, Any]:
        return {Check: code.Programs(setting.flags)}

    def content(self, item: Item) -> Content:
        return content_of(item.row) if "test_list" in item.row else mbpp_plus.content(item.row)

    def example_contents(self, item: Item) -> Sequence[Content]:
        return [content_of(row) for row in item.examples]

    def evaluate(self, item: Item, setting: Setting) -> Evaluation:
        if "test_list" not in item.row:  # a task of EvalPlus's file
            return (yield from mbpp_plus.evaluate(item, setting))
        reply = yield Generate(prompt(item.row, item.examples))
        program, robust = read_programs(item.row, reply)
        verdict = yield check(item.row, program)
        record = {"response": reply, **code.verdict_fields(verdict)}
        if not verdict.passed and robust.rstrip("\n") != program.rstrip("\n"):  # see extraction/programs.py
            record["correct_robust"] = (yield check(item.row, robust)).passed
        return record

    def protocol(self, setting: Setting) -> Mapping[str, Any]:
        plus = setting.flags.evalplus
        asked = {"num_fewshot": setting.shots, "num_samples": setting.samples}
        return {**asked, "evalplus": file_sha256(plus)} if plus else asked

    def decoding(self, setting: Setting) -> Mapping[str, Any]:
        if setting.flags.evalplus:
            return mbpp_plus.decoding(setting.chat)
        return {"repetition_penalty": 1.0} if setting.chat else {"stop": (END_OF_TEXT, DONE)}

    def departures(self, setting: Setting) -> list[str]:
        if setting.shots or setting.chat or setting.flags.evalplus:
            return []
        return ["the blogs ask MBPP 0-shot by EvalPlus, whose set has fewer tasks (--evalplus)"]

    def aggregate(self, records: Sequence[Record], setting: Setting) -> Results:
        if setting.flags.evalplus:
            return mbpp_plus.aggregate(records, setting)
        robust = code.pass_scores(records, "correct_robust", "_robust", compared=False)
        return Results(code.pass_scores(records) | robust)


def main() -> int:
    return run_benchmark(MBPP(), __doc__)


if __name__ == "__main__":
    run_script(main)
