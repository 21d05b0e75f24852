"""The switches of the long-context techniques: given at load, on the model or for a call, with one meaning."""

import json
import shutil
from pathlib import Path
from typing import Any

from qwen_model import LongContext, QWenConfig
from qwen_model.loading import CheckpointError, load_model
from qwen_model.long_context import parse_window_attn, resolve

import numpy as np
import pytest
import torch

from . import dense
from .conftest import S, same, tiny_config

ROOT = Path(__file__).resolve().parents[2]
BOTH, NEITHER = LongContext(True, True), LongContext(False, False)
ON, OFF = {"use_dynamic_ntk": True, "use_logn_attn": True}, {"use_dynamic_ntk": False, "use_logn_attn": False}
RECORDED = {"plain": OFF, "both": ON}


# -- the recorded outputs of the published code, with the switches of the other checkpoint -----------------------------


def oracle(shared: Path, name: str) -> tuple[Path, dict[str, np.ndarray]]:
    folder = shared / "goldens/qwen_oracle" / name
    with np.load(folder / "golden.npz") as file:
        return folder, dict(file)


def turned(folder: Path, target: Path) -> Path:
    """A copy of a checkpoint whose config.json says the opposite."""
    shutil.copytree(folder, target)
    config = json.loads((target / "config.json").read_text())
    for name in ON:
        config[name] = not config[name]
    (target / "config.json").write_text(json.dumps(config))
    return target


@torch.no_grad()
def in_steps(model: Any, tokens: torch.Tensor, prefill: int, **options: Any) -> torch.Tensor:
    out = model(tokens[:, :prefill], use_cache=True, **options)
    pieces = [out.logits]
    for i in range(prefill, tokens.shape[1]):
        pieces.append(model(tokens[:, i : i + 1], past_key_values=out.past_key_values, **options).logits)
    return torch.cat(pieces, 1)


@pytest.mark.parametrize("how", ["at load", "on the model", "at call"])
@pytest.mark.parametrize("name", ["plain", "both"])
@torch.no_grad()
def test_given_switches_equal_the_published_code(shared, tmp_path, name, how):
    """At 1x, 2x and 4x the training length and past it, at once and by steps, whatever config.json says."""
    folder, arrays = oracle(shared, name)
    folder = turned(folder, tmp_path / "turned")
    before = (folder / "config.json").read_bytes()
    wanted = RECORDED[name]
    model = load_model(folder, dtype="fp32", device="cpu", **(wanted if how == "at load" else {}))
    if how == "on the model":
        model.long_context = LongContext(**wanted)
    options = {"long_context": LongContext(**wanted)} if how == "at call" else {}
    for length in (32, 64, 65, 129, 150):  # S = 32
        tokens = torch.tensor(arrays[f"fwd_{length}_input_ids"])
        want = torch.tensor(arrays[f"fwd_{length}_logits"])
        same(model(tokens, use_cache=False, **options).logits, want, 1e-4)
        assert {model.ntk_alpha(length, *options.values())} == set(np.ravel(arrays[f"fwd_{length}_ntk_alpha"]))
    for case in ("below", "cross", "above", "from2S"):
        tokens, prefill = torch.tensor(arrays[f"inc_{case}_input_ids"]), int(arrays[f"inc_{case}_prefill"])
        same(in_steps(model, tokens, prefill, **options), torch.tensor(arrays[f"inc_{case}_logits"]), 1e-4)
    for case in ("rpad_short", "rpad_mid", "rpad_long"):
        tokens, mask = (torch.tensor(arrays[f"{case}_{key}"]) for key in ("input_ids", "mask"))
        got = model(tokens, attention_mask=mask, **options).logits
        same(got[mask.bool()], torch.tensor(arrays[f"{case}_logits"])[mask.bool()], 1e-4)
    assert (folder / "config.json").read_bytes() == before


@pytest.mark.parametrize("switches", [BOTH, LongContext(True, False), LongContext(False, True), NEITHER])
@torch.no_grad()
def test_each_switch_by_itself_on_recorded_weights(shared, switches):
    """The four combinations, on weights recorded with none: equal to the formulas written out."""
    folder, arrays = oracle(shared, "plain")
    model = load_model(folder, dtype="fp32", device="cpu", use_dynamic_ntk=switches[0], use_logn_attn=switches[1])
    assert model.long_context == switches
    for length in (32, 33, 64, 129):
        tokens = torch.randint(0, 250, (1, length), generator=torch.Generator().manual_seed(length))
        want = dense.logits(model, tokens[0], None, *switches[:2]).float()
        same(model(tokens).logits[0], want, 1e-4)
        want = dense.logits(model, tokens[0], None, *switches[:2], ntk_length=20).float()
        same(in_steps(model, tokens, 20)[0, 20:], want[20:], 1e-4)
    same(model(torch.tensor(arrays["fwd_32_input_ids"])).logits, torch.tensor(arrays["fwd_32_logits"]), 1e-4)


