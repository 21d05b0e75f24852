"""Where the parts of the product lie: in a checkout beside this package, in an installed one within it.

Imports nothing, so that every other file may import it.
"""

from pathlib import Path

PACKAGE = Path(__file__).resolve().parent
ROOT = PACKAGE.parent  # of a checkout: where .git is, if it is one
INSTALLED = (PACKAGE / "scripts").is_dir()
SCRIPTS = PACKAGE / "scripts" if INSTALLED else ROOT / "eval"  # evaluate_*.py
DEMO = PACKAGE / "demo" if INSTALLED else ROOT / "demo"  # checkpoints and samples
PROMPTS = PACKAGE / "benchmarks" / "prompts"
