"""What the evaluation scripts share: the contract of a benchmark, the runner, engines, answer extraction, reports."""

from qwen_eval.process import guard_imports

guard_imports()