@torch.no_grad()
def test_a_call_changes_nothing_for_the_next(build, ids):
    model, tokens = build(), ids(1, 3 * S)
    before = model(tokens).logits
    other = model(tokens, long_context=NEITHER).logits
    assert (before - other).abs().max() > 0.1
    assert torch.equal(model(tokens).logits, before)
    model.long_context = NEITHER
    assert torch.equal(model(tokens).logits, other)
    assert model.transformer.long_context == NEITHER and model.ntk_alpha(3 * S) == 1.0
    assert model.ntk_alpha(3 * S, BOTH) == 7.0
    model.long_context = None
    assert torch.equal(model(tokens).logits, before)
    assert model.long_context == BOTH


@torch.no_grad()
def test_greedy_generation_under_given_switches(build, ids):
    """`generate(long_context=...)` says what the same weights say with the switches in their configuration."""
    prompt = ids(1, 2 * S) + 1  # no pads
    options = {"max_new_tokens": 20, "do_sample": False, "pad_token_id": 0, "eos_token_id": None}
    model, want = build(**OFF, vocab_size=97), build(**ON, vocab_size=97).generate(prompt, **options)
    for more in ({}, {"prefill_chunk_size": 20}):
        assert model.generate(prompt, long_context=BOTH, **options, **more).tolist() == want.tolist()
    assert model.generate(prompt, **options).tolist() != want.tolist()


# -- the specification of windows --------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("text", "windows"),
    [
        ("off", None),
        ("on", (2048,) * 4 + (4096,) * 4 + (8192,)),
        ("512", (512,) * 4 + (1024,) * 4 + (2048,)),
        ("1,2,3,4,5,6,7,8,full", (1, 2, 3, 4, 5, 6, 7, 8, None)),
        ("full,full,full,full,full,full,full,full,full", None),
        ('{"first": 10, "growth": 3, "layers_per_step": 2, "max": 100}', (10, 10, 30, 30, 90, 90, None, None, None)),
        ('{"schedule": {"first": 10, "growth": 1}}', (10,) * 9),
        ('{"first": 100, "growth": 1.5, "layers_per_step": 3}', (100,) * 3 + (150,) * 3 + (225,) * 3),
        ('{"sizes": [4, 4, 4, 4, 4, 4, 4, null, "full"]}', (4,) * 7 + (None, None)),
        ("[9, 9, 9, 9, 9, 9, 9, 9, null]", (9,) * 8 + (None,)),
    ],
)
def test_windows_of_a_specification(text, windows):
    config = tiny_config(num_hidden_layers=9)
    assert resolve(config, window_attn=text).window_attn == windows
    assert resolve(config, window_attn=parse_window_attn(text)).window_attn == windows


def test_options_of_a_specification():
    got = resolve(tiny_config(), False, None, '{"sizes": [5, 6, null], "ntk_per_layer": false, "logn_mode": "visible"}')
    assert got == LongContext(False, True, (5, 6, None), False, "visible")
    assert resolve(tiny_config(), window_attn=(5, 6, None)) == LongContext(True, True, (5, 6, None))
    assert hash(got) != hash(resolve(tiny_config()))


def test_a_window_attn_of_config_json_is_the_checkpoints(tmp_path):
    for own, windows in (([4, 8, None], (4, 8, None)), ({"first": 4, "layers_per_step": 1}, (4, 8, 16)), (7, (7,) * 3)):
        config = tiny_config(window_attn=own)
        config.save_pretrained(tmp_path)
        config = QWenConfig.from_pretrained(tmp_path)
        for given in (None, "on", True):
            assert resolve(config, window_attn=given).window_attn == windows
        assert resolve(config, window_attn="off").window_attn is None
    assert resolve(tiny_config(window_attn="on")).window_attn == (2048,) * 3
    assert resolve(tiny_config(window_attn="off"), window_attn="on").window_attn == (2048,) * 3
    assert "window_attn" not in tiny_config().to_diff_dict()
    with pytest.raises(ValueError, match=r"config\.json: window_attn: .*2 windows for the 3 layers"):
        tiny_config(window_attn=[4, 8])


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ("512,512", "2 windows for the 3 layers"),
        ("0", "at least 1, not 0"),
        ("5,-1,5", "at least 1, not -1"),
        ("5,,5", "'' is not a window; give off, on, "),
        ("wide", "'wide' is not a window"),
        ("2.5", "'2.5' is not a window"),
        ("{", "not valid JSON"),
        ('{"frist": 3}', "a schedule has first, growth, layers_per_step, max"),
        ('{"first": 3, "growth": 0.5}', "growth of the schedule must be from 1 to 1000, not 0.5"),
        ('{"first": 3, "layers_per_step": 0}', "layers_per_step of the schedule must be a whole number"),
        ('{"first": null}', "first of the schedule must be a whole number"),
        ('{"first": 3, "logn_mode": "none"}', "logn_mode must be absolute or visible"),
        ('{"first": 3, "ntk_per_layer": 1}', "ntk_per_layer must be true or false"),
        ("[4, 4, true]", "not True"),
    ],
)
def test_a_wrong_specification_is_one_clear_line(text, says):
    with pytest.raises(ValueError, match="window attention: ") as error:
        resolve(tiny_config(), window_attn=text)
    assert says in str(error.value) and "\n" not in str(error.value)


