"""Attention in two parts equals one softmax over all keys; the kernels' log-sum-exps equal the formula's."""

from qwen_eval.engines.local import attention

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st


def one_softmax(query, key, value, scale, own: int) -> torch.Tensor:
    """Plain attention; the last `own` keys are causal with the queries, the ones before are seen by all."""
    scores = query.double() @ key.double().transpose(2, 3) * scale
    future = torch.zeros(query.shape[2], key.shape[2], dtype=torch.bool)
    future[:, key.shape[2] - own :] = torch.ones(query.shape[2], own, dtype=torch.bool).triu(1)
    return torch.softmax(scores.masked_fill(future, float("-inf")), -1) @ value.double()


@settings(max_examples=40)
@given(
    seed=st.integers(0, 2**31),
    rows=st.integers(1, 4),
    kv_heads=st.sampled_from([1, 2]),
    groups=st.sampled_from([1, 3]),
    prefix=st.integers(1, 20),
    own=st.integers(1, 9),
    size=st.sampled_from([0.1, 1.0, 30.0]),
)
def test_prefix_and_own_tokens_merge_to_one_softmax(seed, rows, kv_heads, groups, prefix, own, size) -> None:
    torch.manual_seed(seed)
    dim, heads = 8, kv_heads * groups
    query = torch.randn(rows, heads, own, dim) * size
    first = [torch.randn(1, kv_heads, prefix, dim) for _ in range(2)]
    second = [torch.randn(rows, kv_heads, own, dim) for _ in range(2)]
    scale = dim**-0.5

    a, a_lse = attention._over_prefix(query, *first, scale)
    b, b_lse = attention._plain(query, *(part.repeat_interleave(groups, 1) for part in second), scale, True)
    got = attention.merge(a, a_lse, b, b_lse)

    both = [
        torch.cat([f.expand(rows, -1, -1, -1), s], 2).repeat_interleave(groups, 1)
        for f, s in zip(first, second, strict=True)
    ]
    assert torch.allclose(got.double(), one_softmax(query, *both, scale, own), atol=2e-5)


def test_merge_does_not_overflow() -> None:
    a, b = torch.zeros(1, 1, 1, 2), torch.ones(1, 1, 1, 2)
    huge, small = torch.full((1, 1, 1), 5000.0), torch.full((1, 1, 1), -5000.0)
    assert torch.equal(attention.merge(a, huge, b, small), a)
    assert torch.equal(attention.merge(a, small, b, huge), b)
    assert torch.equal(attention.merge(a, huge, b, huge), (a + b) / 2)


@pytest.mark.parametrize("causal", [True, False])
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_the_fused_kernel_gives_the_formulas_log_sum_exp(causal: bool, dtype: torch.dtype) -> None:
    torch.manual_seed(1)
    query, key, value = (torch.randn(2, 3, 17, 16).to(dtype) for _ in range(3))
    out, lse = attention.with_lse(query, key, value, 0.25, causal)
    want, want_lse = attention._plain(query, key, value, 0.25, causal)
    loose = 2e-2 if dtype == torch.bfloat16 else 1e-5
    assert lse.dtype == torch.float32
    assert torch.allclose(lse, want_lse, atol=loose)
    assert torch.allclose(out.float(), want.float(), atol=loose)
