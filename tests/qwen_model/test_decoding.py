"""A decoding step by the weights says what the modules say, for every number of rows, dtype and kind of layer."""

from typing import Any

from qwen_model import LongContext, QWenConfig, QWenLMHeadModel
from qwen_model.decoding import DecodingStep, decoding_step
from qwen_model.gptq import GPTQLinear, pack_layers, packing_of
from qwen_model.layers import eager_attention

import pytest
import torch
from torch import nn

SETTINGS = {
    "vocab_size": 160,
    "hidden_size": 64,
    "num_hidden_layers": 3,
    "num_attention_heads": 4,
    "kv_channels": 16,
    "intermediate_size": 128,
    "seq_length": 16,
    "fp32": True,
}
PAST = 20  # tokens before the step: beyond the training length
# In parts of the logits' spread, at the worst and in the mean: bf16 rounds to 2^-9, at other places in either way.
TOLERANCE = {torch.float32: (1e-5, 1e-6), torch.bfloat16: (0.25, 0.03)}


def model_of(dtype: torch.dtype = torch.float32, **changes: Any) -> Any:
    torch.manual_seed(0)
    model = QWenLMHeadModel(QWenConfig(**{**SETTINGS, **changes}))
    for parameter in model.parameters():
        parameter.data.normal_(0.0, 0.15).add_(1.0 if parameter.dim() == 1 and len(parameter) == 64 else 0.0)
    return model.eval().to(dtype)


@torch.inference_mode()
def both(model: Any, rows: int, packed: bool = False, free: float = 1e12) -> tuple[torch.Tensor, torch.Tensor]:
    """Logits of the last tokens: by the model's forward with its own cache, and by a decoding step on the same keys."""
    ids = torch.randint(6, 160, (rows, PAST + 1), generator=torch.Generator().manual_seed(rows))
    first = model(ids[:, :-1], use_cache=True)
    alpha, kept = first.past_key_values.ntk_alpha, [(x.keys, x.values) for x in first.past_key_values.layers]

    def attend(layer: int, query: torch.Tensor, key: torch.Tensor, value: torch.Tensor) -> torch.Tensor:
        keys, values = torch.cat((kept[layer][0], key), 2), torch.cat((kept[layer][1], value), 2)
        attn = model.transformer.h[layer].attn
        return eager_attention(attn, query, keys, values, None, attn.scaling)[0].flatten(1)

    step = decoding_step(model, rows, lambda: free)
    assert isinstance(step, DecodingStep)
    hidden = step(ids[:, -1], torch.full((rows,), PAST), alpha, model.long_context, attend)
    wanted = model(ids[:, -1:], past_key_values=first.past_key_values).logits[:, -1]
    return step.head(hidden), wanted


@pytest.mark.parametrize("rows", [1, 2, 3, 8, 40, 70])
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
@pytest.mark.parametrize(
    "changes",
    [{}, {"no_bias": False}, {"rotary_pct": 0.5}, {"use_dynamic_ntk": False, "use_logn_attn": False}],
    ids=["as published", "biases everywhere", "half of a head rotated", "no long context"],
)
@pytest.mark.parametrize("free", [0.0, 1e12], ids=["no memory to pack", "packed"])
def test_logits_are_the_modules(rows: int, dtype: torch.dtype, changes: dict[str, Any], free: float) -> None:
    found, wanted = both(model_of(dtype, **changes), rows, free=free)
    spread = wanted.float().std()
    error = (found.float() - wanted.float()).abs() / spread
    assert error.max() < TOLERANCE[dtype][0] and error.mean() < TOLERANCE[dtype][1]
    assert spread > 0.1


def test_packed_copies_are_made_only_where_they_pay_and_fit() -> None:
    def packed(model: Any, rows: int, free: float) -> bool:
        step = decoding_step(model, rows, lambda: free)
        assert step is not None
        return step.head.packed is not None

    model = model_of()
    size = sum(parameter.nbytes for parameter in model.parameters())
    assert packed(model, 8, 4.0 * size) == torch.backends.mkldnn.is_available()
    assert not packed(model, 8, 4.0 * size - 1) and not packed(model, 1, 1e12)
    assert not packed(model.bfloat16(), 8, 1e12)


def test_windows_and_factors_of_a_layer_are_the_modules() -> None:
    model = model_of()
    model.long_context = LongContext(True, True, (32, 64, None))
    found, wanted = both(model, 2)
    torch.testing.assert_close(found, wanted, atol=1e-5, rtol=1e-5)


@pytest.mark.parametrize("rows", [1, 3])
def test_packed_gptq_layers_run_as_modules(rows: int) -> None:
    model = model_of()
    pack_layers(model.transformer.h, packing_of({"bits": 4, "group_size": 32}))
    generator = torch.Generator().manual_seed(1)
    for module in model.modules():
        if isinstance(module, GPTQLinear):
            module.qweight.random_(-(2**31), 2**31, generator=generator)
            module.scales.fill_(0.01)
    found, wanted = both(model, rows)
    torch.testing.assert_close(found, wanted, atol=1e-5, rtol=1e-5)


def test_a_linear_layer_with_a_hook_is_called() -> None:
    model, called = model_of(), []
    model.transformer.h[1].mlp.w1.register_forward_hook(lambda *_: called.append(1))
    found, wanted = both(model, 1)
    torch.testing.assert_close(found, wanted, atol=1e-5, rtol=1e-5)
    assert len(called) == 3  # the prefill, the step, the modules' step


@pytest.mark.parametrize(
    "spoil",
    [
        lambda model: model.transformer.h[0].register_forward_hook(lambda *_: None),
        lambda model: model.transformer.h[0].mlp.register_forward_pre_hook(lambda *_: None),
        lambda model: model.train(),
        lambda model: model.config.__setattr__("model_type", "other"),
        lambda model: setattr(model.transformer.h[0].attn, "c_proj", nn.Linear(64, 64, device="meta")),
    ],
    ids=["a hook of a block", "a hook of an MLP", "training", "another architecture", "two devices"],
)
def test_a_model_that_its_modules_must_run_has_no_step(spoil: Any) -> None:
    model = model_of()
    spoil(model)
    assert decoding_step(model, 1, lambda: 1e12) is None
