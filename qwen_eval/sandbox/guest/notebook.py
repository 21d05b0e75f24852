"""The untrusted side of a Jupyter kernel: ipykernel in this process; cells come by one pipe, messages go by another.

As with a candidate, nothing here is protected from the code it runs, and nothing needs to be: what leaves this process
says what the cell printed and whether it failed, and a cell that lies about that has lied about itself only. Time,
memory, files and processes are limited by the keeper and by the operating system.
"""

import codeop
import contextlib
import os
import signal
import threading
from typing import Any

from . import channel

MAX_TEXT = 200_000  # characters of a cell's output that are kept
FLOOD = 20_000_000  # characters after which a cell is stopped
MAX_PICTURES, MAX_PICTURE = 20, 8 << 20  # pictures per cell, and base64 characters per picture


class Outbox:
    """Sends what a cell puts out, up to a limit. Called from ipykernel's threads."""

    def __init__(self, descriptor: int) -> None:
        self.descriptor, self.lock = descriptor, threading.Lock()
        self.begin()

    def begin(self) -> None:
        """A new cell: count from zero."""
        self.written, self.pictures, self.flooded = 0, 0, False

    def send(self, *message: Any) -> None:
        """Send one frame; kernel.py of the harness lists the messages."""
        with self.lock:
            channel.send(self.descriptor, message)

    def text(self, kind: str, text: str) -> None:
        """Send a text of the cell, cut where the cell has put out enough; a flood interrupts the cell."""
        kept = text[: max(0, MAX_TEXT - self.written)]
        self.written += len(text)
        self.send("text", kind, kept, len(text) - len(kept))
        if self.written > FLOOD and not self.flooded:
            self.flooded = True
            os.kill(os.getpid(), signal.SIGINT)

    def message(self, message: dict[str, Any]) -> None:
        """One message of the kernel's iopub channel (jupyter_client, "Messaging in Jupyter")."""
        kind, content = message["msg_type"], message["content"]
        if kind == "stream":
            self.text(content["name"], content["text"])
        elif kind == "error":
            self.send("failed", content["ename"], str(content["evalue"])[:500])
            self.text("error", "\n".join(content["traceback"]))
        elif kind in ("execute_result", "display_data"):
            data = content["data"]
            picture = data.get("image/png")
            if kind == "execute_result" or not picture:
                self.text(kind, data.get("text/plain", ""))
            if picture and self.pictures < MAX_PICTURES and len(picture) < MAX_PICTURE:
                self.pictures += 1
                self.send("picture", picture)


def start(outbox: Outbox) -> tuple[Any, Any]:
    """(kernel, client); the kernel's messages go to the outbox."""
    home = os.getcwd()
    # What was imported before used the zygote's folder; this one is new and empty.
    os.environ.update(HOME=home, IPYTHONDIR=f"{home}/.ipython", MPLCONFIGDIR=f"{home}/.matplotlib", TMPDIR=home)
    from ipykernel.inprocess.manager import InProcessKernelManager
    from traitlets.config import Config

    settings = Config()
    settings.HistoryManager.enabled = False
    settings.InteractiveShell.colors = "nocolor"
    manager: Any = InProcessKernelManager(config=settings)  # Any: ipykernel has hardly any types
    manager.start_kernel()
    client, kernel = manager.client(), manager.kernel
    same_on_every_python(kernel.shell)
    client.start_channels()
    client.iopub_channel.call_handlers = outbox.message
    client.shell_channel.call_handlers = lambda message: None  # its reply; the error is on iopub too
    with contextlib.suppress(ImportError):
        kernel.shell.enable_matplotlib("inline")
    return kernel, client


def same_on_every_python(shell: Any) -> None:
    """Have IPython's shell name an error in a cell's text as Python does, whatever the versions.

    Python 3.13 names an error of its own for text that may go on, where all others say SyntaxError. And ipykernel asks
    first whether a cell has an `await`; what `compile` raises there beside SyntaxError (a NUL, too deep a nesting) ends
    ipykernel's code and not the cell. A kernel in its client's process could not wait anyway.
    """
    shell.compile.flags &= ~getattr(codeop, "PyCF_ALLOW_INCOMPLETE_INPUT", 0)
    shell.should_run_async = lambda *args, **more: False


def main(cells: int, messages: int) -> None:
    """Run cells until the pipe ends. Does not return."""
    outbox = Outbox(messages)
    try:
        kernel, client = start(outbox)
    except Exception as error:
        outbox.send("broken", f"{type(error).__name__}: {error}"[:300])
        raise
    outbox.send("ready")
    while True:
        try:
            code = channel.receive(cells)
        except channel.ChannelError:
            os._exit(0)
        outbox.begin()
        try:
            signal.signal(signal.SIGINT, signal.default_int_handler)
            client.execute(code, allow_stdin=False)
            kernel.stdout.flush()
            kernel.stderr.flush()
        except (KeyboardInterrupt, Exception) as error:  # an interrupt that met ipykernel's own code
            outbox.send("failed", type(error).__name__, "")
        signal.signal(signal.SIGINT, signal.SIG_IGN)
        outbox.send("done", outbox.flooded)
