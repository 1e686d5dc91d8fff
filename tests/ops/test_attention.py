"""Attention over documents against the same with a mask."""

from __future__ import annotations

from dataclasses import replace
from itertools import pairwise

import pytest
import torch
from torch.nn import functional

from kft.ops.attention import (
    Attention,
    Documents,
    attend_documents,
    attend_masked,
    flash_takes,
    visible,
)
from kft.ops.attention_slopes import LONGEST, attend_with_float32_slopes, slow_backward

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


def unequal_lengths(
    query: torch.Tensor, key: torch.Tensor, value: torch.Tensor,
    bounds: torch.Tensor, key_bounds: torch.Tensor, longest: int, longest_key: int,
    *, scale: float | None, window_size: tuple[int, int],
) -> torch.Tensor:  # fmt: skip
    """What torch says that ``varlen_attn`` does, sequence by sequence, where no GPU is."""
    assert bounds.dtype == torch.int32
    assert bounds.tolist() == key_bounds.tolist()
    assert longest == longest_key == int(bounds.diff().max())
    assert query.shape == key.shape == value.shape
    outputs = []
    for start, end in pairwise(bounds.tolist()):
        distance = torch.arange(end - start)[:, None] - torch.arange(end - start)
        left, right = window_size
        hidden = (distance > left) & (left >= 0) | (-distance > right) & (right >= 0)
        q, k, v = (one[start:end].transpose(0, 1) for one in (query, key, value))
        seen = functional.scaled_dot_product_attention(q, k, v, attn_mask=~hidden, scale=scale)
        outputs.append(seen.transpose(0, 1))
    return torch.cat(outputs)


