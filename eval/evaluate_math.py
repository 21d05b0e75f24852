"""MATH: 5,000 competition problems in 7 subjects and 5 levels, 4 worked examples (the Minerva prompt).

    python eval/evaluate_math.py -c Qwen/Qwen-7B -d data/math

-d takes a JSONL file or a folder with `test.jsonl` (one problem a line), or the official folder with
`test/{subject}/{number}.json`. Data: EleutherAI/hendrycks_math (Hendrycks et al. 2021). The four examples are those of
the Minerva paper (Lewkowycz et al. 2022, appendix D.2), in minerva_4shot.json; --shots-file takes others in its form.

protocol: the text between `Final Answer: The final answer is` and `. I hope it is correct`, else the last \\boxed{};
equal to the reference after the Minerva normalisation (appendix D.1). robust: the answer that the reply announces, in a
box or in words, else its last formula; mathematically equal by math-verify, and in the same unit. Each comparison runs
in a worker process with a limit of CPU time and memory, for an answer such as 9^{9^{9^9}} would never end; one over the
limit counts as unequal.
A chat model of Qwen1.5 to Qwen2.5 is asked without examples and told to box the answer (--protocol; the wording of
protocols.BOXED, which is ours).
Not published, ours: the prompt ends in `Solution:` and a newline; generation stops at the next `Problem:`.
"""

import argparse
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

from qwen_eval.benchmark import Benchmark, Content, Evaluation, Generate, Item, Record, Results, Setting, Shots
from qwen_eval.data.items import (
    STRING,
    TEXT,
    WHOLE,
    Hub,
    Kind,
    check_row,
    find,
    given_path,
    locate,
    read_json,
    read_rows,
    tables,
)
from qwen_eval.equivalence import Equivalence, Equivalent
from qwen_eval.errors import UserError, run_script
from qwen_eval.extraction.formulas import in_the_same_unit, read_formula
from qwen_eval.extraction.minerva import extract, last_boxed, normalise
from qwen_eval.extraction.replies import END_OF_TEXT, cut_at
from qwen_eval.places import PROMPTS
from qwen_eval.protocols import BOXED, BOXED_TOKENS
from qwen_eval.runner import run_benchmark
from qwen_eval.stats import accuracy

SUBJECTS = (
    "algebra",
    "counting_and_probability",
    "geometry",
    "intermediate_algebra",
    "number_theory",
    "prealgebra",
    "precalculus",
)
EXAMPLES = PROMPTS / "minerva_4shot.json"
HUB = Hub("EleutherAI/hendrycks_math", "test-00000-of-00001.parquet")
FILES = ("test.jsonl", "test.jsonl.gz", "test.json", *tables("", "test"))
SHOTS = 4
STOPS = (END_OF_TEXT, "Problem:")

# --- data ---

SOLUTION = Kind(
    "a text with an answer in \\boxed{}", lambda value: STRING.fits(value) and last_boxed(value) is not None
)
FIELDS = {"problem": TEXT, "level": TEXT | WHOLE, "solution": SOLUTION}


def read_test(given: str | None) -> list[tuple[str, dict[str, Any]]]:
    """(id, row) of every problem: from one table, one a subject (the hub), or the official tree of JSON files."""
    if given is None or not given_path(given).exists():  # seven files on the hub, one a subject
        hubs = {subject: HUB._replace(file=f"{subject}/{HUB.file}") for subject in SUBJECTS}
        files = {subject: [locate(given, hub, subject, file_ok=True)] for subject, hub in hubs.items()}
    else:
        place = locate(given, HUB, (*FILES, "test/*/*.json", *tables(SUBJECTS[0], "test"), "test"), file_ok=True)
        if one_table := [place] if place.is_file() else find(place, FILES):
            rows = [row for path in one_table for row in read_rows(path, FIELDS)]
            return [(f"test/{number}", _checked(row, f"{given} row {number}")) for number, row in enumerate(rows)]
        files = {subject: find(place, tables(subject, "test")) for subject in SUBJECTS}
        if not any(files.values()):
            tree = [file for subject in SUBJECTS for file in _by_number(place / "test" / subject)]
            found = [(file, check_row(read_json(file), FIELDS, str(file))) for file in tree]
            return [(f"{file.parent.name}/{file.stem}", _checked(row, str(file))) for file, row in found]
    return [
        (f"{subject}/{number}", _checked(row, f"{paths[0]} row {number}"))
        for subject, paths in files.items()
        for number, row in enumerate(row for path in paths for row in read_rows(path, FIELDS))
    ]


def _checked(row: dict[str, Any], where: str) -> dict[str, Any]:
    if subject_of(row) not in SUBJECTS:
        raise UserError(f"{where}: unknown subject {subject_of(row)!r}")
    return row


def _by_number(folder: Path) -> list[Path]:
    files = (file for file in folder.glob("*.json") if not file.name.startswith("."))
    return sorted(files, key=lambda file: (len(file.stem), file.stem))


