"""Which published figure stands beside a run: by the name of the model, its version, its shots."""

from qwen_eval.reporting.reported import ModelName, find, parse_model_name

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
        ("Qwen-7B-Chat-Int4", "mmlu", "acc", 0, "", 52.6),
        ("Qwen-7B-Chat-Int8", "mmlu", "acc", 0, "", None),  # never the float model's figure
        ("Qwen-14B-Chat-Int8", "ceval", "acc", 0, "val", 68.6),
        ("Qwen-7B-Chat", "ceval", "acc", 0, "val", 59.7),
        ("Qwen-7B-Chat", "ceval", "acc", 0, "test", 58.6),
        ("Qwen-7B-Chat@v1.0", "ceval", "acc_stem", 0, "test", 47.8),
        ("Qwen-7B-Chat", "ceval", "acc_stem", 0, "val", None),
        ("Llama-9B", "mmlu", "acc", 5, "", None),
    ],
)
def test_figures(name: str, benchmark: str, metric: str, shots: int, split: str, value: float | None) -> None:
    found = find(parse_model_name(name), benchmark, metric, shots, split)
    assert (found and found.value) == value


def test_a_figure_says_where_it_is_from_and_how_precisely_it_was_printed() -> None:
    found = find(parse_model_name("Qwen-7B"), "mmlu", "acc", 5)
    assert found is not None
    assert (found.decimals, found.source, found.version) == (1, "qwen-7b-card", "v1.1")
