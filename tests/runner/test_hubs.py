"""Where checkpoints and data come from: --hub, QWEN_EVAL_HUB, and mirrors of the Hugging Face hub (HF_ENDPOINT)."""

import json
import os
import shutil
import subprocess
import sys
import tarfile
import types
from pathlib import Path

from qwen_eval import checkpoints, places
from qwen_eval.data import sources
from qwen_model.checkpoint import checkpoint_folder
from tests.qwen_model.peft_training import train
from tests.runner.mirror import Mirror, mirror

import pytest

pytestmark = pytest.mark.filterwarnings("ignore:.*is_gradient_checkpointing:FutureWarning")
ROOT = Path(__file__).resolve().parents[2]
BASE = ROOT / "demo/checkpoint/base"
FEW = ("--subjects", "nutrition", "--limit", "2", "-k", "1")


@pytest.fixture
def data(tmp_path: Path) -> Path:
    """The folder of the hub's repository of MMLU, with questions of the demo."""
    folder = tmp_path / "cais-mmlu"
    folder.mkdir()
    with tarfile.open(folder / "data.tar", "w") as archive:
        archive.add(ROOT / "demo/data/mmlu", "data")
    return folder


# -- mirrors of the Hugging Face hub -----------------------------------------------------------------------------------


def through(server: Mirror, tmp_path: Path, *words: object) -> subprocess.CompletedProcess[str]:
    """A script in a process of its own: the hub's client reads HF_ENDPOINT when it is imported."""
    variables = {name: value for name, value in os.environ.items() if not name.startswith(("HF_", "QWEN_EVAL_HUB"))}
    variables |= {"HF_ENDPOINT": server.address, "HF_HOME": str(tmp_path / "hf"), "HF_HUB_DISABLE_XET": "1"}
    variables["HF_HUB_DISABLE_PROGRESS_BARS"] = "1"
    variables |= {"NO_PROXY": "127.0.0.1", "no_proxy": "127.0.0.1", "PYTHONWARNINGS": "ignore"}
    command = [sys.executable, *map(str, words), "-o", str(tmp_path / "out")]
    return subprocess.run(command, env=variables, cwd=ROOT, capture_output=True, text=True, timeout=200)


def test_checkpoint_adapter_and_data_come_through_a_mirror(tmp_path, data):
    train(BASE, tmp_path / "lora")
    content = json.loads((tmp_path / "lora/adapter_config.json").read_text())
    named = {**content, "base_model_name_or_path": "Qwen/Qwen-Tiny"}
    (tmp_path / "lora/adapter_config.json").write_text(json.dumps(named))
    models = {"Qwen/Qwen-Tiny": BASE, "someone/lora": tmp_path / "lora"}
    with mirror(models, {"cais/mmlu": data}) as server:
        ended = through(server, tmp_path, "eval/evaluate_mmlu.py", "-c", "someone/lora", *FEW)
    assert ended.returncode == 0, ended.stderr
    found = json.loads((tmp_path / "out/results.json").read_text())
    assert (found["model"], found["model_id"]) == ("lora", "someone/lora")
    assert "lora is an adapter on Qwen-Tiny, merged into its weights" in found["notes"]
    fetched = {line.rpartition("/")[2] for line in server.asked if line.startswith("GET") and "/resolve/" in line}
    assert {"model.safetensors", "adapter_model.safetensors", "qwen.tiktoken", "data.tar"} <= fetched


def test_what_a_mirror_does_not_have_is_one_line(tmp_path, data):
    with mirror({"Qwen/Qwen-Tiny": BASE}, {}) as server:
        for model, said in (
            ("Qwen/Qwen-None", "error: -c Qwen/Qwen-None: no such folder, and not to be had from the hub"),
            ("Qwen/Qwen-Tiny", "error: no -d given, and cais/mmlu could not be fetched from the Hugging Face hub"),
        ):
            ended = through(server, tmp_path, "eval/evaluate_mmlu.py", "-c", model, *FEW)
            assert ended.returncode == 2 and ended.stderr.startswith(said), ended.stderr
            assert ended.stderr.count("\n") == 1


# -- ModelScope --------------------------------------------------------------------------------------------------------


@pytest.fixture
def modelscope(monkeypatch: pytest.MonkeyPatch, data: Path) -> list[str]:
    """A stand-in for the package modelscope with one model and one data set; what it was asked for."""
    asked: list[str] = []

    def of(repositories: dict[str, Path]):
        def download(name: str, **options: object) -> str:
            asked.append(name)
            return str(repositories[name])

        return download

    parts = {
        name: types.ModuleType(name) for name in ("modelscope", "modelscope.hub", "modelscope.hub.snapshot_download")
    }
    monkeypatch.setattr(parts["modelscope"], "snapshot_download", of({"Qwen/Qwen-Tiny": BASE}), raising=False)
    place = parts["modelscope.hub.snapshot_download"]
    monkeypatch.setattr(place, "dataset_snapshot_download", of({"cais/mmlu": data}), raising=False)
    for name, part in parts.items():
        monkeypatch.setitem(sys.modules, name, part)
    for module in (checkpoints, sources):
        monkeypatch.setattr(module, "need", lambda *extras: None)
    monkeypatch.setattr(places, "_chosen", None)  # and so again behind the test
    monkeypatch.delenv("QWEN_EVAL_HUB", raising=False)
    return asked


