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

import argparse
import re
from collections.abc import Iterable, Mapping, Sequence
from pathlib import PurePosixPath
from typing import Any

from qwen_eval.benchmark import Benchmark, Evaluation, Generate, Item, Record, Results, Setting
from qwen_eval.benchmarks.code_interpreter.items import read_items
from qwen_eval.benchmarks.code_interpreter.pictures import judge_pictures
from qwen_eval.benchmarks.code_interpreter.rounds import Cells, RunCell, read_code
from qwen_eval.benchmarks.code_interpreter.scores import PUBLISHED, TAGS, as_reported, scores_of
from qwen_eval.cli import add_data_version, positive
from qwen_eval.engines.endpoint import check_url
from qwen_eval.errors import UserError, run_script
from qwen_eval.extraction import react
from qwen_eval.extraction.numbers import close, read_number
from qwen_eval.extraction.replies import END_OF_TEXT, cut_at
from qwen_eval.judge import Judge
from qwen_eval.runner import run_benchmark
from qwen_eval.sandbox import CELL_SECONDS

#: the card's tables, and the last README's; the file's name is the same in both
DATA_VERSIONS = ("card", "20231206")
ROUNDS = {"math": 1, "visualization": 3, "general": 1}

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


def score(item: Item, text: str, replies: Sequence[str], cells: Sequence[Mapping[str, Any]]) -> Record:
    """What a record says. executable: as published, the first piece of code of visualization and general rows, and all
    code of math rows; executable_robust: all of it in any row. Without code a row is not executable."""
    runs = [not cell["error"] for cell in cells]
    counted = runs if item.subject == "math" else runs[:1]
    fields = {"executable": bool(runs) and all(counted), "executable_robust": bool(runs) and all(runs)}
    if item.gold is None:
        return {"prediction": None, "gold": None, **fields, "correct": fields["executable"]}
    prediction, robust = read_protocol(text), read_robust(replies)
    return {
        "prediction": prediction,
        "gold": item.gold,
        **fields,
        "correct": close(prediction, item.gold),
        "prediction_robust": robust,
        "correct_robust": close(robust, item.gold),
    }


# --- the benchmark ---

NO_MODULE = re.compile(r"No module named '([\w.]+)'")


