"""What a pipeline makes of a comparison: one verdict, a summary in Markdown, JUnit's XML, GitHub's own files.

| verdict | when |
| --- | --- |
| NO-GO | a figure is significantly worse |
| NOT COMPARABLE | data, prompts or protocol of a benchmark differ, so that a change need not come from the model |
| NOT ENOUGH DATA | no loss is shown, but a figure could have lost more than the margin unnoticed |
| GO | none of these |

The first that holds counts.
"""

import os
import re
from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple
from xml.etree import ElementTree

from qwen_eval.comparison import report as tables
from qwen_eval.comparison.result import Benchmark, Row
from qwen_eval.errors import disk_error
from qwen_eval.reporting.tables import markdown, write_atomically

VERDICTS = ("GO", "NO-GO", "NOT ENOUGH DATA", "NOT COMPARABLE")
GO, NO_GO, NOT_ENOUGH, NOT_COMPARABLE = VERDICTS
STATUS = {GO: 0, NO_GO: 1, NOT_ENOUGH: 2, NOT_COMPARABLE: 2}


NOT_IN_XML = re.compile(r"[^\t\n\r\x20-\ud7ff\ue000-\ufffd\U00010000-\U0010ffff]")


class Verdict(NamedTuple):
    """sentence: the word and what decides it."""

    word: str
    sentence: str


def judge(benchmarks: Sequence[Benchmark], margin: float, power: float) -> Verdict:
    """margin, in points, and power: of what loss may be missed how often."""
    rows = [row for one in benchmarks for row in one.rows]
    worse, apart, short = (
        [row for row in rows if row.word == word] for word in ("worse", "not comparable", "not enough data")
    )
    if worse:
        return Verdict(NO_GO, f"{NO_GO}: significantly worse: {_named(worse)}")
    if apart:
        names = ", ".join(one.name for one in benchmarks if not one.comparable)
        return Verdict(
            NOT_COMPARABLE, f"{NOT_COMPARABLE}: {names}: not only the model differs, so no regression is told"
        )
    if short:
        could = "; ".join(f"{_name(row)} {_missed(row)}" for row in short)
        return Verdict(
            NOT_ENOUGH, f"{NOT_ENOUGH}: no loss is shown, but one over {margin:g} points could be missed: {could}"
        )
    found = f"one of {margin:g} points or more would have been found in {100 * power:g} % of cases"
    return Verdict(GO, f"{GO}: no figure shows a loss, and {found}")


def _name(row: Row) -> str:
    return f"{row.benchmark} {row.figure}"


def _named(rows: Sequence[Row]) -> str:
    return "; ".join(
        f"{_name(row)} {row.a:.4g} -> {row.b:.4g} (p = {row.p_holm[0]:.3g} after Holm, {row.test})" for row in rows
    )


def _missed(row: Row) -> str:
    if row.smallest is None:
        return f"({row.items} items can show no loss at all)"
    return f"({row.items} items can show {row.smallest:.3g} or more)"


# -- files -------------------------------------------------------------------------------------------------------------


def report(
    folder: Path,
    verdict: Verdict,
    title: str,
    benchmarks: Sequence[Benchmark],
    notes: Sequence[str],
    fail_on: Sequence[str],
) -> int:
    """Write summary.md and junit.xml into the folder, and for GitHub the job's summary and outputs; returns the exit
    status: the verdict's where it is in `fail_on`."""
    write_atomically(folder / "summary.md", summary(verdict, title, benchmarks, notes))
    write_atomically(folder / "junit.xml", junit(benchmarks))
    outputs = {"verdict": verdict.word, "report": folder / "summary.md", "junit": folder / "junit.xml"}
    _append("GITHUB_STEP_SUMMARY", (folder / "summary.md").read_text(encoding="utf-8"))
    _append("GITHUB_OUTPUT", "".join(f"{name}={value}\n" for name, value in outputs.items()))
    return STATUS[verdict.word] if verdict.word in fail_on else 0


def _append(variable: str, text: str) -> None:
    if path := os.environ.get(variable):
        with disk_error(Path(path)), open(path, "a", encoding="utf-8") as file:
            file.write(text)


def summary(verdict: Verdict, title: str, benchmarks: Sequence[Benchmark], notes: Sequence[str]) -> str:
    """The verdict and what decides it, the table, the first flipped items, what to know."""
    grids = [tables.grid(benchmarks), *(grid for one in benchmarks for grid in tables.flipped(one))]
    rest = [note for note in notes if note != verdict.sentence]
    head, _, body = markdown(f"qwen-eval: {verdict.word}", tables.for_markdown(grids), rest).partition("\n\n")
    return f"{head}\n\n{verdict.sentence}\n\n{title}\n\n{body}"


def junit(benchmarks: Sequence[Benchmark]) -> str:
    """A test suite per benchmark, a test case per figure: failure, worse; error, not comparable; skipped, not enough
    data."""
    suites = ElementTree.Element("testsuites", name="qwen-eval compare")
    kinds = {"worse": "failure", "not comparable": "error", "not enough data": "skipped"}
    for one in benchmarks:
        words = [row.word for row in one.rows]
        counts = {
            "tests": len(words),
            "failures": words.count("worse"),
            "errors": words.count("not comparable"),
            "skipped": words.count("not enough data"),
        }
        suite = ElementTree.SubElement(
            suites, "testsuite", {"name": one.name, **{name: str(count) for name, count in counts.items()}}
        )
        for row in one.rows:
            case = ElementTree.SubElement(suite, "testcase", classname=one.name, name=row.figure)
            said = _sentence(row, one)
            if row.word in kinds:
                ElementTree.SubElement(case, kinds[row.word], message=said)
            ElementTree.SubElement(case, "system-out").text = said
    ElementTree.indent(suites)
    return NOT_IN_XML.sub("", ElementTree.tostring(suites, encoding="unicode")) + "\n"


def _sentence(row: Row, one: Benchmark) -> str:
    if row.word == "not comparable":
        return "; ".join(one.pairing.differences)
    flips = "" if row.lost is None else f", {row.lost} lost, {row.gained} gained"
    shown = f"{row.a:.4g} -> {row.b:.4g} on {row.items} items{flips}, p = {row.p_holm[0]:.3g} after Holm ({row.test})"
    return f"{row.word}: {shown}; {_missed(row)[1:-1]}"
