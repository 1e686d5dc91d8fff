"""The values that a layer quantized by bitsandbytes computes with."""

from __future__ import annotations

import copy
from typing import Any

import bitsandbytes
import torch
from torch import Tensor, nn

from kft.errors import ExportError


def is_quantized(layer: nn.Module) -> bool:
    """Whether bitsandbytes holds the layer's weight in 4 or 8 bits."""
    return isinstance(layer, bitsandbytes.nn.Linear4bit | bitsandbytes.nn.Linear8bitLt)


def dequantized_weight(layer: Any) -> Tensor:
    """The weight of a quantized layer as its kernels read it, float32 (outputs, inputs)."""
    values: Tensor
    weight = layer.weight
    if isinstance(layer, bitsandbytes.nn.Linear4bit):
        if getattr(weight.quant_state, "packing_format_for_cpu", False):
            raise ExportError(
                "The base's 4-bit weights were repacked by an evaluation",
                expected="a base loaded by kft, which keeps bitsandbytes from doing so",
            )
        state = copy.copy(weight.quant_state)
        state.dtype = torch.float32
        values = bitsandbytes.functional.dequantize_4bit(weight.data, state)
    else:
        scales = weight.SCB if layer.state.SCB is None else layer.state.SCB
        values = bitsandbytes.functional.int8_vectorwise_dequant(weight.data, scales)
    return values
