"""The learning rate as a function of the step, and which weights decay."""

from __future__ import annotations

import math

import pytest
import torch

from kft.recipe.train_section import TrainSection
from kft.train.optimizer import learning_rate_schedule, make_optimizer, set_learning_rate


def rates(total: int, **keys: object) -> list[float]:
    schedule = learning_rate_schedule(TrainSection(learning_rate=1.0, **keys), total)
    return [schedule(step) for step in range(1, total + 1)]


def test_cosine_by_hand() -> None:
    # 2 steps of warm-up, then cos from 1 towards 0, which step 6 would have.
    expected = [0.5, 1.0, *(0.5 * (1 + math.cos(math.pi * k / 4)) for k in (1, 2, 3))]
    assert rates(5, warmup_ratio=0.4) == pytest.approx(expected)


@pytest.mark.parametrize("kind", ["cosine", "linear", "constant"])
@pytest.mark.parametrize("total", [1, 2, 7])
@pytest.mark.parametrize("warmup", [0.0, 0.03, 0.9])
def test_every_step_has_a_rate_above_zero(kind: str, total: int, warmup: float) -> None:
    values = rates(total, warmup_ratio=warmup, lr_scheduler_type=kind)
    assert all(0 < value <= 1.0 for value in values)
    assert max(values) == pytest.approx(1.0)


def test_only_matrices_decay() -> None:
    layer = torch.nn.Linear(3, 2)
    optimizer = make_optimizer(layer, TrainSection(weight_decay=0.1, adam_beta2=0.95))
    decays = {
        parameter: group["weight_decay"]
        for group in optimizer.param_groups
        for parameter in group["params"]
    }
    assert decays == {layer.weight: 0.1, layer.bias: 0.0}
    assert optimizer.param_groups[0]["betas"] == (0.9, 0.95)
    set_learning_rate(optimizer, 0.5)
    assert {group["lr"] for group in optimizer.param_groups} == {0.5}


def test_frozen_weights_are_left_out() -> None:
    layer = torch.nn.Linear(3, 2)
    layer.weight.requires_grad_(False)
    optimizer = make_optimizer(layer, TrainSection())
    assert [p for g in optimizer.param_groups for p in g["params"]] == [layer.bias]


def test_the_8_bit_optimizer_steps() -> None:
    layer = torch.nn.Linear(64, 80)
    optimizer = make_optimizer(layer, TrainSection(optim="adamw_8bit"))
    before = layer.weight.detach().clone()
    layer(torch.ones(1, 64)).sum().backward()
    optimizer.step()
    assert not torch.equal(before, layer.weight)
