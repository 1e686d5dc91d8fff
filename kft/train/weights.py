"""Trained weights and the optimizer's state, whole also where each rank holds a part.

FSDP2 and ZeRO share them in their own ways: `kft.train.sharded` and `kft.train.zero` have the same
functions for it. Of a sharded module every rank has to call these functions: parts are gathered to
the main rank and sent from there. So what is kept depends on no number of ranks, and one may go on
with it alone. Rank 0 of ``torch.distributed`` is the main one.
"""

from __future__ import annotations

import sys
from collections.abc import Callable, Mapping
from typing import Any, TypeVar

import torch
from torch import Tensor

T = TypeVar("T")

_FSDP = "torch.distributed.fsdp"
_TENSOR = "torch.distributed.tensor"
"""Looked up and not imported: nothing is sharded where nobody has, and that takes a second."""


def zero_of(module: Any) -> Any:
    """What DeepSpeed does with a module, a :class:`kft.train.zero.Zero`; ``None`` without it."""
    return module.__dict__.get("kft_zero")


def is_sharded(module: Any) -> bool:
    """Whether ranks hold parts of the module's state, and need each other in every pass."""
    return _sharer(module) is not None


def _sharer(module: Any) -> Any:
    """The module of kft's that knows how a module's state is shared, or ``None``."""
    if zero_of(module) is not None:
        from kft.train import zero

        return zero
    found = sys.modules.get(_FSDP)
    if found is not None and isinstance(module, found.FSDPModule):
        from kft.train import sharded

        return sharded
    return None


def whole(value: Tensor) -> Tensor:
    """A number or tensor that ranks may hold parts of, whole on each of them."""
    found: Any = sys.modules.get(_TENSOR)
    if found is not None and isinstance(value, found.DTensor):
        full: Tensor = value.full_tensor()
        return full
    return value


def compute_with(module: torch.nn.Module, work: Callable[[], T]) -> T:
    """Do what computes with a module, or with parts of it, otherwise than by its forward.

    Of a sharded module every rank has to do the same, on rows of the same lengths.
    """
    sharer = _sharer(module)
    if sharer is None:
        return work()
    done: list[T] = []
    sharer.call(module, lambda: done.append(work()))
    return done[0]


def trained_weights(module: torch.nn.Module) -> dict[str, Tensor]:
    """The trained parameters by name, sharing memory with the module; a tied one stands once.

    Of a sharded module their shapes are those of the whole, and there may be no more to them.
    """
    return {
        name: _with_shape(parameter)
        for name, parameter in module.named_parameters()
        if parameter.requires_grad
    }


def _with_shape(parameter: Any) -> Tensor:
    """A parameter; where ZeRO leaves nothing of it here, something of its shape."""
    shape = getattr(parameter, "ds_shape", None)
    found: Tensor = parameter.detach()
    return found if shape is None else torch.empty(shape, dtype=found.dtype, device="meta")


def held_here(parameter: Any) -> Tensor:
    """What this rank has of a parameter."""
    part: Tensor | None = getattr(parameter, "ds_tensor", None)
    if part is None:
        found: Tensor = parameter.detach()
        return found
    begin = part.numel() * torch.distributed.get_rank()
    return part.detach().flatten()[: max(0, parameter.ds_numel - begin)]  # the rest is padding


def whole_weights(module: torch.nn.Module) -> dict[str, Tensor]:
    """The same whole: of a sharded module on the CPU of the main rank, and nothing on others."""
    sharer = _sharer(module)
    if sharer is None:
        return trained_weights(module)
    gathered = sharer.gathered_weights(module)
    return {name: gathered[name] for name in trained_weights(module) if name in gathered}


def set_whole_weights(module: torch.nn.Module, weights: Mapping[str, Tensor]) -> None:
    """Put whole trained weights back; of a sharded module, the main rank's."""
    sharer = _sharer(module)
    if sharer is not None:
        sharer.scatter_weights(module, weights)
        return
    with torch.no_grad():
        for name, weight in trained_weights(module).items():
            weight.copy_(weights[name])


def whole_optimizer_state(module: torch.nn.Module, optimizer: Any) -> dict[str, Any]:
    """The state of an optimizer as its own ``state_dict`` says it, whole as the weights are."""
    sharer = _sharer(module)
    if sharer is None:
        own: dict[str, Any] = optimizer.state_dict()
        return own
    gathered = sharer.gathered_optimizer_state(module, _bare(optimizer))
    names = sharer.weight_names(module, optimizer)
    numbers = {name: number for number, name in enumerate(names)}
    if not gathered.get("state"):
        return {}
    groups = [
        {**group, "params": [numbers[name] for name in group["params"]]}
        for group in gathered["param_groups"]
    ]
    state = {numbers[name]: held for name, held in gathered["state"].items()}
    return {"state": dict(sorted(state.items())), "param_groups": groups}


def set_whole_optimizer_state(
    module: torch.nn.Module, optimizer: Any, state: Mapping[str, Any]
) -> None:
    """Put a whole state back; of a sharded module, the main rank's."""
    sharer = _sharer(module)
    if sharer is None:
        optimizer.load_state_dict(state)
        return
    named: dict[str, Any] = {}
    if state:
        names = sharer.weight_names(module, optimizer)
        groups = [
            {**group, "params": [names[number] for number in group["params"]]}
            for group in state["param_groups"]
        ]
        held = {names[number]: values for number, values in state["state"].items()}
        named = {"state": held, "param_groups": groups}
    sharer.scatter_optimizer_state(module, _bare(optimizer), named)


def _bare(optimizer: Any) -> torch.optim.Optimizer:
    """What accelerate's wrapper holds."""
    inner: torch.optim.Optimizer = getattr(optimizer, "optimizer", optimizer)
    return inner
