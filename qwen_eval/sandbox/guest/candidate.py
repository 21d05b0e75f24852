"""The untrusted side: run the candidate's program, then answer calls with plain data.

Nothing here is protected from the candidate, and nothing needs to be. All that leaves this process is frames on one
pipe, and a frame can say nothing but "the call returned this value" or "it raised this exception". A candidate that
forges one has gained what returning the value would have given it. The tests, their expected values and the verdict are
in other processes.
"""

import builtins
import io
import json
import os
import sys
from typing import Any

from . import channel, codec

_BUILTIN = dict(vars(builtins))


class _NoInput(io.TextIOBase):
    """Standard input of a candidate: reading it fails, as with other checkers."""

    def _refuse(self, *_: Any) -> Any:
        raise OSError("a candidate has no input")

    read = readline = _refuse


class Served:
    """The objects that the tests know by a number, because they are no plain data (instances, functions, modules)."""

    def __init__(self, namespace: dict[str, Any]) -> None:
        self.namespace = namespace
        self.held: list[Any] = []

    def reference(self, value: Any) -> codec.Encoded:
        """Keep an object; returns the form that stands for it."""
        self.held.append(value)
        return ["ref", len(self.held) - 1]

    def resolve(self, number: Any) -> Any:
        """The object of a number, or of a global name of the program."""
        return self.namespace[number] if isinstance(number, str) else self.held[number]

    def answer(self, request: list[Any]) -> Any:
        """Do what is asked: ["call", target, args, kwargs], ["get", target, name] or ["set", target, name, value]."""
        action, target, *rest = request
        if isinstance(target, str) and target not in self.namespace:
            raise NameError(f"name {target!r} is not defined")
        subject = self.resolve(target)
        if action == "call":
            args, kwargs = (codec.decode(part, self.resolve) for part in rest)
            return subject(*args, **kwargs)
        if action == "get":
            return getattr(subject, rest[0])
        return setattr(subject, rest[0], codec.decode(rest[1], self.resolve))


def main(source_fd: int, requests: int, replies: int) -> None:
    """Read the program, run it, serve the tests' calls until they are done. Does not return."""
    source = json.loads(channel.read_all(source_fd))
    sys.stdin = _NoInput()
    for name in ("exit", "quit", "help"):  # the interactive interpreter's, not the language's
        builtins.__dict__.pop(name, None)
    namespace: dict[str, Any] = {}
    served = Served(namespace)
    try:
        exec(compile(source, "<candidate>", "exec"), namespace)
    except BaseException as error:
        channel.send(replies, _raised(error))
        os._exit(0)
    channel.send(replies, ["value", None])
    while True:
        try:
            request = channel.receive(requests)
        except channel.ChannelError:
            os._exit(0)  # the tests are done
        try:
            reply = ["value", codec.encode(served.answer(request), served.reference)]
        except BaseException as error:
            reply = _raised(error)
        try:
            channel.send(replies, reply)
        except ValueError as error:
            channel.send(replies, _raised(error))


def _raised(error: BaseException) -> list[Any]:
    """An exception by the name of its first builtin class, and its message."""
    # By identity: a class made by a program without a __name__ says that its module is builtins.
    known = next(kind for kind in type.mro(type(error)) if _BUILTIN.get(kind.__name__) is kind)
    try:
        message = str(error)[:500]
    except BaseException:
        message = ""
    return ["raised", known.__name__, type(error).__name__ + ": " + message if known is not type(error) else message]
