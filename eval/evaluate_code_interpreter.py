"""Code interpreter: questions that a chat model answers by writing Python, which runs in a Jupyter kernel.

    python eval/evaluate_code_interpreter.py -c Qwen/Qwen-7B-Chat -d data/code_interpreter
    python eval/evaluate_code_interpreter.py -c Qwen/Qwen-7B-Chat -d data/gsm8k/test.jsonl --rounds 3
    ... --judge-url https://api.openai.com/v1 --judge-model gpt-4o              # a judge of the pictures
    ... --engine openai --base-url http://localhost:8000/v1 -c Qwen-7B-Chat     # a model that is served elsewhere

Protocol: QwenLM/Qwen-Agent, benchmark/code_interpreter (ReAct with one tool; texts of its qwen_react.py and react.py).
Data: its eval_code_interpreter_v1.jsonl with upload_file_clean/ beside it, or any JSONL file, or a folder of them: rows
`query`, `tags` (math, visualization, general), and if there are any `input_file_path` (a list), `lang` and, for math,
the reference `answer` or `gold`; GSM8K rows are math rows. A visualization row is easy when its query has a first piece
of code in it already (`<|im_end|>` and the beginning of the assistant's turn), else hard.

Up to three pieces of code for visualization, one otherwise; each runs in the item's own kernel in the sandbox
(sandbox/kernel.py). Published GSM8K figures had three: --rounds 3. Differs from the published script: the code runs
once, in the kernel (there: again by `exec`, with 10 s); missing packages are not installed; a row ends when its code
failed, not when its output has `error:` in it; after the last round there is one more reply, for the final answer.
`correct`: the answer is right (rows with a reference), else the code is executable.
"""

import os
import re
from collections.abc import Sequence
from pathlib import Path, PurePosixPath
from typing import Any

from qwen_eval.benchmarks.code import isolation_note
from qwen_eval.benchmarks.code_interpreter.pictures import judge_pictures
from qwen_eval.benchmarks.code_interpreter.rounds import WARM, Interpreter, Talk, converse, read_code
from qwen_eval.benchmarks.code_interpreter.scores import PUBLISHED, TAGS, as_reported, scores_of
from qwen_eval.cli import parser, positive
from qwen_eval.data.items import Item, choose_subjects, read_jsonl
from qwen_eval.engines.endpoint import check_url
from qwen_eval.errors import UserError, run_script
from qwen_eval.extraction import react
from qwen_eval.extraction.numbers import close, last_number, read_number
from qwen_eval.extras import need
from qwen_eval.judge import Judge
from qwen_eval.run import Run
from qwen_eval.sandbox import CELL_SECONDS as SECONDS
from qwen_eval.sandbox import Kernels, warn_unsandboxed

ROUNDS = {"math": 1, "visualization": 3, "general": 1}
OLD_TAGS = {"ci_math_code": "math", "ci_plot": "visualization", "ci_open_questions": "general"}
TURN = re.compile(r"<\|im_end\|>\s*<\|im_start\|>assistant\n?")
FOLDERS = (".", "upload_file_clean", "upload_file")  # where input files lie beside the data

# --- data ---


def read_items(given: str | None) -> list[Item]:
    """The rows of a JSONL file, or of all in a folder, numbered through; UserError naming file and row."""
    if not given:
        raise UserError("no -d given: the benchmark's JSONL file, or its folder (eval/EVALUATION.md says whence)")
    source = Path(given).expanduser()
    paths = sorted(source.glob("*.jsonl")) if source.is_dir() else [source]
    if not paths:
        raise UserError(f"{source} has no .jsonl file in it")
    rows = [(path, number, row) for path in paths for number, row in enumerate(read_jsonl(path, needs=()))]
    return [_item(path, f"{path} row {at}", number, row) for number, (path, at, row) in enumerate(rows)]


def _item(path: Path, where: str, number: int, row: dict[str, Any]) -> Item:
    query = row.get("query", row.get("question"))
    if not isinstance(query, str) or not query.strip():
        raise UserError(f"{where} has no text `query` (or `question`)")
    tag, level = _tag(row, where)
    named = row.get("input_file_path") or []
    named = [named] if isinstance(named, str) else named
    question, *begun = TURN.split(query)
    if len(begun) > 1 or "<|im_" in question:
        raise UserError(f"{where}: the query holds more than one turn")
    if level is not None and begun:
        level = "easy"
    row = {
        "file": path.name,
        "question": question,
        "lang": row.get("lang") or "en",
        "level": level,
        "tagged": "tags" in row,
        "input_file_path": named,
        "files": [_find(path.parent, name, where) for name in named],
        "gold": row.get("gold", row.get("answer")),
    }
    gold = None
    if tag == "math" and row["gold"] is not None and (gold := last_number(str(row["gold"]))) is None:
        raise UserError(f"{where}: the reference {str(row['gold'])[:40]!r} has no number in it")
    text = prompt(question, named, row["lang"])
    return Item(f"{tag}/{number}", tag, text, gold, row, begun="".join(begun).removesuffix("<|im_end|>").rstrip())


