"""Compiled blocks say the same, and a new length of the rows compiles nothing anew."""

from __future__ import annotations

import pytest
import torch
from torch._dynamo.testing import CompileCounterWithBackend
from transformers import AttentionInterface, GPT2Config, GPT2LMHeadModel

from kft.models.attention import document_attention, use_document_attention
from kft.models.compiled import compile_blocks
from kft.models.logits import logits_from
from kft.ops.attention import NAME, Documents


def small_gpt(num_layers: int) -> GPT2LMHeadModel:
    torch.manual_seed(0)
    config = GPT2Config(
        vocab_size=60, n_embd=32, n_layer=num_layers, n_head=2, n_positions=64, bos_token_id=0,
        eos_token_id=0, resid_pdrop=0.0, attn_pdrop=0.0, embd_pdrop=0.0,
    )  # fmt: skip
    model = GPT2LMHeadModel(config)
    assert use_document_attention(model)
    return model


@pytest.fixture
def model() -> GPT2LMHeadModel:
    return small_gpt(3)


def logits(model: GPT2LMHeadModel, lengths: tuple[int, ...]) -> torch.Tensor:
    total = sum(lengths)
    positions = torch.cat([torch.arange(length) for length in lengths])[None]
    ids = (torch.arange(total) * 7 % 60)[None]
    found: torch.Tensor = model(
        input_ids=ids, position_ids=positions, documents=Documents(lengths), use_cache=False
    ).logits
    return found


@pytest.mark.slow
def test_the_same_logits_and_no_recompilation(model: GPT2LMHeadModel) -> None:
    shapes = [(9, 4), (12,), (7, 7, 3), (5, 5, 5, 5), (16, 2), (10,)]
    before = [logits(model, one).detach() for one in shapes]
    names = list(model.state_dict())
    counter = CompileCounterWithBackend("aot_eager")
    try:
        assert compile_blocks(model, backend=counter) == 3
        after = [logits(model, one) for one in shapes[:2]]
        compiled = counter.frame_count
        after += [logits(model, one) for one in shapes[2:]]
    finally:
        AttentionInterface.register(NAME, document_attention)
    assert compiled > 0
    assert counter.frame_count == compiled, "a length that was not seen before compiles again"
    assert list(model.state_dict()) == names
    for one, other in zip(before, after, strict=True):
        torch.testing.assert_close(one, other, atol=1e-5, rtol=1e-5)


@pytest.mark.slow
def test_asking_for_the_way_of_the_logits_compiles_no_block_for_itself() -> None:
    counts = []
    for num_layers in (3, 6):
        torch._dynamo.reset()
        counter = CompileCounterWithBackend("aot_eager")
        model = small_gpt(num_layers)
        try:
            compile_blocks(model, backend=counter)
            assert logits_from(model) == "hidden"
        finally:
            AttentionInterface.register(NAME, document_attention)
        counts.append(counter.frame_count)
    assert counts[0] == counts[1] > 0
