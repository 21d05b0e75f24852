"""Write the demo's samples of every benchmark in the official file layouts.

    python tools/demo_training/make_data.py                 # write demo/data
    python tools/demo_training/make_data.py --check         # exit 1 unless demo/data is exactly what the seed gives

Here MMLU, C-Eval and CMMLU; what is answered in words comes from `samples.py`. The multiple-choice questions are about
the made-up world of `world.py`, in files named after real subjects, so that every group of the three benchmarks
has something in it. Their files have the oddities of the official ones, because those are what a reader of such files
trips over: no header (MMLU), an index column without a name (CMMLU), CRLF line ends with bare newlines inside quoted
cells (C-Eval), a missing last line end, questions that end in a newline, choices that read `None` or `nan`, cells with
blanks around them.
"""

from __future__ import annotations

import argparse
import csv
import gzip
import io
import sys
import zlib
from pathlib import Path
from typing import NamedTuple

import samples
from questions import Question, examine
from world import SEED, Dice, Fact, World

DATA = Path(__file__).resolve().parents[2] / "demo" / "data"
DEV = 5
UNLABELLED = 6  # rows of C-Eval's test split, whose answers are not published


class Subject(NamedTuple):
    kinds: tuple[str, ...]
    rows: int  # of the test split (C-Eval: val); different numbers, so that micro and macro averages differ
    passages: tuple[int, ...] = ()  # long questions: the number of facts each one tells


MMLU = {
    "astronomy": Subject(("planet",), 20),  # STEM
    "business_ethics": Subject(("guild",), 18),  # other
    "high_school_geography": Subject(("town", "river"), 21, (20, 175)),  # social; the 2nd passage is over 2,048 tokens
    "nutrition": Subject(("dish",), 22),  # other
    "world_religions": Subject(("faith",), 18, (12, 30)),  # humanities
}
CEVAL = {
    "high_school_geography": Subject(("town", "river"), 19, (25,)),  # social science
    "high_school_history": Subject(("invention",), 17, (20,)),  # humanities
    "high_school_mathematics": Subject(("sums.hard",), 20),  # STEM, hard
    "middle_school_biology": Subject(("animal",), 21),  # STEM
    "plant_protection": Subject(("crop",), 18),  # other
}
CMMLU = {
    "agronomy": Subject(("crop",), 19),  # other
    "chinese_food_culture": Subject(("festival", "dish"), 22),  # social science, China specific
    "elementary_mathematics": Subject(("sums.easy",), 18),  # STEM
    "high_school_geography": Subject(("town", "river"), 20, (25,)),  # social science
    "world_religions": Subject(("faith",), 17),  # humanities
}


def table(rows: list[list[str]], end: str, last_end: bool = True) -> bytes:
    buffer = io.StringIO()
    csv.writer(buffer, lineterminator=end).writerows(rows)
    text = buffer.getvalue()
    return (text if last_end else text[: -len(end)]).encode("utf-8")


def cells(question: Question) -> list[str]:
    return [question.text, *question.choices, question.answer]


def mmlu(world: World) -> dict[str, bytes]:
    files = {}
    for subject, (kinds, n, passages) in MMLU.items():
        end, last_end = ("\r\n" if subject == "business_ethics" else "\n"), subject != "nutrition"
        for split, count, long in (("dev", DEV, ()), ("test", n, passages)):
            dice = Dice(world.seed, "mmlu", subject, split)
            drawn = examine(world, "en", kinds, count, dice, held_out=split == "test", passages=long)
            rows = [cells(question) for question in drawn]
            if subject == "nutrition":  # as in the official file, where many a question ends in a newline
                rows = [[row[0] + "\n" * (i % 3 == 0), *row[1:]] for i, row in enumerate(rows)]
            files[f"mmlu/{split}/{subject}_{split}.csv"] = table(rows, end, last_end)
    return files


