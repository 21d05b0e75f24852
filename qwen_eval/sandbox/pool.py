"""The sandbox as its users see it: the best level that this machine has, and checks, several at a time.

with Sandbox() as sandbox:
    for key, verdict in sandbox.answers((key, Check(program=..., test=...)) for ...):
        ...
"""

import os
import sys
from collections.abc import Iterable, Iterator, Sequence

from qwen_eval.errors import UserError
from qwen_eval.sandbox import launch, selftest
from qwen_eval.sandbox.verdict import TIMED_OUT, Check, SandboxBroken, Verdict
from qwen_eval.sandbox.zygote import Zygote
from qwen_eval.service import Key, answered

LEVELS = ("bubblewrap", "landlock")
FORCE = "QWEN_EVAL_SANDBOX"  # environment variable: the only level to use


class Sandbox:
    """A running sandbox. `level`: bubblewrap, landlock or none; `guards`: those that the self-test proved."""

    def __init__(
        self,
        level: str | None = None,
        workers: int | None = None,
        allow_unsandboxed: bool = False,
        without: Sequence[str] = (),
        kernels: launch.KernelSetup | None = None,
        **sizes: int,
    ) -> None:
        """level: one level only (default: QWEN_EVAL_SANDBOX, else the best there is); workers: checks at a time.

        without: guards to leave out, for tests (the self-test is then skipped); kernels: what Jupyter kernels need
        (see qwen_eval/sandbox/kernel.py), at the bubblewrap level only; sizes: fields of Plan, in bytes.
        Raises UserError when no level is available, unless `allow_unsandboxed`.
        """
        self.workers = workers or os.cpu_count() or 1
        self.guards: list[str] = []
        wanted = level or os.environ.get(FORCE) or None
        if wanted not in (None, "none", *LEVELS):
            raise UserError(f"no sandbox level {wanted!r}; there are {', '.join(LEVELS)}")
        reasons = []
        for name in [wanted] if wanted else LEVELS:
            if kernels is not None and name == "landlock":
                reasons.append("landlock: not enough for a Jupyter kernel")
                continue
            try:
                self.zygote = Zygote(name, without, kernels, **sizes)
                if name != "none" and not without:
                    self.guards = self._proven()
                return
            except (SandboxBroken, OSError, ValueError) as error:
                reasons.append(f"{name}: {' '.join(str(error).split())}")
        if not allow_unsandboxed:
            raise UserError(
                f"no sandbox for model-written code ({'; '.join(reasons)}); install bubblewrap "
                "(`apt-get install bubblewrap`, or `python -m qwen_eval.sandbox --install`), or run on "
                "Linux 5.13 or newer with Landlock, or accept the risk with --allow-unsandboxed"
            )
        self.zygote = Zygote("none", without, kernels, **sizes)

    def _proven(self) -> list[str]:
        """The guards that the self-test proved. Raises SandboxBroken, with the zygote closed, when one is open."""
        try:
            return selftest.prove(self.zygote)
        except BaseException:
            self.zygote.close()
            raise

    @property
    def level(self) -> str:
        return self.zygote.level

    def describe(self) -> dict[str, object]:
        """For results.json: the level of isolation and the guards that were proven at the start of this run."""
        return {"level": self.level, "guards": list(self.guards)}

    def check(self, check: Check) -> Verdict:
        """The verdict on one program, which is not tried again when it timed out."""
        return self.zygote.check(check)

    def answers(self, requests: Iterable[tuple[Key, Check]]) -> Iterator[tuple[Key, Verdict]]:
        """(key, verdict) of every (key, check) as verdicts become final, `workers` at a time: see qwen_eval/service.py.

        Checks that timed out are tried once more at the end, one at a time, so that a busy machine changes no verdict.
        """
        return answered(self.check, requests, self.workers, unsettled=lambda verdict: verdict.status == TIMED_OUT)

    def check_many(self, checks: Iterable[Check]) -> list[Verdict]:
        """Verdicts in the order of the checks."""
        verdicts = dict(self.answers(enumerate(checks)))
        return [verdicts[index] for index in sorted(verdicts)]

    def close(self) -> None:
        """End the sandbox and everything in it."""
        self.zygote.close()

    def __enter__(self) -> "Sandbox":
        return self

    def __exit__(self, *_: object) -> None:
        self.close()


def warn_unsandboxed(sandbox: Sandbox) -> None:
    """Say on standard error that model-written code runs with the user's own rights."""
    if sandbox.level == "none":
        print("warning: no sandbox: model-written code runs with your rights (--allow-unsandboxed)", file=sys.stderr)
