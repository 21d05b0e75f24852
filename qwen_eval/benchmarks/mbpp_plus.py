"""MBPP+: MBPP's tasks as EvalPlus asks them, 0-shot, judged by its base inputs and by its many more (Liu et al. 2023).

Source: evalplus 0.3 (data/mbpp.py, eval/__init__.py, eval/_special_oracle.py, codegen.py, provider/utility.py) and its
file `MbppPlus.jsonl.gz`: v0.2.0 has 378 tasks, the older v0.1.0 had 399. Inputs are JSON there; which of them are
tuples, sets or complex numbers is known by task. The `contract` of a task says what its inputs must be; like EvalPlus,
a run does not check it. Once converted, every input keeps the contract of its task, but for some of 267 and 734.

protocol: the reply up to EvalPlus's stop strings, tabs as four spaces; of a base model behind the prompt. EvalPlus then
takes the function out of that with what it needs (`sanitize`): here the robust extraction does such a thing, in its own
way, and the protocol does not. Not EvalPlus's, ours: a limit on a program's time for all inputs of a task (10 seconds
for the base inputs, 60 for the others), none for one input.
"""

import json
from collections.abc import Callable, Mapping, Sequence
from hashlib import sha256
from math import comb
from pathlib import Path
from typing import Any

from qwen_eval.benchmark import Content, Evaluation, Generate, Item, Record, Results, Setting, Solution
from qwen_eval.benchmarks import code, evalplus
from qwen_eval.data.items import PRESENT, TEXT, no_duplicates, read_rows
from qwen_eval.errors import UserError
from qwen_eval.extraction import programs
from qwen_eval.extraction.replies import END_OF_TEXT, cut_at, plain_lines
from qwen_eval.sandbox import Check

FIELDS = {
    "task_id": TEXT,
    "prompt": TEXT,
    "entry_point": TEXT,
    "canonical_solution": TEXT,
    "base_input": PRESENT,
    "plus_input": PRESENT,
}
LARGE = 255  # the task of which some results are too large, see `fits`
# Of the program's own time for all inputs of a task. EvalPlus has at most 60; its own solution to 599 takes 20.
SECONDS = {"base_input": 10.0, "plus_input": 60.0}
VERSIONS = {378: "v0.2.0", 399: "v0.1.0"}  # by the number of tasks

# --- data ---


def read_tasks(path: Path) -> dict[str, dict[str, Any]]:
    """EvalPlus's tasks by our ids (`MBPP/2`), in the file's order, inputs as the arguments that they stand for;
    `too_large`: how many inputs of a task are left out (`fits`).

    Raises UserError that names the file where it is not EvalPlus's.
    """
    rows = read_rows(path, FIELDS)
    no_duplicates(rows, "task_id", path)
    tasks = {}
    for row in rows:
        family, _, number = row["task_id"].partition("/")
        if family != "Mbpp" or not number.isdecimal():
            raise UserError(f"--evalplus {path}: {row['task_id']!r} is no task of MBPP+ (they are called Mbpp/2)")
        try:
            every = {name: arguments(int(number), row[name] or []) for name in SECONDS}
            inputs = {name: [call for call in calls if fits(int(number), call)] for name, calls in every.items()}
        except (TypeError, ValueError, IndexError, AttributeError) as error:
            raise UserError(f"--evalplus {path}: the inputs of {row['task_id']} are not those of MBPP+") from error
        too_large = sum(len(every[name]) - len(inputs[name]) for name in SECONDS)
        digest = sha256(json.dumps([row[name] for name in SECONDS], sort_keys=True).encode()).hexdigest()
        tasks[f"MBPP/{number}"] = {**row, **inputs, "too_large": too_large, "inputs_sha256": digest}
    return tasks


def content(row: Mapping[str, Any]) -> Content:
    """What the official set's fingerprint takes of a task."""
    judged_by = [row.get(name) for name in ("canonical_solution", "contract", "atol", "inputs_sha256")]
    return Content([row["prompt"], row["entry_point"]], judged_by)


def fits(number: int, call: Sequence[Any]) -> bool:
    """Whether the result of a call can be handed from the program to the tests: the sandbox takes 32 MiB, and some of
    task 255 are lists of 6 to 128 million values."""
    return number != LARGE or not call[0] or comb(len(call[0]) + call[1] - 1, call[1]) * call[1] < 10**6


