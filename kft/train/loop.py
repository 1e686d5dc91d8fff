"""The training step and the evaluation loss; arithmetic only, and line order is time order."""

from __future__ import annotations

import time
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from kft.ops.losses import LossSum
from kft.tasks.task import Batch, LossModule, Window
from kft.train.gradients import add_up, add_up_if_it_fits, largest_batch_size
from kft.train.optimizer import Schedule, set_learning_rate
from kft.train.update import update
from kft.train.weights import is_sharded


@dataclass(frozen=True)
class StepStats:
    """What one optimizer step showed; tensors, so that the loop never waits for the device.

    Args:
        step: Counted from 1.
        loss: float32 scalar, nats per target, averaged over the window's targets.
        learning_rate: That the step was taken with.
        grad_norm: float32 scalar, before clipping.
        num_targets: int64 scalar, over all ranks.
        num_tokens: int64 scalar, tokens without padding, over all ranks.
        seconds: From asking for the window to the end of the step.

    Example:
        >>> one, many = torch.tensor(2.0), torch.tensor(300)
        >>> stats = StepStats(1, one, 1e-3, one, torch.tensor(100), many, seconds=0.5)
        >>> f"{float(stats.loss):.1f} nats, {int(stats.num_tokens) / stats.seconds:.0f} tokens/s"
        '2.0 nats, 600 tokens/s'
    """

    step: int
    loss: Tensor
    learning_rate: float
    grad_norm: Tensor
    num_targets: Tensor
    num_tokens: Tensor
    seconds: float


class NotFiniteError(Exception):
    """A window's loss or gradient is no finite number; raised before the step is taken.

    Args:
        step: Counted from 1.
        loss: Nats per target.
        grad_norm: Before clipping.
        learning_rate: Of the step that wasn't taken.
        window: Its micro-batches.
    """

    def __init__(
        self, step: int, loss: float, grad_norm: float, learning_rate: float, window: Window
    ) -> None:
        super().__init__(f"loss {loss:g}, gradient norm {grad_norm:g} at step {step}")
        self.step, self.loss, self.grad_norm = step, loss, grad_norm
        self.learning_rate, self.window = learning_rate, window


def train(
    module: Any,
    optimizer: Any,
    schedule: Schedule,
    windows: Iterable[Window],
    accelerator: Any,
    *,
    max_grad_norm: float,
    first_step: int = 1,
) -> Iterator[StepStats]:
    """Take one optimizer step per window, and yield after each.

    The step's loss is the sum over the window's targets on all ranks divided by their number,
    however they are cut into micro-batches.

    Args:
        module: The prepared module whose forward is a :class:`LossSum`.
        optimizer: The prepared optimizer.
        schedule: Learning rate of each step.
        windows: The micro-batches of each step.
        accelerator: The run's one Accelerator.
        max_grad_norm: Gradients are scaled down to this norm; 0 is off.
        first_step: Number of the first window.

    Raises:
        WindowTooLargeError: On every rank, if a window larger than those before it doesn't fit
            on one of them.
        NotFiniteError: Before the step is taken, if the loss isn't finite, or the gradient isn't
            although no float16 scaler is there to skip the step and lower its scale.
    """
    iterator = iter(windows)
    step, largest = first_step - 1, 0
    while True:
        started = time.perf_counter()
        window = next(iterator, None)
        if window is None:
            return
        step += 1
        module.train()
        size = largest_batch_size(window)
        counts = count_window(window, accelerator.device, is_larger=size > largest)  # (3,)
        num_targets, num_tokens, num_larger = accelerator.reduce(counts, "sum").unbind()
        may_not_fit = accelerator.num_processes == 1 or bool(num_larger)
        compute = add_up_if_it_fits if may_not_fit and not is_sharded(module) else add_up
        loss = compute(module, window, num_targets, accelerator)
        largest = max(largest, size)
        loss = accelerator.reduce(loss, "sum")
        learning_rate = schedule(step)
        set_learning_rate(optimizer, learning_rate)
        grad_norm, taken = update(module, optimizer, accelerator, loss, max_grad_norm)
        if not taken:
            raise NotFiniteError(step, float(loss), float(grad_norm), learning_rate, window)
        yield StepStats(
            step=step,
            loss=loss,
            learning_rate=learning_rate,
            grad_norm=grad_norm.detach(),
            num_targets=num_targets,
            num_tokens=num_tokens,
            seconds=time.perf_counter() - started,
        )


def count_window(window: Window, device: torch.device, *, is_larger: bool) -> Tensor:
    """What a window's losses on this rank are divided by, its tokens, ``is_larger``; int64 (3,)."""
    counted = [batch for batch in window if not batch.is_spare]
    targets = sum(batch.num_counted for batch in counted)
    tokens = sum(batch.num_tokens for batch in counted)
    return torch.tensor([targets, tokens, int(is_larger)], device=device)


def row_losses(
    module: LossModule, batches: Iterable[Batch], device: torch.device
) -> tuple[list[float], list[int]]:
    """Each row's summed loss in nats and its number of targets, in the batches' order.

    Args:
        module: A model with its loss inside; put into eval mode for the while.
        batches: Any micro-batches.
        device: Where the module is.
    """
    totals: list[float] = []
    counts: list[int] = []
    network: Any = module
    was_training = network.training
    network.eval()
    with torch.no_grad():
        for batch in batches:
            part: LossSum = module.row_losses(batch.to(device))
            totals += part.total.tolist()
            counts += part.count.tolist()
    network.train(was_training)
    return totals, counts