@pytest.fixture
def hugging_face(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """What the Hugging Face hub, which has nothing, was asked for."""
    asked: list[str] = []

    def nothing(name: str, *_: object, **__: object) -> str:
        asked.append(name)
        raise OSError("no network")

    monkeypatch.setattr("huggingface_hub.snapshot_download", nothing)
    monkeypatch.setattr("huggingface_hub.hf_hub_download", nothing)
    return asked


@pytest.mark.parametrize("how", ["flag", "variable", "flag over variable"])
def test_checkpoints_and_data_come_from_modelscope(script, tmp_path, monkeypatch, modelscope, hugging_face, how):
    if how != "flag":
        monkeypatch.setenv("QWEN_EVAL_HUB", "ModelScope" if how == "variable" else "huggingface")
    flag = () if how == "variable" else ("--hub", "modelscope")
    ended = script("mmlu", "-c", "Qwen/Qwen-Tiny", *FEW, *flag, "-o", tmp_path / "out")
    assert ended.status == 0, ended.err
    assert (set(modelscope), hugging_face) == ({"Qwen/Qwen-Tiny", "cais/mmlu"}, [])


def test_the_flag_goes_back_to_hugging_face_where_the_variable_says_modelscope(
    script, tmp_path, monkeypatch, modelscope, hugging_face
):
    monkeypatch.setenv("QWEN_EVAL_HUB", "modelscope")
    ended = script("mmlu", "-c", "Qwen/Qwen-Tiny", *FEW, "--hub", "huggingface", "-o", tmp_path / "out")
    assert ended.status == 2 and "set HF_ENDPOINT to a mirror, or --hub modelscope" in ended.err
    assert (modelscope, hugging_face) == ([], ["Qwen/Qwen-Tiny"])


def test_a_flag_is_of_its_own_run_only(script, tmp_path, modelscope, hugging_face):
    assert script("mmlu", "-c", "Qwen/Qwen-Tiny", *FEW, "--hub", "modelscope", "-o", tmp_path / "out").status == 0
    assert script("mmlu", "-c", "Qwen/Qwen-Tiny", *FEW, "-o", tmp_path / "again").status == 2
    assert hugging_face == ["Qwen/Qwen-Tiny"]


def test_a_whole_table_takes_the_flag(script, tmp_path, modelscope, hugging_face):
    folder = tmp_path / "data"
    shutil.copytree(ROOT / "demo/data/mmlu", folder / "mmlu")
    words = ("base", "-c", "Qwen/Qwen-Tiny", "-d", folder, "--hub", "modelscope", "--skip-missing", "--plan")
    ended = script("reproduce", *words, "-o", tmp_path / "out")
    assert ended.status == 0, ended.err
    assert "Qwen/Qwen-Tiny" in modelscope and hugging_face == []


def test_the_tokenizers_table_takes_the_flag(script, tmp_path, modelscope, hugging_face):
    (tmp_path / "texts").mkdir()
    (tmp_path / "texts/en.txt").write_text("Some words in English.\n")
    words = ("-c", "Qwen/Qwen-Tiny", "--against", "bytes", "-d", tmp_path / "texts", "--hub", "modelscope")
    ended = script("tokenizer", *words, "-o", tmp_path / "out")
    assert ended.status == 0, ended.err
    assert (modelscope, hugging_face) == (["Qwen/Qwen-Tiny"], [])


def test_a_hub_that_is_none_is_one_line(script, tmp_path, monkeypatch, modelscope):
    monkeypatch.setenv("QWEN_EVAL_HUB", "modelscop")
    ended = script("mmlu", "-c", "demo", *FEW, "-o", tmp_path / "out")
    said = "error: QWEN_EVAL_HUB is 'modelscop', which is none of huggingface, modelscope\n"
    assert (ended.status, ended.err) == (2, said)
    ended = script("mmlu", "-c", "demo", *FEW, "--hub", "modelscop", "-o", tmp_path / "out")
    assert ended.status == 2 and "argument --hub: invalid choice: 'modelscop'" in ended.err


def test_the_hubs_cache_of_an_adapter_is_its_snapshot(tmp_path):
    snapshot = tmp_path / "models--someone--lora/snapshots/0123"
    snapshot.mkdir(parents=True)
    (snapshot / "adapter_config.json").write_text("{}")
    assert checkpoint_folder(tmp_path / "models--someone--lora") == snapshot
