"""What torch itself does with sharded modules: whole states of them, and calls beside forward.

Apart from the others because importing them takes a second, which one process needn't wait.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from types import MethodType
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
from torch.distributed.fsdp import register_fsdp_forward_method

_GATHER = StateDictOptions(full_state_dict=True, cpu_offload=True, ignore_frozen_params=True)
_SCATTER = StateDictOptions(
    full_state_dict=True, broadcast_from_rank0=True, ignore_frozen_params=True, strict=False
)


def gathered_weights(module: torch.nn.Module) -> dict[str, Any]:
    """Whole trained weights on the CPU of the main rank; nothing on the others."""
    found: dict[str, Any] = get_model_state_dict(module, options=_GATHER)
    return found


def scatter_weights(module: torch.nn.Module, weights: Mapping[str, Tensor]) -> None:
    """Give each rank its part of the main rank's weights."""
    set_model_state_dict(module, dict(weights), options=_SCATTER)


def gathered_optimizer_state(module: torch.nn.Module, optimizer: Any) -> dict[str, Any]:
    """The whole state, by the weights' names, on the main rank; nothing on the others."""
    found: dict[str, Any] = get_optimizer_state_dict(module, optimizer, options=_GATHER)
    return found


def scatter_optimizer_state(module: torch.nn.Module, optimizer: Any, state: dict[str, Any]) -> None:
    """Give each rank its part of the main rank's state."""
    set_optimizer_state_dict(module, optimizer, state, options=_SCATTER)


def weight_names(module: torch.nn.Module, optimizer: Any) -> list[str]:
    """The names of an optimizer's weights in the order of its groups."""
    names = {id(parameter): name for name, parameter in module.named_parameters()}
    return [names[id(one)] for group in optimizer.param_groups for one in group["params"]]


def allow_calls(module: Any) -> None:
    """Let :func:`call` be used with a module that was just sharded."""
    module.kft_call = MethodType(lambda self, work: work(), module)  # noqa: ARG005 -- a method
    register_fsdp_forward_method(module, "kft_call")


def call(module: Any, work: Callable[[], None]) -> None:
    """Do what computes with parts of a sharded module, as if in its forward.

    Its own weights, those outside all blocks, are gathered for the while; each block's are as it
    runs.
    """
    try:
        module.kft_call(work)
    finally:
        module.reshard()  # else these stayed as they are now, whatever is loaded next