class CodeInterpreter(Benchmark):
    name = "code_interpreter"
    extras = ("interpreter",)
    takes_samples = False
    items_at_a_time = 64  # a kernel that waits for its next round has some 60 MB of its own

    def add_flags(self, flags: argparse.ArgumentParser) -> None:
        add = flags.add_argument
        add_data_version(flags, DATA_VERSIONS)
        add("--rounds", type=positive, metavar="N", help="pieces of code per item (default: 3 for visualization, 1)")
        add("--judge-url", metavar="URL", help="OpenAI-compatible endpoint that judges pictures (key: JUDGE_API_KEY)")
        add("--judge-model", metavar="NAME", help="the judge's name there")
        add("--workers", type=positive, metavar="N", help="kernels that run at a time (default: one per core)")
        add("--allow-unsandboxed", action="store_true", help="run model-written code even where there is no sandbox")

    def settle_flags(self, flags: argparse.Namespace) -> None:
        if flags.chat is False:
            raise UserError("the code interpreter is asked of chat models; leave --base out")
        if bool(flags.judge_url) != bool(flags.judge_model):
            raise UserError("--judge-url and --judge-model go together")
        if flags.judge_url:
            check_url(flags.judge_url)
        flags.chat = True

    def load(self, setting: Setting) -> Iterable[Item]:
        subjects = setting.subjects(TAGS)
        return [item for item in read_items(setting.data_path, prompt) if item.subject in subjects]

    def services(self, setting: Setting) -> Mapping[type, Any]:
        items, flags = list(self.load(setting)), setting.flags
        files = [path for item in items for path in item.row["files"]]
        plots = any(item.subject == "visualization" for item in items)
        return {RunCell: Cells(files, setting.folder, shown, flags.workers, flags.allow_unsandboxed, plots)}

    def data_version(self, setting: Setting) -> str:
        version: str | None = setting.flags.data_version
        return version or ""

    def protocol(self, setting: Setting) -> Mapping[str, Any]:
        return {"rounds": setting.flags.rounds, "cell_seconds": CELL_SECONDS}

    def decoding(self, setting: Setting) -> Mapping[str, Any]:
        return {"stop": (STOP,)}

    def evaluate(self, item: Item, setting: Setting) -> Evaluation:
        """A conversation ends with a reply that calls no tool, with code that fails, or with the reply after its last
        round. The transcript is the assistant's one turn, which grows by each reply and what its code gave."""
        rounds = setting.flags.rounds or ROUNDS[item.subject]
        transcript, replies, cells = item.assistant_prefill, list[str](), list[dict[str, Any]]()
        ran = [read_code("\n" + item.assistant_prefill) or ""]
        while True:
            reply = cut_at((yield Generate(item.prompt, assistant_prefill=transcript)), [END_OF_TEXT])
            replies.append(reply)
            code = read_code(reply)
            if not code or len(cells) == rounds:
                transcript += reply
                break
            cell = yield RunCell(item, code, tuple(ran), sum(len(cell["pictures"]) for cell in cells))
            ran.append(code)
            cells.append(cell)
            transcript += observed(reply, cell["observation"])
            if cell["error"]:
                break
            if len(cells) == rounds:
                yield RunCell(item, None)
        if (cells and len(cells) < rounds) or (cells and cells[-1]["error"]):
            yield RunCell(item, None)
        scored = score(item, transcript, replies, cells)
        return {"response": transcript, "rounds": replies, "cells": cells, **scored}

    def turns_of(self, given: Mapping[str, Any], text: str) -> Sequence[str]:
        """`rounds`, else the transcript cut where observations stand."""
        return given.get("rounds") or re.split(r"\nObservation:.*?\nThought:", text, flags=re.DOTALL)

    def later(self, records: Sequence[Record], setting: Setting) -> Mapping[tuple[str, int], Mapping[str, Any]]:
        """A judge that is named later is asked about a finished run, too."""
        flags = setting.flags
        if not flags.judge_url:
            return {}
        judge = Judge(flags.judge_url, flags.judge_model, setting.folder)
        return judge_pictures(self._pairs(records, setting), setting.folder, judge)

    def _pairs(self, records: Sequence[Record], setting: Setting) -> list[tuple[Item, Record]]:
        items = {item.id: item for item in self.load(setting)}
        return [(items[record["id"]], record) for record in records]

    def aggregate(self, records: Sequence[Record], setting: Setting) -> Results:
        pairs, judge = self._pairs(records, setting), setting.flags.judge_model
        official = as_reported([item for item, _ in pairs], list(self.load(setting)), setting)
        return Results(
            scores_of(pairs, bool(judge), official),
            notes=self._notes(records, judge, any(official.values())),
            shots=0,
            extra={"judge": judge},
            files=dict(transcript_file(item, record) for item, record in pairs),
        )

    def _notes(self, records: Sequence[Record], judge: str | None, reported: bool) -> list[str]:
        notes = []
        if any(record["subject"] == "visualization" for record in records):
            notes.append(
                f"pictures judged by {judge} (judge.jsonl); reported figures: another judge"
                if judge
                else "visualization accuracy is empty: no judge of pictures (--judge-url, --judge-model)"
            )
        errors = [cell for record in records for cell in record["cells"] if cell["error"]]
        if missing := sorted({found[1] for cell in errors if (found := NO_MODULE.search(cell["message"]))}):
            told = "not installed here, but imported by code (the published run installed them)"
            notes.append(f"{told}: {', '.join(missing)}")
        if late := sum(cell["error"] == "timed out" for cell in errors):
            notes.append(f"cells that ran longer than {CELL_SECONDS:g} s: {late}")
        if not reported:
            notes.append(f"not the reported questions ({PUBLISHED}; GSM8K's test with --rounds 3): never `reproduced`")
        return notes


def transcript_file(item: Item, record: Record) -> tuple[str, str]:
    """(name, text) of what was said and done, to be read by people: Markdown, with the pictures in it."""
    text = f"# {item.id}\n\n{item.row['question']}\n\n{record['response']}\n".replace("](pictures/", "](../pictures/")
    return f"transcripts/{item.id.replace('/', '-')}.md", text


def main() -> int:
    return run_benchmark(CodeInterpreter(), __doc__)


if __name__ == "__main__":
    run_script(main)
