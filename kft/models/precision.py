"""Which precision to compute in, from the hardware."""

from __future__ import annotations

from typing import Final

import torch

from kft.errors import ModelError

DTYPES: Final = {
    "float32": torch.float32,
    "bfloat16": torch.bfloat16,
    "float16": torch.float16,
}


def has_fast_bfloat16(device: torch.device) -> bool:
    """Whether ``device`` multiplies bfloat16 in hardware: avx512_bf16 or AMX; Ampere and newer."""
    if device.type == "cpu":
        return bool(torch.cpu._is_avx512_bf16_supported() or torch.cpu._is_amx_tile_supported())
    return bool(torch.cuda.is_bf16_supported(including_emulation=False))


def compute_dtype(
    precision: str, device: torch.device, key: str = "train.precision"
) -> torch.dtype:
    """The precision of computation that ``train.precision`` stands for on this device.

    Args:
        precision: ``auto``, ``float32``, ``bfloat16`` or ``float16``.
        device: Where the run computes.
        key: The recipe's key, for the message.

    Raises:
        ModelError: If float16 is asked for on a CPU, where it is 40 to 80 times slower and
            has no gradient scaler.
    """
    if precision == "auto":
        if has_fast_bfloat16(device):
            return torch.bfloat16
        return torch.float32 if device.type == "cpu" else torch.float16
    if precision == "float16" and device.type == "cpu":
        raise ModelError(
            "float16 can't be trained on a CPU",
            where=f"`{key}`",
            expected="`auto`, `float32` or `bfloat16`",
            hint=f"Leave `{key}` at `auto`.",
        )
    return DTYPES[precision]


def inference_dtype(precision: str, device: torch.device) -> torch.dtype:
    """As :func:`compute_dtype`, but what was trained in float16 is used in float32 on a CPU."""
    if precision == "float16" and device.type == "cpu":
        return torch.float32
    return compute_dtype(precision, device)


def weights_dtype(asked: str, computed: torch.dtype, device: torch.device) -> torch.dtype:
    """The precision of frozen weights that ``model.dtype`` stands for on this device.

    Args:
        asked: As the recipe has it; ``auto`` is the precision of computation.
        computed: The precision of computation.
        device: Where the run computes.

    Raises:
        ModelError: As :func:`compute_dtype`.
    """
    return computed if asked == "auto" else compute_dtype(asked, device, "model.dtype")


def dtype_name(dtype: torch.dtype) -> str:
    """The recipe's word for a dtype.

    Example:
        >>> dtype_name(torch.bfloat16)
        'bfloat16'
    """
    return str(dtype).removeprefix("torch.")
