"""``torch.compile``, block by block."""

from __future__ import annotations

import warnings
from typing import Any

import torch
from transformers import AttentionInterface

from kft.models.attention import document_attention
from kft.models.blocks import blocks
from kft.ops.attention import NAME


def compile_blocks(model: Any, backend: str = "inductor") -> int:
    """Compile each block of a model for rows of any length; in place, names stay what they are.

    Equal blocks share what was compiled, so a model of many costs little more than one of few.
    Attention over documents stays outside: it branches on their lengths, which differ in every
    batch, and would be compiled anew for each.

    Args:
        model: A transformers model, or a PEFT model around one.
        backend: As ``torch.compile`` has it.

    Returns:
        How many blocks there are.
    """
    # torch asks every input for its gradient while it traces, and warns of what it does itself.
    warnings.filterwarnings("ignore", message="The .grad attribute of a Tensor that is not a leaf")
    outside: Any = torch.compiler.disable
    AttentionInterface.register(NAME, outside(document_attention))
    found = [block for _, block in blocks(model)]
    for block in found:
        block.compile(dynamic=True, backend=backend)
    return len(found)