def read_examples(given: Path | None, shots: int) -> list[dict[str, str]]:
    """The first `shots` worked examples of --shots-file, else the Minerva prompt's (minerva_4shot.json)."""
    path = given or EXAMPLES
    if not path.exists():
        raise UserError(f"no worked examples at {path}; --shots-file takes a JSON list of them")
    found = read_json(path)
    if not isinstance(found, list):
        raise UserError(f'{path} is no JSON list of {{"problem", "solution"}}')
    for number, example in enumerate(found):
        check_row(example, {"problem": TEXT, "solution": TEXT}, f"{path} row {number}")
    if len(found) < shots:
        raise UserError(f"-k {shots}: {path} has {len(found)} examples")
    return found[:shots]


def subject_of(row: dict[str, Any]) -> str:
    """`Counting & Probability` is counting_and_probability, as its folder is called."""
    return str(row.get("type") or row.get("subject", "")).lower().replace("&", "and").replace(" ", "_")


def level_of(row: dict[str, Any]) -> str:
    """`Level 5` is 5, as MATH-500 has it."""
    return str(row["level"]).removeprefix("Level ")


# --- prompt ---


def prompt(problem: str, examples: Sequence[dict[str, str]]) -> str:
    shots = "".join(f"Problem:\n{e['problem']}\n\nSolution:\n{e['solution']}\n\n" for e in examples)
    return f"{shots}Problem:\n{problem}\n\nSolution:\n"


# --- score ---


def compare(gold: str, answer: str | None) -> bool | Equivalent:
    """robust: whether the answers are equal, or the request that finds it out.

    The normal form takes an equation for its right side, and no notice of units: x = 2 is not y = 2, and 5 cents are
    not $5.
    """
    converted = None if answer is None else in_the_same_unit(gold, answer)
    if converted is None:
        return False
    if "=" in gold or "=" in converted:
        same = "".join(gold.split()) == "".join(converted.split())
    else:
        same = normalise(gold) == normalise(converted)
    return same or Equivalent(gold, converted)


# --- the benchmark ---


class MATH(Benchmark):
    name = "math"
    official_items = 5_000
    shots = Shots(base=SHOTS, chat=SHOTS)
    extras = ("math",)

    def add_flags(self, flags: argparse.ArgumentParser) -> None:
        examples = "other worked examples (default: the Minerva prompt)"
        flags.add_argument("--shots-file", type=Path, metavar="FILE", help=examples)

    def load(self, setting: Setting) -> Iterable[Item]:
        wanted = setting.subjects(SUBJECTS)
        examples = self.examples(setting)
        for name, row in read_test(setting.data_path):
            if (subject := subject_of(row)) in wanted:
                yield Item(name, subject, gold=row["solution"], row=row, examples=examples)

    def examples(self, setting: Setting) -> list[dict[str, str]]:
        path = setting.flags.shots_file
        if path is None and setting.own_samples:  # which are of another kind than the Minerva prompt's
            path = Path(str(setting.data_path)) / "shots.json"
        return read_examples(path, setting.shots) if setting.shots else []

    def services(self, setting: Setting) -> Mapping[type, Any]:
        return {Equivalent: Equivalence()}

    def protocol(self, setting: Setting) -> Mapping[str, Any]:
        return {"num_fewshot": setting.shots, "examples": self.examples(setting)}

    def decoding(self, setting: Setting) -> Mapping[str, Any]:
        if self.boxed(setting):
            return {"repetition_penalty": 1.0, "max_new_tokens": BOXED_TOKENS}
        return {"stop": STOPS}

    def departures(self, setting: Setting) -> list[str]:
        return ["--shots-file"] if setting.flags.shots_file and not setting.own_samples else []

    def content(self, item: Item) -> Content:
        return Content([item.row["problem"], level_of(item.row)], item.row["solution"])

    def evaluate(self, item: Item, setting: Setting) -> Evaluation:
        boxed = self.boxed(setting)
        asked = item.row["problem"] + BOXED if boxed else prompt(item.row["problem"], item.examples)
        reply = yield Generate(asked)
        gold = last_boxed(item.gold) or ""
        answer, robust = extract(cut_at(reply, STOPS[:1] if boxed else STOPS)), read_formula(reply)
        prediction = None if answer is None else normalise(answer)
        same = compare(gold, robust)
        if isinstance(same, Equivalent):
            same = yield same
        return {
            "response": reply,
            "level": level_of(item.row),
            "prediction": prediction,
            "gold": normalise(gold),
            "correct": prediction == normalise(gold),
            "prediction_robust": robust,
            "correct_robust": bool(same),
            **({"timed_out": True} if same is None else {}),
        }

    def aggregate(self, records: Sequence[Record], setting: Setting) -> Results:
        scores = {
            "acc": accuracy(record["correct"] for record in records),
            "acc_robust": accuracy((record["correct_robust"] for record in records), compared=False),
        }
        parts = {}
        for field in ("subject", "level"):
            names = sorted({record[field] for record in records})
            parts[f"by {field}"] = {
                name: accuracy(record["correct"] for record in records if record[field] == name) for name in names
            }
        notes = []
        if late := [record["id"] for record in records if record.get("timed_out")]:
            first = ", ".join(late[:5])
            notes.append(f"{len(late)} comparisons passed the limit and count as unequal in acc_robust ({first})")
        return Results(scores, parts, notes)


def main() -> int:
    return run_benchmark(MATH(), __doc__)


if __name__ == "__main__":
    run_script(main)
