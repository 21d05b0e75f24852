"""Where the parts of the product lie: in a checkout beside this package, in an installed one within it, and which
hub has the rest.

Imports nothing of the project, so that every other file may import it.
"""

import os
from pathlib import Path

HUBS = ("huggingface", "modelscope")

PACKAGE = Path(__file__).resolve().parent
ROOT = PACKAGE.parent  # of a checkout: where .git is, if it is one
INSTALLED = (PACKAGE / "scripts").is_dir()  # from a wheel, which is no checkout
SCRIPTS = PACKAGE / "scripts" if INSTALLED else ROOT / "eval"  # evaluate_*.py and tools
DEMO = PACKAGE / "demo" if INSTALLED else ROOT / "demo"  # checkpoints and samples
PROMPTS = PACKAGE / "benchmarks" / "prompts"


_chosen: str | None = None  # --hub of this run


def choose_hub(name: str | None) -> None:
    """The hub of this process from now on; None: what the environment variable QWEN_EVAL_HUB says.

    Raises ValueError where that is neither of the hubs.
    """
    global _chosen
    _chosen = name
    if hub() not in HUBS:
        raise ValueError(f"QWEN_EVAL_HUB is {os.environ['QWEN_EVAL_HUB']!r}, which is none of {', '.join(HUBS)}")


def hub() -> str:
    """Where checkpoints and data come from: "huggingface" (also through a mirror, HF_ENDPOINT) or "modelscope"."""
    return _chosen or os.environ.get("QWEN_EVAL_HUB", "").lower() or HUBS[0]


def uses_modelscope() -> bool:
    """Whether checkpoints and data come from ModelScope, in place of the Hugging Face hub."""
    return hub() == "modelscope"


def scripts() -> dict[str, Path]:
    """The file of each name, in alphabetical order; the demo after them."""
    found = {path.stem.removeprefix("evaluate_"): path for path in SCRIPTS.glob("[!_]*.py")}
    return {**dict(sorted(found.items())), "demo": DEMO / "run.py"}


def find_script(name: str) -> Path | None:
    """The script of this name, `-` and `_` alike."""
    return scripts().get(name.replace("-", "_"))
