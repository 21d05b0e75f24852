"""MATH: 5,000 competition problems in 7 subjects and 5 levels, 4 worked examples (the Minerva prompt).

    python eval/evaluate_math.py -c Qwen/Qwen-7B -d data/math

-d takes a JSONL file or a folder with `test.jsonl` (one problem a line), or the official folder with
`test/{subject}/{number}.json`. Data: EleutherAI/hendrycks_math (Hendrycks et al. 2021). The four examples are those of
the Minerva paper (Lewkowycz et al. 2022, appendix D.2), in minerva_4shot.json; --shots-file takes others in its form.

protocol: the text between `Final Answer: The final answer is` and `. I hope it is correct`, else the last \\boxed{};
equal to the reference after the Minerva normalisation (appendix D.1). robust: the answer that the reply announces, in a
box or in words, else its last formula; mathematically equal by math-verify, and in the same unit. Each comparison runs
in a worker process with a limit of CPU time and memory, for an answer such as 9^{9^{9^9}} would never end; an item over
the limit is tried once more and then counts as unequal.
Not published, ours: the prompt ends in `Solution:` and a newline; generation stops at the next `Problem:`.
"""

import re
from pathlib import Path
from typing import Any

from qwen_eval.cli import parser
from qwen_eval.data.items import (
    STRING,
    TEXT,
    WHOLE,
    Hub,
    Item,
    Kind,
    check_row,
    choose_subjects,
    find,
    given_path,
    locate,
    read_json,
    read_rows,
    tables,
)
from qwen_eval.equivalence import Equivalence
from qwen_eval.errors import UserError, run_script
from qwen_eval.extraction.formulas import in_the_same_unit, read_formula
from qwen_eval.extraction.replies import END_OF_TEXT, cut_at
from qwen_eval.extras import need
from qwen_eval.places import PROMPTS
from qwen_eval.run import Run
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
OFFICIAL_N = 5000
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


# --- prompt ---


def prompt(problem: str, examples: list[dict[str, str]]) -> str:
    shots = "".join(f"Problem:\n{e['problem']}\n\nSolution:\n{e['solution']}\n\n" for e in examples)
    return f"{shots}Problem:\n{problem}\n\nSolution:\n"


# --- extract ---


def extract(reply: str) -> str | None:
    """protocol: the announced final answer, else the last \\boxed{}; None without either."""
    announced = re.search(r"Final Answer: The final answer is(.*?)\. I hope it is correct", reply, re.DOTALL)
    return announced.group(1).strip() if announced else last_boxed(reply)


def last_boxed(text: str) -> str | None:
    """What stands in the last \\boxed{...} or \\fbox{...} with balanced braces, or after the last `\\boxed `."""
    start = max(text.rfind("\\boxed"), text.rfind("\\fbox"))
    if start < 0:
        return None
    rest = re.sub(r"^\\(?:boxed|fbox)", "", text[start:])
    if not rest.startswith("{"):
        return re.split(r"[$\n.]", rest.strip(), maxsplit=1)[0].strip() or None
    depth = 0
    for index, char in enumerate(rest):
        depth += (char == "{") - (char == "}")
        if depth == 0:
            return rest[1:index]
    return None


# --- compare: the Minerva normalisation ---

# In this order: articles, escapes, spaces (so that the units below are found in the middle of words, too), \mbox.
REPLACED = (
    ("an ", ""), ("a ", ""), (".$", "$"), ("\\$", ""), ("\\ ", ""), (" ", ""), ("mbox", "text"),
    (",\\text{and}", ","), ("\\text{and}", ","), ("\\text{m}", "\\text{}"),
)  # fmt: skip
DROPPED = (
    "square", "ways", "integers", "dollars", "mph", "inches", "ft", "hours", "km", "units", "\\ldots", "sue", "points",
    "feet", "minutes", "digits", "cents", "degrees", "cm", "gm", "pounds", "meters", "meals", "edges", "students",
    "childrentickets", "multiples", "\\text{s}", "\\text{.}", "\\text{\ns}", "\\text{}^2", "\\text{}^3", "\\text{\n}",
    "\\text{}", "\\mathrm{th}", "^\\circ", "^{\\circ}", "\\;", ",\\!", "{,}", '"', "\\dots",
)  # fmt: skip


