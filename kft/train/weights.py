"""Trained weights and the optimizer's state, whole also where each rank holds a part (FSDP2).

Of a sharded module every rank has to call these functions: parts are gathered to the main rank
and sent from there. So what is kept depends on no number of ranks, and one may go on with it
alone. Rank 0 of ``torch.distributed`` is the main one.
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


def is_sharded(module: Any) -> bool:
    """Whether ranks hold parts of the module's weights, and need each other in every pass."""
    found = sys.modules.get(_FSDP)
    return found is not None and isinstance(module, found.FSDPModule)


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
    if not is_sharded(module):
        return work()
    from kft.train.sharded import call

    done: list[T] = []
    call(module, lambda: done.append(work()))
    return done[0]


def trained_weights(module: torch.nn.Module) -> dict[str, Tensor]:
    """The trained parameters by name, sharing memory with the module; a tied one stands once.

    Of a sharded module these are ``DTensor``: their shapes are those of the whole.
    """
    return {
        name: parameter.detach()
        for name, parameter in module.named_parameters()
        if parameter.requires_grad
    }


def whole_weights(module: torch.nn.Module) -> dict[str, Tensor]:
    """The same whole: of a sharded module on the CPU of the main rank, and nothing on others."""
    if not is_sharded(module):
        return trained_weights(module)
    from kft.train.sharded import gathered_weights

    gathered = gathered_weights(module)
    return {name: gathered[name] for name in trained_weights(module) if name in gathered}


def set_whole_weights(module: torch.nn.Module, weights: Mapping[str, Tensor]) -> None:
    """Put whole trained weights back; of a sharded module, the main rank's."""
    if is_sharded(module):
        from kft.train.sharded import scatter_weights

        scatter_weights(module, weights)
        return
    with torch.no_grad():
        for name, weight in trained_weights(module).items():
            weight.copy_(weights[name])


def whole_optimizer_state(module: torch.nn.Module, optimizer: Any) -> dict[str, Any]:
    """The state of an optimizer as its own ``state_dict`` says it, whole as the weights are."""
    if not is_sharded(module):
        own: dict[str, Any] = optimizer.state_dict()
        return own
    from kft.train.sharded import gathered_optimizer_state

    gathered = gathered_optimizer_state(module, _bare(optimizer))
    numbers = {name: number for number, name in enumerate(_names(module, optimizer))}
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
    if not is_sharded(module):
        optimizer.load_state_dict(state)
        return
    named: dict[str, Any] = {}
    if state:
        names = _names(module, optimizer)
        groups = [
            {**group, "params": [names[number] for number in group["params"]]}
            for group in state["param_groups"]
        ]
        held = {names[number]: values for number, values in state["state"].items()}
        named = {"state": held, "param_groups": groups}
    from kft.train.sharded import scatter_optimizer_state

    scatter_optimizer_state(module, _bare(optimizer), named)


def _names(module: torch.nn.Module, optimizer: Any) -> list[str]:
    """The names of an optimizer's weights in the order of its groups."""
    names = {id(parameter): name for name, parameter in module.named_parameters()}
    return [names[id(one)] for group in optimizer.param_groups for one in group["params"]]


def _bare(optimizer: Any) -> torch.optim.Optimizer:
    """What accelerate's wrapper holds."""
    inner: torch.optim.Optimizer = getattr(optimizer, "optimizer", optimizer)
    return inner
