"""The gradients of a window: its micro-batches' sum on all ranks, or none where one had no room.

A rank that runs out of memory in the middle of a backward pass has begun sums that the others
wait in. So where a window may be too much, each rank first computes its own part, all ranks
agree that it fitted, and only then sum their gradients. A window that is no larger than one
that fitted is computed as DDP does it: the sum runs beside the last backward pass.
"""

from __future__ import annotations

import contextlib
from collections.abc import Iterator, Sequence
from typing import Any

import torch
from torch import Tensor

from kft.tasks.task import Window
from kft.train.weights import is_sharded, zero_of

_BUCKET = 2**25
"""Gradients that are summed at once: 128 MiB of float32."""


class WindowTooLargeError(Exception):
    """A rank's device has no memory for one of its micro-batches; raised on every rank.

    No gradient of the window is used, and no weight has changed.
    """


def largest_batch_size(window: Window) -> int:
    """Token places of the window's largest micro-batch, padding included."""
    return max(batch.input_ids.numel() for batch in window)


def add_up(
    module: Any, window: Window, num_targets: Tensor, accelerator: Any, *, in_sync: bool = True
) -> Tensor:
    """Compute the gradients of a window.

    Args:
        module: The prepared module whose forward is a :class:`LossSum`.
        window: This rank's micro-batches.
        num_targets: int64 scalar, targets of the window on all ranks.
        accelerator: The run's one Accelerator.
        in_sync: Ranks sum their gradients in the last backward pass.

    Returns:
        float32 scalar: this rank's share of the loss, in nats per target.
    """
    loss = torch.zeros((), device=accelerator.device)
    shared = is_sharded(module)  # unsummed, its gradients would be whole on every rank
    zero = zero_of(module)
    for position, batch in enumerate(window):
        is_last = position == len(window) - 1
        sums = shared or (in_sync and is_last)
        batch = batch.to(accelerator.device)
        with contextlib.nullcontext() if sums else accelerator.no_sync(module):
            with accelerator.autocast():  # what accelerate shards computes without it
                total = zero.total(batch) if zero else module(batch).total  # (), nats
            if batch.is_spare:
                total = total * 0  # takes part in the ranks' sum of gradients, adds nothing
            # Ranks' gradients are averaged, so the sum needs their number back.
            part = total / num_targets * accelerator.num_processes
            if zero:
                zero.backward(part, is_last=is_last)
            else:
                accelerator.backward(part)
        loss += total.detach() / num_targets
    return loss


def add_up_if_it_fits(module: Any, window: Window, num_targets: Tensor, accelerator: Any) -> Tensor:
    """The same, with room for it on every rank or an error on every rank.

    Raises:
        WindowTooLargeError: If one rank had no memory for one of its micro-batches.
    """
    loss, reason = torch.zeros((), device=accelerator.device), None
    try:
        loss = add_up(module, window, num_targets, accelerator, in_sync=False)
    except torch.OutOfMemoryError as cause:
        reason = str(cause)  # not the error itself: it holds the window's activations
    if not _all_fitted(accelerator, reason is None):
        raise WindowTooLargeError(reason or "another process ran out of memory")
    if accelerator.num_processes > 1:
        _average_gradients(module, accelerator)
    return loss


def _all_fitted(accelerator: Any, fitted: bool) -> bool:
    if accelerator.num_processes == 1:  # without a wait for the device
        return fitted
    lacking = torch.tensor(int(not fitted), device=accelerator.device)
    return int(accelerator.reduce(lacking, "sum")) == 0


def _average_gradients(module: Any, accelerator: Any) -> None:
    """Put the mean of all ranks' gradients in their place, some at a time."""
    trained = [parameter for parameter in module.parameters() if parameter.requires_grad]
    for some in _buckets(trained):
        gradients = [_gradient(parameter) for parameter in some]
        flat = torch.cat([gradient.reshape(-1) for gradient in gradients])
        parts = accelerator.reduce(flat, "mean").split([one.numel() for one in gradients])
        for gradient, part in zip(gradients, parts, strict=True):
            gradient.copy_(part.view_as(gradient))


def _gradient(parameter: Tensor) -> Tensor:
    """A parameter's gradient; zeros where none came by it on this rank."""
    if parameter.grad is None:
        parameter.grad = torch.zeros_like(parameter)
    return parameter.grad


def _buckets(parameters: Sequence[Tensor]) -> Iterator[list[Tensor]]:
    """The parameters in their order, in groups of one precision of about :data:`_BUCKET`."""
    some: list[Tensor] = []
    for parameter in parameters:
        size = sum(one.numel() for one in some)
        if some and (size + parameter.numel() > _BUCKET or some[0].dtype != parameter.dtype):
            yield some
            some = []
        some.append(parameter)
    if some:
        yield some