def _tag(row: dict[str, Any], where: str) -> tuple[str, str | None]:
    """(math, visualization or general; hard or easy for visualization). A GSM8K row has no tags."""
    tags = row.get("tags", "math" if "question" in row else None)
    names = tags.split(",") if isinstance(tags, str) else tags
    if not isinstance(names, list) or not all(isinstance(name, str) for name in names):
        raise UserError(f"{where} has no `tags` (a list, or names with commas)")
    for name in (name.strip() for name in names):
        plain, _, level = OLD_TAGS.get(name, name).replace("_", "-").partition("-")
        if plain in TAGS:
            return plain, (level or "hard") if plain == "visualization" else None
    raise UserError(f"{where}: none of the tags {', '.join(names) or '(none)'} is one of {', '.join(TAGS)}")


def _find(folder: Path, name: str, where: str) -> Path:
    """An input file of a row: as it is named, or by its last part in the folders of the published data."""
    if not isinstance(name, str) or not name:
        raise UserError(f"{where}: `input_file_path` is no list of names")
    last = PurePosixPath(name.replace("\\", "/")).name
    for path in (folder / name, *(folder / place / last for place in FOLDERS)):
        if path.is_file():
            return path
    raise UserError(f"{where}: no input file {name!r} beside {folder} (looked in {', '.join(FOLDERS)})")


# --- prompt ---

TOOL = react.Tool(
    name="code_interpreter",
    human_name="代码解释器",
    description="代码解释器，可用于执行Python代码。",
    parameters=[{"name": "code", "type": "string", "description": "待执行的代码"}],
    arguments="Enclose the code within triple backticks (`) at the beginning and end of the code.",
)
FILES = {"zh": "[上传文件{names}]", "en": "[Upload file {names}]"}
STOP = "Observation:"  # what a reply ends at: the model must not invent the result


def prompt(query: str, input_files: Sequence[str] = (), lang: str = "en") -> str:
    """The user turn: names of the item's files in front of the question, no space between, as published."""
    names = ", ".join(PurePosixPath(name).name for name in input_files)
    told = FILES.get(lang, FILES["en"]).format(names=names) if names else ""
    return react.prompt(told + query, [TOOL]).strip("\n").rstrip()


def observed(reply: str, observation: str) -> str:
    """What the transcript of the assistant's turn grows by in a round: the reply, and what its code gave."""
    return f"{reply.rstrip()}\nObservation: {observation}\nThought:"


def shown(kind: str, text: str) -> str:
    """One output of a kernel as an observation shows it. kind: stdout, stderr, execute_result, display_data or error.

    Several are joined by a blank line. `print(42)` gives 'stdout:\\n\\n```\\n42\\n\\n```'; the last expression `42`
    gives 'execute_result:\\n\\n```\\n42\\n```'.
    """
    return f"{kind}:\n\n```\n{text}\n```"


# --- extract and score ---

# As published: behind a space, $, %, # or {; no zeros at the end of decimals; before a space, a stop or the end.
PROTOCOL_NUMBER = re.compile(
    r"(?<=[\s$%#{])[+-]?(?=\S)(?:0|[1-9](?:\d*|\d{0,2}(?:,\d{3})*))?(?:\.\d*[1-9])?(?=[\s.,}]|$)"
)


def read_protocol(transcript: str) -> float | None:
    """protocol: the last number of the whole transcript, observations included; None without one.

    Defects included: line breaks are made visible first, so that a number that begins or ends a line is not seen, and
    a bare full stop counts as a number that is none.
    """
    found = PROTOCOL_NUMBER.findall(transcript.strip(".").replace("\n", "\\n"))
    return float(found[-1].replace(",", "")) if found and found[-1].strip("+-") else None


def read_robust(replies: Sequence[str]) -> float | None:
    """robust: the number that the final answer gives, else the last reply that calls no tool."""
    last = replies[-1]
    return None if read_code(last) is not None else read_number(react.read_final_answer(last) or last)


