"""Running model-written code without believing it: see README.md for the threat model and the two levels.

Programs with tests: `Sandbox`, `Check`, `Verdict`. Code that runs cell by cell: `Kernels`, `Kernel`, `Result`,
`Output`. The calling process itself, before it works on text that a model wrote: `isolate`.
"""

from qwen_eval.sandbox.isolation import isolate
from qwen_eval.sandbox.kernel import CELL_SECONDS, Kernel, Kernels, Output, Result
from qwen_eval.sandbox.pool import LEVELS, Sandbox, warn_unsandboxed
from qwen_eval.sandbox.verdict import Check, SandboxBroken, Verdict

__all__ = [
    "CELL_SECONDS",
    "LEVELS",
    "Check",
    "Kernel",
    "Kernels",
    "Output",
    "Result",
    "Sandbox",
    "SandboxBroken",
    "Verdict",
    "isolate",
    "warn_unsandboxed",
]
