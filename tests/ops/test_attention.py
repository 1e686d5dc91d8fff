"""Attention over documents against the same with a mask."""

from __future__ import annotations

import pytest
import torch
from torch.nn import functional

from kft.ops.attention import Attention, Documents, attend_documents, attend_masked, visible

DOCUMENTS = {
    "one": Documents((7,)),
    "unequal": Documents((5, 1, 3)),
    "equal ones side by side": Documents((4, 4, 4, 2)),
    "prompts": Documents((5, 5, 3, 1), (2, 2, 3, 0)),
    "no prompts": Documents((4, 2), (0, 1)),
}
KINDS = {
    "causal": Attention(True),
    "both ways": Attention(False),
    "scaled": Attention(True, scale=0.3),
    "window": Attention(True, window=2),
}


@pytest.mark.parametrize("kind", KINDS.values(), ids=KINDS)
@pytest.mark.parametrize("documents", DOCUMENTS.values(), ids=DOCUMENTS)
@pytest.mark.parametrize("key_heads", [4, 2])
def test_it_is_attention_with_a_mask(documents: Documents, kind: Attention, key_heads: int) -> None:
    generator = torch.Generator().manual_seed(3)
    width = sum(documents.lengths)
    shapes = [(1, heads, width, 8) for heads in (4, key_heads, key_heads)]
    tensors = [
        torch.randn(shape, generator=generator, dtype=torch.float64, requires_grad=True)
        for shape in shapes
    ]
    upstream = torch.randn((1, width, 4, 8), generator=generator, dtype=torch.float64)
    fast = attend_documents(*tensors, documents, kind)
    plain = attend_masked(*tensors, documents, kind)
    torch.testing.assert_close(fast, plain, atol=1e-12, rtol=1e-10)
    for one, other in zip(
        torch.autograd.grad(fast, tensors, upstream),
        torch.autograd.grad(plain, tensors, upstream),
        strict=True,
    ):
        torch.testing.assert_close(one, other, atol=1e-12, rtol=1e-10)


def test_a_document_is_what_it_is_alone() -> None:
    query, key, value = torch.randn(3, 1, 2, 6, 4, generator=torch.Generator().manual_seed(0))
    both = attend_documents(query, key, value, Documents((4, 2)), Attention(True))
    scores = query[0, :, 4:] @ key[0, :, 4:].transpose(1, 2) / 2.0  # sqrt of 4
    scores = scores.masked_fill(~torch.ones(2, 2, dtype=torch.bool).tril(), -torch.inf)
    alone = functional.softmax(scores, dim=-1) @ value[0, :, 4:]
    torch.testing.assert_close(both[0, 4:], alone.transpose(0, 1))


def test_what_sees_what_with_prompts_and_windows() -> None:
    cpu = torch.device("cpu")
    prompt = visible(Documents((3, 1), (2, 0)), cpu, is_causal=True)
    assert prompt.int().tolist() == [[1, 1, 0, 0], [1, 1, 0, 0], [1, 1, 1, 0], [0, 0, 0, 1]]
    window = visible(Documents((3,)), cpu, is_causal=True, window=2)
    assert window.int().tolist() == [[1, 0, 0], [1, 1, 0], [0, 1, 1]]


def test_documents_that_are_not_the_row_are_refused() -> None:
    row = torch.zeros(1, 1, 5, 2)
    with pytest.raises(ValueError, match="documents of 4 tokens in a row of 5"):
        attend_documents(row, row, row, Documents((4,)), Attention(True))
