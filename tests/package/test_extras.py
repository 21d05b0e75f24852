"""A package that is not installed is one line that says which extra to install, before any work starts."""

from __future__ import annotations

from importlib import metadata
from pathlib import Path

from qwen_eval.extras import EXTRAS, need

import pytest
from packaging.requirements import Requirement

# What a benchmark's script needs, and what it says without that.
SCRIPTS = {
    "math": ("math", "math-verify is not installed"),
    "wmt22": ("translation", "sacrebleu is not installed"),
    "vcsum": ("summarization", "jieba, rouge-score are not installed"),
    "plugin": ("agents", "json5, rouge-score, smolagents are not installed"),
    "code_interpreter": (
        "interpreter",
        "ipykernel, json5, matplotlib, openpyxl, seaborn are not installed",
    ),
    "ppl": ("plots", "matplotlib is not installed"),
    "tokenizer": ("plots", "matplotlib is not installed"),
}


@pytest.fixture(scope="module")
def core_only(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder for PYTHONPATH with which every package of an extra is as if it were not installed."""
    folder = tmp_path_factory.mktemp("core_only")
    names = {name for names in EXTRAS.values() for name in names} - {"sympy"}  # which comes with torch
    (folder / "sitecustomize.py").write_text(
        "import sys\n"
        "from importlib.machinery import PathFinder\n"
        "class Others(PathFinder):\n"
        "    @classmethod\n"
        "    def find_spec(cls, name, path=None, target=None):\n"
        f"        return None if name in {names!r} else super().find_spec(name, path, target)\n"
        "sys.meta_path[sys.meta_path.index(PathFinder)] = Others\n"
    )
    return folder


def requirements(environment, extra: str) -> set[str]:
    """The packages that the wheel's extra brings, those that are the core's too left out."""
    (package,) = metadata.distributions(name="qwen-eval", path=[str(environment.site)])
    found = [Requirement(line) for line in package.requires or ()]
    core = {one.name for one in found if one.marker is None}
    return {one.name for one in found if one.marker and one.marker.evaluate({"extra": extra})} - core


def test_the_list_of_packages_is_that_of_the_wheel(installed) -> None:
    for extra, names in EXTRAS.items():
        assert {name.replace("_", "-") for name in names} == requirements(installed, extra), extra
    assert requirements(installed, "all") == {"qwen-eval"}


@pytest.mark.parametrize("script", SCRIPTS)
def test_a_script_names_its_extra_before_it_starts(installed, core_only: Path, tmp_path: Path, script: str) -> None:
    extra, what = SCRIPTS[script]
    ended = installed.run(installed.command, script, "-c", "no/such/model", cwd=tmp_path, PYTHONPATH=str(core_only))
    assert ended.stderr == f"error: {what}; pip install 'qwen-eval[{extra}]'\n"
    assert (ended.returncode, ended.stdout, list(tmp_path.iterdir())) == (2, "", [])
    asked = installed.run(installed.command, script, "--help", cwd=tmp_path, PYTHONPATH=str(core_only))
    assert (asked.returncode, asked.stderr) == (0, ""), "its flags can be read without it"


def test_text_and_multiple_choice_need_the_core_alone(installed, core_only: Path, tmp_path: Path) -> None:
    flags = ("-c", "demo-chat", "--limit", 1, "-o", tmp_path / "out")
    ended = installed.run(installed.command, "mmlu", *flags, cwd=tmp_path, PYTHONPATH=str(core_only))
    assert ended.returncode == 0, ended.stderr


@pytest.mark.parametrize(
    ("flags", "extra"),
    [
        (("-d", "docs.parquet"), "data"),
        (("--engine", "openai", "--base-url", "http://localhost:9/v1"), "endpoints"),
        (("--adapter", "lora"), "adapters"),
    ],
)
def test_parquet_files_endpoints_and_adapters_name_their_extra(
    installed, core_only: Path, tmp_path: Path, flags: tuple[str, ...], extra: str
) -> None:
    (tmp_path / "docs.parquet").write_bytes(b"PAR1")
    (tmp_path / "lora").mkdir()
    (tmp_path / "lora/adapter_config.json").write_text("{}")
    flags = ("-c", "demo", *flags, "-o", str(tmp_path / "out"))
    ended = installed.run(installed.command, "gsm8k", *flags, cwd=tmp_path, PYTHONPATH=str(core_only))
    assert ended.returncode == 2 and ended.stderr.count("\n") == 1, ended.stderr
    assert ended.stderr.endswith(f"not installed; pip install 'qwen-eval[{extra}]'\n")


@pytest.mark.parametrize("flags", [(), ("--hub", "modelscope")], ids=["variable", "flag"])
def test_modelscope_names_its_extra(installed, core_only: Path, tmp_path: Path, flags: tuple[str, ...]) -> None:
    variables = {"PYTHONPATH": str(core_only), "QWEN_EVAL_HUB": "" if flags else "modelscope"}
    ended = installed.run(installed.command, "mmlu", "-c", "qwen/Qwen-7B", *flags, cwd=tmp_path, **variables)
    assert ended.stderr == "error: modelscope is not installed; pip install 'qwen-eval[modelscope]'\n"


def test_need_is_silent_where_everything_is_there() -> None:
    need("math", "translation", "plots")
    with pytest.raises(KeyError):
        need("no such extra")
