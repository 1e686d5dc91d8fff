"""Norms of each layer's gradient, by hand."""

from __future__ import annotations

import pytest
import torch
from torch import nn

from kft.train.layer_norms import LayerNorms


def weights(*values: float) -> nn.Parameter:
    one = nn.Parameter(torch.zeros(len(values)))
    one.grad = torch.tensor(values)
    return one


def test_norms_before_clipping_by_hand() -> None:
    first, second = weights(3.0, 4.0), weights(12.0)
    optimizer = torch.optim.SGD([first, second], lr=0.1)
    norms = LayerNorms(optimizer, {"h.0": [first], "h.1": [second], "frozen": []}, every=2)
    optimizer.step()
    assert norms.of(1, 13.0) == {}, "not a step that is looked at"
    whole = nn.utils.clip_grad_norm_([first, second], 1.0)
    optimizer.step()
    assert norms.of(2, float(whole)) == pytest.approx({"h.0": 5.0, "h.1": 12.0})


def test_a_step_that_was_not_taken_shows_nothing() -> None:
    only = weights(1.0)
    norms = LayerNorms(torch.optim.SGD([only], lr=0.1), {"h.0": [only]}, every=1, first_step=7)
    assert norms.of(7, 1.0) == {}