def normalise(answer: str) -> str:
    """The Minerva normal form of an answer: what follows the last `=`, without units, dollars and decoration."""
    answer = answer.split("=")[-1]
    for old, new in REPLACED:
        answer = answer.replace(old, new)
    for word in DROPPED:
        answer = answer.replace(word, "")
    answer = re.sub(r".*?\$(.*?)\$.*", r"$\1$", answer)  # only the formula of "it is $x$ in all"
    for command in ("text", "textbf", "overline"):
        answer = re.sub(r"\\" + command + r"\{(.*?)\}", r"\1", answer)
    answer = re.sub(r"\\boxed\{(.*)\}", r"\1", answer)
    answer = re.sub(r"frac([^{])(.)", r"frac{\1}{\2}", answer)  # \frac12
    answer = re.sub(r"sqrt([^{])", r"sqrt{\1}", answer)  # \sqrt2
    answer = answer.replace("$", "")
    return answer.replace(",", "") if answer.replace(",", "").isdigit() else answer


# --- score ---


def score(reply: str, solution: str, equivalence: Equivalence) -> dict[str, Any]:
    """Both extractions of a reply and both verdicts. `solution` is the row's, its answer in the last \\boxed{}."""
    gold = last_boxed(solution) or ""
    answer, loose = extract(cut_at(reply, STOPS)), read_formula(reply)
    prediction = None if answer is None else normalise(answer)
    same = False if loose is None else equal(gold, loose, equivalence)
    return {
        "prediction": prediction,
        "gold": normalise(gold),
        "correct": prediction == normalise(gold),
        "prediction_robust": loose,
        "correct_robust": bool(same),
        **({"timed_out": True} if same is None else {}),
    }


def equal(gold: str, answer: str, equivalence: Equivalence) -> bool | None:
    """robust: whether the answers are equal; None where the comparison passed its limit.

    The normalisation takes an equation for its right side, and no notice of units: x = 2 is not y = 2, and 5 cents are
    not $5.
    """
    converted = in_the_same_unit(gold, answer)
    if converted is None:
        return False
    if "=" in gold or "=" in converted:
        same = "".join(gold.split()) == "".join(converted.split())
    else:
        same = normalise(gold) == normalise(converted)
    return same or equivalence.equal(gold, converted)


def main() -> int:
    flags = parser(__doc__, shots=SHOTS)
    flags.add_argument(
        "--shots-file", type=Path, metavar="FILE", help="other worked examples (default: the Minerva prompt)"
    )
    args = flags.parse_args()
    need("math")
    run = Run(args, "math", OFFICIAL_N)
    shots = run.shots(base=SHOTS, chat=SHOTS)
    wanted = choose_subjects(SUBJECTS, args.subjects)
    rows = [(name, row) for name, row in read_test(run.data_path) if subject_of(row) in wanted]
    examples = read_examples(args.shots_file, shots) if shots else []
    if args.shots_file and not run.own_samples:
        run.departures.append("--shots-file")
    items = [Item(name, subject_of(row), prompt(row["problem"], examples), row["solution"], row) for name, row in rows]
    run.start(items, {"num_fewshot": shots, "examples": examples}, {"stop": STOPS})
    with Equivalence() as equivalence:
        for item, reply in run.generate():
            level = str(item.row["level"]).removeprefix("Level ")
            run.save(item, response=reply, level=level, **score(reply, item.gold, equivalence))

    records = run.records

    def by(field: str) -> dict[str, Any]:
        names = sorted({record[field] for record in records})
        return {name: accuracy(r["correct"] for r in records if r[field] == name) for name in names}

    scores = {
        "acc": accuracy(record["correct"] for record in records),
        "acc_robust": accuracy((record["correct_robust"] for record in records), compared=False),
    }
    notes = [run.list_disagreements([r["id"] for r in records if r["correct"] != r["correct_robust"]])]
    if late := [record["id"] for record in records if record.get("timed_out")]:
        notes.append(
            f"{len(late)} comparisons passed the limit and count as unequal in acc_robust ({', '.join(late[:5])})"
        )
    return run.report(scores, {"by subject": by("subject"), "by level": by("level")}, notes, shots=shots)


if __name__ == "__main__":
    run_script(main)
