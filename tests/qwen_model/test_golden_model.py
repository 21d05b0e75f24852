"""The model against recorded outputs of the published code: every checkpoint folder with a `golden.npz`.

One thing is not compared with the recording: rows that are left-padded in a batch wider than S, with LogN on. The
published code counts pads there (quirk Q4); ours must equal its own unpadded row instead.
"""

from pathlib import Path
from typing import Any, NamedTuple

from qwen_model import QWenLMHeadModel
from qwen_model.loading import load_model

import numpy as np
import pytest
import torch

TOLERANCE = 1e-4
ORACLE = Path(__file__).resolve().parents[1] / "goldens" / "qwen_oracle"
NAMES = sorted(path.parent.name for path in ORACLE.glob("*/golden.npz"))


class Recording(NamedTuple):
    model: QWenLMHeadModel
    arrays: dict[str, np.ndarray]
    half: bool

    def tensor(self, key: str) -> torch.Tensor:
        return torch.tensor(self.arrays[key])

    def logits(self, key: str) -> np.ndarray:
        return self.arrays[key + "_fp32ref"] if self.half else self.arrays[key]

    def has(self, key: str) -> bool:
        return key in self.arrays


@pytest.fixture(scope="module", params=NAMES)
def recording(request) -> Recording:
    folder = ORACLE / request.param
    with np.load(folder / "golden.npz") as file:
        arrays = dict(file)
    half = any(key.endswith("_fp32ref") for key in arrays)
    return Recording(load_model(folder, dtype="fp32", device="cpu"), arrays, half)


def close(ours: torch.Tensor, theirs: np.ndarray, where: np.ndarray | None = None) -> None:
    difference = np.abs(ours.numpy() - theirs)
    if where is not None:
        difference = difference[where.astype(bool)]
    assert difference.max() < TOLERANCE


@torch.no_grad()
def stepwise(
    model: QWenLMHeadModel, ids: torch.Tensor, sizes: list[int], mask: torch.Tensor | None = None
) -> torch.Tensor:
    """Logits of `ids` given in pieces of these sizes, with a cache."""
    cache: Any = None
    pieces, done = [], 0
    for piece in ids.split(sizes, dim=1):
        done += piece.shape[1]
        seen = None if mask is None else mask[:, :done]
        out = model(piece, attention_mask=seen, past_key_values=cache, use_cache=True)
        cache = out.past_key_values
        pieces.append(out.logits)
    return torch.cat(pieces, dim=1)


@pytest.mark.parametrize("length", [20, 32, 33, 64, 65, 129, 150])
@torch.no_grad()
def test_forward(recording, length):
    if not recording.has(f"fwd_{length}_input_ids"):
        pytest.skip("not recorded")
    out = recording.model(recording.tensor(f"fwd_{length}_input_ids"))
    close(out.logits, recording.logits(f"fwd_{length}_logits"))
    assert out.past_key_values.ntk_alpha.tolist() == recording.arrays[f"fwd_{length}_ntk_alpha"].tolist()
    assert recording.model.ntk_alpha(length) == recording.arrays[f"fwd_{length}_ntk_alpha"][0]


@torch.no_grad()
def test_bf16_error_is_that_of_the_original(recording):
    if not recording.half:
        pytest.skip("an fp32 recording")
    model = recording.model.bfloat16()
    try:
        for length, largest, mean in ((20, 0.11, 0.017), (65, 0.24, 0.025), (150, 0.39, 0.028)):
            logits = model(recording.tensor(f"fwd_{length}_input_ids")).logits.float().numpy()
            error = np.abs(logits - recording.arrays[f"fwd_{length}_logits_fp32ref"])
            assert error.max() <= 1.5 * largest and error.mean() <= 1.5 * mean
    finally:
        model.float()


@torch.no_grad()
def test_hidden_states_loss_and_cache(recording):
    if recording.half or not recording.has("hid_20"):
        pytest.skip("not recorded in fp32")
    ids = recording.tensor("fwd_20_input_ids")
    out = recording.model(ids, labels=ids, output_hidden_states=True)
    close(torch.cat(out.hidden_states), recording.arrays["hid_20"])
    assert abs(float(out.loss) - float(recording.arrays["loss_20"])) < TOLERANCE
    layer = out.past_key_values.layers[0]
    close(layer.keys.transpose(1, 2), recording.arrays["cache_20_key_layer0"])
    close(layer.values.transpose(1, 2), recording.arrays["cache_20_value_layer0"])


@torch.no_grad()
def test_equal_rows(recording):
    ids = recording.tensor("batch_eq_input_ids")
    for mask in (None, torch.ones_like(ids)):
        close(recording.model(ids, attention_mask=mask).logits, recording.logits("batch_eq_logits"))


def check_rows(
    recording: Recording, ids: torch.Tensor, mask: torch.Tensor, key: str, ours: torch.Tensor, left: bool
) -> None:
    """Against the recording where it is padding-free in effect, else (Q4) against the row alone."""
    config = recording.model.config
    counts_pads = left and config.use_logn_attn and ids.shape[1] > config.training_length()
    theirs = recording.logits(key)
    for row in range(len(ids)):
        keep = mask[row].bool()
        if counts_pads and not keep.all():
            alone = stepwise(recording.model, ids[row, keep][None], [int(keep.sum())])
            torch.testing.assert_close(ours[row, keep], alone[0], atol=TOLERANCE, rtol=0)
        else:
            close(ours[row], theirs[row], mask[row].numpy())


