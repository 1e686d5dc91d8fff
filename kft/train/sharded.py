"""Weights of which each rank holds a part (FSDP2)."""

from __future__ import annotations

from typing import Any

from torch.distributed.fsdp import FSDPModule


def is_sharded(module: Any) -> bool:
    """Whether ranks hold parts of the module's weights, and need each other in every pass."""
    return isinstance(module, FSDPModule)
