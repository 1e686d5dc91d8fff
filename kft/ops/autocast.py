"""In which precision autocast has something computed."""

from __future__ import annotations

import torch
from torch import Tensor


def computed_dtype(tensor: Tensor) -> torch.dtype:
    """Autocast's precision where it is on for the tensor's device, else the tensor's own."""
    kind = tensor.device.type
    return torch.get_autocast_dtype(kind) if torch.is_autocast_enabled(kind) else tensor.dtype