def score(talk: Talk) -> dict[str, Any]:
    """What a line says. executable: as published, the first piece of code of visualization and general rows, and all
    code of math rows; executable_robust: all of it in any row. Without code a row is not executable."""
    runs = [not cell["error"] for cell in talk.cells]
    counted = runs if talk.item.subject == "math" else runs[:1]
    fields = {"executable": bool(runs) and all(counted), "executable_robust": bool(runs) and all(runs)}
    gold = talk.item.gold
    if gold is None:
        return {"prediction": None, "gold": None, **fields, "correct": fields["executable"]}
    prediction, robust = read_protocol(talk.text), read_robust(talk.replies)
    return {
        "prediction": prediction,
        "gold": gold,
        **fields,
        "correct": close(prediction, gold),
        "prediction_robust": robust,
        "correct_robust": close(robust, gold),
    }


# --- the run ---


def write_transcript(run: Run, talk: Talk) -> None:
    """What was said and done, to be read by people: Markdown, with the pictures in it."""
    folder = run.folder / "transcripts"
    folder.mkdir(exist_ok=True)
    text = f"# {talk.item.id}\n\n{talk.item.row['question']}\n\n{talk.text}\n".replace("](pictures/", "](../pictures/")
    (folder / f"{talk.item.id.replace('/', '-')}.md").write_text(text, encoding="utf-8", errors="backslashreplace")


def notes_of(run: Run, judge: str | None, font: str) -> list[str]:
    records = run.records
    notes = []
    if any(item.subject == "visualization" for item in run.items):
        notes.append(
            f"pictures judged by {judge} (judge.jsonl); reported figures: another judge"
            if judge
            else "visualization accuracy is empty: no judge of pictures (--judge-url, --judge-model)"
        )
        if font == "DejaVu Sans":
            notes.append("no Chinese font here (SimHei, Noto Sans CJK ...): Chinese labels in pictures are boxes")
    errors = [cell for record in records for cell in record["cells"] if cell["error"]]
    if missing := sorted({found[1] for cell in errors if (found := NO_MODULE.search(cell["message"]))}):
        notes.append(
            f"not installed here, but imported by code (the published run installed them): {', '.join(missing)}"
        )
    if late := sum(cell["error"] == "timed out" for cell in errors):
        notes.append(f"cells that ran longer than {SECONDS:g} s: {late}")
    disagree = [r["id"] for r in records if r["correct"] != r.get("correct_robust", r["correct"])]
    return [*notes, run.list_disagreements(disagree)]


NO_MODULE = re.compile(r"No module named '([\w.]+)'")


def main() -> int:
    flags = parser(__doc__)
    add = flags.add_argument
    add("--rounds", type=positive, metavar="N", help="pieces of code an item may run (default: 3 for visualization, 1)")
    add(
        "--judge-url", metavar="URL", help="OpenAI-compatible vision endpoint that judges pictures (key: JUDGE_API_KEY)"
    )
    add("--judge-model", metavar="NAME", help="the judge's name there")
    add("--workers", type=positive, metavar="N", help="kernels that run at a time (default: one a core)")
    add("--allow-unsandboxed", action="store_true", help="run model-written code even where there is no sandbox")
    args = flags.parse_args()
    need("interpreter")
    if args.chat is False:
        raise UserError("the code interpreter is asked of chat models; leave --base out")
    if bool(args.judge_url) != bool(args.judge_model):
        raise UserError("--judge-url and --judge-model go together")
    if args.judge_url:
        check_url(args.judge_url)
    args.chat = True
    run = Run(args, "code_interpreter")
    subjects = choose_subjects(TAGS, args.subjects)
    items = [item for item in read_items(run.data_path) if item.subject in subjects]
    files = [path for item in items for path in item.row["files"]]
    with Kernels(WARM, files, args.allow_unsandboxed) as kernels:
        warn_unsandboxed(kernels.sandbox)
        run.start(items, {"rounds": args.rounds, "cell_seconds": SECONDS}, {"stop": (STOP,)})
        interpreter = Interpreter(kernels, run.folder, shown, args.workers or os.cpu_count() or 1)
        font = interpreter.check()
        for talk in converse(run, interpreter, lambda item: args.rounds or ROUNDS[item.subject], observed):
            write_transcript(run, talk)
            run.save(talk.item, response=talk.text, rounds=talk.replies, cells=talk.cells, **score(talk))
    if args.judge_url:
        judge_pictures(run, Judge(args.judge_url, args.judge_model, run.folder))
    notes = [*notes_of(run, args.judge_model, font), isolation_note(kernels.sandbox)]
    extra = {"sandbox": kernels.sandbox.describe(), "judge": args.judge_model}
    official = as_reported(run, items)
    if not any(official.values()):
        notes.append(f"not the reported questions ({PUBLISHED}; GSM8K's test with --rounds 3): never `reproduced`")
    return run.report(scores_of(run, bool(args.judge_url), official), notes=notes, shots=0, extra=extra)


if __name__ == "__main__":
    run_script(main)