def version_notes(tasks: Mapping[str, Mapping[str, Any]]) -> list[str]:
    """Which set of EvalPlus's this is, and which of its inputs are left out."""
    count = len(tasks)
    known = " and ".join(f"{version} has {number}" for number, version in sorted(VERSIONS.items()))
    which = f"{VERSIONS[count]} of MBPP+" if count in VERSIONS else "no set that EvalPlus published"
    found = [
        f"the file has {count} tasks: {which} ({known}); the Qwen2.5 figures of MBPP and MBPP+ are shares of 399, "
        "so that they are not figures of the set of 378"
    ]
    left_out = {name: row["too_large"] for name, row in tasks.items() if row["too_large"]}
    return found + [
        f"{number} inputs of {name} are left out, for their results are too large for the sandbox"
        for name, number in left_out.items()
    ]


def _tuples(values: Sequence[Any]) -> list[Any]:
    return [tuple(value) for value in values]


def _first_tuple(call: Sequence[Any]) -> list[Any]:
    return [tuple(call[0]), *call[1:]]


def _deep(value: Any) -> Any:
    return tuple(map(_deep, value)) if isinstance(value, list) else value


def _nested(call: Sequence[Any]) -> list[Any]:
    """Tuples of tuples."""
    return [tuple(_tuples(argument)) for argument in call]


# evalplus.data.mbpp.mbpp_deserialize_inputs: from the arguments of one call in JSON to those that are meant.
_CONVERSIONS: Sequence[tuple[str, Callable[[Any], Any]]] = (
    ("2 116 132 143 222 261 273 394 399 421 424 429 470 560 579 596 616 630 726 740 744 809", _tuples),
    ("63 64 70 94 120 237 272 299 400 409 417 438 473 614 780", lambda call: [_tuples(part) for part in call]),
    ("75 413 444 753", lambda call: [_tuples(call[0]), call[1]]),
    ("106 750", lambda call: [call[0], tuple(call[1])]),
    ("115", lambda call: [[set(part) if isinstance(part, list) and part else {} for part in call[0]]]),
    ("124", lambda call: [float(call[0]), complex(call[1])]),
    ("250 307 405 446 617 720 763 808", _first_tuple),
    ("252", lambda call: [complex(call[0])]),
    ("259 401 445", _nested),
    ("278", lambda call: [tuple(tuple(part) if isinstance(part, list) else part for part in call[0])]),
    ("580 615 791", lambda call: [_deep(part) for part in call]),
    ("722", lambda call: [{name: tuple(value) for name, value in call[0].items()}, *call[1:]]),
)
CONVERSIONS = {int(number): convert for numbers, convert in _CONVERSIONS for number in numbers.split()}


def arguments(number: int, inputs: Sequence[Any]) -> list[Any]:
    """The inputs of task `number` (for each call its arguments as JSON) as the arguments that are meant."""
    convert = CONVERSIONS.get(number, list)
    return [convert(call) for call in inputs]


# --- prompt ---

STOPS = (END_OF_TEXT, "<|endofmask|>", "</s>", "\nif __name__", "\ndef main(", "\nprint(")
BASE_STOPS = (*STOPS, '\n"""', "\nassert")
CHAT_STOPS = (*STOPS, "\n```\n")
ASKED = (
    "Please provide a self-contained Python script that solves the following problem in a markdown code block:\n"
    "```\n{task}\n```\n"
)
BEGUN = (
    "Below is a Python script with a self-contained function that solves the problem and passes corresponding tests:\n"
    "```python\n"
)


def request(row: Mapping[str, Any], chat: bool) -> Generate:
    """What the model is asked: a base model goes on behind the docstring, a chat model in its own fenced block."""
    task = row["prompt"].strip()
    return Generate(ASKED.format(task=task), assistant_prefill=BEGUN) if chat else Generate(task + "\n")


# --- reply: what of it is the program ---


