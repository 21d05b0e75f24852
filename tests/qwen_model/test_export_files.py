"""How an export is written: shard by shard, whole or not at all, by one command."""

import json
import os
import shutil
import subprocess
import sys
from pathlib import Path

from qwen_model.export import export
from qwen_model.export.__main__ import main
from qwen_model.export.weights import shard_size
from tests.qwen_model.exported import (
    DEMO,
    ROOT,
    edited,
    refused,
    settings_of,
    tensors_of,
)

import pytest
import torch
from safetensors import safe_open
from safetensors.torch import load_file, save_file
from transformers import Qwen2ForCausalLM


def in_shards(source: Path, target: Path, form: str) -> list[Path]:
    """A checkpoint whose weights are in four shards."""
    shutil.copytree(source, target)
    weights = load_file(target / "model.safetensors")
    (target / "model.safetensors").unlink()
    names, shards, weight_map = sorted(weights), [], {}
    for number in range(4):
        part = {name: weights[name] for name in names[number::4]}
        stem = "model" if form == "safetensors" else "pytorch_model"
        path = target / f"{stem}-{number + 1:05}-of-00004.{form}"
        save_file(part, path) if form == "safetensors" else torch.save(part, path)
        weight_map |= dict.fromkeys(part, path.name)
        shards.append(path)
    (target / f"{stem}.{form}.index.json").write_text(json.dumps({"metadata": {}, "weight_map": weight_map}))
    return shards


@pytest.mark.parametrize("form", ["safetensors", "bin"])
@pytest.mark.parametrize("largest", [None, 100_000])
def test_shards_become_shards(tmp_path, form, largest):
    export(DEMO / "base", tmp_path / "whole", drop_long_context=True)
    shards = in_shards(DEMO / "base", tmp_path / "in", form)
    export(tmp_path / "in", tmp_path / "out", drop_long_context=True, max_shard_size=largest)
    written = sorted((tmp_path / "out").glob("*.safetensors"))
    index = settings_of(tmp_path / "out", "model.safetensors.index.json")
    assert [path.name for path in written] == sorted(set(index["weight_map"].values()))
    whole, found = tensors_of(tmp_path / "whole"), tensors_of(tmp_path / "out")
    assert whole.keys() == found.keys() == index["weight_map"].keys()
    assert all(torch.equal(whole[name], found[name]) for name in whole)
    assert index["metadata"]["total_size"] == sum(tensor.nbytes for tensor in whole.values())
    if largest is None:
        assert len(written) == len(shards)
    for path in written:
        with safe_open(path, "pt") as file:
            sizes = [file.get_tensor(name).nbytes for name in file.keys()]  # noqa: SIM118 - not a mapping
        assert largest is None or sum(sizes) <= largest or len(sizes) == 1
    assert Qwen2ForCausalLM.from_pretrained(tmp_path / "out")


def test_files_can_be_read_by_whoever_may_read_the_folder(tmp_path):
    (tmp_path / "LICENSE").write_text("as published")
    source = edited(DEMO / "base", tmp_path / "in")
    shutil.copy(tmp_path / "LICENSE", source)
    export(source, tmp_path / "out", drop_long_context=True)
    modes = {path.stat().st_mode & 0o777 for path in (tmp_path / "out").iterdir()}
    assert len(modes) == 1
    assert (tmp_path / "out/LICENSE").read_text() == "as published"


LIMITED = "import resource, runpy; resource.setrlimit(resource.RLIMIT_FSIZE, (1_000_000, 1_000_000)); "
RUN = "runpy.run_module('qwen_model.export', run_name='__main__')"


def command(*arguments, code: str = f"import runpy; {RUN}") -> subprocess.CompletedProcess:
    environment = os.environ | {"PYTHONPATH": str(ROOT), "OMP_NUM_THREADS": "1"}
    flags = [sys.executable, "-c", code, *map(str, arguments)]
    return subprocess.run(flags, capture_output=True, text=True, env=environment, timeout=300)


def test_the_command_says_what_it_did_and_what_is_wrong_in_one_line(tmp_path, monkeypatch, capsys):
    done = command(DEMO / "chat", tmp_path / "out", "--drop-long-context", "--max-shard-size", "1MB")
    assert done.returncode == 0 and done.stdout.splitlines()[0] == str(tmp_path / "out")
    assert "dropped: dynamic NTK, LogN attention" in done.stdout and "export:" in done.stderr
    assert len(list((tmp_path / "out").glob("*.safetensors"))) > 3
    monkeypatch.setattr("signal.signal", lambda *handler: None)  # the tests' own stays
    for wrong in ((DEMO / "chat", tmp_path / "new"), (DEMO / "chat", tmp_path / "new", "--max-shard-size", "big")):
        monkeypatch.setattr(sys, "argv", ["export", *map(str, wrong)])
        with pytest.raises(SystemExit) as ended:
            sys.exit(main())
        out, err = capsys.readouterr()
        assert (ended.value.code, out) == (2, "")
        assert err.startswith("error: ") and len(err.splitlines()) == 1
    assert not (tmp_path / "new").exists()


@pytest.mark.skipif(sys.platform == "win32", reason="file size limits")
def test_a_disk_that_fills_leaves_nothing_behind(tmp_path, monkeypatch):
    done = command(DEMO / "base", tmp_path / "out", "--drop-long-context", code=LIMITED + RUN)
    assert done.returncode == 2 and "Traceback" not in done.stderr
    assert f"error: {tmp_path / 'out'}: not exported: " in done.stderr.splitlines()[-1]
    assert list(tmp_path.iterdir()) == []
    few = shutil._ntuple_diskusage(10**9, 10**9, 1000)
    monkeypatch.setattr(shutil, "disk_usage", lambda path: few)
    assert "make room" in refused(DEMO / "base", tmp_path / "out", drop_long_context=True)
    assert list(tmp_path.iterdir()) == []


def test_an_export_that_is_stopped_leaves_nothing_behind(tmp_path, monkeypatch):
    def stopped(*arguments):
        raise KeyboardInterrupt

    monkeypatch.setattr("qwen_model.export.write_weights", stopped)
    with pytest.raises(KeyboardInterrupt):
        export(DEMO / "base", tmp_path / "out", drop_long_context=True)
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(("text", "size"), [("5GB", 5 * 10**9), ("1.5 mb", 1_500_000), ("700", 700), ("2K", 2000)])
def test_sizes_of_shards(text, size):
    assert shard_size(text) == size


@pytest.mark.parametrize("text", ["", "0", "big", "-1GB", "1XB", "1GiB"])
def test_what_is_no_size(text):
    with pytest.raises(ValueError, match="no size"):
        shard_size(text)
