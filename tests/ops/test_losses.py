"""Losses against numbers worked out by hand and against transformers' own."""

from __future__ import annotations

import math

import pytest
import torch
from transformers.loss.loss_utils import ForCausalLMLoss

from kft.ops.losses import next_token_loss, next_token_targets, token_log_probs


def test_one_target_by_hand() -> None:
    # Position 0 sees logits (1, 3) and has to say token 0: -log(e / (e + e^3)) = log(1 + e^2).
    logits = torch.tensor([[[1.0, 3.0], [9.0, -9.0]]])
    loss = next_token_loss(logits, torch.tensor([[-100, 0]]))
    assert loss.total.item() == pytest.approx(math.log(1 + math.e**2), abs=1e-6)
    assert loss.count.item() == 1


def test_the_first_label_and_the_last_position_count_for_nothing() -> None:
    positions, targets = next_token_targets(torch.tensor([[5, -100, 7], [-100, -100, -100]]))
    assert positions.tolist() == [1]
    assert targets.tolist() == [7]


@pytest.mark.parametrize("seed", range(3))
def test_it_is_transformers_loss_forwards_and_backwards(seed: int) -> None:
    generator = torch.Generator().manual_seed(seed)
    logits = torch.randn(3, 7, 11, generator=generator, requires_grad=True)
    labels = torch.randint(0, 11, (3, 7), generator=generator)
    labels[torch.rand(3, 7, generator=generator) < 0.4] = -100
    ours = next_token_loss(logits, labels)
    (gradient,) = torch.autograd.grad(ours.total, logits)
    theirs = ForCausalLMLoss(logits, labels, vocab_size=11) * ours.count
    (expected,) = torch.autograd.grad(theirs, logits)
    torch.testing.assert_close(ours.total, theirs, atol=1e-5, rtol=1e-6)
    torch.testing.assert_close(gradient, expected, atol=1e-6, rtol=1e-6)


def test_without_a_target_loss_and_gradient_are_zero() -> None:
    logits = torch.randn(1, 4, 5, requires_grad=True)
    loss = next_token_loss(logits, torch.full((1, 4), -100))
    loss.total.backward()
    assert loss.total.item() == 0.0
    assert loss.count.item() == 0
    assert logits.grad is not None
    assert logits.grad.abs().max().item() == 0.0


def test_half_precision_is_summed_in_float32() -> None:
    logits = torch.zeros(4096, 8, dtype=torch.bfloat16)
    log_probs = token_log_probs(logits, torch.zeros(4096, dtype=torch.int64))
    assert log_probs.dtype == torch.float32
    # In bfloat16 the sum would stop growing at 256.
    assert -log_probs.sum().item() == pytest.approx(4096 * math.log(8), rel=1e-5)


def test_shapes_that_differ_are_refused() -> None:
    with pytest.raises(ValueError, match="differ"):
        next_token_loss(torch.zeros(1, 3, 2), torch.zeros(1, 2, dtype=torch.int64))
