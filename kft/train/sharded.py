"""What torch's own state dictionaries do with sharded modules.

Apart from the others because importing them takes a second, which one process needn't wait.
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
