"""Weights in 4 or 8 bits through bitsandbytes."""

from __future__ import annotations

from typing import Any

import torch
from transformers import BitsAndBytesConfig

from kft.models.decoders import CAUSAL_LM, is_encoder
from kft.recipe.schema import ModelSection

_HEADS = ("classifier", "score", r".*\.pooler", "cls", "lm_head", "generator_predictions")


def quantization_config(
    section: ModelSection,
    dtype: torch.dtype,
    auto_class: str,
    config: Any,
    *,
    shared: bool = False,
) -> Any:
    """The bitsandbytes configuration that ``model.quantization`` stands for, or ``None``.

    Heads stay unquantized: a new one is trained, and the checkpoint's own is small.

    Args:
        section: What says it.
        dtype: Of computation.
        auto_class: Of the task.
        config: The checkpoint's.
        shared: Ranks will share the weights. Their bits are then held as numbers of ``dtype``:
            FSDP leaves bytes whole on every rank.
    """
    if section.quantization == "none":
        return None
    skipped: list[str] | None = None  # transformers' own choice: the language head
    if auto_class != CAUSAL_LM or is_encoder(config):
        skipped = [*_HEADS, "generator_lm_head"]
    if section.quantization == "int8":
        return BitsAndBytesConfig(load_in_8bit=True, llm_int8_skip_modules=skipped)
    return BitsAndBytesConfig(
        load_in_4bit=True,
        bnb_4bit_quant_type=section.quantization,
        bnb_4bit_use_double_quant=section.double_quant,
        bnb_4bit_compute_dtype=dtype,
        bnb_4bit_quant_storage=dtype if shared else None,
        llm_int8_skip_modules=skipped,
    )


def keep_4bit_layers_intact(model: torch.nn.Module) -> None:
    """Stop bitsandbytes from repacking 4-bit weights in place at the first evaluation.

    On CPUs with avx512_bf16 it does so in an eval forward without gradients, after which
    training gets no gradient and merging gives garbage.
    """
    module: Any
    for module in model.modules():
        if hasattr(module, "support_avx512bf16_for_cpu"):
            module.support_avx512bf16_for_cpu = False


def move_constants(model: torch.nn.Module, device: torch.device) -> None:
    """Put the constants of 4-bit weights where these will be: FSDP moves parameters alone."""
    for module in model.modules():
        state = getattr(module, "quant_state", None)
        if state is not None:
            state.to(device)
