"""Where the parts of the product lie: in a checkout beside this package, in an installed one within it, and which
hub has the rest.

Imports nothing of the project, so that every other file may import it.
"""

import os
from pathlib import Path

PACKAGE = Path(__file__).resolve().parent
ROOT = PACKAGE.parent  # of a checkout: where .git is, if it is one
INSTALLED = (PACKAGE / "scripts").is_dir()  # from a wheel, which is no checkout
SCRIPTS = PACKAGE / "scripts" if INSTALLED else ROOT / "eval"  # evaluate_*.py and tools
DEMO = PACKAGE / "demo" if INSTALLED else ROOT / "demo"  # checkpoints and samples
PROMPTS = PACKAGE / "benchmarks" / "prompts"


def uses_modelscope() -> bool:
    """Whether checkpoints and data come from ModelScope, in place of the Hugging Face hub (QWEN_EVAL_HUB)."""
    return os.environ.get("QWEN_EVAL_HUB", "").lower() == "modelscope"
