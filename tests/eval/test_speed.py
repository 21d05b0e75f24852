"""evaluate_speed.py: the cards' tables of speed and memory, beside what the device allows."""

import json
import shutil
from pathlib import Path

from qwen_eval.benchmarks.speed import limits
from qwen_eval.benchmarks.speed.contender import Contender, load
from qwen_eval.benchmarks.speed.measure import About, Measured
from qwen_eval.benchmarks.speed.process import Process
from qwen_eval.engines.local.engine import LocalEngine
from qwen_eval.errors import UserError
from qwen_model.loading import load_model, load_tokenizer
from tests.qwen_model.gptq_packing import packed_copy

import pytest
import torch
from evaluate_speed import Result, memory_grid, speed_grid

FEW = ("--lengths", "8,12", "--encode", "16", "--repeats", "2", "--threads", "1")


@pytest.fixture
def twins(demo_checkpoint, tmp_path) -> tuple[Path, Path]:
    """A float checkpoint and its Int4 twin, under the names of a card."""
    float_one, packed = tmp_path / "Qwen-7B-Chat", tmp_path / "Qwen-7B-Chat-Int4"
    float_one.symlink_to(demo_checkpoint)
    packed_copy(demo_checkpoint, packed, bits=4, group=32)
    return float_one, packed


def test_the_tables_hold_each_contender(script, twins, tmp_path):
    out = tmp_path / "out"
    ended = script("speed", "-c", *twins, "--dtype", "bfloat16", *FEW, "-o", out, "--ways", "engine")
    assert ended.status == 0, ended.err
    assert "2 turns: a median of fewer than 5 may be noise" in ended.out
    found = json.loads((out / "table.json").read_text())
    assert [one["name"] for one in found["contenders"]] == ["Qwen-7B-Chat, engine", "Qwen-7B-Chat-Int4, engine"]
    assert [one["backend"] for one in found["contenders"]] == ["", "torch"]
    for one in found["contenders"]:
        assert {name: len(turns) for name, turns in one["seconds"].items()} == {
            "encode_16": 2,
            "generate_8": 2,
            "generate_12": 2,
        }
        assert one["peak_bytes"]["generate_12"] > 0 and one["dtype"] == "bfloat16"
    float_bytes, packed_bytes = (one["sizes"]["weights"] for one in found["contenders"])
    assert packed_bytes < float_bytes
    assert (out / "table.md").exists() and "Qwen-7B-Chat-Int4, engine" in (out / "table.csv").read_text()


def test_the_cards_figures_stand_beside_the_measured_ones(twins):
    """Of the model and its bits: each version's, and how it was measured."""
    about = About(limits.Sizes(10**9, 10**6), 1e12, "GPU", "bfloat16", "", "")
    results = [
        Result(Contender(one.name, one, "engine", "auto", None, ("auto",), None), about, seconds, peaks)
        for one in twins
        for seconds, peaks in [
            ({"encode_2048": [1.0], "generate_2048": [20.0]}, {"encode_2048": 9, "generate_2048": 9})
        ]
    ]
    (first, second), memory = speed_grid(results, [2048]).rows, memory_grid(results, [2048], 2048).rows
    assert first[2] == "102.40" and first[-1].startswith("30.34 (v1.0); 30.53 (v1.0); 40.93 (v1.1, over encoded")
    assert second[-1].startswith("43.56 (v1.0); 45.6 (v1.0); 50.09 (v1.1, over encoded")
    assert first[5:7] == [
        "493.8",
        "21%",
    ]  # 1e12 bytes per second over 2.025e9: the weights, and keys and values of 1,025 tokens
    assert [row[-1] for row in memory][::2] == ["17.66 (v1.0); 18.99 (v1.0)", "8.21 (v1.0); 10.2 (v1.0)"]


def test_a_kernel_of_transformers_generates_what_the_engine_does(demo_checkpoint):
    engine = LocalEngine.of(load_model(demo_checkpoint, "float32", "cpu"), load_tokenizer(demo_checkpoint))
    by_engine, by_forward = Measured(engine, "engine"), Measured(engine, "sdpa")
    said = []
    generate = engine.generate
    engine.generate = lambda requests: (said.append(answer) or answer for answer in generate(requests))
    by_engine.generate(6)
    ((_, reply),) = said
    assert reply.tokens == 6
    assert by_forward.generate(6).seconds > 0 and by_forward.encode(9).seconds > 0


