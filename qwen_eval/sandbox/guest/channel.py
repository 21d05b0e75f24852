"""How the processes of the sandbox talk.

Over a pipe: frames, four bytes of length (big endian), then that many bytes of JSON. From the harness to the zygote,
over the control socket: HEADER, with descriptors beside it.
"""

import json
import os
import struct
from typing import Any

HEADER = ">cdd"  # CHECK or KERNEL; the program's limits in seconds: its own time, and wall time
CHECK, KERNEL = b"c", b"k"
TESTER_CPU = 60  # seconds; the tests are the benchmark's own, this only bounds an absurd value that they are given

MAX_FRAME = 32 << 20  # bytes; an answer larger than this is no answer to a unit test


class ChannelError(Exception):
    """The other side closed the pipe, or sent something that is not a frame of JSON."""


def read_all(descriptor: int) -> bytes:
    """Everything up to the end of the pipe, which is then closed."""
    with os.fdopen(descriptor, "rb") as stream:
        return stream.read()


def write_all(descriptor: int, data: bytes) -> None:
    """All of `data`, in as many writes as the pipe needs."""
    view = memoryview(data)
    while view:
        view = view[os.write(descriptor, view) :]


def send(descriptor: int, message: Any) -> None:
    """Write one frame. Raises ValueError when it is larger than a frame may be, OSError when nobody reads."""
    data = json.dumps(message, separators=(",", ":")).encode()
    if len(data) > MAX_FRAME:
        raise ValueError(f"a result of {len(data)} bytes is more than the {MAX_FRAME} allowed")
    write_all(descriptor, struct.pack(">I", len(data)) + data)


def receive(descriptor: int) -> Any:
    """Read one frame. Raises ChannelError at the end of the pipe and on anything malformed."""
    (length,) = struct.unpack(">I", _exactly(descriptor, 4))
    if length > MAX_FRAME:
        raise ChannelError(f"a frame of {length} bytes was announced")
    try:
        return json.loads(_exactly(descriptor, length))
    except (ValueError, RecursionError) as error:
        raise ChannelError("the frame is not JSON") from error


def _exactly(descriptor: int, count: int) -> bytes:
    parts, missing = [], count
    while missing:
        part = os.read(descriptor, min(missing, 1 << 20))
        if not part:
            raise ChannelError("the candidate's process ended")
        parts.append(part)
        missing -= len(part)
    return b"".join(parts)
