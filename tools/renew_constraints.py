"""Write constraints.txt anew: the newest release of every package that pyproject.toml allows, for each Python.

    make constraints             # then: make clean test, and commit constraints.txt if the tests pass
    make constraints KEEP=--keep # the versions stay; packages that pyproject.toml has now are added, others go

Resolves with uv for all systems and Python versions at once; where they need different versions, a line has a marker,
the newest version first. torch is the Makefile's (TORCH), and what torch pins itself is left to it.
"""

import re
import subprocess
import sys
from pathlib import Path

from packaging.requirements import Requirement
from packaging.version import Version

ROOT = Path(__file__).resolve().parents[1]
LEFT_TO_TORCH = re.compile(r"(torch|triton|nvidia-.*|cuda-.*)$")
HEAD = """\
# The versions that the tests passed with: what `make` and CI install (pip's -c). torch comes first and alone: its
# version is in the Makefile. Written by `make constraints`; `make test-latest` tests without this file.
"""


def resolved(torch: str, keep: bool) -> list[Requirement]:
    """Every package that the project and its development tools bring, transitive ones too."""
    extras = [word for extra in ("dev", "bench", "browser", "cluster") for word in ("--extra", extra)]
    command = ["uv", "pip", "compile", "pyproject.toml", "-", *extras, "--universal"]
    command += ["--python-version", "3.10", "--no-header", "--no-annotate", "--quiet"]
    command += ["--constraint", "constraints.txt"] if keep else []
    found = subprocess.run(command, cwd=ROOT, input=torch, text=True, stdout=subprocess.PIPE, check=True)
    return [Requirement(line) for line in found.stdout.splitlines() if line]


def version(requirement: Requirement) -> Version:
    return Version(next(iter(requirement.specifier)).version)


def main() -> None:
    wanted = [one for one in resolved(sys.argv[1], "--keep" in sys.argv) if not LEFT_TO_TORCH.match(one.name)]
    wanted.sort(key=version, reverse=True)
    wanted.sort(key=lambda one: one.name)
    lines = [f"{one.name}{one.specifier}" + (f" ; {one.marker}" if one.marker else "") for one in wanted]
    (ROOT / "constraints.txt").write_text(HEAD + "\n".join(lines) + "\n", encoding="utf-8")
    print(f"constraints.txt: {len(lines)} lines")


if __name__ == "__main__":
    main()
