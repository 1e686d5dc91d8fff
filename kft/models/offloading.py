"""What the backward pass needs of the body waits in the CPU's memory."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn
from torch.autograd.graph import saved_tensors_hooks

from kft.tasks.inputs import plain_model

_SMALL = 1024
"""Bytes below which a tensor stays where it is."""


def offload_activations(model: Any) -> None:
    """Keep the body's activations in the CPU's memory between forward and backward; in place.

    Each goes there when it was computed and comes back when its gradient is; weights stay. With
    gradient checkpointing what waits are the blocks' inputs alone.

    Args:
        model: A transformers model, or a PEFT model around one.
    """
    plain = plain_model(model)
    body: nn.Module = plain.base_model
    waiting = _Waiting(body)
    body.register_forward_pre_hook(waiting.begin)
    body.register_forward_hook(waiting.end, always_call=True)


class _Waiting:
    """Opens and closes torch's hooks on saved tensors around a forward pass."""

    def __init__(self, body: nn.Module) -> None:
        self._weights = {one.data_ptr() for one in (*body.parameters(), *body.buffers())}
        self._open: list[saved_tensors_hooks] = []

    def begin(self, *_: Any) -> None:
        hooks = saved_tensors_hooks(self._away, self._back)
        hooks.__enter__()
        self._open.append(hooks)

    def end(self, *_: Any) -> None:
        if self._open:
            self._open.pop().__exit__(None, None, None)

    def _away(self, tensor: Tensor) -> tuple[torch.device, Tensor] | Tensor:
        is_small = tensor.numel() * tensor.element_size() < _SMALL
        if is_small or tensor.data_ptr() in self._weights or isinstance(tensor, nn.Parameter):
            return tensor
        # Pinned memory is copied without waiting; both copies are in the device's own order.
        pinned = tensor.device.type == "cuda"
        there = torch.empty(tensor.shape, dtype=tensor.dtype, device="cpu", pin_memory=pinned)
        there.copy_(tensor, non_blocking=pinned)
        return tensor.device, there

    def _back(self, kept: tuple[torch.device, Tensor] | Tensor) -> Tensor:
        if isinstance(kept, Tensor):
            return kept
        device, there = kept
        return there.to(device, non_blocking=True)