def read_programs(row: Mapping[str, Any], reply: str, chat: bool) -> tuple[str, str]:
    """(the program by the protocol, the program by the robust extraction). A `solution` of a file of replies is a
    program as it is."""
    if isinstance(reply, Solution):
        return reply, plain_lines(reply)
    task = row["prompt"].strip() + "\n"
    program = cut_at(reply, CHAT_STOPS).replace("\t", "    ") if chat else ""
    program = program or task + cut_at(reply, BASE_STOPS).replace("\t", "    ")
    return program, programs.defined(reply, {row["entry_point"]}) or plain_lines(program)


# --- score ---

# evalplus.eval.unsafe_execute, with the oracles of evalplus.eval._special_oracle. `atol` is 1e-6 from the first float
# result on.
TEST = """
SETS = 'similar_elements find_char_long common_in_nested_lists extract_singly larg_nnum intersection_array'.split()
SETS += ['find_dissimilar', 'Diff']
NOT_NONE = ['check_str', 'text_match_three', 'text_starta_endb']

def surface_area(base_edge, height):
    slant_height = ((base_edge / 2) ** 2 + height ** 2) ** 0.5
    return round(base_edge ** 2 + 4 * (base_edge * slant_height) / 2)

def digit_distance(first, second):
    length = max(len(str(first)), len(str(second)))
    return sum(abs(int(a) - int(b)) for a, b in zip(str(first).zfill(length), str(second).zfill(length)))

def right(inputs, got, expected, atol):
    if NAME in SETS:
        return set(got) == set(expected)
    if NAME in NOT_NONE:
        return got == expected if isinstance(got, bool) else expected == (got is not None)
    if got == expected or NAME == 'are_equivalent':
        return True
    if NAME == 'sum_div':
        return got == 0
    if NAME == 'surface_Area':
        return abs(got - surface_area(*inputs)) <= atol
    return NAME == 'digit_distance_nums' and got == digit_distance(*inputs)

atol = ATOL
for inputs in INPUTS:
    expected = reference[NAME](*copy.deepcopy(inputs))
    if NAME in NOT_NONE:
        expected = expected is not None
    got = candidate(*copy.deepcopy(inputs))
    exact = right(inputs, got, expected, atol)
    if atol == 0 and is_floats(expected):
        atol = 1e-6
    assert exact or nearly(got, expected, atol), 'another result than that of the solution'
"""


def check(row: Mapping[str, Any], program: str, inputs: str) -> Check:
    """The program on the task's inputs. inputs: `base_input` or `plus_input`."""
    name = row["entry_point"]
    solution = row["prompt"] + row["canonical_solution"]
    test = evalplus.given(name, row[inputs], solution, row.get("atol") or 0) + TEST
    taken = f"candidate = globals().pop({name!r})\n"  # first: a task may be called `check` or `sum`
    return Check(program, f"{taken}{test}", names=(name,), seconds=SECONDS[inputs])


# --- the benchmark's parts ---


def evaluate(item: Item, setting: Setting) -> Evaluation:
    """One task's way: the base inputs, for a program that passes them the others too."""
    row = item.row
    reply = yield request(row, setting.chat)
    program, robust = read_programs(row, reply, setting.chat)
    verdict = yield check(row, program, "base_input")
    record = {"response": reply, **code.verdict_fields(verdict)}
    record["correct_plus"] = verdict.passed and (yield check(row, program, "plus_input")).passed
    if not verdict.passed and robust.rstrip("\n") != program.rstrip("\n"):  # see extraction/programs.py
        record["correct_robust"] = (yield check(row, robust, "base_input")).passed
    return record


def decoding(chat: bool) -> Mapping[str, Any]:
    """EvalPlus's stop strings; no penalty, which a chat model's generation_config.json may ask for."""
    return {"stop": CHAT_STOPS, "repetition_penalty": 1.0} if chat else {"stop": BASE_STOPS}


def aggregate(records: Sequence[Record], setting: Setting) -> Results:
    """pass@k of the base inputs and of all, which are never as reported: the cards' replies were cut by `sanitize`."""
    scores = {name: score._replace(as_reported=False) for name, score in code.pass_scores(records).items()}
    for name, score in code.pass_scores(records, "correct_plus", "_plus").items():
        scores[name] = score._replace(benchmark="mbpp_plus", as_reported=False)
    scores |= code.pass_scores(records, "correct_robust", "_robust", compared=False)
    return Results(scores, shots=0, notes=version_notes(read_tasks(setting.flags.evalplus)))
