"""The figures of Qwen1.5 to Qwen3: several of one model stand side by side, each with its setting and source."""

import json
import shutil
from pathlib import Path
from typing import Any

from qwen_eval.reporting.reported import Figure, ModelName, Reported, card_figures, find, parse_model_name
from qwen_eval.reporting.side_by_side import reported_beside, setting_of, short_source
from qwen_eval.stats import Score

import pytest

ROOT = Path(__file__).resolve().parents[2]


def found(name: str, benchmark: str, shots: int | None, metric: str = "acc", split: str = "") -> Reported | None:
    return find(card_figures(), parse_model_name(name), Figure(benchmark, metric, shots, split))


@pytest.mark.parametrize(
    ("name", "benchmark", "metric", "shots", "value"),
    [
        ("Qwen/Qwen2.5-7B", "gsm8k", "acc", 4, 85.4),
        ("Qwen/Qwen2.5-7B", "gsm8k", "acc", 8, None),
        ("Qwen2.5-7B", "mbpp", "pass@1", 0, 74.9),
        ("Qwen2.5-7B", "mbpp", "pass@1", 3, 63.4),
        ("Qwen1.5-7B", "mbpp", "pass@1", 3, None),  # one source says 0-shot, the other nothing: neither is any
        ("Qwen2-7B", "gsm8k", "acc", 4, 79.9),  # its own blog's, not the next generation's 80.2
        ("Qwen2-7B-Instruct", "gsm8k", "acc", 0, 85.7),  # the blog's 82.3 was corrected by its own note
        ("Qwen2-7B-Instruct-GPTQ-Int4", "mmlu", "acc", 0, 67.8),
        ("Qwen2-7B-Instruct-AWQ", "gsm8k", "acc", 0, None),  # never its base's
        ("Qwen2.5-7B-Instruct-GPTQ-Int4", "gsm8k", "acc", 0, None),
        ("Qwen2.5-7B-Instruct-GGUF", "gsm8k", "acc", 0, None),
        ("my-Qwen2.5-7B", "gsm8k", "acc", 4, None),
        ("Qwen3-8B", "ceval", "acc", 0, None),  # thinking or not: neither is the other
        ("Qwen3-4B-Instruct-2507", "mmlu_pro", "acc", 0, 69.6),  # it never thinks
        ("Qwen3-8B-Base", "gsm8k", "acc", 4, 89.84),
    ],
)
def test_which_figure_stands_beside_a_run(
    name: str, benchmark: str, metric: str, shots: int, value: float | None
) -> None:
    reported = found(name, benchmark, shots, metric)
    assert (reported and reported.value) == value


def test_a_source_that_does_not_state_how_it_asked_is_marked() -> None:
    later, first = found("Qwen2.5-7B", "gsm8k", 4), found("Qwen-7B", "mmlu", 5)
    assert later is not None and later.open_protocol and first is not None and not first.open_protocol
    assert found("Qwen3-8B-Base", "gsm8k", 4).decimals == 2  # type: ignore[union-attr]


@pytest.mark.parametrize(
    ("given", "name"),
    [
        ("Qwen/Qwen2-7B-Instruct-GPTQ-Int8", ModelName("Qwen2-7B-Instruct", "", "GPTQ-Int8")),
        ("Qwen2.5-7B-Instruct-awq", ModelName("Qwen2.5-7B-Instruct", "", "AWQ")),
        ("Qwen2.5-7B-Instruct-GGUF", ModelName("Qwen2.5-7B-Instruct-GGUF")),
    ],
)
def test_quantised_names(given: str, name: ModelName) -> None:
    assert parse_model_name(given) == name


def test_every_figure_of_a_benchmark_is_shown_and_those_of_another_setting_are_marked() -> None:
    figure = Figure("mbpp", "pass@1", 3)
    beside = reported_beside([("pass@1", Score("pass@1", 50.0, 500), figure)], card_figures(), ModelName("Qwen2.5-7B"))
    assert [(one.row["value"], one.same_setting) for one in beside] == [("74.9", False), ("63.40", True)]
    chat = Figure("ceval", "acc", 0, "val")
    modes = reported_beside([("acc", Score("acc", 50.0, 9), chat)], card_figures(), ModelName("Qwen3-8B"))
    assert {setting_of(one.row) for one in modes} == {"thinking", "non-thinking"}
    assert not any(one.same_setting for one in modes)
    first = reported_beside(
        [("acc", Score("acc", 50.0, 9), Figure("mmlu", "acc", 5))], card_figures(), ModelName("Qwen-7B")
    )
    assert first == [], "the first generation's tables stay as they are"


def test_short_sources_tell_one_from_another() -> None:
    sources = {row["source"] for row in card_figures()}
    assert len({short_source(source) for source in sources}) == len(sources)
    assert short_source("QwenLM/qwenlm.github.io:content/blog/qwen2.5-llm/index.md") == "blog qwen2.5-llm"


@pytest.fixture
def run(script: Any, tmp_path: Path) -> Any:
    """Run gsm8k on all samples of the demo as a base or chat model of this name; what it wrote."""

    def gsm8k(name: str, kind: str, *flags: object) -> Any:
        if not (tmp_path / name).exists():
            shutil.copytree(ROOT / "demo/checkpoint" / kind, tmp_path / name)
        data = ("-d", ROOT / "demo/data/gsm8k", "-o", tmp_path / "out", "--overwrite", "--max-new-tokens", 2)
        ended = script("gsm8k", "-c", tmp_path / name, *data, *flags)
        assert ended.status == 0, ended.err
        return json.loads((tmp_path / "out/results.json").read_text()), (tmp_path / "out/table.md").read_text()

    return gsm8k


def test_a_run_of_another_number_of_examples_says_what_is_reported_and_how_to_ask_so(run: Any) -> None:
    results, table = run("Qwen2.5-7B", "base", "--limit", 2, "-k", 8)
    assert results["scores"]["acc"]["reported"] is None and results["scores"]["acc"]["verdict"] is None
    assert [(one["value"], one["shots"], one["same_setting"]) for one in results["reported_figures"]] == [
        ("85.4", "4", False),
        ("85.36", "4", False),
    ]
    assert "-k 4 asks with as many examples" in table and "| blog qwen2.5-llm |  | another setting |" in table
    assert "no reported figure for" not in table


def test_a_figure_of_the_same_setting_is_at_best_consistent(run: Any, as_official: Any) -> None:
    """The whole official set, and a band that any figure is in."""
    as_official("gsm8k", ROOT / "demo/data/gsm8k")
    results, table = run("Qwen2.5-7B", "base", "-k", 4, "--band", 100)
    assert results["scores"]["acc"]["reported"] == 85.4 and "at best `consistent`" in table
    assert "reproduced" not in {results["scores"]["acc"]["verdict"]} and "| reproduced |" not in table


def test_a_quantised_model_stands_beside_its_base_only_where_that_is_named(run: Any) -> None:
    results, _ = run("Qwen2.5-7B-Instruct-GPTQ-Int4", "chat", "--limit", 2)
    assert results["scores"]["acc"]["reported"] is None
    assert not any(one["same_setting"] for one in results["reported_figures"])
    results, _ = run("Qwen2.5-7B-Instruct-GPTQ-Int4", "chat", "--limit", 2, "--reported-as", "Qwen2.5-7B-Instruct")
    assert results["scores"]["acc"]["reported"] == 91.6
