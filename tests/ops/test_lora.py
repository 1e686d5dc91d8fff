"""The low-rank update inside the matrix products against the equation as it is written."""

from __future__ import annotations

import pytest
import torch

from kft.ops.lora import lora_linear, lora_product, plain_lora_linear


@pytest.mark.parametrize("wants_x", [True, False])
@pytest.mark.parametrize("with_bias", [True, False])
def test_output_and_gradients_are_those_of_the_plain_way(with_bias: bool, wants_x: bool) -> None:
    generator = torch.Generator().manual_seed(1)
    x, weight, bias, down, up = (
        torch.randn(shape, generator=generator, dtype=torch.float64)
        for shape in ((2, 3, 5), (5, 7), (7,), (2, 5), (7, 2))
    )
    upstream = torch.randn((2, 3, 7), generator=generator, dtype=torch.float64)
    trained = [x, down, up] if wants_x else [down, up]
    for one in trained:
        one.requires_grad_()
    arguments = (x, weight, bias if with_bias else None, down, up, 1.5)
    fast, plain = lora_linear(*arguments), plain_lora_linear(*arguments)
    torch.testing.assert_close(fast, plain)
    frozen = bias if with_bias else 0.0
    added = lora_product(x, lambda rows: rows @ weight + frozen, lambda: weight.T, down, up, 1.5)
    torch.testing.assert_close(added, plain)
    expected = torch.autograd.grad(plain, trained, upstream)
    for way in (fast, added):
        for one, other in zip(torch.autograd.grad(way, trained, upstream), expected, strict=True):
            torch.testing.assert_close(one, other)


def test_a_number_worked_out_by_hand() -> None:
    x = torch.tensor([[1.0, 2.0]])
    weight = torch.tensor([[1.0], [10.0]])
    down, up = torch.tensor([[3.0, 4.0]]), torch.tensor([[0.5]])
    # 1*1 + 2*10 = 21; the update (1*3 + 2*4) * 0.5 * 2 = 11
    assert lora_linear(x, weight, None, down, up, 2.0).item() == 32.0


def test_under_autocast_it_computes_in_half_and_trains_in_full_precision() -> None:
    x, weight = torch.randn(4, 5), torch.randn(5, 7)
    down, up = torch.randn(2, 5, requires_grad=True), torch.randn(7, 2, requires_grad=True)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        out = lora_linear(x, weight, None, down, up, 1.0)
    assert out.dtype == torch.bfloat16
    out.float().sum().backward()
    assert down.grad is not None
    assert down.grad.dtype == torch.float32
    plain = plain_lora_linear(x, weight, None, down, up, 1.0)
    torch.testing.assert_close(out.float(), plain, rtol=5e-2, atol=0.3)
