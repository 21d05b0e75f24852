"""The trusted side: run the benchmark's test code against a stand-in for the candidate, and give the verdict.

This process has never held a line of the candidate's code. The stand-in sends a call's arguments away as plain data and
gets plain data back, so every comparison the tests make is one between values of builtin types, made here.
Arguments go by value: a candidate that changes its argument changes its own copy.
"""

import builtins
import importlib
import json
import os
from typing import Any

from . import channel, codec


class Remote:
    """A stand-in for an object of the candidate that is no plain data: a function, a class, an instance.

    It can be called, and its attributes can be read and set; all of that happens in the candidate's process. Comparing
    and hashing happen here, as for any new object: it equals nothing but itself, whatever the candidate's class says.
    """

    __slots__ = ("_link", "_target")

    def __init__(self, link: "Link", target: Any) -> None:
        object.__setattr__(self, "_link", link)
        object.__setattr__(self, "_target", target)

    def __call__(self, *args: Any, **kwargs: Any) -> Any:
        return self._link.ask(["call", self._target, encoded(args), encoded(kwargs)])

    def __getattr__(self, name: str) -> Any:
        if name.startswith("__"):  # copying, pickling, printing and the like are not the candidate's business
            raise AttributeError(name)
        return self._link.ask(["get", self._target, name])

    def __setattr__(self, name: str, value: Any) -> None:
        self._link.ask(["set", self._target, name, encoded(value)])

    def __copy__(self) -> "Remote":
        return self

    def __deepcopy__(self, _: Any) -> "Remote":
        return self


def encoded(value: Any) -> codec.Encoded:
    """The form of a value of the tests; raises NotPlain for what cannot be sent."""
    return codec.encode(value, _remote_reference)


def _remote_reference(value: Any) -> codec.Encoded:
    if type(value) is not Remote:
        raise codec.NotPlain(f"the tests pass a {type(value).__name__}, which cannot be sent as plain data")
    return ["ref", value._target]


class CandidateEnded(BaseException):
    """The candidate's process is gone, or sent what is no answer; no test code may catch this."""


class Link:
    """The two pipes to the candidate."""

    def __init__(self, requests: int, replies: int) -> None:
        self.requests, self.replies = requests, replies

    def ask(self, request: list[Any]) -> Any:
        """Send a request (see candidate.Served.answer); returns the value, or raises, as `reply` does."""
        try:
            channel.send(self.requests, request)
        except OSError:
            raise CandidateEnded("the candidate's process ended") from None
        return self.reply()

    def reply(self) -> Any:
        """The value of the next reply; what the candidate raised is raised here by its builtin name."""
        try:
            kind, *rest = channel.receive(self.replies)
            if kind == "value":
                return codec.decode(rest[0], lambda number: Remote(self, number))
            name, message = str(rest[0]), str(rest[1])
        except (channel.ChannelError, codec.NotPlain, MemoryError, TypeError, ValueError, IndexError) as error:
            raise CandidateEnded(str(error) or type(error).__name__) from None
        raised = getattr(builtins, name, None)
        if not (isinstance(raised, type) and issubclass(raised, BaseException)):
            raised = Exception
        try:
            plain = raised(message)
        except TypeError:  # the Unicode errors want five arguments
            plain = ValueError(f"{name}: {message}")
        raise plain


def run(job: dict[str, Any], link: Link) -> None:
    """Run the tests; returns if all hold, raises whatever an interpreter would have raised.

    job: `setup` (trusted code: the prompt's own helpers), `names` (of the candidate's, used by the tests),
    `modules` (that the candidate must have imported under this name; the tests get the real one), `test`.
    """
    link.reply()  # the program itself ran
    namespace: dict[str, Any] = {}
    exec(compile(job["setup"], "<setup>", "exec"), namespace)
    for name in job["names"]:
        namespace[name] = Remote(link, name)
    for name in job["modules"]:
        link.ask(["get", name, "__name__"])
        namespace[name] = importlib.import_module(name)
    exec(compile(job["test"], "<test>", "exec"), namespace)


def main(job_fd: int, requests: int, replies: int, verdict: int) -> None:
    """Read the job, run it, write the verdict. Does not return."""
    job = json.loads(channel.read_all(job_fd))
    try:
        run(job, Link(requests, replies))
        outcome = ["passed", ""]
    except BaseException as error:
        kind = "" if isinstance(error, CandidateEnded) else type(error).__name__
        outcome = ["failed", ": ".join(part for part in (kind, str(error)[:500]) if part)]
    channel.write_all(verdict, json.dumps(outcome).encode())
    os._exit(0)
