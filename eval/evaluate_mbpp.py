"""MBPP: 500 small programming tasks (ids 11 to 510), judged by the three tests that the prompt shows; 3-shot.

    python eval/evaluate_mbpp.py -c Qwen/Qwen-7B -d data/mbpp
    python eval/evaluate_mbpp.py --rescore replies.jsonl -d data/mbpp

Protocol: the prompt of Austin et al. 2021 (google-research/mbpp), tasks 2, 3 and 4 as the shots. Data: `mbpp.jsonl`;
`sanitized-mbpp.json` too, which has 257 of the 500 tasks, worded anew.
An id is `MBPP/11`. Not published, ours: the data's carriage returns are newlines in the prompt; a program has 10
seconds (the slowest reference takes 4); a chat model gets the same prompt as its turn.

Programs run in the sandbox (qwen_eval/sandbox), never here. protocol: the reply up to `[DONE]` is the program. robust
(extraction/programs.py): what the tests use, wherever it stands in the reply, with all that it needs, and nothing else.
"""

import ast
from collections.abc import Iterable, Iterator, Sequence, Set
from dataclasses import replace
from pathlib import Path
from typing import Any

from qwen_eval.benchmarks import code as scoring
from qwen_eval.cli import parser
from qwen_eval.data.items import (
    STRING,
    STRINGS,
    TEXT,
    TEXTS,
    WHOLE,
    Hub,
    Item,
    choose_subjects,
    locate_files,
    no_duplicates,
    tables,
)
from qwen_eval.data.items import read_rows as read_table
from qwen_eval.errors import UserError, run_script
from qwen_eval.extraction import programs
from qwen_eval.extraction.python_source import parsed
from qwen_eval.extraction.replies import END_OF_TEXT, cut_at, plain_lines
from qwen_eval.run import Run
from qwen_eval.sandbox import Check, Sandbox, warn_unsandboxed

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
OFFICIAL_N = 500
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


def load(given: str | None) -> dict[int, dict[str, Any]]:
    """All tasks needed: on the hub, and in a folder from there, the shots lie in a file of their own."""
    rows = read_rows(locate_files(given, HUB, FILES))
    if all(number in rows for number in SHOT_IDS):
        return rows
    beside = given and Path(given).expanduser().is_dir()
    return {**read_rows(locate_files(given if beside else None, HUB_SHOTS, SHOT_FILES)), **rows}


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


def jobs(asked: Iterable[tuple[Item, str]], run: Run) -> Iterator[tuple[Any, list[Check]]]:
    """For each reply what to remember of it, and its checks: protocol, and robust where it is another program. The
    `solution` of an EvalPlus file is a program as it is."""
    for item, reply in asked:
        whole = run.replies is not None and "solution" in run.replies.by_key[item.key]
        protocol = check(item.row, reply if whole else cut(reply))
        robust = plain_lines(reply) if whole else program_robust(reply, set(protocol.names))
        checks = [protocol]
        if robust.rstrip("\n") != protocol.program.rstrip("\n"):
            checks.append(replace(protocol, program=robust))
        yield (item, reply), checks


# --- the run ---


def main() -> int:
    flags = parser(__doc__, shots=len(SHOT_IDS))
    scoring.add_flags(flags)
    args = flags.parse_args()
    run = Run(args, "mbpp", OFFICIAL_N)
    shots = run.shots(base=len(SHOT_IDS), chat=len(SHOT_IDS))
    if shots > len(SHOT_IDS):
        raise UserError(f"-k {shots}: the protocol has {len(SHOT_IDS)} examples")
    choose_subjects(["test"], args.subjects)
    rows = load(run.data_path)
    if shots and (missing := [number for number in SHOT_IDS[:shots] if number not in rows]):
        raise UserError(f"the data has no task {missing[0]}, one of the examples")
    worked = [rows[number] for number in SHOT_IDS[:shots]]
    outside = [f"MBPP/{number}" for number in rows if number not in TEST_IDS]
    if run.replies:  # EvalPlus's tasks go on to 809
        run.replies.leave_out(outside)
    each = scoring.samples_each(args, run.replies.by_key if run.replies else None)
    run.official_n = run.official_n and run.official_n * each
    items = [
        Item(f"MBPP/{number}", "test", prompt(rows[number], worked), "passed", rows[number], sample)
        for number in TEST_IDS
        if number in rows
        for sample in range(each)
    ]
    with Sandbox(workers=args.workers, allow_unsandboxed=args.allow_unsandboxed) as sandbox:
        warn_unsandboxed(sandbox)
        decoding = {"repetition_penalty": 1.0} if run.chat else {"stop": (END_OF_TEXT, DONE)}
        run.start(items, {"num_fewshot": shots, "num_samples": each}, decoding)
        for (item, reply), verdicts in sandbox.check_stream(jobs(run.generate(), run)):
            protocol, robust = verdicts[0], verdicts[-1]
            run.save(
                item,
                response=reply,
                prediction=protocol.status,
                gold="passed",
                correct=protocol.passed,
                correct_robust=protocol.passed or robust.passed,  # see qwen_eval/extraction/programs.py
                message=protocol.message,
                seconds=protocol.seconds,
            )

    records = run.records
    scores = scoring.pass_scores(records) | scoring.pass_scores(records, "correct_robust", "_robust", compared=False)
    differ = [record["id"] for record in records if record["correct"] != record["correct_robust"]]
    notes = [run.list_disagreements(differ), scoring.isolation_note(sandbox)]
    if run.replies and run.replies.left_out:
        notes.append(f"{run.replies.left_out} replies to tasks outside 11 to 510 left out")
    return run.report(scores, notes=notes, shots=shots, extra={"sandbox": sandbox.describe()})


if __name__ == "__main__":
    run_script(main)