def test_a_token_reads_every_weight_but_the_embedding_table(demo_checkpoint):
    model = load_model(demo_checkpoint, "float32", "cpu")
    config, total = model.config, sum(parameter.nbytes for parameter in model.parameters())
    sizes = limits.sizes_of(model)
    assert sizes.weights == total - model.get_input_embeddings().weight.nbytes
    assert sizes.per_token == 2 * config.num_hidden_layers * config.hidden_size * 4
    assert sizes.read_by(1, 100) == sizes.weights + 51 * sizes.per_token


def test_a_packed_weight_is_read_packed(demo_checkpoint, tmp_path):
    packed_copy(demo_checkpoint, tmp_path / "packed", bits=4, group=32)
    found = {
        backend: limits.sizes_of(load_model(tmp_path / "packed", "bfloat16", "cpu", gptq_backend=backend)).weights
        for backend in ("torch", "reference", "auto")
    }
    assert found["torch"] < found["auto"] and found["reference"] < found["auto"]


def test_the_bandwidth_is_that_of_a_copy(monkeypatch):
    monkeypatch.setitem(limits.COPY_BYTES, "cpu", 2**24)
    assert 1e8 < limits.copy_bandwidth(torch.device("cpu")) < 1e13
    assert limits.state(torch.device("cpu")) == ""


@pytest.mark.parametrize(
    ("flags", "said"),
    [
        (("--ways", "engine,fast"), "'fast' is none of engine, sdpa, eager, flash_attention_2"),
        (("--lengths", "8,0"), "'0' is not a whole number of at least 1"),
        (("--gptq-backend", "torch"), "--gptq-backend torch: no GPTQ checkpoint"),
        (("--ways", "flash_attention_2"), "flash_attention_2"),
        (("-c", "demo", "demo"), "-c names two checkpoints of the same name; rename a folder"),
        (("-c", "nowhere/none"), "nowhere/none"),
    ],
)
def test_bad_input_is_one_line_before_anything_is_loaded(script, tmp_path, flags, said):
    flags = flags if flags[0] == "-c" else ("-c", "demo", *flags)
    ended = script("speed", *flags, "-o", tmp_path / "out")
    assert ended.status == 2 and said in ended.err and len(ended.err.strip().splitlines()) == 1
    assert not (tmp_path / "out").exists()


def test_a_damaged_checkpoint_is_one_line_before_anything_is_loaded(script, tmp_path, demo_checkpoint):
    broken = tmp_path / "broken"
    shutil.copytree(demo_checkpoint, broken)
    weights = broken / "model.safetensors"
    weights.write_bytes(weights.read_bytes()[:-1])
    ended = script("speed", "-c", broken, *FEW, "-o", tmp_path / "out")
    assert ended.status == 2 and "truncated or corrupt" in ended.err and not (tmp_path / "out").exists()


def test_layers_that_torchs_product_does_not_take_run_by_the_reference(demo_checkpoint, tmp_path):
    packed_copy(demo_checkpoint, tmp_path / "uneven", bits=4, group=128)  # of 352 inputs
    contender = Contender("uneven", tmp_path / "uneven", "engine", "bfloat16", "cpu", ("torch", "reference"), 1)
    process = Process("uneven", load, contender)
    assert process.call("about").backend == "reference"
    process.stop()


def test_what_does_not_load_in_a_process_is_one_line(demo_checkpoint, tmp_path):
    packed_copy(demo_checkpoint, tmp_path / "uneven", bits=4, group=128)
    contender = Contender("uneven", tmp_path / "uneven", "engine", "bfloat16", "cpu", ("torch",), 1)
    process = Process("uneven", load, contender)
    with pytest.raises(UserError, match=r"uneven: .*groups of 128 inputs, of which torch's int4 product has"):
        process.call("warm_up")
    process.stop()


def test_a_process_that_ends_is_one_line(demo_checkpoint, monkeypatch):
    contender = Contender("mine", Path(demo_checkpoint), "engine", "float32", "cpu", ("auto",), 1)
    process = Process("mine", load, contender)
    process.process.kill()
    with pytest.raises(UserError, match=r"mine: its process ended \(out of memory\?\)"):
        process.call("warm_up")
    process.stop()
