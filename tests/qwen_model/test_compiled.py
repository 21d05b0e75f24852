"""What torch.compile makes of parts of a decoding step gives the numbers of the plain functions. Heavy: it compiles."""

from typing import Any

from qwen_model import fused
from qwen_model.gptq import GPTQLinear, packing_of
from qwen_model.gptq_backends import CompiledProduct

import pytest
import torch

pytestmark = pytest.mark.heavy


@pytest.mark.parametrize("rows", [1, 4])
def test_what_stands_between_the_products(rows: int) -> None:
    generator = torch.Generator().manual_seed(rows)

    def drawn(*shape: int) -> torch.Tensor:
        return torch.randn(shape, generator=generator).bfloat16()

    hidden, step, weight = drawn(rows, 64), drawn(rows, 64), drawn(64)
    x, cos, sin = drawn(rows, 2, 4, 16), drawn(rows, 1, 1, 16).float(), drawn(rows, 1, 1, 16).float()
    made = fused.fused()
    for given in ((hidden, step, weight, 1e-6), (hidden, None, weight, 1e-6)):
        for found, wanted in zip(made.add_norm(*given), fused.add_norm(*given), strict=True):
            torch.testing.assert_close(found, wanted, atol=0.02, rtol=0.01)
    torch.testing.assert_close(made.turn(x, cos, sin), fused.turn(x, cos, sin), atol=0.02, rtol=0.01)
    torch.testing.assert_close(made.gate(hidden, step), fused.gate(hidden, step), atol=0.02, rtol=0.01)


def test_a_function_that_cannot_be_compiled_runs_as_it_is() -> None:
    def reads_a_number(x: torch.Tensor) -> torch.Tensor:
        torch._dynamo.graph_break()
        return x + 1

    call = fused.compiled(reads_a_number)
    assert [call(torch.ones(1)).item(), call(torch.ones(1)).item()] == [2.0, 2.0]


def test_more_shapes_than_torch_compiles_for_run_as_they_are(capfd: Any, caplog: Any) -> None:
    def widths(x: torch.Tensor, by: int) -> torch.Tensor:
        return x * by

    call = fused.compiled(widths, dynamic=False)
    for by in range(2, 14):
        assert call(torch.ones(by), by).tolist() == [by] * by
    assert "recompile_limit" not in capfd.readouterr().err + caplog.text


@pytest.mark.parametrize("bits", [4, 8])
@pytest.mark.parametrize("group", [32, -1])
def test_a_packed_weight_times_one_row(bits: int, group: int) -> None:
    layer = packed(bits, group)
    x = torch.randn(1, 1, 64, generator=torch.Generator().manual_seed(0))
    product = CompiledProduct(layer)
    torch.testing.assert_close(product(x), layer(x), atol=1e-5, rtol=1e-5)
    layer.few_rows = product
    torch.testing.assert_close(layer(x), product(x))
    assert torch.equal(layer(x.expand(2, 1, 64))[:1], packed(bits, group)(x.expand(2, 1, 64))[:1])


def test_groups_out_of_order_have_no_compiled_product() -> None:
    layer = packed(4, 32)
    layer.g_idx = layer.g_idx.flip(0)
    with pytest.raises(ValueError, match="not in order"):
        CompiledProduct(layer)


def packed(bits: int, group: int) -> Any:
    layer = GPTQLinear(64, 48, packing_of({"bits": bits, "group_size": group}), bias=False)
    generator = torch.Generator().manual_seed(bits)
    layer.qweight.random_(-(2**31), 2**31, generator=generator)
    layer.qzeros.random_(-(2**31), 2**31, generator=generator)
    layer.scales.uniform_(0.01, 0.02, generator=generator)
    return layer
