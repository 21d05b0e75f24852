"""Which published figure stands beside a run: by the name of the model, its version, its shots, its data."""

from pathlib import Path

from qwen_eval.reporting.reported import (
    CARDS,
    Figure,
    ModelName,
    card_figures,
    data_versions,
    find,
    parse_model_name,
    read_figures,
)

import pytest


@pytest.mark.parametrize(
    ("given", "name"),
    [
        ("Qwen/Qwen-7B", ModelName("Qwen-7B")),
        ("Qwen/Qwen-7B-Chat", ModelName("Qwen-7B-Chat")),
        ("/models/Qwen-14B/", ModelName("Qwen-14B")),
        ("Qwen/Qwen-7B-Chat-Int4", ModelName("Qwen-7B-Chat", "", "Int4")),
        ("Qwen-14B-Chat-int8", ModelName("Qwen-14B-Chat", "", "Int8")),
        ("/home/user/.cache/huggingface/hub/models--Qwen--Qwen-7B/snapshots/0123abcd", ModelName("Qwen-7B")),
        ("/c/models--Qwen--Qwen-7B-Chat-Int4/snapshots/0123abcd/", ModelName("Qwen-7B-Chat", "", "Int4")),
        ("Qwen-7B@v1.0", ModelName("Qwen-7B", "v1.0")),
        ("Qwen-7B-Chat-Int4@v1.0", ModelName("Qwen-7B-Chat", "v1.0", "Int4")),
        ("/home/me@host/Qwen-7B", ModelName("Qwen-7B")),
        ("Qwen/Qwen-1_8B", ModelName("Qwen-1.8B")),
        ("Qwen/Qwen-1_8B-Chat-Int4", ModelName("Qwen-1.8B-Chat", "", "Int4")),
        ("my_7b_1_8B", ModelName("my_7b_1_8B")),
    ],
)
def test_names(given: str, name: ModelName) -> None:
    assert parse_model_name(given) == name


def test_here_is_the_name_of_the_folder(tmp_path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "Qwen-7B" / "sub").mkdir(parents=True)
    monkeypatch.chdir(tmp_path / "Qwen-7B")
    assert parse_model_name(".") == parse_model_name("./") == ModelName("Qwen-7B")
    monkeypatch.chdir(tmp_path / "Qwen-7B" / "sub")
    assert parse_model_name("..") == ModelName("Qwen-7B")


@pytest.mark.parametrize(
    ("name", "benchmark", "metric", "shots", "split", "value"),
    [
        ("Qwen/Qwen-7B", "mmlu", "acc", 5, "", 58.2),  # the newest version
        ("Qwen-7B@v1.0", "mmlu", "acc", 5, "", 56.7),
        ("qwen-7b", "mmlu", "acc", 5, "", 58.2),
        ("Qwen-7B", "mmlu", "acc", 0, "", None),
        ("Qwen-7B", "mmlu", "acc", 3, "", None),
        ("Qwen-7B", "ceval", "acc", 5, "val", 63.5),
        ("Qwen-14B", "cmmlu", "acc", 5, "", 71.0),
        ("Qwen-7B-Chat", "mmlu", "acc", 0, "", 55.8),
        ("Qwen-7B-Chat", "mmlu", "acc", 5, "", 57.0),
        ("Qwen-7B-Chat-Int4", "mmlu", "acc", 0, "", 55.1),
        ("Qwen-7B-Chat-Int4@v1.0", "mmlu", "acc", 0, "", 52.6),
        ("Qwen-7B-Chat-Int8", "mmlu", "acc", 0, "", 55.4),
        ("Qwen-7B-Chat-Int8@v1.0", "mmlu", "acc", 0, "", None),  # never the float model's figure
        ("Qwen/Qwen-1_8B", "gsm8k", "acc", 8, "", 32.3),
        ("Qwen/Qwen-72B", "cmmlu", "acc", 5, "", 83.6),
        ("Qwen/Qwen-72B-Chat-Int4", "humaneval", "pass@1", 0, "", 61.6),
        ("Qwen-14B-Chat-Int8", "ceval", "acc", 0, "val", 68.6),
        ("Qwen-7B-Chat", "ceval", "acc", 0, "val", 59.7),
        ("Qwen-7B-Chat", "ceval", "acc", 0, "test", 58.6),
        ("Qwen-7B-Chat@v1.0", "ceval", "acc_stem", 0, "test", 47.8),
        ("Qwen-7B-Chat", "ceval", "acc_stem", 0, "val", None),
        ("Llama-9B", "mmlu", "acc", 5, "", None),
    ],
)
def test_figures(name: str, benchmark: str, metric: str, shots: int, split: str, value: float | None) -> None:
    found = find(card_figures(), parse_model_name(name), Figure(benchmark, metric, shots, split))
    assert (found and found.value) == value


def test_a_figure_says_where_it_is_from_and_how_precisely_it_was_printed() -> None:
    found = find(card_figures(), parse_model_name("Qwen-7B"), Figure("mmlu", "acc", 5))
    assert found is not None
    assert (found.decimals, found.source, found.version) == (1, "qwen-7b-card", "v1.1")


def test_a_figure_belongs_to_a_version_of_the_data() -> None:
    chat = ModelName("Qwen-7B-Chat")
    figure = Figure("plugin_react", "tool_selection_acc", 0)
    found = {version: find(card_figures(), chat, figure._replace(data_version=version)) for version in VERSIONS}
    assert {version: reported and reported.value for version, reported in found.items()} == VERSIONS
    known = data_versions(card_figures(), chat, figure._replace(data_version=""))
    assert {version: reported.value for version, reported in known.items()} == {"20230803": 98.0, "20231206": 95.5}
    pictures = Figure("code_interpreter", "result_accuracy", 0, "visualization_hard", data_version="card")
    assert find(card_figures(), chat, pictures) != find(
        card_figures(), chat, pictures._replace(data_version="20231206")
    )


VERSIONS = {"20230803": 98.0, "20231206": 95.5, "": None, "20250101": None}


def test_the_int8_cache_is_never_the_plain_models_figure() -> None:
    memory = Figure("generate_8192", "peak_gpu_memory", None, "batch_1")
    found = find(card_figures(), ModelName("Qwen-7B-Chat"), memory)
    assert found is not None and found.value == 23.2


@pytest.mark.parametrize("path", CARDS, ids=lambda path: path.name)
def test_the_tables_are_those_of_the_specification(path: Path) -> None:
    original = Path(__file__).parents[3] / "shared/spec" / path.name
    if not original.exists():
        pytest.skip("no ../shared")
    assert path.read_text(encoding="utf-8") == original.read_text(encoding="utf-8")
    assert all(float(row["value"]) >= 0 for row in read_figures(path))
