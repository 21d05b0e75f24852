"""NTK factor, rotary tables and LogN factors against the formulas, and the rotation against complex numbers."""

import math

from qwen_model.rope import cos_sin, inverse_frequencies, logn_factors, ntk_alpha, rotate

import numpy as np
import pytest
import torch


@pytest.mark.parametrize("training_length", [32, 2048, 8192])
def test_alpha_steps_have_inclusive_right_bounds(training_length):
    s = training_length
    for length, alpha in [
        (0, 1), (1, 1), (s, 1), (s + 1, 3), (2 * s, 3), (2 * s + 1, 7), (4 * s, 7), (4 * s + 1, 15), (8 * s, 15),
    ]:  # fmt: skip
        assert ntk_alpha(length, s) == alpha


@pytest.mark.parametrize("dim, base", [(128, 10000), (16, 1e6), (8, 10000.0)])
def test_inverse_frequencies(dim, base):
    alphas = [1.0, 3.0, 15.0]
    exact = [[(base * a ** (dim / (dim - 2))) ** (-2 * i / dim) for i in range(dim // 2)] for a in alphas]
    table = inverse_frequencies(alphas, dim, base)
    assert table.dtype == torch.float32
    np.testing.assert_allclose(table.numpy(), exact, rtol=1e-6)


def test_tables_far_out():
    positions = torch.tensor([[0, 1, 2047, 32767]])
    inv_freq = inverse_frequencies([1.0], 128, 10000)
    cos, sin = cos_sin(positions, inv_freq)
    exact = np.array([0, 1, 2047, 32767])[:, None] * 10000.0 ** (-2 * np.arange(64) / 128)
    for table, function in ((cos, np.cos), (sin, np.sin)):
        np.testing.assert_allclose(table[0, :2], function(exact[:2]), atol=1e-6)
        np.testing.assert_allclose(table[0], function(exact), atol=2e-3)


def test_logn_has_no_upper_limit_and_is_rounded_to_the_dtype():
    positions = torch.tensor([0, 2046, 2047, 2048, 40000])
    exact = [1, 1, 1, math.log(2049) / math.log(2048), math.log(40001) / math.log(2048)]
    np.testing.assert_allclose(logn_factors(positions, 2048, torch.float32), exact, rtol=1e-6)
    low = logn_factors(positions, 2048, torch.bfloat16)
    assert low.dtype == torch.bfloat16
    assert torch.equal(low, torch.tensor(exact, dtype=torch.float32).bfloat16())


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
@pytest.mark.parametrize("rotary_dim", [16, 8])
def test_rotation_is_complex_multiplication_and_the_rest_passes(dtype, rotary_dim):
    torch.manual_seed(0)
    x = torch.randn(2, 5, 16).to(dtype)
    angles = torch.randn(2, 5, rotary_dim // 2)
    with torch.no_grad():
        out = rotate(x, angles.cos(), angles.sin())
    half = rotary_dim // 2
    turned = torch.complex(x[..., :half].float(), x[..., half:rotary_dim].float()) * torch.exp(1j * angles)
    expected = torch.cat([turned.real, turned.imag, x[..., rotary_dim:].float()], -1)
    assert out.dtype == dtype
    torch.testing.assert_close(
        out.float(), expected.to(dtype).float(), atol=1e-6 if dtype == torch.float32 else 2e-2, rtol=0
    )
    with_grad = rotate(x.requires_grad_(), angles.cos(), angles.sin())
    assert torch.equal(with_grad, out)
