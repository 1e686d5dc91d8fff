"""Why a window's loss or gradient isn't finite: which rows, and which module was the first."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn

from kft.tasks.task import Window
from kft.train.weights import held_here


@dataclass(frozen=True)
class Origin:
    """Where a number that isn't finite comes from.

    Args:
        rows: The rows whose own loss isn't finite, as (micro-batch, row in it); empty where
            only the gradient is at fault.
        module: The first module whose output wasn't finite; ``None``: every output was.
        weight: The first weight that isn't finite; ``None``: all are.
    """

    rows: tuple[tuple[int, int], ...]
    module: str | None
    weight: str | None


def find_origin(module: Any, window: Window, device: torch.device) -> Origin:
    """Compute a window's losses once more and look at every output on the way.

    Args:
        module: A model with its loss inside, without what accelerate wraps around it.
        window: The micro-batches.
        device: Where the module is.
    """
    first: list[str] = []
    hooks = [
        below.register_forward_hook(_notes(first, name))
        for name, below in module.named_modules()
        if name
    ]
    rows = []
    try:
        with torch.no_grad():
            for number, batch in enumerate(window):
                totals: Tensor = module.row_losses(batch.to(device)).total  # (R,)
                bad = torch.nonzero(~torch.isfinite(totals)).reshape(-1).tolist()
                rows += [(number, row) for row in bad]
    finally:
        for hook in hooks:
            hook.remove()
    weights = ((name, weight) for name, weight in module.named_parameters())
    broken = (name for name, weight in weights if not _is_finite([held_here(weight)]))
    weight = next(broken, None)
    return Origin(
        tuple(rows),
        first[0].removeprefix("model.") if first else None,
        None if weight is None else weight.removeprefix("model."),
    )


def _notes(first: list[str], name: str) -> Any:
    """A hook that keeps the name of the first module with an output that isn't finite."""

    def hook(module: nn.Module, inputs: Any, output: Any) -> None:  # noqa: ARG001 -- torch's form
        if not first and not _is_finite(_tensors(output)):
            first.append(name)

    return hook


def _tensors(output: Any) -> Iterator[Tensor]:
    if isinstance(output, Tensor):
        yield output
    elif isinstance(output, Mapping):
        for value in output.values():
            yield from _tensors(value)
    elif isinstance(output, list | tuple):
        for value in output:
            yield from _tensors(value)


def _is_finite(tensors: Iterable[Tensor]) -> bool:
    return all(bool(torch.isfinite(one).all()) for one in tensors if torch.is_floating_point(one))
