"""Running model-written code without believing it: see README.md for the threat model and the two levels."""

from qwen_eval.sandbox.pool import Sandbox, warn_unsandboxed
from qwen_eval.sandbox.verdict import Check, SandboxBroken, Verdict

__all__ = ["Check", "Sandbox", "SandboxBroken", "Verdict", "warn_unsandboxed"]
