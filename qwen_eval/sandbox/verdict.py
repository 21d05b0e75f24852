"""What is checked and what comes of it."""

import json
from dataclasses import dataclass
from typing import NamedTuple

PASSED, FAILED, TIMED_OUT = "passed", "failed", "timed out"


@dataclass(frozen=True)
class Check:
    """One program and the tests it must pass.

    program: the untrusted source. test: the benchmark's code, run elsewhere, with a stand-in for each of `names`, the
    globals of the program that it uses. setup: trusted code that runs before it. modules: names of standard modules
    that the tests take from the program's globals. seconds: the program's own time, running or asleep.
    """

    program: str
    test: str
    names: tuple[str, ...] = ()
    setup: str = ""
    modules: tuple[str, ...] = ()
    seconds: float = 3.0


class Verdict(NamedTuple):
    """status: passed, failed or timed out; message: one line on why; seconds: the program's own time."""

    passed: bool
    status: str
    message: str
    seconds: float


class SandboxBroken(Exception):
    """The sandbox itself failed: says nothing about the candidate."""


def verdict_of(outcome: bytes, report_text: bytes) -> Verdict:
    """Put together the tester's outcome and the warden's report of how the candidate ended, both JSON."""
    report = json.loads(report_text)
    status, message = json.loads(outcome) if outcome else (FAILED, "the tests ended without a verdict")
    message = " ".join(message.split())  # the program may have chosen it
    if status == PASSED:
        return Verdict(True, PASSED, "", report["seconds"])
    if report["why"] == TIMED_OUT:
        return Verdict(False, TIMED_OUT, "timed out", report["seconds"])
    ended = not message or "process ended" in message
    return Verdict(
        False, FAILED, f"the program {report['why']}" if ended and report["why"] else message, report["seconds"]
    )
