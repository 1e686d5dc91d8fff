"""Trained weights and the optimizer's state, whole also where each rank holds a part (FSDP2).

Of a sharded module every rank has to call these functions: parts are gathered to the main rank
and sent from there. So what is kept depends on no number of ranks, and one may go on with it
alone. Rank 0 of ``torch.distributed`` is the main one.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor
from torch.distributed.checkpoint.state_dict import (
    StateDictOptions,
    get_model_state_dict,
    get_optimizer_state_dict,
    set_model_state_dict,
    set_optimizer_state_dict,
)
from torch.distributed.fsdp import FSDPModule
from torch.distributed.tensor import DTensor

_GATHER = StateDictOptions(full_state_dict=True, cpu_offload=True, ignore_frozen_params=True)
_SCATTER = StateDictOptions(
    full_state_dict=True, broadcast_from_rank0=True, ignore_frozen_params=True, strict=False
)


def is_sharded(module: Any) -> bool:
    """Whether ranks hold parts of the module's weights, and need each other in every pass."""
    return isinstance(module, FSDPModule)


def whole(value: Tensor) -> Tensor:
    """A number or tensor that ranks may hold parts of, whole on each of them."""
    if isinstance(value, DTensor):
        full: Tensor = value.full_tensor()
        return full
    return value


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
    gathered: Any = get_model_state_dict(module, options=_GATHER)
    return {name: gathered[name] for name in trained_weights(module) if name in gathered}


def set_whole_weights(module: torch.nn.Module, weights: Mapping[str, Tensor]) -> None:
    """Put whole trained weights back; of a sharded module, the main rank's."""
    if is_sharded(module):
        set_model_state_dict(module, dict(weights), options=_SCATTER)
        return
    with torch.no_grad():
        for name, weight in trained_weights(module).items():
            weight.copy_(weights[name])


def whole_optimizer_state(module: torch.nn.Module, optimizer: Any) -> dict[str, Any]:
    """The state of an optimizer as its own ``state_dict`` says it, whole as the weights are."""
    if not is_sharded(module):
        own: dict[str, Any] = optimizer.state_dict()
        return own
    gathered: Any = get_optimizer_state_dict(module, _bare(optimizer), options=_GATHER)
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
    set_optimizer_state_dict(module, _bare(optimizer), named, options=_SCATTER)


def _names(module: torch.nn.Module, optimizer: Any) -> list[str]:
    """The names of an optimizer's weights in the order of its groups."""
    names = {id(parameter): name for name, parameter in module.named_parameters()}
    return [names[id(one)] for group in optimizer.param_groups for one in group["params"]]


def _bare(optimizer: Any) -> torch.optim.Optimizer:
    """What accelerate's wrapper holds."""
    inner: torch.optim.Optimizer = getattr(optimizer, "optimizer", optimizer)
    return inner