def ceval(world: World) -> dict[str, bytes]:
    files = {}
    header = ["id", "question", "A", "B", "C", "D"]
    for subject, (kinds, n, passages) in CEVAL.items():
        dice = Dice(world.seed, "ceval", subject, "dev")
        dev = examine(world, "zh", kinds, DEV, dice, held_out=False)
        rows = [[str(i), *cells(q), f"1. {q.explanation}\n2. 所以选{q.answer}。"] for i, q in enumerate(dev)]
        files[f"ceval/dev/{subject}_dev.csv"] = table([[*header, "answer", "explanation"], *rows], "\r\n")
        used: set[Fact] = set()  # val and test share no fact
        dice = Dice(world.seed, "ceval", subject, "val")
        val = examine(world, "zh", kinds, n, dice, held_out=True, passages=passages, used=used)
        test = examine(world, "zh", kinds, UNLABELLED, dice, held_out=True, used=used)
        rows = [[str(i), *cells(q)] for i, q in enumerate(val)]
        files[f"ceval/val/{subject}_val.csv"] = table([[*header, "answer"], *rows], "\r\n")
        rows = [[str(i), *cells(q)[:-1]] for i, q in enumerate(test)]
        files[f"ceval/test/{subject}_test.csv"] = table([header, *rows], "\r\n")
    return files


def cmmlu(world: World) -> dict[str, bytes]:
    files = {}
    for subject, (kinds, n, passages) in CMMLU.items():
        for split, count, long in (("dev", DEV, ()), ("test", n, passages)):
            dice = Dice(world.seed, "cmmlu", subject, split)
            drawn = examine(world, "zh", kinds, count, dice, held_out=split == "test", passages=long)
            rows = [[str(i), *cells(question)] for i, question in enumerate(drawn)]
            for i, row in enumerate(rows):
                if i % 9 == 4:  # blanks around a cell, as in the official files
                    row[3], row[5] = " " + row[3], row[5] + " "
            files[f"cmmlu/{split}/{subject}.csv"] = table([["", "Question", "A", "B", "C", "D", "Answer"], *rows], "\n")
    return files


def build(seed: int = SEED) -> dict[str, bytes]:
    """Path under demo/data -> the file's bytes."""
    world = World(seed)
    return {**mmlu(world), **ceval(world), **cmmlu(world), **samples.build(world)}


def unpacked(content: bytes) -> bytes:
    """A compressed file's text: its own bytes depend on the versions of Python and zlib."""
    try:
        return gzip.decompress(content)
    except (OSError, EOFError, zlib.error):  # not compressed, or broken
        return content


def differences(files: dict[str, bytes], folder: Path) -> list[str]:
    """What in the folder is not as it should be; files of other benchmarks beside them are left alone."""
    wrong = []
    for name, content in files.items():
        path = folder / name
        if not path.is_file():
            wrong.append(f"{name}: missing")
        elif unpacked(path.read_bytes()) != unpacked(content):
            wrong.append(f"{name}: differs")
    for top in sorted({name.split("/")[0] for name in files}):
        found = {path.relative_to(folder).as_posix() for path in (folder / top).rglob("*") if path.is_file()}
        wrong += [f"{name}: not from the seed" for name in sorted(found - set(files))]
    return wrong


def main() -> int:
    parser = argparse.ArgumentParser(description="Write the demo's benchmark samples.")
    parser.add_argument("--check", action="store_true", help="compare instead of writing; exit 1 on a difference")
    parser.add_argument("--seed", type=int, default=SEED)
    parser.add_argument("-o", "--output-dir", type=Path, default=DATA)
    args = parser.parse_args()
    files = build(args.seed)
    if args.check:
        wrong = differences(files, args.output_dir)
        for line in wrong:
            print(line, file=sys.stderr)
        print(f"{len(files)} files, {len(wrong)} wrong")
        return 1 if wrong else 0
    for name, content in files.items():
        path = args.output_dir / name
        path.parent.mkdir(parents=True, exist_ok=True)
        if not (path.is_file() and unpacked(path.read_bytes()) == unpacked(content)):
            path.write_bytes(content)
    print(f"{len(files)} files, {sum(map(len, files.values())):,} bytes in {args.output_dir}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
