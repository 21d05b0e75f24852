"""Runs of a model with a PEFT adapter: the figures are those of the merged model, under the adapter's name."""

import json
import shutil
from pathlib import Path

from qwen_eval import checkpoints, extras, places
from qwen_model.loading import load_tokenizer
from tests.qwen_model.gptq_packing import packed_copy
from tests.qwen_model.peft_training import train

import pytest

ROOT = Path(__file__).resolve().parents[2]
DEMO, CHAT = ROOT / "demo/checkpoint/base", ROOT / "demo/checkpoint/chat"
MMLU = ("-d", ROOT / "demo/data/mmlu", "--subjects", "astronomy,nutrition")
pytestmark = [
    pytest.mark.filterwarnings("ignore:Unsupported layer type:UserWarning"),
    pytest.mark.filterwarnings("ignore:.*is_gradient_checkpointing:FutureWarning"),
]


@pytest.fixture(scope="module")
def trained(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with `my-lora`, trained on the demo's base model, and `merged`, that model with it."""
    folder = tmp_path_factory.mktemp("trained")
    train(DEMO, folder / "my-lora", steps=12).merge_and_unload().save_pretrained(folder / "merged")
    load_tokenizer(DEMO).save_pretrained(folder / "merged")
    return folder


def answers(folder: Path) -> list[tuple]:
    lines = (folder / "samples.jsonl").read_text().splitlines()
    return [
        (row["id"], row.get("choice_logits"), row.get("response"), row["correct"]) for row in map(json.loads, lines)
    ]


def results(folder: Path) -> dict:
    found: dict = json.loads((folder / "results.json").read_text())
    return found


GSM8K = ("-d", ROOT / "demo/data/gsm8k", "--limit", "4", "-k", "1", "--max-new-tokens", "24")


@pytest.mark.parametrize(("benchmark", "flags"), [("mmlu", MMLU), ("gsm8k", GSM8K)], ids=["mmlu", "gsm8k"])
def test_the_figures_are_those_of_the_merged_model_item_by_item(script, trained, tmp_path, benchmark, flags):
    ways = {
        "flag": ("-c", "demo", "--adapter", trained / "my-lora"),
        "alone": ("-c", trained / "my-lora"),
        "merged": ("-c", trained / "merged"),
        "base": ("-c", DEMO),
    }
    for name, how in ways.items():
        ended = script(benchmark, *how, *flags, "-o", tmp_path / name)
        assert ended.status == 0, ended.err
    found = {name: answers(tmp_path / name) for name in ways}
    assert found["flag"] == found["alone"] == found["merged"] != found["base"]
    scores = [{key: score["value"] for key, score in results(tmp_path / name)["scores"].items()} for name in ways]
    assert scores[0] == scores[1] == scores[2]


def test_a_run_says_that_it_is_an_adapters(script, trained, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    ended = script("mmlu", "-c", "demo", "--adapter", trained / "my-lora", *MMLU)
    assert ended.status == 0, ended.err
    said = "my-lora is an adapter on Qwen-demo, merged into its weights"
    assert f"note: {said}" in ended.err.splitlines()
    found = results(tmp_path / "results/my-lora/mmlu")
    assert found["model"] == "my-lora" and said in found["notes"]
    assert found["manifest"]["adapter"]["merged"] is True and len(found["manifest"]["adapter"]["sha256"]) == 64
    assert "--adapter" in found["manifest"]["command"]


def test_no_reported_figure_stands_beside_it_but_that_of_the_model_that_is_named(script, trained, tmp_path):
    """Not even where the folder is called as a model of the cards."""
    named = shutil.copytree(trained / "my-lora", tmp_path / "Qwen-7B")
    for how in (("-c", "demo", "--adapter", named), ("-c", named)):
        assert script("mmlu", *how, *MMLU, "-o", tmp_path / "out", "--overwrite").status == 0
        assert results(tmp_path / "out")["scores"]["acc"].get("reported") is None
    ended = script("mmlu", "-c", named, *MMLU, "-o", tmp_path / "out", "--reported-as", "Qwen-7B")
    assert ended.status == 0 and results(tmp_path / "out")["scores"]["acc"]["reported"] is not None


def test_items_of_another_adapter_are_not_taken_over(script, trained, tmp_path):
    again = shutil.copytree(trained / "my-lora", tmp_path / "my-lora")
    run = ("mmlu", "-c", "demo", "--adapter", again, *MMLU, "-o", tmp_path / "out")
    assert script(*run).status == 0
    first = answers(tmp_path / "out")
    content = json.loads((again / "adapter_config.json").read_text())
    (again / "adapter_config.json").write_text(json.dumps({**content, "lora_alpha": 1}))
    ended = script(*run)
    assert ended.status == 2 and "--overwrite" in ended.err, "the folder has a run with other weights"
    assert script(*run, "--overwrite").status == 0
    assert answers(tmp_path / "out") != first


def test_an_adapter_beside_packed_weights(script, tmp_path):
    packed_copy(DEMO, tmp_path / "Tiny-Int4")
    train(tmp_path / "Tiny-Int4", tmp_path / "qlora")
    ended = script("mmlu", "-c", tmp_path / "qlora", *MMLU, "-o", tmp_path / "out")
    assert ended.status == 0, ended.err
    assert "note: qlora is an adapter on Tiny-Int4, beside its packed weights" in ended.err
    assert results(tmp_path / "out")["manifest"]["adapter"]["merged"] is False
    assert script("mmlu", "-c", tmp_path / "Tiny-Int4", *MMLU, "-o", tmp_path / "base").status == 0
    assert answers(tmp_path / "out") != answers(tmp_path / "base")


def test_an_adapter_that_was_never_trained_is_noted(script, tmp_path):
    train(DEMO, tmp_path / "fresh", steps=0)
    ended = script("mmlu", "-c", "demo", "--adapter", tmp_path / "fresh", *MMLU, "-o", tmp_path / "out")
    said = "fresh was never trained (its lora_B is all zero): the figures are the base's"
    assert ended.status == 0 and f"note: {said}" in ended.err
    assert said in results(tmp_path / "out")["notes"]


def test_its_own_generation_settings_make_it_a_chat_model(script, trained, tmp_path):
    adapter = shutil.copytree(trained / "my-lora", tmp_path / "lora")
    (adapter / "generation_config.json").write_text('{"chat_format": "chatml", "max_new_tokens": 5}')
    ended = script("mmlu", "-c", "demo", "--adapter", adapter, *MMLU, "--limit", 2, "-o", tmp_path / "out")
    assert ended.status == 0, ended.err
    settings = results(tmp_path / "out")["manifest"]["settings"]
    assert (settings["chat"], settings["decoding"]["max_new_tokens"]) == (True, 5)


def test_a_whole_table_of_the_card_with_an_adapter(script, trained, tmp_path):
    words = (
        "long_context_ppl",
        "-c",
        "demo",
        "--adapter",
        trained / "my-lora",
        "--limit",
        1,
        "--lengths",
        512,
        "-o",
        tmp_path,
    )
    ended = script("reproduce", *words)
    assert ended.status == 0, ended.err
    assert (
        list((tmp_path / "my-lora").iterdir())
        and "my-lora" in (tmp_path / "tables/long_context_ppl/table.md").read_text()
    )


# -- wrong use ---------------------------------------------------------------------------------------------------------


def one_line(ended, *words: str) -> None:
    assert (ended.status, ended.out) == (2, ""), ended
    assert ended.err.count("\n") == 1 and "--debug shows where" not in ended.err, ended.err
    for word in words:
        assert word in ended.err, ended.err


def test_an_adapter_that_cannot_be_used_is_one_line_before_any_data_is_fetched(script, trained, tmp_path):
    data = ("-d", tmp_path / "no/data/here")
    one_line(script("mmlu", "-c", "demo", "--adapter", tmp_path / "none", *data), "--adapter", "none: no such folder")
    one_line(script("mmlu", "-c", "demo", "--adapter", CHAT, *data), "chat: not a PEFT adapter")
    one_line(
        script("mmlu", "-c", trained / "my-lora", "--adapter", trained / "my-lora", *data), "adapter on an adapter"
    )
    moved = shutil.copytree(trained / "my-lora", tmp_path / "moved")
    content = json.loads((moved / "adapter_config.json").read_text())
    (moved / "adapter_config.json").write_text(json.dumps({**content, "base_model_name_or_path": "/gone/base"}))
    said = "its base model cannot be found (/gone/base: no such folder); give that, and this with --adapter"
    one_line(script("mmlu", "-c", moved, *data), str(moved), said)
    assert script("mmlu", "-c", DEMO, "--adapter", moved, *MMLU, "--limit", 1, "-o", tmp_path / "out").status == 0


def test_the_flag_wants_a_model_that_runs_here(script, trained, tmp_path):
    replies = tmp_path / "replies.jsonl"
    replies.write_text('{"id": "astronomy/0", "response": "A"}\n')
    flags = ("--adapter", trained / "my-lora", *MMLU)
    said = "--adapter wants a model that runs here: not --rescore, not --engine openai"
    one_line(script("mmlu", "-c", "demo", "--rescore", replies, *flags), said)
    one_line(script("mmlu", "-c", "x", "--engine", "openai", "--base-url", "http://localhost:9/v1", *flags), said)


def test_without_peft_its_extra_is_named(script, trained, monkeypatch):
    installed = extras._installed
    monkeypatch.setattr(extras, "_installed", lambda name: name != "peft" and installed(name))
    ended = script("mmlu", "-c", "demo", "--adapter", trained / "my-lora", *MMLU)
    one_line(ended, "error: peft is not installed; pip install 'qwen-eval[adapters]'")


def test_the_base_of_an_adapter_comes_from_the_hub_in_use(script, trained, tmp_path, monkeypatch):
    adapter = shutil.copytree(trained / "my-lora", tmp_path / "lora")
    content = json.loads((adapter / "adapter_config.json").read_text())
    (adapter / "adapter_config.json").write_text(json.dumps({**content, "base_model_name_or_path": "Qwen/Qwen-1_8B"}))
    asked: list[str] = []

    def fetched(given: str, *_: object) -> Path:
        asked.append(given)
        return DEMO

    monkeypatch.setattr(checkpoints, "_from_modelscope", fetched)
    monkeypatch.setattr(places, "_chosen", None)  # and so again behind this test
    ended = script("mmlu", "-c", adapter, "--hub", "modelscope", *MMLU, "--limit", 1, "-o", tmp_path / "out")
    assert ended.status == 0, ended.err
    assert set(asked) == {"Qwen/Qwen-1_8B"}
