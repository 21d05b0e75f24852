"""--engine vllm gives the local engine's answers, from a copy of the checkpoint that it makes and keeps by itself.

The heavy tests run vLLM for the CPU, in the environment that bench/setup_vllm.sh makes (.venv-vllm)."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

from qwen_eval import vllm_runs
from qwen_eval.errors import UserError

import numpy as np
import pytest

from ..qwen_model.exported import DEMO, ROOT, edited
from ..qwen_model.gptq_packing import packed_copy

MMLU = ROOT / "demo/data/mmlu"
LIMIT = 900  # seconds: vLLM takes half a minute to start
TIE = 1e-3


# -- what it does not take ---------------------------------------------------------------------------------------------


def test_without_vllm_it_says_how_to_get_it_before_anything_else(script, tmp_path: Path, monkeypatch) -> None:
    monkeypatch.setattr(vllm_runs, "find_spec", lambda name: None)
    ended = script("mmlu", "-c", "no/such/model", "--engine", "vllm", "-d", MMLU, "-o", tmp_path / "out")
    assert ended.status == 2 and not (tmp_path / "out").exists()
    assert ended.err.startswith("error: vllm is not installed here") and "bench/setup_vllm.sh" in ended.err
    assert ended.err.count("\n") == 1


@pytest.mark.parametrize(
    ("flags", "said"),
    [
        (("--use-dynamic-ntk", "off"), "want the local engine"),
        (("--use-logn-attn", "on"), "want the local engine"),
        (("--window-attn", "256"), "want the local engine"),
        (("--kv-cache", "int8"), "--kv-cache wants the local engine"),
        (("--gptq-backend", "torch"), "--gptq-backend wants the local engine"),
        (("--attn-implementation", "eager"), "--attn-implementation wants the local engine"),
        (("--device", "cpu"), "--device wants the local engine"),
        (("--adapter", "lora"), "--adapter wants the local engine"),
    ],
)
def test_flags_of_the_local_engine_are_one_line(script, tmp_path: Path, monkeypatch, flags: Any, said: str) -> None:
    monkeypatch.setattr(vllm_runs, "find_spec", lambda name: "found")
    ended = script("mmlu", "-c", "demo", "--engine", "vllm", "-d", MMLU, "-o", tmp_path / "out", *flags)
    assert (ended.status, ended.err.count("\n")) == (2, 1) and said in ended.err
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize("flag", ["--tensor-parallel-size", "--pipeline-parallel-size"])
def test_its_own_flags_want_it(script, tmp_path: Path, flag: str) -> None:
    ended = script("mmlu", "-c", "demo", "-d", MMLU, "-o", tmp_path / "out", flag, 2)
    assert (ended.status, ended.err.count("\n")) == (2, 1) and "want --engine vllm" in ended.err


def test_windows_that_act_within_the_training_length_are_refused(tmp_path: Path) -> None:
    vllm_runs.check_checkpoint(DEMO / "base")  # NTK and LogN are on, which act beyond it
    with pytest.raises(UserError, match="window attention is on"):
        vllm_runs.check_checkpoint(edited(DEMO / "base", tmp_path / "windows", window_attn=256))


def test_packed_weights_want_a_dtype_in_which_vllm_runs_them(tmp_path: Path) -> None:
    packed_copy(DEMO / "base", tmp_path / "int4")
    for dtype in ("auto", "float32"):
        with pytest.raises(UserError, match="packed weights, which vLLM does not run in float32; add --dtype float16"):
            vllm_runs.check_checkpoint(tmp_path / "int4", dtype)
    vllm_runs.check_checkpoint(tmp_path / "int4", "float16")


def test_the_copy_is_kept_by_the_contents_of_the_checkpoint(tmp_path: Path) -> None:
    same, other = edited(DEMO / "base", tmp_path / "a/base"), edited(DEMO / "base", tmp_path / "b/base", seq_length=256)
    again = edited(same, tmp_path / "c/base")
    places = [vllm_runs.export_folder(folder) for folder in (same, again, other)]
    assert places[0] == places[1] != places[2]
    assert os.environ["QWEN_EVAL_CACHE"] in str(places[0])


def test_no_long_context_figures(script, tmp_path: Path) -> None:
    ended = script("ppl", "-c", "demo", "--engine", "vllm", "-d", ROOT / "demo/data/ppl", "-o", tmp_path / "out")
    assert (ended.status, ended.err.count("\n")) == (2, 1) and "no long-context switches" in ended.err


# -- vLLM itself -------------------------------------------------------------------------------------------------------


def run(python: Path | str, *words: object) -> subprocess.CompletedProcess[str]:
    environment = {**os.environ, "OMP_NUM_THREADS": "1"}
    return subprocess.run([str(python), *map(str, words)], cwd=ROOT, capture_output=True, text=True, env=environment)


@pytest.fixture(scope="session")
def facts(vllm_python: Path, tmp_path_factory: pytest.TempPathFactory) -> dict[str, Any]:
    folder = tmp_path_factory.mktemp("side")
    model = edited(DEMO / "base", folder / "model", seq_length=2048)
    ended = run(vllm_python, ROOT / "tests/engine/vllm_side.py", model, folder / "copy")
    assert ended.returncode == 0, ended.stderr[-3000:]
    (line,) = [line for line in ended.stdout.splitlines() if line.startswith("facts ")]
    found: dict[str, Any] = json.loads(line.removeprefix("facts "))
    return found


@pytest.mark.heavy
@pytest.mark.timeout(LIMIT)
def test_every_kind_of_request_gives_the_local_engines_answer(facts: dict[str, Any]) -> None:
    assert max(facts["choose"], facts["loglikelihood"], facts["score"]) < TIE
    assert facts["is_greedy"] and facts["replies_that_differ"] == []
    assert facts["finishes"] == ["length", "stop"]
    assert facts["embedded"][0] == facts["embedded"][1] and facts["stop_tokens"][0] == facts["stop_tokens"][1]


@pytest.mark.heavy
@pytest.mark.timeout(LIMIT)
def test_sampled_replies_depend_on_their_seed_alone(facts: dict[str, Any]) -> None:
    assert facts["drawn_the_same"] and facts["drawn_texts"] > 10


@pytest.mark.heavy
@pytest.mark.timeout(LIMIT)
def test_the_training_length_is_the_limit_and_nothing_is_cut_in_silence(facts: dict[str, Any]) -> None:
    assert "2,048 tokens, and vLLM runs this model up to 2,048" in facts["too_long"]
    assert facts["cut_tokens"] == 8
    assert any("1 replies ended" in note for note in facts["notes"])
    assert any("dynamic NTK, LogN attention" in note for note in facts["notes"])


@pytest.mark.heavy
@pytest.mark.timeout(LIMIT)
def test_the_copy_is_made_once_and_runs_as_any_other_model(facts: dict[str, Any]) -> None:
    assert facts["written_once"] and facts["as_another_model"]


SHORT = ("--max-new-tokens", 64)
RUNS: dict[str, tuple[str, str | None, tuple[object, ...]]] = {
    "mmlu": ("mmlu", None, ("--subjects", "astronomy,business_ethics,nutrition,world_religions")),
    "gsm8k": ("gsm8k", None, ()),
    "humaneval": ("humaneval", None, ()),
    "real mmlu": ("mmlu", "data/mmlu", ("--subjects", "anatomy,astronomy", "--limit", 100, "--max-seq-len", 4000)),
    "real gsm8k": ("gsm8k", "data/gsm8k", ("--limit", 200, *SHORT)),
    "real humaneval": ("humaneval", "data/humaneval", SHORT),
}


def samples(folder: Path) -> dict[str, dict[str, Any]]:
    lines = (folder / "samples.jsonl").read_text(encoding="utf-8").splitlines()
    return {line["id"]: line for line in map(json.loads, lines)}


def is_tie(line: dict[str, Any]) -> bool:
    """Whether the two likeliest choices of the local engine are within the rounding of fp32."""
    first, second, *_ = sorted(line["choice_logits"], reverse=True)
    return bool(first - second < TIE)


@pytest.mark.heavy
@pytest.mark.timeout(LIMIT)
@pytest.mark.parametrize("name", RUNS)
def test_the_same_predictions_as_the_local_engine(
    vllm_python: Path, long_demo: Path, shared: Any, tmp_path: Path, name: str
) -> None:
    benchmark, real, flags = RUNS[name]
    data = ROOT / "demo/data" / benchmark if real is None else shared / real
    found = {}
    for engine, python in (("vllm", vllm_python), ("local", sys.executable)):
        how = ("-c", long_demo, "-d", data, "--dtype", "float32", "--engine", engine, "-o", tmp_path / engine, *flags)
        ended = run(python, ROOT / f"eval/evaluate_{benchmark}.py", *how)
        assert ended.returncode == 0, ended.stderr[-3000:]
        found[engine] = samples(tmp_path / engine)
    ours, local = found["vllm"], found["local"]
    assert ours.keys() == local.keys() and len(local) > 4
    assert all(ours[key]["prompt_sha256"] == line["prompt_sha256"] for key, line in local.items())
    differ = [key for key, line in local.items() if ours[key]["prediction"] != line["prediction"]]
    ties = [key for key in differ if local[key].get("choice_logits") and is_tie(local[key])]
    if ties:
        print(f"ties within {TIE}: {ties}")
    assert differ == ties
    results = json.loads((tmp_path / "vllm/results.json").read_text())
    if name == "real mmlu":  # 5 examples for 100 questions each
        (note,) = [note for note in results["notes"] if note.startswith("prefix cache")]
        assert float(note.split("%")[0].removeprefix("prefix cache: ")) > 80


@pytest.mark.heavy
@pytest.mark.timeout(LIMIT)
def test_packed_int4_weights_give_the_local_engines_choices(vllm_python: Path, tmp_path: Path) -> None:
    packed_copy(DEMO / "base", tmp_path / "int4")
    found = {}
    for engine, python, dtype in (("vllm", vllm_python, "float16"), ("local", sys.executable, "float32")):
        how = ("-c", tmp_path / "int4", "--engine", engine, "--dtype", dtype, "-o", tmp_path / engine)
        ended = run(python, ROOT / "eval/evaluate_mmlu.py", "-d", MMLU, "--subjects", "astronomy", *how)
        assert ended.returncode == 0, ended.stderr[-3000:]
        found[engine] = samples(tmp_path / engine)
    apart = [
        np.ptp(np.subtract(found["vllm"][key]["choice_logits"], line["choice_logits"]))
        for key, line in found["local"].items()
    ]
    assert len(apart) > 10 and max(apart) < 0.1, "the rounding of float16; other weights are apart by whole units"
