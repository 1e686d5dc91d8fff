"""Attention over documents that stand in one row without padding: none of them sees another.

Shapes: H heads, T tokens of the row, E width of a head, S documents.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field
from itertools import accumulate, groupby
from typing import Any, NamedTuple

import torch
from torch import Tensor
from torch.nn import functional

from kft.ops.attention_slopes import attend_with_float32_slopes, slow_backward
from kft.ops.autocast import computed_dtype

NAME = "kft_documents"
"""Under which transformers knows this attention (``attn_implementation``)."""


@dataclass(frozen=True)
class Documents:
    """Several documents in one row, one after another; none of them sees another.

    Args:
        lengths: Tokens of each, S of them; with the filling the row's T.
        prompt_lengths: Tokens of each that see each other in both directions (prefix
            attention); ``None``: the model's own kind of attention within each document.
        filling: Tokens behind the last one that belong to none and see nothing.
    """

    lengths: tuple[int, ...]
    prompt_lengths: tuple[int, ...] | None = None
    filling: int = 0
    _bounds: dict[torch.device, Tensor] = field(
        default_factory=dict, init=False, repr=False, compare=False
    )

    @property
    def num_tokens(self) -> int:
        """Of the row."""
        return sum(self.lengths) + self.filling

    def bounds(self, device: torch.device) -> Tensor:
        """Where each begins and the last one ends, int32 (S + 1,); copied to a device once."""
        if device not in self._bounds:
            ends = [0, *accumulate(self.lengths)]
            self._bounds[device] = torch.tensor(ends, dtype=torch.int32, device=device)
        return self._bounds[device]


class Run(NamedTuple):
    """Documents of one length and one prompt that stand side by side, attended to at once."""

    repeats: int
    length: int
    prompt_length: int


def runs(documents: Documents) -> Iterator[Run]:
    """The row cut where the length or the prompt changes.

    Example:
        >>> list(runs(Documents((3, 3, 2), (1, 1, 0))))
        [Run(repeats=2, length=3, prompt_length=1), Run(repeats=1, length=2, prompt_length=0)]
    """
    prompts = documents.prompt_lengths or (0,) * len(documents.lengths)
    for (length, prompt), group in groupby(zip(documents.lengths, prompts, strict=True)):
        yield Run(len(list(group)), length, prompt)


class Attention(NamedTuple):
    """How tokens of a document see each other.

    Args:
        is_causal: A token sees none behind it, but for those of its own prompt.
        scale: Of the scores; ``None`` is ``1 / sqrt(E)``.
        dropout: Share of the attention weights that is dropped.
        window: A token sees so many tokens at most, itself included (causal only).
    """

    is_causal: bool
    scale: float | None = None
    dropout: float = 0.0
    window: int | None = None


def attend_documents(
    query: Tensor, key: Tensor, value: Tensor, documents: Documents, kind: Attention
) -> Tensor:
    """Softmax attention within each document.

    On a CPU document by document, so that no score between two of them is ever computed. On
    CUDA in half precision through torch's kernel for sequences of unequal length, on Ampere
    and newer.

    Args:
        query: float (1, H, T, E).
        key: float (1, K, T, E); K divides H (grouped queries).
        value: float (1, K, T, E).
        documents: Their lengths; with their filling T.
        kind: What sees what within a document.

    Returns:
        float (1, T, H, E), as transformers' attention functions give it.

    Raises:
        ValueError: If the documents' lengths do not add up to T.

    Source:
        Vaswani et al. 2017, "Attention Is All You Need", eq. 1; Dong et al. 2019, "Unified
        Language Model Pre-training", fig. 1, for the prompt.
    """
    if documents.num_tokens != query.shape[2]:
        raise ValueError(f"documents of {documents.num_tokens} tokens in a row of {query.shape[2]}")
    dtype = computed_dtype(query)  # rotations in float32 leave queries in it
    query, key, value = (one.to(dtype) for one in (query, key, value))
    if _has_varlen(query, documents, kind):
        return _varlen(query, key, value, documents, kind)
    parts = list(runs(documents))
    sizes = [*(run.repeats * run.length for run in parts), documents.filling]
    # `split` gives its parts' gradients back in one piece; slices would each make a whole row.
    q, k, v = (torch.split(tensor[0], sizes, dim=1) for tensor in (query, key, value))
    pieces = zip(parts, q, k, v, strict=False)  # nothing attends to the filling
    outputs = [_attend_run(run, one_q, one_k, one_v, kind) for run, one_q, one_k, one_v in pieces]
    if documents.filling:
        outputs.append(outputs[0].new_zeros(documents.filling, *outputs[0].shape[1:]))
    return torch.cat(outputs, dim=0).unsqueeze(0)  # (1, T, H, E)


def attend_masked(
    query: Tensor, key: Tensor, value: Tensor, documents: Documents, kind: Attention
) -> Tensor:
    """The same over the whole row with a mask: the plain reference of :func:`attend_documents`.

    It computes T x T scores of which most count for nothing. Without dropout.
    """
    sees = visible(documents, query.device, is_causal=kind.is_causal, window=kind.window)
    output = functional.scaled_dot_product_attention(
        query, key, value, attn_mask=sees, scale=kind.scale,
        enable_gqa=query.shape[1] != key.shape[1],
    )  # fmt: skip
    return output.transpose(1, 2)


def visible(
    documents: Documents, device: torch.device, *, is_causal: bool, window: int | None = None
) -> Tensor:
    """Bool (T, T): whether a token (row) sees another (column).

    Example:
        >>> visible(Documents((2, 1)), torch.device("cpu"), is_causal=True).int().tolist()
        [[1, 0, 0], [1, 1, 0], [0, 0, 1]]
    """
    # The filling sees itself here: a softmax over nothing is no number.
    lengths = torch.tensor((*documents.lengths, documents.filling), device=device)
    numbers = torch.repeat_interleave(torch.arange(len(lengths), device=device), lengths)  # (T,)
    sees = numbers[:, None] == numbers[None, :]
    if not is_causal:
        return sees
    causal = sees.tril()
    if window is not None:
        causal &= ~sees.tril(-window)
    if documents.prompt_lengths is None:
        return causal
    starts = (lengths.cumsum(0) - lengths).repeat_interleave(lengths)
    prompts = torch.tensor((*documents.prompt_lengths, 0), device=device).repeat_interleave(lengths)
    asked = torch.arange(len(numbers), device=device) - starts < prompts  # (T,)
    return causal | (sees & asked[:, None] & asked[None, :])


def _attend_run(run: Run, query: Tensor, key: Tensor, value: Tensor, kind: Attention) -> Tensor:
    """(repeats * length, H, E) of (H, repeats * length, E) and (K, repeats * length, E)."""
    shape = (-1, run.repeats, run.length, query.shape[-1])
    q, k, v = (part.reshape(shape).transpose(0, 1) for part in (query, key, value))
    mask = None
    prompt = (run.prompt_length,) if run.prompt_length > 1 else None
    is_windowed = kind.window is not None and run.length > kind.window
    if kind.is_causal and (prompt or is_windowed):
        one = Documents((run.length,), prompt)
        mask = visible(one, query.device, is_causal=True, window=kind.window)
    if mask is None and slow_backward(q, k, v, kind.dropout):
        output = attend_with_float32_slopes(q, k, v, kind.is_causal, kind.scale)
    else:
        output = functional.scaled_dot_product_attention(
            q, k, v, attn_mask=mask, dropout_p=kind.dropout, scale=kind.scale,
            is_causal=kind.is_causal and mask is None, enable_gqa=q.shape[1] != k.shape[1],
        )  # fmt: skip  # (repeats, H, length, E)
    return output.transpose(1, 2).reshape(run.repeats * run.length, *output.shape[1::2])


def _has_varlen(query: Tensor, documents: Documents, kind: Attention) -> bool:
    return (
        query.is_cuda
        and kind.dropout == 0.0
        and documents.prompt_lengths is None
        and not documents.filling
        and flash_takes(
            query.dtype, query.shape[-1], torch.cuda.get_device_capability(query.device)
        )
    )


def flash_takes(dtype: torch.dtype, width: int, capability: tuple[int, int]) -> bool:
    """Whether torch's kernel for unequal lengths multiplies heads of a width on a GPU.

    Args:
        dtype: Of the queries.
        width: Of a head.
        capability: The GPU's; 8 is Ampere, a T4 has 7.5.

    Example:
        >>> flash_takes(torch.float16, 64, (8, 0)), flash_takes(torch.float16, 64, (7, 5))
        (True, False)
    """
    is_half = dtype in (torch.float16, torch.bfloat16)
    return is_half and width % 8 == 0 and width <= 256 and capability >= (8, 0)


def _varlen(
    query: Tensor, key: Tensor, value: Tensor, documents: Documents, kind: Attention
) -> Tensor:
    from torch.nn.attention.varlen import varlen_attn  # loads what only a GPU needs

    bounds = documents.bounds(query.device)
    groups = query.shape[1] // key.shape[1]
    q, k, v = (part[0].transpose(0, 1) for part in (query, key, value))  # (T, H, E)
    k, v = (part.repeat_interleave(groups, dim=1) if groups > 1 else part for part in (k, v))
    left = -1 if kind.window is None else kind.window - 1
    longest = max(documents.lengths)
    output: Any = varlen_attn(
        q, k, v, bounds, bounds, longest, longest, scale=kind.scale,
        window_size=(left, 0) if kind.is_causal else (-1, -1),
    )  # fmt: skip
    found: Tensor = output.unsqueeze(0)
    return found


def document_inputs(documents: Documents, device: torch.device) -> dict[str, Any]:
    """What a model's forward passes on to each of its attention functions.

    The mask is a stand-in: transformers takes one of four dimensions as it is, and makes none.
    """
    return {"attention_mask": torch.zeros(1, 1, 1, 1, device=device), "documents": documents}