@pytest.mark.parametrize("side", ["lpad", "rpad"])
@pytest.mark.parametrize("width", ["short", "mid", "long"])
@torch.no_grad()
def test_padding(recording, side, width):
    key = f"{side}_{width}"
    ids, mask = recording.tensor(f"{key}_input_ids"), recording.tensor(f"{key}_mask")
    out = recording.model(ids, attention_mask=mask)
    check_rows(recording, ids, mask, f"{key}_logits", out.logits, left=side == "lpad")
    if recording.has(f"{key}_ntk_alpha"):
        recorded = np.broadcast_to(recording.arrays[f"{key}_ntk_alpha"], len(ids))
        assert out.past_key_values.ntk_alpha.expand(len(ids)).tolist() == recorded.tolist()
    last = ids.shape[1] - 1 - mask.flip(1).argmax(dim=1)
    only = recording.model(ids, attention_mask=mask, last_positions=last).logits
    torch.testing.assert_close(only[:, 0], out.logits[torch.arange(len(ids)), last], atol=1e-5, rtol=0)


@pytest.mark.parametrize("case", ["below", "cross", "above", "from2S"])
def test_decoding_step_by_step(recording, case):
    if not recording.has(f"inc_{case}_input_ids"):
        pytest.skip("not recorded")
    ids, prefill = recording.tensor(f"inc_{case}_input_ids"), int(recording.arrays[f"inc_{case}_prefill"])
    sizes = [prefill] + [1] * (ids.shape[1] - prefill)
    close(stepwise(recording.model, ids, sizes), recording.logits(f"inc_{case}_logits"))


@pytest.mark.parametrize("case", ["below", "cross", "above"])
def test_batched_decoding_step_by_step(recording, case):
    ids, mask = recording.tensor(f"incb_{case}_input_ids"), recording.tensor(f"incb_{case}_mask")
    prefill = int(recording.arrays[f"incb_{case}_prefill"])
    ours = stepwise(recording.model, ids, [prefill] + [1] * (ids.shape[1] - prefill), mask)
    config, theirs = recording.model.config, recording.logits(f"incb_{case}_logits")
    for row in range(len(ids)):
        keep = mask[row].bool()
        if config.use_logn_attn and ids.shape[1] > config.training_length() and not keep.all():
            length = int(keep[:prefill].sum())  # quirk Q4: against the row alone
            alone = stepwise(recording.model, ids[row, keep][None], [length] + [1] * (int(keep.sum()) - length))
            torch.testing.assert_close(ours[row, keep], alone[0], atol=TOLERANCE, rtol=0)
        else:
            close(ours[row], theirs[row], mask[row].numpy())


def test_chunks_with_a_cache_are_causal(recording):
    if not recording.has("chunk_correct_logits"):
        pytest.skip("not recorded")
    ids, sizes = recording.tensor("chunk_input_ids"), recording.arrays["chunk_sizes"].tolist()
    ours = stepwise(recording.model, ids, sizes)
    close(ours, recording.arrays["chunk_correct_logits"])
    # quirk Q5: the published code lets the tokens of a chunk see each other's future
    assert np.abs(ours.numpy() - recording.arrays["chunk_original_noncausal_logits"]).max() > 1


@pytest.mark.parametrize("case", ["below", "cross", "above"])
def test_greedy_generation(recording, case):
    if recording.half or not recording.has(f"gen_{case}_out"):
        pytest.skip("not recorded in fp32")
    arrays, model = recording.arrays, recording.model
    prompt = recording.tensor(f"gen_{case}_prompt")
    new = arrays[f"gen_{case}_out"].shape[1] - prompt.shape[1]
    settings: dict[str, Any] = {"max_new_tokens": new, "do_sample": False}
    runs: dict[str, dict[str, Any]] = {
        "out": {},
        "rep11_out": {"repetition_penalty": 1.1},
        "stop1_out": {"stop_words_ids": [arrays[f"gen_{case}_stop1_ids"].tolist()]},
        "stop2_out": {"stop_words_ids": [arrays[f"gen_{case}_stop2_ids"].tolist()]},
    }
    for key, options in runs.items():
        out = model.generate(prompt, **settings, **options)
        assert out.tolist() == arrays[f"gen_{case}_{key}"].tolist(), key
    static = model.generate(prompt, **settings, cache_implementation="static")
    assert static.tolist() == arrays[f"gen_{case}_out"].tolist()


def test_generation_ends_at_eos_and_pads(recording):
    if recording.half or not recording.has("gen_eos_out"):
        pytest.skip("not recorded in fp32")
    arrays, model = recording.arrays, recording.model
    eos = int(arrays["gen_eos_id"])
    out = model.generate(recording.tensor("gen_eos_prompt"), eos_token_id=eos, max_new_tokens=16, do_sample=False)
    assert out.tolist() == arrays["gen_eos_out"].tolist()
    prompt, mask = recording.tensor("genb_prompt"), recording.tensor("genb_mask")
    for extra in ({}, {"attention_mask": mask}, {"attention_mask": mask, "cache_implementation": "static"}):
        out = model.generate(
            prompt, pad_token_id=253, eos_token_id=250, max_new_tokens=12, do_sample=False, **extra
        )  # fmt: skip
        if model.config.use_logn_attn and prompt.shape[1] + 12 > model.config.training_length():
            for row in range(len(prompt)):  # quirk Q4: the row alone
                alone = model.generate(
                    prompt[row, mask[row].bool()][None], pad_token_id=253, max_new_tokens=12, do_sample=False
                )
                new = alone[0, int(mask[row].sum()) :]
                assert out[row, prompt.shape[1] :][: len(new)].tolist() == new.tolist()
        else:
            assert out.tolist() == arrays["genb_out"].tolist()