@pytest.mark.parametrize("kind", KINDS.values(), ids=KINDS)
@pytest.mark.parametrize("key_heads", [4, 2])
def test_the_kernel_of_gpus_is_asked_for_the_same(
    kind: Attention, key_heads: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("torch.nn.attention.varlen.varlen_attn", unequal_lengths)
    monkeypatch.setattr("kft.ops.attention._has_varlen", lambda *_: True)
    generator = torch.Generator().manual_seed(5)
    tensors = [
        torch.randn((1, heads, 9, 8), generator=generator) for heads in (4, key_heads, key_heads)
    ]
    documents = Documents((5, 1, 3))
    fast = attend_documents(*tensors, documents, kind)
    torch.testing.assert_close(fast, attend_masked(*tensors, documents, kind))


@pytest.mark.parametrize(
    ("dtype", "width", "capability", "takes"),
    [
        (torch.bfloat16, 64, (9, 0), True),
        (torch.float16, 256, (8, 6), True),
        (torch.float16, 64, (7, 5), False),  # a T4
        (torch.float32, 64, (9, 0), False),
        (torch.bfloat16, 20, (9, 0), False),
        (torch.bfloat16, 288, (9, 0), False),
    ],
)
def test_which_heads_flash_attention_takes(
    dtype: torch.dtype, width: int, capability: tuple[int, int], takes: bool
) -> None:
    assert flash_takes(dtype, width, capability) is takes


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


@pytest.mark.parametrize("kind", KINDS.values(), ids=KINDS)
def test_nothing_sees_the_filling_and_it_sees_nothing(kind: Attention) -> None:
    tensors = list(torch.randn(3, 1, 2, 9, 4, generator=torch.Generator().manual_seed(1)))
    parts = [one[:, :, :6].requires_grad_() for one in tensors]
    alone = attend_documents(*parts, Documents((4, 2)), kind)
    wholes = [one.requires_grad_() for one in tensors]
    documents = Documents((4, 2), filling=3)
    together = attend_documents(*wholes, documents, kind)
    assert torch.equal(together[:, :6], alone)
    assert not together[:, 6:].any()
    together.sum().backward()
    assert all(one.grad is not None and not one.grad[:, :, 6:].any() for one in wholes)
    masked = attend_masked(*wholes, documents, kind)
    torch.testing.assert_close(masked[:, :6], alone)


@pytest.mark.parametrize("length", [1, 7, 40])
@pytest.mark.parametrize("is_causal", [True, False])
@pytest.mark.parametrize("scale", [None, 0.3])
def test_slopes_in_float32_are_nearer_to_the_truth(
    length: int, is_causal: bool, scale: float | None
) -> None:
    generator = torch.Generator().manual_seed(length)
    *exact, upstream = torch.randn(4, 2, 3, length, 16, generator=generator).bfloat16().double()
    for one in exact:
        one.requires_grad_()
    halves = [one.detach().bfloat16().requires_grad_() for one in exact]
    plain = [one.detach().requires_grad_() for one in halves]
    output = attend_with_float32_slopes(*halves, is_causal, scale)
    reference, truth = (
        functional.scaled_dot_product_attention(*some, is_causal=is_causal, scale=scale)
        for some in (plain, exact)
    )
    assert torch.equal(output, reference)
    errors = []
    for outcome, sources in ((output, halves), (reference, plain)):
        slopes = torch.autograd.grad(outcome, sources, upstream.bfloat16())
        assert all(slope.dtype == torch.bfloat16 for slope in slopes)
        truths = torch.autograd.grad(truth, exact, upstream, retain_graph=True)
        errors.append([float((a - b).norm()) for a, b in zip(slopes, truths, strict=True)])
        sizes = [float(slope.norm()) for slope in truths]
    for mine, theirs, size in zip(*errors, sizes, strict=True):
        assert mine <= max(1.1 * theirs, 1e-6)
        assert mine <= 4e-3 * size + 1e-6  # bfloat16 has eight bits


def test_which_backward_passes_are_slow() -> None:
    query = torch.zeros(1, 4, LONGEST, 8, dtype=torch.bfloat16)
    assert slow_backward(query, query, query, 0.0)
    assert not slow_backward(query, query, query, 0.1)
    whole = query.float()
    assert not slow_backward(whole, whole, whole, 0.0)
    assert not slow_backward(query, query, whole, 0.0)
    assert not slow_backward(query, query[:, :2], query[:, :2], 0.0)
    assert not slow_backward(query, query, query[..., :4], 0.0)
    turned = torch.zeros(1, 4, 8, LONGEST, dtype=torch.bfloat16).transpose(2, 3)
    assert not slow_backward(query, query, turned, 0.0)
    longer = torch.zeros(1, 4, LONGEST + 1, 8, dtype=torch.bfloat16)
    assert not slow_backward(longer, longer, longer, 0.0)
    with torch.no_grad():
        assert not slow_backward(query, query, query, 0.0)


@pytest.mark.parametrize("kind", KINDS.values(), ids=KINDS)
@pytest.mark.parametrize("documents", DOCUMENTS.values(), ids=DOCUMENTS)
def test_in_bfloat16_documents_say_and_teach_the_same(
    documents: Documents, kind: Attention
) -> None:
    generator = torch.Generator().manual_seed(5)
    width = sum(documents.lengths) + 2
    documents = replace(documents, filling=2)
    exact = [
        one.bfloat16().double().requires_grad_()
        for one in torch.randn(3, 1, 4, width, 16, generator=generator)
    ]
    halves = [one.detach().bfloat16().requires_grad_() for one in exact]
    upstream = torch.randn(1, width, 4, 16, generator=generator)
    upstream[:, -2:] = 0.0  # nobody asks what the filling says
    fast, plain = (
        attend(*some, documents, kind)
        for attend, some in ((attend_documents, halves), (attend_masked, exact))
    )
    real = slice(0, width - 2)
    torch.testing.assert_close(fast[:, real].double(), plain[:, real], rtol=2e-2, atol=2e-2)
    for one, other in zip(
        torch.autograd.grad(fast, halves, upstream.bfloat16()),
        torch.autograd.grad(plain, exact, upstream.bfloat16().double()),
        strict=True,
    ):
        assert float((one - other).norm()) <= 1e-2 * float(other.norm())


def test_queries_in_float32_are_attended_with_as_autocast_says() -> None:
    query, key = torch.randn(2, 1, 2, 6, 4, generator=torch.Generator().manual_seed(0))
    value = torch.randn(1, 2, 6, 4).bfloat16()
    documents = Documents((3, 2), filling=1)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        output = attend_documents(query, key, value, documents, Attention(True))
    assert output.dtype == torch.bfloat16
    expected = attend_documents(query.bfloat16(), key.bfloat16(), value, documents, Attention(True))
    assert torch.equal(output, expected)
