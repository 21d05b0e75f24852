"""Which level is taken, what is refused, installing, and the parts that need no candidate."""

import subprocess
import sys
from pathlib import Path

from qwen_eval.benchmarks.code import isolation_note
from qwen_eval.errors import UserError
from qwen_eval.sandbox import Check, Sandbox, SandboxBroken, launch, warn_unsandboxed
from qwen_eval.sandbox.guest import seccomp
from qwen_eval.sandbox.zygote import Zygote

import pytest

ROOT = Path(launch.HERE).parent.parent


def check(program):
    return Check(program, "assert f(1) == 2", ("f",))


def test_the_level_can_be_forced(monkeypatch):
    monkeypatch.setenv("QWEN_EVAL_SANDBOX", "landlock")
    with Sandbox(workers=1, without=["nothing"]) as sandbox:
        assert sandbox.level == "landlock"
    monkeypatch.setenv("QWEN_EVAL_SANDBOX", "chroot")
    with pytest.raises(UserError, match="no sandbox level 'chroot'"):
        Sandbox()


def test_without_bubblewrap_the_second_level_is_taken(monkeypatch):
    monkeypatch.delenv("QWEN_EVAL_SANDBOX", raising=False)
    monkeypatch.setattr(launch, "bubblewrap_installed", lambda: False)
    with Sandbox(workers=1) as sandbox:
        assert sandbox.level == "landlock" and "reading files" in sandbox.guards


@pytest.fixture
def nothing_works(monkeypatch):
    monkeypatch.delenv("QWEN_EVAL_SANDBOX", raising=False)
    monkeypatch.setattr(launch, "bubblewrap_installed", lambda: False)
    real = Zygote._start

    def start(self, control):
        if self.level == "landlock":
            raise SandboxBroken("GuardFailed: Landlock: Function not implemented")
        real(self, control)

    monkeypatch.setattr(Zygote, "_start", start)


def test_no_level_at_all_is_refused_in_one_line(nothing_works):
    with pytest.raises(UserError) as refused:
        Sandbox()
    message = str(refused.value)
    assert "apt-get install bubblewrap" in message and "--allow-unsandboxed" in message and "\n" not in message


def test_unsandboxed_only_when_allowed(nothing_works, capsys):
    with Sandbox(workers=1, allow_unsandboxed=True) as sandbox:
        assert sandbox.describe() == {"level": "none", "guards": []}
        assert sandbox.check(check("def f(x): return x + 1")).passed
        assert not sandbox.check(check("class E:\n    __eq__ = lambda s, o: True\ndef f(x): return E()")).passed
        warn_unsandboxed(sandbox)
        assert "no sandbox" in capsys.readouterr().err
        assert "WITHOUT" in isolation_note(sandbox)


def test_a_failing_self_test_disqualifies_a_level(monkeypatch):
    from qwen_eval.sandbox import selftest

    monkeypatch.setattr(selftest, "run_probes", lambda zygote: {"network": False, "memory": True})
    with pytest.raises(UserError, match="the self-test got through: network"):
        Sandbox("landlock")


def test_the_command_line_tool_prints_the_self_test():
    done = subprocess.run([sys.executable, "-m", "qwen_eval.sandbox"], cwd=ROOT, capture_output=True, text=True)
    assert done.returncode == 0 and "guards proven" in done.stdout
    wrong = subprocess.run(
        [sys.executable, "-m", "qwen_eval.sandbox", "--nope"], cwd=ROOT, capture_output=True, text=True
    )
    assert wrong.returncode == 2 and wrong.stderr.count("\n") == 1


def test_installing_where_it_is_not_allowed(monkeypatch):
    from qwen_eval.sandbox import install

    monkeypatch.setattr(install.shutil, "which", lambda name: None if name in ("bwrap", "sudo") else f"/usr/bin/{name}")
    monkeypatch.setattr(install.os, "geteuid", lambda: 1000)
    with pytest.raises(UserError, match="may not install"):
        install.install()
    monkeypatch.setattr(install.os, "geteuid", lambda: 0)
    ran = []
    monkeypatch.setattr(install, "_run", ran.append)
    with pytest.raises(UserError, match="not on the PATH"):
        install.install()
    assert ran == [["apt-get", "update", "-q"], ["apt-get", "install", "-q", "-y", "bubblewrap"]]


@pytest.mark.parametrize("machine", ["x86_64", "aarch64"])
def test_the_filter_program_is_well_formed(machine):
    import struct

    code = seccomp.program(machine, 42)
    steps = list(struct.iter_unpack("=HBBI", code))
    assert len(steps) < 4096
    for index, (kind, yes, no, _) in enumerate(steps):
        if kind in (seccomp.JUMP_EQUAL, seccomp.JUMP_ANY):
            assert index + 1 + max(yes, no) < len(steps)
    assert steps[-1] == (seccomp.RETURN, 0, 0, seccomp.ERRNO | seccomp.EPERM)


def test_no_filter_for_an_unknown_machine():
    with pytest.raises(seccomp.SeccompUnavailable, match="riscv64"):
        seccomp.program("riscv64", 1)
