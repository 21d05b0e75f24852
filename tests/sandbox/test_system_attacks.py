"""The hostile battery against the system: every attack fails at both levels, and succeeds once its guard is gone."""

from qwen_eval.sandbox import Check, Sandbox, Verdict
from qwen_eval.sandbox.selftest import SUCCESS, run_probes, surroundings
from tests.sandbox.attacks import SYSTEM, Attack

import pytest

HELD = ("AssertionError", "timed out", "the program wrote more files than it may")


def mount(sandbox: Sandbox, attack: Attack) -> Verdict:
    with surroundings(sandbox.zygote) as fields:
        program = attack.program.format(**fields) if "{" in attack.program else attack.program
        return sandbox.check(Check(program, SUCCESS, ("attack",), seconds=attack.seconds))


def guards_of(attack: Attack, level: str) -> tuple[str, ...] | None:
    return attack.open_bubblewrap if level == "bubblewrap" else attack.open_landlock


def test_the_battery_is_large_and_its_names_are_unique():
    assert len({attack.name for attack in SYSTEM}) == len(SYSTEM) >= 60


@pytest.mark.parametrize("attack", SYSTEM, ids=lambda attack: attack.name)
def test_held(sandbox, attack):
    verdict = mount(sandbox, attack)
    assert not verdict.passed
    assert verdict.message in HELD, "the attack must run and be refused, not stumble"


OPENED = [
    pytest.param(level, attack, guards, id=f"{level}-{attack.name}")
    for level in ("bubblewrap", "landlock")
    for attack in SYSTEM
    if (guards := guards_of(attack, level)) is not None  # else it would harm this machine, or has no guard of its own
]


@pytest.mark.parametrize(("level", "attack", "guards"), OPENED)
def test_succeeds_without_its_guard(boxes, level, attack, guards):
    verdict = mount(boxes(level, *guards), attack)
    assert verdict.passed, verdict


@pytest.mark.parametrize(
    ("level", "without", "shown"),
    [
        ("landlock", ("landlock",), {"reading files", "writing files"}),
        ("landlock", ("seccomp",), {"network", "processes", "signals", "other processes' memory", "system calls"}),
        ("bubblewrap", ("seccomp",), {"processes", "other processes' memory", "system calls"}),
        ("bubblewrap", ("memory",), {"memory"}),
        ("landlock", ("file-size",), {"file size"}),
        ("landlock", ("capabilities",), {"privileges"}),
        ("bubblewrap", ("time",), {"time asleep"}),
        ("bubblewrap", ("namespaces",), {"own namespaces"}),
    ],
)
def test_the_self_test_sees_a_missing_guard(boxes, level, without, shown):
    held = run_probes(boxes(level, *without).zygote)
    assert shown <= {guard for guard, ok in held.items() if not ok}


def test_the_self_test_proves_every_guard(sandbox, level):
    assert len(sandbox.guards) >= 16 and {"verdict", "network", "privacy"} <= set(sandbox.guards)
    assert sandbox.describe() == {"level": level, "guards": sandbox.guards}