# -- at load and in the scripts ----------------------------------------------------------------------------------------


def test_at_load(demo_checkpoint):
    before = (demo_checkpoint / "config.json").read_bytes()
    config = json.loads(before)
    layers = config["num_hidden_layers"]
    model = load_model(demo_checkpoint, device="cpu", use_logn_attn=False, window_attn="16")
    assert model.long_context == resolve(model.config, use_logn_attn=False, window_attn=16)
    assert model.long_context.window_attn[0] == 16 and model.long_context.use_dynamic_ntk is config["use_dynamic_ntk"]
    assert load_model(demo_checkpoint, device="cpu").long_context == LongContext(
        config["use_dynamic_ntk"], config["use_logn_attn"]
    )
    with pytest.raises(CheckpointError, match=f"{layers + 1} windows for the {layers} layers"):
        load_model(demo_checkpoint, device="cpu", window_attn=[5] * (layers + 1))
    assert (demo_checkpoint / "config.json").read_bytes() == before


def test_training_length_is_asked_for_by_the_switch_that_needs_it(build):
    model = build(seq_length=None, **OFF)
    with pytest.raises(ValueError, match="seq_length is missing"):
        model.long_context = LongContext(True, False)
    model.long_context = LongContext(False, False, (4, 4, 4))  # windows need none


def test_other_families_have_no_such_switches(tmp_path, script):
    import transformers

    config = transformers.LlamaConfig(
        vocab_size=32, hidden_size=16, intermediate_size=16, num_hidden_layers=1, num_attention_heads=2
    )
    transformers.LlamaForCausalLM(config).save_pretrained(tmp_path)
    load_model(tmp_path, device="cpu")
    says = "window_attn is a switch of first-generation Qwen only, and this model is llama"
    with pytest.raises(CheckpointError, match=says):
        load_model(tmp_path, device="cpu", window_attn="on")
    data = ROOT / "demo" / "data" / "mmlu"
    for engine, wanted in (
        ((), says),
        (("--engine", "openai", "--base-url", "http://localhost:1"), "the local engine"),
    ):
        ended = script("mmlu", "-c", tmp_path, "-d", data, "--window-attn", "on", "-o", tmp_path / "out", *engine)
        assert ended.status == 2 and wanted in ended.err and len(ended.err.strip().splitlines()) == 1
    assert not (tmp_path / "out").exists()


def test_flags_of_a_script(demo_checkpoint, script, tmp_path):
    """They change the settings and the answers; a folder of other switches is not gone on with."""
    data = ROOT / "demo" / "data" / "mmlu"
    base = ("-c", demo_checkpoint, "-d", data, "--subjects", "nutrition", "-k", 1, "--limit", 3)

    def run(*flags: object, folder: str) -> tuple[int, str, Any, list[Any]]:
        ended = script("mmlu", *base, "-o", tmp_path / folder, *flags)
        results = tmp_path / folder / "results.json"
        settings = json.loads(results.read_text())["manifest"]["settings"] if results.exists() else None
        lines = (tmp_path / folder / "samples.jsonl").read_text().splitlines()
        return ended.status, ended.err, settings, [json.loads(line)["choice_logits"] for line in lines]

    layers = json.loads((demo_checkpoint / "config.json").read_text())["num_hidden_layers"]
    windows = [8] * layers
    status, _, settings, plain = run(folder="plain")
    assert status == 0 and "long_context" not in settings
    flags = ("--use-dynamic-ntk", "off", "--use-logn-attn", "on", "--window-attn", ",".join(map(str, windows)))
    status, _, settings, short = run(*flags, folder="short")
    assert status == 0
    assert settings["long_context"] == {
        "use_dynamic_ntk": False,
        "use_logn_attn": True,
        "window_attn": windows,
        "ntk_per_layer": True,
        "logn_mode": "absolute",
    }
    assert short != plain
    assert run(*flags, folder="short")[0] == 0  # the same switches go on
    for folder, other in (("short", ()), ("plain", flags), ("short", (*flags[:4], "--window-attn", "off"))):
        status, err, *_ = run(*other, folder=folder)
        assert status == 2 and "--overwrite" in err
    for wrong, says in (
        (("--window-attn", "5,x"), "'x' is not a window"),
        (("--use-logn-attn", "yes"), "'yes' is neither on nor off"),
        (("--window-attn", ",".join(["5"] * (layers + 1))), f"{layers + 1} windows for the {layers} layers"),
    ):
        ended = script("mmlu", *base, "-o", tmp_path / "wrong", *wrong)
        assert ended.status == 2 and says in ended.err and len(ended.err.strip().splitlines()) == 1
