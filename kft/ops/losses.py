"""Losses as sums with their counts, so that they can be added over micro-batches and ranks."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor
from torch.nn import functional

IGNORE_INDEX = -100
"""The label of a position that is not a target, as in torch and transformers."""


@dataclass(frozen=True)
class LossSum:
    """A loss summed over what is counted; divide ``total`` by ``count`` for the mean.

    Args:
        total: float32 scalar, nats.
        count: int64 scalar, number of targets.
    """

    total: Tensor
    count: Tensor


def next_token_targets(labels: Tensor) -> tuple[Tensor, Tensor]:
    """Which positions predict a target, and which target: the only place where labels shift.

    Position ``t`` predicts the label at ``t + 1``.

    Args:
        labels: int64 (B, T), aligned with ``input_ids``; -100 where not a target.

    Returns:
        ``positions``, int64 (N,), indices into the flattened (B * T) positions, and
        ``targets``, int64 (N,), the label each of them predicts.

    Example:
        >>> positions, targets = next_token_targets(torch.tensor([[-100, 7, 8], [5, -100, 9]]))
        >>> positions.tolist(), targets.tolist()
        ([0, 1, 4], [7, 8, 9])
    """
    shifted = torch.full_like(labels, IGNORE_INDEX)  # (B, T)
    shifted[:, :-1] = labels[:, 1:]
    positions = torch.nonzero(shifted.reshape(-1) != IGNORE_INDEX).squeeze(1)  # (N,)
    return positions, shifted.reshape(-1)[positions]


def cross_entropy_sum(logits: Tensor, targets: Tensor) -> Tensor:
    """Sum over rows of ``-log softmax(logits)[target]``, in float32.

    Args:
        logits: float (N, V), any precision.
        targets: int64 (N,), each below V.

    Returns:
        float32 scalar, nats; 0 with gradient 0 when N is 0.
    """
    return functional.cross_entropy(logits.float(), targets, reduction="sum")


def next_token_loss(logits: Tensor, labels: Tensor) -> LossSum:
    """Negative log-likelihood of each next token, summed over the targets.

    The plain reference: it needs the logits of every position. Training computes the same
    number from the positions that :func:`next_token_targets` names.

    Args:
        logits: float (B, T, V), any precision; computed in float32.
        labels: int64 (B, T), aligned with ``input_ids``; -100 where not a target.
            ``labels[:, 0]`` is never used.

    Returns:
        ``total`` in nats, and ``count``, the number of targets.

    Raises:
        ValueError: If ``logits`` and ``labels`` differ in B or T.

    Source:
        Radford et al. 2018, "Improving Language Understanding by Generative Pre-Training", eq. 1.

    Example:
        >>> logits = torch.tensor([[[2.0, 0.0], [0.0, 2.0]]])
        >>> loss = next_token_loss(logits, torch.tensor([[1, 0]]))
        >>> f"{loss.total:.4f}", int(loss.count)        # log(e^2 + 1) - 2, one target
        ('0.1269', 1)
    """
    if logits.shape[:2] != labels.shape:
        raise ValueError(f"logits {tuple(logits.shape)} and labels {tuple(labels.shape)} differ")
    positions, targets = next_token_targets(labels)
    rows = logits.reshape(-1, logits.shape[-1])[positions]  # (N, V)
    count = torch.tensor(targets.numel(), device=labels.device)
    return LossSum(cross_entropy_sum(rows, targets), count)


def token_log_probs(logits: Tensor, targets: Tensor) -> Tensor:
    """``log softmax(logits)[target]`` of each row, in float32.

    Args:
        logits: float (N, V), any precision.
        targets: int64 (N,), each below V.

    Returns:
        float32 (N,), nats, each at most 0.
    """
    return -functional.cross_entropy(logits.float(), targets, reduction="none")
