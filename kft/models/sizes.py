"""What a model holds and what its training keeps, in numbers, from its modules' shapes alone.

A number is one element of an array; how many bytes it takes is for whoever plans the memory.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any

from torch import nn

from kft.models.blocks import blocks
from kft.models.kept import BlockReader, Kept, Ways
from kft.models.target_modules import adapted_layers, ends_with, layer_features, linear_layers
from kft.recipe.schema import AdapterSection

SMALL = 4096
"""Numbers below which bitsandbytes keeps a tensor's optimizer state in 32 bits."""

_NOT_QUANTIZED = {"classifier", "score", "pooler", "cls", "lm_head", "generator_predictions"}


@dataclass(frozen=True)
class ModelSizes:
    """A model and its adapter in numbers.

    Args:
        frozen: Weights that are held as they are loaded.
        quantized: Frozen weights that are held in 4 or 8 bits.
        trained: Weights with a gradient: an adapter's, whole modules', or all.
        small_trained: Those of them that stand in tensors below :data:`SMALL`.
        adapted: Frozen weights of layers with an adapter.
        file: Weights in the checkpoint's file.
        largest_layer: Weights of the largest linear layer of the blocks.
        largest_block: Those of the largest block, without an adapter's.
        beside_blocks: Those of embeddings, heads and the like, which stand in none.
        blocks: What each block keeps, in order.
        outside: What is kept beside the blocks.
        width: D, of the hidden states.
        inner: Width of the widest array of a block.
        heads: H, of attention.
        vocabulary: V; 0 for a model without a language head.
        head_is_cut: The language head's logits are its layer's and nothing else, so that it
            can run in chunks.
        head_is_trained: The head's weight has a gradient.
    """

    frozen: int
    quantized: int
    trained: int
    small_trained: int
    adapted: int
    file: int
    largest_layer: int
    largest_block: int
    beside_blocks: int
    blocks: tuple[Kept, ...]
    outside: Kept
    width: int
    inner: int
    heads: int
    vocabulary: int
    head_is_cut: bool
    head_is_trained: bool


def model_sizes(
    model: Any, section: AdapterSection, ways: Ways, *, quantized: bool, head_is_cut: bool
) -> ModelSizes:
    """Count a model's weights and what it keeps.

    Args:
        model: On any device, ``meta`` too; its weights aren't looked at.
        section: The recipe's adapter.
        ways: How the run computes.
        quantized: Whether the linear layers of the blocks are held in 4 or 8 bits.
        head_is_cut: As :class:`ModelSizes` has it.

    Raises:
        ModelError: As :func:`kft.models.target_modules.adapted_layers`.
    """
    is_full = section.method == "full"
    config = model.config.get_text_config()
    layers = linear_layers(model)
    adapted = {} if is_full else adapted_layers(model, section)
    whole = [] if is_full else _whole_modules(model, section)
    trained = [parameter.numel() for parameter in model.parameters()] if is_full else []
    trained += [parameter.numel() for module in whole for parameter in module.parameters()]
    for rows, columns in adapted.values():
        trained += [section.r * rows, section.r * columns]
    everything = sum(parameter.numel() for parameter in model.parameters())
    output = model.get_output_embeddings()
    bits = sum(
        math.prod(layer_features(layer))
        for name, layer in layers.items()
        if quantized and layer is not output and not set(name.split(".")) & _NOT_QUANTIZED
    )
    reader = BlockReader(model, section, ways, adapted)
    kept = tuple(reader.block(prefix, block) for prefix, block in blocks(model))
    inside = [name for name in layers if any(name.startswith(f"{p}.") for p, _ in blocks(model))]
    sizes = {name: layer_features(layers[name]) for name in inside}
    width = int(config.hidden_size)
    own = [sum(weight.numel() for weight in block.parameters()) for _, block in blocks(model)]
    return ModelSizes(
        frozen=0 if is_full else everything - bits,
        quantized=bits,
        trained=sum(trained),
        small_trained=sum(number for number in trained if number < SMALL),
        adapted=sum(rows * columns for rows, columns in adapted.values()),
        file=everything,
        largest_layer=max((rows * columns for rows, columns in sizes.values()), default=0),
        largest_block=max(own, default=0),
        beside_blocks=everything - sum(own),
        blocks=kept,
        outside=Kept(stream=width, float32=2),  # the last norm
        width=width,
        inner=max((max(pair) for pair in sizes.values()), default=width),
        heads=int(config.num_attention_heads),
        vocabulary=0 if output is None else int(output.weight.shape[0]),
        head_is_cut=head_is_cut,
        head_is_trained=is_full,
    )


def _whole_modules(model: Any, section: AdapterSection) -> list[nn.Module]:
    """Modules that are trained whole beside an adapter: those named, and a task's own head."""
    named = dict(model.named_modules())
    wanted = [
        name for name in named if any(ends_with(name, end) for end in section.modules_to_save)
    ]
    if model.get_output_embeddings() is None:
        wanted += [
            name
            for name, module in model.named_children()
            if name != model.base_model_prefix and next(module.parameters(), None) is not None
        ]
    return [named[name] for name in dict.fromkeys(wanted)]
