"""The head and its loss in chunks against the same at once."""

from __future__ import annotations

import weakref
from typing import Any

import pytest
import torch
from torch.nn import functional

from kft.ops import head_loss
from kft.ops.head_loss import linear_cross_entropy_sum, linear_log_probs
from kft.ops.losses import cross_entropy_sum, token_log_probs


def tensors(rows: int, dtype: torch.dtype = torch.float32) -> list[Any]:
    generator = torch.Generator().manual_seed(rows)
    shapes = ((rows, 6), (11, 6), (11,))
    made = [torch.randn(shape, generator=generator).to(dtype) for shape in shapes]
    return [*made, torch.randint(0, 11, (rows,), generator=generator)]


@pytest.mark.parametrize("with_bias", [True, False])
@pytest.mark.parametrize("frozen", [True, False])
@pytest.mark.parametrize("rows", [0, 1, 16, 53])
def test_loss_and_gradients_are_those_of_the_plain_way(
    rows: int, frozen: bool, with_bias: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(head_loss, "CHUNK_BYTES", 16 * 11 * 4)  # sixteen rows at a time
    hidden, weight, bias, targets = tensors(rows)
    bias = bias if with_bias else None
    trained = [hidden] if frozen else [one for one in (hidden, weight, bias) if one is not None]
    for one in trained:
        one.requires_grad_()
    fast = linear_cross_entropy_sum(hidden, weight, bias, targets)
    plain = cross_entropy_sum(functional.linear(hidden, weight, bias), targets)
    torch.testing.assert_close(fast, plain)
    for one, other in zip(
        torch.autograd.grad(2.5 * fast, trained),
        torch.autograd.grad(2.5 * plain, trained),
        strict=True,
    ):
        torch.testing.assert_close(one, other)
    log_probs = linear_log_probs(hidden, weight, bias, targets)
    expected = token_log_probs(functional.linear(hidden, weight, bias), targets).detach()
    torch.testing.assert_close(log_probs, expected)


def test_a_number_worked_out_by_hand() -> None:
    hidden = torch.tensor([[1.0, 0.0]], requires_grad=True)
    weight = torch.tensor([[2.0, 0.0], [0.0, 2.0]])  # logits 2 and 0
    loss = linear_cross_entropy_sum(hidden, weight, None, torch.tensor([0]))
    assert loss.item() == pytest.approx(0.126928, abs=1e-6)  # log(e^2 + 1) - 2
    loss.backward()
    # softmax - target = (-0.119203, 0.119203), times the rows of the weight
    assert hidden.grad is not None
    assert hidden.grad[0].tolist() == pytest.approx([-0.238406, 0.238406], abs=1e-6)


def test_under_autocast_the_gradient_comes_back_in_the_precision_it_went_in() -> None:
    hidden, weight, _, targets = tensors(20)
    hidden.requires_grad_()
    with torch.autocast("cpu", dtype=torch.bfloat16):
        loss = linear_cross_entropy_sum(hidden, weight, None, targets)
    loss.backward()
    plain = cross_entropy_sum(hidden.detach() @ weight.T, targets)
    assert loss.dtype == torch.float32
    assert hidden.grad is not None
    assert hidden.grad.dtype == torch.float32
    torch.testing.assert_close(loss, plain, rtol=2e-2, atol=0.1)


@pytest.mark.parametrize("most", [18, 64])
@pytest.mark.parametrize("rows", [1, 64, 90])
def test_rows_that_fill_up_a_chunk_count_for_nothing(
    rows: int, most: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(head_loss, "CHUNK_BYTES", most * 11 * 4)
    monkeypatch.setattr(head_loss, "BLOCK_BYTES", 5 * 11 * 4)
    hidden, weight, bias, targets = tensors(rows, torch.bfloat16)
    trained = [one.requires_grad_() for one in (hidden, weight, bias)]
    fast = linear_cross_entropy_sum(hidden, weight, bias, targets)
    exact = [one.detach().double().requires_grad_() for one in trained]
    logits = functional.linear(*exact)
    plain = functional.cross_entropy(logits, targets, reduction="sum")
    torch.testing.assert_close(fast, plain.float(), rtol=1e-2, atol=2e-2)
    for one, other in zip(
        torch.autograd.grad(fast, trained), torch.autograd.grad(plain, exact), strict=True
    ):
        torch.testing.assert_close(one.double(), other, rtol=3e-2, atol=0.1)
    log_probs = linear_log_probs(hidden, weight, bias, targets)
    assert log_probs.shape == targets.shape
    torch.testing.assert_close(-log_probs.sum(), plain.float(), rtol=1e-2, atol=2e-2)


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_one_chunk_is_there_at_a_time(dtype: torch.dtype, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(head_loss, "CHUNK_BYTES", 16 * 11 * 4)
    hidden, weight, bias, targets = tensors(50, dtype)
    hidden.requires_grad_()
    made: list[weakref.ref[torch.Tensor]] = []
    plain = functional.linear

    def linear(*some: torch.Tensor) -> torch.Tensor:
        assert all(one() is None for one in made)
        logits = plain(*some)
        made.append(weakref.ref(logits))
        return logits

    monkeypatch.setattr(head_loss.functional, "linear", linear)
    linear_cross_entropy_sum(hidden, weight, bias, targets)
    linear_log_probs(hidden, weight, bias, targets)
    assert len(made) == 2 * 4
