"""The guards of a candidate around the calling process itself: for our own code that works on text of a model."""

import sys
from collections.abc import Sequence

from qwen_eval.sandbox.guest.guards import (
    PR_SET_DUMPABLE,
    GuardFailed,
    Plan,
    isolate_process,
    landlock_rules,
    prctl,
)
from qwen_eval.sandbox.guest.landlock import LandlockUnavailable
from qwen_eval.sandbox.guest.seccomp import SeccompUnavailable


def isolate(memory: int, readable: Sequence[str] = ()) -> list[str]:
    """From here on this process writes no file, reads only below the paths `readable`, starts no process, reaches no
    network and has `memory` bytes of address space, as far as the system has such guards.

    Returns the names of those that it has: memory, landlock (files), seccomp (processes, network). There is no way
    back, and what is imported later must lie below `readable`.
    """
    level = "landlock" if sys.platform == "linux" else "none"
    plan = Plan(level=level, readable=list(readable), folder="", memory=memory, without=["cpu"])
    prctl(PR_SET_DUMPABLE, 0)
    rules = None
    try:
        rules = landlock_rules(plan)
    except GuardFailed:
        plan.without.append("landlock")
    try:
        isolate_process(plan, "", 0, rules)
    except SeccompUnavailable:  # the last of the guards
        plan.without.append("seccomp")
    except (GuardFailed, LandlockUnavailable):  # the limits stand
        plan.without += ["landlock", "seccomp"]
    return [name for name in ("memory", "landlock", "seccomp") if plan.has(name)]
