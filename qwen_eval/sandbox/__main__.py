"""What this machine offers for running model-written code.

python -m qwen_eval.sandbox             the self-test at every level
python -m qwen_eval.sandbox --install   first install bubblewrap where that is allowed
"""

import sys

from qwen_eval.errors import UserError, run_script
from qwen_eval.sandbox import LEVELS, Sandbox
from qwen_eval.sandbox.install import install


def main() -> int:
    if unknown := [flag for flag in sys.argv[1:] if flag not in ("--install", "--debug")]:
        raise UserError(f"unknown flag {unknown[0]}; there is --install")
    if "--install" in sys.argv:
        print(install())
    usable = 0
    for level in LEVELS:
        try:
            with Sandbox(level, workers=1) as sandbox:
                print(f"{level}: {len(sandbox.guards)} guards proven: {', '.join(sandbox.guards)}")
            usable += 1
        except UserError as error:
            print(f"{level}: not available: {error}")
    if not usable:
        raise UserError("no level of the sandbox works here; install bubblewrap, or use --allow-unsandboxed")
    return 0


if __name__ == "__main__":
    run_script(main)
