"""Activations that wait elsewhere give the same gradients, and weights stay where they are."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor
from transformers import BertConfig, BertForSequenceClassification

from kft.models.offloading import offload_activations
from kft.models.quiet import without_deprecations


@pytest.fixture
def model() -> BertForSequenceClassification:
    torch.manual_seed(0)
    config = BertConfig(
        vocab_size=40, hidden_size=32, num_hidden_layers=2, num_attention_heads=2,
        intermediate_size=64, hidden_dropout_prob=0.0, attention_probs_dropout_prob=0.0,
    )  # fmt: skip
    return BertForSequenceClassification(config)


IDS = torch.arange(20).reshape(2, 10)


def gradients(model: BertForSequenceClassification) -> dict[str, Tensor]:
    model.zero_grad()
    model(input_ids=IDS).logits.logsumexp(-1).sum().backward()
    return {
        name: one.grad.clone() for name, one in model.named_parameters() if one.grad is not None
    }


@pytest.mark.parametrize("recomputes", [False, True])
def test_gradients_are_the_same_bits(
    model: BertForSequenceClassification, recomputes: bool
) -> None:
    if recomputes:
        with without_deprecations():
            model.gradient_checkpointing_enable({"use_reentrant": False})
        model.train()
    before = gradients(model)
    offload_activations(model)
    after = gradients(model)
    assert before.keys() == after.keys()
    assert all(torch.equal(before[name], after[name]) for name in before)


def test_activations_are_moved_and_weights_are_not(model: BertForSequenceClassification) -> None:
    offload_activations(model)
    layer = model.bert.encoder.layer[0].intermediate.dense
    seen: list[Tensor] = []
    layer.register_forward_hook(lambda _, inputs, output: seen.extend((inputs[0], output)))
    model(input_ids=IDS)
    node, kept = seen[1].grad_fn, dict[str, Tensor]()
    while node is not None and not kept:  # below a view of its result
        kept = {n: getattr(node, n) for n in ("_saved_mat1", "_saved_mat2") if hasattr(node, n)}
        node = node.next_functions[0][0]
    places = [one.data_ptr() for one in kept.values()]
    assert layer.weight.data_ptr() in places, "weights stay"
    assert seen[0].data_ptr() not in places, "activations don't"


def test_a_failed_forward_closes_the_hooks(model: BertForSequenceClassification) -> None:
    offload_activations(model)
    with pytest.raises(IndexError):
        model(input_ids=torch.full((1, 2), 99))
    x = torch.ones(1024, requires_grad=True)
    y = (x * x).sin()
    assert y.grad_fn is not None
    assert getattr(y.grad_fn, "_saved_self").data_ptr() != 0  # noqa: B009 -- no such attribute is declared
    product = x * x
    assert getattr(product.grad_fn, "_saved_self").data_ptr() == x.data_ptr()  # noqa: B009 -- likewise
